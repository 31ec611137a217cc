"""The smallest orthogonal cell of a crystal with a given direction along the beam."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.simulate.structures import Structure

__all__ = ["orthogonal_cell"]

_EXACT = 1e-5  # strain that is rounding of the given coordinates
_LONGEST = 4.0  # nm: a cell wider than this is not small


def orthogonal_cell(
    numbers: NDArray[np.int64],
    fractional: NDArray[np.float64],
    edges_nm: NDArray[np.float64],
    thermal_nm2: NDArray[np.float64],
    *,
    name: str,
    zone: NDArray[np.int64],
    x_axis: NDArray[np.int64] | None,
    max_strain: float,
) -> Structure:
    """Return the crystal in its smallest orthogonal cell with `zone` along z; see `structures.crystal`."""
    lattice = _primitive(numbers, fractional, thermal_nm2, edges_nm)  # rows: lattice vectors in given edges
    along = _shortest_along(lattice, zone)
    vectors = _across(lattice, edges_nm, along, max_strain)
    if x_axis is not None:
        cosine = _cosine(vectors @ edges_nm, (x_axis @ edges_nm)[None])
        x_vectors = vectors[cosine > 1 - 1e-9]
    else:
        x_vectors = vectors
    chosen = _choose(x_vectors, vectors, along, edges_nm, max_strain)
    if chosen is None:
        asked = "" if x_axis is None else f" with {x_axis.tolist()} along x"
        raise DataError(
            f"zone axis {zone.tolist()} of {name or 'the crystal'}{asked}: no two lattice vectors up to {_LONGEST:g} "
            f"nm stand at right angles to each other and to the beam within a strain of {max_strain:g}",
            needed="a zone axis with a small orthogonal cell",
            todo="choose another zone axis, or a larger max_strain",
        )
    directions, strain = chosen
    return _fill(numbers, fractional, edges_nm, thermal_nm2, directions, strain, name)


def _primitive(
    numbers: NDArray[np.int64],
    fractional: NDArray[np.float64],
    thermal: NDArray[np.float64],
    edges: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return three primitive lattice vectors (rows, in units of the given edges)."""
    kinds = np.stack([numbers, np.rint(thermal * 1e9)], axis=1)
    same = (kinds[:, None] == kinds[None]).all(axis=2)
    first = int(np.argmin(same.sum(axis=1)))
    translations = [np.eye(3)[i] for i in range(3)]
    for target in np.flatnonzero(same[first]):
        shift = fractional[target] - fractional[first]
        shift -= np.floor(shift + 1e-9)
        gap = (fractional + shift)[:, None] - fractional[None]
        near = (np.abs(gap - np.rint(gap)) < 1e-5).all(axis=2) & same
        if target != first and near.any(axis=1).all():
            translations.append(shift)
    if len(translations) == 3:
        return np.eye(3)
    count = len(translations) - 2  # lattice points per given cell, with the origin
    base = np.array(translations)
    steps = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)])
    points = np.unique(np.round((base[:, None] + steps[None]).reshape(-1, 3), 9), axis=0)
    points = points[np.linalg.norm(points, axis=1) > 1e-6]
    points = points[np.argsort(np.linalg.norm(points @ edges, axis=1), kind="stable")][:60]
    for i in range(len(points)):
        for j in range(i + 1, len(points)):
            volumes = np.abs(np.cross(points[i], points[j]) @ points.T)
            fits = np.flatnonzero(np.abs(volumes * count - 1) < 1e-4)
            if fits.size:
                return np.stack([points[i], points[j], points[fits[0]]])
    return np.eye(3)


