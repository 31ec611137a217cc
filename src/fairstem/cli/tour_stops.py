"""The stops of the tour: what images and series have in common, and the phantoms that stand in for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairstem.errors import DataError
from fairstem.plot.report import Prose, Section

__all__ = ["Stop", "line_of", "refused", "row_of", "simulate", "stands_in"]


@dataclass(frozen=True, kw_only=True)
class Stop:
    """One stop of the tour.

    Parameters
    ----------
    name
        Short name, for ``--only``.
    title
        Heading in the report.
    about
        What it is and what to look for, in plain words.
    phantom, options
        What is simulated: shown always where there is no file, and in its place otherwise.
    quick
        Part of the quick tour.
    """

    name: str
    title: str
    about: str
    phantom: str
    options: Mapping[str, Any] = field(default_factory=dict)
    quick: bool = False


def simulate(stop: Stop) -> tuple[Any, Any]:
    """Make the phantom of a stop.

    Parameters
    ----------
    stop
        Which.

    Returns
    -------
    tuple
        A HyperSpy signal with its provenance; the phantom.
    """
    from fairstem.signals import Step
    from fairstem.signals.making import make_signal
    from fairstem.simulate import phantom

    made = phantom(stop.phantom, **stop.options)
    step = Step("fairstem.simulate.phantom", {"name": made.name, **made.parameters})
    counts = made.parameters["gain"] == 1 and made.parameters["offset"] == 0
    signal = make_signal(
        made.data,
        pixel_size_nm=(made.pixel_size_nm, made.pixel_size_nm),
        # of a detector that does not count, the noise is left to be estimated, as it is for real files
        noise=(1.0, 0.0, 0.0) if counts else None,
        title=f"phantom {made.name}",
        steps=[step],
    )
    return signal, made


def stands_in(made: Any, asked: bool, lacking: str) -> str:
    """Say that a phantom stands in for a recording, and why.

    Parameters
    ----------
    made
        The phantom.
    asked
        Whether it was asked for.
    lacking
        Otherwise, what is not at hand.

    Returns
    -------
    str
        One sentence.
    """
    why = "as asked" if asked else lacking
    return f"Simulated: phantom {made.name!r} stands in, {why}."


def refused(
    stop: Stop, about: str, done: str, facts: Mapping[str, Any], error: DataError
) -> tuple[Section, dict[str, Any]]:
    """Return the part of a stop that does not fit the method.

    Parameters
    ----------
    stop
        Which.
    about
        What it is and where it is from.
    done
        What could not be done with it: "registered".
    facts
        Numbers so far.
    error
        Why.

    Returns
    -------
    tuple
        Its part of the page, and the numbers with ``error`` among them.
    """
    words = f"It could not be {done}: {error}"
    return Section(stop.title, [Prose(about), Prose(words)]), {**facts, "error": str(error)}


def row_of(
    title: str,
    facts: Mapping[str, Any],
    heads: Sequence[str],
    cells: Callable[[Mapping[str, Any]], tuple[Any, ...]],
) -> tuple[Any, ...]:
    """Return the line of a stop in the overview.

    Parameters
    ----------
    title
        Of the stop.
    facts
        Its numbers.
    heads
        Of the columns: the first is for the title, the second for real or phantom, the last for seconds.
    cells
        Return those in between; not asked where ``error`` is among the numbers.

    Returns
    -------
    tuple
        Cells.
    """
    kind = "real" if facts["real"] else "phantom"
    if "error" in facts:
        return title, kind, *["–"] * (len(heads) - 2)
    return title, kind, *cells(facts), f"{facts['seconds']:.1f}"


def line_of(facts: Mapping[str, Any], what: str, done: str, said: Callable[[Mapping[str, Any]], str]) -> str:
    """Return one line on a stop, for the terminal.

    Parameters
    ----------
    facts
        Its numbers.
    what
        An "image" or a "series".
    done
        What was done with it: "registered".
    said
        Return what was found; not asked where ``error`` is among the numbers.

    Returns
    -------
    str
        What it is, what was found, and the time it took.
    """
    kind = f"real {what}" if facts["real"] else "phantom"
    if "error" in facts:
        return f"{kind}, not {done}: {facts['error']}"
    return f"{kind}, {said(facts)}, {facts['seconds']:.1f} s"
