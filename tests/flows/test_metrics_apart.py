"""Counts of several web processes are one page, and a killed process's are not lost."""

import os
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from tests.flows.apart import SEED, Apart, apart
from tests.services import free_ports, wait_until

pytestmark = pytest.mark.slow


def counts(text: str) -> tuple[float, float]:
    """Decisions, and selections answered."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    decisions = sum(one.value for one in samples if one.name == "selection_decisions_total")
    answered = [one for one in samples if one.name == "selection_http_requests_total"]
    return decisions, sum(one.value for one in answered if one.labels["route"] == "selections")


def scrape(product: Apart, key: str) -> tuple[float, float]:
    answer = httpx.get(
        f"http://127.0.0.1:{product.port}/metrics", headers={"Authorization": f"Api-Key {key}"}, timeout=10
    )
    assert answer.status_code == 200, answer.text
    return counts(answer.text)


def on_disk(directory: Path) -> tuple[float, float]:
    """The same from the files alone, without a process that is asked."""
    [folder] = (lock.parent for lock in directory.glob("metrics/*/lock"))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    return counts(generate_latest(registry).decode())


def counting(directory: Path) -> set[int]:
    """Process ids that have counted something."""
    return {int(path.stem.rpartition("_")[2]) for path in directory.glob("metrics/*/counter_*.db")} - {0}


def test_two_web_processes_are_added_up_and_a_killed_one_stays_counted(tmp_path: Path) -> None:
    with apart(tmp_path, DEPLOYMENT_MODE="DEVELOPMENT") as product:
        product.manage("migrate")
        key = product.manage("shell", "--no-imports", "-c", SEED).splitlines()[-1]
        web = product.start_web(GRANIAN_WORKERS="2", GRANIAN_RESPAWN_FAILED_WORKERS="true")
        asked = 0

        def ask() -> None:
            nonlocal asked
            # A connection of its own each: it may reach either process.
            with product.client(key) as client:
                body = {"tenant": "aurora", "persona": "essayist", "conversation_id": f"c-{asked}"}
                assert client.post("/selections", json=body).status_code == 200
            asked += 1

        def both_counted() -> bool:
            ask()
            return len(counting(tmp_path)) >= 2

        def all_counted() -> bool:
            return scrape(product, key) == (asked, asked)

        wait_until(both_counted, "work for both processes", timeout=60)
        # The other process adds to its file once a second; what a killed one had not added is lost.
        wait_until(all_counted, "the counts of both processes")
        killed = counting(tmp_path).pop()
        os.kill(killed, 9)

        def replaced() -> bool:
            try:
                return all_counted() and killed not in counting(tmp_path)
            except httpx.TransportError:
                return False

        wait_until(replaced, "the killed process's counts among those of the dead")
        wait_until(both_counted, "work for the process in its place", timeout=60)
        ask()
        web.terminate()
        web.wait(timeout=30)
        # One that is stopped adds what it has.
        assert on_disk(tmp_path) == (asked, asked)


def test_a_worker_of_its_own_host_is_scraped_by_itself(tmp_path: Path) -> None:
    from tests.services import ServiceMissing, redis
    from tests.telemetry.engines import missing

    [port] = free_ports(1)
    try:
        with redis() as broker, apart(tmp_path, REDIS_URL=broker.url) as product:
            product.manage("migrate")
            product.start(
                "worker",
                "celery",
                "-A",
                "config",
                "worker",
                "--concurrency",
                "1",
                METRICS_LISTEN=f"127.0.0.1:{port}",
            )
            product.start_beat()

            def told() -> bool:
                try:
                    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
                except httpx.TransportError:
                    return False
                return 'state="succeeded",task="routing.tasks.send_webhooks"' in text

            wait_until(told, "a task that the worker's page tells of", timeout=60)
            assert "beat: ok" in product.manage("health", "beat", "worker", "--here")
    except ServiceMissing as reason:
        missing(reason)