def _shortest_along(lattice: NDArray[np.float64], zone: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the shortest lattice vector along `zone`, in units of the given edges."""
    indices = zone @ np.linalg.inv(lattice)
    for divisor in range(12, 0, -1):  # zone is coprime: centring shortens it by a small whole number
        part = indices / divisor
        if np.abs(part - np.rint(part)).max() < 1e-5:
            return np.asarray(zone / divisor)
    return zone.astype(float)


def _cosine(vectors: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((vectors * other).sum(axis=1) / lengths)


def _across(
    lattice: NDArray[np.float64], edges: NDArray[np.float64], along: NDArray[np.float64], max_strain: float
) -> NDArray[np.float64]:
    """Return the lattice vectors nearly at right angles to the beam, shortest first, in given edges."""
    basis = lattice @ edges
    # |index i| of a vector of length r is at most r |reciprocal vector i|
    reach = np.linalg.norm(np.linalg.inv(basis), axis=0) * _LONGEST
    sizes = np.minimum(np.ceil(reach), 12).astype(int)
    grid = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in sizes], indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    grid = grid[np.any(grid != 0, axis=1)]
    vectors = grid @ lattice
    lengths = np.linalg.norm(vectors @ edges, axis=1)
    keep = lengths <= _LONGEST
    vectors, lengths = vectors[keep], lengths[keep]
    level = np.abs(_cosine(vectors @ edges, (along @ edges)[None])) <= 2.1 * max(max_strain, _EXACT)
    vectors, lengths = vectors[level], lengths[level]
    # equal lengths: the direction with the larger first index first, so that [001] has x along [100]
    order = np.lexsort((*(-np.round(vectors, 6).T[::-1]), np.round(lengths, 6)))
    return np.asarray(vectors[order][:200])


def _choose(
    x_vectors: NDArray[np.float64],
    y_vectors: NDArray[np.float64],
    along: NDArray[np.float64],
    edges: NDArray[np.float64],
    max_strain: float,
) -> tuple[NDArray[np.float64], float] | None:
    """Return the pair (x, y) of smallest area with its strain: exact ones first, then strained ones."""
    best: tuple[tuple[int, float], NDArray[np.float64], float] | None = None
    limit = 2.1 * max(max_strain, _EXACT)
    for x in x_vectors:
        cosine = _cosine(y_vectors @ edges, (x @ edges)[None])
        for y in y_vectors[np.abs(cosine) <= limit]:
            candidate = np.stack([x, y, along])
            volume = np.linalg.det(candidate @ edges)
            if volume <= 0:  # right-handed cells only
                continue
            strain = _strain(candidate @ edges)
            if strain > max(max_strain, _EXACT):
                continue
            rank = (int(strain > _EXACT), round(float(volume), 6))
            if best is None or rank < best[0]:
                best = (rank, candidate, 0.0 if strain <= _EXACT else strain)
    return None if best is None else best[1:]


def _strain(vectors: NDArray[np.float64]) -> float:
    """Return the largest principal strain that takes the rows to right angles, their lengths kept."""
    target = np.diag(np.linalg.norm(vectors, axis=1))
    stretches = np.linalg.svd(np.linalg.solve(vectors, target), compute_uv=False)
    return float(np.abs(stretches - 1).max())


def _fill(
    numbers: NDArray[np.int64],
    fractional: NDArray[np.float64],
    edges: NDArray[np.float64],
    thermal: NDArray[np.float64],
    directions: NDArray[np.float64],
    strain: float,
    name: str,
) -> Structure:
    """Return the atoms of the new cell, each once."""
    inverse = np.linalg.inv(directions)
    corners = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]) @ directions
    low, high = np.floor(corners.min(axis=0)).astype(int) - 1, np.ceil(corners.max(axis=0)).astype(int) + 1
    cells = np.stack(
        np.meshgrid(*[np.arange(p, q) for p, q in zip(low, high, strict=True)], indexing="ij"), axis=-1
    )
    images = (fractional[:, None] + cells.reshape(-1, 3)[None]) @ inverse
    # a margin below zero keeps atoms that rounding moved out of the cell at 0 and drops their images at 1
    inside = ((images > -1e-6) & (images < 1 - 1e-6)).all(axis=2)
    atom, image = np.nonzero(inside)
    expected = len(numbers) * abs(np.linalg.det(directions))
    if abs(len(atom) - expected) > 1e-3:
        raise DataError(
            f"{name or 'the crystal'}: {len(atom)} atoms in a cell that should hold {expected:.3f}",
            needed="a periodic crystal without atoms on top of each other",
        )
    lengths = np.linalg.norm(directions @ edges, axis=1)
    return Structure(
        numbers[atom],
        np.clip(images[atom, image], 0, None),
        (float(lengths[0]), float(lengths[1]), float(lengths[2])),
        thermal[atom],
        name,
        directions,
        strain,
    )
