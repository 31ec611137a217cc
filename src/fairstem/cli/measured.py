"""What `fairstem atoms` and the tour measure on one image, in one place for figures, pages and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["LatticeSummary", "Measured"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LatticeSummary:
    """The lattice of an image as the reports show it.

    Parameters
    ----------
    vectors
        (2, 2): rows a and b, (dy, dx) in px.
    origin
        (y, x) in px of a lattice point.
    lengths, length_errors
        Of a and b, in `unit`.
    angle, angle_error
        Between a and b, in degrees.
    unit
        ``"nm"``, or ``"px"`` without calibration.
    sites
        One dictionary a site of the cell: site, u, v, height, n, found, missing and so on.
    expected
        Number of sites inside the image, its border left out.
    found
        How many of them have a column.
    missing
        (n, 2) positions of those without, px.
    duplicates
        (n, 2) positions of columns that share a site, px.
    outside
        Number of columns that belong to no site.
    scatter
        Scatter of single columns about their surroundings, per axis, in `scatter_unit`.
    scatter_unit
        ``"pm"``, or ``"px"`` without calibration.
    calibration
        Comparison with the expected lattice parameter, or None; see `fairstem.atoms.lattice`.
    """

    vectors: Floats
    origin: Floats
    lengths: tuple[float, float]
    length_errors: tuple[float, float]
    angle: float
    angle_error: float
    unit: str
    sites: Sequence[Mapping[str, Any]]
    expected: int
    found: int
    missing: Floats
    duplicates: Floats
    outside: int
    scatter: float
    scatter_unit: str
    calibration: Mapping[str, Any] | None = None

    @property
    def is_reference(self) -> bool:
        """Whether a and b are the expected lengths: within a tenth, more than any scan is off."""
        known = (self.calibration or {}).get("reference_nm")
        return known is not None and all(
            abs(length / expected - 1) < 0.1 for length, expected in zip(self.lengths, known, strict=True)
        )

    @property
    def completeness(self) -> float:
        """Fraction of the expected sites that have a column."""
        return self.found / self.expected if self.expected else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {
            "vectors_px": self.vectors.tolist(),
            "origin_px": self.origin.tolist(),
            "a": self.lengths[0],
            "b": self.lengths[1],
            "sd_a": self.length_errors[0],
            "sd_b": self.length_errors[1],
            "angle_deg": self.angle,
            "sd_angle_deg": self.angle_error,
            "unit": self.unit,
            "sites": [dict(site) for site in self.sites],
            "expected": self.expected,
            "found": self.found,
            "completeness": self.completeness,
            "missing_px": self.missing.tolist(),
            "duplicates_px": self.duplicates.tolist(),
            "outside": self.outside,
            "scatter": self.scatter,
            "scatter_unit": self.scatter_unit,
            "calibration": self.calibration,
        }


@dataclass(frozen=True)
class Measured:
    """One image and all that was measured on it.

    Parameters
    ----------
    title
        What the image is.
    image
        (y, x), as recorded.
    pixel_size_nm
        (py, px) in nm, or None.
    columns
        Table of the columns; with a lattice also `site`.
    lattice
        None when no lattice was found.
    no_lattice
        Why not; empty otherwise.
    bonds
        Table of `fairstem.atoms.bonds`, with the two ends `y0, x0, y1, x1` in px. Empty when there are
        none.
    spread
        Table of `fairstem.atoms.bond_spread`: the bonds by kind and direction. Empty when there are none.
    priors
        Prior checks of all steps.
    warnings
        What was noted on the way.
    noise
        How raw values relate to electrons: gain, offset, readout, source; see `fairstem.atoms.find`.
    steps
        Provenance.
    seconds
        Time of the measurement.
    """

    title: str
    image: NDArray[Any]
    pixel_size_nm: tuple[float, float] | None
    columns: pd.DataFrame
    lattice: LatticeSummary | None
    no_lattice: str
    bonds: pd.DataFrame
    spread: pd.DataFrame
    priors: Sequence[Mapping[str, Any]]
    warnings: Sequence[str]
    noise: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    seconds: float = 0.0

    @property
    def inner(self) -> pd.DataFrame:
        """The columns away from the border."""
        return self.columns[~self.columns["edge"].to_numpy(dtype=bool)] if len(self.columns) else self.columns

    @property
    def unit(self) -> str:
        """Unit of lengths between columns: pm, or px without calibration."""
        return "px" if self.pixel_size_nm is None else "pm"

    @property
    def inner_bonds(self) -> pd.DataFrame:
        """The bonds away from the border, with `size`, `deviation` and `error` in `unit`.

        The deviation is from the mean of the bond's kind and direction.
        """
        if not len(self.bonds):
            return self.bonds
        inner = self.bonds[~self.bonds["edge"].to_numpy(dtype=bool)]
        size = inner["length"] if self.unit == "px" else 1000 * inner["length_nm"]
        deviation = size * inner["strain"] / (1 + inner["strain"])
        name = "sd_length" if self.unit == "px" else "sd_length_pm"
        return inner.assign(size=size, deviation=deviation, error=inner.get(name, np.nan))

    @property
    def pooled_spread(self) -> tuple[float, float, float]:
        """Spread of the bonds within their kind and direction, its standard error, mean error bar."""
        if not len(self.spread):
            return float("nan"), float("nan"), float("nan")
        tail = "_pm" if self.unit == "pm" else ""
        weight = (self.spread["n"] - 1).to_numpy(float)
        weight /= weight.sum()
        squares = self.spread[f"spread{tail}"].to_numpy(float) ** 2
        spread = float(np.sqrt(weight @ squares))
        # variance of the pooled square; classes are independent to first order
        each = 2 * np.sqrt(squares) * self.spread[f"sd_spread{tail}"].to_numpy(float)
        error = float(np.sqrt(np.sum((weight * each) ** 2)) / (2 * spread)) if spread > 0 else float("nan")
        bars = self.spread.get(f"error{tail}")
        typical = float("nan") if bars is None else float(np.sqrt(weight @ bars.to_numpy(float) ** 2))
        return spread, error, typical
