"""Run a locustfile in a process of its own, and read back what it noted."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from load.figures import Asked
from load.forms import loopback

ROOT = Path(__file__).parents[1]
#: How long requests under way may take to end after the time is over.
_STOP_SECONDS = 30


class LocustError(RuntimeError):
    """Locust itself failed; the message has the end of its log."""


@dataclass
class Recorded:
    """Requests, and ids that the product acknowledged; ``more`` is what a locustfile noted besides, by name."""

    asked: list[Asked] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    more: dict[str, float] = field(default_factory=dict)

    @property
    def errors(self) -> Counter[str]:
        return Counter(f"{one.name}: {one.error}" for one in self.asked if one.error is not None)


def run(
    name: str, url: str, key: str, order: Mapping[str, object], folder: Path, users: int, seconds: int
) -> Recorded:
    """``seconds`` is when it ends at the latest; a locustfile may quit before. LocustError when it cannot run."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / f"{name}.jsonl"
    log = folder / f"{name}.log"
    command = [
        *(sys.executable, "-m", "locust", "--locustfile", str(ROOT / "load/users" / f"{name}.py")),
        *("--headless", "--only-summary", "--host", loopback(url)),
        *("--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds}s"),
        *("--stop-timeout", str(_STOP_SECONDS), "--exit-code-on-error", "0", "--csv", str(folder / name)),
    ]
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        "PYTHONPATH": str(ROOT),
        "LOAD_KEY": key,
        "LOAD_ORDER": json.dumps(order),
        "LOAD_RECORD": str(record),
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            status = process.wait(timeout=seconds + _STOP_SECONDS + 60)
        except subprocess.TimeoutExpired:
            raise LocustError(f"{name}: locust did not end in time\n{_tail(log)}") from None
        finally:
            process.kill()
            process.wait()
    if status or not record.exists():
        raise LocustError(f"{name}: locust ended with {status}\n{_tail(log)}")
    return read(record)


def read(record: Path) -> Recorded:
    """What a locustfile noted, line by line."""
    found = Recorded()
    with record.open("rb") as lines:
        for line in map(orjson.loads, lines):
            if "asked" in line:
                found.asked.append(Asked(line["asked"], line["at"], line["ms"], line["error"]))
            elif "decision" in line:
                found.decisions.append(line["decision"])
                found.reasons[line["reason"]] += 1
            elif "event" in line:
                found.events.append(line["event"])
            else:
                found.more |= line
    return found


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]
