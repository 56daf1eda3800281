"""What the processes below this one take: memory and processor time, read from /proc every few seconds."""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PERIOD_SECONDS = 5.0
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1_000_000
_TICK = os.sysconf("SC_CLK_TCK")
#: What a command line holds that begins a process of this role; its children have the same.
ROLES = {
    "granian": "web",
    "celery -A config worker": "worker",
    "celery -A config beat": "beat",
    "clickhouse-server": "ClickHouse",
    "redis-server": "Redis",
    "postgres": "PostgreSQL",
    "locust": "load",
}


@dataclass(frozen=True, slots=True)
class Process:
    """One look at one process: megabytes in memory, processor seconds so far."""

    role: str
    rss_mb: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """``at`` is monotonic; ``busy_seconds`` is what all cores of the machine have worked so far, for whomever."""

    at: float
    processes: Mapping[int, Process]
    busy_seconds: float


@dataclass
class Samples:
    taken: list[Sample] = field(default_factory=list)

    def memory(self, skip_seconds: float) -> dict[tuple[str, int], list[tuple[float, float]]]:
        """(time, MB) by role and process, of processes that were there from the end of the warm-up to the end."""
        kept = [sample for sample in self.taken if sample.at >= self.taken[0].at + skip_seconds]
        if not kept:
            return {}
        alive = set.intersection(*(set(sample.processes) for sample in kept))
        return {
            (kept[0].processes[pid].role, pid): [(sample.at, sample.processes[pid].rss_mb) for sample in kept]
            for pid in sorted(alive)
        }

    def cores(self) -> tuple[dict[str, float], float]:
        """How many cores each role kept busy on average, and all the machine together."""
        if len(self.taken) < 2:
            return {}, 0.0
        first, last = self.taken[0], self.taken[-1]
        seconds = last.at - first.at
        used: dict[str, float] = {}
        for pid, process in last.processes.items():
            before = first.processes[pid].cpu_seconds if pid in first.processes else 0.0
            used[process.role] = used.get(process.role, 0.0) + (process.cpu_seconds - before) / seconds
        return used, (last.busy_seconds - first.busy_seconds) / seconds


def write(samples: Samples, path: Path) -> None:
    """All looks as CSV, for whoever wants the curve: seconds since the first, role, process, MB."""
    lines = ["seconds,role,pid,rss_mb"]
    for sample in samples.taken:
        at = sample.at - samples.taken[0].at
        lines += [f"{at:.0f},{one.role},{pid},{one.rss_mb:.1f}" for pid, one in sample.processes.items()]
    path.write_text("\n".join(lines) + "\n")


@contextmanager
def sampling(period: float = PERIOD_SECONDS) -> Iterator[Samples]:
    """Look at once, every ``period`` seconds, and at the end of the block."""
    samples, stop = Samples(), threading.Event()

    def run() -> None:
        while True:
            samples.taken.append(look(os.getpid()))
            if stop.wait(period):
                return

    thread = threading.Thread(target=run, name="sampling", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
        samples.taken.append(look(os.getpid()))


def look(root: int) -> Sample:
    """All processes below ``root`` whose role is known."""
    found: dict[int, Process] = {}
    children = _children()
    waiting = [(pid, _role(pid)) for pid in children.get(root, ())]
    while waiting:
        pid, role = waiting.pop()
        process = _process(pid, role) if role else None
        if process:
            found[pid] = process
        waiting += [(child, role or _role(child)) for child in children.get(pid, ())]
    return Sample(time.monotonic(), found, _busy())


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (stat := _stat(int(folder.name))):
            found.setdefault(int(stat[1]), []).append(int(folder.name))
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields after the name, which may hold anything; None: it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _role(pid: int) -> str | None:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    return next((role for part, role in ROLES.items() if part in command), None)


def _process(pid: int, role: str) -> Process | None:
    if not (stat := _stat(pid)):
        return None
    return Process(role, int(stat[21]) * _PAGE_MB, (int(stat[11]) + int(stat[12])) / _TICK)


def _busy() -> float:
    """All but idle and waiting for disks."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICK
