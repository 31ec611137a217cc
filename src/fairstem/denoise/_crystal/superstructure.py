"""Faint reflections between those of a lattice: the spectrum folded into one reciprocal cell."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fairstem.denoise._crystal.spectrum import Spectrum

__all__ = ["finer_lattice"]

Floats = NDArray[np.float64]

_FRACTIONS = np.array(
    [[1 / 2, 0], [0, 1 / 2], [1 / 2, 1 / 2], [1 / 3, 0], [0, 1 / 3], [1 / 3, 1 / 3], [1 / 3, -1 / 3]]
)
_PER_SIDE = 12  # places of the reciprocal cell that are compared with
_CLEAR_OF_MAIN = 1.2  # resolution elements: nearer to the lattice's own reflections is theirs
_CLEAR_OF_FRACTION = 0.8
_CIRCLE = 1.1
_NODES = 24
_FEWEST = 6  # places to compare with
_MEAN, _SD = 0.596, 0.42  # of log(1 + power) of noise
_SURE = 5.0  # of these standard deviations
_ABOVE_HALF, _ABOVE_THIRD = 1.15, 1.7  # times the highest place that is compared with


def finer_lattice(g: Floats, spectrum: Spectrum, cut: float) -> Floats | None:
    """Return the reciprocal lattice of a superstructure of two or three cells, or None.

    The mean of log(1 + power over background) over the same fraction of all reciprocal cells stands out where
    a superstructure has its reflections. Streaks and lobes of the main reflections lie at other fractions too, which
    is why the fraction has to be above all others.

    Parameters
    ----------
    g
        ``(2, 2)`` reciprocal vectors as rows, cycles per px.
    spectrum
        The spectrum.
    cut
        Frequency up to which the lattice's own reflections were seen.
    """
    reach = int(2 * cut / min(np.hypot(*g.T))) + 2
    elements = g / spectrum.element
    axis = np.arange(-reach, reach + 1)
    whole = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    grid = (np.arange(_PER_SIDE) + 0.5) / _PER_SIDE
    places = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    places = places[_distance(places, elements) > _CLEAR_OF_MAIN]
    best, out = 0.0, None
    for fraction in _FRACTIONS:
        if _distance(fraction[None], elements)[0] < _CLEAR_OF_MAIN:
            continue
        value, count = _folded(fraction, whole, g, spectrum, cut)
        excess = (value - _MEAN) * math.sqrt(count) / _SD
        if count < 2 or excess < max(_SURE, best):
            continue
        away = [_distance(places - sign * fraction, elements) for sign in (1, -1)]
        others = np.concatenate([places[np.minimum(*away) > _CLEAR_OF_FRACTION], _round(fraction, elements)])
        highest = max((_folded(other, whole, g, spectrum, cut)[0] for other in others), default=0.0)
        above = _ABOVE_HALF if np.allclose(2 * fraction % 1, 0) else _ABOVE_THIRD
        if len(others) >= _FEWEST and value > above * highest:
            best, out = excess, fraction
    if out is None:
        return None
    return np.stack([out @ g, g[1]]) if out[0] else np.stack([g[0], out @ g])


def _distance(fraction: Floats, g: Floats) -> Floats:
    """Return how far fractions of a cell are from its corners."""
    near = fraction - np.rint(fraction)
    corners = np.array([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    off = (near[:, None] - corners) @ g
    return np.asarray(np.hypot(off[..., 0], off[..., 1]).min(axis=1))


def _round(fraction: Floats, elements: Floats) -> Floats:
    """Return fractions on a circle about one: on a streak some are as high as the one itself."""
    angle = np.arange(16) * (math.pi / 8)
    circle = _CIRCLE * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    places = fraction + circle @ np.linalg.inv(elements)
    return np.asarray(places[_distance(places, elements) > 1.0])


def _folded(
    fraction: Floats, whole: NDArray[np.int64], g: Floats, spectrum: Spectrum, cut: float
) -> tuple[float, int]:
    """Return the mean of log(1 + power over background) at one fraction of all cells, and of how many."""
    nodes = (whole + fraction) @ g
    length = np.hypot(*nodes.T)
    # the other half plane is the same
    use = (length <= min(1.05 * cut, 0.5)) & ((nodes[:, 1] > 0) | ((nodes[:, 1] == 0) & (nodes[:, 0] > 0)))
    nodes = nodes[use][np.argsort(length[use], kind="stable")[:_NODES]]
    if not len(nodes):
        return 0.0, 0
    return float(np.log1p(spectrum.contrast(nodes)).mean()), len(nodes)
