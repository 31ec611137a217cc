"""Numba kernels of fields that are bilinear between nodes: their values anywhere, and their inverse."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["invert_field", "node_values_at"]

Floats = NDArray[np.float64]


@numba.njit(inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _between(field: Floats, y: float, x: float) -> float:
    """Bilinear value of node values at node coordinates; beyond the edge, that of the edge."""
    my, mx = field.shape
    y, x = min(max(y, 0.0), my - 1.0), min(max(x, 0.0), mx - 1.0)
    i, j = min(int(y), my - 2), min(int(x), mx - 2)
    f, g = y - i, x - j
    value: float = (1 - f) * ((1 - g) * field[i, j] + g * field[i, j + 1]) + f * (
        (1 - g) * field[i + 1, j] + g * field[i + 1, j + 1]
    )
    return value


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def node_values_at(nodes: Floats, step_y: float, step_x: float, at: Floats, out: Floats) -> None:
    """Set out[c] = field c at the pixel coordinates at[0], at[1], (2, n)."""
    for k in range(at.shape[1]):
        y, x = at[0, k] / step_y, at[1, k] / step_x
        out[0, k] = _between(nodes[0], y, x)
        out[1, k] = _between(nodes[1], y, x)


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def invert_field(nodes: Floats, step_y: float, step_x: float, at: Floats, steps: int, out: Floats) -> None:
    """Set out = d with d = -u(at + d) at the pixel coordinates at[0], at[1], (2, n): fixed point, damped.

    Where neighbouring rows lie in reverse order the fixed point does not exist; half steps then stay
    between the two.
    """
    for k in range(at.shape[1]):
        dy, dx = (
            -_between(nodes[0], at[0, k] / step_y, at[1, k] / step_x),
            -_between(nodes[1], at[0, k] / step_y, at[1, k] / step_x),
        )
        for n in range(steps):
            y, x = (at[0, k] + dy) / step_y, (at[1, k] + dx) / step_x
            miss_y, miss_x = -_between(nodes[0], y, x) - dy, -_between(nodes[1], y, x) - dx
            pace = 1.0 if n < 6 else 0.5
            dy += pace * miss_y
            dx += pace * miss_x
            if miss_y * miss_y + miss_x * miss_x < 1e-8:
                break
        out[0, k], out[1, k] = dy, dx
