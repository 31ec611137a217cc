"""Which pixels a symmetry operation compares, for one centre: tables of places for the kernel.

Where the operation maps pixels onto pixels, they are compared as they are. Elsewhere both images are interpolated
bilinearly, on a grid around the centre. Pairs that share a pixel are left out: they would share its noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from fairstem.diffraction._pairs.operations import Operation, Placed, turn

__all__ = ["Pairing", "pair_pixels"]

_EVERY = 64 * 64  # px: larger patterns have their noise followed back to every fifth pixel, which is plenty
_WHOLE = 1 / 64  # px: a centre this close to a pixel or to the middle between two is taken to be there

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Floats32 = NDArray[np.float32]
# for some pixels: which, where the list of samples they are in begins, their noise map; then of each sample in the
# lists its number, all first samples of an operation's pairs before the second ones, and its weight; and where the
# pixels of each row of the noise map begin
Prints = tuple[Ints, Ints, Floats32, Ints, Floats32, Ints]


@dataclass(frozen=True)
class Pairing:
    """Tables for `correlate`, and what the statistics need to know of every operation.

    Parameters
    ----------
    views, pairs, pair_ends, quads, quad_ends, noise, noise_rows, prints
        See `correlate`.
    part
        Which part of all pixels' noise the pixels of `prints` have.
    n
        Ordered pairs per operation: pixels that are compared.
    listed
        How often a listed pair counts: 2 where each stands for both orders.
    cubed
        Sum of the cubed weights of a sample, averaged; 1 for a pixel.
    shared
        Sum over other samples of the squared noise they share with one; 1 for a pixel.
    involution
        True where the operation is its own inverse.
    """

    views: tuple[Ints, Floats32]
    pairs: Ints
    pair_ends: Ints
    quads: Ints
    quad_ends: Ints
    noise: Floats32
    noise_rows: Ints
    prints: Prints
    part: Floats
    n: Floats
    listed: Floats
    cubed: Floats
    shared: Floats
    involution: NDArray[np.bool_]

    @property
    def nbytes(self) -> int:
        """Memory of the tables."""
        arrays = (*self.views, self.pairs, self.quads, self.noise, *self.prints)
        return sum(a.nbytes for a in arrays)


@dataclass
class _View:
    """The pattern seen through ``center + matrix @ q`` at the points q of a grid."""

    start: int
    direct: bool
    valid: NDArray[np.bool_]
    base: NDArray[np.int64]
    part: Floats


@dataclass
class _Source:
    """Samples: places in the work space, upper left pixels, pixels along a side, whether they can be used."""

    places: NDArray[np.int64]
    corner: NDArray[np.int64]
    footprint: int
    valid: NDArray[np.bool_]


@dataclass
class _Grid:
    """Points around the centre, closed under quarter turns and mirrors."""

    half: tuple[float, float]
    size: tuple[int, int]
    points: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.points = np.indices(self.size).reshape(2, -1) - np.array(self.half)[:, None]

    def places(self, exact: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index of the grid point ``exact @ q`` for every q."""
        moved = exact @ self.points + np.array(self.half)[:, None]
        places = np.rint(moved).astype(np.int64)
        return np.asarray(np.ravel_multi_index((places[0], places[1]), self.size))


class _Frame(NamedTuple):
    """Which grid: one closed under quarter turns, and stretched where circles on the detector are ellipses."""

    square: bool
    stretched: bool


