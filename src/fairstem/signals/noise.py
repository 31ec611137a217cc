"""The noise of a detector: from raw values to electron counts, given or estimated from the image.

Prior: the variance of a pixel is gain·(mean - offset) + readout². Everything downstream works on
"kernel counts" k with variance equal to their mean: k = electrons + (readout/gain)², the shifted-Poisson
form of Poisson-Gauss noise (Snyder et al., JOSA A 10 (1993) 1014, doi:10.1364/JOSAA.10.001014).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError

__all__ = ["NoiseModel", "estimate_noise"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseModel:
    """How raw detector values relate to electrons: raw = offset + gain·electrons + N(0, readout²).

    Parameters
    ----------
    gain
        Raw units per electron.
    offset
        Raw value without electrons.
    readout
        Standard deviation of the readout noise in raw units.
    poisson
        False when the noise does not grow with the signal; `readout` is then all the noise there is, and
        "electrons" are raw units.
    source
        ``"counts"`` (taken to count electrons), ``"given"`` or ``"estimated"``.
    whiteness
        Noise variance from pixels two apart over that from neighbours; 1 for white noise.
        NaN when not measured.
    """

    gain: float = 1.0
    offset: float = 0.0
    readout: float = 0.0
    poisson: bool = True
    source: Literal["counts", "given", "estimated"] = "counts"
    whiteness: float = float("nan")

    def __post_init__(self) -> None:
        numbers = (self.gain, self.offset, self.readout)
        if not all(np.isfinite(numbers)) or self.gain <= 0 or self.readout < 0:
            raise DataError(
                f"noise model with gain={self.gain}, offset={self.offset}, readout={self.readout}",
                needed="finite numbers, gain > 0, readout >= 0",
                todo="pass the detector's own values, or gain='estimate'",
            )
        if not self.poisson and self.readout == 0:
            raise DataError(
                "noise model without Poisson noise and without readout noise",
                needed="a source of noise",
                todo="pass readout= in raw units",
            )

    def kernel_counts(self, raw: FloatArray) -> tuple[FloatArray, float, float]:
        """Return (k, dark, unit): var k ≈ mean k, `dark` the part of k that isn't signal, `unit` electrons per k."""
        if self.poisson:
            dark = (self.readout / self.gain) ** 2
            return (raw - self.offset) / self.gain + dark, dark, 1.0
        # constant noise = the limit of a shifted Poisson whose dark counts dwarf the signal
        span = max(float(np.ptp(raw[np.isfinite(raw)])), self.readout)
        scale = 100.0 * span / self.readout**2
        dark = (scale * self.readout) ** 2
        return (raw - self.offset) * scale + dark, dark, 1.0 / scale

    def raw_values(self, counts: FloatArray, dark: float, unit: float) -> FloatArray:
        """Return what raw values have these kernel counts: the inverse of `kernel_counts`."""
        return self.offset + (counts - dark) * (self.gain if self.poisson else unit)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        out = asdict(self)
        out["whiteness"] = None if np.isnan(self.whiteness) else self.whiteness
        return out


def _fourth_difference(image: FloatArray, step: int) -> FloatArray:
    """Noise along the fast-scan direction: blind to row jitter and to structure wider than ~2 px, unit variance."""
    s = step
    n = image.shape[1] - 4 * s
    a, b, c, d, e = (image[:, i * s : i * s + n] for i in range(5))
    noise: FloatArray = (a - 4 * b + 6 * c - 4 * d + e) / np.sqrt(70.0)
    return noise


