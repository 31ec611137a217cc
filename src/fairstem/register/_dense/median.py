"""The median of all frames but one, at every point of the average."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fairstem.register._dense.level import Level

__all__ = ["MedianTarget"]

Floats = NDArray[np.float64]
_STRIP_BYTES = 128 * 2**20
_LEAST_WEIGHT = 0.5  # of a frame: below, a pixel lies outside it


class MedianTarget:
    """Medians of the registered frames, from which any one frame can be left out.

    Of n sorted values only the middle three decide what the median is without one of them.

    Parameters
    ----------
    level
        Frames and their fields as they are now.

    Notes
    -----
    Memory: four canvases and a strip of all frames; a series too large for one strip is read once a strip.
    """

    def __init__(self, level: Level) -> None:
        self._level, self._fields = level, level.fields.copy()
        ny, nx = level.canvas_shape
        self.count = np.zeros((ny, nx), dtype=np.int64)
        self.middle = np.zeros((3, ny, nx), dtype=np.float32)
        rows = max(1, _STRIP_BYTES // (4 * nx * level.n))
        for low in range(0, ny, rows):
            self._fill(slice(low, min(low + rows, ny)))

    def _fill(self, strip: slice) -> None:
        values = np.stack([self._frame(k)[strip] for k in range(self._level.n)])
        values.sort(axis=0)  # NaN last
        count = np.isfinite(values).sum(axis=0)
        self.count[strip] = count
        for n in range(3):
            at = np.clip(count // 2 - 1 + n, 0, self._level.n - 1)
            self.middle[n, strip] = np.take_along_axis(values, at[None], axis=0)[0]

    def _frame(self, k: int) -> NDArray[np.float32]:
        """Return frame k on the canvas, NaN outside."""
        canvas = self._level.empty_canvas()
        self._level.add(canvas, k, nodes=self._fields[k])
        inside = canvas[1] >= _LEAST_WEIGHT
        out = np.full(canvas.shape[1:], np.nan, dtype=np.float32)
        out[inside] = (canvas[0, inside] / canvas[1, inside]).astype(np.float32)
        return out

    def without(self, k: int) -> Floats:
        """Return the canvas (values times weights, weights) of the median of all frames but k."""
        own = self._frame(k)
        seen = np.isfinite(own)
        low, mid, high = self.middle
        odd = self.count % 2 == 1
        # frame k outside: the median of all
        whole = np.where(odd, mid, 0.5 * (low + mid))
        from_odd = np.where(own < mid, mid + high, np.where(own > mid, low + mid, low + high)) / 2
        from_even = np.where(own <= low, mid, low)
        left = np.where(seen, np.where(odd, from_odd, from_even), whole).astype(np.float64)
        weight = (self.count - seen).astype(np.float64)
        return np.stack([np.where(weight > 0, left, 0.0) * weight, weight])
