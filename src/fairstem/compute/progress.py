"""Progress: long loops announce themselves, and whoever runs them decides how it is shown.

A loop writes ``for frame in track(frames, label="aligning"):`` and knows nothing of bars. The
reporter in charge is a terminal bar (tqdm) by default, nothing in batch jobs, and whatever
`use` puts in its place: the command line's own bars, a web page, a test's list.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

__all__ = ["Progress", "Silent", "TerminalBars", "current", "track", "use"]

T = TypeVar("T")


class Progress(Protocol):
    """What a reporter of progress must be able to do.

    Calls come in the order `start`, any number of `advance`, `finish`; loops may be nested, so
    several tasks can be open at once. `finish` is called exactly once a task, also when the loop
    ends with an exception.
    """

    def start(self, label: str, total: int | None) -> int:
        """Open a task of `total` steps (None: unknown) and return its number."""
        ...

    def advance(self, task: int, steps: int = 1) -> None:
        """Report that `steps` more steps of the task are done."""
        ...

    def finish(self, task: int) -> None:
        """Close the task, whether or not all its steps were done."""
        ...


class Silent:
    """The reporter that shows nothing."""

    def start(self, label: str, total: int | None) -> int:  # noqa: ARG002
        """Open a task."""
        return 0

    def advance(self, task: int, steps: int = 1) -> None:
        """Do nothing."""

    def finish(self, task: int) -> None:
        """Do nothing."""


class TerminalBars:
    """One tqdm bar a task, on standard error.

    Parameters
    ----------
    leave
        Keep a finished bar on the screen. Nested bars are always cleared.
    """

    def __init__(self, leave: bool = False) -> None:
        self._leave = leave
        self._bars: dict[int, Any] = {}
        self._next = 0

    def start(self, label: str, total: int | None) -> int:
        """Open a bar below those that are open already."""
        from tqdm import tqdm

        task, self._next = self._next, self._next + 1
        nested = bool(self._bars)
        self._bars[task] = tqdm(
            total=total, desc=label or None, leave=self._leave and not nested, dynamic_ncols=True
        )
        return task

    def advance(self, task: int, steps: int = 1) -> None:
        """Move the bar on."""
        self._bars[task].update(steps)

    def finish(self, task: int) -> None:
        """Close the bar."""
        self._bars.pop(task).close()


_reporter: ContextVar[Progress | None] = ContextVar("fairstem_progress", default=None)


def current() -> Progress:
    """Return the reporter in charge.

    Returns
    -------
    Progress
        The one set by `use`; else bars if standard error is a terminal; else `Silent`, so that
        logs of batch jobs stay readable.

    Examples
    --------
    >>> from fairstem.compute import progress
    >>> with progress.use(progress.Silent()):
    ...     type(progress.current()).__name__
    'Silent'
    """
    chosen = _reporter.get()
    if chosen is not None:
        return chosen
    return TerminalBars() if sys.stderr is not None and sys.stderr.isatty() else Silent()


@contextmanager
def use(reporter: Progress) -> Generator[Progress]:
    """Put a reporter in charge for the duration of a ``with`` block.

    Parameters
    ----------
    reporter
        Any object with the methods of `Progress`. Blocks may be nested; the innermost counts.
        Other threads keep their own reporter.

    Yields
    ------
    Progress
        The reporter itself.

    Examples
    --------
    >>> from fairstem.compute import progress
    >>> class Count(progress.Silent):
    ...     steps = 0
    ...     def advance(self, task, steps=1):
    ...         self.steps += steps
    >>> with progress.use(Count()) as count:
    ...     total = sum(progress.track([1, 2, 3], label="adding"))
    >>> total, count.steps
    (6, 3)
    """
    token = _reporter.set(reporter)
    try:
        yield reporter
    finally:
        _reporter.reset(token)


def track(iterable: Iterable[T], total: int | None = None, label: str = "") -> Iterator[T]:
    """Iterate, reporting each finished step to the reporter in charge.

    Parameters
    ----------
    iterable
        What to iterate over.
    total
        Number of steps. By default ``len(iterable)`` where it has one.
    label
        What is being done, as a participle: ``"refining"``.

    Yields
    ------
    object
        The items of `iterable`, unchanged. Cost: one call of the reporter per item; track blocks
        or frames, not pixels.

    Examples
    --------
    >>> from fairstem.compute.progress import track
    >>> [2 * k for k in track(range(3), label="doubling")]
    [0, 2, 4]
    """
    if total is None:
        length = getattr(iterable, "__len__", None)
        total = None if length is None else length()
    reporter = current()
    task = reporter.start(label, total)
    try:
        for item in iterable:
            yield item
            reporter.advance(task)
    finally:
        # reached also when the loop body raises or breaks: Python closes the generator
        reporter.finish(task)
