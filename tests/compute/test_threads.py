"""Threads: order kept, errors raised, the number asked for."""

from __future__ import annotations

import threading
import time

import pytest

from fairstem.compute import map_threads, n_threads
from fairstem.errors import DataError


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    def slow_first(n: int) -> int:
        time.sleep(0.02 if n == 0 else 0.0)
        return n * n

    assert map_threads(slow_first, range(9), threads=threads) == [n * n for n in range(9)]


def test_several_items_are_worked_on_at_a_time() -> None:
    meeting = threading.Barrier(2, timeout=10)  # breaks unless two are inside at once
    assert len(map_threads(lambda _: meeting.wait(), range(2), threads=2)) == 2


def test_an_error_is_raised_and_what_has_not_begun_is_left() -> None:
    done: list[int] = []

    def fails(n: int) -> None:
        if n == 0:
            raise DataError("item 0 is bad")
        time.sleep(0.05)
        done.append(n)

    with pytest.raises(DataError, match="item 0"):
        map_threads(fails, range(50), threads=2)
    assert len(done) < 10


def test_the_environment_sets_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRSTEM_NUM_THREADS", "3")
    assert n_threads() == 3
    monkeypatch.setenv("FAIRSTEM_NUM_THREADS", "")
    assert n_threads() >= 1


@pytest.mark.parametrize("bad", ["0", "-1", "two", "1.5"])
def test_a_bad_number_is_refused(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("FAIRSTEM_NUM_THREADS", bad)
    with pytest.raises(DataError, match="FAIRSTEM_NUM_THREADS"):
        n_threads()


def test_nothing_to_do() -> None:
    assert map_threads(str, []) == []