def _variance_curve(
    image: FloatArray, mask: NDArray[np.bool_], step: int, bins: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean level, noise variance and its weight in bins of equal population of the local mean."""
    from scipy import ndimage  # the door to data loads nothing heavy

    noise = _fourth_difference(image, step)
    smooth = ndimage.gaussian_filter(image, 1.5, mode="nearest")
    inside = slice(2 * step, 2 * step + noise.shape[1])
    level = smooth[:, inside]
    good = ndimage.binary_erosion(mask, np.ones((1, 4 * step + 1)), border_value=1)[:, inside]
    level, noise = level[good], noise[good]
    edges = np.quantile(level, np.linspace(0, 1, bins + 1))
    index = np.clip(np.searchsorted(edges, level, side="right") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    keep = count >= 50
    mean = np.bincount(index, level, bins)[keep] / count[keep]
    variance = np.bincount(index, noise**2, bins)[keep] / count[keep]
    return mean, variance, count[keep].astype(float)


def estimate_noise(image: FloatArray, mask: NDArray[np.bool_] | None = None) -> NoiseModel:
    """Estimate the gain, and the offset that absorbs the readout noise, from one image.

    The variance of the fourth difference along the rows is regressed on the local mean. Only the straight line
    variance = gain·(raw - offset) can be seen, so offset and readout are not separated: the returned `offset` is
    where the line meets zero, which is all that the likelihood needs. Without a significant slope the noise is
    constant (`poisson=False`).

    Prior: the noise is white along a row and its variance a straight line in the mean; the structure is wider than
    about 2 px (Gaussian sigma). `whiteness` in the result says whether the first holds.

    Parameters
    ----------
    image : ndarray (y, x)
        Raw detector values.
    mask : ndarray of bool, optional
        True where a pixel may be used.

    Returns
    -------
    NoiseModel
        With ``source="estimated"``.

    Raises
    ------
    DataError
        Fewer than 400 usable pixels, fewer than 9 per row, or no noise at all.

    Notes
    -----
    Cost: ~60 ns per pixel. Relative error of the gain about 3 % on 512² with a contrast of 2.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> clean = np.tile(np.linspace(20, 200, 256), (256, 1))
    >>> model = estimate_noise(rng.poisson(clean) * 7.0 + 100.0)
    >>> abs(model.gain / 7 - 1) < 0.05, abs(model.offset - 100) < 30
    (True, True)
    """
    image = np.asarray(image, np.float64)
    mask = np.isfinite(image) if mask is None else mask & np.isfinite(image)
    if image.ndim != 2 or image.shape[1] < 9 or mask.sum() < 400:
        raise DataError(
            f"image of shape {image.shape} with {int(mask.sum())} usable pixels",
            needed="at least 400 usable pixels and 9 per row to estimate the noise",
            todo="give gain=, offset= and readout= of the detector instead",
        )
    filled = np.where(mask, image, np.median(image[mask]))
    bins = int(np.clip(mask.sum() // 800, 4, 40))
    mean, variance, count = _variance_curve(filled, mask, 1, bins)
    # differences of a noise-free image are the rounding of its numbers
    rounding = (1e-9 * max(float(np.ptp(image[mask])), 1e-300)) ** 2
    if mean.size == 0 or variance.max() <= rounding:
        raise DataError(
            "an image without noise (its fourth differences vanish)",
            needed="recorded data with counting noise",
            todo="give gain=, offset= and readout= of the detector instead",
        )
    _, variance_2, _ = _variance_curve(filled, mask, 2, bins)
    low = slice(0, max(2, mean.size // 2))  # the dim half of the image: least structure
    whiteness = float(np.median(variance_2[low]) / max(np.median(variance[low]), 1e-300))
    gain, intercept, significant = _fit_line(mean, variance, count)
    if not significant:
        level = float(np.sqrt(np.average(variance, weights=count)))
        return NoiseModel(1.0, 0.0, level, False, "estimated", whiteness)
    return NoiseModel(gain, -intercept / gain, 0.0, True, "estimated", whiteness)


def _fit_line(mean: FloatArray, variance: FloatArray, count: FloatArray) -> tuple[float, float, bool]:
    """Robust line variance = slope·mean + intercept; a slope below 3 of its standard errors isn't significant."""
    design = np.column_stack([mean, np.ones_like(mean)])
    weight = count / np.maximum(variance, 1e-3 * variance.max()) ** 2
    slope = intercept = 0.0
    significant = False
    for _ in range(8):
        normal = design.T @ (design * weight[:, None])
        if mean.size < 3 or np.linalg.cond(normal) > 1e14 * max(1.0, float(np.abs(mean).max()) ** 2):
            return 0.0, float(np.average(variance, weights=count)), False
        slope, intercept = np.linalg.solve(normal, design.T @ (weight * variance))
        model = np.maximum(design @ np.array([slope, intercept]), 1e-3 * variance.max())
        # 1.94 = excess of a squared fourth difference over white chi-square (its samples are correlated)
        sigma = model * np.sqrt(2 * 1.94 / count)
        pull = np.abs(variance - model) / np.maximum(sigma, np.median(np.abs(variance - model)) * 1.4826)
        weight = 1.0 / sigma**2 / np.maximum(1.0, pull / 2.0)
        error = np.sqrt(np.linalg.inv(normal)[0, 0]) * max(
            1.0, float(np.median(np.abs(variance - model) / sigma)) / 0.67
        )
        significant = bool(slope > 3 * error)
    return float(slope), float(intercept), significant
