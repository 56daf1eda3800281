"""What Celery tells of: beat's own thread that it sent a task, a worker that it has done one, and how long it took.

Heartbeats come from there, the meters of tasks, and the ids in their logs.
"""

import threading
import time
from typing import Any

from celery.signals import (
    after_task_publish,
    beat_init,
    before_task_publish,
    setup_logging,
    task_postrun,
    task_prerun,
    task_revoked,
)

from observability import ids
from observability.heartbeats import Teller
from observability.meters import meters
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


#: Of a task's message: the id of the request that it was sent in.
_HEADER = "selection_request_id"
_STATES = {"SUCCESS": "succeeded", "FAILURE": "failed", "RETRY": "retried"}


class _Work:
    """Times tasks, and tells that the worker does some."""

    def __init__(self) -> None:
        self._teller = Teller(Heartbeat.Kind.WORKER)
        # Several at once in a pool of threads.
        self._began: dict[str, float] = {}

    def begins(self, task_id: str, task: Any, **_: Any) -> None:
        self._began[task_id] = time.perf_counter()
        if not getattr(task.request, "is_eager", False):
            # Of the request that asked for it; what beat sends has a name of its own.
            ids.bind(getattr(task.request, _HEADER, None) or task_id)

    def ended(self, task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
        began = self._began.pop(task_id, None)
        if began is None or getattr(task.request, "is_eager", False):
            return
        ids.unbind()
        meters().tasks(task.name, _STATES.get(state or "", "other")).inc()
        meters().task_seconds(task.name).observe(time.perf_counter() - began)
        self._teller.tick(task.name)

    def dropped(self, sender: Any, expired: bool = False, **_: Any) -> None:
        """It was due again before it could start: workers do not keep up."""
        meters().tasks(sender.name, "expired" if expired else "other").inc()


def _sending(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None and (name := ids.current()) is not None:
        headers[_HEADER] = name


def _keep_our_logging(**_: Any) -> None:
    """That somebody listens keeps Celery from putting handlers and formats of its own in place of ours."""


_beat = _Beat()
_work = _Work()


def connect() -> None:
    """Listen. Once per process, when Django is set up."""
    receivers = (
        (beat_init, _beat.began),
        (before_task_publish, _sending),
        (after_task_publish, _beat.sent),
        (task_prerun, _work.begins),
        (task_postrun, _work.ended),
        (task_revoked, _work.dropped),
        (setup_logging, _keep_our_logging),
    )
    for signal, receiver in receivers:
        signal.connect(receiver, weak=False, dispatch_uid=f"observability.pulses.{receiver.__name__}")
