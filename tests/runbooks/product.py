"""The product that runbooks are tried on: apart, on real servers, with systemctl and a shell to type into."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg

from demo import timeline
from telemetry.clickhouse import connect
from tests.flows.apart import BIN, ROOT, SEED, Apart, apart
from tests.flows.supervising import supervised
from tests.runbooks.shell import Shell
from tests.runbooks.units import Unit, end, played
from tests.services import (
    ClickHouseServer,
    PostgresServer,
    RedisServer,
    accepts,
    clickhouse_server,
    free_ports,
    postgres_server,
    redis,
    require,
    wait_until,
)

SCOPE = ("aurora", "essayist")
ASKED = {"tenant": SCOPE[0], "persona": SCOPE[1]}
#: The flag on, and what worker and beat do within two minutes, at once.
PREPARE = """
from django.utils import timezone
from demo.catalogue import turn_on
from routing.snapshots import write_snapshot
from telemetry import rollups, spool
from telemetry.clickhouse import get_clickhouse
turn_on()
while spool.drain(get_clickhouse(), timezone.now(), 10_000):
    pass
while rollups.roll_up_dirty(get_clickhouse(), timezone.now):
    pass
write_snapshot(get_clickhouse(), timezone.now())
"""

#: On-call's key, with the verbs that docs/runbooks/README.md says.
ONCALL = """
from catalog.models import ServiceKey
verbs = ["read", "select", "override", "global_scope"]
print(ServiceKey.objects.create_key(name="on-call", verbs=verbs, all_tenants=True)[1])
"""


@dataclass
class Product:
    """Everything of it runs, and its newest completion is 16 minutes old until ``freshen``."""

    apart: Apart
    postgres: PostgresServer
    redis: RedisServer
    clickhouse: ClickHouseServer
    key: str
    folder: Path
    oncall: str = ""
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    fresh: bool = False

    def client(self, key: str = "") -> httpx.Client:
        return self.apart.client(key or self.key)

    def ask(self, conversation: str = "c-1") -> dict[str, Any]:
        with self.client() as client:
            answer = client.post("/selections", json={**ASKED, "conversation_id": conversation})
        told: dict[str, Any] = answer.json()
        return told

    def report(self, events: list[dict[str, Any]]) -> None:
        with self.client() as client:
            for first in range(0, len(events), 1000):
                answer = client.post("/telemetry/completions", json=events[first : first + 1000])
                assert (answer.status_code, answer.json()["rejected"]) == (202, [])

    def manage(self, *arguments: str) -> str:
        """Run manage.py as the shell does; its output."""
        done = subprocess.run(
            [str(self.folder / "python"), "manage.py", *arguments],
            cwd=ROOT,
            env=self.apart.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def sql(self, *statements: str) -> None:
        """Run statements as the database's owner, in one transaction."""
        with psycopg.connect(self.postgres.url) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rollout(self) -> dict[str, Any]:
        """The newest rollout."""
        with self.client() as client:
            told: dict[str, Any] = client.get("/rollouts").json()["results"][0]
        return told

    def published(self) -> int:
        """Conversations of a rollout whose completion and whose decision are both in ClickHouse."""
        told = "SELECT DISTINCT conversation_id FROM {} WHERE conversation_id LIKE 'rollout-%%'"
        query = f"SELECT count() AS n FROM ({told.format('completions')} AND conversation_id IN "
        with closing(connect(self.clickhouse.url("selection"))) as door:
            return int(door.query(f"{query} ({told.format('selections')}))")[0]["n"])

    def ensure(self, *names: str) -> None:
        """Start what does not run."""
        units = self.units()
        for name in names:
            if not units[name].runs():
                units[name].start()

    def freshen(self) -> None:
        """Completions up to now, scored: whatever runbook runs, decisions are ranked before it."""
        now = datetime.now(UTC)
        self.report(events(now - timedelta(minutes=30), now))
        self.manage("shell", "--no-imports", "-c", PREPARE)
        wait_until(lambda: self.ask().get("reason") == "ranked", "a ranked decision", timeout=60)
        self.fresh = True

    def units(self) -> dict[str, Unit]:
        servers = {
            "postgresql": self.postgres.server,
            "redis-server": self.redis.server,
            "clickhouse-server": self.clickhouse.server,
        }
        found = {
            name: Unit(one.start, one.stop, lambda one=one: one._process is not None, one.log_tail)  # type: ignore[misc]
            for name, one in servers.items()
        }
        starts = {
            "web": self.apart.start_web,
            "worker": self.apart.start_worker,
            "beat": self.apart.start_beat,
        }
        for name, start in starts.items():
            found[f"selection-{name}"] = Unit(
                lambda name=name, start=start: self.running.update({name: start()}),  # type: ignore[misc]
                lambda name=name: end(self.running[name]),  # type: ignore[misc]
                lambda name=name: name in self.running and self.running[name].poll() is None,  # type: ignore[misc]
                lambda name=name: _log(self.folder, name),  # type: ignore[misc]
            )
        return found

    def shell(self, **more: str) -> Shell:
        environment = {
            **self.apart.environment,
            "PATH": f"{self.folder}:{BIN}:{os.environ['PATH']}",
            "URL": f"http://127.0.0.1:{self.apart.port}",
            "KEY": self.oncall,
            "TMPDIR": str(self.folder),
            "CH": f"clickhouse-client --host 127.0.0.1 --port {self.clickhouse.port} --database selection",
            **more,
        }
        return Shell(ROOT, environment)


