"""What this process knows of the Django database being away, shared by all that can do without it for a
while: verified keys, the policy bundle, stored decisions.

Without it every request would find out anew, and wait for a connection each time.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import InterfaceError, OperationalError, connection

#: The database cannot be asked now; other database errors are the statement's own.
AWAY = (OperationalError, InterfaceError)
#: How long requests go without asking after a failure.
PAUSE_SECONDS = 2.0


class Outage:
    """``is_on`` for PAUSE_SECONDS after each failure; safe between threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._until = float("-inf")
        self._lock = threading.Lock()

    @property
    def is_on(self) -> bool:
        return self._monotonic() < self._until

    def begin(self) -> None:
        """Note a failure. The broken connection is given up, so that the next call gets a new one."""
        with self._lock:
            self._until = self._monotonic() + PAUSE_SECONDS
        if not connection.in_atomic_block:
            connection.close()

    def end(self) -> None:
        with self._lock:
            self._until = float("-inf")

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Run something on the database; OperationalError at once while it is known to be away."""
        if self.is_on:
            raise OperationalError("The database was away a moment ago.")
        try:
            yield
        except AWAY:
            self.begin()
            raise


outage = Outage()


def give_back_connection() -> None:
    """Let go of this thread's connection, if it has one and is in no transaction: for whoever serves without Django's
    request, at whose end that happens by itself."""
    if not connection.in_atomic_block:
        connection.close()
