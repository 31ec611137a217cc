"""A first displacement of a strongly deformed crystal, grown outward from its best place.

Prior: the crystal repeats itself from each box to the next, so the displacement between neighbours is
a fraction of a cell, however large it becomes across the image.
"""

from __future__ import annotations

import heapq
import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

__all__ = ["grow_displacement"]

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]
_BAND = 0.35  # cycles/px
_CANDIDATES, _STRONGEST = 24, 12
_COHERENT = 0.9  # above this share of coherent power the whole image fits one undeformed cell
_GRID = 32  # steps a cell of the search
_FEWEST_BOXES = 5  # about three cells: fewer can't drift apart from each other by half a cell
_STEP = 0.3  # of a cell: the most that neighbours may differ


def grow_displacement(k: Floats, weight: Floats, size: tuple[int, int], vectors: Floats) -> Floats | None:
    """Return the displacement of each box ``(by, bx, 2)`` in px; None where no start is needed.

    Notes
    -----
    Cost: ``O(24 pixels + 12·32² boxes)``.
    """
    orders = _lowest_orders(vectors)
    if len(orders) < 2 or min(size) < _FEWEST_BOXES:
        return None
    g = orders @ np.linalg.inv(vectors).T
    waves, noise, support = _demodulated(k, weight, size, g)
    power = (np.abs(waves) ** 2 * support[..., None]).sum(axis=(0, 1)) / support.sum() - noise
    coherent = np.abs((waves * support[..., None]).sum(axis=(0, 1)) / support.sum()) ** 2
    best = np.argsort(-power, kind="stable")[:_STRONGEST]
    best = best[power[best] > 0]
    if len(best) == 0 or coherent[best].sum() > _COHERENT * power[best].sum():
        return None
    grown = _grown(waves[..., best], support, orders[best])
    return np.asarray(grown @ vectors)


def _lowest_orders(vectors: Floats) -> NDArray[np.int64]:
    """One of each pair of opposite orders, by length."""
    h, k = np.meshgrid(np.arange(-6, 7), np.arange(-6, 7), indexing="ij")
    orders = np.stack([h.ravel(), k.ravel()], axis=1)
    orders = orders[(orders[:, 0] > 0) | ((orders[:, 0] == 0) & (orders[:, 1] > 0))]
    length = np.hypot(*(orders @ np.linalg.inv(vectors).T).T)
    orders = orders[length < _BAND][np.argsort(length[length < _BAND], kind="stable")]
    return np.asarray(orders[:_CANDIDATES], dtype=np.int64)


def _demodulated(
    k: Floats, weight: Floats, size: tuple[int, int], g: Floats
) -> tuple[Complex, Floats, Floats]:
    """Local Fourier coefficients (by, bx, h), the noise in their power, and the weight of each box."""
    ny, nx = k.shape
    by, bx = size
    edges_y = [-(-i * ny // by) for i in range(by)]
    edges_x = [-(-i * nx // bx) for i in range(bx)]
    mean = float((k * weight).sum() / weight.sum())
    signal = (k - mean) * weight
    along_y = np.exp(-2j * math.pi * np.outer(np.arange(ny), g[:, 0]))
    along_x = np.exp(-2j * math.pi * np.outer(np.arange(nx), g[:, 1]))
    rows = np.empty((ny, bx, len(g)), dtype=np.complex128)
    for j, (low, high) in enumerate(zip(edges_x, [*edges_x[1:], nx], strict=True)):
        rows[:, j] = signal[:, low:high] @ along_x[low:high]
    waves = np.add.reduceat(rows * along_y[:, None], edges_y, axis=0)
    support = np.add.reduceat(np.add.reduceat(weight, edges_y, axis=0), edges_x, axis=1)
    # boxes cut cells: neighbours are added with a smooth weight before phases mean anything
    total = np.maximum(gaussian_filter(support, 1.0), 1e-3 * support.max())
    smooth = gaussian_filter(waves.real, (1, 1, 0)) + 1j * gaussian_filter(waves.imag, (1, 1, 0))
    noise = mean * float((support / (4 * math.pi) / total**2 * support).sum() / support.sum())
    return smooth / total[..., None], np.full(len(g), noise), support


def _grown(waves: Complex, support: Floats, orders: NDArray[np.int64]) -> Floats:
    """Displacement in cells, box after box, the strongest neighbour first."""
    by, bx = support.shape
    strength = (np.abs(waves) ** 2).sum(axis=-1) * (support > 0.3 * support.max())
    axis = np.arange(_GRID) / _GRID
    shifts = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    turns = np.exp(2j * math.pi * (shifts @ orders.T))
    found = np.full((by, bx, 2), np.nan)
    first = np.unravel_index(int(np.argmax(strength)), strength.shape)
    template = np.zeros(len(orders), dtype=np.complex128)
    queue: list[tuple[float, int, int, float, float]] = [(0.0, int(first[0]), int(first[1]), 0.0, 0.0)]
    while queue:
        _, y, x, py, px = heapq.heappop(queue)
        if not math.isnan(found[y, x, 0]):
            continue
        near = np.array([py, px])
        if strength[y, x] > 0:
            if template.any():
                near = _best_shift(waves[y, x] * template.conj(), turns, shifts, near)
            template += waves[y, x] * np.exp(2j * math.pi * (orders @ near))
        found[y, x] = near
        for ny, nx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= ny < by and 0 <= nx < bx and math.isnan(found[ny, nx, 0]):
                heapq.heappush(queue, (-float(strength[ny, nx]), ny, nx, float(near[0]), float(near[1])))
    return found


def _best_shift(product: Complex, turns: Complex, shifts: Floats, near: Floats) -> Floats:
    """The shift close to `near` that turns all orders into phase."""
    match = (turns @ product).real
    away = shifts - near
    away -= np.rint(away)
    match[np.hypot(away[:, 0], away[:, 1]) > _STEP] = -np.inf
    return np.asarray(near + away[int(np.argmax(match))])
