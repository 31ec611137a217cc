"""The most likely image: a spline fitted to all raw pixels at their own places."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fairstem.compute import track
from fairstem.register._series.frames import Frames
from fairstem.register._series.motion import Motion
from fairstem.register._series.splines import spline_weights
from fairstem.register._series.warp import deposit, resample

__all__ = ["most_likely"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
_PAD = 2  # coefficients beyond the grid that still reach its edge pixels
_HALO = 12  # rows solved beyond a strip: what happens there is forgotten to 1e-6
_STRIP_BYTES = 128 * 2**20  # of normal equations held at a time
_CURVATURE = 0.004  # weight of the prior in samples per pixel
_SMOOTH = 2.0  # px: the mean from which the weights of the samples follow
_STEPS, _ACCURACY = 60, 1e-5


def most_likely(
    frames: Frames, motion: Motion, used: list[int], mean: Floats, law: tuple[float, float, float]
) -> tuple[Floats, Floats]:
    """Return the image under which the raw pixels are most likely, and the variance of one sample.

    Prior: the image is a cubic B-spline with one coefficient a pixel; a pixel of frame k is its value at
    one point, with the variance that `law` gives; where samples are scarce the curvature is small (worth
    0.004 samples a pixel, which widens a column of 1.2 px by 0.2 %).

    Parameters
    ----------
    frames, motion, used
        The series, where its pixels lie, and the numbers of the frames.
    mean
        ``(y, x)`` first estimate, from which the weights of the samples follow.
    law
        (a, b, lowest): the variance of a sample is ``max(a + b * mean, lowest)``.

    Returns
    -------
    tuple
        ``(y, x)`` image and ``(y, x)`` variance of one sample.

    Notes
    -----
    Weighted least squares by conjugate gradients on the normal equations, a stencil of 7 x 7 a pixel; with
    variances proportional to the mean this is one step of iteratively weighted Poisson likelihood. Cost:
    ``O(frames * pixels * 136)`` for the equations and ``O(pixels * 49)`` for each of about 20 steps; the
    equations are held in strips of rows, at most 128 MB at a time, and each strip reads the frames once.
    """
    ny, nx = frames.shape
    a, b, lowest = law
    # weights from the noisy mean itself would favour pixels that happen to be low
    smooth = gaussian_filter(mean, _SMOOTH)
    weight = 1.0 / np.maximum(a + b * smooth, max(lowest, np.finfo(np.float64).tiny))
    weight /= weight.mean()
    image = np.empty((ny, nx))
    rows = max(1, _STRIP_BYTES // (4 * 28 * (nx + 2 * _PAD)) - 2 * _HALO)
    for start in track(range(0, ny, rows), label="most likely image"):
        stop = min(start + rows, ny)
        low, high = max(start - _HALO, 0), min(stop + _HALO, ny)
        part = _solve_strip(frames, motion, used, mean, weight, (low, high))
        image[start:stop] = part[start - low : stop - low]
    return image, _residual_variance(frames, motion, used, image, weight)


def _solve_strip(
    frames: Frames, motion: Motion, used: list[int], mean: Floats, weight: Floats, rows: tuple[int, int]
) -> Floats:
    low, high = rows
    nx = frames.shape[1]
    shape = (high - low + 2 * _PAD, nx + 2 * _PAD)
    stencil = np.zeros((*shape, 4, 7), dtype=np.float32)
    right = np.zeros(shape)
    for k in used:
        frame = frames.read(k)
        field = motion.forward(k)
        if field.strides[-1] == 0:
            field = field[:, :, :1]
        mask = np.zeros((0, 0), dtype=np.bool_) if frame.mask is None else frame.mask
        _accumulate(frame.values, mask, np.ascontiguousarray(field), weight, low, stencil, right)
    _add_curvature(stencil, _CURVATURE)
    start = np.pad(mean[low:high], _PAD, mode="edge")
    return _values(_conjugate_gradients(stencil, right, start))


def _conjugate_gradients(stencil: Singles, right: Floats, start: Floats) -> Floats:
    """Solve the normal equations from a start, to 1e-5 of the right side."""
    diagonal = np.maximum(stencil[:, :, 0, 3].astype(np.float64), 1e-12)
    x, product = start, np.empty_like(right)
    _multiply(stencil, x, product)
    rest = right - product
    step = rest / diagonal
    size = float((rest * step).sum())
    goal = _ACCURACY**2 * float((right * right / diagonal).sum())
    for _ in range(_STEPS):
        if size <= goal:
            break
        _multiply(stencil, step, product)
        length = size / float((step * product).sum())
        x = x + length * step
        rest -= length * product
        smoothed = rest / diagonal
        old, size = size, float((rest * smoothed).sum())
        step = smoothed + size / old * step
    return x


def _values(coefficients: Floats) -> Floats:
    """Return the values of the spline at the pixels, the padding cut off."""
    c = coefficients[1:-1] * (4 / 6) + (coefficients[:-2] + coefficients[2:]) / 6
    c = c[:, 1:-1] * (4 / 6) + (c[:, :-2] + c[:, 2:]) / 6
    return np.asarray(c[_PAD - 1 : 1 - _PAD, _PAD - 1 : 1 - _PAD])


def _residual_variance(
    frames: Frames, motion: Motion, used: list[int], image: Floats, weight: Floats
) -> Floats:
    total, number = np.zeros(image.shape), np.zeros(image.shape)
    for k in used:
        frame = frames.read(k)
        forward = motion.forward(k)
        expected, inside = resample(image, forward)
        measured = inside > 0 if frame.mask is None else (inside > 0) & frame.mask
        expected -= frame.values
        expected *= expected
        squares, coverage, _ = deposit(expected, forward, mask=measured)
        total += squares
        number += coverage
    # against the prior a sample counts as much as its weight
    n, passed, fitted = _leverage(16.0 * len(used))
    effective = number * weight
    # the fit follows the samples: what is left is smaller than their scatter
    left = np.maximum(number - np.interp(effective, n, fitted), 1e-3)
    return np.asarray(total / left * np.interp(effective, n, passed))


def _leverage(most: float) -> tuple[Floats, Floats, Floats]:
    """Return numbers of samples a pixel, and for each what of their noise the image keeps.

    Two numbers: the variance of a pixel of the image times samples, in units of the variance of a sample;
    and the degrees of freedom a pixel that the fit takes. For samples spread evenly between the pixels:
    then the normal equations are a convolution, with the cubic B-spline's autocorrelation, that of degree 7,
    and the prior's biharmonic.
    """
    w = 2 * np.pi * np.fft.fftfreq(64)
    gram = (2416 + 2382 * np.cos(w) + 240 * np.cos(2 * w) + 2 * np.cos(3 * w)) / 5040
    value = (4 + 2 * np.cos(w)) / 6
    gram2, value2 = np.outer(gram, gram), np.outer(value, value) ** 2
    bend = (2 - 2 * np.cos(w)) ** 2
    prior = _CURVATURE * (bend[:, None] + bend)
    n = np.geomspace(0.1, most, 40)
    hat = [k * gram2 / (k * gram2 + prior) for k in n]
    passed = [k * float((value2 * h**2 / (k * gram2)).mean()) for k, h in zip(n, hat, strict=True)]
    return n, np.array(passed), np.array([float(h.mean()) for h in hat])


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _accumulate(
    values: Floats,
    mask: NDArray[np.bool_],
    field: Floats,
    weight: Floats,
    low: int,
    stencil: Singles,
    right: Floats,
) -> None:
    """Add the samples of one frame to the normal equations of a strip that begins at row `low`.

    ``stencil[i, j, d, e]`` couples coefficient (i, j) with (i + d, j + e - 3).
    """
    cy, cx = right.shape
    ny, nx = weight.shape
    wide = field.shape[2] > 1
    wy, wx = np.empty(4), np.empty(4)
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if mask.size and not mask[i, j]:
                continue
            y, x = i + field[0, i, j if wide else 0], j + field[1, i, j if wide else 0]
            iy, ix = int(np.floor(y)), int(np.floor(x))
            top, left = iy - 1 - low + 2, ix - 1 + 2
            if top < 0 or left < 0 or top + 3 >= cy or left + 3 >= cx:
                continue
            spline_weights(y - iy, wy)
            spline_weights(x - ix, wx)
            near = weight[min(max(round(y), 0), ny - 1), min(max(round(x), 0), nx - 1)]
            for a in range(4):
                for b in range(4):
                    one = near * wy[a] * wx[b]
                    right[top + a, left + b] += one * values[i, j]
                    for d in range(4 - a):
                        other = one * wy[a + d]
                        for e in range(4):
                            stencil[top + a, left + b, d, e - b + 3] += other * wx[e]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_curvature(stencil: Singles, strength: float) -> None:
    """Add `strength` times the squared second differences along both axes to the normal equations."""
    cy, cx = stencil.shape[:2]
    for i in range(cy):
        for j in range(cx):
            if 0 < i < cy - 1:  # (1, -2, 1) along y, round (i, j)
                stencil[i - 1, j, 0, 3] += strength
                stencil[i - 1, j, 1, 3] -= 2 * strength
                stencil[i - 1, j, 2, 3] += strength
                stencil[i, j, 0, 3] += 4 * strength
                stencil[i, j, 1, 3] -= 2 * strength
                stencil[i + 1, j, 0, 3] += strength
            if 0 < j < cx - 1:
                for c in range(3):
                    for d in range(3):
                        own = (1 - 3 * (c == 1)) * (1 - 3 * (d == 1))
                        stencil[i, j - 1 + c, 0, d - c + 3] += own * strength


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _multiply(stencil: Singles, x: Floats, out: Floats) -> None:
    """Multiply with the normal equations: row 0 of the stencil whole, rows below once each way."""
    cy, cx = x.shape
    # three zeros on either side save asking where the row ends
    padded, result = np.zeros((cy + 3, cx + 6)), np.zeros((cy + 3, cx + 6))
    padded[:cy, 3 : cx + 3] = x
    for i in range(cy):
        for j in range(cx):
            row, own = stencil[i, j], padded[i, j + 3]
            total = 0.0
            for e in range(7):
                total += row[0, e] * padded[i, j + e]
            for d in range(1, 4):
                for e in range(7):
                    total += row[d, e] * padded[i + d, j + e]
                    result[i + d, j + e] += row[d, e] * own
            result[i, j + 3] += total
    out[:] = result[:cy, 3 : cx + 3]
