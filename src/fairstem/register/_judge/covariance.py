"""Autocovariance of displacements: along rows, over frames, with undetermined rows left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "autocovariance",
    "detrended",
    "facing_one_way",
    "radial_mean",
    "scatter_of_mean",
    "seen_by_others",
]

Floats = NDArray[np.float64]


def facing_one_way(
    u: Floats, v: Floats, good: NDArray[np.bool_], turns: Floats
) -> tuple[Floats, Floats, NDArray[np.bool_], Floats]:
    """Turn scans that differ by half a turn into the same direction: their rows are parallel."""
    turned = np.asarray(np.round(np.mod(turns, 180.0), 6) % 180.0, dtype=np.float64)
    flip = np.abs(np.mod(turns - turned + 90.0, 360.0) - 90.0) > 90.0
    u[flip], v[flip], good[flip] = -u[flip][:, :, ::-1], v[flip][:, :, ::-1], good[flip][:, ::-1]
    return u, v, good, turned


def detrended(u: Floats, good: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return rows without their mean and trend over the rows that are determined, and slopes (k, 2)."""
    y = np.arange(u.shape[2]) - (u.shape[2] - 1) / 2
    out, slopes = np.zeros_like(u), np.zeros(u.shape[:2])
    for k in range(len(u)):
        at = good[k]
        if at.sum() < 3:
            continue
        design = np.column_stack([np.ones(at.sum()), y[at]])
        fit = np.linalg.lstsq(design, u[k][:, at].T, rcond=None)[0]
        out[k][:, at] = u[k][:, at] - (design @ fit).T
        slopes[k] = fit[1]
    return out, slopes


def scatter_of_mean(flat: Floats, good: NDArray[np.bool_], share: Floats) -> Floats:
    """Return (2, lag): autocovariance of the weighted mean over frames, from their scatter."""
    weight = share[:, None] * good
    total = weight.sum(axis=0)
    mean = np.einsum("ky,kay->ay", weight, flat) / np.where(total > 0, total, 1.0)
    effective = total**2 / np.maximum((weight**2).sum(axis=0), 1e-300)
    several = effective > 1.5  # a row that one frame alone determines has no scatter
    off = np.where((good & several)[:, None], flat - mean, 0.0)
    return autocovariance(off, good & several, share) * float(np.mean(1 / (effective[several] - 1)))


def autocovariance(off: Floats, good: NDArray[np.bool_], share: Floats) -> Floats:
    """Return (2, lag): weighted mean over frames and pairs of rows of the products."""
    ny = off.shape[2]
    size = 2 * ny
    spectra = np.abs(np.fft.rfft(off, size)) ** 2
    pairs = np.abs(np.fft.rfft(good.astype(np.float64), size)) ** 2
    products = np.fft.irfft(np.einsum("k,kaf->af", share, spectra), size)[:, :ny]
    number = np.fft.irfft(share @ pairs, size)[:ny]
    # lags with next to no pairs of rows are noise: the last good one holds beyond
    enough = number > 0.02 * number[0]
    last = int(np.flatnonzero(enough).max()) + 1
    return np.asarray(products[:, :last] / np.maximum(number[:last], 1e-9))


def seen_by_others(flat: Floats, turns: Floats, row_length: int) -> Floats:
    """Return rows averaged over what one row of the scan most turned against theirs crosses."""
    out = np.empty_like(flat)
    ny = flat.shape[2]
    for angle in np.unique(turns):
        across = np.abs(np.sin(np.radians(turns - angle))).max()
        window = int(np.clip(round(row_length * across), 1, ny))
        own = turns == angle
        sums = np.concatenate([np.zeros((own.sum(), 2, 1)), np.cumsum(flat[own], axis=2)], axis=2)
        start = np.clip(np.arange(ny) - window // 2, 0, ny - window)
        out[own] = (sums[:, :, start + window] - sums[:, :, start]) / window
    return out


def radial_mean(products: Floats, ny: int, nx: int) -> Floats:
    """Return (2, lag): mean products (2, 2 ny, 2 nx) by distance, up to half the smaller side."""
    overlap = np.zeros((2 * ny, 2 * nx))
    overlap[:ny, :nx] = 1.0
    number = np.fft.ifft2(np.abs(np.fft.fft2(overlap)) ** 2).real
    dy, dx = np.fft.fftfreq(2 * ny, 1 / (2 * ny)), np.fft.fftfreq(2 * nx, 1 / (2 * nx))
    distance = np.rint(np.hypot(dy[:, None], dx[None])).astype(np.intp)
    inside = (distance <= max(min(ny, nx) // 2, 1)) & (number > 0.5)
    count = np.bincount(distance[inside], number[inside])
    return np.stack([np.bincount(distance[inside], p[inside]) / count for p in products])
