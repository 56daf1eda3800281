"""Disks that are full: under the spool, the decisions, the journal and ClickHouse. Clear answers, nothing lost, and it
goes on when there is room again. The disks are small ones of their own (tmpfs), which takes the right to mount."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from demo import timeline
from telemetry import rollups, spool, tasks
from telemetry.clickhouse import close_clickhouse, get_clickhouse
from telemetry.clickhouse_migrations import runner
from telemetry.freshness import read_pipeline
from telemetry.ingest import accept
from telemetry.models import SpoolBatch
from tests import factories
from tests.faults.conftest import Breaking
from tests.faults.load import load
from tests.faults.product import ASKED, Product
from tests.faults.proxy import Fault, proxy
from tests.faults.table import Promise
from tests.faults.test_engines import there
from tests.services import ServiceMissing, clickhouse_server, wait_until
from tests.telemetry.engines import missing
from tests.telemetry.test_rollups import assert_equal_to_oracle, make_events

pytestmark = [pytest.mark.services, pytest.mark.slow]


@dataclass(frozen=True)
class SmallDisk:
    path: Path

    def fill(self) -> None:
        """To the last byte."""
        with (self.path / "filler").open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while file.write(b"x" * size):
                        pass
                except OSError:
                    pass

    def free(self) -> None:
        (self.path / "filler").unlink()


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    with tempfile.TemporaryDirectory(prefix="small-disk-") as name:
        Path(name).chmod(0o711)  # PostgreSQL runs as somebody else
        disk = Path(name) / "disk"
        disk.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(disk)],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no right to mount a small disk: {done.stderr.decode().strip()}")
        try:
            yield SmallDisk(disk)
        finally:
            # Lazily: who was killed a moment ago may have files open.
            subprocess.run(["umount", "-l", str(disk)], check=True)


@contextmanager
def on_disk(url: str, disk: SmallDisk, tables: Sequence[str]) -> Iterator[None]:
    """PostgreSQL's tables on that disk, until the block ends."""
    if os.geteuid() == 0:
        shutil.chown(disk.path, "postgres", "postgres")
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(f"CREATE TABLESPACE small LOCATION '{disk.path}'")
        for table in tables:
            database.execute(f"ALTER TABLE {table} SET TABLESPACE small")
        try:
            yield
        finally:
            for table in tables:
                database.execute(f"ALTER TABLE {table} SET TABLESPACE pg_default")
            database.execute("DROP TABLESPACE small")


def test_a_full_disk_under_spool_and_decisions_is_a_clear_503_and_loses_nothing(
    product: Product, breaking: Breaking
) -> None:
    spooled = breaking("PostgreSQL's disk full under the spool", Promise.TELEMETRY)
    decided = breaking("PostgreSQL's disk full under the decisions", Promise.DURABLE)
    now = datetime.now(UTC)
    events = list(timeline.events(now - timedelta(hours=1), now))
    batches = [events[first : first + 100] for first in range(0, len(events), 100)]

    def post(batch: list[dict[str, Any]]) -> bool:
        answer = product.client.post("/telemetry/completions", json=batch)
        if answer.status_code == 202:
            return True
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), answer.text
        return False

    tables = ["telemetry_spoolbatch", "routing_selection"]
    with small_disk(96) as disk, on_disk(product.postgres.url, disk, tables):
        disk.fill()
        with load(product.client) as told:
            # What free pages are left takes a few.
            wait_until(lambda: not post(batches[0]), "the disk is full", timeout=60)
            refused = [batch for batch in batches if not post(batch)]
            told.go_on(3)
        disk.free()
        for batch in batches:
            wait_until(lambda batch=batch: post(batch), "it is taken again", timeout=30)  # type: ignore[misc]
        told.tell(decided)
        assert told.errors == []
        ids = {event["event_id"] for event in events}
        wait_until(lambda: not ids - there(product, "completions", "event_id"), "all events arrive", 180)
        wait_until(
            lambda: not set(told.decisions) - there(product, "selections", "decision_id"),
            "all decisions arrive",
            180,
        )
    assert refused
    spooled.measured = (
        f"{len(refused)} of {len(batches)} batches refused with 503 database_unavailable; "
        "all taken and drained when there was room"
    )
    decided.measured += "; all of them stored and published afterwards"


