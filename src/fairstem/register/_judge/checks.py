"""The assumptions of a registration, measured: independent frames, and enough of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.register._judge.covariance import detrended
from fairstem.register._judge.floor import Floor
from fairstem.register._judge.unchanged import FALSE_ALARM

__all__ = ["check_floor", "check_independent"]

Floats = NDArray[np.float64]
_PERMUTATIONS = 999


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
