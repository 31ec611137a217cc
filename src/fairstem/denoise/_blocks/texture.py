"""A filter for textures: a local Wiener gain in each band of spatial frequencies, whatever the direction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from fairstem.denoise._blocks.scales import mirrored_mean
from fairstem.denoise._contracts import Estimate

__all__ = ["Texture", "filter_texture"]

Floats = NDArray[np.float64]

_COARSEST, _FINEST = 64.0, 2.2  # periods, px
_RATIO = np.sqrt(2.0)  # between the periods of neighbouring bands
_WINDOW = 24.0  # Gaussian sigma, px, of the window in which a band's power is measured
_DOUBT = 0.7  # standard errors of its power that a band must exceed the noise by
_DETAIL = 9.0  # px: finer periods are detail that counts of 2 x 2 px may blur
_SPOT = 5.0  # Gaussian sigma, px, of the window in which detail is looked for
_SEEN = 3.0  # standard deviations of noise
_REACH = 8  # px round detail


@dataclass(frozen=True)
class Texture:
    """The filtered image, and where it has power in detail that counts of 2 x 2 px may blur."""

    estimate: Estimate
    detail: NDArray[np.bool_]


@dataclass(frozen=True)
class _Band:
    """One band: its period (px), its pixels, and what of white noise of unit variance it has."""

    period: float
    values: Floats
    own: float  # derivative of a pixel by its own count
    power: float


def _bands(counts: Floats) -> Iterator[_Band]:
    """Take an image apart into bands whose sum it is; the first holds all periods above the coarsest."""
    spectrum = fft.dctn(counts, norm="ortho")  # the image goes on mirrored
    qy, qx = (np.arange(n) / (2 * n) for n in counts.shape)
    q = np.hypot(qy[:, None], qx)
    octave = np.log(np.maximum(q, 1e-9) * _COARSEST) / np.log(_RATIO)
    last = int(np.ceil(np.log(_COARSEST / _FINEST) / np.log(_RATIO)))
    for n in range(last + 1):
        # the first band goes on to the mean, the last to the finest detail
        away = np.clip(octave - n, 0.0 if n == 0 else -1.0, 0.0 if n == last else 1.0)
        gain = np.cos(0.5 * np.pi * away) ** 2
        values = fft.idctn(spectrum * gain, norm="ortho")
        yield _Band(_COARSEST / _RATIO**n, values, float(gain.mean()), float((gain * gain).mean()))


def filter_texture(counts: Floats) -> Texture:
    """Filter each band by what of its local power isn't noise."""
    mean, leverage = np.zeros(counts.shape), np.zeros(counts.shape)
    fine, own = np.zeros(counts.shape), 0.0
    variance = np.zeros(0)
    for band in _bands(counts):
        if variance.size == 0:
            mean += band.values
            leverage += band.own
            variance = np.maximum(mirrored_mean(counts, _WINDOW), 1e-9)
            continue
        window = max(_WINDOW, band.period)
        noise = band.power * variance
        # standard error of the power of noise: the window holds so many independent values
        error = np.sqrt(2.0 / (4 * np.pi * window**2 * band.power))
        power = np.maximum(mirrored_mean(band.values**2, window), 1e-12)
        gain = np.maximum(1.0 - noise * (1.0 + _DOUBT * error) / power, 0.0)
        mean += gain * band.values
        # the gain follows the counts too: by 2 (1 - g) of a pixel's weight in its own window
        leverage += gain * band.own + (1.0 - gain) * (gain > 0) / (np.pi * window**2)
        if band.period < _DETAIL:
            fine += band.values
            own += band.own
    return Texture(Estimate(mean, leverage), _detail(fine, own, variance))


def _detail(fine: Floats, own: float, mean: Floats) -> NDArray[np.bool_]:
    """Return where the fine bands have more power than the noise of the surroundings, as bright spots have too."""
    excess = ndimage.gaussian_filter(fine**2, _SPOT) / (own * mean) - 1.0
    # few counts are not Gaussian: their squares scatter more
    error = np.sqrt((2.0 / own + 1.0 / mean) / (4 * np.pi * _SPOT**2))
    return np.asarray(ndimage.maximum_filter(excess > _SEEN * error, 2 * _REACH + 1), bool)
