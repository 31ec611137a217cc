"""How a verb ends: exit codes, and errors in three short lines."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from fairstem.cli.options import as_options
from fairstem.errors import (
    DataError,
    DataTypeError,
    FairstemError,
    FileFormatError,
    MissingDependencyError,
    OutputError,
)

__all__ = ["BUG", "DATA", "INPUT", "INTERRUPTED", "OK", "OUTPUT", "USAGE", "code_of", "guarded"]

OK, BUG, USAGE, INPUT, DATA, OUTPUT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
ISSUES = "https://github.com/fairstem/fairstem/issues"


def code_of(error: BaseException) -> int:
    """Return the exit code of an error.

    Parameters
    ----------
    error
        What was raised.

    Returns
    -------
    int
        See the package's docstring.

    Examples
    --------
    >>> from fairstem.errors import FileFormatError
    >>> code_of(FileFormatError("no such file"))
    3
    """
    stop = _stop_behind(error)
    if stop is not None:
        return stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else INTERRUPTED
    if isinstance(error, FileFormatError | MissingDependencyError):
        return INPUT
    if isinstance(error, OutputError):
        return OUTPUT
    return DATA if isinstance(error, DataError | DataTypeError | MemoryError) else BUG


def _stop_behind(error: BaseException) -> BaseException | None:
    """Return the interruption that an error stands for: in compiled code it surfaces as SystemError."""
    if isinstance(error, KeyboardInterrupt):
        return error
    seen: BaseException | None = error if isinstance(error, SystemError) else None
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt | SystemExit):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _say(error: BaseException) -> None:
    if _stop_behind(error) is not None:
        typer.echo("interrupted; no output was left behind", err=True)
    elif isinstance(error, FairstemError):
        typer.echo(f"error: {error.given.rstrip('. ')}.", err=True)
        for word, text in (("needed", error.needed), ("do", error.todo)):
            if text:
                typer.echo(f"{word}: {as_options(text).rstrip('. ')}.", err=True)
    elif isinstance(error, MemoryError):
        typer.echo("error: the data do not fit into memory.", err=True)
        typer.echo("do: see --dry-run for the estimate; take a smaller part or a larger machine.", err=True)
    else:
        typer.echo(f"error inside fairstem: {type(error).__name__}: {error}", err=True)
        typer.echo("needed: nothing from you; this is a bug.", err=True)
        typer.echo(f"do: run again with --debug and report the traceback at {ISSUES}.", err=True)


def guarded(verb: Callable[..., None]) -> Callable[..., None]:
    """Wrap a verb so that it ends with the right exit code and says why.

    Parameters
    ----------
    verb
        The function behind a verb; its option `debug` (or FAIRSTEM_DEBUG in the environment) shows
        the traceback.

    Returns
    -------
    callable
        With the same signature.

    Examples
    --------
    >>> def fine() -> None: ...
    >>> guarded(fine).__name__
    'fine'
    """

    @functools.wraps(verb)
    def run(*args: Any, **kwargs: Any) -> None:
        debug = bool(kwargs.get("debug")) or bool(os.environ.get("FAIRSTEM_DEBUG"))
        try:
            verb(*args, **kwargs)
        except BrokenPipeError:
            # the reader of our output went away (fairstem info x | head): nothing is wrong
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(OK) from None
        except (KeyboardInterrupt, Exception) as error:
            if type(error).__module__.startswith(("typer", "click")):
                raise
            if debug:
                import traceback

                traceback.print_exc()
            _say(error)
            raise typer.Exit(code_of(error)) from None

    return run