class _Builder:
    """Collects views and the places of all operations for one centre."""

    def __init__(self, allowed: NDArray[np.bool_], center: tuple[float, float], ellipse: Floats) -> None:
        self.allowed = allowed
        self.shape = allowed.shape
        self.unround = np.linalg.inv(ellipse)
        self.ellipse = ellipse
        halves = [round(2 * c) / 2 for c in center]
        on_grid = [abs(c - h) <= _WHOLE for c, h in zip(center, halves, strict=True)]
        self.center = np.array([h if on else c for c, h, on in zip(center, halves, on_grid, strict=True)])
        self.views: dict[tuple[float, _Frame], _View] = {}
        self.samples = int(allowed.size)
        reach = int(np.ceil(max(*self.center, *(np.array(self.shape) - 1 - self.center)))) + 1
        self.grids = {square: self._grid(reach, square) for square in (False, True)}

    def _grid(self, reach: int, square: bool) -> _Grid:
        """Points lie on pixels where the centre allows, on half-pixel offsets else."""
        odd = [bool(c == np.rint(c)) for c in self.center]
        if square and odd[0] != odd[1]:
            odd = [False, False]
        half = tuple(float(reach) if o else reach - 0.5 for o in odd)
        return _Grid((half[0], half[1]), (int(2 * half[0]) + 1, int(2 * half[1]) + 1))

    def frame(self, operation: Operation) -> _Frame:
        """Choose the grid; an ellipse changes nothing for C2, nor for mirrors along its axes."""
        moved = self.unround @ operation.matrix @ self.ellipse - operation.matrix
        stretched = bool(np.abs(moved).max() * max(self.shape) >= 4 * _WHOLE)
        return _Frame(operation.needs_square_grid or stretched, stretched)

    def positions(self, matrix: Floats, frame: _Frame) -> Floats:
        stretch = self.unround if frame.stretched else np.eye(2)
        return np.asarray(self.center[:, None] + stretch @ matrix @ self.grid(frame).points)

    def grid(self, frame: _Frame) -> _Grid:
        return self.grids[frame.square]

    def view(self, angle: float, frame: _Frame) -> _View:
        key = (round(angle, 9), frame)
        if key not in self.views:
            self.views[key] = self._see(self.positions(Placed(angle, np.eye(2, dtype=int)).matrix, frame))
        return self.views[key]

    def _see(self, at: Floats) -> _View:
        whole = np.rint(at)
        direct = bool(np.abs(at - whole).max() < 1e-6)
        limits = np.array(self.shape)[:, None]
        inside = ((at > -1e-6) & (at < limits - 1 + 1e-6)).all(0)
        corner = np.clip(whole if direct else np.floor(at), 0, limits - (1 if direct else 2)).astype(np.int64)
        base = corner[0] * self.shape[1] + corner[1]
        flat = self.allowed.ravel()
        valid = inside & flat[base]
        if not direct:
            for step in (1, self.shape[1], self.shape[1] + 1):
                valid &= flat[base + step]
        start = 0 if direct else self.samples
        self.samples += 0 if direct else at.shape[1]
        return _View(start, direct, valid, base, np.clip(at - corner, 0.0, 1.0).T)

    def usable(self, matrices: Sequence[Floats], frame: _Frame) -> NDArray[np.bool_]:
        """Return where every image of a grid point lies on allowed pixels."""
        out = np.ones(self.grid(frame).points.shape[1], dtype=bool)
        for matrix in matrices:
            samples = self.samples
            out &= self._see(self.positions(matrix, frame)).valid
            self.samples = samples
        return out

    def source(self, placed: Placed, points: NDArray[np.int64], frame: _Frame) -> _Source:
        """Find the samples of an image at some grid points."""
        view = self.view(placed.angle, frame)
        at = self.grid(frame).places(placed.exact)[points]
        places = view.base[at] if view.direct else view.start + at
        corner = np.stack(np.divmod(view.base[at], self.shape[1]))
        return _Source(places, corner, 1 if view.direct else 2, view.valid[at])

    def footprint(self, placed: Placed, points: NDArray[np.int64], frame: _Frame) -> sp.csr_array:
        """Return the weights (sample, pixel) of interpolated samples."""
        view = self.view(placed.angle, frame)
        at = self.grid(frame).places(placed.exact)[points]
        fy, fx = view.part[at].T
        weights = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], axis=1)
        pixels = view.base[at][:, None] + np.array([0, 1, self.shape[1], self.shape[1] + 1])
        rows = np.repeat(np.arange(at.size), 4)
        return sp.csr_array((weights.ravel(), (rows, pixels.ravel())), shape=(at.size, self.allowed.size))


