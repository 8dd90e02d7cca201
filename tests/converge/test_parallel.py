"""Several engines at once: answers in order, errors after all have ended, nothing left running."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.converge.parallel import each


@given(st.lists(st.integers(), max_size=20), st.integers(0, 9))
def test_answers_come_in_the_order_of_the_questions(items: list[int], workers: int) -> None:
    assert each(items, lambda item: item * 2, workers=workers) == tuple(item * 2 for item in items)


def test_the_others_finish_before_the_first_error_is_raised() -> None:
    done: list[int] = []

    def work(item: int) -> int:
        if item in (1, 3):
            raise ValueError(item)
        done.append(item)
        return item

    with pytest.raises(ValueError, match="1"):
        each(range(6), work, workers=2)
    assert sorted(done) == [0, 2, 4, 5]


def test_no_more_work_at_once_than_there_are_workers() -> None:
    most, now, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2, timeout=30)

    def work(_item: int) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        both.wait()
        with lock:
            now -= 1

    each(range(8), work, workers=2)
    assert most == 2


def test_no_thread_is_left_behind() -> None:
    each(range(8), lambda item: item, workers=4)
    assert not [one for one in threading.enumerate() if one.name.startswith("ismgr")]
