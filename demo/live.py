"""The demo's live traffic: through the same HTTP endpoints that a worker of yours would use.

Two streams: the timeline of recorded outcomes goes on, so that every profile stays measured; and
conversations ask the selection endpoint for a profile, then report what that model did when it was
recorded on the same kind of task.
"""

import json
import logging
import random
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Any

from demo import timeline
from demo.outcomes import Outcome, load

log = logging.getLogger(__name__)

_PERIOD_SECONDS = 2.0
_BATCH = 500


class LiveTraffic(threading.Thread):
    """Runs until ``stop`` is called."""

    def __init__(self, url: str, key: str, clock: Callable[[], datetime]) -> None:
        super().__init__(name="live-traffic", daemon=True)
        self._url = url
        self._key = key
        self._clock = clock
        self._since = clock()
        self._stopping = threading.Event()
        self._random = random.Random()  # noqa: S311  # which conversation comes next is no secret
        self._recorded: dict[tuple[str, str], list[Outcome]] = {}
        for outcome in load():
            self._recorded.setdefault((outcome.persona, outcome.profile), []).append(outcome)

    def stop(self) -> None:
        """Ask it to end, and wait while its last request does (a few seconds at most)."""
        self._stopping.set()
        self.join(5)

    def run(self) -> None:
        while not self._stopping.wait(_PERIOD_SECONDS):
            try:
                self._tick()
            except (OSError, ValueError) as error:
                # What was not sent stays due: the next tick starts from the same time.
                log.warning("live traffic: %s", error)

    def _tick(self) -> None:
        now = self._clock()
        due = timeline.events(self._since, now)
        while batch := list(islice(due, _BATCH)):
            self._post("/api/v1/telemetry/completions", batch)
        self._since = now
        self._post("/api/v1/telemetry/completions", [self._conversation(now)])

    def _conversation(self, now: datetime) -> dict[str, Any]:
        tenant, recorded = self._random.choice(timeline.cycle())
        conversation = f"live-{uuid.uuid4()}"
        decision = self._post(
            "/api/v1/selections",
            {
                "tenant": tenant,
                "persona": recorded.persona,
                "conversation_id": conversation,
                "task": recorded.category,
            },
        )
        outcomes = self._recorded[recorded.persona, decision["profile"]["slug"]]
        return timeline.event(
            tenant,
            self._random.choice(outcomes),
            now,
            str(uuid.uuid4()),
            conversation,
            decision_id=decision["decision_id"],
        )

    def _post(self, path: str, body: object) -> Any:
        request = urllib.request.Request(  # noqa: S310  # our own loopback address
            self._url + path,
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Api-Key {self._key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return json.loads(response.read())
