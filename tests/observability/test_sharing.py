"""Files of counts: what dies is added up, what is gone is forgotten."""

import errno
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


@pytest.mark.parametrize("full", [True, False])
def test_a_full_disk_loses_counts_and_stops_no_work(
    sharing_here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, full: bool
) -> None:
    def no_room(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        if full:
            patched.setattr(os, "posix_fallocate", no_room)
        ours = Meters()
        ours.events("accepted").inc()
        ours.task_seconds("a").observe(1)
    assert ("not shared" in caplog.text) is full
    # Nothing half-made is left for whoever reads.
    assert read("selection_events_ingested_total", result="accepted") == (None if full else 1)


def test_room_is_taken_before_it_is_written_to(sharing_here: Path) -> None:
    Meters().events("accepted").inc()
    [file] = sharing_here.glob("counter_*.db")
    assert file.stat().st_blocks * 512 >= 256 * 1024


def test_the_dead_wait_in_their_files_while_there_is_no_room(
    sharing_here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_elsewhere(tmp_path)

    def no_room(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", no_room)
        assert read("selection_events_ingested_total", result="accepted") == 2
    assert not list(sharing_here.glob("*_0.db"))
    assert read("selection_events_ingested_total", result="accepted") == 2
    assert list(sharing_here.glob("counter_0.db"))


def test_a_folder_that_cannot_be_made_leaves_counts_to_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sharing, "_directory", None)
    (tmp_path / "metrics").write_text("no folder")
    sharing.share(tmp_path)
    own = CollectorRegistry()
    assert sharing.registry_of_all(own) is own
    assert "not shared" in caplog.text


def test_a_process_that_shares_nothing_tells_of_itself() -> None:
    own = CollectorRegistry()
    assert sharing.registry_of_all(own) is own
