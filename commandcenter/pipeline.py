"""The state of telemetry for its page: what waits between the API and the metrics, how fresh each scope is, what was
refused. All of it from the Django database: nothing here asks ClickHouse, which may be what is down."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Sum

from catalog.access import Caller
from catalog.tenancy import within
from routing.engine import Bundle
from telemetry import freshness, spool
from telemetry.freshness import Pipeline
from telemetry.freshness_state import Freshness
from telemetry.models import PipelineStage, QuarantineCount, QuarantinedEvent

#: Days of counts of refused events.
COUNTED = timedelta(days=7)
_NEWEST = 20
_CODES = 30
#: Where a scope stands in the list: the worst first; one that never had an event may be one that nobody uses yet.
_ORDER = {Freshness.STALE: 0, Freshness.DEGRADED: 1, Freshness.FRESH: 2, Freshness.BLIND: 3}


@dataclass(frozen=True, slots=True)
class Health:
    """``pipeline`` with what only this page tells: batches that wait, those that ClickHouse refused, and the stages."""

    pipeline: Pipeline
    batches: int
    retrying: int
    last_refusal: str
    stages: tuple[PipelineStage, ...]


def read() -> Health:
    """Three queries."""
    waiting, stages = spool.backlog(), tuple(PipelineStage.objects.order_by("name"))
    pipeline = freshness.pipeline_of(waiting, stages)
    return Health(pipeline, waiting.batches, waiting.retrying, waiting.refusal, stages)


@dataclass(frozen=True, slots=True)
class Scope:
    """``as_of`` None: it never had an event."""

    tenant: str
    persona: str
    as_of: datetime | None
    state: Freshness


def scopes_of(bundle: Bundle, who: Caller, now: datetime) -> list[Scope]:
    """Every scope that one may see, the worst first; one query."""
    known = freshness.read_scopes(now, who.tenants)
    found = [Scope(one.tenant, one.persona, one.as_of, one.state) for one in known]
    names = {(one.tenant, one.persona) for one in known}
    never = (
        Scope(tenant, persona, None, Freshness.BLIND)
        for tenant in bundle.tenants
        if who.may_see(tenant)
        for persona in bundle.personas
        if (tenant, persona) not in names
    )
    return sorted([*found, *never], key=_badness)


def _badness(scope: Scope) -> tuple[int, float, str, str]:
    at = scope.as_of.timestamp() if scope.as_of else 0.0
    return _ORDER[scope.state], at, scope.tenant, scope.persona


def counts_of(scopes: Iterable[Scope]) -> dict[str, int]:
    """How many scopes are in each state."""
    counts = {state.value: 0 for state in _ORDER}
    for scope in scopes:
        counts[scope.state.value] += 1
    return counts


@dataclass(frozen=True, slots=True)
class Quarantine:
    """``counts``: code to how many, the most first. ``is_all``: they are of all tenants and ``COUNTED`` days; else of
    the caller's tenants, as far as refused events are kept."""

    counts: list[tuple[str, int]]
    newest: list[QuarantinedEvent]
    is_all: bool


def quarantine_of(who: Caller, code: str, now: datetime) -> Quarantine:
    """Two queries. Counts by day name no tenant, so who sees some tenants only counts those events that are kept."""
    mine = within(QuarantinedEvent.objects.all(), who.tenants)
    rows: Any
    if who.tenants is None:
        since = (now - COUNTED).date()
        rows = QuarantineCount.objects.filter(day__gt=since).order_by().values_list("code")
        rows = rows.annotate(n=Sum("count"))
    else:
        rows = mine.order_by().values_list("code").annotate(n=Count("pk"))
    counts = [(found, n) for found, n in rows.order_by("-n", "code")[:_CODES]]
    newest = mine.filter(code=code) if code else mine
    return Quarantine(counts, list(newest.order_by("-id")[:_NEWEST]), who.tenants is None)
