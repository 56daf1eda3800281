"""Load by wrk, and what it costs the processes that serve it."""

import os
import re
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.services import require

_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """What wrk saw. ``cpu_us`` is processor time per request of the watched processes, in their order, in us."""

    rps: float
    p50_us: float
    p99_us: float
    requests: int
    errors: int
    cpu_us: tuple[float, ...] = ()


def wrk(
    url: str,
    *,
    connections: int,
    seconds: float,
    script: Path | None = None,
    watched: tuple[Callable[[], Iterable[int]], ...] = (),
) -> Load:
    """Ask this address over so many kept connections. ``script``: wrk's Lua. ``watched``: each gives the process ids
    whose time, with that of all their children, is counted together. Raises RuntimeError when nothing was answered."""
    command = [require("wrk"), "-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s", "--latency"]
    # After wrk's own 2 s a slow answer would be an error.
    command += ["--timeout", "30s"]
    if script is not None:
        command += ["-s", str(script)]
    before = [cpu_seconds(pids()) for pids in watched]
    told = subprocess.run(
        [*command, url], capture_output=True, text=True, timeout=seconds + 60, check=True
    ).stdout
    spent = [cpu_seconds(pids()) - was for pids, was in zip(watched, before, strict=True)]
    found = parse(told)
    if found.requests == 0:
        raise RuntimeError(f"nothing was answered by {url}:\n{told}")
    return Load(
        **{**found.__dict__, "cpu_us": tuple(seconds * 1e6 / found.requests for seconds in spent)},
    )


def parse(told: str) -> Load:
    """wrk's report. An answer that is no 2xx or 3xx is an error, as is a connection that fails."""
    refused = _number(r"Non-2xx or 3xx responses: (\d+)", told)
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", told)
    return Load(
        rps=_number(r"Requests/sec:\s+([\d.]+)", told),
        p50_us=_microseconds(r"50%\s+([\d.]+)(us|ms|s|m)", told),
        p99_us=_microseconds(r"99%\s+([\d.]+)(us|ms|s|m)", told),
        requests=int(_number(r"(\d+) requests in", told)),
        errors=int(refused) + (sum(map(int, sockets.groups())) if sockets else 0),
    )


def _number(pattern: str, told: str) -> float:
    found = re.search(pattern, told)
    return float(found[1]) if found else 0.0


def _microseconds(pattern: str, told: str) -> float:
    found = re.search(pattern, told)
    return float(found[1]) * _UNITS[found[2]] if found else 0.0


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time, user's and system's, of these processes and all below them: those that live, and those that
    ended and were waited for (PostgreSQL's workers come and go)."""
    total = 0.0
    for pid in family(pids):
        with suppress(OSError):  # it ended meanwhile
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / _TICK
    return total


def family(pids: Iterable[int]) -> set[int]:
    """These processes and all below them."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, left = set(), list(pids)
    while left:
        pid = left.pop()
        found.add(pid)
        left += parents.get(pid, [])
    return found
