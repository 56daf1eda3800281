"""Files of counts: what dies is added up, what is gone is forgotten."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, values
from prometheus_client.values import MutexValue

from observability import heartbeats, sharing
from observability.meters import Meters

#: Counts twice and ends, as a process that was stopped.
COUNT = """
import sys
from pathlib import Path
import django
django.setup()
from observability.meters import meters
from observability.sharing import share
share(Path(sys.argv[1]))
meters().events("accepted").inc(2)
meters().task_seconds("a").observe(0.2)
"""


@pytest.fixture
def sharing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr(sharing, "_directory", None)
    sharing.share(tmp_path)
    yield tmp_path / "metrics" / heartbeats.host()
    values.ValueClass = MutexValue


def read(name: str, **labels: str) -> float | None:
    return sharing.registry_of_all(CollectorRegistry()).get_sample_value(name, labels)


def count_elsewhere(folder: Path) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DATA_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", COUNT, str(folder)], env=environment, check=True, timeout=60)


def test_the_counts_of_processes_that_ended_stay_in_one_file(sharing_here: Path, tmp_path: Path) -> None:
    Meters().events("accepted").inc()
    for _ in range(2):
        count_elsewhere(tmp_path)
    assert len(list(sharing_here.glob("counter_*.db"))) == 3
    for _ in range(2):
        assert read("selection_events_ingested_total", result="accepted") == 5
        assert read("selection_task_seconds_count", task="a") == 2
        assert read("selection_task_seconds_bucket", task="a", le="0.25") == 2
        assert read("selection_task_seconds_bucket", task="a", le="0.1") == 0
    pids = {path.stem.rpartition("_")[2] for path in sharing_here.glob("counter_*.db")}
    assert pids == {"0", str(os.getpid())}


def test_hosts_that_nobody_asks_any_more_are_forgotten(sharing_here: Path, tmp_path: Path) -> None:
    for name, days in (("gone", 8), ("quiet", 6)):
        folder = sharing_here.parent / name
        folder.mkdir()
        lock = folder / "lock"
        lock.touch()
        at = time.time() - days * 86_400
        os.utime(lock, (at, at))
    sharing.share(tmp_path)
    assert {path.name for path in sharing_here.parent.iterdir()} == {"quiet", heartbeats.host()}


def test_a_process_that_shares_nothing_tells_of_itself() -> None:
    own = CollectorRegistry()
    assert sharing.registry_of_all(own) is own
