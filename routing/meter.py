"""The regret meter: what each override has cost or saved since it began, against what would be given without it.

The same comparison as the preview's says what that is; roll-ups say what both cost. docs/overrides.md tells how to
read it, and what it is not.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from catalog.models import Persona
from overrides.models import AuditEntry, Override
from overrides.precedence import Hypothetical
from overrides.shadowing import claim_of
from routing.comparing import Key, Part, Side, keys_of, look, named_tasks, tasks_of, typical
from routing.engine import Bundle, Standing, StandingOverride
from routing.regret import Given, Measured, Source, is_enough, measure
from routing.standing import Kind
from telemetry import metrics
from telemetry.clickhouse import ClickHouse
from telemetry.rollups import floor
from telemetry.totals import Totals, merge

_BUCKET = timedelta(minutes=5)
_HOUR = timedelta(hours=1)
_NOTHING = Totals()
#: What makes another override of it: a new reason or another end does not.
_STEERS = ("kind", "profile", "tenant", "persona", "task")


@dataclass(frozen=True, slots=True)
class Effect:
    """A scope that an override changes, or would if the choice were not the same."""

    key: Key
    given: Side
    instead: Side


@dataclass(frozen=True, slots=True)
class Effects:
    """``shadowed``: in how many of its scopes something stronger decides. ``tasks`` are those that overrides name."""

    scopes: list[Effect]
    shadowed: int
    tasks: dict[tuple[str | None, str | None], set[str]]


@dataclass(frozen=True, slots=True)
class Meter:
    """An override measured. ``until`` None: it stands. ``span`` None: it is too young for a whole bucket."""

    override: Hypothetical
    since: datetime
    until: datetime | None
    span: metrics.Span | None
    scopes: list[Measured]
    reasons: Mapping[Key, str | None]
    shadowed: int
    min_samples: Mapping[str, int]


def effects_of(
    whole: Bundle, override: Hypothetical, tenants: frozenset[str] | None, at: datetime
) -> Effects:
    """What the override does by today's scores to the scopes that these tenants (None: all) may see. ``whole`` is a
    bundle that ``typical`` made; whether the override still stands in it does not matter."""
    # Of very many overrides few can meet this one.
    mine = override.tenant
    others = tuple(
        o
        for o in whole.standing.overrides
        if (mine is None or o.tenant is None or o.tenant == mine) and o.id != override.id
    )
    assert override.id is not None  # noqa: S101  # only stored ones are measured
    own = StandingOverride(
        override.id, Kind(override.kind), override.profile, mine, override.persona, override.task
    )
    standing = Standing(others, whole.standing.killed, whole.standing.killed_all)
    without = replace(whole, standing=standing)
    with_it = replace(whole, standing=replace(standing, overrides=(*others, own)))
    for bundle in (without, with_it):
        bundle.keep_views_of(whole)
    tasks = named_tasks((with_it.standing,))
    seen = [slug for slug in whole.tenants if tenants is None or slug in tenants]
    scopes, shadowed = [], 0
    for key in keys_of([Part(mine, override.persona, override.task)], seen, whole.personas, tasks):
        given, instead = look(with_it, key, at), look(without, key, at)
        if own.kind is Kind.EXCLUDE:
            if given.profile != instead.profile:
                scopes.append(Effect(key, given, instead))
        elif given.override == own.id or (given.problem and given.code != instead.code):
            scopes.append(Effect(key, given, instead))
        else:
            shadowed += 1
    return Effects(scopes, shadowed, tasks)


def began(override: Override, entries: Collection[Mapping[str, Any]]) -> datetime:
    """Since when the override has been what it is, by its audit ``entries``, the newest first."""
    for entry in entries:
        before, after = entry["before"], entry["after"]
        if not after or after.get("revoked_at"):
            continue
        if before is None or before.get("revoked_at") or any(before[n] != after[n] for n in _STEERS):
            at: datetime = entry["at"]
            return at
    return override.created_at


def read_entries(pks: Collection[int]) -> dict[int, list[dict[str, Any]]]:
    """The audit entries of these overrides, the newest first; one query."""
    found: dict[int, list[dict[str, Any]]] = {}
    rows = AuditEntry.objects.filter(object_type="override", object_id__in=[str(pk) for pk in pks])
    for row in rows.order_by("-seq").values("object_id", "at", "before", "after"):
        found.setdefault(int(row["object_id"]), []).append(dict(row))
    return found


def read_min_samples() -> dict[str, int]:
    """By persona."""
    return dict(Persona.objects.values_list("slug", "min_samples"))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all overrides are measured in. ``whole`` is a bundle that ``typical`` made."""

    whole: Bundle
    clickhouse: ClickHouse
    min_samples: Mapping[str, int]
    now: datetime

    @classmethod
    def of(cls, bundle: Bundle, clickhouse: ClickHouse, now: datetime) -> "Surroundings":
        return cls(typical(bundle), clickhouse, read_min_samples(), now)


