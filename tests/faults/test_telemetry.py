"""Accepted telemetry equals an oracle exactly, whatever is killed, doubled, late or garbage meanwhile."""

import gzip
import json
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.catalogue import PERSONAS, TENANTS
from telemetry.clickhouse import connect
from tests.faults.conftest import Breaking
from tests.faults.product import kill
from tests.faults.table import Promise
from tests.flows.apart import ROOT, SEED, Apart, apart
from tests.services import ServiceMissing, clickhouse_server, postgres
from tests.telemetry.engines import missing
from tests.telemetry.test_rollups import assert_equal_to_oracle

pytestmark = [pytest.mark.services, pytest.mark.slow]
KILLS = 50
DUPLICATES = 10
BATCHES, PER_BATCH = 40, 30
DRAIN = """
from django.utils import timezone
from telemetry import rollups, spool
from telemetry.clickhouse import get_clickhouse
while spool.drain(get_clickhouse(), timezone.now(), 10_000) or spool.backlog().batches:
    pass
while rollups.roll_up_dirty(get_clickhouse(), timezone.now):
    pass
"""
COUNTS = """
from telemetry.models import QuarantineCount
print(sum(QuarantineCount.objects.values_list("count", flat=True)))
"""
#: Each alone in a batch that is otherwise good.
GARBAGE = (
    '{"latency_ms": NaN}',
    '"not an object"',
    "null",
    '{"event_id": "' + "x" * 500 + '"}',
    '[[[[{"deep": 1e999}]]]]',
    '{"tenant": "\\ud800", "persona": "\\u0000"}',
    "-" + "9" * 400,
)


def make_events(count: int, now: datetime) -> list[dict[str, Any]]:
    """Random events of the last 48 hours of the demo's tenants and personas."""
    chance = random.Random(20261128)
    # The oldest must still be taken at the end of the test.
    span = int(timedelta(hours=47, minutes=30).total_seconds())
    return [
        {
            "event_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            "occurred_at": (now - timedelta(seconds=chance.randrange(span))).isoformat(),
            "tenant": chance.choice(list(TENANTS)),
            "persona": chance.choice(list(PERSONAS)),
            "profile": chance.choice(["gpt-5.4", "gpt-5.5"]),
            "conversation_id": f"storm-{number}",
            "task": chance.choice(["essay", "code"]),
            "success": chance.random() < 0.8,
            "escalated": chance.random() < 0.1,
            "safety_violation": chance.random() < 0.05,
            "latency_ms": int(chance.lognormvariate(8, 1)),
            "prompt_tokens": chance.randrange(5000),
            "completion_tokens": chance.randrange(5000),
            "cached_tokens": chance.choice([None, 0]),
            "cost_usd": f"{chance.randrange(10**9) / 10**9:.9f}",
            "accuracy": chance.choice([None, round(chance.random(), 6)]),
        }
        for number in range(count)
    ]


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Apart]:
    """Databases, migrated and seeded; nothing runs on them yet."""
    try:
        with postgres() as database, clickhouse_server() as clickhouse:
            environment = {
                "DEPLOYMENT_MODE": "DEVELOPMENT",
                "DATABASE_URL": database,
                "CLICKHOUSE_URL": clickhouse.url("selection"),
            }
            with apart(tmp_path, **environment) as running:
                running.manage("migrate")
                running.manage("clickhouse_migrate")
                yield running
    except ServiceMissing as reason:
        missing(reason)


@contextmanager
def being_killed(where: Apart, what: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.faults.killed", what, str(KILLS)]
    with subprocess.Popen(
        command, cwd=ROOT, env=where.environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            kill(process)


class Sender:
    """Posts batches as a worker's outbox would: again and again until it is told that one was taken."""

    def __init__(self, port: int, key: str) -> None:
        self.answers: Counter[str] = Counter()
        self._url = f"http://127.0.0.1:{port}/api/v1/telemetry/completions"
        self._client = httpx.Client(
            headers={"Authorization": f"Api-Key {key}", "Host": "localhost"}, timeout=10
        )
        self._chance = random.Random(3)

    def send(self, batch: list[dict[str, Any]]) -> None:
        """One batch with some garbage in between."""
        lines = [json.dumps(event) for event in batch]
        for bad in self._chance.sample(GARBAGE, 2):
            lines.insert(self._chance.randrange(len(lines)), bad)
        body = f"[{','.join(lines)}]".encode()
        headers = {"Content-Type": "application/json"}
        if self._chance.random() < 0.5:
            body, headers = gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
        answer = self._until_answered(body, headers)
        assert answer.status_code == 202, answer.text
        assert (answer.json()["accepted"], len(answer.json()["rejected"])) == (len(batch), 2)

    def garble(self, number: int) -> None:
        """A body of noise."""
        noise = random.Random(number).randbytes(300)
        assert 400 <= self._until_answered(noise, {"Content-Type": "application/json"}).status_code < 500

    def _until_answered(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = self._client.post(self._url, content=body, headers=headers)
            except httpx.TransportError:
                self.answers["cut off"] += 1
                assert time.monotonic() < deadline, "nobody answered for a minute"
                time.sleep(0.01)
            else:
                self.answers[str(answer.status_code)] += 1
                return answer


def test_killed_web_and_pipeline_duplicates_late_events_and_garbage_change_no_total(
    stored: Apart, breaking: Breaking
) -> None:
    row = breaking(
        f"ingest and drain/roll-up killed -9 {KILLS} times each, {DUPLICATES}x duplicates, 48 h late, garbage",
        Promise.TELEMETRY,
    )
    key = stored.manage("shell", "--no-imports", "-c", SEED).splitlines()[-1]
    events = make_events(BATCHES * PER_BATCH, datetime.now(UTC))
    batches = [events[first : first + PER_BATCH] for first in range(0, len(events), PER_BATCH)]
    turns = batches * DUPLICATES
    random.Random(5).shuffle(turns)
    with being_killed(stored, "web") as web, being_killed(stored, "pipeline") as pipeline:
        assert web.stdout is not None
        assert pipeline.stdout is not None
        sender = Sender(int(web.stdout.readline()), key)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(sender.send, turns))
            list(pool.map(sender.garble, range(50)))
            # Whoever is not done being killed goes on with more of the same.
            endings = [pool.submit(one.stdout.readline) for one in (web, pipeline) if one.stdout]
            while not all(ending.done() for ending in endings):
                sender.send(turns[0])
            killed = [ending.result().strip() for ending in endings]
    assert [line.split(",")[0] for line in killed] == [f"killed {KILLS} times"] * 2
    stored.manage("shell", "--no-imports", "-c", DRAIN)
    with closing(connect(stored.environment["CLICKHOUSE_URL"])) as door:
        assert_equal_to_oracle(door, events)
        [raw] = door.query("SELECT count() AS n, uniqExact(event_id) AS ids FROM completions")
    assert raw["ids"] == len(events)
    refused = int(stored.manage("shell", "--no-imports", "-c", COUNTS).splitlines()[-1])
    assert refused >= 2 * len(turns)
    cut, requests = sender.answers["cut off"], sum(sender.answers.values())
    row.measured = (
        f"{len(events):,} events sent in {requests:,} requests, {cut} of them cut off by a kill: "
        f"{raw['n']:,} raw rows, every roll-up (5m, 1h, 24h) equal to the oracle; {refused:,} bad events refused"
    )
