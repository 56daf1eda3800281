"""Counting without locks on the path of a selection: what happened is noted, and added to the meters in bulk.

A note is one append to a queue, which no thread waits for. A thread of the process folds the notes into the meters once
a second, and so does whoever reads the meters, so that a page of this process's lacks nothing. Of a process that is
killed up to a second of notes is lost; one that ends folds what it has.
"""

import logging
import os
import threading
from collections import Counter, defaultdict, deque
from multiprocessing.util import Finalize
from typing import TypeVar

from observability.meters import meters, observe_all

log = logging.getLogger(__name__)

#: How often the thread folds.
FOLD_SECONDS = 1.0
#: Notes of one kind that may wait; with more of them, whoever notes folds.
MOST = 10_000

Note = TypeVar("Note")


class Tally:
    """Notes of one process; safe between threads, and in a forked child, which begins with none."""

    def __init__(self) -> None:
        # Held while notes are folded, and while the process forks: a child shall not begin in the midst of it.
        self.lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """With no notes, and no thread."""
        self._decisions: deque[tuple[str, str]] = deque()
        self._decided: deque[float] = deque()
        self._requests: dict[tuple[str, str, int], deque[float]] = {}
        self._folds = False

    def decision(self, reason: str, source: str) -> None:
        """A decision was made: by which rule, by whom."""
        self._decisions.append((reason, source))
        if not self._folds or len(self._decisions) > MOST:
            self._attend()

    def decided(self, seconds: float) -> None:
        """How long deciding and committing took."""
        self._decided.append(seconds)
        if not self._folds or len(self._decided) > MOST:
            self._attend()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered. All but ``seconds`` are of few values: each combination has a queue of its own."""
        key = (method, route, status)
        taken = self._requests.get(key)
        if taken is None:
            # Of two threads that are first at once, both get the same queue.
            taken = self._requests.setdefault(key, deque())
        taken.append(seconds)
        if not self._folds or len(taken) > MOST:
            self._attend()

    def fold(self) -> None:
        """Add all that is noted to the meters."""
        with self.lock:
            ours = meters()
            for (reason, source), count in Counter(_drained(self._decisions)).items():
                ours.decisions(reason, source).inc(count)
            observe_all(ours.decision_seconds, _drained(self._decided))
            by_route: defaultdict[str, list[float]] = defaultdict(list)
            for (method, route, status), waiting in list(self._requests.items()):
                if seconds := _drained(waiting):
                    ours.requests(method, route, f"{status // 100}xx").inc(len(seconds))
                    by_route[route] += seconds
            for route, seconds in by_route.items():
                observe_all(ours.request_seconds(route), seconds)

    def forget(self) -> None:
        """Drop what is noted (tests have meters of their own)."""
        with self.lock:
            self._decisions.clear()
            self._decided.clear()
            self._requests.clear()

    def _attend(self) -> None:
        if self._folds:
            self.fold()
        else:
            self._start()

    def _start(self) -> None:
        with self.lock:
            if self._folds:
                return
            self._folds = True
        # Not atexit, which a process that multiprocessing forked (granian's workers) does not come to.
        Finalize(None, self.fold, exitpriority=0)
        threading.Thread(target=self._fold_on, name="tally", daemon=True).start()

    def _fold_on(self) -> None:
        pause = threading.Event()
        while not pause.wait(FOLD_SECONDS):
            try:
                self.fold()
            except Exception:  # whatever it is, the next second's notes are counted
                log.exception("counts of a second could not be added to the meters")


def _drained(queue: deque[Note]) -> list[Note]:
    # Only whoever holds the lock takes from a queue, so as many as there are now can be taken.
    take = queue.popleft
    return [take() for _ in range(len(queue))]


tally = Tally()


def _after_fork() -> None:
    tally.lock = threading.Lock()
    tally.begin()


os.register_at_fork(
    before=lambda: tally.lock.acquire(),
    after_in_parent=lambda: tally.lock.release(),
    after_in_child=_after_fork,
)
