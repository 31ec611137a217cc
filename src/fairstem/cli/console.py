"""What a verb says and where: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from fairstem.cli.options import as_options
from fairstem.compute import progress
from fairstem.errors import FairstemWarning

__all__ = ["RichBars", "emit", "heard", "note", "print_json", "session"]


class RichBars:
    """Progress bars of the command line: label, bar, count and remaining time, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._open = 0

    def start(self, label: str, total: int | None) -> int:
        """Open a bar."""
        if self._open == 0:
            self._bars.start()
        self._open += 1
        return self._bars.add_task(label or "working", total=total)

    def advance(self, task: int, steps: int = 1) -> None:
        """Move the bar on."""
        self._bars.advance(task, steps)  # type: ignore[arg-type]

    def finish(self, task: int) -> None:
        """Remove the bar; the display stops with the last one."""
        self._bars.remove_task(task)  # type: ignore[arg-type]
        self._open -= 1
        if self._open == 0:
            self._bars.stop()


def note(text: str, quiet: bool = False) -> None:
    """Say something that is no result.

    Parameters
    ----------
    text
        One line, written to standard error.
    quiet
        Say nothing.
    """
    if not quiet:
        typer.echo(text, err=True)


def emit(lines: str | list[str]) -> None:
    """Write a result for a reader to standard output.

    Parameters
    ----------
    lines
        Text, or lines of it.
    """
    typer.echo(lines if isinstance(lines, str) else "\n".join(lines))


def print_json(content: Mapping[str, Any]) -> None:
    """Write a result for a program to standard output.

    Parameters
    ----------
    content
        JSON-like; NaN becomes null.
    """
    from fairstem.signals.provenance import jsonable

    typer.echo(json.dumps(jsonable(dict(content)), indent=2, ensure_ascii=False, allow_nan=False))


@contextmanager
def heard(quiet: bool = False) -> Generator[list[str]]:
    """Collect fairstem's warnings, saying each once; hide those of other packages.

    Parameters
    ----------
    quiet
        Collect without saying.

    Yields
    ------
    list of str
        The messages so far.
    """
    messages: list[str] = []

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = str(message)
        if issubclass(category, FairstemWarning) and text not in messages:
            messages.append(text)
            note(f"note: {as_options(text)}", quiet)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", FairstemWarning)
        warnings.showwarning = show
        yield messages


@contextmanager
def session(quiet: bool = False) -> Generator[list[str]]:
    """Run a verb's work: warnings collected, progress bars on a terminal.

    Parameters
    ----------
    quiet
        No bars, no notes.

    Yields
    ------
    list of str
        Warnings so far.
    """
    bars = not quiet and sys.stderr is not None and sys.stderr.isatty()
    with heard(quiet) as messages, progress.use(RichBars() if bars else progress.Silent()):
        yield messages
