"""The product run apart on real servers, with ClickHouse and Redis behind proxies that misbehave on demand."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo import timeline
from telemetry.clickhouse import ClickHouse, connect
from tests.faults.proxy import Proxy, proxy
from tests.flows.apart import SEED, Apart, apart
from tests.flows.supervising import supervised
from tests.services import (
    ClickHouseServer,
    PostgresServer,
    RedisServer,
    ServiceMissing,
    clickhouse_server,
    free_ports,
    postgres_server,
    redis,
    wait_until,
)
from tests.telemetry.engines import missing

TURN_ON = "from demo.catalogue import turn_on; turn_on()"
#: What worker and beat do within two minutes, at once: a test of old metrics has no time to lose.
PIPELINE = """
from django.utils import timezone
from routing.snapshots import write_snapshot
from telemetry import rollups, spool
from telemetry.clickhouse import get_clickhouse
while spool.drain(get_clickhouse(), timezone.now(), 10_000):
    pass
while rollups.roll_up_dirty(get_clickhouse(), timezone.now):
    pass
write_snapshot(get_clickhouse(), timezone.now())
"""
ASKED = {"tenant": "aurora", "persona": "essayist"}


@dataclass
class Product:
    """The product, apart, flag on, scope ranked; ClickHouse is behind ``proxy``, Redis behind ``redis_proxy``."""

    apart: Apart
    postgres: PostgresServer
    redis: RedisServer
    clickhouse: ClickHouseServer
    proxy: Proxy
    redis_proxy: Proxy
    key: str
    client: httpx.Client
    web: subprocess.Popen[bytes]

    def ask(self, conversation: str = "c-1") -> dict[str, Any]:
        answer = self.client.post("/selections", json={**ASKED, "conversation_id": conversation})
        assert answer.status_code == 200, answer.text
        decision: dict[str, Any] = answer.json()
        return decision

    def report(self, start: datetime, end: datetime) -> None:
        events = list(timeline.events(start, end))
        for first in range(0, len(events), 500):
            answer = self.client.post("/telemetry/completions", json=events[first : first + 500])
            assert answer.status_code == 202, answer.text

    def until(self, reason: str, timeout: float = 100) -> None:
        wait_until(lambda: self.ask()["reason"] == reason, f"a decision by {reason}", timeout)

    def door(self) -> ClickHouse:
        return connect(self.clickhouse.url("selection"))

    def shell(self, script: str) -> str:
        """Run Python inside Django, in a process of its own; its last line."""
        return (self.apart.manage("shell", "--no-imports", "-c", script).splitlines() or [""])[-1]

    @contextmanager
    def another_web(self, **environment: str) -> Iterator[httpx.Client]:
        """A second web process with variables of its own, until the block ends."""
        [port] = free_ports(1)
        process = self.apart.start_web(port, **environment)
        try:
            with self.apart.client(self.key, port) as client:
                yield client
        finally:
            kill(process)

    def logs(self, name: str) -> str:
        """What processes of this name (web, worker, beat) have logged so far."""
        return "".join(path.read_text() for path in self.apart.directory.glob(f"{name}-*.log"))


def kill(process: subprocess.Popen[Any]) -> None:
    """-9, with its children."""
    os.killpg(process.pid, 9)
    process.wait()


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One for all files of a process that leave it as it was; its metrics are fresh."""
    with running_product(tmp_path_factory.mktemp("faults")) as one:
        yield one


@contextmanager
def running_product(directory: Path, newest: timedelta = timedelta()) -> Iterator[Product]:
    """``newest``: how old the newest completion is."""
    try:
        with (
            postgres_server() as database,
            redis() as broker,
            clickhouse_server() as clickhouse,
            proxy(clickhouse.port) as between,
            proxy(broker.server.port) as before_redis,
        ):
            environment = {
                "DEPLOYMENT_MODE": "DEVELOPMENT",
                "DATABASE_URL": database.url,
                "REDIS_URL": f"redis://127.0.0.1:{before_redis.port}/0",
                "CLICKHOUSE_URL": f"clickhouse://127.0.0.1:{between.port}/selection",
                "BUNDLE_REFRESH_SECONDS": "0.5",
            }
            with apart(directory, **environment) as running, supervised(running):
                running.manage("migrate")
                running.manage("clickhouse_migrate")
                key = running.manage("shell", "--no-imports", "-c", SEED).splitlines()[-1]
                running.manage("shell", "--no-imports", "-c", TURN_ON)
                web = running.start_web()
                with running.client(key) as client:
                    one = Product(
                        running, database, broker, clickhouse, between, before_redis, key, client, web
                    )
                    _start_telemetry(one, newest)
                    yield one
    except ServiceMissing as reason:
        missing(reason)


def _start_telemetry(product: Product, age: timedelta) -> None:
    now = datetime.now(UTC)
    newest = now - age
    product.report(now - timedelta(hours=23), newest)
    # The scope's own newest completion is exactly that old, not whenever the timeline had one last.
    last = next(outcome for tenant, outcome in timeline.cycle() if outcome.persona == ASKED["persona"])
    one = timeline.event(ASKED["tenant"], last, newest, str(uuid.uuid4()), "newest")
    assert product.client.post("/telemetry/completions", json=[one]).status_code == 202
    product.apart.manage("shell", "--no-imports", "-c", PIPELINE)
    product.until("ranked", timeout=10)
    product.apart.start_worker()
    product.apart.start_beat()
