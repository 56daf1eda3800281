"""Flipped bits in what decisions are made from, and everything that beat starts, started twice at once."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from demo import timeline
from tests.faults.conftest import Breaking
from tests.faults.load import load
from tests.faults.product import ASKED, Product, kill
from tests.faults.table import Promise
from tests.services import wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow]
#: One byte in the midst of the newest payload, turned over and, done again, turned back. Behind the model's back.
FLIP = """
UPDATE {table} SET payload = set_byte(payload, length(payload) / 2, get_byte(payload, length(payload) / 2) # 255)
WHERE id = {pk} RETURNING id
"""
#: What the pipeline has not got through yet.
WAITING = """
SELECT (SELECT count(*) FROM telemetry_dirtybucket) + (SELECT count(*) FROM telemetry_spoolbatch)
    + (SELECT count(*) FROM routing_selection WHERE NOT in_clickhouse)
"""
WRITE_SNAPSHOT = """
from django.utils import timezone
from routing.snapshots import write_snapshot
from telemetry.clickhouse import get_clickhouse
print(write_snapshot(get_clickhouse(), timezone.now()).pk)
"""
#: Every task of the beat table, asked for by two beats in one instant.
TWICE = """
from config.celery import app
for entry in app.conf.beat_schedule.values():
    for _ in range(2):
        app.send_task(entry["task"])
"""


def sql(product: Product, statement: str) -> int:
    """The one number that it gives."""
    with psycopg.connect(product.postgres.url, autocommit=True) as database:
        [number] = database.execute(statement.encode()).fetchone() or [0]
    return int(number)


def flip(product: Product, table: str, pk: int | None = None) -> int:
    """Damage a record, or the newest one; its id. Done twice it is as before."""
    return sql(product, FLIP.format(table=table, pk=pk or f"(SELECT max(id) FROM {table})"))


def started_beside_a_damaged_one(product: Product) -> tuple[int, dict[str, Any]]:
    """The damaged snapshot, and what a process answers that started while it was the newest."""
    for _ in range(3):
        product.shell(WRITE_SNAPSHOT)
        damaged = flip(product, "routing_scoresnapshot")
        with product.another_web() as fresh:
            answer = fresh.post("/selections", json={**ASKED, "conversation_id": "damaged"}).json()
        if sql(product, "SELECT max(id) FROM routing_scoresnapshot") == damaged:
            return damaged, answer
        # Beat, once a minute, had a good one written meanwhile.
        flip(product, "routing_scoresnapshot", damaged)
    pytest.fail("each time another snapshot was written")


def test_a_flipped_bit_in_the_newest_snapshot_leaves_the_last_good_one_in_charge(
    product: Product, breaking: Breaking
) -> None:
    row = breaking("a bit of the newest snapshot flipped, in a process that starts then too", Promise.INTACT)
    good = product.shell(WRITE_SNAPSHOT)
    with load(product.client) as told:
        damaged, answer = started_beside_a_damaged_one(product)
        told.go_on(1)
    told.tell(row)
    assert told.errors == []
    assert set(told.reasons) == {"ranked"}
    assert answer["reason"] == "ranked"
    assert int(good) <= int(answer["snapshot_id"]) < damaged
    said = f"snapshot {damaged} does not match its checksum", f"snapshot {damaged} cannot be unpacked"
    assert any(one in product.logs("web").lower() for one in said)
    row.measured += "; a process that started meanwhile ranked by the last good one, and logged the damage"
    flip(product, "routing_scoresnapshot", damaged)


def test_a_flipped_bit_in_a_policy_revision_is_told_and_stops_no_decision(
    product: Product, breaking: Breaking
) -> None:
    row = breaking("a bit of the policy revision flipped that decisions were made from", Promise.INTACT)
    told = product.ask("damaged-policy")
    flipped = flip(product, "routing_policyrevision")
    try:
        with product.another_web() as fresh, load(fresh) as meanwhile:
            meanwhile.go_on(1)
            explained = fresh.get(f"/selections/{told['decision_id']}").json()
    finally:
        flip(product, "routing_policyrevision", flipped)
    assert meanwhile.errors == []
    assert set(meanwhile.reasons) == {"ranked"}
    assert explained["replay"]["verdict"] == "impossible"
    with product.another_web() as fresh:
        mended = fresh.get(f"/selections/{told['decision_id']}").json()["replay"]["verdict"]
    assert mended == "equal"
    meanwhile.tell(row)
    row.measured += f"; the replay says: {explained['replay']['detail'].rstrip('.')}; mended, it is equal"


@contextmanager
def beat_twice(product: Product) -> Iterator[None]:
    """A second beat and a second worker."""
    second = product.apart.start_beat()
    worker = product.apart.start_worker()
    try:
        yield
    finally:
        kill(second)
        kill(worker)


def test_two_beats_and_two_workers_count_and_record_nothing_twice(
    product: Product, breaking: Breaking
) -> None:
    totals = breaking("beat twice, worker twice, every task sent twice at once", Promise.TELEMETRY)
    audit = breaking("beat twice: an override that ends by the clock", Promise.AUDIT)
    now = datetime.now(UTC)
    wish = {
        "tenant": "cumulus",
        "persona": "essayist",
        "kind": "prefer",
        "profile": "gpt-5.5",
        "reason": "it ends under two beats",
        "expires_at": (now + timedelta(seconds=2)).isoformat(),
    }
    made = product.client.post("/settings/overrides", json=wish)
    assert made.status_code == 201, made.text
    with beat_twice(product):
        product.report(now - timedelta(minutes=3), now)
        time.sleep(2)
        for _ in range(3):
            product.shell(TWICE)
        wait_until(lambda: expiries(product, made.json()["id"]) > 0, "the audit log tells of the end", 120)
        wait_until(lambda: sql(product, WAITING) == 0, "the pipeline is empty", 120)
        product.shell(TWICE)
        wait_until(lambda: sql(product, WAITING) == 0, "the pipeline is empty again", 120)
    expected = Counter(
        (e["tenant"], e["persona"], e["profile"]) for e in timeline.events(now - timedelta(minutes=3), now)
    )
    with closing(product.door()) as door:
        [raw] = door.query("SELECT uniqExact(event_id) AS n FROM completions")
        counted = {
            table: door.query(f"SELECT sum(requests) AS n FROM {table} FINAL")[0]["n"]
            for table in ("rollup_5m", "rollup_1h", "rollup_24h")
        }
        [decided] = door.query("SELECT count() AS n, uniqExact(decision_id) AS ids FROM selections FINAL")
    assert set(counted.values()) == {raw["n"]}
    assert raw["n"] > sum(expected.values()) > 0
    assert decided["n"] == decided["ids"]
    totals.measured = (
        f"{raw['n']:,} distinct completions, the same in each roll-up; {decided['n']:,} decisions, each once"
    )
    assert expiries(product, made.json()["id"]) == 1
    assert "all as they were written" in product.apart.manage("audit", "verify")
    audit.measured = "one entry of its end; the chain of hashes holds"


def expiries(product: Product, override: int) -> int:
    found = product.client.get("/audit", params={"page_size": 200}).json()["results"]
    return sum(e["verb"] == "expire" and e["object_id"] == str(override) for e in found)
