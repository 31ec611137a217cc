"""Whole unit cells of a scan: which positions belong to them, and with which weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.diffraction._cells.lattice import ScanLattice, find_lattice
from fairstem.errors import DataError, DataTypeError
from fairstem.priors import PriorCheck
from fairstem.signals import open_data

__all__ = ["UnitCells", "cells_on_lattice", "find_unit_cells"]

_ORIGINS = 6  # along each vector, of which the one with most whole cells is taken
_SAMPLES = 6  # along each axis of a pixel
_ALONG_CELL = 9  # points along each edge of a cell that have to lie in the region
_ORDERS = 3


@dataclass(frozen=True)
class UnitCells:
    """Whole unit cells of a scan, as weights of its positions; made by `find_unit_cells`.

    Parameters
    ----------
    weights
        ``(scan_y, scan_x)``: the part of each position's pixel inside the cells, corrected in the last percents so
        that a periodic function has exactly its mean over a cell. 0 outside.
    vectors
        Lattice vectors, rows (y, x) in scan px.
    vectors_sd
        Standard errors of their elements.
    origin
        Corner (y, x) of the cells in px.
    cells
        ``(n, 2)``: the cells, as multiples of the two vectors from the origin.
    leakage
        What is left of the lattice's harmonics in the average (0: none of them, 1: all), with vectors that are
        wrong by their standard error.
    priors
        The assumptions and whether the data support them.
    """

    weights: NDArray[np.float64]
    vectors: NDArray[np.float64]
    vectors_sd: NDArray[np.float64]
    origin: tuple[float, float]
    cells: NDArray[np.int64]
    leakage: float
    priors: tuple[PriorCheck, ...] = ()

    @property
    def number(self) -> int:
        """How many cells there are."""
        return len(self.cells)


def find_unit_cells(image: Any, number: int | str = "all", *, mask: Any = None) -> UnitCells:
    """Find whole unit cells in a virtual image, to average diffraction patterns over.

    Parameters
    ----------
    image
        ``(scan_y, scan_x)``, such as a `virtual_image`; HyperSpy signal, numpy or dask array. Each cell should span
        at least 3 positions.
    number
        ``"all"`` whole cells in the region, or how many: those nearest its middle.
    mask
        Region the cells have to lie in, bool ``(scan_y, scan_x)``; by default the whole scan.

    Returns
    -------
    UnitCells
        Pass it to ``pacbed(scan, unit_cells=...)``.

    Raises
    ------
    DataError
        No lattice stands out of the noise; no whole cell fits, or fewer than `number`; NaN; a mask of another shape.
    DataTypeError
        A mask that isn't bool, or a number that is no whole number.

    Notes
    -----
    Prior: the specimen repeats itself. Lattice: peaks of the power spectrum (Hann window) that stand 25 times above
    white noise, and the coarsest reciprocal lattice that explains them. The average over whole cells cut out of a
    pixel grid would keep a little of the lattice's harmonics (edge pixels, aliasing); the weights are changed as
    little as possible (least squares) so that nothing is left of those up to the third order.

    Cost: FFT of the image padded twice, O(n log n). The parameter that matters is `number`: few cells show one
    place, many average over more electrons.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:60, :60]
    >>> image = np.cos(2 * np.pi * x / 9.3) + np.cos(2 * np.pi * y / 9.3)
    >>> cells = find_unit_cells(image)
    >>> cells.number, [round(float(v), 1) for v in np.linalg.norm(cells.vectors, axis=1)]
    (36, [9.3, 9.3])
    >>> bool(abs((cells.weights * image).sum()) < 1e-3 * cells.weights.sum())
    True
    """
    array = open_data(image, ndim=2).array
    values = np.asarray(array, dtype=np.float64) if array.dtype.kind != "c" else None
    if values is None:
        raise DataTypeError("a complex image", needed="real intensities", todo="pass abs(image)**2")
    if not np.isfinite(values).all():
        raise DataError(
            f"{int((~np.isfinite(values)).sum())} NaN or infinite values in the image", "finite values"
        )
    return cells_on_lattice(find_lattice(values), values.shape, number, _region(mask, values.shape))


def _region(mask: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(shape, bool)
    region = np.asarray(mask)
    if region.dtype != bool:
        raise DataTypeError(
            f"a mask of dtype {region.dtype}", needed="bool", todo="compare, such as mask > 0"
        )
    if region.shape != shape:
        raise DataError(f"a mask of shape {region.shape}", needed=f"the scan's shape {shape}")
    return region


def cells_on_lattice(
    lattice: ScanLattice, shape: tuple[int, ...], number: int | str, region: NDArray[np.bool_]
) -> UnitCells:
    """Choose whole cells of a lattice inside a region, and the weights of their positions."""
    wanted = _wanted(number)
    vectors = lattice.vectors
    tries = [
        i / _ORIGINS * vectors[0] + j / _ORIGINS * vectors[1]
        for i in range(_ORIGINS)
        for j in range(_ORIGINS)
    ]
    found = [_whole_cells(origin, vectors, region) for origin in tries]
    best = int(np.argmax([len(cells) for cells in found]))
    cells, origin = found[best], tries[best]
    if len(cells) < max(wanted or 1, 1):
        raise DataError(
            f"{wanted or 1} unit cells of {np.linalg.norm(vectors[0]):.1f} × {np.linalg.norm(vectors[1]):.1f} px in a "
            f"region that holds {len(cells)}",
            needed="a region that holds as many whole cells",
            todo="ask for fewer cells, or widen the mask",
        )
    if wanted is not None:
        middles = (cells + 0.5) @ vectors
        cells = cells[
            np.argsort(np.linalg.norm(middles - middles.mean(axis=0), axis=1), kind="stable")[:wanted]
        ]
    weights = _pixel_shares(origin, vectors, cells, shape)
    weights = _without_harmonics(weights, vectors)
    leakage = _leakage(weights, vectors + lattice.vectors_sd)
    return UnitCells(
        weights,
        vectors,
        lattice.vectors_sd,
        (float(origin[0]), float(origin[1])),
        cells,
        leakage,
        (lattice.prior,),
    )


def _wanted(number: int | str) -> int | None:
    if number == "all":
        return None
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise DataTypeError(f"unit_cells={number!r}", needed="a whole number of cells, or 'all'")
    if number < 1:
        raise DataError(f"unit_cells={number}", needed="at least 1 cell")
    return int(number)


def _whole_cells(
    origin: NDArray[np.float64], vectors: NDArray[np.float64], region: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the cells (i, j) all of whose points lie on pixels of the region."""
    shape = np.array(region.shape)
    corners = np.array([[0, 0], [shape[0], 0], [0, shape[1]], shape]) - 0.5 - origin
    bounds = corners @ np.linalg.inv(vectors)
    low, high = np.floor(bounds.min(axis=0)).astype(int), np.ceil(bounds.max(axis=0)).astype(int)
    cells = np.stack(
        np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), -1
    )
    cells = cells.reshape(-1, 2)
    edge = np.linspace(0, 1, _ALONG_CELL)
    inside = np.stack(np.meshgrid(edge, edge, indexing="ij"), axis=-1).reshape(-1, 2)
    ok = np.ones(len(cells), bool)
    for point in inside:
        at = (cells + point) @ vectors + origin
        on = ((at > -0.5 - 1e-9) & (at < shape - 0.5 + 1e-9)).all(axis=1)
        pixel = np.clip(np.round(at).astype(int), 0, shape - 1)
        ok &= on & region[pixel[:, 0], pixel[:, 1]]
    return cells[ok].astype(np.int64)


