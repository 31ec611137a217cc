"""Normalised cross-correlation of pairs of frames, over the pixels that both measured, and its peaks."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import fft

__all__ = ["LEAST_OVERLAP", "PairPeaks", "SmallFrame", "correlate_pair", "mean_blocks", "prepare_frame"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Bools = NDArray[np.bool_]
LEAST_OVERLAP = 0.08  # of a frame: less is a corner on a corner, which always finds something
_MOST_PEAKS = 1000  # a lattice has several hundred
_LOWEST = 0.3  # of the highest peak: lower ones can't be the true shift


@dataclass(frozen=True)
class SmallFrame:
    """A small copy of a frame, ready to be correlated.

    Parameters
    ----------
    values
        ``(y, x)`` minus their mean, 0 where `mask` is False.
    mask
        ``(y, x)``, None when every pixel was measured.
    spectrum
        Half-complex transform of `values`, padded.
    padded
        Padded shape.
    tables
        Summed-area tables of values and of their squares.
    """

    values: Singles
    mask: Bools | None
    spectrum: NDArray[np.complex64]
    padded: tuple[int, int]
    tables: tuple[Floats, Floats]


@dataclass(frozen=True)
class PairPeaks:
    """Peaks of the correlation of frame `first` with frame `second`, highest first.

    Parameters
    ----------
    first, second
        Numbers of the frames.
    move
        ``(n, 2)`` px of the small frames: offset of `second` minus offset of `first`.
    height
        ``(n,)`` normalised correlation.
    error
        ``(n,)`` standard deviation of `height` from white noise in both frames.
    """

    first: int
    second: int
    move: Floats
    height: Floats
    error: Floats


def mean_blocks(values: Floats, mask: Bools | None, size: int) -> tuple[Floats, Bools | None]:
    """Return means of `size` x `size` pixels; a block counts when half of it was measured."""
    if size == 1:
        return values, mask
    ny, nx = values.shape[0] // size, values.shape[1] // size
    blocks = (slice(0, ny * size), slice(0, nx * size))
    # sums of strided slices: several times faster than a mean over two short axes
    total = _block_sums(values[blocks], size)
    if mask is None:
        return total / size**2, None
    count = _block_sums(mask[blocks].astype(np.float64), size)
    good = count >= size**2 / 2
    return np.where(good, total / np.maximum(count, 1), 0.0), None if good.all() else good


def _block_sums(values: Floats, size: int) -> Floats:
    rows = values[::size].astype(np.float64)
    for i in range(1, size):
        rows += values[i::size]
    total = rows[:, ::size].copy()
    for i in range(1, size):
        total += rows[:, i::size]
    return total


def prepare_frame(values: Floats, mask: Bools | None, reach: tuple[int, int]) -> SmallFrame:
    """Subtract the mean, pad for shifts up to `reach` px, transform."""
    inside = values if mask is None else values[mask]
    centred = (values - inside.mean()).astype(np.float32)
    if mask is not None:
        centred[~mask] = 0
    ny, nx = values.shape
    padded = (fft.next_fast_len(ny + reach[0], real=True), fft.next_fast_len(nx + reach[1], real=True))
    tables = _table(centred), _table(centred**2)
    return SmallFrame(centred, mask, fft.rfft2(centred, s=padded), padded, tables)


def correlate_pair(
    frames: tuple[SmallFrame, SmallFrame], numbers: tuple[int, int], reach: tuple[int, int]
) -> PairPeaks:
    """Correlate two frames over the pixels that both measured.

    Prior: the frames show the same object, so that they are proportional to each other up to a
    constant and noise where they overlap.

    Parameters
    ----------
    frames
        Two prepared frames of equal shape.
    numbers
        What they are called.
    reach
        Largest shift (y, x) in px.

    Notes
    -----
    The masked normalised cross-correlation of D. Padfield, IEEE Trans. Image Process. 21 (2012) 2706,
    DOI 10.1109/TIP.2011.2181402. Without masks the sums over the overlap are those of rectangles and
    come from summed-area tables. Cost: one inverse transform, seven with masks.
    """
    a, b = frames
    if a.mask is None and b.mask is None:
        product = fft.irfft2(np.conj(a.spectrum) * b.spectrum, s=a.padded, overwrite_x=True)
        height, count = _normalise_rectangles(
            product, (*a.tables, *b.tables), a.values.shape, np.array(reach)
        )
    else:
        height, count = _masked(a, b, reach)
    least = LEAST_OVERLAP * a.values.size
    place, value, number = _find_peaks(height, count, least)
    order = np.argsort(-value, kind="stable")[:_MOST_PEAKS]
    order = order[value[order] > max(_LOWEST * value[order[0]], 0.0)] if len(order) else order
    place, value, number = place[order], value[order], number[order]
    # pixel p of the first frame matches p + s of the second: the second lies at -s
    move = np.asarray(reach) - place
    error = (1 - value**2) / np.sqrt(np.maximum(number, 1.0))
    return PairPeaks(*numbers, move, value, np.maximum(error, 1e-6))


def _table(values: Singles) -> Floats:
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    np.cumsum(values, axis=0, dtype=np.float64, out=table[1:, 1:])
    np.cumsum(table[1:, 1:], axis=1, out=table[1:, 1:])
    return table


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _rectangle(table: Floats, top: int, bottom: int, left: int, right: int) -> float:
    return table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _normalise_rectangles(
    product: Singles, tables: tuple[Floats, ...], shape: tuple[int, int], reach: NDArray[np.int64]
) -> tuple[Singles, Singles]:
    """Return correlation and overlap for all shifts -reach..reach, from the padded product."""
    ny, nx = shape
    ry, rx = reach[0], reach[1]
    height = np.zeros((2 * ry + 1, 2 * rx + 1), dtype=np.float32)
    count = np.zeros((2 * ry + 1, 2 * rx + 1), dtype=np.float32)
    sum_a, square_a, sum_b, square_b = tables
    for i in range(2 * ry + 1):
        sy = i - ry
        top, bottom = max(0, -sy), min(ny, ny - sy)
        for j in range(2 * rx + 1):
            sx = j - rx
            left, right = max(0, -sx), min(nx, nx - sx)
            n = (bottom - top) * (right - left)
            if bottom <= top or right <= left:
                continue
            a = _rectangle(sum_a, top, bottom, left, right)
            aa = _rectangle(square_a, top, bottom, left, right) - a * a / n
            b = _rectangle(sum_b, top + sy, bottom + sy, left + sx, right + sx)
            bb = _rectangle(square_b, top + sy, bottom + sy, left + sx, right + sx) - b * b / n
            count[i, j] = n
            if aa > 0 and bb > 0:
                height[i, j] = (product[sy, sx] - a * b / n) / np.sqrt(aa * bb)
    return height, count


def _masked(a: SmallFrame, b: SmallFrame, reach: tuple[int, int]) -> tuple[Singles, Singles]:
    """Return correlation and overlap for all shifts -reach..reach with masks."""
    ones = np.ones(a.values.shape, dtype=np.float32)
    spectra = []
    for frame in (a, b):
        mask = ones if frame.mask is None else frame.mask.astype(np.float32)
        spectra.append((frame.spectrum, fft.rfft2(mask, s=a.padded), fft.rfft2(frame.values**2, s=a.padded)))
    (fa, ma, qa), (fb, mb, qb) = spectra
    rows, cols = np.arange(-reach[0], reach[0] + 1), np.arange(-reach[1], reach[1] + 1)

    def correlated(first: NDArray[np.complex64], second: NDArray[np.complex64]) -> Floats:
        full = fft.irfft2(np.conj(first) * second, s=a.padded, overwrite_x=True)
        return np.asarray(full[np.ix_(rows, cols)], dtype=np.float64)

    count = np.maximum(np.rint(correlated(ma, mb)), 0)
    n = np.maximum(count, 1)
    sum_a, sum_b = correlated(fa, mb), correlated(ma, fb)
    var_a, var_b = correlated(qa, mb) - sum_a**2 / n, correlated(ma, qb) - sum_b**2 / n
    # rounding of the transforms: a variance below it is none
    tiny = 1e-5 * min(float((a.values**2).sum()), float((b.values**2).sum()))
    good = (var_a > tiny) & (var_b > tiny)
    scale = np.sqrt(np.where(good, var_a * var_b, 1.0))
    height = np.where(good, (correlated(fa, fb) - sum_a * sum_b / n) / scale, 0.0)
    return np.clip(height, -1, 1).astype(np.float32), count.astype(np.float32)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _find_peaks(height: Singles, count: Singles, least: float) -> tuple[Floats, Floats, Floats]:
    """Return places (index, sub-pixel), heights and overlaps of the local maxima."""
    ny, nx = height.shape
    place, value, number = np.empty((ny * nx // 2, 2)), np.empty(ny * nx // 2), np.empty(ny * nx // 2)
    found = 0
    for i in range(1, ny - 1):
        for j in range(1, nx - 1):
            top = height[i, j]
            if not top > 0 or count[i, j] < least:  # not a number is no peak
                continue
            highest = True
            for di in range(-1, 2):
                for dj in range(-1, 2):
                    other = height[i + di, j + dj]
                    # a plateau counts once, at its last pixel
                    if other > top or (other == top and (di > 0 or (di == 0 and dj > 0))):
                        highest = False
            if not highest:
                continue
            place[found, 0] = i + _vertex(height[i - 1, j], top, height[i + 1, j])
            place[found, 1] = j + _vertex(height[i, j - 1], top, height[i, j + 1])
            # what the peak would be between the pixels, or a sharp one would seem lower off the grid
            rise = _rise(height[i - 1, j], top, height[i + 1, j]) + _rise(
                height[i, j - 1], top, height[i, j + 1]
            )
            value[found], number[found] = min(top + rise, 1.0), count[i, j]
            found += 1
    return place[:found], value[:found], number[:found]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _vertex(before: float, top: float, after: float) -> float:
    bend = before - 2 * top + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _rise(before: float, top: float, after: float) -> float:
    bend = before - 2 * top + after
    return -((before - after) ** 2) / (8 * bend) if bend < 0 else 0.0
