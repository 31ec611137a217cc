"""Scans with a known geometry: discs with interference, descan, ellipse, counting noise."""

from __future__ import annotations

import numpy as np
from scipy.special import erfc


def expm(p, q):
    size = np.hypot(p, q)
    return np.cosh(size) * np.eye(2) + (np.sinh(size) / size if size else 1.0) * np.array([[p, q], [q, -p]])


def disc(offsets, radius, width=0.8):
    """Blurred disc; ``offsets`` (2, k_y, k_x) from its centre."""
    r = np.hypot(offsets[0], offsets[1])
    return 0.5 * erfc((r + width**2 / (2 * radius) - radius) / (np.sqrt(2) * width))


def pattern(
    detector=(64, 64),
    center=(31.3, 32.6),
    radius=18.0,
    ellipse=(0.0, 0.0),
    width=0.8,
    phase=0.0,
    spacing=None,
    asymmetry=0.4,
):
    """Expected pattern: bright-field disc with fringes and a slope of intensity, dark-field discs around it.

    The fringes come from overlapping discs at ±spacing, so the intensity inside is neither even nor symmetric.
    """
    flat = np.indices(detector, dtype=float) - np.asarray(center, dtype=float)[:, None, None]
    k = np.tensordot(expm(*ellipse), flat, axes=1)
    spacing = 0.8 * radius if spacing is None else spacing
    inside = disc(k, radius, width)
    out = inside * (
        1 + asymmetry * k[1] / radius + 0.3 * asymmetry * np.cos(2 * np.pi * k[0] / (0.7 * radius) + phase)
    )
    for h in range(-3, 4):
        for m in range(-3, 4):
            if h or m:
                moved = k - np.array([h, m])[:, None, None] * spacing
                away = 0.12 * np.exp(-0.15 * (h * h + m * m))
                out = out + away * disc(moved, radius, width) * (1 + 0.5 * np.cos(phase + h - 2 * m))
    return out / out.sum()


def scan(
    shape=(8, 8),
    dose=2000.0,
    descan=((0.0, 0.0), (0.0, 0.0)),
    seed=0,
    poisson=True,
    center=(31.3, 32.6),
    **kwargs,
):
    """Counts (scan_y, scan_x, k_y, k_x): every position its own phase of the fringes and its own centre."""
    rng = np.random.default_rng(seed)
    out = []
    for y, x in np.ndindex(*shape):
        at = (y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2)
        moved = tuple(center[i] + descan[i][0] * at[0] + descan[i][1] * at[1] for i in range(2))
        expected = dose * pattern(center=moved, phase=rng.uniform(0, 2 * np.pi), **kwargs)
        out.append(rng.poisson(expected) if poisson else expected)
    stack = np.array(out).reshape(*shape, *out[0].shape)
    return stack.astype(np.uint16) if poisson else stack
