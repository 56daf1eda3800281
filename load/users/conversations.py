"""Conversations of a few turns through the reference worker and the demo's provider, as `make report` has them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from locust import User, constant, events, task
from locust.env import Environment
from locust.exception import StopUser

from demo.report.traffic import Load, Talk, talks
from load.users.common import ORDER, RECORD, end

USERS = int(ORDER["users"])
_talks: Iterator[Talk] = iter(talks(ORDER["phase"], int(ORDER["conversations"]), int(ORDER["seed"])))
_load: list[Load] = []
_held = 0


@events.init.add_listener
def _start(environment: Environment, **_: Any) -> None:
    folder = Path(ORDER["folder"])
    folder.mkdir(parents=True)
    key = os.environ["LOAD_KEY"]
    _load.append(Load(str(environment.host), key, folder, float(ORDER["speed"]), int(ORDER["seed"])))


class Talker(User):
    """The next conversation, until none is left."""

    fixed_count = USERS
    wait_time = constant(0)

    @task
    def talk(self) -> None:
        global _held
        if (talk := next(_talks, None)) is None:
            if _held == int(ORDER["conversations"]):
                end(self.environment)
            raise StopUser
        began, at = time.perf_counter(), time.time()
        error: Exception | None = None
        try:
            _load[0].converse(talk)
        except Exception as problem:  # noqa: BLE001  # told as an error of this conversation, and judged
            error = problem
        _held += 1
        self.environment.events.request.fire(
            request_type="talk",
            name="conversation",
            response_time=(time.perf_counter() - began) * 1000,
            response_length=0,
            start_time=at,
            exception=error,
            context={},
        )


@events.test_stop.add_listener
def _finish(**_: Any) -> None:
    load = _load[0]
    load.flush()
    delays = sorted(load.delays_ms())
    RECORD.note(
        held=_held,
        reported=load.reported(),
        refused=load.refused(),
        decided_remotely=load.sources.get("remote", 0),
        decided_otherwise=sum(n for source, n in load.sources.items() if source != "remote"),
        delay_p50_ms=delays[len(delays) // 2] if delays else 0.0,
    )
    load.close()
