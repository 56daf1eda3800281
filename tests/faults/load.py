"""Selections without pause, while something is broken: every answer kept, every error kept."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Load:
    """What came of it. ``seconds`` are the times that answers took."""

    decisions: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def tell(self, what: str) -> None:
        """Print what was measured (shown by pytest -rP, and on failure)."""
        ordered = sorted(self.seconds)
        p50, p99, most = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1]
        print(  # noqa: T201
            f"{what}: {len(ordered)} selections, {len(self.errors)} errors, p50 {p50 * 1000:.0f} ms, "
            f"p99 {p99 * 1000:.0f} ms, longest {most * 1000:.0f} ms, {dict(self.reasons)}"
        )


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
