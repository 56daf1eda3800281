"""Selections at a steady rate, a completion reported for each, and somebody who looks on.

An open model as far as locust has one: each asker sends one request per second, whenever the last one was answered,
unless that took longer than a second.
"""

import random
import time
import uuid
from collections import deque
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Any

import gevent
import httpx
from locust import constant_pacing, events, task
from locust.contrib.fasthttp import FastHttpUser
from locust.env import Environment

from demo import timeline
from demo.outcomes import Outcome, load
from load.users.common import HEADERS, ORDER, RECORD
from load.users.selecting import select

#: One per asker and second.
ASKERS = int(ORDER["rps"])
_BATCH = 500
_MOST_TURNS = 3
_COMPLETIONS = "/api/v1/telemetry/completions"
_chance = random.Random(20261128)
_waiting: deque[dict[str, Any]] = deque()


@cache
def _recorded() -> dict[tuple[str, str], list[Outcome]]:
    found: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in load():
        found.setdefault((outcome.profile, outcome.category), []).append(outcome)
    return found


class Asker(FastHttpUser):
    """A conversation after the other, of one to three turns."""

    fixed_count = ASKERS
    wait_time = constant_pacing(1)

    def on_start(self) -> None:
        self._turns = 0
        # Started together, all would ask in the same instant of every second.
        gevent.sleep(_chance.random())

    @task
    def turn(self) -> None:
        if not self._turns:
            self._turns = _chance.randint(1, _MOST_TURNS)
            self._tenant, self._about = _chance.choice(timeline.cycle())
            self._conversation = f"load-{uuid.uuid4()}"
        self._turns -= 1
        about = self._about
        profile = select(self, self._tenant, about.persona, about.category, self._conversation)
        if profile is not None:
            self._complete(profile)

    def _complete(self, profile: str) -> None:
        """What this profile did when such a task was recorded; reported as a worker does, in batches."""
        known = _recorded().get((profile, self._about.category)) or [self._about]
        now = datetime.now(UTC)
        told = {"profile": profile, "served_model": profile}
        about = _chance.choice(known)
        _waiting.append(
            timeline.event(self._tenant, about, now, str(uuid.uuid4()), self._conversation, **told)
        )


class Reporter(FastHttpUser):
    """Reports what waits, every second."""

    fixed_count = 1
    wait_time = constant_pacing(1)

    @task
    def report(self) -> None:
        while batch := _oldest():
            with self.client.post(
                _COMPLETIONS, json=batch, headers=HEADERS, name="report", catch_response=True
            ) as answer:
                if not _judged(batch, answer.status_code, answer.text or ""):
                    answer.failure(f"status {answer.status_code}: {(answer.text or '')[:200]}")
                    return


class Onlooker(FastHttpUser):
    """What dashboards, probes and deciding workers read."""

    fixed_count = 1
    wait_time = constant_pacing(5)
    _etag = ""

    @task
    def look(self) -> None:
        scope = "tenant=aurora&persona=essayist"
        for name, path in {
            "rankings": f"/api/v1/rankings?{scope}",
            "metrics": f"/api/v1/metrics/profiles?{scope}",
            "prometheus": "/metrics",
            "ready": "/readyz",
        }.items():
            self.client.get(path, headers=HEADERS, name=name)
        with self.client.get(
            "/api/v1/policy",
            headers={**HEADERS, "If-None-Match": self._etag},
            name="policy",
            catch_response=True,
        ) as answer:
            if answer.status_code in (200, 304):
                self._etag = answer.headers.get("ETag") or self._etag
                answer.success()
            else:
                answer.failure(f"status {answer.status_code}")


def _oldest() -> list[dict[str, Any]]:
    """They wait on until they are accepted: a reporter that is stopped midway has lost none, and what is sent twice is
    the product's to count once."""
    return list(islice(_waiting, _BATCH))


def _judged(batch: list[dict[str, Any]], status: int, text: str) -> bool:
    """Whether all of the batch was accepted; then its ids are noted."""
    if status != 202 or '"rejected":[]' not in text.replace(" ", ""):
        return False
    for event in batch:
        RECORD.note(event=event["event_id"])
        _waiting.popleft()
    return True


@events.test_stop.add_listener
def _report_the_rest(environment: Environment, **_: Any) -> None:
    """What was decided after the last report."""
    with httpx.Client(base_url=str(environment.host), headers=HEADERS, timeout=30) as client:
        while batch := _oldest():
            answer = client.post(_COMPLETIONS, json=batch)
            if not _judged(batch, answer.status_code, answer.text):
                RECORD.note(
                    asked="report",
                    at=time.time(),
                    ms=0.0,
                    error=f"status {answer.status_code}: {answer.text[:200]}",
                )
                return