def test_with_no_database_and_no_room_for_the_journal_it_is_a_clear_503_until_there_is_room(
    product: Product, breaking: Breaking
) -> None:
    row = breaking("PostgreSQL away and the journal's disk full", Promise.DURABLE)
    with small_disk(16) as disk, proxy(product.postgres.server.port) as between, ExitStack() as running:
        url = f"postgres://postgres@127.0.0.1:{between.port}/postgres"
        web = running.enter_context(product.another_web(DATABASE_URL=url, DATA_DIR=str(disk.path)))

        def ask(conversation: str) -> tuple[int, dict[str, Any]]:
            answer = web.post("/selections", json={**ASKED, "conversation_id": conversation})
            return answer.status_code, answer.json()

        assert ask("before")[0] == 200
        with between.misbehaving(Fault.REFUSE):
            kept = [ask(f"journal-{number}") for number in range(5)]
            disk.fill()
            # The journal's last page may have room for a few yet.
            full = [ask(f"full-{number}") for number in range(20)]
            disk.free()
            kept += [ask(f"room-{number}") for number in range(5)]
        assert {status for status, _ in kept} == {200}
        kept += [answer for answer in full if answer[0] == 200]
        refused = [answer for answer in full if answer[0] != 200]
        assert {(status, told["code"]) for status, told in refused} == {(503, "database_unavailable")}
        wait_until(lambda: not list((disk.path / "journal").glob("*.ndjson")), "the journal is carried", 60)
        ids = {told["decision_id"] for _, told in kept}
        wait_until(lambda: not ids - there(product, "selections", "decision_id"), "all decisions arrive", 180)
    row.measured = (
        f"{len(refused)} x 503 database_unavailable; the {len(kept)} answered are stored and published"
    )


@pytest.mark.django_db(transaction=True)
def test_a_full_sqlite_is_a_clear_503_and_takes_the_same_batch_when_there_is_room(
    client: Client, breaking: Breaking
) -> None:
    row = breaking("SQLite full", Promise.TELEMETRY)
    if connection.vendor != "sqlite":
        pytest.skip("the tests run on another database")
    factories.scope()
    key = factories.key("ingest")
    batch = [factories.event(occurred_at=timezone.now().isoformat()) for _ in range(500)]

    def post() -> Any:
        return client.post(
            "/api/v1/telemetry/completions", batch, content_type="application/json", headers=key
        )

    with connection.cursor() as cursor:
        [pages] = cursor.execute("PRAGMA page_count").fetchone()
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        refused = post()
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert SpoolBatch.objects.count() == 0
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA max_page_count = 1000000")
    wait_until(lambda: post().status_code == 202, "it is taken", timeout=10)
    assert SpoolBatch.objects.get().events == len(batch)
    row.measured = (
        "503 database_unavailable, nothing of the batch stored; the same batch taken when there was room"
    )


@pytest.mark.django_db
def test_a_full_clickhouse_leaves_everything_in_the_spool_until_there_is_room(
    settings: Settings, breaking: Breaking
) -> None:
    row = breaking("ClickHouse's disk full", Promise.TELEMETRY)
    with small_disk(64) as disk, ExitStack() as running:
        try:
            server = running.enter_context(clickhouse_server(disk.path))
        except ServiceMissing as reason:
            missing(reason)
        settings.CLICKHOUSE_URL = server.url("selection")
        close_clickhouse()
        running.callback(close_clickhouse)
        door = get_clickhouse()
        door.ensure_database()
        runner.migrate(door)
        now = timezone.now()
        events = [{**event, "occurred_at": now.isoformat()} for event in make_events(2000)]
        for first in range(0, len(events), 500):
            assert not accept(events[first : first + 500], source="test", now=now, tenants=None).rejected
        disk.fill()
        assert tasks.drain_spool() == 0
        assert spool.backlog().events == len(events)
        refusal = spool.backlog().refusal or read_pipeline().last_error
        assert refusal
        disk.free()
        # Refused batches are tried again after a while; by then it is later.
        later = now + timedelta(minutes=20)
        while spool.drain(get_clickhouse(), later, 10_000):
            pass
        while rollups.roll_up_dirty(get_clickhouse(), timezone.now):
            pass
        assert not spool.backlog().events
        assert_equal_to_oracle(get_clickhouse(), events)
    row.measured = f"{len(events):,} events waited in the spool; afterwards every total equals the oracle"
