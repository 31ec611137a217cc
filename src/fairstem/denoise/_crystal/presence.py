"""Where in an image a lattice is: the share of the local contrast that its reflections carry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fairstem.denoise._contracts import FoundLattice
from fairstem.denoise._windows import block_mean, to_pixels, window_mean

__all__ = ["presence"]

Floats = NDArray[np.float64]
_CELLS = 1.0  # width (sigma) of the windows: narrower sees edges, wider tells lattices apart
_MOST_ORDERS = 3
_FINEST = 0.3  # cycles per px
_NODES = 18  # the lowest


def presence(k: Floats, lattice: FoundLattice, free: Floats) -> Floats:
    """Return the share of the local variance that the reflections of a lattice carry.

    The counts are demodulated at each reflection and averaged in windows of a cell: another
    lattice, or the same turned, averages out. Counting noise is taken off both powers.

    Parameters
    ----------
    k
        ``(y, x)`` kernel counts.
    lattice
        The lattice.
    free
        ``(y, x)`` 0 to 1: what is looked at.

    Returns
    -------
    ndarray
        ``(y, x)``: 1 where all contrast is this lattice's, 0 where none is or there is no contrast.
    """
    period = float(np.sqrt(abs(np.linalg.det(lattice.vectors))))
    window = max(_CELLS * period, 6.0)
    block = max(1, int(window / 4))
    mean = window_mean(k * free, window) / np.maximum(window_mean(free, window), 1e-3)
    rest = (k - mean) * free
    width = window / block
    seen = np.maximum(_smooth(block_mean(free, block), width), 1e-3)
    # the window takes a little of the contrast along with the mean; what it is does not matter here
    noise = np.maximum(_smooth(block_mean(mean * free, block), width) / seen, 1e-12)
    power = _smooth(block_mean(rest * rest, block), width) / seen
    variance = power - noise
    coherent = np.zeros_like(variance)
    squares = 4 * np.pi * window**2
    single = rest.astype(np.float32)
    for g in _nodes(lattice):
        wave = _demodulated(single, g, block)
        amplitude = (_smooth(wave.real, width) ** 2 + _smooth(wave.imag, width) ** 2) / seen**2
        coherent += 2 * (amplitude - noise / squares)
    error = np.sqrt(2.0 / squares) * power
    contrast = np.maximum(np.maximum(variance, 3 * error), np.finfo(np.float64).tiny)
    share = np.clip(coherent / contrast, 0.0, 1.5)
    return to_pixels(share, k.shape, block)


def _nodes(lattice: FoundLattice) -> Floats:
    """Return the reflections (n, 2) of low order in cycles per px, one of each pair g, -g."""
    reciprocal = np.linalg.inv(lattice.vectors).T
    order = range(-_MOST_ORDERS, _MOST_ORDERS + 1)
    index = np.array([(h, j) for h in order for j in order if (h, j) > (0, 0)])
    g = index @ reciprocal
    fine = np.hypot(*g.T)
    g = g[fine < _FINEST]
    return np.asarray(g[np.argsort(np.hypot(*g.T), kind="stable")[:_NODES]])


def _demodulated(rest: NDArray[np.float32], g: Floats, block: int) -> NDArray[np.complex128]:
    """Return the means over blocks of the image times exp(-2 pi i g r)."""
    waves = [
        np.exp(-2j * np.pi * f * np.arange(n)).astype(np.complex64)
        for f, n in zip(g, rest.shape, strict=True)
    ]
    wave = rest * waves[1][None] * waves[0][:, None]
    return np.asarray(block_mean(wave, block), dtype=np.complex128)


def _smooth(values: Floats, width: float) -> Floats:
    return np.asarray(ndimage.gaussian_filter(values, width, mode="constant"))
