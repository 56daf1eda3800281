"""What ops/ starts, started: production mode, the units' commands, TLS in front, a backup, a rolling restart."""

import json
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import factories
from tests.ops.deployed import HOST, Deployed, deployed, nginx
from tests.ops.files import sample, unit
from tests.services import ServiceMissing, free_ports, wait_until
from tests.telemetry.engines import missing
from tests.worker.scenes import DEFAULT, message, playing, settings
from worker.tasks import make_app, send

pytestmark = [pytest.mark.services, pytest.mark.slow]
WEB = "selection-web.service"
#: Run by `manage.py shell`: a scope, and a key's header, printed.
SEED = """
from tests import factories
factories.scope()
print(factories.key(tenants=())["Authorization"])
"""


@dataclass
class InUse:
    product: Deployed
    key: dict[str, str]


@pytest.fixture(scope="module")
def in_use(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InUse]:
    """Both databases made by the unit's commands, `check --deploy` first; a scope, and a key."""
    try:
        with deployed(tmp_path_factory.mktemp("deployed")) as product:
            told = product.run("selection-migrate.service")
            assert told[0] == "System check identified no issues (0 silenced)."
            seeded = product.product.manage("shell", "--no-imports", "-c", SEED)
            yield InUse(product, {"Authorization": seeded.splitlines()[-1]})
    except ServiceMissing as reason:
        missing(reason)


def event() -> dict[str, Any]:
    return factories.event(occurred_at=datetime.now(UTC).isoformat())


def asked(conversation: str) -> dict[str, Any]:
    return {"tenant": "aurora", "persona": "essayist", "conversation_id": conversation}


def requests(client: httpx.Client, key: dict[str, str]) -> int:
    """How many completions the last 24 hours had, by roll-ups."""
    answer = client.get(
        "/api/v1/metrics/profiles", params={"tenant": "aurora", "persona": "essayist"}, headers=key
    )
    assert answer.status_code == 200, answer.text
    return sum(row["requests"] for row in answer.json()["profiles"])


def test_the_units_commands_serve_production_behind_the_proxy_and_back_it_up(
    in_use: InUse, tmp_path: Path
) -> None:
    product, key = in_use.product, in_use.key
    [port] = free_ports(1)
    web = product.start_web(port)
    worker = product.start("selection-worker.service")
    beat = product.start("selection-beat.service")
    with nginx(tmp_path, (port,)) as client:
        batch = [event() for _ in range(20)]
        answer = client.post("/api/v1/telemetry/completions", json=batch, headers=key)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 20)
        chosen = client.post("/api/v1/selections", json=asked("c-1"), headers=key)
        assert (chosen.status_code, chosen.json()["reason"]) == (200, "flag_off")
        assert "max-age" in chosen.headers["Strict-Transport-Security"]
        assert client.get("/metrics", headers=key).status_code == 404
        wait_until(lambda: requests(client, key) == 20, "every event counted once", timeout=90)
    wait_until(lambda: well(product), "heartbeats of worker and beat", timeout=90)
    [told] = product.run("selection-backup.service")
    assert "ClickHouse completions: 20 rows" in told
    folder = max((product.directory / "backups").glob("selection-*"))
    assert "as it was made" in product.product.manage(
        "restore", "--from", str(folder), "--check", "--no-progress"
    )
    running = {WEB: web, "selection-worker.service": worker, "selection-beat.service": beat}
    assert {name: product.end(process, name) for name, process in running.items()} == dict.fromkeys(
        running, 0
    )


def well(product: Deployed) -> bool:
    try:
        product.product.manage("health", "worker", "beat")
    except AssertionError:
        return False
    return True


def test_the_conversation_workers_unit_answers_messages(in_use: InUse, tmp_path: Path) -> None:
    broker = in_use.product.broker.removesuffix("/0") + "/1"
    with playing() as provider:
        environment = {
            **sample("worker.env.sample"),
            "WORKER_API_URL": "http://127.0.0.1:9",
            "WORKER_STATE_DIR": str(tmp_path),
            "WORKER_DEFAULT_PROFILE": DEFAULT.model_dump_json(),
            "WORKER_PROVIDER_URLS": json.dumps({"*": provider.url}),
            "WORKER_BROKER_URL": broker,
            "WORKER_RESULT_URL": broker,
        }
        [command] = in_use.product.commands("selection-conversations.service")
        process = in_use.product.product.start("conversations", *command, **environment)
        app = make_app(
            settings(tmp_path / "here", "http://127.0.0.1:9", broker_url=broker, result_url=broker)
        )
        answer = send(app, message()).get(timeout=60)
        assert answer["profile"] == DEFAULT.slug
        assert in_use.product.end(process, "selection-conversations.service") == 0


def test_a_request_under_way_is_answered_before_its_server_ends(in_use: InUse) -> None:
    [port] = free_ports(1)
    web = in_use.product.start_web(port)
    body = json.dumps([event()]).encode()
    head = (
        f"POST /api/v1/telemetry/completions HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-Proto: https\r\n"
        f"Authorization: {in_use.key['Authorization']}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.encode())
        # The view reads: the request is under way, and cannot be finished before its body is here.
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        web.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            web.wait(0.5)
        connection.sendall(body)
        answer = b"".join(iter(lambda: connection.recv(10_000), b""))
    assert answer.startswith(b"HTTP/1.1 202"), answer
    assert web.wait(unit(WEB).seconds("TimeoutStopSec")) == 0


def test_a_rolling_restart_behind_the_proxy_costs_workers_no_request(in_use: InUse, tmp_path: Path) -> None:
    ports = tuple(free_ports(2))
    webs = {port: in_use.product.start_web(port) for port in ports}
    seen: Counter[int | str] = Counter()
    stop = threading.Event()

    def ask(client: httpx.Client, thread: int) -> None:
        while not stop.is_set():
            number = sum(seen.values())
            try:
                if number % 2:
                    answer = client.post("/api/v1/telemetry/completions", json=[event()], headers=in_use.key)
                else:
                    answer = client.post(
                        "/api/v1/selections", json=asked(f"{thread}-{number}"), headers=in_use.key
                    )
                seen[answer.status_code] += 1
            except httpx.HTTPError as error:
                seen[repr(error)] += 1

    def more() -> None:
        before = sum(seen.values())
        wait_until(lambda: sum(seen.values()) >= before + 40, "requests going on", timeout=120)

    with nginx(tmp_path, ports) as client:
        threads = [threading.Thread(target=ask, args=(client, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        try:
            for port, web in webs.items():
                more()
                assert in_use.product.end(web, WEB) == 0
                more()
                in_use.product.start_web(port)
                # Until the proxy asks it again: fail_timeout, as the deployment's steps say.
                time.sleep(3)
            more()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert set(seen) == {200, 202}, seen
