"""Brightness and contrast of the frames against one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fairstem.register._series.frames import Frames
from fairstem.signals import Finding

__all__ = ["match_brightness"]

Floats = NDArray[np.float64]
_BLOCK = 8  # px: means over blocks hold little noise
_NOTICEABLE = 0.1  # of the contrast: what differs by less is left as it was measured
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
    Mean and standard deviation of blocks in the area that a frame shares with the reference are compared.
    Cost: reads each frame once.
    """
    blocks = {k: _block_means(frames, k) for k in used}
    contrast = {k: float(np.nanstd(b)) for k, b in blocks.items()}
    middle = sorted(used, key=lambda k: contrast[k])[len(used) // 2]
    scale, level = np.ones(frames.n), np.zeros(frames.n)
    changed = []
    for k in used:
        own, other = _shared(blocks[k], blocks[middle], (offsets[k] - offsets[middle]) / _BLOCK)
        if own.size < _FEWEST_BLOCKS or own.std() == 0 or other.std() == 0:
            continue
        times = float(own.std() / other.std())
        more = float(own.mean() - times * other.mean())
        if abs(np.log(times)) > _NOTICEABLE or abs(more) > _NOTICEABLE * own.std():
            scale[k], level[k] = times, more
            changed.append(k)
    if not changed:
        return frames
    named = ", ".join(f"{k} ({scale[k]:.2g} times)" for k in changed)
    text = f"the frames differ in contrast or brightness from frame {middle}: {named}"
    assumed = f"they are scaled to frame {middle}, so that values are no counts any more"
    finding = Finding("brightness", "warning", text, assumed=assumed)
    return replace(frames, scale=scale, level=level, findings=(*frames.findings, finding))


def _block_means(frames: Frames, k: int) -> Floats:
    frame = frames.read(k)
    ny, nx = (n // _BLOCK for n in frames.shape)
    values = frame.values.copy()
    if frame.mask is not None:
        values[~frame.mask] = np.nan
    return np.asarray(values[: ny * _BLOCK, : nx * _BLOCK].reshape(ny, _BLOCK, nx, _BLOCK).mean(axis=(1, 3)))


def _shared(own: Floats, other: Floats, shift: Floats) -> tuple[Floats, Floats]:
    """Return the values of both where both were measured; pixel p of `own` lies at p + shift in `other`."""
    step = np.rint(shift).astype(int)
    low = np.maximum(0, step)
    high = np.minimum(other.shape, np.array(own.shape) + step)
    if (high <= low).any():
        return np.empty(0), np.empty(0)
    a = own[low[0] - step[0] : high[0] - step[0], low[1] - step[1] : high[1] - step[1]]
    b = other[low[0] : high[0], low[1] : high[1]]
    both = np.isfinite(a) & np.isfinite(b)
    return a[both], b[both]