def _log(folder: Path, name: str) -> str:
    return "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob(f"{name}-*.log")))


def events(start: datetime, until: datetime) -> list[dict[str, Any]]:
    """The demo's recorded completions of the scope; the last one just ended."""
    found = [one for one in timeline.events(start, until) if (one["tenant"], one["persona"]) == SCOPE]
    last = {**found[-1], "event_id": str(uuid.uuid4()), "occurred_at": until.isoformat()}
    return [*found, last]


@contextmanager
def product(folder: Path) -> Iterator[Product]:
    """Raises ServiceMissing."""
    for program in ("curl", "jq", "psql", "pg_isready", "redis-cli", "clickhouse-client"):
        require(program)
    with ExitStack() as stack:
        database = stack.enter_context(postgres_server())
        broker = stack.enter_context(redis())
        clickhouse = stack.enter_context(clickhouse_server())
        environment = {
            "DEPLOYMENT_MODE": "DEVELOPMENT",
            "DATABASE_URL": database.url,
            "REDIS_URL": broker.url,
            "CLICKHOUSE_URL": clickhouse.url("selection"),
            "BUNDLE_REFRESH_SECONDS": "0.5",
            # Scenes report failures by the hundred; what a sentinel makes of them is no scene's subject.
            "SENTINELS_ENABLED": "false",
        }
        running = stack.enter_context(apart(folder, **environment))
        running.manage("migrate")
        running.manage("clickhouse_migrate")
        key = running.manage("shell", "--no-imports", "-c", SEED).splitlines()[-1]
        one = Product(running, database, broker, clickhouse, key, folder)
        stack.enter_context(supervised(running, lambda role, process: one.running.update({role: process})))
        units = one.units()
        stack.enter_context(played(units, folder))
        [port] = free_ports(1)
        running.start("manager", "python", "-m", "tests.runbooks.manager", str(port), str(folder))
        wait_until(lambda: accepts(port), "manage.py's server")
        one.oncall = one.manage("shell", "--no-imports", "-c", ONCALL).split()[-1]
        units["selection-web"].start()
        now = datetime.now(UTC)
        one.report(events(now - timedelta(hours=23), now - timedelta(minutes=16)))
        one.manage("shell", "--no-imports", "-c", PREPARE)
        units["selection-worker"].start()
        units["selection-beat"].start()
        yield one
