"""What all locustfiles share: the order that they were given, and the record of what came of it."""

import logging
import os
from pathlib import Path
from typing import Any, BinaryIO

import gevent
import orjson
from locust import events
from locust.env import Environment

from load.forms import loopback

HEADERS = {"Authorization": f"Api-Key {os.environ['LOAD_KEY']}"}
# The address of every request is no news.
logging.getLogger("httpx").setLevel(logging.WARNING)
ORDER: dict[str, Any] = orjson.loads(os.environ["LOAD_ORDER"])


class Record:
    """Lines of JSON: requests, and the ids that the product has acknowledged."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("ab", buffering=1 << 20)

    def note(self, **line: Any) -> None:
        self._file.write(orjson.dumps(line) + b"\n")

    def close(self) -> None:
        self._file.close()


RECORD = Record(Path(os.environ["LOAD_RECORD"]))


@events.init.add_listener
def _refuse_other_hosts(environment: Environment, **_: Any) -> None:
    loopback(environment.host)


@events.request.add_listener
def _asked(
    name: str, response_time: float, exception: BaseException | None, start_time: float, **_: Any
) -> None:
    RECORD.note(
        asked=name, at=start_time, ms=response_time, error=None if exception is None else str(exception)[:300]
    )


def end(environment: Environment) -> None:
    """All is done before the time is over. Not from the user's own greenlet: it would wait for itself to end."""
    if environment.runner:
        gevent.spawn(environment.runner.quit)


@events.quit.add_listener
def _close(**_: Any) -> None:
    RECORD.close()
