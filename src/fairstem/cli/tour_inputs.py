"""What the tour looks at, and what it compares with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairstem.cli.measured import Measured
from fairstem.cli.tour_samples import Sample
from fairstem.cli.tour_stops import simulate, stands_in
from fairstem.plot.numbers import significant
from fairstem.plot.report import Number

__all__ = ["Input", "compare", "open_sample"]


@dataclass(frozen=True)
class Input:
    """An opened sample.

    Parameters
    ----------
    signal
        HyperSpy signal.
    title
        For captions.
    origin
        Where it is from, one sentence.
    real
        Whether it is a recorded image.
    known
        (n, 2) known positions (y, x) in px; None when there are none.
    known_from
        Who says so.
    """

    signal: Any
    title: str
    origin: str
    real: bool
    known: NDArray[np.float64] | None
    known_from: str


def open_sample(sample: Sample, simulated: bool = False) -> Input:
    """Open the real file of a sample, or make its phantom.

    Parameters
    ----------
    sample
        Which.
    simulated
        Make the phantom even if the file is at hand.

    Returns
    -------
    Input
        With known positions, where there are any.
    """
    from fairstem import data
    from fairstem.signals import load

    if simulated or not data.available(sample.file):
        return _phantom(sample, asked=simulated)
    signal = load(data.fetch(sample.file), **sample.load)
    record = data.record(sample.file)
    known = None
    if sample.fitted_by:
        fitted = signal.original_metadata.get_item("fitted")
        known = np.column_stack([np.asarray(fitted["y"], float), np.asarray(fitted["x"], float)])
    origin = f"Real image {sample.file}: {record.description}. Source: {record.citation}."
    return Input(signal, sample.title, origin, True, known, sample.fitted_by)


def _phantom(sample: Sample, asked: bool) -> Input:
    signal, made = simulate(sample)
    lacking = f"the file {sample.file} is not at hand (fairstem.data.fetch gets it)"
    origin = f"{stands_in(made, asked, lacking)} Every column is known."
    known = _visible(made.truth, made.data.shape[-2:])
    return Input(signal, f"phantom {made.name}", origin, False, known, "the simulation")


def _visible(truth: pd.DataFrame, shape: tuple[int, ...]) -> NDArray[np.float64]:
    position = truth[["y", "x"]].to_numpy(float)
    inside = ((position > 0) & (position < np.array(shape) - 1)).all(axis=1)
    return position[inside]


def compare(measured: Measured, opened: Input) -> tuple[list[Number], dict[str, Any]]:
    """Compare columns with known positions, one by one.

    Parameters
    ----------
    measured
        What was found.
    opened
        With what is known.

    Returns
    -------
    tuple
        Numbers for the page and a dictionary; both empty when nothing is known.
    """
    from fairstem.metrics import match_positions

    if opened.known is None or not len(opened.known) or not len(measured.columns):
        return [], {}
    truth = pd.DataFrame(opened.known, columns=["y", "x"])
    size = measured.pixel_size_nm
    match = match_positions(measured.columns, truth, pixel_size_nm=size, shape=measured.image.shape)
    return _scores(match, opened, size is not None)


def _scores(match: Any, opened: Input, calibrated: bool) -> tuple[list[Number], dict[str, Any]]:
    matched = int(match.scored.sum())
    known = matched + len(match.false_negatives)
    unit = "pm" if calibrated else "px"
    facts: dict[str, Any] = {
        "known": known,
        "matched": matched,
        "recall": float(match.recall),
        "precision": float(match.precision),
        "median": float(match.median_pm if calibrated else match.median),
        "rms": float(match.rms_pm if calibrated else match.rms),
        "unit": unit,
        "known_from": opened.known_from,
    }
    said = f"{matched} of {known} positions of {opened.known_from} found, the border left out"
    numbers = [
        Number("recall", f"{100 * match.recall:.2f}", unit="%", note=said),
        Number(
            "precision",
            f"{100 * match.precision:.2f}",
            unit="%",
            note="of the columns found are in that list, the border left out",
        ),
        Number(
            "distance to those positions",
            significant(facts["median"], 2),
            unit=unit,
            note=f"median; rms {significant(facts['rms'], 2)} {unit}",
        ),
    ]
    return numbers, facts
