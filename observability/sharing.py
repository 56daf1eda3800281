"""Several processes, one page of metrics: each writes counts to a file of its own below DATA_DIR, whoever is asked adds
them up.

The files of processes that ended are added to one file of the dead, so that a total never goes back and files do not
pile up. Containers and hosts that share DATA_DIR do not share files: their process ids may be the same.
"""

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric, start_http_server, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from observability import heartbeats
from observability.meters import meters
from observability.tally import tally

log = logging.getLogger(__name__)

# The library says nothing of their types.
_file: Any = MmapedDict
_collector: Any = MultiProcessCollector
_values: Any = values

#: In place of the process id; no process has it.
_DEAD = "0"
_LOCK = "lock"
#: Some hundreds of series fit; the library would double it.
_FILE_BYTES = 256 * 1024
_HOST_KEPT_SECONDS = 7 * 86_400
_directory: Path | None = None


class _Allocated(MmapedDict):
    """A file of counts whose blocks are on the disk before it is written to: else the first count on a full disk would
    kill the process (SIGBUS). Without room it is in memory, seen by nobody, and the work goes on."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        try:
            _allocate(filename)
        except OSError as error:
            log.warning("this process's counts are not shared: %s: %s", filename, error.strerror)
            filename = f"/proc/self/fd/{os.memfd_create('metrics')}"
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]


def _allocate(filename: str) -> None:
    with open(filename, "ab") as file:
        was_empty = os.fstat(file.fileno()).st_size == 0
        try:
            os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)
        except OSError:
            if was_empty:  # no reader knows what to make of such a file
                os.unlink(filename)
            raise


def share(data_dir: Path) -> None:
    """Let this process's meters, which nobody used yet, write to files that all processes of this host read. Where that
    cannot be, they stay its own."""
    global _directory
    directory = data_dir / "metrics" / heartbeats.host()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _LOCK).touch()
    except OSError as error:
        log.warning("this process's counts are not shared: %s: %s", directory, error.strerror)
        return
    _forget_hosts(directory.parent)
    # The library reads it whenever it opens a file, also in a forked child.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    _values.MmapedDict = _Allocated
    _values.ValueClass = _values.MultiProcessValue()
    _directory = directory


def registry_of_all(own: CollectorRegistry) -> CollectorRegistry:
    """What to print: the sums over all processes of this host, or ``own`` in a process that shares nothing."""
    tally.fold()
    if _directory is None:
        return own
    registry = CollectorRegistry()
    with _alone(_directory):
        _bury(_directory)
        # Read now, while no other process moves counts from file to file.
        registry.register(_Read(list(_collector(None, str(_directory)).collect())))
    return registry


def serve(listen: str) -> None:
    """Answer ``GET /metrics`` at this ``host:port`` from a thread, without a key: the sums over all processes of this
    host. Raises OSError when the port is taken."""
    host, _, port = listen.rpartition(":")
    registry = CollectorRegistry()
    registry.register(_Fresh())
    start_http_server(int(port), host.strip("[]"), registry=registry)
    log.info("metrics of this host's processes at http://%s/metrics", listen)


class _Fresh:
    """The sums of the moment that somebody asks."""

    def collect(self) -> Iterable[Metric]:
        return registry_of_all(meters().registry).collect()

    def describe(self) -> list[Metric]:
        return []


class _Read:
    """Metrics that were read already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with (directory / _LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # Somebody asks: this host is in use.
        os.utime(file.fileno())
        yield


def _forget_hosts(root: Path) -> None:
    """A container that is made anew has a new name each time; those that nobody asked for long are gone."""
    for lock in root.glob(f"*/{_LOCK}"):
        if time.time() - lock.stat().st_mtime > _HOST_KEPT_SECONDS:
            shutil.rmtree(lock.parent, ignore_errors=True)


def _bury(directory: Path) -> None:
    for path in directory.glob("*.db"):
        kind, _, pid = path.stem.rpartition("_")
        if pid == _DEAD or not pid.isdecimal() or _lives(int(pid)):
            continue
        dead = str(directory / f"{kind}_{_DEAD}.db")
        try:
            _allocate(dead)
        except OSError:  # there is no room: its file stays, and is counted as it is
            return
        counted = _file.read_all_values_from_file(str(path))
        total = _Allocated(dead)
        # Gone first: of a process that is killed here counts are lost, and none is doubled.
        path.unlink()
        _add(total, counted)


def _add(total: Any, counted: Iterable[tuple[str, float, float, int]]) -> None:
    for key, value, _timestamp, _position in counted:
        total.write_value(key, total.read_value(key)[0] + value, 0.0)
    total.close()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True
