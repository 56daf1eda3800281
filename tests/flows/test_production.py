"""The same code, apart: granian, Celery worker and beat on PostgreSQL, Redis and a ClickHouse server."""

import base64
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo import timeline
from demo.catalogue import PERSONAS, TENANTS
from tests.flows.apart import SEED, apart, totals
from tests.services import ClickHouseServer, ServiceMissing, clickhouse_server, postgres, redis, wait_until
from tests.telemetry.engines import missing

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def servers() -> Iterator[tuple[str, str, ClickHouseServer]]:
    try:
        with postgres() as database, redis() as broker, clickhouse_server() as clickhouse:
            yield database, broker.url, clickhouse
    except ServiceMissing as reason:
        missing(reason)


def post(client: httpx.Client, events: list[dict[str, Any]]) -> None:
    for first in range(0, len(events), 500):
        answer = client.post("/telemetry/completions", json=events[first : first + 500])
        assert (answer.status_code, answer.json()["rejected"]) == (202, [])


def select(client: httpx.Client) -> dict[str, Any]:
    body = {"tenant": "aurora", "persona": "essayist", "conversation_id": "c-1"}
    answer = client.post("/selections", json=body)
    assert answer.status_code == 200, answer.text
    decision: dict[str, Any] = answer.json()
    return decision


def assert_told_exactly(client: httpx.Client, events: list[dict[str, Any]]) -> None:
    expected = Counter((event["tenant"], event["persona"], event["profile"]) for event in events)
    wait_until(
        lambda: totals(client, tuple(TENANTS), tuple(PERSONAS)) == expected,
        "every event counted once",
        timeout=60,
    )


def pipeline(client: httpx.Client) -> dict[str, Any]:
    told: dict[str, Any] = client.get("/metrics/freshness").json()
    return told


def kill(process: Any) -> None:
    os.killpg(process.pid, 9)
    process.wait()


def test_killed_workers_and_a_stopped_clickhouse_lose_nothing_and_stop_no_selection(
    servers: tuple[str, str, ClickHouseServer], tmp_path: Path
) -> None:
    database, broker, clickhouse = servers
    environment = {
        "DEPLOYMENT_MODE": "DEVELOPMENT",
        "DATABASE_URL": database,
        "REDIS_URL": broker,
        "CLICKHOUSE_URL": clickhouse.url("selection"),
        "DRAIN_BLOCK_ROWS": "500",
        "BUNDLE_REFRESH_SECONDS": "1",
    }
    now = datetime.now(UTC)
    events = list(timeline.events(now - timedelta(hours=23), now))
    parts = [events[:6000], events[6000:9000], events[9000:]]
    with apart(tmp_path, **environment) as product:
        product.manage("migrate")
        product.manage("clickhouse_migrate")
        key = product.manage("shell", "--no-imports", "-c", SEED).splitlines()[-1]
        product.start_web()
        worker = product.start_worker()
        product.start_beat()
        with product.client(key) as client:
            assert select(client)["reason"] == "flag_off"

            post(client, parts[0])
            wait_until(lambda: pipeline(client)["pipeline"]["drained_at"] is not None, "a first drain")
            kill(worker)
            post(client, parts[1])
            # Sent again after a kill that nobody saw the end of: a worker's own retry.
            post(client, parts[0][-1000:])
            product.start_worker()
            assert_told_exactly(client, parts[0] + parts[1])

            clickhouse.server.stop()
            post(client, parts[2])
            wait_until(lambda: pipeline(client)["pipeline"]["clickhouse_down"], "the outage is noticed")
            assert pipeline(client)["pipeline"]["waiting_events"] == len(parts[2])
            assert select(client)["reason"] == "flag_off"
            assert (
                client.get("/rankings", params={"tenant": "aurora", "persona": "essayist"}).status_code == 200
            )
            clickhouse.server.start()
            assert_told_exactly(client, events)

            product.manage("shell", "--no-imports", "-c", "from demo.catalogue import turn_on; turn_on()")
            wait_until(lambda: select(client)["reason"] == "ranked", "a ranked decision", timeout=90)


def guess(port: int, token: str, forwarded: str) -> int:
    """Try to sign in through the proxy; the status."""
    answer = httpx.post(
        f"http://127.0.0.1:{port}/admin/login/",
        data={"username": "boss", "password": "guess", "csrfmiddlewaretoken": token},
        headers={
            "Host": "localhost",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-For": forwarded,
            "Referer": "https://localhost/admin/login/",
            "Cookie": f"__Host-csrftoken={token}",
        },
    )
    return answer.status_code


def test_production_settings_serve_over_https_only(
    servers: tuple[str, str, ClickHouseServer], tmp_path: Path
) -> None:
    database, broker, clickhouse = servers
    environment = {
        "DEPLOYMENT_MODE": "PRODUCTION",
        "SECRET_KEY": secrets.token_urlsafe(64),
        "ALLOWED_HOSTS": "localhost",
        "DATABASE_URL": database,
        "REDIS_URL": broker,
        "CLICKHOUSE_URL": clickhouse.url("selection"),
        "AUDIT_SIGNING_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    with apart(tmp_path, **environment) as product:
        product.manage("migrate")
        product.manage("collectstatic", "--noinput", "--verbosity", "0")
        product.start_web()
        with product.client("none") as client:
            secure = client.get("/metrics/freshness")
            assert secure.status_code == 401
            assert "max-age" in secure.headers["Strict-Transport-Security"]
            assert "default-src 'none'" in secure.headers["Content-Security-Policy"]
            plain = client.get("/metrics/freshness", headers={"X-Forwarded-Proto": "http"})
            assert plain.status_code == 301
            login = httpx.get(
                f"http://127.0.0.1:{product.port}/admin/login/",
                headers={"Host": "localhost", "X-Forwarded-Proto": "https"},
            )
            assert login.status_code == 200
            assert "PRODUCTION" in login.text
            assert login.headers["Set-Cookie"].startswith("__Host-csrftoken=")
            assert "Secure" in login.headers["Set-Cookie"]
            token = login.cookies["__Host-csrftoken"]
            assert [guess(product.port, token, "198.51.100.9") for _ in range(5)] == [200] * 4 + [429]
            # By the address that the proxy told, not by the proxy's own, nor by one that the client made up.
            assert guess(product.port, token, "198.51.100.10") == 200
            assert guess(product.port, token, "1.1.1.1, 198.51.100.9") == 429
            foreign = httpx.get(f"http://127.0.0.1:{product.port}/", headers={"Host": "evil.example"})
            assert foreign.status_code == 400
