"""What was verified is trusted for a while, and kept in bounds."""

import threading

import pytest

from catalog.verified import Verified


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_key_is_fresh_then_good_in_need_then_nothing(clock: Clock) -> None:
    kept: Verified[str] = Verified(10, clock)
    kept.keep(b"a", "aurora", fresh=3, grace=3600)
    told = {}
    for clock.now in (100, 102.9, 103, 3699.9, 3700):
        told[clock.now] = kept.fresh(b"a"), kept.last(b"a")
    assert told == {
        100: ("aurora", "aurora"),
        102.9: ("aurora", "aurora"),
        103: (None, "aurora"),
        3699.9: (None, "aurora"),
        3700: (None, None),
    }


def test_zero_seconds_keep_nothing(clock: Clock) -> None:
    kept: Verified[str] = Verified(10, clock)
    kept.keep(b"a", "aurora", fresh=0, grace=0)
    assert (kept.fresh(b"a"), kept.last(b"a")) == (None, None)


def test_looked_up_again_it_is_trusted_for_as_long_again_and_as_what_it_is_now(clock: Clock) -> None:
    kept: Verified[str] = Verified(10, clock)
    kept.keep(b"a", "aurora", 3, 3600)
    clock.now += 2
    kept.keep(b"a", "borealis", 3, 3600)
    clock.now += 2
    assert kept.fresh(b"a") == "borealis"
    kept.drop(b"a")
    kept.drop(b"a")
    assert (kept.fresh(b"a"), kept.last(b"a")) == (None, None)


def test_of_too_many_those_go_that_were_looked_up_longest_ago(clock: Clock) -> None:
    kept: Verified[str] = Verified(3, clock)
    for digest in (b"a", b"b", b"c", b"a", b"d"):
        kept.keep(digest, "x", 3, 3600)
    assert [digest for digest in (b"a", b"b", b"c", b"d") if kept.fresh(digest)] == [b"a", b"c", b"d"]


def test_threads_that_read_while_others_write_see_what_was_kept_or_nothing() -> None:
    kept: Verified[int] = Verified(50)
    wrong: list[object] = []

    def write() -> None:
        for number in range(3_000):
            kept.keep(bytes([number % 100]), number % 100, 60, 60)
            kept.drop(bytes([(number + 7) % 100]))

    def read() -> None:
        for number in range(6_000):
            found = kept.fresh(bytes([number % 100]))
            if found not in (None, number % 100):
                wrong.append(found)

    threads = [threading.Thread(target=work) for work in (write, write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
