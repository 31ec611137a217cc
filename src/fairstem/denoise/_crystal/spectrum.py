"""The power spectrum of a region of an image, its background, and the reflections that stand above it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

__all__ = ["Reflections", "Spectrum", "find_reflections", "make_spectrum", "windowed"]

Floats = NDArray[np.float64]

_GRID = 32  # blocks along the longer side on which the slow background is known
_SLOW = 4.0  # of these blocks: sigma of what counts as slow
_QUANTILE = 0.3  # of a ring: below the median, so that rings full of reflections keep their background
_APART = 1.1  # resolution elements between two reflections
_OVER_STREAK = 8.0  # times its mean power
_MOST = 48
_FALSE_ALARM = 0.01  # images of pure noise that show any peak
_LOBES = 3.0  # local maxima of the padded spectrum for each of its independent values


@dataclass(frozen=True)
class Spectrum:
    """Power of the windowed region.

    Parameters
    ----------
    power
        ``(fy, fx)`` of the zero-padded transform, half plane ``fx >= 0``, float32.
    padded
        Its shape in real space.
    element
        ``(2,)``: resolution along y and x in cycles per px: half width of a reflection.
    radii, level
        Background, mean power against |f| in cycles per px.
    threshold
        Power over background that pure noise exceeds anywhere in one image of a hundred.
    """

    power: NDArray[np.float32]
    padded: tuple[int, int]
    element: Floats
    radii: Floats
    level: Floats
    threshold: float

    def background(self, frequency: Floats) -> Floats:
        """Return the mean power of the background at ``(n, 2)`` cycles per px."""
        return np.asarray(np.exp(np.interp(np.hypot(*frequency.T), self.radii, np.log(self.level))))

    def contrast(self, frequency: Floats) -> Floats:
        """Return power over background at ``(n, 2)`` cycles per px, to the nearest value of the transform."""
        i, j = (np.rint(frequency * np.array(self.padded)).astype(int)).T
        i, j = np.where(j < 0, -i, i) % self.padded[0], np.abs(j)
        return np.asarray(self.power[i, j] / self.background(frequency))


@dataclass(frozen=True)
class Reflections:
    """Peaks of a spectrum, the highest over its background first.

    Parameters
    ----------
    place
        ``(n, 2)`` cycles per px, ``fx >= 0``.
    height
        ``(n,)`` power over background.
    """

    place: Floats
    height: Floats


def windowed(
    k: Floats, weight: Floats | None, taper: float = 0.5
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the region without its slow background, times a smooth window; and the window.

    Parameters
    ----------
    k
        ``(y, x)`` counts.
    weight
        ``(y, x)`` in [0, 1]; None for all ones.
    taper
        Share of the region, at each of its sides, over which the window rises: 0.5 tells reflections apart best,
        less places them better.
    """
    ny, nx = k.shape
    w = None if weight is None else np.asarray(weight, dtype=np.float32)
    rest = k.astype(np.float32)
    mean = float(k.mean()) if w is None else float((k * w).sum() / max(float(w.sum()), 1e-30))
    rest -= mean
    rest -= _slow(rest, w)
    rise = [_taper(n, taper) for n in (ny, nx)]
    window = rise[0][:, None] * rise[1] if w is None else _region_window(w, taper)
    rest *= window
    rest -= window * (float(rest.sum()) / max(float(window.sum()), 1e-30))
    return rest, window


def _taper(n: int, taper: float) -> NDArray[np.float32]:
    from_end = np.minimum(np.arange(n) + 0.5, n - 0.5 - np.arange(n)) / (taper * n)
    return np.asarray(np.sin(0.5 * np.pi * np.minimum(from_end, 1.0)) ** 2, dtype=np.float32)


def _region_window(w: NDArray[np.float32], taper: float) -> NDArray[np.float32]:
    """Return a window that rises smoothly from the border of the region, and of the image, inwards."""
    side = math.sqrt(float(w.sum()))
    sigma = max(side * taper / 6, 1.0)
    step = max(int(sigma / 3), 1)
    grid, size = _block_sums(w, step)
    # outside the image there is nothing: its border counts as the border of the region
    share = gaussian_filter(grid / float(step * step), sigma / step, mode="constant")
    inner = np.clip(2.0 * share - 0.9, 0.0, 1.0)
    smooth = gaussian_filter(inner, 0.5 * sigma / step, mode="constant")
    return np.asarray(_spread(smooth, size, step) * w, dtype=np.float32)


def _block_sums(values: NDArray[np.float32], step: int) -> tuple[Floats, tuple[int, int]]:
    ny, nx = values.shape
    rows = np.add.reduceat(values, np.arange(0, ny, step), axis=0)
    return np.add.reduceat(rows, np.arange(0, nx, step), axis=1).astype(np.float64), (ny, nx)


