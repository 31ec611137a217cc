"""Cubic B-splines, for the kernels that spread, evaluate and fit."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["spline_weights"]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def spline_weights(f: float, w: NDArray[np.float64]) -> None:
    """Write the four cubic B-splines at the fraction `f` into `w`; unit-spaced, they sum to one."""
    g = 1.0 - f
    w[0] = g * g * g / 6.0
    w[1] = (4.0 - 6.0 * f * f + 3.0 * f * f * f) / 6.0
    w[3] = f * f * f / 6.0
    w[2] = 1.0 - w[0] - w[1] - w[3]
