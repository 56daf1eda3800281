"""Prometheus itself scrapes the product, and its alerts fire over what really happens there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from tests.flows.apart import SEED, apart
from tests.services import Server, ServiceMissing, free_ports, require, wait_until
from tests.telemetry.engines import missing

pytestmark = [pytest.mark.services, pytest.mark.slow]
RULES = Path(__file__).parents[2] / "ops" / "prometheus" / "alerts.yml"
#: The flag on with nothing to steer by, and a drain that finds no ClickHouse; nobody starts beat.
TROUBLE = """
from demo.catalogue import turn_on
from telemetry.tasks import drain_spool
turn_on()
drain_spool()
"""
FIRE = {"SelectionFlagOnWithoutTelemetry", "SelectionClickHouseDown", "SelectionBeatNeverHeardOf"}


@contextmanager
def prometheus(directory: Path, target: str, key: str) -> Iterator[str]:
    """Scrapes each second by the rules of ops/, whose conditions need to hold for two seconds only; its URL."""
    program = require("prometheus")
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["for"] = "2s"
    (directory / "alerts.yml").write_text(yaml.safe_dump(rules))
    job = {
        "job_name": "selection",
        "authorization": {"type": "Api-Key", "credentials": key},
        "static_configs": [{"targets": [target]}],
    }
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [job],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    [port] = free_ports(1)
    command = [
        program,
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    server = Server("prometheus", command, port, directory)
    try:
        server.start()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()


def alerts(url: str, state: str) -> set[str]:
    told = httpx.get(f"{url}/api/v1/alerts", timeout=5).json()["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in told if alert["state"] == state}


def test_what_goes_wrong_in_the_product_fires_in_prometheus_and_ends_with_it(tmp_path: Path) -> None:
    directory = tmp_path / "prometheus"
    directory.mkdir()
    nowhere = {"CLICKHOUSE_URL": "clickhouse://127.0.0.1:1/selection", "BUNDLE_REFRESH_SECONDS": "0.5"}
    try:
        with apart(tmp_path, DEPLOYMENT_MODE="DEVELOPMENT", **nowhere) as product:
            product.manage("migrate")
            key = product.manage("shell", "--no-imports", "-c", SEED).splitlines()[-1]
            product.start_web()
            with prometheus(directory, f"127.0.0.1:{product.port}", key) as url:
                wait_until(
                    lambda: alerts(url, "firing") == {"SelectionBeatNeverHeardOf"}, "the one alert of a start"
                )
                product.manage("shell", "--no-imports", "-c", TROUBLE)
                wait_until(lambda: alerts(url, "firing") == FIRE, f"the alerts {sorted(FIRE)}")
                product.manage("flag", "off", "--reason", "the figures cannot be trusted now")
                left = FIRE - {"SelectionFlagOnWithoutTelemetry"}
                wait_until(lambda: alerts(url, "firing") == left, f"only the alerts {sorted(left)}")
    except ServiceMissing as reason:
        missing(reason)
