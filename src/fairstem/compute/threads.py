"""Work of one process on several cores: for functions that let go of the interpreter's lock, such as kernels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fairstem.errors import DataError

__all__ = ["map_threads", "n_threads"]

A = TypeVar("A")
R = TypeVar("R")

_VARIABLE = "FAIRSTEM_NUM_THREADS"
_MOST = 16  # more cores than memory can feed only wait


def n_threads() -> int:
    """Return how many threads a call may use.

    Returns
    -------
    int
        ``FAIRSTEM_NUM_THREADS`` of the environment, else the cores this process may run on, at most 16.

    Raises
    ------
    DataError
        ``FAIRSTEM_NUM_THREADS`` is no whole number above 0.

    Examples
    --------
    >>> n_threads() >= 1
    True
    """
    asked = os.environ.get(_VARIABLE, "").strip()
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise DataError(f"{_VARIABLE}={asked!r}", needed="a whole number, 1 or more")
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return max(1, min(len(os.sched_getaffinity(0)), _MOST))
    return max(1, min(os.cpu_count() or 1, _MOST))


def map_threads(function: Callable[[A], R], items: Iterable[A], *, threads: int | None = None) -> list[R]:
    """Apply a function to items, several at a time.

    Parameters
    ----------
    function
        Works on one item and doesn't write where another does. Faster only as far as it lets go of the
        interpreter's lock: numba kernels with ``nogil=True``, numpy on large arrays.
    items
        What to work on. Cut the work into the same items whatever the number of threads: the results, and
        sums over them in their order, are then the same everywhere.
    threads
        How many at a time; `n_threads` by default.

    Returns
    -------
    list
        The results in the order of the items. The first error is raised once the items at work are done.

    Examples
    --------
    >>> map_threads(lambda x: x**2, range(4))
    [0, 1, 4, 9]
    """
    work = list(items)
    number = min(n_threads() if threads is None else threads, len(work))
    if number <= 1:
        return [function(item) for item in work]
    with ThreadPoolExecutor(number, thread_name_prefix="fairstem") as pool:
        waiting = [pool.submit(function, item) for item in work]
        try:
            return [future.result() for future in waiting]
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