def _pixel_shares(
    origin: NDArray[np.float64],
    vectors: NDArray[np.float64],
    cells: NDArray[np.int64],
    shape: tuple[int, ...],
) -> NDArray[np.float64]:
    """Return which part of every pixel lies inside the cells."""
    low, high = cells.min(axis=0), cells.max(axis=0)
    chosen = np.zeros(high - low + 3, bool)
    chosen[tuple((cells - low + 1).T)] = True
    back = np.linalg.inv(vectors)
    grid = np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1) - origin
    out = np.zeros(shape)
    offsets = (np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5
    for dy in offsets:
        for dx in offsets:
            at = np.floor((grid + np.array([dy, dx])) @ back).astype(np.int64) - low + 1
            at = np.clip(at, 0, np.array(chosen.shape) - 1)
            out += chosen[at[..., 0], at[..., 1]]
    return out / _SAMPLES**2


def _harmonics(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lattice's frequencies (y, x) that a pixel grid can hold, one of each pair."""
    span = range(-_ORDERS, _ORDERS + 1)
    hk = np.array([(h, k) for h in span for k in span if (h, k) > (0, 0)])
    g = hk @ np.linalg.inv(vectors).T
    return np.asarray(g[(np.abs(g) < 0.5).all(axis=1)])


def _waves(weights: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cosines and sines of the harmonics at the positions with weight, (wave, position)."""
    at = np.argwhere(weights > 0)
    phase = 2 * np.pi * _harmonics(vectors) @ at.T
    return np.concatenate([np.cos(phase), np.sin(phase)])


def _without_harmonics(weights: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Change the weights as little as possible so that every harmonic averages to 0."""
    waves = _waves(weights, vectors)
    flat = weights[weights > 0]
    rows = np.concatenate([np.ones((1, flat.size)), waves])
    target = -rows @ flat
    target[0] = 0.0  # the sum stays
    change = np.linalg.lstsq((rows * flat) @ rows.T, target, rcond=1e-10)[0]
    out = weights.copy()
    out[weights > 0] = flat * (1 + change @ rows)
    return out


def _leakage(weights: NDArray[np.float64], vectors: NDArray[np.float64]) -> float:
    waves = _waves(np.where(weights != 0, 1.0, 0.0), vectors) @ weights[weights != 0]
    half = len(waves) // 2
    return float(np.hypot(waves[:half], waves[half:]).max(initial=0.0) / weights.sum())
