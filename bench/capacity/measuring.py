"""Costs measured in a small run on a PostgreSQL and a ClickHouse server: processor time, not wall time, of this process
and of the servers. What goes through the web goes through Django's test client here, in one thread."""

import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from bench.loadgen import cpu_seconds, family

_DECISIONS = 4_000
_REPORTED = 4_000
_BATCHES = 60
_SCOPES = 2_000
#: ClickHouse merges what it took.
_SETTLE_SECONDS = 3.0


@dataclass(frozen=True)
class Spent:
    """Seconds of processor time."""

    own: float
    postgres: float
    clickhouse: float


def measured() -> dict[str, float]:
    """Values by their keys in costs.json. Raises ServiceMissing. Sets Django up: once per process."""
    from tests.services import clickhouse_server, postgres

    with ExitStack() as running:
        folder = running.enter_context(
            tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        )
        database = running.enter_context(postgres())
        clickhouse = running.enter_context(clickhouse_server())
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DATA_DIR": folder,
            "LOG_LEVEL": "ERROR",
            "DATABASE_URL": database,
            "CLICKHOUSE_URL": clickhouse.url("bench"),
        }
        _set_up()
        return {**_decisions(), **_events(), **_scoring()}


def _set_up() -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command

    django.setup()
    settings.DEBUG = False
    settings.ALLOWED_HOSTS = ["testserver"]
    call_command("migrate", verbosity=0)
    call_command("clickhouse_migrate", verbosity=0)


def _pids(name: str) -> Iterator[int]:
    """Processes below this one whose name begins so."""
    for pid in family([os.getpid()]):
        path = Path(f"/proc/{pid}/comm")
        if path.exists() and path.read_text().startswith(name):
            yield pid


def _spent(work: Callable[[], object], settle: float = 0.0) -> Spent:
    def now() -> tuple[float, float, float]:
        # A child's time is read from its own entry; ours without our children's.
        return time.process_time(), cpu_seconds(_pids("postgres")), cpu_seconds(_pids("clickhouse"))

    gc.collect()
    before = now()
    work()
    own = time.process_time()
    time.sleep(settle)
    _, postgres, clickhouse = now()
    return Spent(own - before[0], postgres - before[1], clickhouse - before[2])


def _decisions() -> dict[str, float]:
    from django.db import connection

    from bench.deciding import asking
    from routing import events, webhooks
    from routing.models import Selection
    from telemetry.clickhouse import get_clickhouse

    ask = asking(_DECISIONS)
    ask()
    stored = _spent(ask)
    before = Selection.objects.count()
    reported = _spent(_reporting(_REPORTED))
    assert Selection.objects.count() - before == _REPORTED
    count = Selection.objects.count()

    def publish() -> None:
        while events.publish(get_clickhouse(), 2_000):
            pass
        while webhooks.fan_out(datetime.now(UTC), 2_000):
            pass

    published = _spent(publish, _SETTLE_SECONDS)
    with connection.cursor() as cursor:
        tables = "pg_total_relation_size('routing_selection') + pg_total_relation_size('routing_conversationselection')"
        cursor.execute(f"SELECT {tables}")
        size = cursor.fetchone()[0]
    return {
        "postgres_us_per_selection": stored.postgres / _DECISIONS * 1e6,
        "report_us_per_decision": reported.own / _REPORTED * 1e6,
        "publish_us_per_decision": published.own / count * 1e6,
        "postgres_us_per_published": published.postgres / count * 1e6,
        "clickhouse_us_per_decision": published.clickhouse / count * 1e6,
        "postgres_bytes_per_decision": size / count,
        "clickhouse_bytes_per_decision": _bytes_per_row("selections"),
    }


