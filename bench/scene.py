"""The product as the serving bench asks it: 1,000 scopes with 20 scored profiles each, a key, a web server apart."""

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg

from tests.services import ServiceMissing, accepts, free_ports, postgres_server, require, wait_until

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
TENANTS, PERSONAS, PROFILES = 250, 4, 20

_SEED = f"""
import random
from datetime import UTC, datetime
from bench.deciding import _totals
from catalog.models import ServiceKey
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import Flag
from routing.snapshots import Windows, read_catalogue, score_all, store_snapshot
from tests import factories

profiles = [factories.profile(f"profile-{{n}}") for n in range({PROFILES})]
personas = [factories.persona(f"persona-{{n}}", default_profile=profiles[0]) for n in range({PERSONAS})]
for n in range({TENANTS}):
    factories.tenant(f"tenant-{{n}}")
Flag.objects.filter(name=AUTO_MODEL_SELECTION).update(rollout_percent=100)
print(ServiceKey.objects.create_key(name="bench", verbs=["select", "read"], all_tenants=True)[1])
"""
#: ``AGE`` is put in its place: how old the metrics are, in minutes.
_SCORE = f"""
import random
from datetime import UTC, datetime, timedelta
from bench.deciding import _totals
from routing.snapshots import Windows, read_catalogue, score_all, store_snapshot

now, chance, catalogue = datetime.now(UTC), random.Random(1), read_catalogue()
at = now - timedelta(minutes=AGE)
samples = [{{name: _totals(chance, at) for name in sorted(catalogue.profiles)}} for _ in range(50)]
scopes = [(f"tenant-{{t}}", f"persona-{{p}}") for t in range({TENANTS}) for p in range({PERSONAS})]
day = {{scope: samples[n % 50] for n, scope in enumerate(scopes)}}
day |= {{(None, f"persona-{{p}}"): samples[p] for p in range({PERSONAS})}}
store_snapshot(score_all(catalogue, Windows(day, {{}})), catalogue.version, now)
"""


@dataclass
class Scene:
    """A migrated, seeded database, and what starts web servers on it."""

    environment: dict[str, str]
    folder: Path
    database: str
    postgres_pids: list[int]
    key: str = ""
    _count: int = field(default=0)

    def manage(self, *arguments: str) -> str:
        """Run manage.py to its end; its output. RuntimeError with what it said when it fails."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return done.stdout.strip()

    def shell(self, code: str) -> str:
        return self.manage("shell", "--no-imports", "-v", "0", "-c", code)

    def score(self, minutes_old: int = 0) -> None:
        """Store a snapshot whose metrics are so old: beyond 15 minutes they are stale."""
        self.shell(_SCORE.replace("AGE", str(minutes_old)))

    def decisions(self) -> int:
        """How many are stored. By a query alone: it is asked several times after each run."""
        count = "SELECT count(*) FROM routing_selection"
        if self.database.startswith("sqlite"):
            with closing(sqlite3.connect(self.database.removeprefix("sqlite:///"))) as connection:
                return int(connection.execute(count).fetchone()[0])
        with psycopg.connect(self.database) as postgres:
            [row] = postgres.execute(count).fetchall()
            return int(row[0])

    def forget_decisions(self) -> None:
        self.shell(
            "from routing.models import ConversationSelection, Selection\n"
            "from django.db import connection\n"
            "for model in (Selection, ConversationSelection):\n"
            "    table = model._meta.db_table\n"
            "    how = 'TRUNCATE' if connection.vendor == 'postgresql' else 'DELETE FROM'\n"
            "    connection.cursor().execute(f'{how} {table}')"
        )

    @contextmanager
    def web(
        self, *, workers: int, threads: int | None, pinned: bool = False, **environment: str
    ) -> Iterator["Web"]:
        """A granian server in production's form. ``threads``: blocking threads of each worker, None: granian's own
        number. ``pinned``: all of it on one core."""
        [port] = free_ports(1)
        self._count += 1
        log = self.folder / f"web-{self._count}.log"
        command = [
            *(["taskset", "-c", "0"] if pinned else []), str(BIN / "granian"), "--interface", "wsgi",
            "config.wsgi:application", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers),
            "--log-level", "warning", *(["--blocking-threads", str(threads)] if threads else []),
        ]  # fmt: skip
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**self.environment, **environment}, stdout=output, stderr=output
            )
        try:
            wait_until(lambda: process.poll() is not None or accepts(port), "start of granian")
            if process.poll() is not None:
                raise RuntimeError(log.read_text()[-2000:])
            yield Web(f"http://127.0.0.1:{port}", process.pid, log)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ask_once(self, web: "Web") -> None:
        """Raises httpx.HTTPError when it is not answered well within a minute."""
        asked = {"tenant": "tenant-0", "persona": "persona-0", "conversation_id": "c-first"}
        headers = {"Authorization": f"Api-Key {self.key}"}
        httpx.post(f"{web.url}/api/v1/selections", json=asked, headers=headers, timeout=60).raise_for_status()

    def script(self, *, candidates: bool = True, request_ids: bool = False) -> Path:
        """wrk's script: through all scopes in turn, a conversation of its own each time, every tenth one twice."""
        path = self.folder / f"ask-{candidates}-{request_ids}.lua"
        path.write_text(_script(self.key, random.randrange(10**9), candidates, request_ids))
        return path


