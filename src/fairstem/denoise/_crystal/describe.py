"""The table of what deviates from a crystal: what, how much, how sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from fairstem.denoise._contracts import Deviations
from fairstem.denoise._crystal.certainty import fit_certainty
from fairstem.denoise._crystal.putback import shift_matrix
from fairstem.errors import DataError

__all__ = ["describe_deviations"]

Floats = NDArray[np.float64]

# a column with less than this share of its intensity is called a vacancy
VACANT = 0.25
# above this tail probability nothing in particular is claimed
CLAIM = 0.05


def _statistic(values: Floats, covariance: Floats) -> Floats:
    """Wald statistic of `values` (n, m); what wasn't fitted has no variance and counts as 0."""
    inverse = np.linalg.pinv(covariance, rcond=1e-9, hermitian=True)
    out: Floats = np.maximum(np.einsum("ni,nij,nj->n", values, inverse, values), 0.0)
    return out


@dataclass(frozen=True)
class _Columns:
    """Deviating columns seen from their new places: shift (n, 2) in widths, other terms, covariance of all."""

    shift: Floats
    beta: Floats
    covariance: Floats

    @classmethod
    def of(cls, coefficients: Floats, covariance: Floats) -> _Columns:
        left = 1 + coefficients[:, 0]
        there = left > VACANT
        shift = np.where(there[:, None], coefficients[:, 1:3] / np.where(there, left, 1.0)[:, None], 0.0)
        # a column's second-order terms at its old place are mostly its shift's
        back = shift_matrix(-shift)
        column = np.eye(6)[0]
        beta = np.einsum("nij,nj->ni", back, coefficients + column) - column
        return cls(shift, beta, back @ covariance @ back.transpose(0, 2, 1))

    @property
    def left(self) -> Floats:
        """Share of the intensity that is left; NaN where too little to have a position."""
        left = 1 + self.beta[:, 0]
        return np.where(left > VACANT, left, np.nan)

    def shift_sd(self, axis: int) -> Floats:
        """Standard deviation of the shift along an axis, in widths; NaN where it was not fitted."""
        return self._sd(1 + axis) / self.left

    def intensity_sd(self) -> Floats:
        """Standard deviation of the relative intensity; NaN where it was not fitted."""
        return self._sd(0)

    def _sd(self, term: int) -> Floats:
        variance = self.covariance[:, term, term]
        # what turning back and forth leaves of nothing
        fitted = variance > 1e-9 * np.einsum("nii->n", self.covariance)
        return np.where(fitted, np.sqrt(np.maximum(variance, 0.0)), np.nan)

    def kinds(self) -> list[str]:
        """Name what deviates most: the group with the smallest tail probability."""
        beta, covariance = self.beta, self.covariance
        left = np.nan_to_num(self.left, nan=1.0)
        dipole = beta[:, 1:3] + left[:, None] * self.shift
        tails = np.column_stack([
            special.chdtrc(1, _statistic(beta[:, :1], covariance[:, :1, :1])),
            special.chdtrc(2, _statistic(dipole, covariance[:, 1:3, 1:3])),
            special.chdtrc(3, _statistic(beta[:, 3:], covariance[:, 3:, 3:])),
        ])  # fmt: skip
        names = np.array(["intensity", "shift", "shape"])[tails.argmin(1)]
        names = np.where(tails.min(1) > CLAIM, "none", names)
        sd = np.sqrt(covariance[:, 0, 0])
        empty = (1 + beta[:, 0] < np.maximum(VACANT, sd)) & (tails[:, 0] < CLAIM)
        out: list[str] = np.where(empty, "vacancy", names).tolist()
        return out


