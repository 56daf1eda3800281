"""The product that is loaded: web, worker and beat apart, hardened as in production, on servers of the run's own."""

import secrets
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from demo import timeline
from tests.flows.apart import Apart, apart
from tests.services import clickhouse_server, free_ports, postgres, redis

#: Short of a day, so that none of it leaves the daily window while the longest run lasts.
HISTORY = timedelta(hours=21)
WEB_PROCESSES = 2
#: A change of the policy is in effect in every process after this.
IN_EFFECT_SECONDS = 5.0
_BATCH = 1_000
#: The demo's catalogue, and a key, printed.
_SEED = """
from catalog.models import ServiceKey
from demo.catalogue import load_catalogue
load_catalogue()
print(ServiceKey.objects.create_key(name="load", verbs=list(ServiceKey.Verb.values), all_tenants=True)[1])
"""
_TURN_ON = "from demo.catalogue import turn_on; turn_on()"
#: What worker and beat would do within two minutes.
_PIPELINE = """
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


@dataclass
class Product:
    """``reported``: how many completions it has accepted, those included that it began with (``history``)."""

    apart: Apart
    key: str
    database_url: str
    clickhouse_port: int
    began_at: datetime
    history: int
    reported: int = 0
    is_on: bool = False

    def __post_init__(self) -> None:
        self.reported = self.history

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.apart.port}"

    def client(self) -> httpx.Client:
        return self.apart.client(self.key)

    def turn_on(self) -> None:
        """The flag, for every conversation; returns when the web processes decide by it."""
        if self.is_on:
            return
        self.shell(_TURN_ON)
        self.is_on = True
        time.sleep(IN_EFFECT_SECONDS)

    def quarantined(self) -> str:
        """A sentence: which profiles the sentinels took out since the start. A machine too slow for its load makes
        calls late, and late calls fail."""
        with self.client() as client:
            found = [
                f"{one['profile']} ({one['sentinel']})"
                for one in client.get("/quarantines").json()["results"]
            ]
        return f"Profiles that were put into quarantine so far: {', '.join(found) or 'none'}."

    def start_cold_web(self) -> tuple[str, Path]:
        """A web server that has just started and decided nothing yet; its address, and its log."""
        before = set(self.apart.directory.glob("web-*.log"))
        [port] = free_ports(1)
        self.apart.start_web(port, GRANIAN_WORKERS=str(WEB_PROCESSES))
        [log] = set(self.apart.directory.glob("web-*.log")) - before
        return f"http://127.0.0.1:{port}", log

    def shell(self, code: str) -> str:
        return self.apart.manage("shell", "--no-imports", "-c", code)


@contextmanager
def product(say: Callable[[str], None]) -> Iterator[Product]:
    """Started, with a day of history and its first snapshot, the flag off. ServiceMissing: a server is not there."""
    with (
        tempfile.TemporaryDirectory(prefix="load-", ignore_cleanup_errors=True) as folder,
        postgres() as database,
        redis() as broker,
        clickhouse_server() as clickhouse,
    ):
        environment = {
            # As PRODUCTION but for HTTPS, which nothing on loopback speaks.
            "DEPLOYMENT_MODE": "TRAINING",
            "HTTPS": "0",
            "SECRET_KEY": secrets.token_urlsafe(64),
            "AUDIT_SIGNING_KEY": b64encode(secrets.token_bytes(32)).decode(),
            "ALLOWED_HOSTS": "localhost,127.0.0.1",
            "DATABASE_URL": database,
            "REDIS_URL": broker.url,
            "CLICKHOUSE_URL": clickhouse.url("selection"),
        }
        with apart(Path(folder), **environment) as running:
            say("PostgreSQL, Redis and ClickHouse are up; migrating")
            running.manage("migrate")
            running.manage("clickhouse_migrate")
            key = running.manage("shell", "--no-imports", "-c", _SEED).splitlines()[-1]
            running.start_web(GRANIAN_WORKERS=str(WEB_PROCESSES))
            now = datetime.now(UTC)
            one = Product(running, key, database, clickhouse.port, now, _report(running, key, now))
            say(f"{one.history:,} recorded completions accepted, rolling them up")
            one.shell(_PIPELINE)
            running.start_worker()
            running.start_beat()
            yield one


def _report(running: Apart, key: str, now: datetime) -> int:
    events = list(timeline.events(now - HISTORY, now))
    with running.client(key) as client:
        for first in range(0, len(events), _BATCH):
            batch = events[first : first + _BATCH]
            answer = client.post("/telemetry/completions", json=batch)
            if answer.status_code != 202 or answer.json()["rejected"]:
                raise RuntimeError(f"the history was refused: {answer.status_code} {answer.text[:300]}")
    return len(events)
