"""Clients that start at once, know nothing, and each want the policy and a first profile."""

import random
import uuid
from typing import Any

from gevent.event import Event
from locust import constant, events, task
from locust.contrib.fasthttp import FastHttpUser
from locust.env import Environment
from locust.exception import StopUser

from demo import timeline
from load.users.common import HEADERS, ORDER, end
from load.users.selecting import select

CLIENTS = int(ORDER["clients"])
_all_there = Event()
_chance = random.Random(20261128)
_left = CLIENTS


class Client(FastHttpUser):
    fixed_count = CLIENTS
    wait_time = constant(0)

    @task
    def ask(self) -> None:
        global _left
        _all_there.wait()
        with self.client.get("/api/v1/policy", headers=HEADERS, name="policy", catch_response=True) as answer:
            if answer.status_code == 200 and '"version"' in (answer.text or ""):
                answer.success()
            else:
                answer.failure(f"status {answer.status_code}: {(answer.text or '')[:200]}")
        tenant, about = _chance.choice(timeline.cycle())
        select(self, tenant, about.persona, about.category, f"load-{uuid.uuid4()}")
        _left -= 1
        if not _left:
            end(self.environment)
        raise StopUser


@events.spawning_complete.add_listener
def _go(**_: Any) -> None:
    _all_there.set()


@events.init.add_listener
def _parse_once(environment: Environment, **_: Any) -> None:
    # Before anybody is waiting for it.
    timeline.cycle()
