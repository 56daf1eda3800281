"""What meters, request ids and the first middleware cost a selection: CPU time, since other work may run beside."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from bench.deciding import asking
from bench.table import Line

_CALLS = 20_000


class _Nothing:
    """Stands in for every meter."""

    def __call__(self, *_: str) -> "_Nothing":
        return self

    def __getattr__(self, name: str) -> "_Nothing":
        return self


def watching(folder: Path, requests: int, rounds: int) -> list[Line]:
    """With meters shared in files, as production has them. Rounds with and without take turns."""
    from observability.sharing import share

    share(folder)
    ask = asking(requests)
    ask()
    watched, bare = [], []
    for _ in range(rounds):
        watched.append(_cpu(ask) / requests * 1e6)
        with _unwatched():
            bare.append(_cpu(ask) / requests * 1e6)
    alone = _alone(rounds)
    return [
        Line("watching one selection: id, counters, histograms", "us", alone, 20),
        Line("selection endpoint watched, CPU, test client", "us", tuple(watched)),
        Line("the same unwatched", "us", tuple(bare)),
        # Of what the two rounds differ by, most is the machine's.
        Line("watching, of an unwatched selection", "%", (100 * median(alone) / median(bare),), 5),
    ]


def _cpu(work: Any) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _alone(rounds: int) -> tuple[float, ...]:
    from observability import ids
    from observability.requests import count_request
    from observability.tally import tally

    def once() -> None:
        ids.bind(None)
        count_request("POST", "selections", 200, 0.001)
        tally.decision("ranked", "remote")
        tally.decided(0.001)
        ids.unbind()

    def all_of_them() -> None:
        for _ in range(_CALLS):
            once()
        # Whoever waits for it, it costs CPU.
        tally.fold()

    return tuple(_cpu(all_of_them) / _CALLS * 1e6 for _ in range(rounds))


@contextmanager
def _unwatched() -> Iterator[None]:
    from observability.requests import Requests

    with (
        mock.patch.object(Requests, "__call__", lambda self, request: self._get_response(request)),
        mock.patch("routing.selection.tally", _Nothing()),
    ):
        yield
