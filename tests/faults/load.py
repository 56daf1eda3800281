"""Selections without pause, while something is broken: every answer kept, every error kept."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.faults.table import Row
from tests.services import wait_until

#: By how much the 99th percentile may grow under a fault, in ms: the design's section 14.
P99_MS = 10


@dataclass
class Load:
    """What came of it. ``seconds`` are the times that answers took."""

    decisions: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def p99_ms(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)] * 1000

    def go_on(self, seconds: float, answers: int = 30) -> None:
        """For so long, and until there are so many answers: a busy machine gives few in a second."""
        time.sleep(seconds)
        wait_until(lambda: len(self.seconds) >= answers, f"{answers} answers", timeout=60)

    def tell(self, row: Row, calm: "Load | None" = None) -> None:
        """Fill in a row of the table; ``calm``: the same load before the fault, that p99 is compared with."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())
        before = f"{calm.p99_ms:.0f} -> " if calm else ""
        row.measured = (
            f"{len(self.errors)} errors in {len(self.seconds):,} selections ({reasons}); "
            f"p99 {before}{self.p99_ms:.0f} ms, longest {max(self.seconds) * 1000:.0f} ms"
        )
        if calm and self.p99_ms - calm.p99_ms > P99_MS:
            # Not a failure: what else the machine did meanwhile is in it.
            row.held = "but for p99"


def calm(client: httpx.Client, seconds: float = 2.0) -> Load:
    """The load while nothing is broken."""
    with load(client) as told:
        told.go_on(seconds)
    assert told.errors == []
    return told


@contextmanager
def load(client: httpx.Client, threads: int = 2) -> Iterator[Load]:
    """Ask from ``threads`` threads, a new conversation each time, until the block ends."""
    told, stop, lock = Load(), threading.Event(), threading.Lock()

    def ask(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            body = {"tenant": "aurora", "persona": "essayist", "conversation_id": f"load-{number}-{count}"}
            began = time.perf_counter()
            error, answer = _post(client, body)
            with lock:
                told.seconds.append(time.perf_counter() - began)
                if answer is None:
                    told.errors.append(error)
                else:
                    told.decisions[answer["decision_id"]] = answer["profile"]["slug"]
                    told.reasons[answer["reason"]] += 1

    running = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield told
    finally:
        stop.set()
        for thread in running:
            thread.join(30)


def _post(client: httpx.Client, body: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    try:
        answer = client.post("/selections", json=body)
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}", None
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text[:200]}", None
    found: dict[str, Any] = answer.json()
    return "", found