def _apart(*sources: _Source) -> NDArray[np.bool_]:
    """Return which sets of samples are all usable and have no pixel in common."""
    out: NDArray[np.bool_] = np.logical_and.reduce([s.valid for s in sources])
    for i, one in enumerate(sources):
        for other in sources[:i]:
            out &= (np.abs(one.corner - other.corner) >= max(one.footprint, other.footprint)).any(0)
    return np.asarray(out)


@dataclass
class _Listed:
    """One operation's places and constants."""

    pairs: NDArray[np.int64]
    quads: NDArray[np.int64]
    listed: float
    cubed: float = 1.0
    shared: float = 1.0
    noise: Floats | None = None
    part: float = 1.0
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    entries: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    weights: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def n(self) -> float:
        """Ordered pairs."""
        return float(self.listed * self.pairs.shape[1] + 4.0 * self.quads.shape[1])


def _list(builder: _Builder, operation: Operation) -> _Listed:
    frame = builder.frame(operation)
    on_grid = builder.view(0.0, frame).direct
    usable = np.flatnonzero(builder.usable(operation.orbit(on_grid), frame))
    first, second = operation.pair(on_grid)
    places = builder.grid(frame).places
    if operation.involution:  # each pair once
        usable = usable[usable < places(_between(first, second))[usable]]
    listed = 2.0 if operation.involution else 1.0
    if on_grid and operation.fold == 4:  # each four once
        turns = [_rotation(k) for k in range(4)]
        four = np.stack([places(t.exact)[usable] for t in turns])
        usable = usable[(four[0] < four[1:]).all(0)]
        quads = np.stack([builder.source(t, usable, frame).places for t in turns])
        return _Listed(np.zeros((2, 0), dtype=np.int64), quads, listed)
    sources = [builder.source(p, usable, frame) for p in (first, second)]
    apart = _apart(*sources)
    pairs = np.stack([s.places for s in sources])[:, apart]
    out = _Listed(pairs, np.zeros((4, 0), dtype=np.int64), listed)
    if max(s.footprint for s in sources) > 1:
        _describe_noise(builder, out, (first, second), usable[apart], frame)
    return out


def _rotation(quarters: int) -> Placed:
    return Placed(0.0, np.rint(turn(90.0 * quarters)).astype(np.int64))


def _between(first: Placed, second: Placed) -> NDArray[np.int64]:
    """Return the map of the grid from the first sample of a pair to the second's, both in the same view."""
    return np.asarray(np.linalg.inv(first.exact) @ second.exact).round().astype(np.int64)


def _describe_noise(
    builder: _Builder, out: _Listed, placed: tuple[Placed, Placed], points: NDArray[np.int64], frame: _Frame
) -> None:
    """Propagate the pixels' noise through the interpolation, exactly for the squares."""
    prints = [builder.footprint(p, points, frame) for p in placed]
    squares = [np.asarray(w.power(2).sum(0), dtype=np.float64).ravel() for w in prints]
    out.noise = out.listed * 0.5 * (squares[0] + squares[1])
    n = max(points.size, 1)
    out.cubed = float(sum(w.power(3).sum() for w in prints)) / (2 * n)
    samples = prints if out.listed == 1.0 else [sp.vstack(prints).tocsr()]
    gram = [(w.T @ w).power(2).sum() for w in samples]
    out.shared = float(sum(gram)) / (2 * n)
    chosen = np.arange(builder.allowed.size)
    if chosen.size > _EVERY:
        y, x = np.divmod(chosen, builder.shape[1])
        chosen = chosen[(y + 2 * x) % 5 == 0]
    chosen = chosen[out.noise[chosen] > 0]
    columns = sp.csc_array(sp.vstack(prints))
    # lists of the same length follow each other: the processor foresees their ends
    chosen = chosen[np.argsort(np.diff(columns.indptr)[chosen], kind="stable")]
    columns = columns[:, chosen]
    out.pixels, out.counts = chosen, np.diff(columns.indptr).astype(np.int64)
    out.entries = columns.indices.astype(np.int64)
    out.weights = 0.5 * out.listed * columns.data
    out.part = float(out.noise[chosen].sum() / max(out.noise.sum(), 1e-300))


