"""Whatever is broken, selections answer with 0 errors and the right reason, and recover by themselves.

Real processes (granian, Celery worker, beat) on a real PostgreSQL, Redis and ClickHouse server.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.conftest import Breaking
from tests.faults.load import Load, calm, load
from tests.faults.product import ASKED, Product, kill, running_product
from tests.faults.proxy import Fault
from tests.faults.table import Promise, Row
from tests.flows.apart import ROOT
from tests.services import (
    ServiceMissing,
    require,
    wait_until,
)
from tests.telemetry.engines import missing

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One of its own: metrics grow old in it, and at the end nothing runs but the web server."""
    with running_product(tmp_path_factory.mktemp("selections"), timedelta(minutes=14)) as one:
        yield one


def answered_by(told: Load, row: Row, before: Load | None, *reasons: str) -> None:
    told.tell(row, before)
    assert told.errors == []
    assert set(told.reasons) <= set(reasons)
    assert told.decisions


def safety(product: Product) -> dict[str, Any]:
    told: dict[str, Any] = httpx.get(f"http://127.0.0.1:{product.apart.port}/readyz").json()["checks"]["flag"]
    return told


def count(product: Product) -> int:
    script = (
        "from routing.models import Selection; print(Selection.objects.filter(in_clickhouse=False).count())"
    )
    return int(product.apart.manage("shell", "--no-imports", "-c", script))


def test_0_a_change_made_in_another_process_is_in_effect_within_5_seconds(
    product: Product, breaking: Breaking
) -> None:
    row = breaking("the flag flipped by a command, in another process", Promise.OVERRIDE)
    took = []
    flip = "from overrides.models import Flag; Flag.objects.update(everyone={})"
    for everyone, reason in ((False, "flag_off"), (None, "ranked")):
        product.apart.manage("shell", "--no-imports", "-c", flip.format(everyone))
        began = time.monotonic()
        product.until(reason, timeout=5)
        took.append(f"{reason} after {time.monotonic() - began:.1f} s")
    row.measured = ", ".join(took)


def test_1_with_clickhouse_stopped_metrics_grow_old_give_the_default_and_recover(
    product: Product, breaking: Breaking
) -> None:
    stopped = breaking("ClickHouse stopped for minutes", Promise.SELECTION)
    stale = breaking("ClickHouse stopped until metrics are 15 minutes old", Promise.STALE)
    assert product.ask()["freshness"] == "degraded"
    before = calm(product.client)
    product.clickhouse.server.stop()
    with load(product.client) as told:
        # The newest completion is about to be 15 minutes old, and nothing newer can be rolled up.
        product.until("telemetry_stale", timeout=120)
        turned = datetime.now(UTC)
        time.sleep(1)
    answered_by(told, stopped, before, "ranked", "telemetry_stale")
    as_of = datetime.fromisoformat(product.ask()["as_of"])
    assert told.reasons["telemetry_stale"]
    # Other scopes' newest completions are a few seconds younger.
    wait_until(lambda: not safety(product)["ok"], "readiness tells that the flag is not safe", timeout=60)
    wait_until(lambda: "alert flag_on_without_telemetry began" in product.logs("worker"), "the alert", 60)
    assert (safety(product)["telemetry"], safety(product)["cause"]) == ("stale", "clickhouse_down")
    product.clickhouse.server.start()
    now = datetime.now(UTC)
    product.report(now - timedelta(minutes=14), now)
    began = time.monotonic()
    product.until("ranked")
    assert product.ask()["freshness"] == "fresh"
    stale.measured = (
        f"defaults when metrics were {(turned - as_of).total_seconds():.0f} s old; readiness and alert told of it; "
        f"ranked again {time.monotonic() - began:.0f} s after new telemetry"
    )


@pytest.mark.parametrize(
    "fault", [Fault.DELAY, Fault.TRUNCATE, Fault.BLACKHOLE, Fault.REFUSE], ids=lambda f: f.value
)
def test_2_a_clickhouse_that_misbehaves_is_not_felt_by_selections(
    product: Product, fault: Fault, breaking: Breaking
) -> None:
    row = breaking(f"ClickHouse {fault.value}", Promise.SELECTION)
    before, hits = calm(product.client), product.proxy.hits
    with product.proxy.misbehaving(fault), load(product.client) as told:
        told.go_on(5)
    assert product.proxy.hits > hits
    answered_by(told, row, before, "ranked")


