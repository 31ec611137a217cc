"""Which lattice sites are empty, and which hold two columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes
from scipy.spatial import ConvexHull, cKDTree

from ._localfit import fit_locally, nearest_rows

__all__ = ["Occupancy", "find_occupancy", "primary_columns"]

Float = NDArray[np.float64]
Integer = NDArray[np.int_]


@dataclass(frozen=True)
class Occupancy:
    """Empty sites, and the share of filled ones.

    Parameters
    ----------
    missing
        One row an empty site: i, j, site (number), y, x (locally predicted, px), edge.
    found
        Filled interior sites, per site number.
    empty
        Empty interior sites, per site number.
    """

    missing: pd.DataFrame
    found: Integer
    empty: Integer


def primary_columns(index: Integer, site: Integer, misfit: Float) -> NDArray[np.bool_]:
    """Return True for the best-fitting column of each occupied lattice site."""
    rows = np.flatnonzero(site >= 0)
    rows = rows[np.argsort(misfit[rows], kind="stable")]
    keys = np.column_stack([index[rows], site[rows]])
    first = np.unique(keys, axis=0, return_index=True)[1]
    primary = np.zeros(len(site), dtype=bool)
    primary[rows[first]] = True
    return primary


def find_occupancy(
    position: Float,
    index: Integer,
    site: Integer,
    cell: Float,
    fraction: Float,
    *,
    ideal: Float,
    shape: tuple[int, int] | None,
    origin: Float,
    inlier: NDArray[np.bool_],
) -> Occupancy:
    """Find the empty sites inside the indexed region.

    A site counts when it lies within the convex hull of the indexed columns, a quarter of the column
    spacing or more from its rim, when the cells around it are occupied (holes are filled, concave
    outlines are followed), and when it falls inside the image. Sites closer to the image border than
    half the spacing are listed with ``edge`` and not counted: detectors leave such columns out.

    Parameters
    ----------
    position, index, site, inlier, ideal
        (n, ...) the indexed columns, one a site.
    cell, fraction, origin
        The lattice.
    shape
        Shape of the image, or None when unknown.
    """
    low = index.min(axis=0) - 2
    size = index.max(axis=0) - low + 3
    filled = np.zeros((*size, len(fraction)), dtype=bool)
    filled[(*(index - low).T, site)] = True
    cells = binary_fill_holes(binary_closing(filled.any(axis=-1), np.ones((3, 3), dtype=bool)))
    candidate = np.argwhere(cells[..., None] & np.ones_like(filled))
    coordinates = candidate[:, :2] + low + fraction[candidate[:, 2]]
    perfect = coordinates @ cell + origin
    taken = filled[tuple(candidate.T)]
    closest = cKDTree(ideal).query(ideal, 2)[0][:, 1]
    spacing = float(np.median(closest))
    inside = np.ones(len(candidate), dtype=bool)
    for *normal, offset in ConvexHull(ideal).equations:
        inside &= perfect @ np.array(normal) + offset < -0.25 * spacing
    # the local displacement carries the prediction along with drift and strain
    points = ideal[inlier]
    fit = fit_locally(perfect, points, *nearest_rows(perfect, points, 8), ridge=0.02)
    predicted = perfect + fit.of(position[inlier] - points)[:, 0]
    edge = np.zeros(len(candidate), dtype=bool)
    if shape is not None:
        far = np.array(shape) - 1
        inside &= ((predicted >= 0) & (predicted <= far)).all(axis=1)
        edge = ((predicted < 0.5 * spacing) | (predicted > far - 0.5 * spacing)).any(axis=1)
    gap = inside & ~taken
    # a perfect row of integers: counting is all that is left
    counted = inside & ~edge
    found = np.bincount(candidate[counted & taken, 2], minlength=len(fraction))
    empty = np.bincount(candidate[counted & ~taken, 2], minlength=len(fraction))
    whole = candidate[gap, :2] + low
    missing = pd.DataFrame({
        "i": whole[:, 0], "j": whole[:, 1], "site": candidate[gap, 2],
        "y": predicted[gap, 0], "x": predicted[gap, 1], "edge": edge[gap],
    })  # fmt: skip
    return Occupancy(missing, found, empty)