def describe_deviations(
    deviations: Deviations, sites: Floats, pixel_size_nm: float | tuple[float, float] | None = None
) -> pd.DataFrame:
    """List the columns that deviate from a crystal, and the blobs off its sites.

    Prior: that of `find_deviations`. Errors are those of the fit, at the crystal's width and background. What was
    not fitted, because it doesn't stand out, is listed as unchanged with an error of NaN.

    Parameters
    ----------
    deviations : Deviations
        As `find_deviations` returns them.
    sites : ndarray (n, 5)
        The sites it was given.
    pixel_size_nm : float or (float, float), optional
        Pixel size in nm (y, x); without it the columns in pm are NaN.

    Returns
    -------
    pandas.DataFrame
        One row a deviation, the most certain first: `row` in `sites` (-1 for blobs), `site` (number in the cell,
        -1 for blobs), `kind` ("intensity", "shift", "shape", "vacancy", "none"; blobs: "interstitial", "missing"),
        `y, x` (px, of the deviating column), `shift_y, shift_x, sd_shift_y, sd_shift_x` (px), the same with
        ``_pm``, `relative_intensity` and its sd (in heights of the crystal's column; NaN for blobs), `height`
        (counts), `statistic`, `p_value`, `probability` (that the site deviates, given how many of this image do).

    Raises
    ------
    DataError
        The sites aren't those of the result, or a pixel size isn't positive.

    Examples
    --------
    >>> import numpy as np
    >>> from fairstem import simulate
    >>> from fairstem.denoise._crystal.deviations import find_deviations
    >>> crystal = simulate.phantom("p2", peak=50.0, shape=(128, 128), seed=1)
    >>> image = simulate.phantom("p2", peak=50.0, shape=(128, 128), seed=1, shifted=1)
    >>> sites = crystal.truth[["y", "x", "width", "site", "height"]].to_numpy(float)
    >>> found = find_deviations(image.data.astype(float), crystal.clean, sites, strength=1e-4)
    >>> table = describe_deviations(found, sites, pixel_size_nm=0.012)
    >>> table["kind"].tolist(), bool(abs(np.hypot(table.shift_y_pm[0], table.shift_x_pm[0]) - 20) < 3)
    (['shift'], True)
    """
    sites = np.asarray(sites, float)
    if sites.shape != (len(deviations.active), 5):
        raise DataError(
            f"sites of shape {sites.shape} for a result of {len(deviations.active)} sites",
            needed="the (n, 5) sites that find_deviations was given",
        )
    scale = 1e3 * np.broadcast_to(np.nan if pixel_size_nm is None else pixel_size_nm, 2).astype(float)
    if (scale <= 0).any():
        raise DataError(f"pixel_size_nm is {pixel_size_nm}", needed="nm per pixel, > 0")
    row = np.flatnonzero(deviations.active)
    tail = special.chdtrc(6, deviations.statistic)
    found, width = _Columns.of(deviations.coefficients[row], deviations.covariance[row]), sites[row, 2]
    dy, dx = np.where(np.isnan(found.left), np.nan, found.shift.T)
    left = 1 + found.beta[:, 0]
    columns = pd.DataFrame({
        "row": row, "site": sites[row, 3].astype(int), "kind": found.kinds(),
        "y": sites[row, 0] + width * np.nan_to_num(dy), "x": sites[row, 1] + width * np.nan_to_num(dx),
        "shift_y": width * dy, "shift_x": width * dx,
        "sd_shift_y": width * found.shift_sd(0), "sd_shift_x": width * found.shift_sd(1),
        "relative_intensity": left, "sd_relative_intensity": found.intensity_sd(),
        "height": sites[row, 4] * left, "statistic": deviations.statistic[row],
        "p_value": tail[row], "probability": fit_certainty(tail, 0.0).share(tail[row]),
    })  # fmt: skip
    table = (
        pd.concat([columns, _blob_rows(deviations.blobs)], ignore_index=True)
        if len(deviations.blobs)
        else columns
    )
    for name, axis in (("shift_y", 0), ("shift_x", 1), ("sd_shift_y", 0), ("sd_shift_x", 1)):
        table[f"{name}_pm"] = table[name] * scale[axis]
    return table.sort_values("p_value", kind="stable", ignore_index=True)


def _blob_rows(blobs: Floats) -> pd.DataFrame:
    """Blobs as rows; `statistic` is z², `p_value` that of |z|."""
    nothing = np.full(len(blobs), np.nan)
    return pd.DataFrame({
        "row": -1, "site": -1, "kind": np.where(blobs[:, 3] > 0, "interstitial", "missing"),
        "y": blobs[:, 0], "x": blobs[:, 1],
        "shift_y": nothing, "shift_x": nothing, "sd_shift_y": nothing, "sd_shift_x": nothing,
        "relative_intensity": nothing, "sd_relative_intensity": nothing,
        "height": blobs[:, 3], "statistic": blobs[:, 4] ** 2,
        "p_value": special.erfc(np.abs(blobs[:, 4]) / np.sqrt(2)), "probability": 1.0,
    })  # fmt: skip
