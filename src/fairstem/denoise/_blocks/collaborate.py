"""Collaborative filtering of groups of alike blocks: shrinkage in a 3-D transform, and what noise it keeps."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from fairstem.denoise._blocks.matching import BLOCK, GROUP
from fairstem.denoise._blocks.transforms import (
    LINE,
    cosine,
    cosine_back,
    haar,
    haar_back,
    to_columns,
    to_rows,
)  # fmt: skip

__all__ = ["collaborate", "kaiser"]

AREA = BLOCK * BLOCK
# Of a coefficient's noise a Wiener gain g lets g pass, less where blocks of the group overlap; and the gain itself
# follows the noise through the pilot. How far, the coefficient times the pilot's tells: (1 - g)² of it is what a pilot
# with all of the noise would add. Simulations over phantoms and doses show g (1 + g) / 2 and 0.8 of the latter.
_HALF, _FOLLOWED = np.float32(0.5), np.float32(0.8)
_LEAST = np.float32(0.05)  # of the noise variance: rounding must not make it vanish

Floats32 = NDArray[np.float32]
Indices = NDArray[np.int32]


def kaiser() -> Floats32:
    """Return the window with which blocks are put together; it hides their borders."""
    side = np.kaiser(BLOCK, 2.0)
    return np.outer(side, side).astype(np.float32)


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _mean_variance(
    group: Indices, size: int, overlap: Floats32, pairs: Floats32, half: Floats32, variance: Floats32
) -> None:
    """Noise variance of the group's mean coefficients: blocks that overlap share their noise."""
    pairs[:] = np.float32(0.0)
    pairs[0, 0] = np.float32(size)
    for i in range(size):
        for j in range(i):
            dy, dx = abs(group[i, 0] - group[j, 0]), abs(group[i, 1] - group[j, 1])
            if dy < BLOCK and dx < BLOCK:
                pairs[dy, dx] += np.float32(2.0)
    half[:] = np.float32(0.0)
    for dy in range(BLOCK):
        for dx in range(BLOCK):
            for v in range(BLOCK):
                half[dy, v] += pairs[dy, dx] * overlap[dx, v]
    variance[:] = np.float32(0.0)
    for v in range(BLOCK):
        for dy in range(BLOCK):
            for u in range(BLOCK):
                variance[BLOCK * v + u] += half[dy, v] * overlap[dy, u]
    for p in range(AREA):
        variance[p] = max(variance[p] / np.float32(size), _LEAST)


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _gather(
    image: Floats32, group: Indices, size: int, rows: Floats32, columns: Floats32, scratch: Floats32
) -> None:
    """Copy a group's blocks out of an image and transform them into `columns`."""
    for i in range(size):
        y0, x0 = group[i, 0], group[i, 1]
        for y in range(BLOCK):
            for x in range(BLOCK):
                rows[y * LINE + i * BLOCK + x] = image[y0 + y, x0 + x]
    haar(rows, size, scratch)
    cosine(rows)
    to_columns(rows, columns)
    cosine(columns)


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _threshold(a: Floats32, size: int, variance: Floats32, level: np.float32) -> np.float32:
    """Hard threshold; return the noise power that is kept. The mean of all is never cut."""
    kept = np.float32(0.0)
    others = np.float32(max(size - 1, 1))
    for p in range(AREA):
        v = variance[p]
        if p == 0 or a[p * GROUP] * a[p * GROUP] > level * level * v:
            kept += v
        else:
            a[p * GROUP] = np.float32(0.0)
        # what the mean has less or more of the noise, the differences share
        v = max((np.float32(size) - v) / others, _LEAST)
        for t in range(1, size):
            keep = np.float32(a[p * GROUP + t] * a[p * GROUP + t] > level * level * v)
            a[p * GROUP + t] *= keep
            kept += keep * v
    return kept


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _passed(gain: np.float32, variance: np.float32, product: np.float32) -> np.float32:
    """Return the noise power of one coefficient that its gain lets pass; `product`: with the pilot's."""
    one = np.float32(1.0)
    lost = one - gain
    return np.float32(_HALF * gain * (one + gain) * variance + _FOLLOWED * product * lost * lost)


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _wiener(a: Floats32, guide: Floats32, size: int, variance: Floats32) -> tuple[np.float32, np.float32]:
    """Wiener filter; return the noise power that is kept and the trace of the derivative."""
    kept, trace = np.float32(0.0), np.float32(0.0)
    one = np.float32(1.0)
    others = np.float32(max(size - 1, 1))
    for p in range(AREA):
        v = variance[p]
        power = guide[p * GROUP] * guide[p * GROUP]
        gain = one if p == 0 else power / (power + v)
        trace += _passed(gain, v, a[p * GROUP] * guide[p * GROUP])
        a[p * GROUP] *= gain
        kept += gain * gain * v
        v = max((np.float32(size) - v) / others, _LEAST)
        for t in range(1, size):
            power = guide[p * GROUP + t] * guide[p * GROUP + t]
            gain = power / (power + v)
            trace += _passed(gain, v, a[p * GROUP + t] * guide[p * GROUP + t])
            a[p * GROUP + t] *= gain
            kept += gain * gain * v
    return kept, trace


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add(rows: Floats32, group: Indices, size: int, weight: np.float32, leverage: np.float32,
         window: Floats32, sums: Floats32) -> None:  # fmt: skip
    for i in range(size):
        y0, x0 = group[i, 0], group[i, 1]
        for y in range(BLOCK):
            for x in range(BLOCK):
                w = weight * window[y, x]
                sums[0, y0 + y, x0 + x] += w * rows[y * LINE + i * BLOCK + x]
                sums[1, y0 + y, x0 + x] += w * leverage
                sums[2, y0 + y, x0 + x] += w


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def collaborate(
    image: Floats32, guide: Floats32, groups: Indices, sizes: Indices, level: float,
    overlap: Floats32, window: Floats32, sums: Floats32,
) -> None:  # fmt: skip
    """Filter each group and add its blocks to `sums` (3, y, x): weighted values, leverages, weights.

    `level` > 0: hard threshold in units of the noise. 0: Wiener filter with the spectrum of `guide`.
    """
    rows, columns, power = np.zeros((3, LINE * BLOCK), np.float32)
    scratch = np.empty(LINE, np.float32)
    variance = np.empty(AREA, np.float32)
    pairs, half = np.empty((2, BLOCK, BLOCK), np.float32)
    for r in range(len(sizes)):
        size, group = sizes[r], groups[r]
        _mean_variance(group, size, overlap, pairs, half, variance)
        if level > 0:
            _gather(image, group, size, rows, columns, scratch)
            kept = _threshold(columns, size, variance, np.float32(level))
            trace = kept
        else:
            _gather(guide, group, size, rows, power, scratch)
            _gather(image, group, size, rows, columns, scratch)
            kept, trace = _wiener(columns, power, size, variance)
        cosine_back(columns)
        to_rows(columns, rows)
        cosine_back(rows)
        haar_back(rows, size, scratch)
        # a block's weight is the inverse of the noise that it keeps
        _add(rows, group, size, size / kept, trace / np.float32(size * AREA), window, sums)
