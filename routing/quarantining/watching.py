"""Sentinels at work: read what happened, judge each profile, open quarantines, and judge probes of half-open ones."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from typing import NamedTuple

from django.conf import settings
from django.db.models import Max

from catalog.prices import PriceBook, load_price_book
from routing.alerting import clear_alert, hold_alert
from routing.models import Alert
from routing.quarantining import services
from routing.quarantining.models import ProfileQuarantine
from routing.sentinels.evidence import Baseline, CellKey, Recent, Seen, Usual
from routing.sentinels.findings import Health, Sentinel, Thresholds, Verdict
from routing.sentinels.judging import WATCHING, health_of, judge
from telemetry.clickhouse import ClickHouse
from telemetry.recent import RecentCalls, Used, UsualCalls, read_recent, read_usual
from telemetry.rollups import floor

log = logging.getLogger(__name__)

#: Recent calls are judged by each of these: what is sudden shows in the short one, what is rare in the long one.
WINDOWS = (timedelta(minutes=1), timedelta(minutes=5))
_BUCKET = timedelta(minutes=5)
_DAY = timedelta(hours=24)
_SECOND = timedelta(seconds=1)
#: What a sender's clock may be ahead.
_AHEAD = timedelta(minutes=5)
_KEPT = 16
_ALERT = "profile_quarantined"

Usuals = Mapping[str, Baseline]


def thresholds() -> Thresholds:
    return Thresholds(
        min_samples=settings.SENTINEL_MIN_SAMPLES,
        excess=settings.SENTINEL_EXCESS,
        token_ratio=settings.SENTINEL_TOKEN_RATIO,
        price_rise=settings.SENTINEL_PRICE_RISE,
    )


def watch(clickhouse: ClickHouse, now: datetime) -> list[ProfileQuarantine]:
    """Judge every profile that was called lately; returns the quarantines that were opened. Raises ClickHouseError."""
    prices, rules = load_price_book(), thresholds()
    _judge_probes(clickhouse, prices, rules, now)
    starts = [floor(now - window, _SECOND) for window in WINDOWS]
    held, closed = _held(now), _closed_since(min(starts))
    calls = read_recent(
        clickhouse, min(starts), _until(now), [*starts, *closed.values(), *_revised(prices, min(starts), now)]
    )
    if not calls:
        return []
    usual = usuals.of(clickhouse, floor(now, _BUCKET) - _BUCKET, prices)
    opened = []
    for slug, mine in sorted(_parts(calls, prices).items()):
        windows = cache(partial(_windows, mine, starts))
        for sentinel in WATCHING:
            if (slug, sentinel.value) in held:
                continue
            found = windows(closed.get((slug, sentinel.value)))
            finding = judge(sentinel, found, usual.get(slug, Baseline({})), rules)
            if finding.verdict is not Verdict.FIRED:
                continue
            row = services.open_by_sentinel(slug, finding, now)
            if row is not None:
                log.error("%s is in quarantine: %s: %s", slug, sentinel.value, finding.sentence)
                opened.append(row)
    return opened


def _held(now: datetime) -> set[tuple[str, str]]:
    return set(services.standing(now).values_list("profile__slug", "sentinel"))


def _closed_since(since: datetime) -> dict[tuple[str, str], datetime]:
    rows = ProfileQuarantine.objects.filter(closed_at__gt=since).order_by()
    last = rows.values_list("profile__slug", "sentinel").annotate(last=Max("closed_at"))
    return {(slug, sentinel): _ceil(at) for slug, sentinel, at in last}


def _revised(prices: PriceBook, since: datetime, now: datetime) -> list[datetime]:
    """When prices took force meanwhile: calls before and after are priced apart."""
    return [_ceil(at) for starts, _ in prices.revisions.values() for at in starts if since < at <= now]


def _judge_probes(clickhouse: ClickHouse, prices: PriceBook, rules: Thresholds, now: datetime) -> None:
    half_open = [
        row
        for row in services.standing(now).exclude(sentinel=Sentinel.BY_HAND.value)
        if row.probe_at is not None and row.probe_at <= now
    ]
    if not half_open:
        return
    begins = [_ceil(row.probe_at) for row in half_open if row.probe_at]
    edges = [*begins, *_revised(prices, min(begins), now)]
    calls = read_recent(clickhouse, min(begins), _until(now), edges, {row.profile.slug for row in half_open})
    parts = _parts(calls, prices)
    for row in half_open:
        assert row.probe_at is not None  # noqa: S101  # chosen by it
        slug, sentinel = row.profile.slug, Sentinel(row.sentinel)
        probes = _since(parts.get(slug, ()), _ceil(row.probe_at))
        usual = usuals.of(clickhouse, floor(row.opened_at, _BUCKET) - _BUCKET, prices)
        health = health_of(sentinel, probes, usual.get(slug, Baseline({})), rules)
        n = sum(cell.requests for cell in probes.values())
        if health is Health.HEALED:
            services.heal(row.pk, f"{n} calls since it was half-open are well: closed.", now)
        elif health is Health.SICK:
            services.reopen(row.pk, f"{n} calls since it was half-open are as bad: open again.", now)


class _Part(NamedTuple):
    at: datetime
    key: CellKey
    seen: Seen


def _parts(calls: Iterable[RecentCalls], prices: PriceBook) -> dict[str, list[_Part]]:
    """By profile."""
    found: dict[str, list[_Part]] = {}
    for one in calls:
        key = CellKey(one.tenant, one.persona, one.task)
        found.setdefault(one.profile, []).append(_Part(one.at, key, _seen(one, prices)))
    return found


def _seen(one: RecentCalls, prices: PriceBook) -> Seen:
    priced, billed = (_listed(prices, one.profile, used, one.at) for used in (one.priced, one.billed))
    return Seen(
        requests=one.requests,
        conversations=one.conversations,
        failures=one.failures,
        failed=one.failed,
        other=one.other,
        othered=one.othered,
        tokens=one.completion_tokens,
        squares=one.squares,
        cost=one.priced.cost if priced is not None else Decimal(0),
        listed=priced or Decimal(0),
        billed=one.billed.calls if billed is not None else 0,
        billed_cost=one.billed.cost if billed is not None else Decimal(0),
        billed_listed=billed or Decimal(0),
    )


def _windows(parts: Sequence[_Part], starts: Iterable[datetime], closed_at: datetime | None) -> list[Recent]:
    # What happened before a quarantine was closed has been judged.
    return [_since(parts, max(start, closed_at or start)) for start in starts]


def _since(parts: Iterable[_Part], since: datetime) -> Recent:
    """Cells of the parts that begin at this time, which is an edge, or later."""
    found: dict[CellKey, Seen] = {}
    for at, key, seen in parts:
        if at >= since:
            found[key] = found[key] + seen if key in found else seen
    return found


def _ceil(at: datetime) -> datetime:
    """Events have whole seconds."""
    whole = floor(at, _SECOND)
    return whole if whole == at else whole + _SECOND


def _until(now: datetime) -> datetime:
    return _ceil(now + _AHEAD)


def _listed(prices: PriceBook, slug: str, used: Used, at: datetime) -> Decimal | None:
    """What the price list asks for these tokens; None: there is no price."""
    price = prices.in_force(slug, at)
    return None if price is None else price.cost(used.prompt, used.completion, used.cached)


@dataclass(frozen=True, slots=True)
class _Key:
    database: str
    end: datetime


class UsualKeeper:
    """Baselines of the last few ends, kept: they change every five minutes, and are asked for every few seconds."""

    def __init__(self, read: Callable[[ClickHouse, datetime, timedelta], list[UsualCalls]]) -> None:
        self._read = read
        self._kept: OrderedDict[_Key, list[UsualCalls]] = OrderedDict()

    def of(self, clickhouse: ClickHouse, end: datetime, prices: PriceBook) -> Usuals:
        """By profile, of the day before ``end``. Raises ClickHouseError."""
        key = _Key(clickhouse.database, end)
        calls = self._kept.get(key)
        if calls is None:
            calls = self._kept[key] = self._read(clickhouse, end, _DAY)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return _by_profile(calls, prices, end)

    def forget(self) -> None:
        self._kept.clear()


usuals = UsualKeeper(read_usual)


def _by_profile(calls: Iterable[UsualCalls], prices: PriceBook, end: datetime) -> Usuals:
    mine: dict[str, list[UsualCalls]] = {}
    for one in calls:
        mine.setdefault(one.profile, []).append(one)
    return {slug: Baseline(_cells(of), _markup(slug, of, prices, end)) for slug, of in mine.items()}


def _cells(calls: Iterable[UsualCalls]) -> dict[CellKey, Usual]:
    return {
        CellKey(one.tenant, one.persona, one.task): Usual(
            one.used.calls, one.used.calls - one.successes, one.other, one.used.completion
        )
        for one in calls
    }


def _markup(slug: str, calls: Iterable[UsualCalls], prices: PriceBook, end: datetime) -> float | None:
    price = prices.in_force(slug, end)
    if price is None or prices.in_force(slug, end - _DAY) != price:
        return None
    cost = listed = Decimal(0)
    for one in calls:
        if one.priced != one.used.calls:
            continue
        cost += one.used.cost
        listed += price.cost(one.used.prompt, one.used.completion, one.used.cached)
    return float(cost / listed) - 1 if listed else None


def tell_alerts(now: datetime, repeat: timedelta) -> None:
    """An alert per profile in quarantine, cleared when it is in none."""
    held: dict[str, list[ProfileQuarantine]] = {}
    for row in services.standing(now).order_by("id"):
        held.setdefault(row.profile.slug, []).append(row)
    for slug, rows in held.items():
        told = "; ".join(f"{row.sentinel}: {row.reason} Until {row.expires_at:%H:%M} UTC" for row in rows)
        hold_alert(f"{_ALERT}:{slug}", f"{slug} is not given to anybody. {told}"[:500], now, repeat)
    holding = Alert.objects.filter(name__startswith=f"{_ALERT}:", cleared_at=None)
    for name in list(holding.values_list("name", flat=True)):
        if (slug := name.removeprefix(f"{_ALERT}:")) not in held:
            clear_alert(name, f"{slug} is out of quarantine.", now)
