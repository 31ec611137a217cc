"""The 4D scan of the tour: its symmetry maps, compared with the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.cli.scanned import Scanned
from fairstem.cli.tour_stops import Stop, refused
from fairstem.errors import DataError
from fairstem.plot.numbers import significant, with_error
from fairstem.plot.report import Number, Section

__all__ = ["HEADS", "SCANS", "ScanSample", "cells_of", "found_in", "visit_scan"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ScanSample(Stop):
    """A scan of a thin crystal in which one column is displaced, whose symmetry is mapped.

    Parameters
    ----------
    cells
        Cells along y and x; the column in the middle cell is moved.
    species
        Atomic number of the column that is moved.
    shift_pm
        How far it is moved along x.
    electrons
        Of the beam, per pattern.
    seed
        Of the counts.
    """

    cells: tuple[int, int] = (3, 3)
    species: int = 22
    shift_pm: float = 15.0
    electrons: float = 5000.0
    seed: int = 1


SCANS = (
    ScanSample(
        name="symmetry",
        title="Symmetry seen with few electrons",
        about="A diffraction pattern at every position of a crystal (4D-STEM). Over a column of atoms the pattern is "
        "as symmetric as the crystal there: turned by 180° or 90° (C2, C4) or mirrored (mx, my) it looks the same, and "
        "γ is 1. Counting noise makes every pattern less symmetric than it is. That loss is taken off, and what is "
        "left of the noise is stated at each position. One column of titanium and oxygen, the one in the middle, was "
        "moved by 15 pm to the right: its pattern no longer looks the same turned by 180°, those of its like do.",
        phantom="SrTiO3",
        options={"scan": (36, 36), "detector": (33, 33), "semiangle_mrad": 20.0, "phase_rad": 1.5},
        quick=True,
    ),
)


def visit_scan(sample: ScanSample, simulated: bool = False) -> tuple[Section, dict[str, Any]]:  # noqa: ARG001
    """Map the symmetry of a scan of the tour.

    Parameters
    ----------
    sample
        Which.
    simulated
        There is no other input yet.

    Returns
    -------
    tuple
        Its part of the page, and the numbers. Where the scan does not fit the method, the page says why, and so
        does ``error`` among the numbers.
    """
    from fairstem.cli.console import heard
    from fairstem.cli.symmetry_measure import measure
    from fairstem.cli.symmetry_page import section, summary
    from fairstem.diffraction import symmetry

    made, column = _simulate(sample)
    about = (
        f"{sample.about}\n\nSimulated: {sample.phantom} as a thin phase object (fairstem.simulate.thin_scan), "
        f"{sample.electrons:g} electrons per pattern. The patterns without noise are known."
    )
    facts: dict[str, Any] = {"name": sample.name, "real": False}
    asked = {"operations": ["C2", "C4", "mx", "my"], "noise": "poisson"}
    with heard(quiet=True) as warnings:
        signal = made.signal(made.counts(sample.electrons, sample.seed))
        try:
            scanned, _ = measure(signal, sample.title, asked, warnings)
        except DataError as error:
            return refused(sample, about, "mapped", facts, error)
    scanned = replace(scanned, truth=symmetry(made.intensities, asked["operations"], noise=None))
    numbers, scores = _compare(scanned, column)
    part = section(scanned, about=about, title=sample.title, comparison=numbers)
    return part, facts | {"comparison": scores} | summary(scanned)


def _simulate(sample: ScanSample) -> tuple[Any, tuple[int, int]]:
    """Return the scan without noise, and the position where the moved column would be."""
    from fairstem.simulate import crystal, thin_scan

    cy, cx = sample.cells
    structure = crystal(sample.phantom).repeat((cx, cy, 1))
    places = structure.fractional.copy()
    # of its kind, the column next to the middle of the scan; all atoms on top of one another
    kind = structure.numbers == sample.species
    away = np.where(kind, np.hypot(*(places[:, :2] - 0.5).T), np.inf)
    column = places[away.argmin(), :2].copy()
    moved = np.hypot(*(places[:, :2] - column).T) < 1e-6
    places[moved, 0] += 1e-3 * sample.shift_pm / structure.cell_nm[0]
    made = thin_scan(replace(structure, fractional=places), **dict(sample.options))
    ny, nx = made.shape
    return made, (round(float(column[1]) * ny) % ny, round(float(column[0]) * nx) % nx)


def _compare(scanned: Scanned, column: tuple[int, int]) -> tuple[list[Number], dict[str, Any]]:
    """Compare with the maps of the patterns without noise, and look at the moved column."""
    truth, found, raw = (np.asarray(m.gamma) for m in (scanned.truth, scanned.maps, scanned.raw))  # type: ignore[union-attr]
    valid, error = scanned.valid, np.asarray(scanned.maps.standard_error)
    before, after = (float(np.sqrt(((g - truth)[valid] ** 2).mean())) for g in (raw, found))
    within = float((np.abs(found - truth) <= error)[valid].mean())
    bias = float((found - truth)[valid].mean())
    at = (scanned.maps.operations.index("C2"), *column)
    facts = {
        "rms_before": before,
        "rms": after,
        "bias": bias,
        "within": within,
        "column": {
            "position": list(column),
            "gamma": float(found[at]),
            "sd": float(error[at]),
            "true": float(truth[at]),
        },
    }
    numbers = [
        Number(
            "error against the truth",
            significant(after, 2),
            note=f"rms of all maps; {significant(before, 2)} as recorded; mean {significant(bias, 1)}",
        ),
        Number(
            "truth within one error bar",
            f"{100 * within:.0f}",
            unit="%",
            note="of all positions; 68 % expected",
        ),
        Number(
            "C2 at the moved column",
            *with_error(float(found[at]), float(error[at])),
            note=f"true {significant(float(truth[at]), 3)}; 1 if it had not moved",
        ),
    ]
    return numbers, facts


HEADS = (
    "scan",
    "input",
    "patterns",
    "electrons per pattern",
    "standard error of γ (C2)",
    "error of γ, as recorded → corrected",
    "truth within one error bar",
    "time (s)",
)


def cells_of(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what the overview says of a scan, under `HEADS` without title, input and time.

    Parameters
    ----------
    facts
        Of `visit_scan`.

    Returns
    -------
    tuple
        Cells.
    """
    known, (ny, nx, _, _) = facts["comparison"], facts["shape"]
    return (
        f"{ny} × {nx}",
        significant(facts["electrons_per_pattern"], 3),
        significant(facts["operations"][0]["standard_error"], 2),
        f"{significant(known['rms_before'], 2)} → {significant(known['rms'], 2)}",
        f"{100 * known['within']:.0f} %",
    )


def found_in(facts: Mapping[str, Any]) -> str:
    """Return what was found in a scan, for the terminal.

    Parameters
    ----------
    facts
        Of `visit_scan`.

    Returns
    -------
    str
        How near the maps are to the truth.
    """
    known = facts["comparison"]
    return f"error of γ {significant(known['rms_before'], 2)} as recorded, {significant(known['rms'], 2)} corrected"