def _spread(grid: Floats, shape: tuple[int, int], step: int) -> NDArray[np.float32]:
    """Interpolate block values linearly to pixels."""
    sides = []
    for n, blocks in zip(shape, grid.shape, strict=True):
        at = np.clip((np.arange(n) + 0.5) / step - 0.5, 0, blocks - 1)
        low = np.minimum(at.astype(int), max(blocks - 2, 0))
        matrix = np.zeros((n, blocks), dtype=np.float32)
        matrix[np.arange(n), low] = 1 - (at - low)
        matrix[np.arange(n), np.minimum(low + 1, blocks - 1)] += at - low
        sides.append(matrix)
    return np.asarray(sides[0] @ grid.astype(np.float32) @ sides[1].T)


def _slow(rest: NDArray[np.float32], w: NDArray[np.float32] | None) -> NDArray[np.float32]:
    step = max(round(max(rest.shape) / _GRID), 1)
    total, size = _block_sums(rest if w is None else rest * w, step)
    count, _ = _block_sums(np.ones_like(rest) if w is None else w, step)
    sigma = [_SLOW * n * step / max(size) for n in np.full(2, max(size) / step)]
    sigma = [min(s, 0.15 * n) for s, n in zip(sigma, total.shape, strict=True)]
    top = gaussian_filter(total, sigma, mode="constant")
    bottom = gaussian_filter(count, sigma, mode="constant")
    return _spread(top / np.maximum(bottom, 1e-3 * float(bottom.max()) + 1e-30), size, step)


def make_spectrum(rest: NDArray[np.float32], window: NDArray[np.float32]) -> Spectrum:
    """Return the power spectrum of what `windowed` gives.

    Notes
    -----
    Cost: a transform of four times the pixels.
    """
    box = _support(window)
    rest, window = rest[box], window[box]
    ny, nx = rest.shape
    padded = (fft.next_fast_len(2 * ny, real=True), fft.next_fast_len(2 * nx, real=True))
    transform = fft.rfft2(rest, padded)
    power = transform.real**2 + transform.imag**2
    square = window.astype(np.float64) ** 2
    element = np.empty(2)
    for axis in range(2):
        line = square.sum(axis=1 - axis)
        at = np.arange(len(line))
        middle = (line @ at) / line.sum()
        element[axis] = 1 / math.sqrt(12 * max((line @ (at - middle) ** 2) / line.sum(), 1e-6))
    radii, level = _rings(power, padded, float(element.max()))
    # independent values in the half plane: pixels over the area of a resolution element
    independent = 0.5 / float(element.prod())
    threshold = math.log(_LOBES * independent / _FALSE_ALARM)
    return Spectrum(power, padded, element, radii, level, threshold)


def _support(window: NDArray[np.float32]) -> tuple[slice, slice]:
    out = []
    for axis in range(2):
        inside = np.flatnonzero(window.max(axis=1 - axis) > 0)
        out.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 1))
    return out[0], out[1]


def _rings(power: NDArray[np.float32], padded: tuple[int, int], element: float) -> tuple[Floats, Floats]:
    """Return radii and the mean power of the background on rings."""
    edges = [0.75 * element]
    while edges[-1] < math.sqrt(0.5):
        edges.append(max(edges[-1] + 1.5 * element, 1.12 * edges[-1]))
    fy = np.fft.fftfreq(padded[0])[::2]
    fx = np.fft.rfftfreq(padded[1])[::2]
    part = np.ascontiguousarray(power[::2, ::2])
    ring = np.searchsorted(edges, np.sqrt(fy[:, None] ** 2 + fx**2).ravel()) - 1
    order = np.argsort(ring, kind="stable")
    at = np.searchsorted(ring[order], np.arange(len(edges) + 1))
    values = part.ravel()[order]
    radii, level = [], []
    for n in range(len(edges) - 1):
        inside = values[at[n] : at[n + 1]]
        if len(inside) < 8:
            continue
        radii.append(math.sqrt(edges[n] * edges[n + 1]))
        # power of noise is exponentially distributed
        level.append(float(np.quantile(inside, _QUANTILE)) / -math.log1p(-_QUANTILE))
    # what no noise is left in is known to the precision of the arithmetic only
    least = 1e-9 * float(power.max()) + 1e-30
    return np.array(radii), np.maximum(np.array(level), least)


