"""Image scores: peak signal-to-noise ratio and structural similarity."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from fairstem.errors import DataError

__all__ = ["psnr", "ssim"]

Floats = npt.NDArray[np.float64]


def psnr(
    estimate: npt.ArrayLike,
    clean: npt.ArrayLike,
    *,
    peak: float | None = None,
    per: Literal["image", "pattern"] = "image",
) -> float:
    """Return the peak signal-to-noise ratio in dB: ``10 log10(peak² / mean((estimate - clean)²))``.

    Parameters
    ----------
    estimate, clean
        Arrays of one shape and one unit, such as electrons.
    peak
        Default: the maximum of `clean`.
    per
        ``"image"``: one peak and one mean over the whole array. ``"pattern"``: each pattern, the
        last two axes, against its own maximum, then the mean in dB over the others (scan
        positions of 4D-STEM data). The two differ by several dB on one data set; say which.

    Returns
    -------
    float
        In dB; infinite when the two are equal.

    Raises
    ------
    DataError
        Shapes differ, values are not finite, or a peak is not positive.

    Notes
    -----
    Cost: ``O(n)``.

    References
    ----------
    C. Zhang et al., Ultramicroscopy 219 (2020) 113123, doi:10.1016/j.ultramic.2020.113123
    (``per="pattern"``).

    Examples
    --------
    >>> import numpy as np
    >>> clean = np.full((8, 8), 10.0)
    >>> round(psnr(clean + 1.0, clean), 6)
    20.0
    """
    a, b = _pair(estimate, clean)
    if per not in ("image", "pattern"):
        raise DataError(f"per is {per!r}", needed="'image' or 'pattern'")
    if per == "pattern":
        if b.ndim < 3 or peak is not None:
            raise DataError(
                f"clean has shape {b.shape}, peak is {peak}",
                needed="at least 3 axes, the last two being the pattern, and no peak",
                todo="use per='image' for one image",
            )
        a, b = a.reshape(-1, *b.shape[-2:]), b.reshape(-1, *b.shape[-2:])
        peaks, errors = b.max(axis=(1, 2)), ((a - b) ** 2).mean(axis=(1, 2))
    else:
        peaks = np.array([b.max() if peak is None else peak], dtype=np.float64)
        errors = np.array([((a - b) ** 2).mean()])
    if not (peaks > 0).all():
        raise DataError(
            "a peak is not positive", needed="clean data with a positive maximum", todo="pass peak="
        )
    with np.errstate(divide="ignore"):  # no error at all is an infinite ratio
        return float((10 * np.log10(peaks**2 / errors)).mean())


def ssim(
    estimate: npt.ArrayLike, clean: npt.ArrayLike, *, data_range: float | None = None, sigma: float = 1.5
) -> float:
    """Return the mean structural similarity index of two images, with a Gaussian window.

    Parameters
    ----------
    estimate, clean
        Images ``(y, x)`` of one shape and unit.
    data_range
        Range of values L in the constants ``(0.01 L)²`` and ``(0.03 L)²``. Default: maximum minus
        minimum of `clean`.
    sigma
        Standard deviation of the window in px, cut at 3.5 sigma; 1.5 is the published one.

    Returns
    -------
    float
        1 for equal images. Windows that reach over the edge are left out of the mean.

    Raises
    ------
    DataError
        Shapes differ, the image is smaller than the window, values are not finite, or the range
        is not positive.

    Notes
    -----
    Cost: five Gaussian filters.

    References
    ----------
    Z. Wang et al., IEEE Trans. Image Process. 13 (2004) 600, doi:10.1109/TIP.2003.819861.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).random((32, 32))
    >>> ssim(image, image)
    1.0
    """
    a, b = _pair(estimate, clean)
    reach = int(3.5 * sigma + 0.5)
    if a.ndim != 2 or min(a.shape) < 2 * reach + 1:
        raise DataError(f"image has shape {a.shape}", needed=f"(y, x), at least {2 * reach + 1} px each")
    span = float(b.max() - b.min()) if data_range is None else float(data_range)
    if not (math.isfinite(span) and span > 0):
        raise DataError(
            f"data_range is {span}", needed="a positive range", todo="pass data_range= for a flat image"
        )

    def smooth(image: Floats) -> Floats:
        return np.asarray(gaussian_filter(image, sigma, truncate=3.5))

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    cov = smooth(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    index = (
        (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    inner = slice(reach, -reach)
    return float(index[inner, inner].mean())


def _pair(estimate: npt.ArrayLike, clean: npt.ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(estimate, dtype=np.float64), np.asarray(clean, dtype=np.float64)
    if a.shape != b.shape or a.size == 0:
        raise DataError(
            f"shapes {a.shape} and {b.shape}", needed="two arrays of one shape that are not empty"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("the arrays have values that are not finite", todo="mask or replace them first")
    return a, b
