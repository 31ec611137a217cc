"""The average of a registered series: mean, median or most likely image, with its variance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fairstem.compute import track
from fairstem.errors import DataError
from fairstem.register._series.frames import Frame, Frames
from fairstem.register._series.motion import Motion
from fairstem.register._series.warp import fill_nearest, resample

__all__ = ["Averaged", "average"]

Floats = NDArray[np.float64]
How = Literal["mean", "median", "likelihood"]
_BLOCK_BYTES = 128 * 2**20  # of resampled frames held at a time for the median
_LEAST = 0.01  # of the lowest variance that the other pixels suggest
_REACH = 16  # px: the cubic spline has forgotten a pixel that far to 1e-9


@dataclass(frozen=True)
class Averaged:
    """One image from a registered series.

    Parameters
    ----------
    image
        ``(y, x)`` in the unit of the frames, on the grid of the average. Pixels that no frame reaches hold
        the value of the nearest that one does.
    samples
        ``(y, x)`` number of frames behind each pixel.
    variance
        ``(y, x)`` variance of `image` in squared units, from the scatter of the frames. Noise of
        neighbouring pixels is correlated by the interpolation.
    """

    image: Floats
    samples: Floats
    variance: Floats


class _Range:
    """The range of what was measured."""

    lowest: float = math.inf
    highest: float = -math.inf

    def note(self, frame: Frame) -> None:
        """Widen the range by a frame."""
        inside = frame.values if frame.mask is None else frame.values[frame.mask]
        if inside.size:
            self.lowest = min(self.lowest, float(inside.min()))
            self.highest = max(self.highest, float(inside.max()))

    def clip(self, image: Floats) -> Floats:
        """Return the image without what splines add beyond the range."""
        return np.asarray(np.clip(image, self.lowest, self.highest)) if self.lowest <= self.highest else image


class _Scatter(_Range):
    """Mean and scatter of frames that come one by one (Welford)."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.mean, self.square, self.n = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def add(self, values: Floats, weight: Floats) -> None:
        """Add one frame where its weight is 1."""
        self.n += weight
        step = values - self.mean
        step *= weight
        self.mean += step / np.maximum(self.n, 1.0)
        values = values - self.mean
        values *= step
        self.square += values


def average(frames: Frames, motion: Motion, used: Sequence[int], *, how: How = "mean") -> Averaged:
    """Average the frames of a series on one grid.

    Prior: the object is the same in all frames, and `motion` is right.

    Parameters
    ----------
    frames
        The series; read frame by frame.
    motion
        Where the pixels of the frames lie.
    used
        Numbers of the frames to average.
    how
        The parameter that matters. ``"mean"``: mean of the frames resampled with cubic splines, each pixel
        with the same weight; fastest, and within a few per cent of what counting noise allows.
        ``"median"``: frames that show something else (a jump, a blink) do not count; π/2 times the
        variance, and with few counts the median lies below the mean, so that columns look narrower.
        ``"likelihood"``: the image under which all raw pixels at their own places are most likely; no
        interpolation of the frames, best where rows are far from evenly spread.

    Returns
    -------
    Averaged
        Image, samples and variance. No value leaves the range of the measured ones, as splines could.

    Raises
    ------
    DataError
        No frames, a frame that does not exist, or an unknown `how`.

    Notes
    -----
    Cost: mean ``O(frames * pixels * 16)`` and about nine images of memory, whatever the number of frames;
    median reads each frame once per block of rows; likelihood reads each frame three times.
    """
    if how not in get_args(How):
        raise DataError(f"how={how!r}", needed="'mean', 'median' or 'likelihood'")
    numbers = [int(k) for k in used]
    if not numbers or min(numbers) < 0 or max(numbers) >= min(frames.n, motion.n):
        raise DataError(
            f"frames {numbers} of {frames.n}, motion of {motion.n}",
            needed="at least one frame, and its motion",
        )
    if motion.shape != frames.shape:
        raise DataError(
            f"motion for frames of {motion.shape}, frames of {frames.shape}",
            needed="the series that was registered",
        )
    if how == "median":
        return _median(frames, motion, numbers)
    scatter = _scatter(frames, motion, numbers)
    if how == "likelihood":
        from fairstem.register._series.likelihood import most_likely

        law = variance_law(scatter.mean, _per_sample(scatter), scatter.n)
        scatter.square = np.zeros((0, 0))  # an image less in memory
        image, variance = most_likely(frames, motion, numbers, scatter.mean, law)
        return _finish(scatter.clip(image), scatter.n, variance)
    image = scatter.clip(scatter.mean)
    return _finish(image, scatter.n, _per_sample(scatter))


