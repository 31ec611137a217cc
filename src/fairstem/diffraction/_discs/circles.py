"""Where is the disc? The circle across which the pattern falls most, to about a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["Circle", "find_circle"]

_COARSE = 24  # px along the shorter side where every centre is tried


@dataclass(frozen=True)
class Circle:
    """A circle on the detector: centre (y, x) and radius in px, and the fall of √intensity across it."""

    center: tuple[float, float]
    radius: float
    step: float


def find_circle(pattern: NDArray[np.float64], usable: NDArray[np.bool_]) -> Circle:
    """Find the circle with the largest fall of intensity from inside to outside.

    Every centre (also some way outside the detector) and radius is tried: between two rings next to each other
    the mean of √intensity falls by D; the circle with the largest D²·(number of pixels) wins, the one that
    explains most of the pattern. The square root makes counting noise even.

    Parameters
    ----------
    pattern
        (k_y, k_x), not negative in the mean.
    usable
        True where the detector may be used.

    Notes
    -----
    Cost: on a pattern binned to 24-48 px, (1.5·n)² centres × n² pixels, then 100 centres at full resolution.
    """
    root = np.sqrt(np.maximum(pattern, 0.0))
    bins = max(min(pattern.shape) // _COARSE, 1)
    small, weight = _binned(root, usable, bins)
    n_y, n_x = small.shape
    ys = np.arange(-(n_y // 4), n_y + n_y // 4, dtype=np.float64)
    xs = np.arange(-(n_x // 4), n_x + n_x // 4, dtype=np.float64)
    best = _best_circle(small, weight, ys, xs, 1.0, 0.7 * max(n_y, n_x), 2.0)
    y, x = ((v + 0.5) * bins - 0.5 for v in best[1:3])
    radius, step = best[3] * bins, best[4]
    if bins > 1 or radius < 8:
        around = np.arange(-1.5 * bins, 1.5 * bins + 0.1, 0.5 if bins == 1 else bins / 3)
        thick = max(1.5, min(3.0, 0.1 * radius))
        limits = max(0.8 * radius - 2 * bins, 1.0), 1.2 * radius + 2 * bins
        best = _best_circle(root, usable.astype(np.float64), y + around, x + around, *limits, thick)
        y, x, radius, step = best[1:]
    return Circle((float(y), float(x)), float(radius), float(step))


def _binned(
    root: NDArray[np.float64], usable: NDArray[np.bool_], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of the usable pixels in squares, and their number as weight."""
    n_y, n_x = (n // bins for n in root.shape)
    cut = (slice(0, n_y * bins), slice(0, n_x * bins))
    shape = (n_y, bins, n_x, bins)
    weight = usable[cut].reshape(shape).sum(axis=(1, 3)).astype(np.float64)
    sums = np.where(usable, root, 0.0)[cut].reshape(shape).sum(axis=(1, 3))
    return sums / np.maximum(weight, 1.0), weight


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _best_circle(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    ys: NDArray[np.float64],
    xs: NDArray[np.float64],
    smallest: float,
    largest: float,
    thick: float,
) -> tuple[float, float, float, float, float]:
    """Return (score, y, x, radius, step) of the best circle among all centres and radii in half pixels."""
    bins = int(2 * (largest + thick)) + 2
    wide = round(2 * thick)
    number, total = np.zeros(bins + 1), np.zeros(bins + 1)
    best = (-1.0, 0.0, 0.0, 0.0, 0.0)
    for cy in ys:
        for cx in xs:
            number[:] = 0.0
            total[:] = 0.0
            for i in range(values.shape[0]):
                for j in range(values.shape[1]):
                    if weights[i, j] > 0:
                        b = int(2 * np.sqrt((i - cy) ** 2 + (j - cx) ** 2))
                        if b < bins:
                            number[b + 1] += weights[i, j]
                            total[b + 1] += weights[i, j] * values[i, j]
            for b in range(bins):
                number[b + 1] += number[b]
                total[b + 1] += total[b]
            for b in range(max(int(2 * smallest), 1), min(int(2 * largest) + 1, bins - wide)):
                low = max(b - wide, 0)
                n_in, n_out = number[b] - number[low], number[b + wide] - number[b]
                if n_in < 3 or n_out < 3:
                    continue
                step = (total[b] - total[low]) / n_in - (total[b + wide] - total[b]) / n_out
                score = step * abs(step) * n_in * n_out / (n_in + n_out)
                if score > best[0]:
                    best = (score, cy, cx, 0.5 * b, step)
    return best
