"""Means in wide Gaussian windows, at the cost of a few passes over the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["block_mean", "to_pixels", "window_mean"]

Floats = NDArray[np.float64]
_FINE = 4.0  # blocks in a window (sigma): what is cut into blocks then is smooth enough
_NARROW = 6.0  # px: narrower windows are computed pixel by pixel


def window_mean(values: Floats, sigma: float) -> Floats:
    """Return the mean in a Gaussian window of `sigma` px round each pixel; the border is continued."""
    if sigma < _NARROW:
        return np.asarray(ndimage.gaussian_filter(values, sigma, mode="nearest"))
    block = int(sigma / _FINE) + 1
    # the blocks and the straight lines between them widen the window
    width = np.sqrt(max(sigma**2 - (block**2 - 1) / 12 - block**2 / 6, 1.0)) / block
    coarse = ndimage.gaussian_filter(block_mean(values, block), width, mode="nearest")
    return to_pixels(coarse, values.shape, block)


def block_mean(values: NDArray[Any], block: int) -> NDArray[Any]:
    """Return the means over blocks of `block` px a side; the last ones may be smaller."""
    edges = [np.arange(0, n, block) for n in values.shape]
    sums = np.add.reduceat(np.add.reduceat(values, edges[0], axis=0), edges[1], axis=1)
    sizes = [np.diff(np.append(e, n)).astype(np.float64) for e, n in zip(edges, values.shape, strict=True)]
    return np.asarray(sums / np.outer(*sizes))


def to_pixels(coarse: Floats, shape: tuple[int, ...], block: int) -> Floats:
    """Return values at pixels from those at blocks, linearly in between."""
    rows, columns = (_lines(n, cells, block) for n, cells in zip(shape, coarse.shape, strict=True))
    return np.asarray(rows @ coarse @ columns.T)


def _lines(n: int, cells: int, block: int) -> Floats:
    """Return the matrix (n, cells) of linear interpolation; constant beyond the middle of the first and last."""
    at = np.clip((np.arange(n) - (block - 1) / 2) / block, 0, cells - 1)
    low = np.minimum(at.astype(int), max(cells - 2, 0))
    matrix = np.zeros((n, cells))
    matrix[np.arange(n), low] = 1.0 - (at - low)
    if cells > 1:
        matrix[np.arange(n), low + 1] += at - low
    return matrix
