"""The worker's own Celery app: takes messages from its queue, acknowledges them once they are answered.

A message whose worker dies is delivered again; it reports under the same event ids, so nothing is counted
twice. `python -m worker run` starts it.
"""

import os
import threading
from typing import Any

from celery import Celery
from celery.signals import worker_process_shutdown, worker_shutdown
from pydantic import ValidationError

from worker.conversation import Message
from worker.runtime import Worker
from worker.settings import BadSettings, Settings

TASK = "worker.converse"
#: Answers are fetched soon or never.
_ANSWERS_KEPT_SECONDS = 3600


class BadMessage(Exception):
    """What came from the queue is no message; it says which fields are wrong, and repeats no values."""


class _PerProcess:
    """One Worker per process: Celery's default pool forks after the app is made."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._pid = 0

    def get(self) -> Worker:
        with self._lock:
            if self._worker is None or self._pid != os.getpid():
                self._worker = Worker(self._settings)
                self._pid = os.getpid()
            return self._worker

    def close(self, **_: object) -> None:
        with self._lock:
            if self._worker is not None and self._pid == os.getpid():
                self._worker.close()
                self._worker = None


def make_app(settings: Settings) -> Celery:
    """Raises BadSettings when there is no broker to take messages from."""
    if not settings.broker_url:
        raise BadSettings("WORKER_BROKER_URL: must be set to take messages from a queue")
    # No fixups: with DJANGO_SETTINGS_MODULE set, Celery's own would start Django in here.
    app = Celery("worker", broker=settings.broker_url, set_as_current=False, fixups=[])
    app.conf.update(
        result_backend=settings.result_url or None,
        result_expires=_ANSWERS_KEPT_SECONDS,
        task_default_queue=settings.queue,
        # A message is done when it is answered, not when it is taken, and is not hoarded meanwhile.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_ignore_result=not settings.result_url,
        accept_content=["json"],
        # How long Redis waits for a worker that died: longer than a message takes, not the default hour.
        broker_transport_options={
            "visibility_timeout": round(2 * settings.budget_seconds) + 60,
            # A Redis that says nothing, as behind a cut network, is not waited for until its connection is closed.
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
        },
        broker_connection_retry_on_startup=True,
    )
    held = _PerProcess(settings)
    # Celery keeps signal receivers by weak reference; the app is what lives as long as they must.
    app.conf["worker_held"] = held
    worker_shutdown.connect(held.close)
    worker_process_shutdown.connect(held.close)

    def converse(message: dict[str, Any]) -> dict[str, Any]:
        return held.get().conversations.answer(read_message(message)).to_dict()

    app.task(name=TASK)(converse)
    return app


def read_message(raw: object) -> Message:
    """Raises BadMessage."""
    try:
        return Message.model_validate(raw)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in one['loc']) or 'message'}: {one['msg']}"
            for one in error.errors(include_url=False, include_input=False, include_context=False)
        )
        raise BadMessage(wrong) from None


def send(app: Celery, message: Message) -> Any:
    """Put a message on the queue; Celery's AsyncResult, which holds the answer if RESULT_URL is set. Raises
    kombu.exceptions.OperationalError after some tries when the broker is away or says nothing."""
    return app.send_task(TASK, [message.model_dump(mode="json")])
