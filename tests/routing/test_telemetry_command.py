"""`manage.py telemetry status`: what on-call reads first when metrics grow old."""

from datetime import datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from routing.bundle import forget_bundle
from routing.models import ScoreSnapshot
from telemetry import spool
from telemetry.clickhouse import ClickHouse, ClickHouseUnavailable
from telemetry.models import DirtyBucket, ScopeActivity, SpoolBatch
from tests import factories
from tests.routing.scenes import ranked_scope
from tests.routing.test_flag_safety import blind, stale
from tests.telemetry.pipeline import run_pipeline

pytestmark = pytest.mark.django_db


@pytest.fixture
def now() -> datetime:
    return timezone.now()


def status(*options: str) -> str:
    """What it prints; with the error last, when it ends with one."""
    out = StringIO()
    try:
        call_command("telemetry", "status", *options, stdout=out)
    except CommandError as error:
        return f"{out.getvalue()}ERROR {error.returncode} {error}"
    return out.getvalue()


def test_while_all_is_well_it_says_so_and_ends_well(now: datetime) -> None:
    ranked_scope()
    spool.note_success("drain", now)
    told = status()
    assert "ERROR" not in told
    assert "clickhouse: reached" in told
    assert "spool: 0 events in 0 batches\n" in told
    assert "drain: well, last success" in told
    assert "scores that decisions use: fresh" in told


def test_clickhouse_down_is_named_with_its_error(now: datetime) -> None:
    stale()
    spool.note_failure("drain", now, ClickHouseUnavailable("connection refused"))
    told = status()
    assert "ERROR 1 scores" in told
    assert "clickhouse: DOWN" in told
    assert "drain: FAILING, last 0 s ago: ClickHouseUnavailable: connection refused" in told
    assert told.endswith(
        "scores that decisions use: stale (1200 s old), flag on, cause: clickhouse_down. "
        "Decisions give the defaults while the flag is on."
    )


def test_events_that_wait_and_those_that_clickhouse_refused_are_counted(now: datetime) -> None:
    stale()
    waited = now - timedelta(minutes=3)
    SpoolBatch.objects.create(received_at=waited, source="a", events=7, payload=b"[]")
    SpoolBatch.objects.create(
        received_at=now, source="b", events=2, payload=b"[]", attempts=3, error="TYPE_MISMATCH"
    )
    told = status()
    assert "spool: 9 events in 2 batches, the oldest 18" in told
    assert "refused by ClickHouse: 1 batches: TYPE_MISMATCH" in told
    assert "cause: drain_late" in told


def test_buckets_that_wait_for_their_roll_up_are_counted(now: datetime) -> None:
    stale()
    DirtyBucket.objects.create(start=now, token="t", marked_at=now - timedelta(minutes=2))
    told = status()
    assert "buckets to roll up: 1, the oldest 12" in told
    assert "cause: rollup_late" in told


def test_scopes_are_told_each_and_of_one_tenant_only_when_asked(now: datetime) -> None:
    blind()
    for tenant, age in (("aurora", 20), ("borealis", 1)):
        ScopeActivity.objects.create(
            tenant=tenant, persona="essayist", last_event_at=now - timedelta(minutes=age)
        )
    told = status()
    assert "scope: aurora x essayist is stale, 1200 s old" in told
    assert "scope: borealis x essayist is fresh, 60 s old" in told
    assert "scores that decisions use: blind (none)" in told
    assert "aurora" not in status("--tenant", "borealis")


def test_a_running_task_is_told_with_the_end_of_its_lease(now: datetime) -> None:
    from telemetry.lease import lease

    ranked_scope()
    with lease("drain", now):
        assert "running: drain, for" in status()
    forget_bundle()
    assert "running:" not in status()


def test_scoring_now_writes_a_snapshot_that_decisions_use(door: ClickHouse, now: datetime) -> None:
    factories.scope()
    occurred = (now - timedelta(minutes=1)).isoformat()
    run_pipeline(door, [factories.event(occurred_at=occurred) for _ in range(40)], now)
    assert "scores that decisions use: blind" in status()
    out = StringIO()
    call_command("telemetry", "score", stdout=out)
    assert "1 scopes scored" in out.getvalue()
    forget_bundle()
    assert "scores that decisions use: fresh" in status()


def test_scoring_without_clickhouse_leaves_the_last_snapshot_and_says_so() -> None:
    ranked_scope()
    count = ScoreSnapshot.objects.count()
    with pytest.raises(CommandError, match="The last snapshot stands"):
        call_command("telemetry", "score")
    assert ScoreSnapshot.objects.count() == count
