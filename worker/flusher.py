"""Sends what waits in the outbox: in batches, with timeouts and growing pauses, never twice at once.

Only a 202 or a 422 takes anything out of the outbox: the service has then judged every item. Killed in
between, the same items are sent again, which is harmless: they carry their ids.
"""

import fcntl
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from worker.outbox import Item, Kind, Outbox, OutboxUnavailable, Refusal
from worker.settings import Settings
from worker.wire import DIRECT, NotAnswered, Reply, exchange, headers, problem_of, timeouts

log = logging.getLogger(__name__)

LOCK = "outbox.lock"
#: How long something waits at most before it is first sent.
PERIOD_SECONDS = 1.0
_MOST_PAUSE_SECONDS = 60.0
_SEND_SECONDS = 15.0

_PATHS = {Kind.DECISION: "/api/v1/selections/batch", Kind.COMPLETION: "/api/v1/telemetry/completions"}


class _TooMuch(Exception):
    """The service will not take a batch of this size or form as a whole."""


@dataclass(slots=True)
class _Pace:
    """When a kind may be sent next; kinds do not hold each other up."""

    next_at: float = 0.0
    pause: float = 0.0
    most: int = 1000

    def failed(self, now: float) -> None:
        self.pause = min(max(self.pause * 2, PERIOD_SECONDS), _MOST_PAUSE_SECONDS)
        # Spread, so that many workers do not come back in the same moment.
        self.next_at = now + self.pause * random.uniform(0.75, 1.0)  # noqa: S311

    def went_well(self) -> None:
        self.next_at, self.pause, self.most = 0.0, 0.0, 1000


class Flusher(threading.Thread):
    """``start`` it, or call ``tick`` or ``flush`` yourself. ``clock`` is monotonic seconds."""

    def __init__(
        self, settings: Settings, outbox: Outbox, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(name="outbox-flusher", daemon=True)
        self._outbox = outbox
        self._clock = clock
        self._api = settings.api_url
        self._http = httpx.Client(
            headers=headers(settings.api_key), timeout=timeouts(1.0, 10.0), mounts=dict(DIRECT)
        )
        self._paces = {kind: _Pace() for kind in Kind}
        self._stopping = threading.Event()
        self.failure: str | None = None

    def run(self) -> None:
        while not self._stopping.wait(PERIOD_SECONDS):
            try:
                self.tick()
            except OutboxUnavailable as error:
                log.error("the outbox cannot be read: %s", error)
            except Exception:
                if not self._stopping.is_set():
                    log.exception("sending failed")

    def close(self, seconds: float = 5.0) -> None:
        """Let a request that runs end within the time; what is not sent stays in the outbox."""
        self._stopping.set()
        if self.is_alive():
            self.join(seconds)
        self._http.close()

    def tick(self) -> int:
        """Send what waits and may be sent now; how many items the service has judged."""
        judged = 0
        with self._alone() as alone:
            if alone:
                for kind, pace in self._paces.items():
                    while not self._stopping.is_set() and pace.next_at <= self._clock():
                        count = self._send(kind, pace)
                        judged += count
                        if not count:
                            break
        return judged

    def flush(self) -> int:
        """As ``tick``, now, whatever the pauses; ``failure`` says why something is left."""
        self.failure = None
        for pace in self._paces.values():
            pace.next_at = 0.0
        return self.tick()

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        # The lock ends with its holder, however that ends.
        with (self._outbox.folder / LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.failure = "another process is sending"
                yield False
                return
            yield True

    def _send(self, kind: Kind, pace: _Pace) -> int:
        items = self._outbox.oldest(kind, pace.most)
        if not items:
            return 0
        try:
            refused = self._post(kind, items)
        except _TooMuch as error:
            # Halve until the one item that it will not have stands alone.
            if len(items) > 1:
                pace.most = max(len(items) // 2, 1)
                return self._send(kind, pace)
            refused = [Refusal(items[0], "refused", str(error))]
        except NotAnswered as error:
            if pace.pause == 0:
                log.warning("%ss wait in the outbox: %s", kind, error)
            self.failure = str(error)
            pace.failed(self._clock())
            return 0
        self._outbox.settle(kind, items, refused)
        for one in refused:
            log.error("a %s was refused: %s: %s", kind, one.code, one.detail)
        if pace.pause:
            log.warning("%ss are taken again", kind)
        pace.went_well()
        return len(items)

    def _post(self, kind: Kind, items: Sequence[Item]) -> list[Refusal]:
        body = b"[" + b",".join(item.payload for item in items) + b"]"
        if kind is Kind.DECISION:
            body = b'{"decisions":' + body + b"}"
        request = self._http.build_request(
            "POST", self._api + _PATHS[kind], content=body, headers={"Content-Type": "application/json"}
        )
        reply = exchange(self._http, request, _SEND_SECONDS)
        if reply.status == 413:
            # A proxy in front may have said it, in words of its own.
            raise _TooMuch("status 413, too large")
        if reply.status == 400:
            raise _TooMuch(_told(reply))
        if reply.status not in (202, 422):
            raise NotAnswered(_told(reply))
        return _refusals(reply.json(), items)


def _told(reply: Reply) -> str:
    problem = problem_of(reply)
    return f"status {problem.status}, {problem.code}: {problem.detail}"


def _refusals(verdict: Any, items: Sequence[Item]) -> list[Refusal]:
    """NotAnswered unless it is the service's verdict over exactly these items."""
    try:
        refused = [
            Refusal(items[int(one["index"])], str(one["code"]), str(one["detail"]))
            for one in verdict["rejected"]
        ]
        if verdict["accepted"] + len(refused) != len(items):
            raise ValueError
    except (KeyError, TypeError, ValueError, IndexError):
        raise NotAnswered("the answer is no verdict over the batch") from None
    return refused
