"""The reference a frame is compared with: the other frames, spread on one canvas."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairstem.register._rows.kernels import smooth_rows, spread
from fairstem.register._series.frames import Frame
from fairstem.register._series.motion import Motion

__all__ = ["EVERYWHERE", "Canvas", "Pool", "Reference", "Spread", "canvas_of"]

Floats = NDArray[np.float64]
EVERYWHERE = np.empty((0, 0), dtype=np.bool_)  # how the kernels are told that no pixel is masked
LEAST_SUPPORT = 0.6  # frames: less than this behind a pixel is the fringe of one frame
_KEPT_BYTES = 256e6  # frames spread once are kept below this size, spread again above it


@dataclass(frozen=True)
class Reference:
    """Spline coefficients of a reference image on a canvas, and how many frames lie behind each pixel."""

    coefficients: Floats
    weight: Floats
    least: float = LEAST_SUPPORT
    passes: int = 1

    @property
    def blur(self) -> float:
        """Variance of the blur, px²: spreading and evaluating by a third each, smoothing by a half a pass."""
        return 2 / 3 + self.passes / 2

    def sharpened(self) -> Reference:
        """Return the reference with the blur undone to first order, for judging residuals."""
        again = max(2, round(2 * self.blur))
        smooth = smooth_binomially(self.coefficients, again)
        sharp = self.coefficients + self.blur / (again / 2) * (self.coefficients - smooth)
        return Reference(sharp, self.weight, self.least, self.passes)


@dataclass(frozen=True)
class Spread:
    """Sum of values and number of samples at each pixel of a canvas."""

    total: Floats
    weight: Floats

    def __add__(self, other: Spread) -> Spread:
        return Spread(self.total + other.total, self.weight + other.weight)

    def __sub__(self, other: Spread) -> Spread:
        return Spread(self.total - other.total, self.weight - other.weight)

    def reference(self, passes: int = 1) -> Reference:
        """Return the mean as a reference, a little smoothed.

        The local means serve as spline coefficients: together with the spreading and one pass of smoothing
        that is a blur of 1.1 px (sigma), which holds the noise of the reference down and moves nothing.
        """
        total, weight = smooth_binomially(self.total, passes), smooth_binomially(self.weight, passes)
        mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 1e-3)
        return Reference(mean, self.weight, passes=passes)


@dataclass(frozen=True)
class Canvas:
    """A grid large enough for all frames.

    Parameters
    ----------
    origin
        Position (y, x) of its first pixel in the average.
    shape
        Its size.
    """

    origin: tuple[int, int]
    shape: tuple[int, int]

    def empty(self) -> Spread:
        """Return a canvas on which nothing lies yet."""
        return Spread(np.zeros(self.shape), np.zeros(self.shape))

    def positions(self, forward: Floats) -> tuple[Floats, Floats]:
        """Return the canvas coordinates (y, x) of the pixels of a frame displaced by ``forward (2, y, x)``."""
        ny, nx = forward.shape[1:]
        at_y = forward[0] + np.arange(-self.origin[0], ny - self.origin[0], dtype=np.float64)[:, None]
        at_x = forward[1] + np.arange(-self.origin[1], nx - self.origin[1], dtype=np.float64)
        return at_y, at_x

    def spread(self, frame: Frame, forward: Floats) -> Spread:
        """Spread a frame on an empty canvas."""
        on = self.empty()
        at_y, at_x = self.positions(forward)
        mask = EVERYWHERE if frame.mask is None else frame.mask
        spread(frame.values, mask, at_y, at_x, on.total, on.weight)
        return on


def canvas_of(motion: Motion, used: Sequence[int], margin: int = 8) -> Canvas:
    """Return the canvas that holds all pixels of the frames `used`."""
    ny, nx = motion.shape
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for k in used:
        field = motion.forward(k)
        for axis, number in enumerate((np.arange(ny)[:, None], np.arange(nx))):
            at = field[axis] + number
            low[axis], high[axis] = min(low[axis], at.min()), max(high[axis], at.max())
    start = np.floor(low).astype(int) - margin
    size = np.ceil(high).astype(int) + margin + 1 - start
    return Canvas((int(start[0]), int(start[1])), (int(size[0]), int(size[1])))


class Pool:
    """All frames on one canvas, so that each can be compared with the others.

    Parameters
    ----------
    canvas
        Where they are spread.
    groups
        For each frame the number of its group: frames scanned in the same direction.
    n
        Number of frames in use.
    """

    def __init__(self, canvas: Canvas, groups: Sequence[int], n: int) -> None:
        self.canvas, self.groups = canvas, tuple(groups)
        self._sums: dict[int, Spread] = {}
        self._own: dict[int, Spread] = {}
        self._keep = n * np.prod(canvas.shape) * 16 < _KEPT_BYTES

    def add(self, k: int, frame: Frame, forward: Floats) -> None:
        """Add frame `k`."""
        own = self.canvas.spread(frame, forward)
        group = self.groups[k]
        self._sums[group] = self._sums[group] + own if group in self._sums else own
        if self._keep:
            self._own[k] = own

    def lacking(self, group: int | None) -> Pool:
        """Return a pool without the frames of `group`, or an empty one when that is None."""
        other = Pool(self.canvas, self.groups, 0)
        other._keep = self._keep
        if group is not None:
            other._sums = {g: total for g, total in self._sums.items() if g != group}
            other._own = {k: own for k, own in self._own.items() if self.groups[k] != group}
        return other

    def everything(self) -> Spread:
        """Return the sum of all frames."""
        return functools.reduce(Spread.__add__, self._sums.values())

    def without(self, k: int, frame: Frame, forward: Floats, *, whole_group: bool = False) -> Spread:
        """Return the sum of all frames but `k` (or all but its group), as it was added."""
        others = [total for group, total in self._sums.items() if group != self.groups[k]]
        if whole_group:
            return functools.reduce(Spread.__add__, others) if others else self.canvas.empty()
        own = self._own[k] if self._keep else self.canvas.spread(frame, forward)
        return functools.reduce(Spread.__add__, others, self._sums[self.groups[k]] - own)


def smooth_binomially(image: Floats, passes: int = 1) -> Floats:
    """Convolve with (1, 2, 1) / 4 along both axes, so many times; the outermost lines keep their weight."""
    line, out = np.empty(image.shape[1]), np.empty_like(image)
    smooth_rows(image, line, out)
    spare = np.empty_like(image) if passes > 1 else out
    for _ in range(passes - 1):
        smooth_rows(out, line, spare)
        out, spare = spare, out
    return out
