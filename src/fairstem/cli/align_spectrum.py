"""The temporal spectrum of displacements, and the lines that stand out of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.special import gammainccinv, gammaincinv

from fairstem.cli.registered import Spectrum

__all__ = ["spectrum_of"]

Floats = NDArray[np.float64]
_FALSE_ALARM = 1e-3  # for all frequencies together


def spectrum_of(rows: Floats, row_error: Floats | None, used: Sequence[int]) -> Spectrum:
    """Return the spectrum of displacements in time, the mean over frames.

    Prior: rows follow one another at equal times, and the distortion is stationary.

    Parameters
    ----------
    rows
        ``(frame, 2, y)`` px.
    row_error
        The same shape, px, or None.
    used
        Frames to take.

    Returns
    -------
    Spectrum
        Without what a straight line per frame explains. Lines are frequencies above their surroundings
        that noise would reach in one series of a thousand.

    Notes
    -----
    A Hann window keeps slow drift out of the other frequencies; a line then covers three of them. The
    mean of K independent periodograms about their level follows a Gamma(K)/K distribution, which sets
    what counts as a line. Cost: ``O(frames * rows * log(rows))``.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> time = np.arange(256) / 256
    >>> rows = rng.normal(0, 0.1, (8, 2, 256)) + np.sin(2 * np.pi * (20 * time + rng.random((8, 1, 1))))
    >>> spectrum_of(rows, None, range(8)).lines
    (20.0,)
    """
    chosen = rows[list(used)]
    n = chosen.shape[-1]
    time = np.arange(n) - (n - 1) / 2
    flat = chosen - chosen.mean(axis=-1, keepdims=True)
    flat -= (flat @ time)[..., None] / (time @ time) * time
    window = np.hanning(n + 2)[1:-1]
    each = np.abs(np.fft.rfft(flat * window, axis=-1)) ** 2 / (n * (window @ window))
    each[..., 1 : (n + 1) // 2] *= 2  # the other half of the frequencies is the mirror image
    power = each.mean(axis=0)
    frequency = np.arange(power.shape[-1], dtype=np.float64)
    noise = None
    if row_error is not None:
        bars = row_error[list(used)]
        squares = np.where(np.isfinite(bars), bars, np.nan) ** 2
        if np.isfinite(squares).any(axis=(0, 2)).all():
            noise = 2 * np.nanmean(squares, axis=(0, 2)) / n
    return Spectrum(frequency, power, noise, _lines(frequency, power, len(chosen)))


def _lines(frequency: Floats, power: Floats, frames: int) -> tuple[float, ...]:
    """Return local maxima that stand out of the median of their surroundings."""
    if power.shape[-1] < 32:
        return ()
    # the median of a Gamma(K)/K variable is a little below its mean
    limit = gammainccinv(frames, _FALSE_ALARM / power.size) / gammaincinv(frames, 0.5)
    found: set[float] = set()
    for values in power:
        level = median_filter(values, 21, mode="nearest")
        top = np.flatnonzero(
            (values[1:-1] > values[:-2])
            & (values[1:-1] >= values[2:])
            & (values[1:-1] > limit * np.maximum(level[1:-1], 1e-30))
        )
        # below half a window, the steep rise of slow drift is no line
        found |= {float(frequency[k + 1]) for k in top if k + 1 >= 8}
    return tuple(sorted(found))
