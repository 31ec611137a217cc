"""The assumptions of a registration, measured: rigid rows, independent and enough frames."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.register._judge.covariance import detrended
from fairstem.register._judge.floor import Floor
from fairstem.register._judge.unchanged import FALSE_ALARM, check_residual, check_unchanged

__all__ = ["check_floor", "check_independent", "check_residual", "check_row_wise", "check_unchanged"]

Floats = NDArray[np.float64]
_WINDOW_ROWS = (16, 64)  # long beside a unit cell, whose columns pull parts of rows to and fro
_PERMUTATIONS = 999


def check_row_wise(
    deviation: ArrayLike,
    variance: ArrayLike,
    *,
    tolerance_px: float = 0.02,
    false_alarm: float = FALSE_ALARM,
) -> PriorCheck:
    """Test that rows move as a whole.

    Prior: a row is recorded in milliseconds, so that its pixels share one displacement. If the
    displacement also varies along rows, the parts of a row deviate from the row in the same sense as
    those of rows nearby; noise doesn't.

    Parameters
    ----------
    deviation
        ``(frame, 2, y, segment)`` px: displacement that is left in segments of each row.
    variance
        Same shape, px²; infinite or NaN where a segment says nothing.
    tolerance_px
        Deviations of that rms size don't matter.
    false_alarm
        Probability that rows which move as a whole fail (without counting on the tolerance).

    Returns
    -------
    PriorCheck
        rms deviation px, from products of the deviations in windows of rows next to each other, whose
        noise is independent: it is not biased by the noise, nor by errors of `variance`. Of the two axes,
        the one closer to failing.

    Raises
    ------
    DataError
        The shapes differ or aren't (frame, 2, y, segment) with at least 2 segments.

    Notes
    -----
    Threshold: ``sqrt(tolerance² + z * standard error)``, the error from the scatter of frames and windows.
    A window is a quarter of the frame long, 16 to 64 rows; fields that change faster are not seen.
    Cost: ``O(frames * rows * segments)``.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(0, 0.2, (10, 2, 128, 4))
    >>> check_row_wise(noise, np.full(noise.shape, 0.04)).holds
    True
    >>> check_row_wise(noise + [-0.2, -0.1, 0.1, 0.2], np.full(noise.shape, 0.04)).holds
    False
    """
    z, v = np.array(deviation, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    if z.shape != v.shape or z.ndim != 4 or z.shape[1] != 2 or z.shape[3] < 2:
        raise DataError(
            f"deviation {z.shape} and variance {v.shape}",
            needed="twice (frame, 2, y, segment), 2 segments or more",
        )
    good = np.isfinite(z) & np.isfinite(v) & (v > 0)
    weight = np.where(good, 1 / np.where(good, v, 1.0), 0.0)
    z[~good] = 0.0
    total = weight.sum(axis=3, keepdims=True)
    off = np.where(good, z - (weight * z).sum(axis=3, keepdims=True) / np.where(total > 0, total, 1.0), 0.0)
    statistic = threshold = math.nan
    for axis in range(2):
        square, error = _slow_part(off[:, axis], weight[:, axis])
        if math.isnan(square):
            continue
        rms = math.sqrt(max(square, 0.0))
        limit = math.sqrt(tolerance_px**2 + norm.isf(false_alarm / 2) * error)
        if math.isnan(statistic) or rms / limit > statistic / threshold:
            statistic, threshold = rms, limit
    return PriorCheck(
        "rows-move-as-one",
        "all pixels of a row share one displacement",
        statistic,
        threshold if not math.isnan(threshold) else tolerance_px,
        "<=",
        "rms displacement within rows beyond noise, px",
        'use model="dense", or let the row-wise model have a slow field as well',
    )


def check_independent(rows: ArrayLike, *, false_alarm: float = FALSE_ALARM, seed: int = 0) -> PriorCheck:
    """Test that successive frames are distorted independently, on which the common-mode floor stands.

    Prior: distortions have zero mean over many frames. If those of successive frames resemble each
    other, they average out more slowly than 1 over the number of frames, and the floor is too small.

    Parameters
    ----------
    rows
        ``(frame, 2, y)`` px, displacement of the rows, frames in the order in which they were recorded.
    false_alarm
        Probability that independent frames fail.
    seed
        Seed of the permutations.

    Returns
    -------
    PriorCheck
        Correlation of a frame's displacement (without mean and trend) with the next, against its
        distribution over 999 random orders of the frames. Not measured with fewer than 6 frames.

    Raises
    ------
    DataError
        Shape isn't (frame, 2, y), or values aren't finite.

    Notes
    -----
    A distortion that is the same in all frames is invisible here as everywhere.
    Cost: ``O(frames² * rows)``.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(0, 1, (12, 2, 64)).cumsum(axis=2)
    >>> check_independent(rows).holds, check_independent(rows.cumsum(axis=0)).holds
    (True, False)
    """
    u = np.asarray(rows, dtype=np.float64)
    if u.ndim != 3 or u.shape[1] != 2 or not np.isfinite(u).all():
        raise DataError(f"rows have shape {u.shape}", needed="finite values (frame, 2, y)")
    count, correlation, limit = len(u), math.nan, math.nan
    flat = detrended(u, np.ones((count, u.shape[2]), dtype=bool))[0].reshape(count, -1)
    if count >= 6 and flat.any():
        flat = flat - flat.mean(axis=0)
        gram = flat @ flat.T
        rng = np.random.default_rng(seed)
        shuffled = rng.permuted(np.tile(np.arange(count), (_PERMUTATIONS, 1)), axis=1)
        orders = np.vstack([np.arange(count), shuffled])
        next_one = gram[orders[:, :-1], orders[:, 1:]].mean(axis=1) / (np.trace(gram) / count)
        # the mean that was removed makes frames anticorrelated by 1 / (frames - 1)
        next_one += 1 / (count - 1)
        correlation, limit = float(next_one[0]), float(np.quantile(next_one[1:], 1 - false_alarm))
    return PriorCheck(
        "independent-frames",
        "distortions of successive frames are independent",
        correlation,
        limit if not math.isnan(limit) else 0.0,
        "<=",
        "correlation of the row displacements of successive frames",
        "the common-mode floor is too small: pause between frames, or record scans at 0 and 90 degrees",
    )


def check_floor(floor: Floor, counting_px: float, width_px: float = 2.0) -> PriorCheck:
    """Test that there are enough frames: the floor is below the error of a column from counting.

    Prior: more electrons make positions better. They don't below the floor.

    Parameters
    ----------
    floor
        The common-mode floor.
    counting_px
        Standard deviation, px, of a column's position in the average from counting noise.
    width_px
        Gaussian sigma of the columns, px.

    Raises
    ------
    DataError
        `counting_px` isn't positive.

    Notes
    -----
    Threshold 1: both errors are equal, the error bars of a fit are too small by ``sqrt(2)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fairstem.register._judge.floor import common_mode_floor
    >>> rows = np.random.default_rng(0).normal(0, 1, (10, 2, 64))
    >>> check_floor(common_mode_floor(rows, np.zeros_like(rows)), 0.01).holds
    False
    """
    if not (math.isfinite(counting_px) and counting_px > 0):
        raise DataError(f"counting_px is {counting_px}", needed="a positive error in px")
    y, x = floor.position_sd(width_px)
    size = math.hypot(y, x) / math.sqrt(2)
    number = math.ceil(floor.frames * (size / counting_px) ** 2)
    return PriorCheck(
        "enough-frames",
        "what all frames share is smaller than the counting noise of positions",
        size / counting_px,
        1.0,
        "<=",
        "common-mode floor of a column's position over its counting error",
        f"add the floor to the error bars (floor.widen); to go below it record {number} frames like these, "
        "or scans at 0 and 90 degrees",
    )


def _slow_part(off: Floats, weight: Floats) -> tuple[float, float]:
    """Return the mean square that rows near each other share (k, y, s), and its standard error."""
    ny = off.shape[1]
    length = int(np.clip(ny // 4, _WINDOW_ROWS[0], _WINDOW_ROWS[1]))
    taper = np.hanning(length + 2)[1:-1]
    starts = np.arange(0, ny - length + 1, max(length // 2, 1))
    known = np.stack([np.einsum("t,kts->ks", taper, weight[:, a : a + length]) for a in starts])
    sums = np.stack([np.einsum("t,kts->ks", taper, (weight * off)[:, a : a + length]) for a in starts])
    # windows that do not overlap: their noise is independent; one number a frame and pair of windows,
    # since the segments of a row are tied by its mean
    top = (sums[:-2] * sums[2:]).sum(axis=2).ravel()
    base = (known[:-2] * known[2:]).sum(axis=2).ravel()
    top, base = top[base > 0], base[base > 0]
    n = len(top)
    if n < 3:
        return math.nan, math.nan
    mean = float(top.sum() / base.sum())
    error = math.sqrt(((top - mean * base) ** 2).sum() * n / (n - 1)) / base.sum()
    return mean, float(error)
