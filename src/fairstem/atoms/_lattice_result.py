"""The result of a lattice fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairstem.priors import PriorCheck

from ._calibration import ScanCalibration
from ._latticefit import propagate

__all__ = ["Lattice"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Lattice:
    """A two-dimensional lattice fitted to atom columns.

    Parameters
    ----------
    a, b
        Primitive vectors (dy, dx), px; Gauss-reduced, right-handed (from a to b turns from +x to +y).
    origin
        (y, x) of site A in cell (0, 0), px; that cell is the one nearest to the centre of the columns.
    covariance
        (6, 6) covariance of origin, a, b (each y, x), px².
    sites
        One row a site, indexed by its label: u, v (fractions of a and b), sd_u, sd_v, height,
        sd_height (mean over its columns), n, found, missing, completeness (interior only).
    columns
        The input table plus i, j, site ("" where not indexed), y_ideal, x_ideal, dy, dx (deviation,
        px), with calibration dy_pm, dx_pm, and inlier. Rows that are not indexed carry 0 in the
        numbers; use ``columns[columns.inlier]``.
    missing
        Empty sites inside the crystal: i, j, site, y, x (locally predicted), edge.
    duplicates
        Rows of sites that hold more than one column: i, j, site, row (label in `columns`), primary.
    scatter_px
        Robust scatter of single columns about their surroundings, per axis, px.
    intrinsic_px
        Scatter about the one rigid lattice beyond the error bars of the positions, per axis, px.
    pixel_size_nm
        (y, x) in nm, or None.
    calibration
        Comparison with the reference lattice parameter, or None.
    priors
        What the lattice stands on, measured.
    """

    a: Float
    b: Float
    origin: Float
    covariance: Float
    sites: pd.DataFrame
    columns: pd.DataFrame
    missing: pd.DataFrame
    duplicates: pd.DataFrame
    scatter_px: float
    intrinsic_px: float
    pixel_size_nm: tuple[float, float] | None = None
    calibration: ScanCalibration | None = None
    priors: list[PriorCheck] = field(default_factory=list)

    @property
    def cell(self) -> Float:
        """(2, 2): rows a and b, px."""
        return np.array([self.a, self.b])

    @property
    def completeness(self) -> dict[str, float]:
        """Share of the interior sites that hold a column, per site."""
        return {str(name): float(value) for name, value in self.sites["completeness"].items()}

    @property
    def a_px(self) -> float:
        """Length of a, px."""
        return float(self._metric(pixel=True)[0][0])

    @property
    def b_px(self) -> float:
        """Length of b, px."""
        return float(self._metric(pixel=True)[0][1])

    @property
    def sd_a_px(self) -> float:
        """Standard error of the length of a, px."""
        return float(self._metric(pixel=True)[1][0])

    @property
    def sd_b_px(self) -> float:
        """Standard error of the length of b, px."""
        return float(self._metric(pixel=True)[1][1])

    @property
    def a_nm(self) -> float | None:
        """Length of a, nm; None without calibration."""
        return self._nm(0, 0)

    @property
    def b_nm(self) -> float | None:
        """Length of b, nm; None without calibration."""
        return self._nm(0, 1)

    @property
    def sd_a_nm(self) -> float | None:
        """Standard error of the length of a, nm; None without calibration."""
        return self._nm(1, 0)

    @property
    def sd_b_nm(self) -> float | None:
        """Standard error of the length of b, nm; None without calibration."""
        return self._nm(1, 1)

    @property
    def angle_deg(self) -> float:
        """Angle between a and b, degrees (with calibration: between the vectors in nm)."""
        return float(self._metric(pixel=self.pixel_size_nm is None)[0][2])

    @property
    def sd_angle_deg(self) -> float:
        """Standard error of the angle, degrees."""
        return float(self._metric(pixel=self.pixel_size_nm is None)[1][2])

    def _nm(self, which: int, number: int) -> float | None:
        return None if self.pixel_size_nm is None else float(self._metric(pixel=False)[which][number])

    def _metric(self, *, pixel: bool) -> tuple[Float, Float]:
        """Return lengths of a and b and their angle, and the standard errors."""
        scale = np.tile(
            np.ones(2) if pixel or self.pixel_size_nm is None else np.array(self.pixel_size_nm), 2
        )

        def metric(flat: Float) -> Float:
            one, two = (flat * scale).reshape(2, 2)
            lengths = np.linalg.norm([one, two], axis=1)
            cosine = np.clip(one @ two / np.prod(lengths), -1, 1)
            return np.array([*lengths, math.degrees(math.acos(cosine))])

        flat = self.cell.ravel()
        error = propagate(metric, flat, self.covariance[2:, 2:])
        return metric(flat), np.sqrt(np.maximum(np.diag(error), 0))

    def position(self, i: Float | int, j: Float | int, site: str = "A") -> Float:
        """Return the ideal position(s) (y, x), px, of a site in cell (i, j)."""
        offset = self.sites.loc[site, ["u", "v"]].to_numpy(dtype=float)
        coordinates = np.stack(np.broadcast_arrays(i, j), axis=-1) + offset
        return np.asarray(coordinates @ self.cell + self.origin)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers (not the tables) as a JSON-ready dictionary."""
        names = (
            "a_px",
            "sd_a_px",
            "b_px",
            "sd_b_px",
            "a_nm",
            "sd_a_nm",
            "b_nm",
            "sd_b_nm",
            "angle_deg",
            "sd_angle_deg",
        )
        return {
            **{name: getattr(self, name) for name in names},
            "a": self.a.tolist(), "b": self.b.tolist(), "origin": self.origin.tolist(),
            "sites": self.sites.reset_index().to_dict("records"),
            "columns": len(self.columns), "indexed": int((self.columns["site"] != "").sum()),
            "inliers": int(self.columns["inlier"].sum()), "missing": int((~self.missing["edge"]).sum()),
            "duplicates": int((~self.duplicates["primary"]).sum()), "scatter_px": self.scatter_px,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "priors": [check.to_dict() for check in self.priors],
        }  # fmt: skip