def meter(
    override: Override,
    entries: Collection[Mapping[str, Any]],
    around: Surroundings,
    tenants: frozenset[str] | None,
) -> Meter:
    """Measure an override in the scopes of these tenants (None: all), in at most three queries on roll-ups. Raises
    ClickHouseError."""
    now, claim = around.now, claim_of(override)
    ends = [at for at in (override.revoked_at, override.expires_at) if at is not None and at <= now]
    until = min(ends, default=None)
    since = began(override, entries)
    span = _span(since, until, now)
    effects = effects_of(around.whole, claim, tenants, now)
    reader = _Reader(around.clickhouse, claim, effects, span, metrics.trailing(metrics.Window.H24, now))
    scopes = []
    for effect in effects.scopes:
        enough = around.min_samples.get(effect.key.persona, 1)
        given = Given(effect.given.profile, reader.given(effect), Source.SAME_TIME)
        scopes.append(measure(effect.key, given, reader.instead(effect, enough), enough))
    reasons = {e.key: e.instead.reason.value if e.instead.reason else e.instead.code for e in effects.scopes}
    return Meter(claim, since, until, span, scopes, reasons, effects.shadowed, around.min_samples)


def _span(since: datetime, until: datetime | None, now: datetime) -> metrics.Span | None:
    """Whole buckets within the override's time, so that nothing from before or after counts: of hours when it is
    older than a day (the finest roll-ups are not kept for ever), else of 5 minutes."""
    grain = _HOUR if now - since > timedelta(days=1) else _BUCKET
    start = floor(since, grain)
    start = start if start == since else start + grain
    running = floor(now, _BUCKET)
    end = (running if running == now else running + _BUCKET) if until is None else floor(until, _BUCKET)
    return metrics.Span(start, end) if start < end else None


class _Reader:
    """Totals of an override's scopes; each source is read when it is first needed, for all scopes at once."""

    def __init__(
        self,
        clickhouse: ClickHouse,
        override: Hypothetical,
        effects: Effects,
        span: metrics.Span | None,
        day: metrics.Span,
    ) -> None:
        self._clickhouse = clickhouse
        self._override = override
        self._tasks = effects.tasks
        differing = [e for e in effects.scopes if e.given.profile != e.instead.profile]
        self._profiles = {p for e in differing for p in (e.given.profile, e.instead.profile) if p is not None}
        self._spans = {
            Source.SAME_TIME: span,
            Source.TRAILING_24H: day,
            Source.TRAILING_24H_ALL_TENANTS: day,
        }
        self._read: dict[Source, dict[tuple[str | None, str, str], dict[str, Totals]]] = {}

    def given(self, effect: Effect) -> Totals:
        """What was given, since the override began."""
        return self._totals(Source.SAME_TIME, effect, effect.given.profile)

    def instead(self, effect: Effect, enough: int) -> Given:
        """What would have been given, by the first source that has enough of it."""
        profile = effect.instead.profile
        if profile is not None and profile != effect.given.profile:
            for source in Source:
                totals = self._totals(source, effect, profile)
                if is_enough(totals, enough):
                    return Given(profile, totals, source)
        return Given(profile, self._totals(Source.SAME_TIME, effect, profile), None)

    def _totals(self, source: Source, effect: Effect, profile: str | None) -> Totals:
        span = self._spans[source]
        if profile not in self._profiles or profile is None or span is None:
            return _NOTHING
        if source not in self._read:
            self._read[source] = self._ask(source, span)
        key = effect.key
        tenant = None if source is Source.TRAILING_24H_ALL_TENANTS else key.tenant
        by_task = self._read[source].get((tenant, key.persona, profile), {})
        if key.task is not None:
            return by_task.get(key.task, _NOTHING)
        named = tasks_of(self._tasks, key.tenant, key.persona)
        return merge(totals for task, totals in by_task.items() if task not in named)

    def _ask(
        self, source: Source, span: metrics.Span
    ) -> dict[tuple[str | None, str, str], dict[str, Totals]]:
        everybody = source is Source.TRAILING_24H_ALL_TENANTS
        read = metrics.read_totals(
            self._clickhouse,
            span,
            by_tenant=not everybody,
            by_task=True,
            tenant=None if everybody else self._override.tenant,
            persona=self._override.persona,
            task=self._override.task,
            profiles=self._profiles,
        )
        found: dict[tuple[str | None, str, str], dict[str, Totals]] = {}
        for key, totals in read.items():
            assert key.task is not None  # noqa: S101  # asked for by task
            found.setdefault((key.tenant, key.persona, key.profile), {})[key.task] = totals
        return found
