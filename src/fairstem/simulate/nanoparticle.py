"""Metal nanoparticles: fcc atoms in a truncated octahedron, projected to columns."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from fairstem.errors import DataError

__all__ = ["fcc_particle", "nanoparticle_columns"]

Floats = npt.NDArray[np.float64]
_AXES = {  # rows: image y, image x, beam; orthonormal, for a crystal with cubic axes
    "110": np.array(
        [[0.0, 0.0, 1.0], [1 / math.sqrt(2), -1 / math.sqrt(2), 0.0], [1 / math.sqrt(2)] * 2 + [0.0]]
    ),
    "100": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
}


def fcc_particle(
    diameter_nm: float = 3.0,
    a_nm: float = 0.3924,
    *,
    shape: Literal["truncated-octahedron", "cuboctahedron"] = "truncated-octahedron",
) -> Floats:
    """Return the atoms of an fcc particle, (n, 3) in nm along the cubic axes.

    Parameters
    ----------
    diameter_nm
        Distance between opposite {100} faces.
    a_nm
        Lattice parameter; platinum by default.
    shape
        ``"truncated-octahedron"``: {111} faces that cut the {100} squares to a regular shape.
        ``"cuboctahedron"``: triangular {111} faces that meet in the corners.

    Returns
    -------
    numpy.ndarray
        ``(n, 3)``, centred on an atom at the origin.

    Raises
    ------
    DataError
        Unknown shape, or a diameter below one cell.

    Notes
    -----
    The diameter is rounded down to whole cells, so that faces are atomic planes. Cost:
    ``O((diameter / a)**3)``.

    Examples
    --------
    >>> len(fcc_particle(0.3924, shape="cuboctahedron"))
    13
    """
    ratio = {"truncated-octahedron": 1.5, "cuboctahedron": 2.0}.get(shape)
    if ratio is None:
        raise DataError(f"shape is {shape!r}", needed="truncated-octahedron or cuboctahedron")
    if not (a_nm > 0 and math.isfinite(diameter_nm) and diameter_nm >= a_nm):
        raise DataError(f"diameter_nm {diameter_nm}, a_nm {a_nm}", needed="a diameter of at least one cell")
    # whole half-cells, so that the faces are atomic planes
    half = math.floor(diameter_nm / a_nm + 1e-9)
    grid = np.arange(-half, half + 1)
    atoms = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 3)
    fcc = atoms.sum(axis=1) % 2 == 0
    inside = np.abs(atoms).sum(axis=1) <= ratio * half + 1e-9
    return np.asarray(atoms[fcc & inside] * (a_nm / 2), dtype=np.float64)


def nanoparticle_columns(
    atoms: Floats,
    pixel_size_nm: float,
    centre: tuple[float, float],
    *,
    zone: Literal["110", "100"] = "110",
    rotation: float = 0.0,
    width_nm: float = 0.045,
    contraction_pm: tuple[float, float] = (4.0, 44.0),
    seed: int | np.random.Generator = 0,
    species: str = "Pt",
) -> pd.DataFrame:
    """Project the atoms of a cubic particle to columns; contract the ones at its rim.

    Parameters
    ----------
    atoms
        ``(n, 3)`` in nm along the cubic axes, as `fcc_particle` returns them.
    pixel_size_nm
        Pixel size in nm.
    centre
        Where the middle of the particle lies, (y, x) in px.
    zone
        Direction of the beam.
    rotation
        Radians, turning +x towards +y.
    width_nm
        Sigma of a column in nm.
    contraction_pm
        Range of the planted inward shifts in pm. Rim columns are shifted towards the mean of
        their neighbours; edge columns take the lower half of the range, corner columns the upper.
    seed
        Seed or generator of the shifts.
    species
        Name of the element.

    Returns
    -------
    pandas.DataFrame
        `y, x` [px], `height` (atoms over the greatest number in a column), `width` [px],
        `species`, `atoms`, `place` ("bulk", "edge", "corner"), `neighbours`, `contraction_pm`,
        and the planted `shift_y, shift_x` in px.

    Raises
    ------
    DataError
        Unknown zone, no atoms, or a length or range that makes no sense.

    Notes
    -----
    Corner columns have at most half the neighbours of a bulk column within 1.2 bond lengths.
    Cost: ``O(n log n)``.

    Examples
    --------
    >>> table = nanoparticle_columns(fcc_particle(3.0), 0.015, (128.0, 128.0), seed=1)
    >>> table["place"].value_counts().to_dict()
    {'bulk': 75, 'edge': 28, 'corner': 6}
    """
    if zone not in _AXES:
        raise DataError(f"zone is {zone!r}", needed="'110' or '100'")
    low, high = contraction_pm
    if not 0 <= low <= high:
        raise DataError(f"contraction_pm is {contraction_pm}", needed="0 <= low <= high in pm")
    if not (math.isfinite(pixel_size_nm) and pixel_size_nm > 0 and width_nm > 0):
        raise DataError(
            f"pixel_size_nm {pixel_size_nm}, width_nm {width_nm}", needed="positive lengths in nm"
        )
    unique, count = _project(np.asarray(atoms, dtype=np.float64), zone)
    tree = cKDTree(unique)
    bond = float(np.median(tree.query(unique, k=2)[0][:, 1])) if len(unique) > 1 else 1.0
    near = [[k for k in group if k != n] for n, group in enumerate(tree.query_ball_point(unique, 1.2 * bond))]
    number = np.array([len(group) for group in near])
    place = _places(number)
    shift = _contraction(unique, near, place, (low, high), np.random.default_rng(seed))
    cos, sin = math.cos(rotation), math.sin(rotation)
    turn = np.array([[cos, sin], [-sin, cos]])
    position = (unique + shift) @ turn.T / pixel_size_nm + np.asarray(centre)
    moved = shift @ turn.T / pixel_size_nm
    return pd.DataFrame(
        {
            "y": position[:, 0],
            "x": position[:, 1],
            "height": count / count.max(),
            "width": width_nm / pixel_size_nm,
            "species": pd.Series(species, index=range(len(unique)), dtype=object),
            "atoms": count,
            "place": pd.Series(place, dtype=object),
            "neighbours": number,
            "contraction_pm": np.hypot(shift[:, 0], shift[:, 1]) * 1000,
            "shift_y": moved[:, 0],
            "shift_x": moved[:, 1],
        }
    )


def _project(atoms: Floats, zone: str) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the distinct positions (n, 2) in nm of the atoms along the beam, and how many share each."""
    if atoms.ndim != 2 or atoms.shape[1] != 3 or not len(atoms) or not np.isfinite(atoms).all():
        raise DataError(f"atoms has shape {atoms.shape}", needed="(n, 3) in nm, finite, n >= 1")
    projected = (atoms @ _AXES[zone].T)[:, :2]
    _, first, count = np.unique(np.round(projected, 5), axis=0, return_index=True, return_counts=True)
    return projected[first], count


def _places(number: npt.NDArray[np.int64]) -> list[str]:
    full = number.max(initial=1)
    return ["bulk" if n == full else "corner" if n <= full / 2 else "edge" for n in number]


def _contraction(
    positions: Floats,
    near: list[list[int]],
    place: list[str],
    limits: tuple[float, float],
    rng: np.random.Generator,
) -> Floats:
    """Return the inward shift of each column in nm."""
    middle = (limits[0] + limits[1]) / 2
    ranges = {"edge": (limits[0], middle), "corner": (middle, limits[1])}
    shift = np.zeros_like(positions)
    for n, (group, where) in enumerate(zip(near, place, strict=True)):
        if where == "bulk" or not group:
            continue
        inward = positions[group].mean(axis=0) - positions[n]
        length = float(np.hypot(*inward))
        if length > 0:
            shift[n] = inward / length * rng.uniform(*ranges[where]) / 1000
    return shift