def _reporting(count: int) -> Callable[[], None]:
    """Decisions made from the bundle, reported in batches as a worker does."""
    from django.test import Client

    from catalog.models import ServiceKey
    from routing.bundle import current_bundle
    from routing.engine import SelectionRequest, decide

    bundle, now = current_bundle(), datetime.now(UTC)
    _, key = ServiceKey.objects.create_key(name="reporter", verbs=["select"], all_tenants=True)
    client = Client(headers={"Authorization": f"Api-Key {key}"})
    asked = (SelectionRequest("aurora", "essayist", f"local-{number}", now) for number in range(count))
    made = [decide(bundle, one).core() for one in asked]
    bodies = [orjson.dumps({"decisions": made[first : first + 100]}) for first in range(0, count, 100)]

    def report() -> None:
        for body in bodies:
            answer = client.post("/api/v1/selections/batch", body, content_type="application/json")
            assert answer.status_code in (200, 202), answer.content

    return report


def _events() -> dict[str, float]:
    from django.conf import settings
    from django.test import Client

    from bench.pipeline import _batches
    from catalog.models import ServiceKey
    from telemetry import rollups, spool
    from telemetry.clickhouse import get_clickhouse

    _, key = ServiceKey.objects.create_key(name="ingest", verbs=["ingest"], all_tenants=True)
    client = Client(headers={"Authorization": f"Api-Key {key}"})
    batches = list(_batches(_BATCHES))
    bodies = [orjson.dumps(batch) for batch in batches]
    count = sum(map(len, batches))

    def post() -> None:
        for body in bodies:
            answer = client.post("/api/v1/telemetry/completions", body, content_type="application/json")
            assert answer.json()["accepted"] == 1000, answer.content

    def drain() -> None:
        while spool.drain(get_clickhouse(), datetime.now(UTC), settings.DRAIN_BLOCK_ROWS):
            pass

    def roll_up() -> None:
        while rollups.roll_up_dirty(get_clickhouse(), lambda: datetime.now(UTC)):
            pass

    taken, drained = _spent(post), _spent(drain, _SETTLE_SECONDS)
    rolled_up = _spent(roll_up)
    return {
        "ingest_us_per_event": taken.own / count * 1e6,
        "postgres_us_per_event": (taken.postgres + drained.postgres) / count * 1e6,
        "drain_us_per_event": drained.own / count * 1e6,
        "clickhouse_us_per_event": drained.clickhouse / count * 1e6,
        "rollup_us_per_event": rolled_up.clickhouse / count * 1e6,
        "clickhouse_bytes_per_event": _bytes_per_row("completions"),
    }


def _bytes_per_row(table: str) -> float:
    from telemetry.clickhouse import get_clickhouse

    [row] = get_clickhouse().query(
        "SELECT sum(bytes_on_disk) AS size, sum(rows) AS held FROM system.parts "
        "WHERE active AND database = %(database)s AND table = %(table)s",
        {"database": "bench", "table": table},
    )
    return float(row["size"]) / float(row["held"])


def _scoring() -> dict[str, float]:
    """Totals to a part's bytes; and what the last part's worker does beside scoring its own."""
    from bench.deciding import _case
    from routing.archive import pack
    from routing.models import ScoreSnapshot, ScoringRun
    from routing.scoring_runs.services import commit_part
    from routing.snapshots import Scored, newest_id, score_all

    now = datetime.now(UTC)
    catalogue, windows = _case(_SCOPES, 10, now)
    found: list[Any] = []

    def score() -> None:
        found.append(score_all(catalogue, windows))
        pack(found[0].to_dict(now))

    scored = _spent(score)
    run = ScoringRun.objects.create(
        created_at=now,
        deadline=now + timedelta(minutes=4),
        partitions=2,
        after=newest_id(),
        policy_version=1,
        checksum="",
        payload=b"",
    )
    commit_part(run.pk, 0, found[0])
    assembled = _spent(lambda: commit_part(run.pk, 1, Scored({}, {})))
    stored = ScoreSnapshot.objects.latest("id")
    assert (stored.pk, stored.scopes) == (newest_id(), _SCOPES)
    return {
        "snapshot_bytes_per_scope": len(stored.payload) / _SCOPES,
        "scoring_ms_per_scope": scored.own / _SCOPES * 1e3,
        "assemble_us_per_scope": assembled.own / _SCOPES * 1e6,
    }