def test_3_a_stopped_redis_is_not_felt_by_selections_and_the_pipeline_goes_on_afterwards(
    product: Product, breaking: Breaking
) -> None:
    row = breaking("Redis stopped for 5 s", Promise.SELECTION)
    before = calm(product.client)
    product.redis.server.stop()
    with load(product.client) as told:
        time.sleep(5)
        product.redis.server.start()
        time.sleep(1)
    answered_by(told, row, before, "ranked")
    wait_until(lambda: count(product) == 0, "everything is published", timeout=180)


def test_4_a_restarted_postgresql_costs_no_answer_and_no_decision(
    product: Product, breaking: Breaking
) -> None:
    row = breaking("PostgreSQL restarted, away for 4 s", Promise.DURABLE)
    with load(product.client) as told:
        time.sleep(1)
        product.postgres.restart(pause=4)
        time.sleep(3)
    answered_by(told, row, None, "ranked")
    wait_until(
        lambda: missing_decisions(product, told) == set(), "every answered decision is stored", timeout=180
    )
    row.measured += "; all of them stored and published afterwards"


def missing_decisions(product: Product, told: Load) -> set[str]:
    """Decisions that were answered and are not in ClickHouse (which has what the database had)."""
    rows = product.door().query("SELECT toString(decision_id) AS id FROM selections FINAL")
    return set(told.decisions) - {row["id"] for row in rows}


@pytest.mark.parametrize("shift", ["+10m", "-10m"])
def test_5_a_clock_ten_minutes_off_still_ranks(product: Product, shift: str, breaking: Breaking) -> None:
    row = breaking(f"the web server's clock {shift}", Promise.SELECTION)
    try:
        require("faketime")
    except ServiceMissing as reason:
        missing(reason)
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    now = datetime.now(UTC)
    product.report(now - timedelta(minutes=3), now)
    wait_until(lambda: product.ask()["freshness"] == "fresh", "fresh metrics", timeout=180)
    # Only what the clock says: time that passes stays true.
    faked = {"LD_PRELOAD": str(library), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with product.another_web(**faked) as client, load(client) as told:
        told.go_on(3)
    answered_by(told, row, None, "ranked")


def test_6_twenty_at_once_with_one_request_id_make_one_decision(product: Product, breaking: Breaking) -> None:
    row = breaking("20 requests at once with one request_id", Promise.DURABLE)
    body = {**ASKED, "conversation_id": "at-once", "request_id": "r-1"}

    def one(_: int) -> bytes:
        answer = product.client.post("/selections", json=body)
        assert answer.status_code == 200, answer.text
        return answer.content

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(one, range(20)))) == 1
    other = product.client.post("/selections", json={**body, "task": "code"})
    assert (other.status_code, other.json()["code"]) == (409, "request_id_reused")
    row.measured = "one decision, 20 equal answers; another request under that id: 409"


def test_7_the_publisher_killed_50_times_leaves_every_decision_in_clickhouse_once(
    product: Product, breaking: Breaking
) -> None:
    row = breaking("publisher of decisions killed -9 50 times", Promise.DURABLE)
    with load(product.client) as told:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.killed", "publisher", "50"],
            cwd=ROOT,
            env=product.apart.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    answered_by(told, row, None, "ranked")
    wait_until(lambda: count(product) == 0, "everything is published", timeout=180)
    assert missing_decisions(product, told) == set()
    [kept] = product.door().query(
        "SELECT count() AS n, uniqExact(decision_id) AS different, countIf(replay = 'equal') AS equal "
        "FROM selections FINAL"
    )
    assert kept["n"] == kept["different"]
    assert kept["equal"] == kept["n"]
    row.measured = f"{done.stdout.strip()}; {kept['n']:,} decisions, each there once, each replayed equal"


def test_8_with_beat_and_worker_gone_selections_go_on_and_old_metrics_stop_steering(
    product: Product, breaking: Breaking
) -> None:
    gone, later = (
        breaking("beat and worker gone", Promise.SELECTION),
        breaking("16 minutes later", Promise.STALE),
    )
    before = calm(product.client)
    for name, process in list(product.apart.processes.items()):
        if not name.startswith("web") and process.poll() is None:
            kill(process)
    with load(product.client) as told:
        told.go_on(3)
    answered_by(told, gone, before, "ranked")
    # A web server that lives a quarter of an hour later sees the same snapshot.
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    faked = {"LD_PRELOAD": str(library), "FAKETIME": "+16m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with product.another_web(**faked) as client, load(client) as told:
        told.go_on(2)
    answered_by(told, later, None, "telemetry_stale")
