"""Long work in a process that answers requests: it lets others in, and leaves garbage for later."""

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _Giving:
    """How many threads give way now, and what the first of them found: the switch interval (s), and whether garbage is
    collected."""

    threads: int = 0
    usual: float = 0.0
    collecting: bool = True

    def begin(self) -> None:
        if not self.threads:
            self.usual, self.collecting = sys.getswitchinterval(), gc.isenabled()
            sys.setswitchinterval(self.usual / 10)
            gc.disable()
        self.threads += 1

    def end(self) -> None:
        self.threads -= 1
        if not self.threads:
            self.put_back()

    def put_back(self) -> None:
        sys.setswitchinterval(self.usual)
        if self.collecting:
            gc.enable()


_giving = _Giving()
_lock = threading.Lock()


@contextmanager
def giving_way() -> Iterator[None]:
    """Let other threads in ten times as often as usual: a request asks for the interpreter many times, and would
    wait 5 ms for it each time. And leave cycles of garbage for later: looking for them among a bundle's objects would
    stop every thread for 0.2 s. Several threads may at once; the last one out puts it back."""
    with _lock:
        _giving.begin()
    try:
        yield
    finally:
        with _lock:
            _giving.end()


def _after_fork() -> None:
    # Threads of the parent's that gave way are not here, and a lock that one held is never released.
    global _giving, _lock
    if _giving.threads:
        _giving.put_back()
    _giving, _lock = _Giving(), threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