def pair_pixels(
    operations: Sequence[Operation],
    allowed: NDArray[np.bool_],
    center: tuple[float, float],
    ellipse: Floats | None = None,
) -> Pairing:
    """Make the tables of all operations for one centre.

    Parameters
    ----------
    operations
        The operations.
    allowed
        ``(k_y, k_x)``, True where a pixel may be used.
    center
        (y, x) in px.
    ellipse
        Matrix that makes offsets round, see `Calibration`.

    Notes
    -----
    Cost: about 5 ms an operation for 128 × 128 px, 20 ms where both images are interpolated.
    """
    builder = _Builder(allowed, center, np.eye(2) if ellipse is None else np.asarray(ellipse, dtype=float))
    found = [_list(builder, operation) for operation in operations]
    views = _views(builder, found)
    pairs, pair_ends = _joined([f.pairs for f in found])
    quads, quad_ends = _joined([f.quads for f in found])
    maps = [f.noise for f in found if f.noise is not None]
    rows = np.cumsum([f.noise is not None for f in found]) - 1
    return Pairing(
        views,
        pairs,
        pair_ends,
        quads,
        quad_ends,
        noise=np.array(maps, dtype=np.float32).reshape(len(maps), allowed.size),
        noise_rows=np.where([f.noise is not None for f in found], rows, -1).astype(np.int32),
        prints=_prints([f for f in found if f.noise is not None]),
        part=np.array([f.part for f in found]),
        n=np.array([f.n for f in found]),
        listed=np.array([f.listed for f in found]),
        cubed=np.array([f.cubed for f in found]),
        shared=np.array([f.shared for f in found]),
        involution=np.array([o.involution for o in operations]),
    )


def _prints(found: list[_Listed]) -> Prints:
    def joined(parts: list[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
        return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)

    counts = joined([f.counts for f in found], np.int64)
    return (
        joined([f.pixels for f in found], np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        joined([f.noise[f.pixels] for f in found if f.noise is not None], np.float32),
        joined([f.entries for f in found], np.int32),
        joined([f.weights for f in found], np.float32),
        np.cumsum([0, *(f.pixels.size for f in found)]).astype(np.int32),
    )


def _joined(parts: list[NDArray[np.int64]]) -> tuple[Ints, Ints]:
    ends = np.cumsum([0, *(p.shape[1] for p in parts)]).astype(np.int32)
    return np.ascontiguousarray(np.concatenate(parts, axis=1).astype(np.int32)), ends


def _views(builder: _Builder, found: list[_Listed]) -> tuple[Ints, Floats32]:
    """Keep only the samples that are used, and put them next to each other in the work space."""
    pixels = builder.allowed.size
    used = np.zeros(builder.samples, dtype=bool)
    for one in found:
        used[one.pairs.ravel()] = True
    renumbered = np.concatenate([np.arange(pixels), pixels - 1 + np.cumsum(used[pixels:])])
    for one in found:
        one.pairs = renumbered[one.pairs]
    base = np.zeros(builder.samples, dtype=np.int32)
    part = np.zeros((builder.samples, 2), dtype=np.float32)
    for view in builder.views.values():
        if not view.direct:
            base[view.start : view.start + view.base.size] = view.base
            part[view.start : view.start + view.base.size] = view.part
    keep = pixels + np.flatnonzero(used[pixels:])
    return base[keep], part[keep]
