"""Options of the dense registration: their limits, and the levels that a series can stand."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.register._series.frames import Frames

__all__ = ["check_numbers", "checked_offsets", "checked_weight", "choose_binnings"]

Floats = NDArray[np.float64]
_SMALLEST_LEVEL = 32  # px a side of the coarsest frames
_MOST_BINNING = 8
_KEPT = 0.7  # of the covariance of two frames that binning must leave


def choose_binnings(frames: Frames, start: Floats) -> list[int]:
    """Binnings, coarse to fine, that leave enough pixels and most of what two frames have in common."""
    a, b = frames.usable[:2]
    one, two = frames.read(a), frames.read(b)
    shift = np.round(start[b] - start[a]).astype(int)
    # two[y] shows one[y + shift]
    low, high = np.maximum(0, -shift), np.minimum(frames.shape, frames.shape - shift)
    if (high - low < _SMALLEST_LEVEL).any():
        return [1]
    here = tuple(slice(i, j) for i, j in zip(low, high, strict=True))
    there = tuple(slice(i, j) for i, j in zip(low + shift, high + shift, strict=True))
    pair = [one.values[there], two.values[here]]
    full, out = _covariance(pair, 1), [1]
    while 2 * out[0] <= _MOST_BINNING and min(frames.shape) // (2 * out[0]) >= _SMALLEST_LEVEL:
        if _covariance(pair, 2 * out[0]) < _KEPT * full:
            break
        out.insert(0, 2 * out[0])
    return out


def _covariance(pair: list[Floats], b: int) -> float:
    ny, nx = (n // b for n in pair[0].shape)
    x, y = (p[: ny * b, : nx * b].reshape(ny, b, nx, b).mean(axis=(1, 3)) for p in pair)
    return float(((x - x.mean()) * (y - y.mean())).mean())


def checked_weight(regularization: float | str) -> float | None:
    """Return lambda, or None for "auto"."""
    if isinstance(regularization, str):
        if regularization == "auto":
            return None
    elif math.isfinite(regularization) and regularization > 0:
        return float(regularization)
    raise DataError(
        f"regularization is {regularization!r}",
        needed="'auto' or a positive number (lambda of the paper, 200 there)",
        todo="leave it 'auto' when in doubt",
    )


def checked_offsets(offsets: Floats, frames: Frames) -> Floats:
    """Return the start (frame, 2), 0 for blank frames without one."""
    start = np.asarray(offsets, dtype=np.float64)
    if start.shape != (frames.n, 2) or not np.isfinite(start[list(frames.usable)]).all():
        raise DataError(
            f"offsets have shape {start.shape}", needed=f"finite numbers, shape ({frames.n}, 2), px (y, x)"
        )
    inside = start[list(frames.usable)]
    if (np.ptp(inside, axis=0) >= np.array(frames.shape) * max(1, len(inside) - 1)).any():
        raise DataError(
            f"offsets reach from {inside.min(axis=0)} to {inside.max(axis=0)} px",
            needed="consecutive frames that overlap",
            todo="split the series where it jumps",
        )
    return np.where(np.isfinite(start), start, 0.0)


def check_numbers(levels: int | None, stages: int, extra: int, iterations: int, tolerance: float) -> None:
    """Refuse numbers of levels, stages and iterations that make no sense."""
    limits = {"stages": (stages, 1), "extra_stages": (extra, 0), "max_iterations": (iterations, 1)}
    if levels is not None:
        limits["levels"] = (levels, 1)
    for name, (value, least) in limits.items():
        if not isinstance(value, int | np.integer) or value < least:
            raise DataError(f"{name} is {value!r}", needed=f"an integer of at least {least}")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise DataError(f"energy_tolerance is {tolerance!r}", needed="a number >= 0")
