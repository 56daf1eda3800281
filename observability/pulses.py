"""Where heartbeats come from: beat's own thread when it has sent a task, and a worker when it has done one."""

import threading
import time
from typing import Any

from celery.signals import after_task_publish, beat_init, task_postrun

from observability.heartbeats import Teller
from observability.models import Heartbeat


class _Beat:
    """Knows beat's thread, and how long it may pause between two sendings."""

    def __init__(self) -> None:
        self._teller = Teller(Heartbeat.Kind.BEAT)
        self._thread: int | None = None
        self._pause = 1.0
        self._sent_at: float | None = None

    def began(self, sender: Any, **_: Any) -> None:
        self._thread = threading.get_ident()
        # Until something was sent there is no heartbeat: a beat that never sends is silent.
        schedules = [entry["schedule"] for entry in sender.app.conf.beat_schedule.values()]
        self._pause = min((float(one) for one in schedules if isinstance(one, int | float)), default=60.0)
        self._sent_at = None

    def sent(self, sender: Any = None, **_: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        now = time.monotonic()
        late = 0.0 if self._sent_at is None else max(0.0, now - self._sent_at - self._pause)
        self._sent_at = now
        self._teller.tick(str(sender), late)


_beat = _Beat()
_worker = Teller(Heartbeat.Kind.WORKER)


def _done(sender: Any = None, **_: Any) -> None:
    if sender is not None and not getattr(sender.request, "is_eager", False):
        _worker.tick(str(sender.name))


def connect() -> None:
    """Listen. Once per process, when Django is set up."""
    beat_init.connect(_beat.began, weak=False, dispatch_uid="observability.pulses")
    after_task_publish.connect(_beat.sent, weak=False, dispatch_uid="observability.pulses")
    task_postrun.connect(_done, weak=False, dispatch_uid="observability.pulses")
