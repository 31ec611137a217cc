"""The sums over pairs of pixels that a symmetry operation ties together, pattern by pattern."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["CHUNK", "SUMS", "correlate"]

# of s = a + b and p = a·b over pairs: s, p, s², s·p, s³; of a·b·c over quarter turns; then of interpolated samples:
# of the noise map d·I, of I·g², d·I·g, d²·I, where g = Mm (see `correlations`), and γ as g took it
SUMS = 11
CHUNK = 16  # patterns converted at a time: they stay in the cache

Ints = NDArray[np.int32]
Floats32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Prints = tuple[Ints, Ints, Floats32, Ints, Floats32, Ints]

# places are read as unsigned: they are never negative, and looking whether they are takes as long as the rest
_place = np.uint64


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _load(pattern: Floats32, allowed: NDArray[np.bool_], work: Floats32, total: Floats) -> None:
    for i in range(pattern.size):
        # a pixel that isn't allowed may hold anything, NaN as well
        value = pattern[i] if allowed[i] else np.float32(0.0)
        work[i] = value
        total[i] += value


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _interpolate(pattern: Floats32, base: Ints, part: Floats32, width: int, out: Floats32) -> None:
    """Fill the samples of an image of the pattern, bilinearly."""
    right, below = _place(1), _place(width)
    for j in range(out.size):
        i = _place(base[j])
        fy, fx = part[2 * j], part[2 * j + 1]
        upper, lower = pattern[i], pattern[i + below]
        upper += fx * (pattern[i + right] - upper)
        lower += fx * (pattern[i + below + right] - lower)
        out[j] = upper + fy * (lower - upper)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _pairs(work: Floats32, first: Ints, second: Ints, out: Floats) -> None:
    s1 = p1 = s2 = sp = s3 = 0.0
    for k in range(first.size):
        a, b = np.float64(work[_place(first[k])]), np.float64(work[_place(second[k])])
        s, p = a + b, a * b
        square = s * s
        s1 += s
        p1 += p
        s2 += square
        sp += s * p
        s3 += s * square
    out[0], out[1], out[2], out[3], out[4] = s1, p1, s2, sp, s3


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _quads(work: Floats32, four: tuple[Ints, Ints, Ints, Ints], out: Floats) -> None:
    """Take the sums over the pairs (a, b), (b, c), (c, d), (d, a) and their triples from each four once."""
    first, second, third, fourth = four
    s1 = p1 = s2 = sp = s3 = abc = 0.0
    for k in range(first.size):
        a, b = np.float64(work[_place(first[k])]), np.float64(work[_place(second[k])])
        c, d = np.float64(work[_place(third[k])]), np.float64(work[_place(fourth[k])])
        ac, bd = a + c, b + d
        squares_ac, squares_bd = a * a + c * c, b * b + d * d
        s1 += ac + bd
        p1 += ac * bd
        s2 += squares_ac + squares_bd
        sp += squares_ac * bd + squares_bd * ac
        s3 += a * a * a + b * b * b + c * c * c + d * d * d
        abc += a * c * bd + b * d * ac
    out[0], out[1], out[2], out[3], out[4], out[5] = 2 * s1, p1, 2 * (s2 + p1), sp, 2 * s3 + 3 * sp, abc


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _weighted(work: Floats32, weights: Floats32) -> float:
    total = 0.0
    for i in range(weights.size):
        total += np.float64(work[i]) * weights[i]
    return total


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _changes(
    work: Floats32, first: Ints, second: Ints, at: tuple[float, float], change: Floats32, partner: Floats32
) -> None:
    """Fill what numerator - γ · denominator changes with each sample of the pairs; `at` is γ and the mean."""
    gamma, mean = np.float32(at[0]), np.float32(at[1])
    for k in range(first.size):
        a, b = work[_place(first[k])] - mean, work[_place(second[k])] - mean
        change[k] = b - gamma * a
        partner[k] = a - gamma * b


# no reordering here: vector code only costs time on lists this short
@numba.njit(cache=True, nogil=True, fastmath={"contract"})  # type: ignore[untyped-decorator, unused-ignore]
def _propagate(work: Floats32, prints: Prints, rows: tuple[int, int], change: Floats32, out: Floats) -> None:
    """Follow the samples' changes back to pixels: g is what one electron more there changes, half of it."""
    pixels, ends, noise, samples, weights, _ = prints
    square = once = diagonal = 0.0
    e = _place(ends[rows[0]])
    for k in range(rows[0], rows[1]):
        sum_of_changes = np.float32(0.0)
        end = _place(ends[k + 1])
        while e < end:
            sum_of_changes += weights[e] * change[_place(samples[e])]
            e += _place(1)
        g, d, value = np.float64(sum_of_changes), np.float64(noise[k]), np.float64(work[_place(pixels[k])])
        square += value * g * g
        once += d * value * g
        diagonal += d * d * value
    out[7], out[8], out[9] = square, once, diagonal


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def _ratio(out: Floats, n: float, listed: float, gain: float) -> tuple[float, float]:
    """Return γ and the mean; as in `correlations`."""
    total, product = 0.5 * listed * out[0], listed * out[1]
    squares = 0.5 * listed * (out[2] - 2.0 * out[1])
    mean = total / n
    numerator = product - n * mean * mean + gain * mean
    denominator = squares - n * mean * mean - gain * (out[6] - mean)
    return (numerator / denominator if denominator > 0.0 else 0.0), mean


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def correlate(
    patterns: Floats32,
    allowed: NDArray[np.bool_],
    gain: float,
    views: tuple[Ints, Floats32],
    pairs: tuple[Ints, Ints],
    quads: tuple[Ints, Ints],
    noise: tuple[Floats32, Ints, Floats],
    prints: Prints,
    sums: Floats,
    total: Floats,
) -> None:
    """Visit each pattern once and take the sums of all operations while it is in the cache.

    Parameters
    ----------
    patterns
        ``(n, pixels)``.
    allowed
        ``(k_y, k_x)``: the other pixels are not looked at.
    gain
        Detector units per electron; 0 without noise, then only the first seven sums are taken.
    views
        Interpolated samples, which follow the pixels in the work space: the upper left pixel, and the rest (y, x).
    pairs
        ``(2, ...)`` places in the work space, and where the pairs of each operation begin and end.
    quads
        ``(4, ...)`` likewise: pixels that a quarter turn maps onto each other, in turn.
    noise
        ``(row, pixels)``: how much of a pixel's noise is in the squares of interpolated samples, and the row of
        each operation, -1 where samples are pixels; and how often the listed pairs of each operation count.
    prints
        The samples that some pixels are in, for the noise of interpolated samples; see `_pairing.Prints`.
    sums
        ``(n, operation, SUMS)``, filled.
    total
        ``(pixels,)``, to which the patterns are added.
    """
    width, used = allowed.shape[1], allowed.ravel()
    base, part = views
    flat = part.ravel()
    pair, pair_ends = pairs
    quad, quad_ends = quads
    maps, rows, listed = noise
    work = np.zeros(patterns.shape[1] + base.size, np.float32)
    change = np.empty(2 * pair.shape[1], np.float32)
    for n in range(patterns.shape[0]):
        _load(patterns[n], used, work, total)
        _interpolate(work[: used.size], base, flat, width, work[used.size :])
        for o in range(pair_ends.size - 1):
            out = sums[n, o]
            i, j = quad_ends[o], quad_ends[o + 1]
            if i < j:
                _quads(work, (quad[0, i:j], quad[1, i:j], quad[2, i:j], quad[3, i:j]), out)
                continue
            i, j = pair_ends[o], pair_ends[o + 1]
            _pairs(work, pair[0, i:j], pair[1, i:j], out)
            row = rows[o]
            if row >= 0:
                out[6] = _weighted(work, maps[row])
                if gain > 0.0:
                    gamma, mean = _ratio(out, listed[o] * (j - i), listed[o], gain)
                    out[10] = gamma
                    places = pair[0, i:j], pair[1, i:j]
                    _changes(work, *places, (gamma, mean), change[: j - i], change[j - i :])
                    _propagate(work, prints, (prints[5][row], prints[5][row + 1]), change, out)
