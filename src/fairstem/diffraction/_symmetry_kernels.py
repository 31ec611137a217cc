"""The sums over pairs of pixels that a symmetry operation ties together, pattern by pattern."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["SUMS", "correlate"]

SUMS = 7  # of s = a + b and p = a·b over pairs: s, p, s², s·p, s³; of a·b·c over triples; of the noise map

Ints = NDArray[np.int32]
Floats32 = NDArray[np.float32]
Floats = NDArray[np.float64]


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _load(pattern: NDArray[Any], work: Floats32, total: Floats) -> None:
    for i in range(pattern.size):
        value = np.float32(pattern[i])
        work[i] = value
        total[i] += value


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _interpolate(work: Floats32, slot: Ints, base: Ints, part: Floats32, width: int) -> None:
    """Fill the samples of an image of the pattern, bilinearly."""
    for j in range(slot.size):
        i = base[j]
        fy, fx = part[j, 0], part[j, 1]
        top = work[i] + fx * (work[i + 1] - work[i])
        bottom = work[i + width] + fx * (work[i + width + 1] - work[i + width])
        work[slot[j]] = top + fy * (bottom - top)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _pairs(work: Floats32, first: Ints, second: Ints, out: Floats) -> None:
    s1 = p1 = s2 = sp = s3 = 0.0
    for k in range(first.size):
        a, b = np.float64(work[first[k]]), np.float64(work[second[k]])
        s, p = a + b, a * b
        square = s * s
        s1 += s
        p1 += p
        s2 += square
        sp += s * p
        s3 += s * square
    out[0], out[1], out[2], out[3], out[4] = s1, p1, s2, sp, s3


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _triples(work: Floats32, before: Ints, middle: Ints, after: Ints) -> float:
    total = 0.0
    for k in range(before.size):
        total += np.float64(work[before[k]]) * work[middle[k]] * work[after[k]]
    return total


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _weighted(work: Floats32, weights: Floats32) -> float:
    total = 0.0
    for i in range(weights.size):
        total += np.float64(work[i]) * weights[i]
    return total


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def correlate(
    patterns: NDArray[Any],
    width: int,
    views: tuple[Ints, Ints, Floats32],
    pairs: tuple[Ints, Ints],
    triples: tuple[Ints, Ints],
    noise: tuple[Floats32, Ints],
    sums: Floats,
    total: Floats,
) -> None:
    """Visit each pattern once and take the sums of all operations while it is in the cache.

    Parameters
    ----------
    patterns
        ``(n, pixels)`` of any real type.
    width
        Pixels in a row of a pattern.
    views
        Interpolated samples: where each is put in the work space, its upper left pixel, and the rest (y, x).
    pairs
        ``(2, ...)`` places in the work space, and where the pairs of each operation begin and end.
    triples
        ``(3, ...)`` likewise.
    noise
        ``(row, pixels)``: how much of a pixel's noise is in the squares of interpolated samples, and the row of
        each operation; -1 where samples are pixels.
    sums
        ``(n, operation, SUMS)``, filled.
    total
        ``(pixels,)``, to which the patterns are added.
    """
    slot, base, part = views
    pair, pair_ends = pairs
    triple, triple_ends = triples
    maps, rows = noise
    work = np.zeros(patterns.shape[1] + slot.size, np.float32)
    for n in range(patterns.shape[0]):
        _load(patterns[n], work, total)
        _interpolate(work, slot, base, part, width)
        for o in range(pair_ends.size - 1):
            i, j = pair_ends[o], pair_ends[o + 1]
            _pairs(work, pair[0, i:j], pair[1, i:j], sums[n, o])
            i, j = triple_ends[o], triple_ends[o + 1]
            sums[n, o, 5] = _triples(work, triple[0, i:j], triple[1, i:j], triple[2, i:j])
            if rows[o] >= 0:
                sums[n, o, 6] = _weighted(work, maps[rows[o]])
