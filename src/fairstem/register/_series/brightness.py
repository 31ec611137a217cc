"""Brightness and contrast of the frames against one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fairstem.register._series.frames import Frame, Frames
from fairstem.signals import Finding

__all__ = ["match_brightness"]

Floats = NDArray[np.float64]
_BLOCK = 8  # px: means over blocks hold little noise
_NOTICEABLE = 0.1  # of the contrast: what differs by less is left as it was measured
_SURE = 4.0  # standard deviations: what differs by less may do so by chance
_FEWEST_BLOCKS = 16


def match_brightness(frames: Frames, offsets: Floats, used: Sequence[int]) -> Frames:
    """Bring the frames to one brightness and contrast where they differ by more than 10 %.

    Prior: the same object gives the same values but for the gain and the offset of the detector and the
    current of the beam. Counts stay counts when nothing differs.

    Parameters
    ----------
    frames
        The series.
    offsets
        ``(frame, 2)`` px, where the frames lie.
    used
        The frames that show the object.

    Returns
    -------
    Frames
        The same, or frames that are scaled when they are read: to the frame of median contrast.

    Notes
    -----
    Mean and standard deviation of blocks in the area that a frame shares with the reference are compared;
    their scatter follows from how well the blocks of the two correlate. Cost: reads each frame twice.
    """
    contrast = {k: _contrast(frames.read(k)) for k in used}
    middle = sorted(used, key=lambda k: contrast[k])[len(used) // 2]
    usual = frames.read(middle)
    scale, level = np.ones(frames.n), np.zeros(frames.n)
    changed = []
    for k in used:
        if k == middle:
            continue
        step = np.rint(offsets[k] - offsets[middle]).astype(int)
        times, more = _compare(*_shared(frames.read(k), usual, step))
        if times != 1.0 or more != 0.0:
            scale[k], level[k] = times, more
            changed.append(k)
    if not changed:
        return frames
    named = ", ".join(f"{k} ({scale[k]:.2f} times and {level[k]:+.3g})" for k in changed)
    text = f"the frames differ in contrast or brightness from frame {middle}: {named}"
    assumed = f"they are scaled to frame {middle}, so that values are no counts any more"
    finding = Finding("brightness", "warning", text, assumed=assumed)
    return replace(frames, scale=scale, level=level, findings=(*frames.findings, finding))


def _compare(own: Floats, other: Floats) -> tuple[float, float]:
    """Return gain and offset of `own` against `other`; 1 and 0 where nothing differs noticeably and surely."""
    if own.size < _FEWEST_BLOCKS or own.std() == 0 or other.std() == 0:
        return 1.0, 0.0
    alike = min(max(float(np.corrcoef(own, other)[0, 1]), 0.0), 1.0)
    times, spread = float(own.std() / other.std()), float(np.sqrt(own.std() * other.std()))
    apart = float(own.mean() - other.mean())
    # the scatter of the ratio and of the difference of two correlated samples
    by_chance = np.sqrt((1 - alike**2) / own.size), spread * np.sqrt(2 * (1 - alike) / own.size)
    differs = abs(np.log(times)) > max(_NOTICEABLE, _SURE * by_chance[0])
    if not differs and abs(apart) <= max(_NOTICEABLE * spread, _SURE * by_chance[1]):
        return 1.0, 0.0
    return times, float(own.mean() - times * other.mean())


def _contrast(frame: Frame) -> float:
    means = _block_means(_holed(frame))
    return float(np.std(means[np.isfinite(means)])) if np.isfinite(means).any() else 0.0


def _holed(frame: Frame) -> Floats:
    """Return the values with NaN where nothing was measured."""
    return frame.values if frame.mask is None else np.where(frame.mask, frame.values, np.nan)


def _block_means(values: Floats) -> Floats:
    """Return the means of the blocks; NaN where less than half of a block was measured."""
    ny, nx = (n // _BLOCK for n in values.shape)
    cut = values[: ny * _BLOCK, : nx * _BLOCK].reshape(ny, _BLOCK, nx, _BLOCK)
    measured = np.isfinite(cut)
    count = measured.sum(axis=(1, 3))
    total = np.where(measured, cut, 0.0).sum(axis=(1, 3))
    mean = np.divide(total, count, out=np.full((ny, nx), np.nan), where=2 * count >= _BLOCK**2)
    return np.asarray(mean)


def _shared(own: Frame, other: Frame, step: NDArray[np.int_]) -> tuple[Floats, Floats]:
    """Return the block means of both where both were measured; pixel p of `own` lies at p + step in `other`."""
    shape = np.array(own.values.shape)
    low, high = np.maximum(0, step), np.minimum(shape, shape + step)
    if (high - low < _BLOCK).any():
        return np.empty(0), np.empty(0)
    a = _holed(own)[low[0] - step[0] : high[0] - step[0], low[1] - step[1] : high[1] - step[1]]
    b = _holed(other)[low[0] : high[0], low[1] : high[1]]
    hole = np.isnan(a + b)  # the same pixels of both
    means = _block_means(np.where(hole, np.nan, a)), _block_means(np.where(hole, np.nan, b))
    both = np.isfinite(means[0]) & np.isfinite(means[1])
    return means[0][both], means[1][both]
