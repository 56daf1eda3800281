"""Two web replicas and two scoring workers that share PostgreSQL, Redis and a ClickHouse cluster, and no disk."""

import base64
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from demo import timeline
from demo.catalogue import PERSONAS, TENANTS
from telemetry.partition import Partition
from tests.flows.apart import SEED, Apart, apart, totals
from tests.services import ServiceMissing, clickhouse_cluster, free_ports, postgres, redis, wait_until
from tests.telemetry.engines import missing

pytestmark = [pytest.mark.services, pytest.mark.slow]

PARTITIONS = 2
#: What beat does every minute.
ASK_FOR_SNAPSHOT = "from routing.tasks import write_snapshot; write_snapshot()"
TURN_ON = "from demo.catalogue import turn_on; turn_on()"
#: How long a change may take to be in effect everywhere.
IN_EFFECT_SECONDS = 5.0
SCOPE = {"tenant": "aurora", "persona": "essayist"}


@pytest.fixture
def engines() -> Iterator[dict[str, str]]:
    """The environment that all processes have in common."""
    try:
        with postgres() as database, redis() as broker, clickhouse_cluster() as cluster:
            yield {
                "DEPLOYMENT_MODE": "DEVELOPMENT",
                "SECRET_KEY": secrets.token_urlsafe(64),
                "AUDIT_SIGNING_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
                "DATABASE_URL": database,
                "REDIS_URL": broker.url,
                "CLICKHOUSE_URL": cluster.url("selection"),
                "CLICKHOUSE_CLUSTER": cluster.name,
                "SCORING_PARTITIONS": str(PARTITIONS),
            }
    except ServiceMissing as reason:
        missing(reason)


def shell(product: Apart, code: str) -> str:
    return product.manage("shell", "--no-imports", "-c", code)


def start_worker(product: Apart, number: int) -> Any:
    """One process that does one task at a time, as if on a host of its own."""
    options = ["--concurrency", "1", "--hostname", f"worker{number}@host", "--loglevel", "WARNING"]
    command = ["celery", "-A", "config", "worker", *options]
    return product.start("worker", *command, DATA_DIR=str(product.directory / f"worker{number}"))


def post(client: httpx.Client, events: list[dict[str, Any]]) -> None:
    for first in range(0, len(events), 500):
        answer = client.post("/telemetry/completions", json=events[first : first + 500])
        assert (answer.status_code, answer.json()["rejected"]) == (202, [])


def select(client: httpx.Client, conversation: str) -> dict[str, Any]:
    answer = client.post("/selections", json={**SCOPE, "conversation_id": conversation})
    assert answer.status_code == 200, answer.text
    decision: dict[str, Any] = answer.json()
    return decision


@contextmanager
def no_part_is_committed(database: str) -> Iterator[psycopg.Connection[Any]]:
    """Meanwhile workers wait for it, five seconds at most; gives a connection of its own to look with."""
    with psycopg.connect(database) as one, psycopg.connect(database, autocommit=True) as other:
        one.execute("LOCK TABLE routing_scoringpart IN SHARE MODE")
        yield other


def waiting(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    ).fetchone()
    return int(row[0]) if row else 0


def snapshot_of(connection: psycopg.Connection[Any], began: datetime) -> list[tuple[int, int]]:
    """Id and number of scopes of the snapshots that a run makes which began at that moment."""
    asked = "SELECT id, scopes FROM routing_scoresnapshot WHERE created_at = %s"
    return [(row[0], row[1]) for row in connection.execute(asked, [began])]


def assert_counted_once(clients: tuple[httpx.Client, ...], events: list[dict[str, Any]]) -> None:
    expected = Counter((event["tenant"], event["persona"], event["profile"]) for event in events)
    for client in clients:
        wait_until(
            lambda c=client: totals(c, tuple(TENANTS), tuple(PERSONAS)) == expected,  # type: ignore[misc]
            "every event counted once",
            timeout=90,
        )


def assert_a_run_outlives_one_of_its_workers(product: Apart, doomed: Any, scopes: int) -> None:
    with no_part_is_committed(product.environment["DATABASE_URL"]) as connection:
        shell(product, ASK_FOR_SNAPSHOT)
        wait_until(lambda: waiting(connection) == PARTITIONS, "both workers have scored their part")
        [(run, began)] = connection.execute("SELECT id, created_at FROM routing_scoringrun").fetchall()
        kill(doomed)
    # Beat asks once a minute; the part that is missing is sent again, and once the dead one's lease is over it is done.
    with psycopg.connect(product.environment["DATABASE_URL"], autocommit=True) as connection:

        def is_stored() -> bool:
            shell(product, ASK_FOR_SNAPSHOT)
            return bool(snapshot_of(connection, began))

        wait_until(is_stored, "the run's snapshot", timeout=90)
        [(_, scored)] = snapshot_of(connection, began)
        assert scored == scopes
        left = connection.execute("SELECT count(*) FROM routing_scoringpart WHERE run_id = %s", [run])
        assert left.fetchone() == (0,)


def kill(process: Any) -> None:
    os.killpg(process.pid, 9)
    process.wait()


def test_replicas_and_scoring_workers_are_one_service(engines: dict[str, str], tmp_path: Path) -> None:
    now = datetime.now(UTC)
    events = list(timeline.events(now - timedelta(hours=23), now))[-6000:]
    scopes = {(event["tenant"], event["persona"]) for event in events}
    assert {Partition(0, PARTITIONS).holds(*scope) for scope in scopes} == {True, False}
    with apart(tmp_path, **engines) as product:
        product.manage("migrate")
        product.manage("clickhouse_migrate")
        key = shell(product, SEED).splitlines()[-1]
        ports = free_ports(2)
        for number, port in enumerate(ports):
            product.start_web(port, DATA_DIR=str(tmp_path / f"web{number}"))
        doomed, _ = [start_worker(product, number) for number in range(2)]
        product.start_beat()
        with product.client(key, ports[0]) as first, product.client(key, ports[1]) as second:
            # Some events come at both: a reporter's retry reached the other replica.
            post(first, events[:3500])
            post(second, events[3000:])
            assert_counted_once((first, second), events)
            assert_a_run_outlives_one_of_its_workers(product, doomed, len(scopes))

            shell(product, TURN_ON)
            for client in (first, second):
                wait_until(lambda c=client: select(c, "c-1")["reason"] == "ranked", "a ranked decision")  # type: ignore[misc]
            wait_until(
                lambda: select(first, "c-2")["snapshot_id"] == select(second, "c-2")["snapshot_id"],
                "both replicas steer by one snapshot",
            )
            assert_an_override_at_one_is_in_effect_at_the_other(first, second)


def assert_an_override_at_one_is_in_effect_at_the_other(one: httpx.Client, other: httpx.Client) -> None:
    given = select(other, "c-3")["profile"]["slug"]
    profile = next(card["profile"] for card in ranked(one) if card["profile"] != given)
    body = {**SCOPE, "kind": "lock", "profile": profile, "reason": "one replica tells the other"}
    made = one.post("/settings/overrides", json=body)
    assert made.status_code == 201, made.text
    began = time.monotonic()
    wait_until(lambda: select(other, "c-3")["reason"] == "override_lock", "the override at the other replica")
    assert time.monotonic() - began < IN_EFFECT_SECONDS
    assert select(other, "c-4")["profile"]["slug"] == profile


def ranked(client: httpx.Client) -> list[dict[str, Any]]:
    answer = client.get("/rankings", params=SCOPE)
    assert answer.status_code == 200, answer.text
    cards: list[dict[str, Any]] = answer.json()["scorecards"]
    return cards
