"""Calls that end in time, whatever they wait for: a name server, a body that drips, a stuck lock."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class BoundedCaller:
    """Runs functions in daemon threads and stops waiting for them after a time. Timeouts of sockets alone
    do not bound a call: names are looked up without one, and each byte of a slow body starts a new one.

    A call that is given up ends by itself later (its own timeouts see to that); at most ``threads`` run at
    once, and those beyond wait within their own time. Daemon threads never keep the process from ending,
    which the standard library's executor would.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._most = threads
        self._name = name
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        # Threads that no call is meant for, and calls that no thread is meant for.
        self._free = 0
        self._waiting = 0

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """What the function returns or raises; TimeoutError after ``seconds``."""
        future: Future[T] = Future()
        # What runs there belongs to what runs here: its trace goes on.
        context = copy_context()
        self._assign()
        self._tasks.put((future, lambda: context.run(function)))
        try:
            return future.result(seconds)
        except TimeoutError:
            # One that waits for a thread need not run any more.
            future.cancel()
            raise

    def close(self) -> None:
        """Let threads end as they become free; never waits."""
        with self._lock:
            for _ in range(self._started):
                self._tasks.put(None)

    def _assign(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            if self._started == self._most:
                self._waiting += 1
                return
            self._started += 1
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _release(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting -= 1
            else:
                self._free += 1

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            _run(*task)
            self._release()


def _run(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001  # it belongs to the caller, whatever it is
        future.set_exception(error)
