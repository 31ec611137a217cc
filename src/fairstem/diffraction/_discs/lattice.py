"""The lattice that the discs or spots form: its two shortest vectors, in px, with an error."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

__all__ = ["DiscLattice", "find_lattice"]

_CANDIDATES = 10
_LEAST_POINTS = 4
_LEAST_SCORE = 4.0
Array = NDArray[np.float64]


@dataclass(frozen=True)
class DiscLattice:
    """A reciprocal lattice.

    Parameters
    ----------
    vectors
        2 × 2, columns the two shortest vectors (y, x) in px.
    sd
        Standard error of each component in px.
    score
        Mean of the disc map at the lattice's points above its mean, in standard errors.
    points
        Number of points that were used.
    """

    vectors: Array
    sd: Array
    score: float
    points: int

    @property
    def spacing(self) -> tuple[float, float]:
        """Length of the shortest vector in px and its error; the mean of two that are equal within errors."""
        lengths = np.hypot(*self.vectors)
        error = float(np.mean(self.sd))
        if abs(lengths[0] - lengths[1]) < 3 * math.sqrt(2) * error + 0.01 * lengths.min():
            return float(lengths.mean()), error / math.sqrt(2)
        return float(lengths.min()), error

    def round_ellipse(self) -> tuple[Array, str] | None:
        """Return the matrix that makes a nearly square or hexagonal lattice exactly so, and which; None if neither."""
        for name, angle in (("square", 90.0), ("hexagonal", 60.0), ("hexagonal", 120.0)):
            turned = np.array([[1.0, np.cos(np.deg2rad(angle))], [0.0, np.sin(np.deg2rad(angle))]])
            moved = self.vectors @ np.linalg.inv(turned)
            square = moved @ moved.T / abs(np.linalg.det(moved))
            values, axes = np.linalg.eigh(square)
            if values[1] / values[0] < 1.1**2:
                matrix: Array = axes @ np.diag(values**-0.5) @ axes.T
                return matrix, name
        return None


def find_lattice(
    pattern: Array,
    usable: NDArray[np.bool_],
    center: Array,
    radius: float | None,
    width: float,
    ellipse: Array,
) -> DiscLattice | None:
    """Find the lattice of discs of a known radius, or of spots.

    Every point of a map says how well a disc centred there explains the pattern's edges: the fall of √intensity
    outwards, summed along the disc's rim (spots: the smoothed √intensity). The two vectors whose multiples collect
    most of the map are refined by the peaks at their multiples.

    Parameters
    ----------
    pattern, usable
        (k_y, k_x).
    center
        Optic axis (y, x) in px.
    radius
        Disc radius in px; None for spots.
    width
        Blur of the edge in px.
    ellipse
        Matrix that makes the discs round.

    Returns
    -------
    DiscLattice or None
        In round px; None when no lattice stands out.
    """
    scores = _above_rings(_disc_map(pattern, usable, radius, width, ellipse), center, ellipse)
    margin = 2.0 if radius is None else min(radius + 2.0, 0.25 * min(scores.shape))
    shortest = max(3.0, 0.25 * radius if radius else 3.0)
    candidates = _candidates(scores, center, shortest)
    best: tuple[float, Array] | None = None
    for a, b in itertools.combinations(candidates, 2):
        basis = np.stack([a, b], axis=1)
        if abs(np.linalg.det(basis)) < 0.4 * np.hypot(*a) * np.hypot(*b):
            continue
        worth = _worth(scores, center, basis, margin)
        if best is None or worth > best[0]:
            best = worth, basis
    if best is None or best[0] < _LEAST_SCORE:
        return None
    found = _refined(scores, center, best[1], best[0], margin)
    if found is None:
        return None
    return _reduced(DiscLattice(ellipse @ found.vectors, found.sd, found.score, found.points))


def _disc_map(
    pattern: Array, usable: NDArray[np.bool_], radius: float | None, width: float, ellipse: Array
) -> Array:
    root = np.where(usable, np.sqrt(np.maximum(pattern, 0.0)), np.nan)
    root = np.where(usable, root, np.nanmedian(root))
    if radius is None:
        return np.asarray(ndimage.gaussian_filter(root, 1.0) - ndimage.gaussian_filter(root, 4.0))
    blur = max(width, 0.7)
    reach = int(radius + 4 * blur) + 2
    grid = np.indices((2 * reach + 1, 2 * reach + 1), dtype=np.float64) - reach
    y, x = np.tensordot(ellipse, grid, axes=1)
    r = np.maximum(np.hypot(y, x), 1e-9)
    rim = np.exp(-0.5 * ((r - radius) / blur) ** 2) / r
    weight = ndimage.binary_erosion(usable, iterations=2, border_value=1)
    shape = tuple(fft.next_fast_len(n + 2 * reach, real=True) for n in root.shape)
    out = np.zeros(root.shape)
    for axis, part in enumerate((y, x)):
        gradient = ndimage.gaussian_filter1d(root, 0.7, axis=axis, order=1, mode="nearest") * weight
        kernel = -(rim * part)[::-1, ::-1]
        product = fft.irfft2(fft.rfft2(gradient, shape) * fft.rfft2(kernel, shape), shape)
        out += product[reach : reach + root.shape[0], reach : reach + root.shape[1]]
    return out


def _above_rings(scores: Array, center: Array, ellipse: Array) -> Array:
    """Subtract the median of every ring about the centre: the central disc's own edge draws rings in the map."""
    grid = np.indices(scores.shape, dtype=np.float64) - np.asarray(center)[:, None, None]
    r = np.hypot(*np.tensordot(ellipse, grid, axes=1)).astype(np.int64)
    middle = ndimage.median(scores, r, index=np.arange(r.max() + 1))
    out: Array = scores - np.nan_to_num(np.asarray(middle, dtype=np.float64))[r]
    return out


