"""Requests of one request_id within a process: one is answered, the others get its answer."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from routing.engine import SelectionProblem
from routing.repeats import KEPT, Asked, Repeats

ONE = Asked("aurora", "essayist", "c-1", request_id="r-1")


def counted(calls: list[int]) -> Callable[[], dict[str, Any]]:
    def answer() -> dict[str, Any]:
        calls.append(1)
        return {"number": len(calls)}

    return answer


class Late(Asked):
    """Tells when it has met the earlier request of its id: from then on it has that one's answer to come."""

    met = threading.Semaphore(0)

    def refuse_other(self, earlier: Asked) -> None:
        self.met.release()
        super().refuse_other(earlier)


def meanwhile(repeats: Repeats[Any], answer: Callable[[], dict[str, Any]], late: list[Late]) -> list[Any]:
    """What ONE and the late requests of its id get, all of which come while ONE is being answered."""
    begun, go = threading.Event(), threading.Event()

    def slow() -> dict[str, Any]:
        begun.set()
        assert go.wait(10)
        return answer()

    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(repeats.once, ONE, slow)
        assert begun.wait(10)
        rest = [pool.submit(repeats.once, asked, answer) for asked in late]
        for _ in late:
            assert Late.met.acquire(timeout=10)
        go.set()
        return [one.exception(10) or one.result(10) for one in (first, *rest)]


def test_who_comes_meanwhile_is_not_answered_apart() -> None:
    calls: list[int] = []
    late = [Late("aurora", "essayist", "c-1", request_id="r-1") for _ in range(19)]
    told = meanwhile(Repeats(), counted(calls), late)
    assert (told, calls) == ([{"number": 1}] * 20, [1])


def test_another_request_under_the_same_id_is_refused_also_meanwhile() -> None:
    calls: list[int] = []
    first, refused = meanwhile(
        Repeats(), counted(calls), [Late("aurora", "essayist", "c-2", request_id="r-1")]
    )
    assert first == {"number": 1}
    assert isinstance(refused, SelectionProblem)
    assert (refused.status, refused.code) == (409, "request_id_reused")


def test_a_foreign_tenants_request_of_the_same_id_is_its_own() -> None:
    repeats: Repeats[Any] = Repeats()
    repeats.keep(ONE, {"number": 0})
    foreign = Asked("borealis", "essayist", "c-1", request_id="r-1")
    assert repeats.once(foreign, counted([])) == {"number": 1}


def test_what_the_first_fails_by_the_others_fail_by_and_the_next_tries_again() -> None:
    repeats: Repeats[Any] = Repeats()

    def fail() -> dict[str, Any]:
        raise ValueError("no bundle")

    with pytest.raises(ValueError, match="no bundle"):
        repeats.once(ONE, fail)
    assert repeats.once(ONE, counted([])) == {"number": 1}


def test_requests_without_an_id_are_each_answered() -> None:
    calls: list[int] = []
    repeats: Repeats[Any] = Repeats()
    asked = Asked("aurora", "essayist", "c-1")
    repeats.keep(asked, {"number": 0})
    assert [repeats.once(asked, counted(calls))["number"] for _ in range(2)] == [1, 2]


def test_only_the_newest_answers_are_kept() -> None:
    repeats: Repeats[Any] = Repeats()
    for number in range(KEPT + 1):
        repeats.keep(Asked("aurora", "essayist", "c-1", request_id=f"r-{number}"), {"number": number})
    oldest = Asked("aurora", "essayist", "c-1", request_id="r-0")
    newest = Asked("aurora", "essayist", "c-1", request_id=f"r-{KEPT}")
    assert repeats.once(oldest, counted([])) == {"number": 1}
    assert repeats.once(newest, counted([])) == {"number": KEPT}
