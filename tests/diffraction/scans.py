"""Small scans whose truth is known: discs that move, crystals that repeat."""

import numpy as np


def moving_disc(
    shifts_y, shifts_x, *, detector=(32, 32), radius=8.0, edge=0.7, center=None, dose=4000.0, rng=None
):
    """Patterns of a smooth-edged disc, moved by shifts in px; expected values, or counts with `rng`."""
    center = [(n - 1) / 2 for n in detector] if center is None else center
    y, x = np.indices(detector)
    dy = y - center[0] - np.asarray(shifts_y)[..., None, None]
    dx = x - center[1] - np.asarray(shifts_x)[..., None, None]
    disc = 1 / (1 + np.exp((np.hypot(dy, dx) - radius) / edge))
    disc *= dose / disc.sum(axis=(-2, -1), keepdims=True)
    return disc if rng is None else rng.poisson(disc)


def crystal(shape=(40, 44), vectors=((0.3, 9.1), (8.6, -0.4)), *, detector=(24, 24), dose=3000.0, rng=None):
    """Patterns that depend on the place in the unit cell; the mean over a cell is known.

    Returns the scan and the pattern averaged over a unit cell (expected values).
    """
    y, x = np.mgrid[: shape[0], : shape[1]]
    u, v = np.moveaxis(np.stack([y, x], -1) @ np.linalg.inv(np.array(vectors)), -1, 0)
    waves = [
        np.cos(2 * np.pi * u),
        np.cos(2 * np.pi * v),
        np.cos(2 * np.pi * (u + v)),
        np.sin(2 * np.pi * (u - v)),
    ]
    ky, kx = np.indices(detector) - np.array(detector)[:, None, None] / 2
    disc = 1.0 * (np.hypot(ky, kx) < 7) + 0.05
    parts = [
        disc * (0.3 * np.cos(0.3 * ky)),
        disc * 0.3 * np.cos(0.3 * kx),
        0.1 * disc * kx / 12,
        0.1 * disc * ky / 12,
    ]
    scan = disc + sum(w[..., None, None] * p for w, p in zip(waves, parts, strict=True))
    scale = dose / disc.sum()
    scan = scale * scan
    return (scan if rng is None else rng.poisson(scan)), scale * disc