def find_reflections(spectrum: Spectrum) -> Reflections:
    """Return the local maxima of the power that noise would hardly reach."""
    at, height = _maxima(
        spectrum.power,
        np.fft.fftfreq(spectrum.padded[0]).astype(np.float64),
        np.fft.rfftfreq(spectrum.padded[1]).astype(np.float64),
        spectrum.radii,
        np.log(spectrum.level),
        spectrum.element,
        spectrum.threshold,
    )
    order = np.argsort(-height, kind="stable")[: 20 * _MOST]
    place = np.array([_vertex(spectrum, i, j) for i, j in at[order]]).reshape(-1, 2)
    height = height[order]
    streak = np.array([_streak(spectrum, i, j) for i, j in at[order]])
    keep: list[int] = []
    for n in range(len(place)):
        if height[n] * spectrum.background(place[n : n + 1])[0] < _OVER_STREAK * streak[n]:
            continue
        near = np.array([*place[keep], *(-place[keep])]).reshape(-1, 2) - place[n]
        # strained lattices broaden reflections in proportion to their frequency
        reach = _APART + 0.02 * float(np.hypot(*(place[n] / spectrum.element)))
        if not len(near) or np.hypot(*(near / spectrum.element).T).min() > reach:
            keep.append(n)
        if len(keep) == _MOST:
            break
    return Reflections(place[keep], height[keep])


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _maxima(
    power: NDArray[np.float32],
    fy: Floats,
    fx: Floats,
    radii: Floats,
    level: Floats,
    element: Floats,
    threshold: float,
) -> tuple[NDArray[np.int64], Floats]:
    ny, nx = power.shape
    places, heights = [], []
    high = np.interp(radii, radii, level)
    for i in range(ny):
        for j in range(nx - 2):
            v = power[i, j]
            r = math.sqrt(fy[i] ** 2 + fx[j] ** 2)
            if math.sqrt((fy[i] / element[0]) ** 2 + (fx[j] / element[1]) ** 2) < 1.0 or r > 0.5:
                continue
            if j == 0 and fy[i] < 0:
                continue
            m = np.searchsorted(radii, r)
            if m == 0:
                ground = high[0]
            elif m >= len(radii):
                ground = high[-1]
            else:
                t = (r - radii[m - 1]) / (radii[m] - radii[m - 1])
                ground = (1 - t) * high[m - 1] + t * high[m]
            ratio = v / math.exp(ground)
            if ratio < threshold:
                continue
            top = True
            for di in range(-2, 3):
                for dj in range(-2, 3):
                    jj, ii = j + dj, i + di
                    if jj < 0:
                        jj, ii = -jj, -ii
                    if power[ii % ny, jj] > v:
                        top = False
            if top:
                places.append((i, j))
                heights.append(ratio)
    out = np.empty((len(places), 2), dtype=np.int64)
    for n in range(len(places)):
        out[n, 0], out[n, 1] = places[n]
    return out, np.array(heights)


def _wrap(power: NDArray[np.float32], i: int, j: int) -> float:
    return float(power[i % len(power), j]) if j >= 0 else float(power[-i % len(power), -j])


def _vertex(spectrum: Spectrum, i: int, j: int) -> Floats:
    """Return the sub-bin frequency of a maximum: parabolas through logarithms, exact for a Gaussian."""
    out = np.empty(2)
    for axis, step in enumerate(((1, 0), (0, 1))):
        three = [_wrap(spectrum.power, i + s * step[0], j + s * step[1]) for s in (-1, 0, 1)]
        a, b, c = np.log(np.maximum(three, 1e-30))
        bend = a - 2 * b + c
        off = float(np.clip(0.5 * (a - c) / bend, -0.5, 0.5)) if bend < 0 else 0.0
        n = spectrum.padded[axis]
        at = (i, j)[axis]
        at = at - n if axis == 0 and at > n // 2 else at
        out[axis] = (at + off) / n
    return out


def _streak(spectrum: Spectrum, i: int, j: int) -> float:
    """Return the mean power of the streak along y or along x that a maximum may lie on.

    Rows that jump smear reflections along y, and rows of uneven brightness make a line at fx = 0.
    """
    levels = []
    for axis in range(2):
        n = spectrum.padded[axis]
        near = max(3, round(2.5 * spectrum.element[axis] * n))
        far = max(2 * near + 4, round(0.06 * n))
        steps = np.concatenate([np.arange(-far, -near), np.arange(near + 1, far + 1)])
        if axis == 0:
            line = spectrum.power[(i + steps) % n, j]
        else:
            columns = j + steps
            line = spectrum.power[i, columns[(columns > 0) & (columns < spectrum.power.shape[1])]]
        levels.append(float(np.quantile(line, _QUANTILE)) / -math.log1p(-_QUANTILE) if len(line) else 0.0)
    return max(levels)
