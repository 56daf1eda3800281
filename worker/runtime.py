"""Everything that a worker's process holds, put together and taken apart in order."""

import logging
import threading
from typing import Self

from worker.client import SelectionClient
from worker.conversation import Conversations, Judge, not_empty
from worker.flusher import Flusher
from worker.outbox import Outbox
from worker.providers import Providers
from worker.settings import Settings

log = logging.getLogger(__name__)


class Worker:
    """One per process, made after a fork: it holds threads and connections. Raises OutboxUnavailable when
    STATE_DIR cannot be used. ``conversations.answer`` is what it is for."""

    def __init__(self, settings: Settings, judge: Judge = not_empty) -> None:
        self.settings = settings
        self.outbox = Outbox(settings.state_dir)
        self.client = SelectionClient(settings, self.outbox)
        self.providers = Providers(settings)
        self.flusher = Flusher(settings, self.outbox)
        self.flusher.start()
        self.conversations = Conversations(settings, self.client, self.providers, self.outbox, judge)
        self._closing = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """What waits is on the disk when this returns, and is sent by the next process. Calls that run are
        given up unreported; let them end first if they matter."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self.providers.close()
        self.client.close()
        self.flusher.close()
        self.outbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
