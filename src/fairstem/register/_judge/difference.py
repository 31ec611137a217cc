"""The local shift between two images of one object, with its counting error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates

from fairstem.errors import DataError

__all__ = ["Difference", "Image", "measure_difference"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_AFFINE_STEPS, _LOCAL_STEPS = 6, 4
_SMOOTH_PX = 1.0  # the gradient of the reference is taken at that scale: fewer electrons, less bias
_WEAK = 0.15  # windows with less than that of the median information are not compared
_ALIKE = 0.95  # of equally good whole shifts, as lattices have, the smallest is taken


@dataclass(frozen=True)
class Image:
    """An average: values, number of samples and variance of each pixel, all (y, x)."""

    values: Floats
    samples: Floats
    variance: Floats


@dataclass(frozen=True)
class Difference:
    """Shift of the second image against the first.

    Parameters
    ----------
    shift
        ``(2, y, x)`` px, its affine part removed: the second image at (y + dy, x + dx) shows the first
        at (y, x).
    variance
        ``(2, y, x)`` px² from counting noise.
    good
        ``(y, x)`` where there is enough to compare.
    rows
        True when rows were compared as a whole.
    """

    shift: Floats
    variance: Floats
    good: Bools
    rows: bool


def measure_difference(first: Image, second: Image, window_px: float, *, rows: bool) -> Difference:
    """Measure the shift between two images in Gaussian windows.

    Prior: both show the same object; the shift is below the width of a column after a whole shift and
    an affine map.

    Parameters
    ----------
    first, second
        The images, on grids of the same size.
    window_px
        Standard deviation of the windows, px.
    rows
        True: one shift a row, in windows of `window_px` rows. False: windows both ways.

    Raises
    ------
    DataError
        The images have nothing in common to compare.

    Notes
    -----
    Gauss-Newton on the weighted difference of the images (Lucas and Kanade), weights 1/variance.
    Cost: ``O(10 * pixels * 30)``.
    """
    shape = first.values.shape
    variance = _steady(first) + _steady(second)
    known = (first.samples >= 1).astype(np.float64)
    shift = np.zeros((2, *shape)) + _whole_shift(first.values, second.values)[:, None, None]
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    basis = np.stack([np.ones(shape), (y - y.mean()) / shape[0], (x - x.mean()) / shape[1]])
    for n in range(_AFFINE_STEPS):
        # coarse first: a strain between the halves moves the corners by more than a column
        scale = 3.0 if n < _AFFINE_STEPS // 2 else _SMOOTH_PX
        slope, rest, weight = _compare(first, second, shift, known / variance, scale)
        shift += _affine_step(slope, rest, weight, basis)
    affine = shift.copy()
    for _ in range(_LOCAL_STEPS):
        slope, rest, weight = _compare(first, second, shift, known / variance, _SMOOTH_PX)
        # the whole local shift is fitted anew: steps that add up would undo what the window averages
        rest = rest + ((shift - affine) * slope).sum(axis=0)
        local, error, strength = _local_fit(slope, rest, weight, window_px, rows=rows)
        shift = affine + _limited(local)
    positive = strength[strength > 0]
    if not positive.size:
        raise DataError(
            "the averages of the halves have nothing in common", todo="check that the series aligns"
        )
    good = (strength > _WEAK * np.median(positive)) & (known > 0 if not rows else True)
    return Difference(_without_affine(shift, good, basis), error, np.asarray(good), rows)


def _steady(image: Image) -> Floats:
    """Return the variance, averaged over neighbours: a few frames say little about one pixel."""
    smooth = gaussian_filter(image.variance, 4.0)
    return np.asarray(np.maximum(smooth, max(0.05 * float(np.median(smooth)), 1e-12)))


def _whole_shift(first: Floats, second: Floats) -> Floats:
    """Return (dy, dx) in whole px: the smallest of the shifts that correlate best."""
    window = np.outer(np.hanning(first.shape[0] + 2)[1:-1], np.hanning(first.shape[1] + 2)[1:-1])
    spectra = []
    for image in (first, second):
        smooth = gaussian_filter(image, _SMOOTH_PX)
        spectra.append(np.fft.rfft2((smooth - np.average(smooth, weights=window)) * window))
    correlation = np.fft.irfft2(np.conj(spectra[0]) * spectra[1], s=first.shape)
    dy, dx = (np.rint(np.fft.fftfreq(n, 1 / n)) for n in first.shape)
    distance = np.hypot(dy[:, None], dx[None])
    near = distance <= min(first.shape) / 3
    correlation = np.where(near, correlation, -np.inf)
    best = correlation >= _ALIKE * correlation.max()
    at = np.unravel_index(np.argmin(np.where(best, distance, np.inf)), first.shape)
    # the top of the hill whose flank that is
    for _ in range(max(first.shape)):
        around = [
            ((at[0] + i) % first.shape[0], (at[1] + j) % first.shape[1])
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        ]
        top = max(around, key=lambda p: correlation[p])
        if correlation[top] <= correlation[at]:
            break
        at = top
    return np.array([dy[at[0]], dx[at[1]]])


def _compare(
    first: Image, second: Image, shift: Floats, weight: Floats, scale: float
) -> tuple[Floats, Floats, Floats]:
    """Return gradient (2, y, x), difference (y, x) and weight (y, x) at the present shift."""
    at = shift + np.mgrid[: shift.shape[1], : shift.shape[2]]
    moved = map_coordinates(second.values, at, order=3, mode="nearest")
    ny, nx = shift.shape[1:]
    inside = (at[0] >= 0) & (at[0] <= ny - 1) & (at[1] >= 0) & (at[1] <= nx - 1)
    there = map_coordinates(second.samples, at, order=0, mode="nearest") >= 1
    a, b = first.values, moved
    if scale > _SMOOTH_PX:
        a, b = gaussian_filter(a, scale), gaussian_filter(b, scale)
    mean = gaussian_filter((a + b) / 2, _SMOOTH_PX)
    slope = np.stack(np.gradient(mean))
    return slope, a - b, weight * (inside & there)


def _affine_step(slope: Floats, rest: Floats, weight: Floats, basis: Floats) -> Floats:
    parts = (slope[:, None] * basis).reshape(6, -1)
    weighted = parts * weight.ravel()
    solution = np.linalg.lstsq(weighted @ parts.T, weighted @ rest.ravel(), rcond=1e-8)[0].reshape(2, 3)
    return np.asarray(_limited(np.einsum("ab,byx->ayx", solution, basis)))


def _local_fit(
    slope: Floats, rest: Floats, weight: Floats, window: float, *, rows: bool
) -> tuple[Floats, Floats, Floats]:
    """Return shift (2, y, x), its variance (2, y, x), and the information of each window (y, x)."""

    def pooled(values: Floats, sigma: float) -> Floats:
        if rows:
            summed = gaussian_filter1d(values.sum(axis=-1), sigma, axis=-1, mode="constant")
            return np.asarray(np.broadcast_to(summed[..., None], values.shape))
        return np.asarray(gaussian_filter(values, (0,) * (values.ndim - 2) + (sigma, sigma), mode="constant"))

    products = np.stack([slope[0] ** 2, slope[0] * slope[1], slope[1] ** 2]) * weight
    yy, yx, xx = pooled(products, window)
    score = pooled(slope * rest * weight, window)
    # the window squared is a Gaussian of sigma / sqrt(2) of lower weight: what the noise passes through
    share = (2 * math.sqrt(math.pi) * window) ** (-1 if rows else -2)
    noise = pooled(products, window / math.sqrt(2)) * share
    strength = np.asarray((yy + xx) / 2 - np.sqrt(((yy - xx) / 2) ** 2 + yx**2))  # of the weaker direction
    ridge = 1e-3 * float(np.median(strength[strength > 0])) if (strength > 0).any() else 1.0
    yy, xx = yy + ridge, xx + ridge
    determinant = yy * xx - yx**2
    inverse = np.stack([xx, -yx, yy]) / determinant
    shift = np.stack(
        [inverse[0] * score[0] + inverse[1] * score[1], inverse[1] * score[0] + inverse[2] * score[1]]
    )
    error = np.stack([
        inverse[a] ** 2 * noise[0] + 2 * inverse[a] * inverse[a + 1] * noise[1] + inverse[a + 1] ** 2 * noise[2]
        for a in (0, 1)
    ])  # fmt: skip
    return shift, error, strength


def _limited(shift: Floats, most: float = 2.0) -> Floats:
    """Return the shift with lengths above `most` px cut: no step leaves the column it started in."""
    length = np.hypot(*shift)
    return np.asarray(shift * np.minimum(1.0, most / np.maximum(length, 1e-12)))


def _without_affine(shift: Floats, good: Bools, basis: Floats) -> Floats:
    design = basis[:, good].T
    solution = np.linalg.lstsq(design, shift[:, good].T, rcond=None)[0]
    return np.asarray(shift - np.einsum("ba,byx->ayx", solution, basis))
