"""Giving way: several threads at once, and what was usual is usual again."""

import gc
import os
import sys
import threading

import pytest

from routing.courtesy import giving_way


def test_of_several_threads_that_give_way_the_last_one_out_puts_it_back() -> None:
    usual = sys.getswitchinterval()
    first_is_in, second_is_in = threading.Event(), threading.Event()
    seen: list[float] = []

    def first() -> None:
        with giving_way():
            first_is_in.set()
            second_is_in.wait(5)
        seen.append(sys.getswitchinterval())

    thread = threading.Thread(target=first)
    thread.start()
    assert first_is_in.wait(5)
    with giving_way():
        second_is_in.set()
        thread.join(5)
        assert seen == pytest.approx([usual / 10])
        assert not gc.isenabled()
    assert sys.getswitchinterval() == pytest.approx(usual)
    assert gc.isenabled()


def test_what_fails_puts_it_back_too() -> None:
    with pytest.raises(ValueError, match="on purpose"), giving_way():
        raise ValueError("on purpose")
    assert gc.isenabled()


def test_a_fork_in_the_midst_of_it_collects_garbage_again() -> None:
    with giving_way():
        child = os.fork()
        if child == 0:
            os._exit(0 if gc.isenabled() else 1)
        assert os.waitpid(child, 0)[1] == 0
