"""Callers that come at the same time are served together, and each gets its own."""

import threading
import time
from collections.abc import Callable

import pytest

from routing.storing.grouping import Group


def together(count: int, call: Callable[[int], object]) -> list[object]:
    """What so many threads that begin at once get."""
    found: list[object] = [None] * count
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        try:
            found[number] = call(number)
        except Exception as error:  # noqa: BLE001  # it is what is asked for
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    return found


def test_one_alone_is_served_in_its_own_thread() -> None:
    where: list[int] = []

    def work(items: list[int]) -> list[int | Exception]:
        where.append(threading.get_ident())
        return [item * 2 for item in items]

    assert Group(work).submit(21) == 42
    assert where == [threading.get_ident()]


@pytest.mark.parametrize("leaders", [1, 2, 4])
def test_each_of_many_gets_its_own_answer_and_groups_are_far_fewer(leaders: int) -> None:
    sizes: list[int] = []

    def work(items: list[int]) -> list[int | Exception]:
        sizes.append(len(items))
        time.sleep(0.01)
        return [item * 2 for item in items]

    group = Group(work, most=16, leaders=leaders)
    assert together(64, group.submit) == [number * 2 for number in range(64)]
    assert sum(sizes) == 64
    assert max(sizes) <= 16
    assert len(sizes) < 32


def test_no_more_groups_run_at_once_than_there_are_leaders() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(items: list[int]) -> list[int | Exception]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return list(items)

    group = Group(work, most=4, leaders=2)
    together(40, group.submit)
    assert most == 2


def test_a_second_group_begins_only_when_enough_wait_and_nobody_is_forgotten() -> None:
    sizes: list[int] = []
    running, most, lock = 0, 0, threading.Lock()

    def work(items: list[int]) -> list[int | Exception]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            sizes.append(len(items))
        time.sleep(0.01)
        with lock:
            running -= 1
        return list(items)

    few = Group(work, leaders=2, worthwhile=16)
    assert together(10, few.submit) == list(range(10))
    assert most == 1
    assert together(64, few.submit) == list(range(64))
    assert most == 2
    assert sum(sizes) == 74


def test_an_answer_that_is_an_exception_is_raised_by_whose_it_is() -> None:
    def work(items: list[int]) -> list[int | Exception]:
        time.sleep(0.005)
        return [ValueError(f"no {item}") if item % 2 else item for item in items]

    found = together(20, Group(work).submit)
    assert [number for number, one in enumerate(found) if isinstance(one, ValueError)] == list(
        range(1, 20, 2)
    )
    assert str(found[7]) == "no 7"


def test_one_that_cannot_be_done_harms_no_other() -> None:
    def work(items: list[int]) -> list[int | Exception]:
        time.sleep(0.005)
        if 13 in items:
            raise RuntimeError("13 cannot be stored")
        return list(items)

    found = together(30, Group(work).submit)
    assert isinstance(found[13], RuntimeError)
    assert [one for number, one in enumerate(found) if number != 13] == [n for n in range(30) if n != 13]


def test_after_an_error_it_goes_on() -> None:
    def work(items: list[int]) -> list[int | Exception]:
        if items == [0]:
            raise RuntimeError("not this one")
        return list(items)

    group = Group(work)
    with pytest.raises(RuntimeError, match="not this one"):
        group.submit(0)
    assert group.submit(1) == 1
