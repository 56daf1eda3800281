"""Work that is cheaper for many than for one: who comes while some are at work waits, and all who wait go together.

Nobody waits for company: alone, a caller goes at once, in its own thread. There is no thread besides the callers'.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Place(Generic[T, R]):
    """One caller's. ``turn`` is released when its answer is there, or when it is to lead."""

    __slots__ = ("answer", "error", "is_done", "item", "turn")

    def __init__(self, item: T) -> None:
        self.item = item
        self.is_done = False
        self.answer: R | None = None
        self.error: BaseException | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class Group(Generic[T, R]):
    """``work`` gets up to ``most`` items and gives one answer each, in their order; an answer that is an exception is
    raised by whose it is. Up to ``leaders`` groups are at work at the same time, but a second one only when
    ``worthwhile`` callers wait: two small groups cost more than one. Safe between threads.

    When ``work`` itself raises, each item is tried alone, so that one that cannot be done harms no other.
    """

    def __init__(
        self,
        work: Callable[[list[T]], list[R | Exception]],
        most: int = 64,
        leaders: int = 1,
        worthwhile: int = 1,
    ) -> None:
        self._work = work
        self._leaders = leaders
        self._worthwhile = worthwhile
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[_Place[T, R]] = []
        self._idle = leaders

    def submit(self, item: T) -> R:
        """What ``work`` gives for this item. Raises what it gives or raises."""
        place: _Place[T, R] = _Place(item)
        with self._lock:
            leads = self._may_lead(len(self._waiting) + 1)
            if leads:
                self._idle -= 1
            else:
                self._waiting.append(place)
        if not leads:
            place.turn.acquire()
        if not place.is_done:
            self._lead(place)
        if place.error is not None:
            raise place.error
        return place.answer  # type: ignore[return-value]  # done without an error: it has one

    def _lead(self, first: _Place[T, R]) -> None:
        with self._lock:
            rest = self._most - 1
            group = [first, *self._waiting[:rest]]
            del self._waiting[:rest]
        try:
            self._do(group)
        finally:
            for place in group:
                place.is_done = True
            with self._lock:
                # Whoever came first meanwhile leads the next group; this thread goes home with its answer.
                self._idle += 1
                after = None
                if self._waiting and self._may_lead(len(self._waiting)):
                    after = self._waiting.pop(0)
                    self._idle -= 1
            if after is not None:
                after.turn.release()
            for place in group[1:]:
                place.turn.release()

    def _may_lead(self, waiting: int) -> bool:
        """Whether one more group may be led now, with the lock held. Who is at work asks again when done."""
        return self._idle == self._leaders or (self._idle > 0 and waiting >= self._worthwhile)

    def _do(self, group: list[_Place[T, R]]) -> None:
        try:
            self._give(group, self._work([place.item for place in group]))
        except Exception as error:  # noqa: BLE001  # told to whom it concerns
            if len(group) == 1:
                group[0].error = error
                return
            for place in group:
                try:
                    self._give([place], self._work([place.item]))
                except Exception as own:  # noqa: BLE001
                    place.error = own

    @staticmethod
    def _give(group: list[_Place[T, R]], answers: list[R | Exception]) -> None:
        for place, answer in zip(group, answers, strict=True):
            if isinstance(answer, Exception):
                place.error = answer
            else:
                place.answer = answer
