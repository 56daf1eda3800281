"""Whatever is broken, selections answer with 0 errors and the right reason, and recover by themselves.

Real processes (granian, Celery worker, beat) on a real PostgreSQL, Redis and ClickHouse server.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.load import Load, load
from tests.faults.product import ASKED, Product
from tests.faults.proxy import Fault
from tests.flows.apart import ROOT
from tests.services import (
    ServiceMissing,
    free_ports,
    require,
    wait_until,
)
from tests.telemetry.engines import missing

pytestmark = [pytest.mark.services, pytest.mark.slow]


def answered_by(told: Load, what: str, *reasons: str) -> None:
    told.tell(what)
    assert told.errors == []
    assert set(told.reasons) <= set(reasons)
    assert len(told.decisions) > 20


def safety(product: Product) -> dict[str, Any]:
    told: dict[str, Any] = httpx.get(f"http://127.0.0.1:{product.apart.port}/readyz").json()["checks"]["flag"]
    return told


def count(product: Product) -> int:
    script = (
        "from routing.models import Selection; print(Selection.objects.filter(in_clickhouse=False).count())"
    )
    return int(product.apart.manage("shell", "--no-imports", "-c", script))


def test_0_a_change_made_in_another_process_is_in_effect_within_5_seconds(product: Product) -> None:
    flip = "from overrides.models import Flag; Flag.objects.update(everyone={})"
    for everyone, reason in ((False, "flag_off"), (None, "ranked")):
        product.apart.manage("shell", "--no-imports", "-c", flip.format(everyone))
        began = time.monotonic()
        product.until(reason, timeout=5)
        print(f"{reason} {time.monotonic() - began:.1f} s after the command ended")  # noqa: T201


def test_1_with_clickhouse_stopped_metrics_grow_old_give_the_default_and_recover(product: Product) -> None:
    assert product.ask()["freshness"] == "degraded"
    product.clickhouse.server.stop()
    with load(product.client) as told:
        # The newest completion is about to be 15 minutes old, and nothing newer can be rolled up.
        product.until("telemetry_stale", timeout=120)
        time.sleep(1)
    answered_by(told, "ClickHouse stopped", "ranked", "telemetry_stale")
    assert told.reasons["telemetry_stale"]
    # Other scopes' newest completions are a few seconds younger.
    wait_until(lambda: not safety(product)["ok"], "readiness tells that the flag is not safe", timeout=60)
    assert (safety(product)["telemetry"], safety(product)["cause"]) == ("stale", "clickhouse_down")
    product.clickhouse.server.start()
    now = datetime.now(UTC)
    product.report(now - timedelta(minutes=14), now)
    product.until("ranked")
    assert product.ask()["freshness"] == "fresh"


@pytest.mark.parametrize(
    "fault", [Fault.DELAY, Fault.TRUNCATE, Fault.BLACKHOLE, Fault.REFUSE], ids=lambda f: f.value
)
def test_2_a_clickhouse_that_misbehaves_is_not_felt_by_selections(product: Product, fault: Fault) -> None:
    product.proxy.fault = fault
    try:
        with load(product.client) as told:
            time.sleep(7)
    finally:
        product.proxy.fault = Fault.NONE
    answered_by(told, f"ClickHouse {fault.value}", "ranked")


def test_3_a_stopped_redis_is_not_felt_by_selections_and_the_pipeline_goes_on_afterwards(
    product: Product,
) -> None:
    product.redis.server.stop()
    with load(product.client) as told:
        time.sleep(5)
        product.redis.server.start()
        time.sleep(1)
    answered_by(told, "Redis stopped", "ranked")
    wait_until(lambda: count(product) == 0, "everything is published", timeout=180)


def test_4_a_restarted_postgresql_costs_no_answer_and_no_decision(product: Product) -> None:
    with load(product.client) as told:
        time.sleep(1)
        product.postgres.restart(pause=4)
        time.sleep(3)
    answered_by(told, "PostgreSQL restarted", "ranked")
    wait_until(
        lambda: missing_decisions(product, told) == set(), "every answered decision is stored", timeout=180
    )


def missing_decisions(product: Product, told: Load) -> set[str]:
    """Decisions that were answered and are not in ClickHouse (which has what the database had)."""
    rows = product.door().query("SELECT toString(decision_id) AS id FROM selections FINAL")
    return set(told.decisions) - {row["id"] for row in rows}


@pytest.mark.parametrize("shift", ["+10m", "-10m"])
def test_5_a_clock_ten_minutes_off_still_ranks(product: Product, shift: str) -> None:
    try:
        require("faketime")
    except ServiceMissing as reason:
        missing(reason)
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    now = datetime.now(UTC)
    product.report(now - timedelta(minutes=3), now)
    [port] = free_ports(1)
    off = product.apart.start_web(
        port,
        LD_PRELOAD=str(library),
        FAKETIME=shift,
        # Only what the clock says: time that passes stays true.
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    try:
        with product.apart.client(product.key, port) as client, load(client) as told:
            time.sleep(3)
    finally:
        os.killpg(off.pid, 9)
        off.wait()
    answered_by(told, f"clock {shift}", "ranked")


def test_6_twenty_at_once_with_one_request_id_make_one_decision(product: Product) -> None:
    body = {**ASKED, "conversation_id": "at-once", "request_id": "r-1"}

    def one(_: int) -> bytes:
        answer = product.client.post("/selections", json=body)
        assert answer.status_code == 200, answer.text
        return answer.content

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(one, range(20)))) == 1
    other = product.client.post("/selections", json={**body, "task": "code"})
    assert (other.status_code, other.json()["code"]) == (409, "request_id_reused")


def test_7_the_publisher_killed_50_times_leaves_every_decision_in_clickhouse_once(product: Product) -> None:
    with load(product.client) as told:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.killed_publisher", "50"],
            cwd=ROOT,
            env=product.apart.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    answered_by(told, f"publisher: {done.stdout.strip()}", "ranked")
    wait_until(lambda: count(product) == 0, "everything is published", timeout=180)
    assert missing_decisions(product, told) == set()
    [row] = product.door().query(
        "SELECT count() AS n, uniqExact(decision_id) AS different, countIf(replay = 'equal') AS equal "
        "FROM selections FINAL"
    )
    assert row["n"] == row["different"]
    assert row["equal"] == row["n"]


def test_8_with_beat_and_worker_gone_selections_go_on_and_old_metrics_stop_steering(product: Product) -> None:
    for name, process in product.apart.processes.items():
        if not name.startswith("web") and process.poll() is None:
            os.killpg(process.pid, 9)
    with load(product.client) as told:
        time.sleep(3)
    answered_by(told, "beat and worker gone", "ranked")
    # A web server that lives a quarter of an hour later sees the same snapshot.
    [port] = free_ports(1)
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    later = product.apart.start_web(
        port, LD_PRELOAD=str(library), FAKETIME="+16m", FAKETIME_DONT_FAKE_MONOTONIC="1"
    )
    try:
        with product.apart.client(product.key, port) as client, load(client) as told:
            time.sleep(2)
    finally:
        os.killpg(later.pid, 9)
        later.wait()
    answered_by(told, "16 minutes later", "telemetry_stale")
