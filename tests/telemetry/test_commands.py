"""manage.py ingest and rollup, and the tasks that beat runs."""

import csv
import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django.fixtures import Settings

from telemetry import ingest, retention, tasks
from telemetry.clickhouse import ClickHouse, close_clickhouse
from telemetry.ingest import trim_quarantine
from telemetry.management.commands import ingest as ingest_command
from telemetry.models import DirtyBucket, IngestedFile, Lease, PipelineStage, QuarantinedEvent, SpoolBatch
from tests import factories
from tests.services import free_ports

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, "--no-progress", stdout=out)
    return out.getvalue()


def events(count: int) -> list[dict[str, Any]]:
    factories.scope()
    now = timezone.now()
    return [
        factories.event(occurred_at=(now - timedelta(minutes=number)).isoformat()) for number in range(count)
    ]


def ndjson(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def spooled() -> int:
    return sum(SpoolBatch.objects.values_list("events", flat=True))


def test_an_ndjson_file_is_ingested_and_bad_lines_are_named(tmp_path: Path) -> None:
    path = ndjson(tmp_path / "events.ndjson", [*events(5), factories.event(latency_ms=-1)])
    path.write_text(path.read_text() + "not json\n")
    out = run("ingest", str(path))
    assert "5 accepted, 2 rejected" in out
    assert "invalid_field: 1" in out
    assert "invalid_json: 1" in out
    assert QuarantinedEvent.objects.count() == 2


def test_a_csv_file_is_ingested_with_its_types(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    rows = events(3)
    rows[1] |= {"success": "yes", "accuracy": "", "cost_usd": ""}
    rows[2] |= {"success": "perhaps"}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=[*rows[0], "accuracy"])
        writer.writeheader()
        writer.writerows(rows)
    assert "2 accepted, 1 rejected" in run("ingest", str(path))


def test_the_same_file_twice_adds_nothing(tmp_path: Path) -> None:
    path = ndjson(tmp_path / "events.ndjson", events(5))
    run("ingest", str(path))
    copy = tmp_path / "renamed.jsonl"
    copy.write_bytes(path.read_bytes())
    assert "was ingested at" in run("ingest", str(copy))
    assert spooled() == 5


def test_events_without_an_id_get_the_same_one_each_time(tmp_path: Path) -> None:
    rows = events(2)
    for row in rows:
        del row["event_id"]
    path = ndjson(tmp_path / "events.ndjson", rows)
    run("ingest", str(path))
    first = [bytes(batch.payload) for batch in SpoolBatch.objects.all()]
    run("ingest", str(path), "--restart")
    assert [bytes(batch.payload) for batch in SpoolBatch.objects.all()] == first * 2


def test_interrupted_it_resumes_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ndjson(tmp_path / "events.ndjson", events(25))
    monkeypatch.setattr(ingest_command, "_BATCH", 10)
    accept: Callable[..., Any] = ingest.accept
    calls = 0

    def killed_at_the_third(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return accept(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ingest_command, "accept", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            run("ingest", str(path))
    assert (IngestedFile.objects.get().lines_done, spooled()) == (20, 20)
    assert "25 accepted" in run("ingest", str(path))
    assert spooled() == 25


def test_events_that_retention_would_drop_are_refused(tmp_path: Path) -> None:
    old = factories.event(occurred_at=(timezone.now() - timedelta(days=40)).isoformat())
    weeks = factories.event(occurred_at=(timezone.now() - timedelta(days=20)).isoformat())
    factories.scope()
    assert "1 accepted, 1 rejected" in run("ingest", str(ndjson(tmp_path / "e.ndjson", [old, weeks])))


@pytest.mark.parametrize(
    ("name", "message"), [("absent.csv", "No such file"), ("events.dat", "--format"), (".", "directory")]
)
def test_a_file_that_cannot_be_read_is_a_clear_error(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "events.dat").write_text("x")
    with pytest.raises(CommandError, match=message):
        run("ingest", str(tmp_path / name), *(["--format", "csv"] if name == "." else []))


def test_ingest_can_drain_and_rollup_can_backfill(door: ClickHouse, tmp_path: Path) -> None:
    path = ndjson(tmp_path / "events.ndjson", events(10))
    assert "10 events sent to ClickHouse" in run("ingest", str(path), "--drain")
    DirtyBucket.objects.all().delete()
    start = (timezone.now() - timedelta(hours=1)).isoformat()
    assert "buckets recomputed" in run("rollup", "--from", start)
    assert door.query("SELECT sum(requests) AS n FROM rollup_24h FINAL")[0]["n"] == 10


def test_rollup_refuses_a_range_that_ends_before_it_begins() -> None:
    with pytest.raises(CommandError, match="before"):
        run("rollup", "--from", "2026-11-02", "--to", "2026-11-01")
    with pytest.raises(CommandError, match="ISO 8601"):
        run("rollup", "--from", "yesterday")


def test_the_tasks_carry_an_event_from_spool_to_roll_up(door: ClickHouse, tmp_path: Path) -> None:
    run("ingest", str(ndjson(tmp_path / "events.ndjson", events(10))))
    assert tasks.drain_spool() == 10
    assert tasks.roll_up_dirty_buckets() > 0
    assert tasks.roll_up_dirty_buckets() == 0
    assert door.query("SELECT sum(requests) AS n FROM rollup_5m FINAL")[0]["n"] == 10
    assert {stage.is_failing for stage in PipelineStage.objects.all()} == {False}
    assert not Lease.objects.exists()


def test_while_clickhouse_is_away_the_tasks_note_it_and_lose_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    settings.CLICKHOUSE_URL = f"clickhouse://127.0.0.1:{port}/selection"
    close_clickhouse()
    run("ingest", str(ndjson(tmp_path / "events.ndjson", events(10))))
    assert tasks.drain_spool() == 0
    assert tasks.roll_up_dirty_buckets() == 0
    tasks.apply_retention()
    close_clickhouse()
    assert spooled() == 10
    assert {stage.error_code for stage in PipelineStage.objects.all()} == {"ClickHouseUnavailable"}


def test_a_task_that_already_runs_elsewhere_is_left_to_it(door: ClickHouse, tmp_path: Path) -> None:
    run("ingest", str(ndjson(tmp_path / "events.ndjson", events(10))))
    lease = Lease.objects.create(
        name="drain", holder="another", expires_at=timezone.now() + timedelta(minutes=1)
    )
    assert tasks.drain_spool() == 0
    lease.expires_at = timezone.now() - timedelta(seconds=1)
    lease.save()
    assert tasks.drain_spool() == 10


def test_retention_drops_whole_partitions_past_their_age_and_nothing_younger(
    door: ClickHouse, tmp_path: Path
) -> None:
    factories.scope()
    now = timezone.now()
    ages = (0, 5, 20, 28)
    rows = [factories.event(occurred_at=(now - timedelta(days=age)).isoformat()) for age in ages]
    run("ingest", str(ndjson(tmp_path / "events.ndjson", rows)), "--drain")
    run("rollup", "--from", (now - timedelta(days=30)).isoformat())
    days = {"completions": 10, "rollup_5m": 25, "rollup_1h": 400, "rollup_24h": 1826}
    dropped = retention.apply_retention(door, now, days)
    assert sorted(drop.table for drop in dropped) == ["completions", "completions", "rollup_5m"]
    for table, left in (("completions", 2), ("rollup_5m", 3), ("rollup_1h", 4), ("rollup_24h", 4)):
        assert door.query(f"SELECT count() AS n FROM {table}")[0]["n"] == left
    assert retention.apply_retention(door, now, days) == []


def test_the_quarantine_keeps_the_newest() -> None:
    now = timezone.now()
    for number in range(5):
        QuarantinedEvent.objects.create(received_at=now, source="t", code="c", detail=str(number), raw="")
    assert trim_quarantine(2) == 3
    assert {event.detail for event in QuarantinedEvent.objects.all()} == {"3", "4"}
    assert trim_quarantine(2) == 0
