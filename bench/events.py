"""Metrics, roll-up and pages of the Command Center over very many events, which lie over several days."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.reading import _ms
from bench.table import Line, timed

#: The events lie evenly over so many days that ended now: so many partitions of raw events, and the last 24 hours hold
#: a fifth of them.
DAYS = 5
#: Events that one statement makes; memory is bounded by it.
BLOCK = 500_000
TENANTS, PERSONAS, PROFILES = 20, 4, 14

_STATEMENT = """
INSERT INTO completions (event_id, occurred_at, received_us, tenant, persona, task, profile, conversation_id,
    success, latency_ms, latency_bucket, prompt_tokens, completion_tokens, cost_usd, cost_source, accuracy,
    escalated, safety_violation, schema_version)
SELECT toUUID(concat('00000000-0000-4000-8000-', padded)),
    toDateTime(%(start)s, 'UTC') + intDiv(number * %(seconds)s, %(events)s), 1,
    concat('tenant-', toString(intHash32(number) %% 20)), concat('persona-', toString(intHash32(number + 7) %% 4)),
    'essay', concat('profile-', toString(intHash32(number + 13) %% 14)), 'c', rand() %% 10 > 1,
    latency, toUInt8(floor(8 * log2(latency))), 300, 400, toDecimal64(0.002, 9), 'reported',
    toDecimal32(0.8, 6), 0, 0, 1
FROM (
    SELECT number, toUInt32(500 + rand(number) %% 20000) AS latency,
        substring(concat('000000000000', toString(number)), length(toString(number)) + 1, 12) AS padded
    FROM numbers(%(first)s, %(count)s)
)
"""

Costs = dict[str, tuple[float, ...]]


def compared(engine: str, sizes: list[int], rounds: int) -> list[Line]:
    """Each size from empty tables, smallest first; then the largest over the smallest."""
    found = {size: _costs(size, rounds) for size in sorted(sizes)}
    lines = []
    for size, costs in found.items():
        for name, taken in costs.items():
            unit = "s" if name.startswith(("filling", "roll-up")) else "ms"
            lines.append(Line(f"{name}, {_millions(size)}, {engine}", unit, taken))
    least, most = min(found), max(found)
    if least == most:
        return lines
    told = f"{_millions(most)} over {_millions(least)}"
    for name in found[most]:
        ratio = (_middle(found[most][name]) / _middle(found[least][name]),)
        # What reads roll-ups is asked to stay as it is; filling and rolling up read each event.
        target = None if name.startswith(("filling", "roll-up")) else 1.5
        lines.append(Line(f"{name}: {told}, {engine}", "x", ratio, target))
    return lines


def _millions(events: int) -> str:
    return f"{events / 1_000_000:g}M events"


def _middle(costs: tuple[float, ...]) -> float:
    return sorted(costs)[len(costs) // 2]


def _costs(events: int, rounds: int) -> Costs:
    from telemetry import metrics, rollups
    from telemetry.clickhouse import get_clickhouse

    clickhouse = get_clickhouse()
    for table in ("completions", "rollup_5m", "rollup_1h", "rollup_24h"):
        clickhouse.execute(f"TRUNCATE TABLE {table}")
    now = rollups.floor(datetime.now(UTC), timedelta(minutes=5))
    start = now - timedelta(days=DAYS)
    filling = timed(lambda: _fill(clickhouse, events, start), 1)
    rolled = timed(
        lambda: rollups.backfill(clickhouse, start, now, lambda: datetime.now(UTC), lambda *_: None), 1
    )
    _settle(clickhouse)
    span = metrics.trailing(metrics.Window.H24, now)
    scope: dict[str, Any] = {"tenant": "tenant-3", "persona": "persona-1"}
    read = metrics.read_totals(clickhouse, span, **scope)
    if len(read) != PROFILES:
        raise RuntimeError(f"{len(read)} profiles were found in place of {PROFILES}")
    every = metrics.read_totals(clickhouse, span)
    day = sum(totals.requests for totals in every.values())
    if abs(day * DAYS / events - 1) > 0.02:
        raise RuntimeError(f"{day:,} of {events:,} events were found in the last of {DAYS} days")
    return {
        "filling": filling,
        "roll-up of everything at once": rolled,
        "24h metrics of one scope": _ms(
            timed(lambda: metrics.read_totals(clickhouse, span, **scope), rounds)
        ),
        "24h metrics of all 80 scopes": _ms(timed(lambda: metrics.read_totals(clickhouse, span), rounds)),
        **_pages(rounds),
    }


def _fill(clickhouse: Any, events: int, start: datetime) -> None:
    """In order of time, so that each statement writes into one partition or two."""
    seconds = int(timedelta(days=DAYS).total_seconds())
    for first in range(0, events, BLOCK):
        parameters = {
            "start": start,
            "seconds": seconds,
            "events": events,
            "first": first,
            "count": min(BLOCK, events - first),
        }
        clickhouse.execute(_STATEMENT, parameters, timeout=120)


def _settle(clickhouse: Any) -> None:
    """Wait until what was written just now is merged, for two minutes at most: in service events come slowly enough for
    that, and what is measured otherwise is the merging."""
    until, quiet = time.monotonic() + 120, 0
    while time.monotonic() < until and quiet < 4:
        [row] = clickhouse.query("SELECT count() AS n FROM system.merges", {})
        quiet = 0 if row["n"] else quiet + 1
        time.sleep(0.5)


def _pages(rounds: int) -> Costs:
    """Pages asked for when nothing of theirs is kept in this process, and the snapshot is one of these events."""
    ask = _visitor()
    pages = {
        "overview": "/admin/center/",
        "scope page": "/admin/center/scopes/tenant-3/persona-1/",
        "scope page's charts": "/admin/center/scopes/tenant-3/persona-1/charts",
        "telemetry page": "/admin/center/telemetry/",
    }
    found = {}
    for name, path in pages.items():
        ask(path)  # templates are loaded, connections are there
        found[name] = tuple(ask(path) for _ in range(rounds))
    return found


def _visitor() -> Callable[[str], float]:
    from django.contrib.auth.models import User
    from django.core.cache import cache
    from django.test import Client

    from commandcenter import cards
    from routing.bundle import forget_bundle
    from routing.snapshots import write_snapshot
    from telemetry.clickhouse import get_clickhouse

    _catalogue()
    write_snapshot(get_clickhouse(), datetime.now(UTC))
    forget_bundle()
    root, _ = User.objects.get_or_create(username="bench", is_superuser=True, is_staff=True)
    client = Client()
    client.force_login(root)

    def ask(path: str) -> float:
        kept: Any = cards._kept
        kept.clear()
        cache.clear()
        client.force_login(root)  # its session may have been among what was cleared
        began = time.perf_counter()
        answer = client.get(path)
        taken = time.perf_counter() - began
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {answer.status_code}")
        return taken * 1000

    return ask


def _catalogue() -> None:
    """What the events name. What is there already stays."""
    from tests import factories

    profiles = [factories.profile(f"profile-{number}") for number in range(PROFILES)]
    for number in range(TENANTS):
        factories.tenant(f"tenant-{number}")
    for number in range(PERSONAS):
        factories.persona(f"persona-{number}", default_profile=profiles[0])