@dataclass(frozen=True)
class Web:
    url: str
    pid: int
    log: Path


def _script(key: str, salt: int, candidates: bool, request_ids: bool) -> str:
    more = "" if candidates else ',"candidates":false'
    more += ""","request_id":"r-'..salt..'-'..n..'\"""" if request_ids else ""
    return f"""
local n, salt = 0, '{salt}-'..os.time()
local headers = {{["Content-Type"] = "application/json", ["Authorization"] = "Api-Key {key}"}}
math.randomseed(os.time())
function request()
  n = n + 1
  local c = (n % 10 == 0) and n - 5 or n
  local scope = c * 7919 % {TENANTS * PERSONAS}
  local body = '{{"tenant":"tenant-'..math.floor(scope / {PERSONAS})..'","persona":"persona-'..(scope % {PERSONAS})..
    '","conversation_id":"c-'..salt..'-'..c..'"{more}}}'
  return wrk.format("POST", "/api/v1/selections", headers, body)
end
"""


@contextmanager
def scene(database: str = "postgresql") -> Iterator[Scene]:
    """``database``: postgresql (with fsync, as in production) or sqlite. ServiceMissing without it, or without wrk."""
    require("wrk")
    with ExitStack() as running:
        name = running.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True))
        folder = Path(name)
        pids: list[int] = []
        if database == "postgresql":
            server = running.enter_context(postgres_server(durable=True))
            url = server.url
            process = server.server._process
            pids = [process.pid] if process else []
        elif database == "sqlite":
            url = f"sqlite:///{folder}/bench.sqlite3"
        else:
            raise ServiceMissing(f"no such database: {database}")
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            # As PRODUCTION but for HTTPS, and without Redis and ClickHouse, which a selection does not ask.
            "DEPLOYMENT_MODE": "TRAINING" if database == "postgresql" else "LOCAL",
            "HTTPS": "0",
            "SECRET_KEY": "only for the bench, on loopback, for a minute: 0123456789abcdef0123456789",
            "AUDIT_SIGNING_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            "ALLOWED_HOSTS": "127.0.0.1",
            "DATABASE_URL": url,
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "CLICKHOUSE_URL": "clickhouse://127.0.0.1:1/selection",
            "DATA_DIR": str(folder / "data"),
            "LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        one = Scene(environment, folder, url, pids)
        one.manage("migrate", "-v", "0")
        one.key = one.shell(_SEED).splitlines()[-1]
        one.score()
        yield one
