"""Is the average as sharp as the frames: neither blurred by misregistration nor sharpened by over-fitting?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.register._series.frames import Frames
from fairstem.register._series.motion import Motion

__all__ = ["Sharpness", "check_sharpness", "compare_sharpness", "fast_autocovariance"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
FALSE_ALARM = 0.01
_ROWS = 1024  # lines along the axis that are looked at
LAGS = 26
_FIRST_LAG = 3  # interpolation correlates the noise of the average up to two pixels
_WIDTHS = 4.5  # lags up to so many column widths tell a width
_ALONG_DEG = 1.0  # a row this close to an axis of the average is compared along it


@dataclass(frozen=True, eq=False)
class Sharpness:
    """Widths along the fast axis in the average and in the frames.

    Parameters
    ----------
    ratio
        Width of columns in the average over that in single frames: below 1 it was over-fitted, above 1
        blurred.
    sd
        Its standard error, from the scatter of the frames.
    width_px
        Gaussian sigma, px, of what is in the frames.
    raw, average
        ``(lag,)`` autocovariance along the fast axis, squared units of the data: mean of the frames, and of
        the average. Lag 0 holds the noise.
    """

    ratio: float
    sd: float
    width_px: float
    raw: Floats
    average: Floats


def fast_autocovariance(
    values: ArrayLike, mask: ArrayLike | None = None, *, lags: int = LAGS, axis: int = 1
) -> Floats:
    """Return ``(lags,)``: autocovariance of an image along an axis, its mean removed.

    Prior: none. Noise that is independent from pixel to pixel is in lag 0 only.

    Parameters
    ----------
    values
        ``(y, x)`` image.
    mask
        ``(y, x)``, False where a pixel is to be left out.
    lags
        Number of lags, 0 included.
    axis
        1: along x, 0: along y.

    Raises
    ------
    DataError
        Shapes do not fit, or values inside the mask aren't finite.

    Notes
    -----
    Of images of more than 1024 lines every second (third ...) is taken. Cost: ``O(pixels * lags)``.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(0, 2, (200, 200))
    >>> [round(abs(float(v)), 1) for v in fast_autocovariance(noise, lags=3)]
    [4.0, 0.0, 0.0]
    """
    image = np.asarray(values, dtype=np.float64)
    inside = np.ones(image.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if image.ndim != 2 or inside.shape != image.shape:
        raise DataError(f"values {image.shape} and mask {inside.shape}", needed="(y, x), both")
    if not np.isfinite(image[inside]).all():
        raise DataError("values are not finite", needed="finite values inside the mask")
    if axis == 0:
        image, inside = image.T, inside.T
    thin = max(image.shape[0] // _ROWS, 1)
    image, inside = image[::thin], inside[::thin]
    out = np.zeros(lags)
    if not inside.any():
        return out
    off, one = np.where(inside, image - image[inside].mean(), 0.0), inside.astype(np.float64)
    nx = image.shape[1]
    for lag in range(min(lags, nx)):
        pairs = np.einsum("ij,ij->", one[:, : nx - lag], one[:, lag:])
        out[lag] = np.einsum("ij,ij->", off[:, : nx - lag], off[:, lag:]) / max(float(pairs), 1.0)
    return out


def compare_sharpness(
    average: ArrayLike, raw: ArrayLike, *, tolerance: float = 0.01, false_alarm: float = FALSE_ALARM
) -> tuple[PriorCheck, Sharpness]:
    """Compare the autocovariance of the average with that of frames.

    Prior: see `check_sharpness`.

    Parameters
    ----------
    average
        ``(lag,)`` of the average, or ``(n, lag)``: one for each frame, along that frame's fast axis.
    raw
        ``(n, lag)`` of the frames, over the same part of the object, as of `fast_autocovariance`.
    tolerance
        Difference of the widths that doesn't matter: 0.01 is 1 %.
    false_alarm
        Probability that a perfect average fails (without counting on the tolerance).

    Returns
    -------
    check : PriorCheck
        ``|ratio - 1|`` against ``tolerance + z * sd``. Not measured with fewer than 2 frames, or where
        there is nothing but noise.
    sharpness : Sharpness

    Raises
    ------
    DataError
        Shapes do not fit, or fewer than 12 lags.

    Notes
    -----
    A blur of variance b² adds ``b² c''`` to an autocovariance c. The b² that fits best from lag 3 on, over
    the squared width of what is in the frames, gives the ratio ``sqrt(1 + b² / width²)``.

    Examples
    --------
    >>> import numpy as np
    >>> lag = np.arange(26)
    >>> raw = np.exp(-(lag**2) / (4 * 2.0**2)) * np.ones((5, 1))       # columns of width 2
    >>> average = 2 / 2.1 * np.exp(-(lag**2) / (4 * 2.1**2))              # widened to 2.1
    >>> round(compare_sharpness(average, raw)[1].ratio, 2)
    1.05
    """
    each = np.atleast_2d(np.asarray(raw, dtype=np.float64))
    whole = np.broadcast_to(np.asarray(average, dtype=np.float64), each.shape)
    if each.ndim != 2 or each.shape[1] < 12:
        raise DataError(f"raw autocovariances have shape {each.shape}", needed="(n, lag), 12 lags or more")
    n = len(each)
    ratio = sd = width = math.nan
    if n >= 2:
        width = _width(each.mean(axis=0))
    if not math.isnan(width):
        ratio = _ratio(whole.mean(axis=0), each.mean(axis=0), width)
        left_out = (np.arange(n) != k for k in range(n))
        values = np.array(
            [_ratio(whole[keep].mean(axis=0), each[keep].mean(axis=0), width) for keep in left_out]
        )
        sd = math.sqrt((n - 1) / n * float(((values - values.mean()) ** 2).sum()))
    limit = tolerance + float(norm.isf(false_alarm / 2)) * (0.0 if math.isnan(sd) else sd)
    sign = "narrower" if ratio < 1 else "wider"
    check = PriorCheck(
        "sharpness-kept",
        "columns are as wide along the fast axis as in single frames, whose rows no distortion widens",
        abs(ratio - 1),
        limit,
        "<=",
        f"columns of the average are {sign} than those of the frames by this fraction",
        "narrower: the displacement follows the noise, use a smoother model (rowwise); "
        "wider: frames are misregistered, look at the residual map",
    )
    return check, Sharpness(ratio, sd, width, each.mean(axis=0), whole.mean(axis=0))


def check_sharpness(
    average: ArrayLike,
    samples: ArrayLike,
    frames: Frames,
    motion: Motion,
    used: Sequence[int] | None = None,
    *,
    tolerance: float = 0.01,
) -> tuple[PriorCheck, Sharpness]:
    """Test that columns have in the average the width that they have in single frames.

    Prior: a row is recorded so fast that its profile is not distorted, whatever the rows do among each
    other. So the average must have, along the fast axis, the width of the frames. Registration that
    follows noise pulls columns together (dense methods by some 4 %); misregistration widens them.

    Parameters
    ----------
    average
        ``(y, x)`` the average.
    samples
        ``(y, x)`` number of frames behind each pixel; where all are, average and frames are compared.
    frames, motion
        The series and where its pixels lie. Frames are read one at a time; only those that were
        scanned along x or y of the average count.
    used
        Numbers of the frames in the average; default all that hold an image.
    tolerance
        Difference of the widths that doesn't matter.

    Returns
    -------
    check : PriorCheck
    sharpness : Sharpness

    Raises
    ------
    DataError
        Shapes do not fit.

    Notes
    -----
    Cost: ``O(frames * pixels * lags)``, 26 lags.
    """
    image, count = np.asarray(average, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    if image.shape != motion.shape or count.shape != motion.shape:
        raise DataError(
            f"average {image.shape}, samples {count.shape}", needed=f"{motion.shape}, as the frames"
        )
    region = count >= 0.99 * count.max()
    along = {axis: fast_autocovariance(image, region, axis=axis) for axis in (0, 1)}
    raw, whole = [], []
    for k in frames.usable if used is None else used:
        axis = _axis_of(motion, k)
        if axis is None:
            continue
        frame = frames.read(k)
        inside = _inside(motion, k, region)
        if frame.mask is not None:
            inside &= frame.mask
        raw.append(fast_autocovariance(frame.values, inside))
        whole.append(along[axis])
    if not raw:
        raw, whole = [np.zeros(LAGS)], [np.zeros(LAGS)]
    return compare_sharpness(np.array(whole), np.array(raw), tolerance=tolerance)


def _axis_of(motion: Motion, k: int) -> int | None:
    """Return the axis of the average along which the rows of frame k lie, if they do."""
    angle = float(getattr(motion, "angles_deg", np.zeros(motion.n))[k])
    for axis, direction in ((1, 0.0), (0, 90.0)):
        if abs((angle - direction + 90.0) % 180.0 - 90.0) <= _ALONG_DEG:
            return axis
    return None


def _inside(motion: Motion, k: int, region: Bools) -> Bools:
    """Return which pixels of frame k show a place in the region."""
    at = motion.forward(k)
    ny, nx = region.shape
    y = np.rint(at[0] + np.arange(ny)[:, None]).astype(np.intp)
    x = np.rint(at[1] + np.arange(nx)).astype(np.intp)
    there = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
    there[there] = region[y[there], x[there]]
    return np.asarray(there)


def _width(raw: Floats) -> float:
    """Return the Gaussian sigma of columns with this autocovariance; NaN when there is only noise."""
    # an even parabola of fourth order through lags 1 to 3, which hold no noise, and its curvature at 0
    top, second, _ = np.linalg.solve(np.vander(np.array([1.0, 4.0, 9.0]), increasing=True), raw[1:4])
    # between columns of a crystal the mean that was removed makes the autocovariance negative
    height = top - min(float(raw.min()), 0.0)
    if height <= 0 or second >= 0:
        return math.nan
    return math.sqrt(height / (-4 * second))


def _ratio(average: Floats, raw: Floats, width: float) -> float:
    last = int(np.clip(round(_WIDTHS * width), 8, len(raw) - 2))
    lag = np.arange(_FIRST_LAG, last + 1)
    curvature = raw[lag + 1] + raw[lag - 1] - 2 * raw[lag]
    blur = float(curvature @ (average[lag] - raw[lag]) / max(float(curvature @ curvature), 1e-300))
    return math.sqrt(max(1 + blur / width**2, 0.0))
