"""Kernels: weighted sums of every pattern, and sums of many patterns.

Every pattern is summed in the same order whatever the block it comes in, so that eager and lazy results are equal
to the last bit. Sums are float64: counts with weights 0 and 1 stay exact up to 2**53.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["add_counts", "add_shifted", "add_weighted", "kernel_ready", "pattern_sums"]

_STRIP = 1024  # pixels of a pattern that stay in the first cache while all weights go over them
Array = NDArray[Any]


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _dot_integers(values: Array, weights: Array) -> float:
    total = 0.0
    for k in range(values.size):
        total += weights[k] * values[k]
    return total


# no promise that values are finite: a weight of 0 leaves a NaN out
@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _dot_floats(values: Array, weights: Array) -> float:
    total = 0.0
    for k in range(values.size):
        w = weights[k]
        total += w * values[k] if w != 0.0 else 0.0
    return total


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sums_of_integers(block: Array, weights: Array, members: Array, spans: Array, out: Array) -> None:
    for p in members:
        for start in range(0, block.shape[1], _STRIP):
            stop = min(start + _STRIP, block.shape[1])
            for j in range(weights.shape[0]):
                a, b = max(start, spans[j, 0]), min(stop, spans[j, 1])
                if a < b:
                    out[j, p] += _dot_integers(block[p, a:b], weights[j, a:b])


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sums_of_floats(block: Array, weights: Array, members: Array, spans: Array, out: Array) -> None:
    for p in members:
        for start in range(0, block.shape[1], _STRIP):
            stop = min(start + _STRIP, block.shape[1])
            for j in range(weights.shape[0]):
                a, b = max(start, spans[j, 0]), min(stop, spans[j, 1])
                if a < b:
                    out[j, p] += _dot_floats(block[p, a:b], weights[j, a:b])


def pattern_sums(patterns: Array, maps: Iterable[tuple[Array, Array | None]], number: int) -> Array:
    """Return the weighted sums of every pattern, (weight, pattern) float64.

    Parameters
    ----------
    patterns
        ``(pattern, k_y, k_x)``, any real dtype; no float copy is made.
    maps
        Pairs of weights ``(weight, k_y, k_x)`` and the numbers of the patterns that take them (None: all).
        Pixels of weight 0 are left out: they may be NaN.
    number
        How many weights there are.
    """
    n = patterns.shape[0]
    flat = kernel_ready(patterns.reshape(n, -1))
    kernel = _sums_of_floats if flat.dtype.kind == "f" else _sums_of_integers
    out = np.zeros((number, n))
    for weights, members in maps:
        rows = np.ascontiguousarray(weights, dtype=np.float64).reshape(number, -1)
        used = rows != 0
        last = np.where(used.any(axis=1), rows.shape[1] - used[:, ::-1].argmax(axis=1), 0)
        spans = np.stack([used.argmax(axis=1), last], axis=1)
        kernel(flat, rows, np.arange(n) if members is None else members, spans, out)
    return out


def kernel_ready(values: Array) -> Array:
    """Return `values` as kernels take them: contiguous, the machine's byte order, no half precision, no bool."""
    values = np.ascontiguousarray(values)
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
        return values.astype(np.float32 if values.dtype.itemsize < 4 else np.float64)
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_counts(patterns: Array, labels: Array, out: Array) -> None:
    """Add each pattern ``(pattern, pixel)`` to the row of `out` that its label names; label -1 is left out."""
    for p in range(patterns.shape[0]):
        row = labels[p]
        if row >= 0:
            for k in range(patterns.shape[1]):
                out[row, k] += patterns[p, k]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_weighted(patterns: Array, labels: Array, weights: Array, out: Array) -> None:
    """Add each pattern times its weight to the row of `out` that its label names; label -1 is left out."""
    for p in range(patterns.shape[0]):
        row = labels[p]
        if row >= 0 and weights[p] != 0.0:
            w = weights[p]
            for k in range(patterns.shape[1]):
                out[row, k] += w * patterns[p, k]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _shift_row(source: Array, steps: int, part: float, out: Array) -> None:
    """Write a row moved by `steps` + `part` px, shared linearly; what leaves the row stays on its last pixel."""
    n = source.size
    # targets that two neighbours inside the row feed, and nothing else: all but the ends, without a branch
    low, high = max(1, 1 + steps), min(n - 1, n + steps)
    if low >= high:
        low = high = n
    if low < high:
        inner, right, left = out[low:high], source[low - steps :], source[low - steps - 1 :]
        for i in range(high - low):
            inner[i] = (1.0 - part) * right[i] + part * left[i]
    out[:low] = 0.0
    out[high:] = 0.0
    begin = min(max(low - steps + 1, 0), n)  # from here to `end` both targets are done
    end = max(min(high - 1 - steps, n), begin)
    for i in range(n - (end - begin)):
        x = i if i < begin else i + end - begin
        for share in range(2):
            target = min(max(x + steps + share, 0), n - 1)
            if target < low or target >= high:
                out[target] += (part if share else 1.0 - part) * source[x]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_shifted(patterns: Array, labels: Array, weights: Array, shifts: Array, out: Array) -> None:
    """Add each pattern ``(pattern, k_y, k_x)``, moved by its shift (y, x) in px, to the row its label names.

    Each count is shared linearly between the four pixels around its new place; the shares add up to 1, and what
    would leave the frame stays on its border.
    """
    height, width = patterns.shape[1:]
    moved = np.empty(width)
    for p in range(patterns.shape[0]):
        row = labels[p]
        if row < 0 or weights[p] == 0.0:
            continue
        sy, sx = int(np.floor(shifts[p, 0])), int(np.floor(shifts[p, 1]))
        fy, fx = shifts[p, 0] - sy, shifts[p, 1] - sx
        a, b = weights[p] * (1.0 - fy), weights[p] * fy
        for y in range(height):
            _shift_row(patterns[p, y], sx, fx, moved)
            upper = min(max(y + sy, 0), height - 1)
            lower = min(max(y + sy + 1, 0), height - 1)
            above, below = out[row, upper], out[row, lower]
            for x in range(width):
                above[x] += a * moved[x]
            for x in range(width):
                below[x] += b * moved[x]
