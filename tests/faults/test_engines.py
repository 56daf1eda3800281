"""PostgreSQL and Redis behind a network that is late, cut, silent or closed: selections go on, so does the pipeline."""

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from demo import timeline
from tests.faults.conftest import Breaking
from tests.faults.load import calm, load
from tests.faults.product import ASKED, Product
from tests.faults.proxy import Fault, Proxy, proxy
from tests.faults.table import Promise
from tests.services import wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow]
FAULTS = pytest.mark.parametrize(
    "fault", [Fault.DELAY, Fault.TRUNCATE, Fault.BLACKHOLE, Fault.REFUSE], ids=lambda f: f.value
)
SECONDS = 4.0


def report_one(product: Product) -> str:
    """One completion, now; its id."""
    outcome = next(outcome for _, outcome in timeline.cycle() if outcome.persona == ASKED["persona"])
    event_id = str(uuid.uuid4())
    event = timeline.event(ASKED["tenant"], outcome, datetime.now(UTC), event_id, "after a fault")
    answer = product.client.post("/telemetry/completions", json=[event])
    assert answer.status_code == 202, answer.text
    return event_id


def there(product: Product, table: str, column: str) -> set[str]:
    rows = product.door().query(f"SELECT DISTINCT toString({column}) AS id FROM {table}")
    return {row["id"] for row in rows}


@FAULTS
def test_a_redis_that_misbehaves_is_not_felt_by_selections_and_the_pipeline_goes_on_afterwards(
    product: Product, fault: Fault, breaking: Breaking
) -> None:
    row = breaking(f"Redis {fault.value} (4 s)", Promise.SELECTION)
    before, hits = calm(product.client, 1), product.redis_proxy.hits
    with product.redis_proxy.misbehaving(fault), load(product.client) as told:
        told.go_on(SECONDS)
        wait_until(lambda: product.redis_proxy.hits > hits, "worker or beat notices", timeout=60)
    began = time.monotonic()
    told.tell(row, before)
    assert told.errors == []
    assert set(told.reasons) == {"ranked"}
    event_id = report_one(product)
    wait_until(lambda: event_id in there(product, "completions", "event_id"), "the pipeline goes on", 180)
    row.measured += f"; a completion drained {time.monotonic() - began:.0f} s after"


@pytest.fixture(scope="module")
def behind(product: Product) -> Iterator[tuple[httpx.Client, Proxy]]:
    """A web process that reaches PostgreSQL through a proxy only."""
    with proxy(product.postgres.server.port, delay=0.2) as between:
        url = f"postgres://postgres@127.0.0.1:{between.port}/postgres"
        with product.another_web(DATABASE_URL=url) as client:
            calm(client, 0.5)
            yield client, between


@FAULTS
def test_a_postgresql_that_misbehaves_costs_no_answer_and_no_decision(
    product: Product, behind: tuple[httpx.Client, Proxy], fault: Fault, breaking: Breaking
) -> None:
    row = breaking(f"PostgreSQL {fault.value} (4 s)", Promise.DURABLE)
    client, between = behind
    hits = between.hits
    with load(client) as told:
        with between.misbehaving(fault):
            told.go_on(SECONDS, answers=0)
        told.go_on(0)
    assert between.hits > hits
    told.tell(row)
    assert told.errors == []
    assert set(told.reasons) == {"ranked"}
    missing = set(told.decisions)

    def all_there() -> bool:
        missing.difference_update(there(product, "selections", "decision_id"))
        return not missing

    wait_until(all_there, "every answered decision is stored and published", timeout=180)
    row.measured += "; all of them stored and published afterwards"