def _candidates(scores: Array, center: Array, shortest: float) -> list[Array]:
    """Vectors to peaks that the map has on both sides of the centre, the highest ones."""
    n_y, n_x = scores.shape
    half = [int(min(c, n - 1 - c)) for c, n in zip(center, (n_y, n_x), strict=True)]
    grid = np.indices((2 * half[0] + 1, 2 * half[1] + 1), dtype=np.float64)
    grid -= np.array(half)[:, None, None]
    at = np.asarray(center)[:, None, None]
    both = ndimage.map_coordinates(scores, at + grid, order=1) + ndimage.map_coordinates(
        scores, at - grid, order=1
    )
    peak = (both == ndimage.maximum_filter(both, size=5)) & (np.hypot(grid[0], grid[1]) >= shortest)
    peak[: half[0]] = False  # one of each pair
    places = np.argwhere(peak)
    order = np.argsort([-both[tuple(p)] for p in places])[:_CANDIDATES]
    return [places[i] - np.array(half, dtype=np.float64) for i in order]


def _points(
    shape: tuple[int, ...], center: Array, basis: Array, margin: float
) -> tuple[NDArray[np.int64], Array]:
    """Indices (h, k) without (0, 0) and positions of the lattice's points on the detector."""
    far = int(np.ceil(math.hypot(*shape) / np.sqrt(np.linalg.eigvalsh(basis.T @ basis)[0])))
    far = min(far, 30)
    index = np.array([hk for hk in itertools.product(range(-far, far + 1), repeat=2) if hk != (0, 0)])
    at = np.asarray(center)[:, None] + basis @ index.T
    on = np.all((at >= margin) & (at <= np.array(shape)[:, None] - 1 - margin), axis=0)
    return index[on], at[:, on]


def _worth(scores: Array, center: Array, basis: Array, margin: float) -> float:
    _, at = _points(scores.shape, center, basis, margin)
    if at.shape[1] < _LEAST_POINTS:
        return -np.inf
    values = ndimage.map_coordinates(scores, at, order=1)
    deviation = float(scores.std())
    return float((values.mean() - scores.mean()) / max(deviation, 1e-300) * np.sqrt(at.shape[1]))


def _refined(scores: Array, center: Array, basis: Array, score: float, margin: float) -> DiscLattice | None:
    """Fit the vectors to the peaks next to the lattice's points, weights by height, twice."""
    error = np.full(2, np.nan)
    used = 0
    for _ in range(3):
        index, at = _points(scores.shape, center, basis, margin)
        peaks, weights = zip(*(_peak(scores, p) for p in at.T), strict=True)
        weight = np.array(weights)
        good = weight > 0
        used = int(good.sum())
        if used < _LEAST_POINTS or np.linalg.matrix_rank(index[good]) < 2:
            return None
        root = np.sqrt(weight[good])
        design = index[good] * root[:, None]
        target = (np.array(peaks)[good] - center) * root[:, None]
        fit = np.linalg.lstsq(design, target, rcond=None)[0]
        rest = target - design @ fit
        variance = float((rest**2).sum() / max(2 * used - 4, 1))
        error = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
        basis = fit.T
    return DiscLattice(basis, error, score, used)


def _peak(scores: Array, near: Array, reach: int = 2) -> tuple[Array, float]:
    """Return the maximum within `reach` px, to a fraction of a pixel, and its height (0: none)."""
    y, x = (round(float(v)) for v in near)
    low = (max(y - reach, 1), max(x - reach, 1))
    part = scores[
        low[0] : min(y + reach + 1, scores.shape[0] - 1), low[1] : min(x + reach + 1, scores.shape[1] - 1)
    ]
    if part.size == 0:
        return near, 0.0
    at = np.array(np.unravel_index(int(np.argmax(part)), part.shape)) + low
    middle = scores[tuple(at)]
    if middle <= scores.mean() + scores.std():
        return near, 0.0
    shift = np.zeros(2)
    for axis in range(2):
        step = np.eye(2, dtype=int)[axis]
        before, after = scores[tuple(at - step)], scores[tuple(at + step)]
        bend = before - 2 * middle + after
        if bend >= 0 or abs(after - before) > -bend:
            return near, 0.0  # no maximum here: a slope of a neighbour
        shift[axis] = 0.5 * (before - after) / bend
    return at + shift, float(middle - scores.mean())


def _reduced(lattice: DiscLattice) -> DiscLattice:
    """Take the two shortest vectors of the same lattice (Gauss)."""
    a, b = lattice.vectors.T
    for _ in range(20):
        if a @ a > b @ b:
            a, b = b, a
        turns = round(float(a @ b / (a @ a)))
        if turns == 0:
            break
        b = b - turns * a
    return DiscLattice(np.stack([a, b], axis=1), lattice.sd, lattice.score, lattice.points)
