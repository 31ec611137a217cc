"""One level of the dense registration: binned frames, their fields on nodes, one frame against a reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, spline_filter, uniform_filter
from scipy.optimize import nnls

from fairstem.register._dense import kernels
from fairstem.register._dense.kernels import Grid, Reference, Sums
from fairstem.register._dense.nodes import invert_field, node_values_at
from fairstem.register._dense.sobolev import from_modes, solve, to_modes
from fairstem.register._series.frames import Frames

__all__ = ["Fit", "Functional", "Level", "Noise", "Stack", "carry_over"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
BLURS = (0.0, 0.6, 0.9, 1.3, 1.8, 2.5)  # px of the level
_START_BLUR = 0.9
_CACHE_BYTES = 256 * 2**20
_LEAST_WEIGHT = 0.5  # of a frame: below, a pixel of the reference lies outside it
_LEAST_NOISE = 0.05  # of the mean variance: a dark pixel is not worth more than 20 average ones
_LEAST_SHARE = 0.02  # of a frame that must lie on the reference
_CG_TOLERANCE, _CG_STEPS = 0.03, 40
_HALVINGS = 3
_PLACES = 8  # quantiles that stand for how much the data say from place to place
_CELL = 16  # px over which that is averaged: about a distance between columns
_INVERSION_STEPS = 30


class Stack:
    """Binned frames, kept in memory while they are few and read again when they are many."""

    def __init__(self, frames: Frames, numbers: tuple[int, ...], binning: int) -> None:
        self._frames, self._binning, self.numbers = frames, binning, numbers
        self.shape = (frames.shape[0] // binning, frames.shape[1] // binning)
        keep = 9 * self.shape[0] * self.shape[1] * len(numbers) <= _CACHE_BYTES
        self._kept: dict[int, tuple[Floats, Bools]] | None = {} if keep else None

    def read(self, k: int) -> tuple[Floats, Bools]:
        """Return values and mask of the k-th of the frames in use."""
        if self._kept is not None and k in self._kept:
            return self._kept[k]
        frame = self._frames.read(self.numbers[k])
        values = frame.values
        mask = np.ones(values.shape, dtype=np.bool_) if frame.mask is None else frame.mask
        if self._binning > 1:
            values, mask = _binned(values, mask, self._binning)
        if self._kept is not None:
            self._kept[k] = (values, mask)
        return values, mask


def _binned(values: Floats, mask: Bools, b: int) -> tuple[Floats, Bools]:
    ny, nx = values.shape[0] // b, values.shape[1] // b
    blocks = (ny, b, nx, b)
    count = mask[: ny * b, : nx * b].reshape(blocks).sum(axis=(1, 3))
    total = np.where(mask, values, 0.0)[: ny * b, : nx * b].reshape(blocks).sum(axis=(1, 3))
    return total / np.maximum(count, 1), count >= 0.5 * b * b


@dataclass(frozen=True)
class Noise:
    """Variance of a recorded pixel as ``slope * brightness + constant``, at least `least`."""

    slope: float
    constant: float
    least: float

    def binned(self, binning: int) -> Floats:
        """Return the three numbers for means over binning² pixels."""
        return np.array([self.slope, self.constant, self.least]) / binning**2

    @classmethod
    def from_bins(cls, bins: Floats, binning: int) -> Noise:
        """Fit counting noise and constant noise to the squared residuals in classes of brightness.

        What is not registered yet counts as noise, so that early stages trust the data less.
        """
        used = bins[bins[:, 0] >= 30]
        if len(used) == 0:
            used = bins.sum(axis=0, keepdims=True)
        number = used[:, 0]
        level, miss = np.maximum(used[:, 1] / number, 0.0), used[:, 2] / number
        weight = np.sqrt(number) / np.maximum(miss, 1e-3 * miss.max() + 1e-300)
        design = np.stack([level, np.ones_like(level)], axis=1)
        slope, constant = nnls(design * weight[:, None], miss * weight)[0] * binning**2
        mean = slope * float(np.average(level, weights=number)) + constant
        if not mean > 0:  # noiseless frames that agree exactly
            mean = constant = 1e-12 * max(float(level.max()) ** 2, 1e-280)
        return cls(float(slope), float(constant), float(_LEAST_NOISE * mean))


class Functional(Protocol):
    """What `Level.register` needs to know of what is minimised."""

    noise: Noise | None

    @property
    def likelihood(self) -> bool:
        """True for residuals weighted with their noise, False for the normalised cross-correlation."""

    def precision(self, level: Level) -> Floats:
        """Weight ``(2, my, mx)`` of each mode of a field on the nodes of a level."""


@dataclass(frozen=True)
class Fit:
    """A frame against its reference: the functional, the NCC, noise statistics, what the data say of the field.

    `curvature` is ``(2, places)``, of the data term, per node.
    """

    energy: float
    ncc: float
    bins: Floats
    curvature: Floats


@dataclass(frozen=True)
class _Linear:
    """The functional near a field: its value, normal matrix, force on the modes, gain and offset."""

    energy: float
    ncc: float
    sums: Sums
    force: Floats
    scale: Floats


@dataclass
class Level:
    """Grids of one binning and the fields ``u`` (frame, 2, my, mx) in its px: p shows the average at p + u(p)."""

    stack: Stack
    binning: int
    spacing: tuple[float, float]
    fields: Floats
    blur: float = _START_BLUR
    grid: Grid = field(init=False)
    canvas_shape: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        ny, nx = self.stack.shape
        reach = np.abs(self.fields).max(axis=(0, 2, 3)) + 6 + 0.03 * np.array([ny, nx])
        origin = np.ceil(reach).astype(np.int64)
        rows, cols = (kernels.make_lines(n, s) for n, s in zip((ny, nx), self.spacing, strict=True))
        self.grid = Grid(rows, cols, origin)
        self.canvas_shape = (ny + 2 * int(origin[0]), nx + 2 * int(origin[1]))

    @property
    def n(self) -> int:
        """Number of frames in use."""
        return len(self.fields)

    @property
    def steps(self) -> tuple[float, float]:
        """Distance between nodes in px of the level."""
        return self.grid.rows.spacing, self.grid.cols.spacing

    def node_positions(self) -> Floats:
        """Return ``(2, my * mx)`` px."""
        grid = np.mgrid[: self.grid.rows.n_nodes, : self.grid.cols.n_nodes].reshape(2, -1)
        return np.asarray(grid * np.array(self.steps)[:, None], dtype=np.float64)

    def add(self, canvas: Floats, k: int, sign: float = 1.0, nodes: Floats | None = None) -> None:
        """Add frame k to (sign 1) or take it out of (sign -1) a canvas (2, y, x)."""
        values, mask = self.stack.read(k)
        kernels.add_frame(values, mask, self.fields[k] if nodes is None else nodes, self.grid, canvas, sign)

    def empty_canvas(self) -> Floats:
        """Return a canvas (values times weights, weights) with nothing on it."""
        return np.zeros((2, *self.canvas_shape))

    def total(self) -> Floats:
        """Return the canvas of all frames."""
        canvas = self.empty_canvas()
        for k in range(self.n):
            self.add(canvas, k)
        return canvas

    def reference(self, canvas: Floats, blur: float | None = None) -> Reference:
        """Return the image that a canvas holds and where it may be used."""
        image = np.empty(self.canvas_shape)
        valid = np.empty(self.canvas_shape, dtype=np.bool_)
        kernels.make_reference(canvas, _LEAST_WEIGHT, image, valid)
        blur = self.blur if blur is None else blur
        smooth = spline_filter(image, 3) if blur == 0 else gaussian_filter(image, blur, truncate=3.0)
        return Reference(smooth, valid)

    def choose_blur(self, model: Functional, most: int = 4) -> None:
        """Smooth the references so much that they predict frames that are not in them best.

        Fewer counts need more: noise in the reference is what a field would be fitted to.
        """
        total = self.total()
        some = np.unique(np.linspace(0, self.n - 1, most).astype(int))
        score = np.zeros(len(BLURS))
        for k in some:
            self.add(total, k, -1.0)
            for n, blur in enumerate(BLURS):
                fit = self._linearise(k, self.fields[k], self.reference(total, blur), model, None)
                score[n] += -1.0 if fit is None else fit.ncc
            self.add(total, k)
        self.blur = BLURS[int(np.argmax(score))]

    def register(
        self, k: int, nodes: Floats, target: Reference, model: Functional, most: int, tolerance: float
    ) -> tuple[Floats, Fit | None]:
        """Minimise the functional of frame k from the node values `nodes`; return the new ones.

        Gauss-Newton steps; a step that does not lower the functional is halved. None instead of a fit when
        the frame and the target share too few pixels or do not correlate.
        """
        precision = model.precision(self)
        best, accepted = nodes, None
        trial, step = nodes, np.zeros_like(nodes)
        halved, steps, scale = 0, 0, None
        while True:
            found = self._linearise(k, trial, target, model, scale)
            if found is None:
                break
            gain = np.inf if accepted is None else accepted.energy - found.energy
            if gain < 0:
                if halved == _HALVINGS:
                    break
                halved += 1
                step = 0.5 * step
                trial = best + step
                continue
            best, accepted, scale, halved = trial, found, found.scale, 0
            if steps == most or gain < tolerance * abs(found.energy):
                break
            step = from_modes(solve(found.sums.stencil, precision, found.force, _CG_TOLERANCE, _CG_STEPS))
            trial = best + step
            steps += 1
        if accepted is None:
            return best, None
        curvature = self._typical_curvature(accepted.sums.stencil)
        return best, Fit(accepted.energy, accepted.ncc, accepted.sums.bins, curvature)

    def _linearise(
        self, k: int, nodes: Floats, target: Reference, model: Functional, scale: Floats | None
    ) -> _Linear | None:
        values, mask = self.stack.read(k)
        if scale is None:
            inside = target.image[target.valid]
            if inside.size == 0:
                return None
            low, high = float(inside.min()), float(inside.max())
            scale = np.array([1.0, 0.0, low, high if high > low else low + 1.0])
        noise = np.array([0.0, 1.0, 0.0])
        if model.likelihood:
            noise[1] = values.var()  # until it is known
            noise = noise if model.noise is None else model.noise.binned(self.binning)
        sums = kernels.empty_sums(self.grid)
        kernels.normal_equations(values, mask, nodes, self.grid, target, noise, scale, sums)
        regressed = _regress(sums.totals, _LEAST_SHARE * values.size)
        if regressed is None:
            return None
        gain, offset, ncc, spread = regressed
        if model.likelihood:
            # samples that leave the reference must not count as a gain: energy of the whole frame
            weight, data = 1.0, 0.5 * spread * (1 - ncc**2) * values.size / sums.totals[6]
        else:
            weight, data = 1.0 / (spread * ncc), -ncc
        slope = sums.slope
        force = weight * gain * (slope[:, 0] - gain * slope[:, 1] - offset * slope[:, 2])
        np.multiply(sums.stencil, weight * gain**2, out=sums.stencil)
        modes, precision = to_modes(nodes), model.precision(self)
        energy = data + 0.5 * float((precision * modes**2).sum())
        known = np.array([gain, offset, scale[2], scale[3]])
        return _Linear(energy, ncc, sums, to_modes(force) - precision * modes, known)

    def _typical_curvature(self, stencil: Floats) -> Floats:
        """Curvature per node (2, places), averaged over the distance between columns, at quantiles."""
        size = [max(1, round(_CELL / self.binning / step)) for step in self.steps]
        whole = stencil[0, ::2] + 2 * stencil[1:, ::2].sum(axis=0)
        local = [uniform_filter(part, size, mode="reflect") for part in whole]
        at = (np.arange(_PLACES) + 0.5) / _PLACES
        return np.asarray(np.maximum(np.array([np.quantile(part, at) for part in local]), 0.0))

    def remove_bias(self) -> float:
        """Move all fields so that the average carries the mean geometry; return the rms of the correction in full px.

        The mean over frames of where they show each point of the average is that point.
        """
        at = self.node_positions()
        mean, one = np.zeros_like(at), np.empty_like(at)
        for nodes in self.fields:
            invert_field(nodes, *self.steps, at, _INVERSION_STEPS, one)
            mean += one / self.n
        correction = mean.reshape(self.fields.shape[1:])
        for k, nodes in enumerate(self.fields):
            node_values_at(correction, *self.steps, at + nodes.reshape(2, -1), one)
            self.fields[k] += one.reshape(nodes.shape)
        return float(np.sqrt((correction**2).mean())) * self.binning

    def compose(self, outer: Floats, inner: Floats) -> Floats:
        """Return the node values of inner(p) + outer(p + inner(p))."""
        at = self.node_positions() + inner.reshape(2, -1)
        out = np.empty_like(at)
        node_values_at(outer, *self.steps, at, out)
        return np.asarray(inner + out.reshape(inner.shape))

    def inverse_field(self, k: int) -> Floats:
        """Return ``(2, y, x)``: frame k at (y + dy, x + dx) shows the average at (y, x), px of the level."""
        at = np.mgrid[: self.stack.shape[0], : self.stack.shape[1]].reshape(2, -1).astype(np.float64)
        out = np.empty_like(at)
        invert_field(self.fields[k], *self.steps, at, _INVERSION_STEPS, out)
        return out.reshape(2, *self.stack.shape)


def _regress(totals: Floats, least: float) -> tuple[float, float, float, float] | None:
    """Gain and offset of the frame against the reference, weighted NCC, and Σ w (I - mean)²."""
    ii, ir, rr, i, r, w, number = (float(v) for v in totals)
    if number < max(least, 16) or w <= 0:
        return None
    covariance, spread_r, spread_i = ir - i * r / w, rr - r * r / w, ii - i * i / w
    if covariance <= 0 or spread_r <= 0 or spread_i <= 0:
        return None
    gain = covariance / spread_r
    return gain, (i - gain * r) / w, min(covariance / (spread_r * spread_i) ** 0.5, 1.0), spread_i


def carry_over(coarse: Level, stack: Stack, binning: int, spacing: tuple[float, float]) -> Level:
    """Start a finer level, or the same one with other nodes, from the fields of a coarser one."""
    shape = tuple(kernels.make_lines(n, s).n_nodes for n, s in zip(stack.shape, spacing, strict=True))
    level = Level(stack, binning, spacing, np.zeros((coarse.n, 2, *shape)), coarse.blur)
    # the middle of a binned pixel lies between those it is made of
    there = (level.node_positions() * binning + 0.5 * (binning - coarse.binning)) / coarse.binning
    out = np.empty_like(there)
    for k in range(coarse.n):
        node_values_at(coarse.fields[k], *coarse.steps, there, out)
        level.fields[k] = out.reshape(2, *shape) * (coarse.binning / binning)
    return Level(stack, binning, spacing, level.fields, coarse.blur)