def variance_law(mean: Floats, variance: Floats, n: Floats) -> tuple[float, float, float]:
    """Return (a, b, lowest): the variance of one sample is about ``max(a + b * mean, lowest)``.

    Least squares over the pixels with two samples or more; b is the gain where the noise is that of
    counting.
    """
    known = n >= 2
    m, v = mean[known], variance[known]
    if not m.size:
        # nothing was measured twice: counts, as the next best guess
        return 0.0, 1.0, max(0.1 * abs(float(mean.mean())), np.finfo(np.float64).tiny)
    level, middle = float(v.mean()), float(m.mean())
    spread = float(((m - middle) ** 2).mean())
    b = max(float(((m - middle) * (v - level)).mean()) / spread, 0.0) if spread > 0 else 0.0
    return level - b * middle, b, 0.1 * level


def _scatter(frames: Frames, motion: Motion, used: list[int]) -> _Scatter:
    scatter = _Scatter(frames.shape)
    for k in track(used, label="averaging"):
        frame = frames.read(k)
        scatter.note(frame)
        scatter.add(*resample(frame.values, motion.backward(k), frame.mask))
    return scatter


def _per_sample(scatter: _Scatter) -> Floats:
    return np.asarray(scatter.square / np.maximum(scatter.n - 1.0, 1.0))


def _finish(image: Floats, n: Floats, variance: Floats) -> Averaged:
    """Fill what is not known, and turn the variance of a sample into that of the average."""
    image = fill_nearest(image, n > 0)
    a, b, lowest = variance_law(image, variance, n)
    scarce = n < 2
    variance[scarce] = np.maximum(a + b * image[scarce], lowest)
    # few samples may agree by chance; a variance of zero would mean a pixel that is certain
    np.maximum(variance, _LEAST * lowest, out=variance)
    variance /= np.maximum(n, 1.0)
    return Averaged(image, n, variance)


def _median(frames: Frames, motion: Motion, used: list[int]) -> Averaged:
    ny, nx = frames.shape
    image, n, variance = (np.zeros(frames.shape) for _ in range(3))
    span = _Range()
    rows = max(1, min(ny, _BLOCK_BYTES // (8 * nx * len(used))))
    for start in track(range(0, ny, rows), label="median"):
        block = slice(start, min(start + rows, ny))
        values, valid = _block(frames, motion, used, block, span)
        image[block], n[block], variance[block] = _middle(values, valid)
    return _finish(span.clip(image), n, variance)


def _block(
    frames: Frames, motion: Motion, used: list[int], block: slice, span: _Range
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return rows of all resampled frames, and where they are measured."""
    ny, nx = frames.shape
    values = np.empty((len(used), block.stop - block.start, nx))
    valid = np.empty(values.shape, dtype=np.bool_)
    for i, k in enumerate(used):
        frame = frames.read(k)
        span.note(frame)
        field = motion.backward(k)[:, block]
        reached = np.arange(block.start, block.stop)[:, None] + field[0]
        low = min(max(int(reached.min()) - _REACH, 0), ny - 1)
        high = min(max(int(reached.max()) + _REACH + 2, low + 1), ny)
        shift = np.broadcast_to(np.array([block.start - low, 0.0])[:, None, None], field.shape)
        mask = None if frame.mask is None else frame.mask[low:high]
        values[i], weight = resample(frame.values[low:high], field + shift, mask)
        # a row beyond the part that was read is a row beyond the frame
        valid[i] = (weight > 0) & (reached >= -1e-9) & (reached <= ny - 1 + 1e-9)
    return values, valid


def _middle(values: Floats, valid: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Return the median over frames, the number of samples and the variance of one sample."""
    n = valid.sum(axis=0)
    count = np.maximum(n, 1)
    mean = np.where(valid, values, 0.0).sum(axis=0) / count
    square = np.where(valid, (values - mean) ** 2, 0.0).sum(axis=0)
    values[~valid] = np.inf
    values.sort(axis=0)
    below = np.take_along_axis(values, ((count - 1) // 2)[None], axis=0)[0]
    above = np.take_along_axis(values, (count // 2)[None], axis=0)[0]
    middle = np.where(n > 0, (below + above) / 2, 0.0)
    # the median of normal noise is less certain than the mean; of one or two samples it is the mean
    loss = np.where(n > 2, math.pi / 2, 1.0)
    return middle, n.astype(np.float64), loss * square / np.maximum(count - 1, 1)
