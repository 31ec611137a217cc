"""Fit the edge of the bright-field disc: centre, radius, blur and ellipse, whatever is inside the disc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairstem.diffraction._discs.kernels import edge_sums

__all__ = ["CENTER", "ROUND", "SHAPE", "Edge", "Ring", "fit_edge", "near_edge", "round_matrix"]

CENTER = (0, 1)  # which of the shared parameters are free
ROUND = (0, 1, 2, 3)
SHAPE = (0, 1, 2, 3, 4, 5)
_SPREAD = 0.5  # amplitudes of a patch scatter about those of the whole scan by so much of the step
_FREE = 0.5  # and those of the sectors of one pattern about their mean
_SMALLEST_WIDTH = 0.293  # px: the blur by the pixel itself, 1/√12, and 0.05
_WIDTH_SD = 0.4  # of the logarithm of the width about that at the start: few electrons can't tell the blur
_ITERATIONS = 12
_CURVED = (
    0.055  # per px: error of the radius over width², by curved levels and edges of other discs (simulations)
)
_CONVERGED = 1e-3  # squared step in standard errors
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ring:
    """The pixels near the edge, sorted by sector: their flat indices, positions, and where sectors start."""

    index: NDArray[np.int64]
    ys: Array
    xs: Array
    starts: NDArray[np.int64]
    shift: Array


@dataclass(frozen=True)
class Edge:
    """A fitted edge.

    Parameters
    ----------
    shared
        Centre y, x, radius, width (Gaussian sigma of the blur) in px, and the two numbers of the ellipse.
    covariance
        (6, 6) of `shared`, 0 for what wasn't free; of the counting noise times `scatter`.
    robust
        The same from the scatter of the sectors' scores, which also sees what the model doesn't describe.
    amplitudes
        ``(sector, 4)``: step, slope inside, level outside, slope outside; summed over the patterns.
    scatter
        Reduced chi-square with the expected value as variance: 1 for counts that the model describes.
    seen
        Fraction of the circle that lies on usable pixels.
    """

    shared: Array
    covariance: Array
    robust: Array
    amplitudes: Array
    scatter: float
    seen: float

    @property
    def radius(self) -> float:
        """Radius in px."""
        return float(self.shared[2])

    @property
    def radius_sd(self) -> float:
        """Standard error of the radius in px: counting noise or scatter along the edge, and what the model leaves.

        Curved levels beside the edge look like a moved one, by an amount that grows as the square of the width, in all
        sectors alike: their scatter doesn't see it.
        """
        return float(
            np.hypot(np.sqrt(max(self.covariance[2, 2], self.robust[2, 2])), _CURVED * self.shared[3] ** 2)
        )

    @property
    def ellipse_sd(self) -> float | None:
        """Standard error of the ellipse's entries; None where it wasn't fitted."""
        variance = np.maximum(np.diag(self.covariance), np.diag(self.robust))[4:].mean()
        return float(np.sqrt(variance)) if variance > 0 else None

    @property
    def contrast(self) -> float:
        """Fall across the edge as a fraction of the intensity inside, median over the sectors."""
        used = self.amplitudes[np.any(self.amplitudes != 0, axis=1)]
        inside = used[:, 0] + used[:, 2]
        level = max(float(np.mean(inside)), 1e-300)
        return float(np.median(used[:, 0] / np.maximum(inside, 0.05 * level))) if len(used) else 0.0

    @property
    def ellipse(self) -> Array:
        """Matrix of determinant 1 that makes the edge round."""
        return round_matrix(self.shared[4], self.shared[5])


def round_matrix(p: float, q: float) -> Array:
    """Return the exponential of ``[[p, q], [q, -p]]``, a symmetric matrix of determinant 1."""
    size = float(np.hypot(p, q))
    odd = np.sinh(size) / size if size > 1e-12 else 1.0
    out: Array = np.cosh(size) * np.eye(2) + odd * np.array([[p, q], [q, -p]])
    return out


def sectors_of(radius: float) -> int:
    """Number of sectors: arcs of about 6 px."""
    return int(np.clip(2 * np.pi * radius / 6.0, 8, 32))


def near_edge(
    usable: NDArray[np.bool_], shared: Array, sectors: int, shift: Sequence[float] | Array = (0.0, 0.0)
) -> Ring:
    """Return the usable pixels within a few widths of the edge of a disc moved by `shift`."""
    y, x, radius, width = shared[:4]
    half = half_width(radius, width)
    out = radius * (1 + float(np.hypot(*shared[4:]))) + half + 1
    corner = [max(int(c - out), 0) for c in (y + shift[0], x + shift[1])]
    stop = [max(int(c + out) + 2, 0) for c in (y + shift[0], x + shift[1])]
    part = usable[corner[0] : stop[0], corner[1] : stop[1]]
    dy = np.arange(part.shape[0])[:, None] + corner[0] - y - shift[0]
    dx = np.arange(part.shape[1])[None, :] + corner[1] - x - shift[1]
    m = round_matrix(shared[4], shared[5])
    uy, ux = m[0, 0] * dy + m[0, 1] * dx, m[1, 0] * dy + m[1, 1] * dx
    rows, columns = np.nonzero(part & (np.abs(np.hypot(uy, ux) - radius) < half))
    turn = np.arctan2(uy[rows, columns], ux[rows, columns]) / (2 * np.pi) + 0.5
    sector = np.minimum((turn * sectors).astype(np.int64), sectors - 1)
    order = np.argsort(sector, kind="stable")
    starts = np.searchsorted(sector[order], np.arange(sectors + 1)).astype(np.int64)
    rows, columns = rows[order] + corner[0], columns[order] + corner[1]
    index = rows * usable.shape[1] + columns
    moved = np.asarray(shift, dtype=np.float64)
    ys: Array = np.subtract(rows, moved[0], dtype=np.float64)
    xs: Array = np.subtract(columns, moved[1], dtype=np.float64)
    return Ring(index, ys, xs, starts, moved)


def half_width(radius: float, width: float) -> float:
    """How far from the edge pixels take part: enough to tell the levels from the step."""
    return float(min(max(4.0, 3.0 * width + 2.0), max(0.6 * radius, 2.0)))


class _Sums(NamedTuple):
    """At some shared parameters: information, score, chi-square, what is minimised, degrees of freedom."""

    information: Array
    score: Array
    chi_square: float
    objective: float
    freedom: float


class _Problem:
    """Several patterns with one edge between them: sums over patterns of what one step needs."""

    def __init__(
        self,
        rings: Sequence[Ring],
        values: Sequence[Array],
        prior: Array,
        spread: float,
        free: Sequence[int],
        start: Array,
    ) -> None:
        self.rings, self.values, self.prior, self.expected = rings, values, prior, prior
        self.free = np.asarray(free, dtype=np.int64)
        total = sum(float(v.sum()) for v in values) or 1.0
        self.fractions = [max(float(v.sum()) / total, 1e-12) for v in values]
        half = half_width(start[2], start[3])
        self.priors = [(f * prior, _precision(f * prior, spread, half)) for f in self.fractions]
        self.models = [np.empty_like(v) for v in values]
        self.variances: list[Array] = []
        self.amplitudes = np.zeros_like(prior)
        self.scores = np.zeros((len(prior), 6))
        self.width = float(start[3])

    def weigh(self, shared: Array) -> None:
        """Take the expected values as variance, from the amplitudes of all the patterns together."""
        self.variances = []
        for ring, fraction in zip(self.rings, self.fractions, strict=True):
            expected = expected_values(ring, shared, fraction * self.expected)
            floor = max(1e-3 * float(expected.max(initial=0.0)), 1e-12)
            self.variances.append(np.maximum(expected, floor))

    def __call__(self, shared: Array) -> _Sums:
        """Fit the amplitudes of every pattern at these shared parameters."""
        information, chi_square, penalty, freedom = np.zeros((6, 6)), 0.0, 0.0, 0.0
        self.amplitudes = np.zeros_like(self.prior)
        self.scores = np.zeros((len(self.prior), 6))
        amplitudes, scores = np.empty_like(self.prior), np.empty_like(self.scores)
        for i, ring in enumerate(self.rings):
            prior, precision = self.priors[i]
            pixels = np.stack([self.values[i], self.variances[i], ring.ys, ring.xs])
            one, chi, extra, free = edge_sums(
                pixels, shared, ring.starts, prior, precision, amplitudes, scores, self.models[i], self.free
            )
            information += one
            chi_square += chi
            penalty += extra
            freedom += free
            self.amplitudes += amplitudes
            self.scores += scores
        off = float(np.log(shared[3] / self.width)) / _WIDTH_SD
        score = self.scores.sum(axis=0)
        score[3] -= off / (shared[3] * _WIDTH_SD)
        information[3, 3] += 1 / (shared[3] * _WIDTH_SD) ** 2
        return _Sums(information, score, chi_square, chi_square + penalty + off**2, freedom)


def expected_values(ring: Ring, shared: Array, amplitudes: Array) -> Array:
    """Evaluate the model at the pixels of a ring."""
    model = np.zeros(ring.ys.size)
    stiff = np.full_like(amplitudes, 1e30)
    pixels = np.stack([model, np.ones(model.size), ring.ys, ring.xs])
    scratch = np.empty_like(amplitudes), np.empty((len(amplitudes), 6))
    edge_sums(pixels, shared, ring.starts, amplitudes, stiff, *scratch, model, np.array([0]))
    return model


def _precision(prior: Array, spread: float, half: float) -> Array:
    """Inverse variances of the amplitudes: `spread` of the mean level, slopes so that they reach it at `half`."""
    level = max(float(np.mean(np.abs(prior[:, 0]) + np.abs(prior[:, 2]))), 1e-12)
    sd = spread * level * np.array([1.0, 1.0 / half, 1.0, 1.0 / half])
    return np.broadcast_to(1 / sd**2, prior.shape).copy()


def mean_amplitudes(ring: Ring, values: Array, shared: Array) -> Array:
    """Mean levels inside and outside, the same for every sector."""
    out = np.zeros((len(ring.starts) - 1, 4))
    inside = np.hypot(ring.ys - shared[0], ring.xs - shared[1]) < shared[2]
    levels = [float(values[side].mean()) if side.any() else 0.0 for side in (inside, ~inside)]
    out[:, 0], out[:, 2] = levels[0] - levels[1], levels[1]
    return out


def fit_edge(
    images: Array,
    usable: NDArray[np.bool_],
    start: Array,
    *,
    free: Sequence[int] = SHAPE,
    shifts: Array | None = None,
    prior: Array | None = None,
    rounds: int = 3,
) -> Edge:
    """Fit one edge to patterns whose centres differ by known shifts.

    Parameters
    ----------
    images
        ``(n, k_y, k_x)`` patterns.
    usable
        ``(k_y, k_x)``.
    start
        The six shared parameters to start from.
    free
        Which of them are fitted.
    shifts
        ``(n, 2)`` known shifts (y, x) of the patterns in px.
    prior
        ``(sector, 4)`` amplitudes to be expected; None starts from the patterns' own and leaves them free.
    rounds
        How often the pixels near the edge are chosen anew.

    Notes
    -----
    Cost: iterations × patterns × 2πR·2h pixels (h half width of the ring), about 0.2 µs each.
    """
    shared = np.asarray(start, dtype=np.float64).copy()
    sectors = sectors_of(shared[2]) if prior is None else len(prior)
    moves = np.zeros((len(images), 2)) if shifts is None else shifts
    spread = _FREE if prior is None else _SPREAD
    for _ in range(rounds):
        rings = [near_edge(usable, shared, sectors, move) for move in moves]
        values = [image.ravel()[ring.index] for image, ring in zip(images, rings, strict=True)]
        known = mean_amplitudes(rings[0], values[0], shared) if prior is None else prior
        problem = _Problem(rings, values, known, spread, free, start)
        problem.weigh(shared)
        shared, sums = _iterate(problem, shared, tuple(free), prior is None)
    return _result(problem, rings, shared, tuple(free), sums)


def _iterate(problem: _Problem, shared: Array, free: tuple[int, ...], reweigh: bool) -> tuple[Array, _Sums]:
    """Gauss-Newton with shorter steps where needed; the variances follow the model of free amplitudes."""
    sums = problem(shared)
    for iteration in range(_ITERATIONS):
        if reweigh and iteration in (1, 3):
            problem.expected = problem.amplitudes.copy()
            problem.weigh(shared)
            sums = problem(shared)
        step = _step(sums, shared, free)
        if iteration > 3 * reweigh and float(step @ sums.information @ step) < _CONVERGED:
            return shared, sums
        for _ in range(5):
            trial = _bounded(shared + step)
            new = problem(trial)
            if new.objective <= sums.objective:
                break
            step = step / 3
        else:
            return shared, problem(shared)
        shared, sums = trial, new
    return shared, sums


def _step(sums: _Sums, shared: Array, free: tuple[int, ...]) -> Array:
    step = np.zeros(6)
    picked = np.ix_(free, free)
    matrix = sums.information[picked]
    matrix = matrix + np.diag(1e-9 * np.diag(matrix) + 1e-9)
    step[list(free)] = np.linalg.solve(matrix, sums.score[list(free)])
    limit = np.array([1.5, 1.5, 1.5, max(0.5 * shared[3], 0.3), 0.05, 0.05])
    limited: Array = np.minimum(np.maximum(step, -limit), limit)
    return limited


def _bounded(shared: Array) -> Array:
    out = shared.copy()
    out[2] = max(out[2], 1.0)
    out[3] = min(max(out[3], _SMALLEST_WIDTH), max(0.25 * out[2], 0.5))
    out[4:] = np.minimum(np.maximum(out[4:], -0.3), 0.3)
    return out


def _result(
    problem: _Problem,
    rings: Sequence[Ring],
    shared: Array,
    free: tuple[int, ...],
    sums: _Sums,
) -> Edge:
    picked = np.ix_(free, free)
    matrix = sums.information[picked]
    scatter = sums.chi_square / max(sums.freedom - len(free), 1.0)
    inverse = np.linalg.pinv(matrix, hermitian=True)
    covariance, robust = np.zeros((6, 6)), np.zeros((6, 6))
    covariance[picked] = scatter * inverse
    scores = problem.scores[:, list(free)]
    used = int(np.count_nonzero(np.any(scores != 0, axis=1)))
    correction = used / max(used - len(free), 1)
    robust[picked] = correction * inverse @ (scores.T @ scores) @ inverse
    full = 2 * np.pi * shared[2] * 2 * half_width(shared[2], shared[3])
    seen = float(np.mean([ring.index.size for ring in rings])) / full
    return Edge(shared, covariance, robust, problem.amplitudes.copy(), scatter, min(seen, 1.0))
