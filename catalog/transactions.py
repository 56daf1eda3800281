"""Whether this thread is in a transaction of its own, for who is asked at every selection."""

import threading
from typing import Any

from django.db import connections


class _Own(threading.local):
    """Django looks a thread's connection up through locks and context managers each time, for a microsecond and more;
    it is the same one as long as the thread lives."""

    def __init__(self) -> None:
        self.connection: Any = connections["default"]


_own = _Own()


def is_in_transaction() -> bool:
    """Whether what this thread stores now is committed later, with more."""
    return bool(_own.connection.in_atomic_block)
