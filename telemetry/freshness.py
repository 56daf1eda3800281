"""How fresh each scope's metrics are, and when they are not: why."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.db.models import Count, Min

from telemetry import spool
from telemetry.freshness_state import Freshness, state
from telemetry.models import DirtyBucket, PipelineStage, ScopeActivity

#: Waiting longer than this is not the ordinary rhythm of drain (1 s) and roll-up (5 s).
LATE = timedelta(seconds=60)


class Cause(StrEnum):
    """Why metrics are not fresh."""

    CLICKHOUSE_DOWN = "clickhouse_down"
    DRAIN_LATE = "drain_late"
    ROLLUP_LATE = "rollup_late"
    NO_TRAFFIC = "no_traffic"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The state of everything between the API and the metrics."""

    waiting_events: int
    oldest_waiting: datetime | None
    dirty_buckets: int
    oldest_dirty: datetime | None
    drained_at: datetime | None
    rolled_up_at: datetime | None
    last_error: str
    clickhouse_down: bool

    def cause(self, now: datetime) -> Cause:
        """The one reason to look at first: nothing rolls up while ClickHouse is away."""
        if self.clickhouse_down:
            return Cause.CLICKHOUSE_DOWN
        if self.oldest_waiting is not None and now - self.oldest_waiting > LATE:
            return Cause.DRAIN_LATE
        if self.oldest_dirty is not None and now - self.oldest_dirty > LATE:
            return Cause.ROLLUP_LATE
        return Cause.NO_TRAFFIC


@dataclass(frozen=True, slots=True)
class ScopeFreshness:
    tenant: str
    persona: str
    as_of: datetime
    state: Freshness


def read_pipeline() -> Pipeline:
    """Three queries on the Django database, none on ClickHouse."""
    return pipeline_of(spool.backlog(), list(PipelineStage.objects.all()))


def pipeline_of(waiting: spool.Backlog, stages: Sequence[PipelineStage]) -> Pipeline:
    """The same from what was read already; one query, on dirty buckets."""
    dirty = DirtyBucket.objects.aggregate(n=Count("pk"), oldest=Min("marked_at"))
    by_name = {stage.name: stage for stage in stages}
    failing = [stage for stage in stages if stage.is_failing]
    drain, rollup = by_name.get("drain"), by_name.get("rollup")
    return Pipeline(
        waiting_events=waiting.events,
        oldest_waiting=waiting.oldest,
        dirty_buckets=dirty["n"],
        oldest_dirty=dirty["oldest"],
        drained_at=drain.succeeded_at if drain else None,
        rolled_up_at=rollup.succeeded_at if rollup else None,
        last_error="; ".join(f"{stage.name}: {stage.error}" for stage in failing),
        clickhouse_down=any(
            stage.error_code in ("ClickHouseUnavailable", "ClickHouseTimeout") for stage in failing
        ),
    )


def read_scopes(now: datetime, tenants: frozenset[str] | None) -> list[ScopeFreshness]:
    """Every scope that ever had an event, of these tenants (None: all), by name."""
    scopes = ScopeActivity.objects.order_by("tenant", "persona")
    if tenants is not None:
        scopes = scopes.filter(tenant__in=tenants)
    return [
        ScopeFreshness(scope.tenant, scope.persona, scope.last_event_at, state(scope.last_event_at, now))
        for scope in scopes
    ]


def overall(scopes: Iterable[ScopeFreshness], now: datetime) -> Freshness:
    """The state of the newest event anywhere: whether telemetry flows at all."""
    return state(max((scope.as_of for scope in scopes), default=None), now)
