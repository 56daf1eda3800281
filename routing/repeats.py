"""Requests repeated within this process: who comes while the first is being answered gets its answer.

The database knows every ``request_id``, for good and across processes (routing.selection). This knows what it cannot: a
request that is not committed yet, and one that was answered while the database was away.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

from routing.answer import Answer
from routing.engine import SelectionProblem

#: Answers that are not in the database (yet) and are remembered, the newest. Each holds some two kilobytes.
KEPT = 10_000


class Asked(NamedTuple):
    """What a worker asks, before it is known when, and what the conversation had last."""

    tenant: str
    persona: str
    conversation_id: str
    task: str = "general"
    exclude: tuple[str, ...] = ()
    request_id: str | None = None

    def refuse_other(self, earlier: "Asked") -> None:
        """Raises SelectionProblem when the earlier request of this ``request_id`` was another one."""
        if self != earlier:
            raise SelectionProblem(
                409,
                "request_id_reused",
                f"The request_id '{self.request_id}' was used for another request; use a new one per request.",
            )


A = TypeVar("A")
Key = tuple[str, str]


class Repeats(Generic[A]):
    """Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Key, tuple[Asked, Future[A]]] = {}
        self._kept: OrderedDict[Key, tuple[Asked, A]] = OrderedDict()

    def once(self, asked: Asked, answer: Callable[[], A]) -> A:
        """What ``answer`` gives; called once for requests of one ``request_id`` that come at the same time, and not
        at all for one that was kept. What it raises, all of them raise."""
        if asked.request_id is None:
            return answer()
        key = (asked.tenant, asked.request_id)
        mine: Future[A] = Future()
        with self._lock:
            earlier: tuple[Asked, A | Future[A]] | None = self._kept.get(key) or self._running.get(key)
            if earlier is None:
                self._running[key] = (asked, mine)
        if earlier is not None:
            first, given = earlier
            asked.refuse_other(first)
            return given.result() if isinstance(given, Future) else given
        try:
            told = answer()
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(told)
            return told
        finally:
            with self._lock:
                del self._running[key]

    def keep(self, asked: Asked, answer: A) -> None:
        """Remember an answer that the database does not know under its ``request_id``."""
        if asked.request_id is None:
            return
        with self._lock:
            self._kept[asked.tenant, asked.request_id] = (asked, answer)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)

    def forget(self) -> None:
        with self._lock:
            self._kept.clear()


repeats: Repeats[Answer] = Repeats()
