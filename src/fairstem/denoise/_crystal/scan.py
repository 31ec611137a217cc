"""Displacement that a scan adds: each row its own shift, and vibration as plane waves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scan", "fit_scan"]

Floats = NDArray[np.float64]
_SIGNIFICANT = 8.0  # twice the log-likelihood that row shifts must gain


@dataclass(frozen=True)
class Scan:
    """Shift of each row and waves.

    Parameters
    ----------
    rows
        ``(y, 2)`` px.
    variance
        ``(y, 2)`` px²: of the shifts of rows.
    freedom
        Number of parameters.
    """

    rows: Floats
    variance: Floats
    freedom: float

    def displacement(self, shape: tuple[int, int]) -> Floats:
        """Return ``(2, y, x)`` px."""
        return np.ascontiguousarray(np.broadcast_to(self.rows.T[:, :, None], (2, *shape)))


def fit_scan(
    k: Floats, model: Floats, levels: Floats, weight: Floats, rows: Floats, present: Scan | None, floor: float
) -> tuple[Scan | None, bool]:
    """Return the scan's displacement, and whether it changed."""
    shifts = np.zeros((len(rows), 2)) if present is None else present.rows
    new, variance, freedom = np.zeros_like(shifts), np.zeros_like(shifts), 0.0
    for axis in (0, 1):
        information = rows[:, 2 + 2 * axis]
        h = rows[:, axis] + information * shifts[:, axis]
        spread = _jitter(h, information)
        if spread > 0:
            variance[:, axis] = 1 / (information + 1 / spread)
            new[:, axis] = h * variance[:, axis]
            freedom += float((variance[:, axis] * information).sum())
    if freedom == 0:
        return None, present is not None
    return Scan(new, variance, freedom), bool(np.abs(new - shifts).max() > 0.01)


def _jitter(h: Floats, information: Floats) -> float:
    """Variance of independent row shifts by maximum likelihood; 0 where they don't show."""
    use = information > 0
    y, noise = h[use] / information[use], 1 / information[use]
    best, spread = _SIGNIFICANT, 0.0
    for sigma in np.geomspace(0.02, 2.0, 15):
        total = noise + sigma**2
        gain = float((y**2 / noise - y**2 / total - np.log(total / noise)).sum())
        if gain > best:
            best, spread = gain, float(sigma**2)
    return spread if math.isfinite(spread) else 0.0
