"""Heartbeats in the database: told by those who do the work, as a part of it, never by a thread beside it."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from observability.models import Heartbeat

log = logging.getLogger(__name__)

#: Beat sends something each second, and a worker does it: who told nothing for so long is gone or stuck.
SILENT = timedelta(seconds=90)
EVERY_SECONDS = 10.0
#: Hosts that are gone are forgotten.
_KEPT = timedelta(days=1)


def host() -> str:
    """This machine's (or container's) name."""
    return socket.gethostname()[:200]


@dataclass(frozen=True, slots=True)
class Pulse:
    """The last heartbeat of a kind: on which host, when, and (beat) how late it was at most since the one before.
    ``at`` None: there never was one."""

    kind: Heartbeat.Kind
    host: str | None
    at: datetime | None
    lag_seconds: float | None = None
    task: str = ""

    def silent_seconds(self, now: datetime) -> float | None:
        """How long ago that was; None: never."""
        return None if self.at is None else (now - self.at).total_seconds()

    def is_silent(self, now: datetime, limit: timedelta = SILENT) -> bool:
        return self.at is None or now - self.at > limit


def tell(kind: Heartbeat.Kind, now: datetime, task: str, lag_seconds: float | None = None) -> None:
    """Write a heartbeat of this host. One statement. Raises DatabaseError."""
    row = Heartbeat(kind=kind, host=host(), at=now, lag_seconds=lag_seconds, task=task[:100])
    Heartbeat.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["kind", "host"],
        update_fields=["at", "lag_seconds", "task"],
    )
    Heartbeat.objects.filter(kind=kind, at__lt=now - _KEPT).delete()


def last(kind: Heartbeat.Kind, on: str | None = None) -> Pulse:
    """The newest heartbeat of a kind, on one host or on any (None)."""
    rows = Heartbeat.objects.filter(kind=kind) if on is None else Heartbeat.objects.filter(kind=kind, host=on)
    row = rows.order_by("-at").first()
    return Pulse(kind, row.host, row.at, row.lag_seconds, row.task) if row else Pulse(kind, on, None)


class Teller:
    """Tells at most every EVERY_SECONDS, and never fails the work that it is a part of. Safe between threads."""

    def __init__(
        self,
        kind: Heartbeat.Kind,
        clock: Callable[[], datetime] = timezone.now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kind = kind
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._told_at = float("-inf")
        self._lag: float | None = None

    def tick(self, task: str, lag_seconds: float | None = None) -> None:
        """Something was sent or done, so late."""
        with self._lock:
            if lag_seconds is not None:
                self._lag = max(self._lag or 0.0, lag_seconds)
            if self._monotonic() - self._told_at < EVERY_SECONDS:
                return
            self._told_at = self._monotonic()
            lag, self._lag = self._lag, None
        _no_old_connection()
        try:
            tell(self._kind, self._clock(), task, lag)
        except DatabaseError as error:
            log.warning("no heartbeat of %s: %s", self._kind.value, error)
        finally:
            _no_old_connection()


def _no_old_connection() -> None:
    # Beat's thread is in no request that would see to it; a broken connection would stay broken.
    if not connection.in_atomic_block:
        close_old_connections()
