"""The series of the tour: registered, and compared with the true displacement where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fairstem.cli.registered import Registered
from fairstem.cli.tour_stops import Stop, refused, simulate, stands_in
from fairstem.errors import DataError
from fairstem.plot.numbers import significant
from fairstem.plot.report import Number, Section

__all__ = ["HEADS", "SERIES", "SeriesSample", "cells_of", "found_in", "visit_series"]


@dataclass(frozen=True, kw_only=True)
class SeriesSample(Stop):
    """A series that is registered.

    Parameters
    ----------
    files
        Names of the sample files in `fairstem.data`, one frame each, in the order of recording.
    align
        Arguments of `fairstem.register.align`.
    """

    files: Sequence[str] = ()
    align: Mapping[str, Any] = field(default_factory=dict)


SERIES = (
    SeriesSample(
        name="series",
        title="A distorted series, its truth known",
        about="Ten frames of a crystal. Every row of every frame is displaced by drift, by slow waves and by "
        "jitter, as scans are, and 30 electrons reach the brightest pixel. Each row's displacement is "
        "measured with an error bar and compared with the one that was simulated. What all frames share by "
        "chance stays in the average: its size is computed from the frames alone, and compared as well.",
        phantom="p1",
        options={"seed": 1},
        quick=True,
    ),
    SeriesSample(
        name="pt-series",
        title="Single Pt atoms, three frames of one area",
        about="Between the frames the specimen drifted, and atoms on the support may have moved by themselves. Where "
        "the frames differ by more than noise, the map of changes says so. A row of such an image holds few "
        "atoms: its error bar is large, and it leans on its neighbours.",
        phantom="single-atoms",
        options={"seed": 4, "frames": 3, "shape": (256, 256), "distortion": "row"},
        files=tuple(f"{n}_HAADF_15nm_Sample_PtNC_21Oct20.tif" for n in ("047", "048", "051")),
    ),
)


def visit_series(sample: SeriesSample, simulated: bool = False) -> tuple[Section, dict[str, Any]]:
    """Register a series of the tour.

    Parameters
    ----------
    sample
        Which.
    simulated
        Simulate it even if the files are at hand.

    Returns
    -------
    tuple
        Its part of the page, and the numbers. Where the series does not fit the method, the page says
        why, and so does ``error`` among the numbers.
    """
    from fairstem.cli.align_measure import register_series
    from fairstem.cli.align_page import section, summary
    from fairstem.cli.console import heard

    with heard(quiet=True) as warnings:
        signal, origin, truth = _open(sample, simulated)
        facts: dict[str, Any] = {"name": sample.name, "real": truth is None}
        about = f"{sample.about}\n\n{origin}"
        try:
            alignment, registered = register_series(signal, sample.title, sample.align, warnings)
        except DataError as error:
            return refused(sample, about, "registered", facts, error)
    numbers, scores = ([], {}) if truth is None else _compare(alignment, registered, truth)
    part = section(registered, about=about, title=sample.title, extra=numbers)
    return part, facts | {"comparison": scores} | summary(registered)


def _open(sample: SeriesSample, simulated: bool) -> tuple[Any, str, Any]:
    """Return the series, where it is from, and the true displacement of a simulated one."""
    from fairstem import data
    from fairstem.signals import load, stack

    at_hand = bool(sample.files) and all(data.available(name) for name in sample.files)
    if at_hand and not simulated:
        frames = [load(data.fetch(name)) for name in sample.files]
        record = data.record(sample.files[0])
        names = ", ".join(sample.files)
        return stack(frames), f"Real images {names}: {record.description}. Source: {record.citation}.", None
    signal, made = simulate(sample)
    origin = f"Simulated: phantom {made.name!r}. The displacement of every row is known."
    if sample.files:
        origin = stands_in(made, simulated, "the files are not at hand (fairstem.data.fetch gets them)")
    return signal, origin, made.displacement


def _compare(alignment: Any, registered: Registered, truth: Any) -> tuple[list[Number], dict[str, Any]]:
    """Compare with the true displacement: what registration can see of it, and what it can't."""
    from fairstem.metrics import displacement_error

    error = displacement_error(alignment.displacement, truth, pixel_size_nm=registered.pixel_size_nm)
    scale = float(np.sqrt(np.mean(registered.scale**2)))
    facts: dict[str, Any] = {
        "error": error.rmse * scale,
        "common": error.common * scale,
        "unit": registered.unit,
    }
    numbers = [
        Number(
            "error against the true displacement",
            significant(facts["error"], 2),
            unit=registered.unit,
            note=f"rms per axis of all pixels, {significant(error.rmse, 2)} px; what all frames share left out",
        ),
        Number(
            "true common mode",
            significant(facts["common"], 2),
            unit=registered.unit,
            note="rms per axis, as simulated: the floor above is its expected size, computed without knowing it",
        ),
    ]
    return numbers, facts


HEADS = (
    "series",
    "input",
    "frames",
    "displacement within frames",
    "error bar of a row",
    "common-mode floor",
    "error against truth",
    "time (s)",
)


def cells_of(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what the overview says of a series, under `HEADS` without title, input and time.

    Parameters
    ----------
    facts
        Of `visit_series`.

    Returns
    -------
    tuple
        Cells.
    """
    unit, known = facts["unit"], facts["comparison"]
    used = f"{len(facts['frames_used'])} of {facts['frames']}"
    sizes = [_size(facts[key], unit) for key in ("within_frames", "row_error", "floor")]
    agreed = f"{significant(known['error'], 2)} {unit}" if known else ""
    return used, *sizes, agreed


def _size(value: float | None, unit: str) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{significant(value, 2)} {unit}"


def found_in(facts: Mapping[str, Any]) -> str:
    """Return what was found in a series, for the terminal.

    Parameters
    ----------
    facts
        Of `visit_series`.

    Returns
    -------
    str
        Its frames and its floor.
    """
    unit, known = facts["unit"], facts["comparison"]
    text = f"{len(facts['frames_used'])} frames, floor {significant(facts['floor'], 2)} {unit}"
    return f"{text}, error {significant(known['error'], 2)} {unit}" if known else text
