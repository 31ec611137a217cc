"""Local affine fits: a plane through the displacements of the columns around each column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["LocalFit", "fit_locally", "local_misfit", "nearest_rows"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class LocalFit:
    """Planes through the values around each place, as linear maps of those values.

    Parameters
    ----------
    weight
        (m, 3, k): the plane at place m is ``weight[m] @ values[neighbour[m]]``: value there, slope
        along y, slope along x.
    neighbour
        (m, k) rows of the values.
    determined
        (m,) True where the neighbours span a plane.
    """

    weight: Float
    neighbour: NDArray[np.intp]
    determined: NDArray[np.bool_]

    def of(self, values: Float) -> Float:
        """Return the planes (m, 3, ...) of `values` (n, ...)."""
        return np.asarray(np.einsum("mpk,mk...->mp...", self.weight, values[self.neighbour]))

    def covariance(self, covariance: Float) -> Float:
        """Return (m, 6, 6): covariance of the (3, 2) planes of positions with covariances (n, 2, 2)."""
        spread = np.einsum("mpk,mqk,mkij->mpiqj", self.weight, self.weight, covariance[self.neighbour])
        return np.asarray(spread.reshape(len(spread), 6, 6))

    @property
    def noise_gain(self) -> Float:
        """(m,) variance of the value per unit variance of the inputs."""
        return np.asarray((self.weight[:, 0] ** 2).sum(axis=1))


def nearest_rows(
    places: Float, points: Float, k: int, *, skip_self: bool = False
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the rows of the points nearest to `places`, and which of them count.

    At least `k` count; all those as far as the k-th do too, so that the choice among equals (whole
    shells of a lattice) does not hang on the order of the rows.

    Parameters
    ----------
    places, points
        (m, 2) and (n, 2) positions, px.
    k
        Number of points wanted.
    skip_self
        The places are the points themselves: leave each out of its own list.

    Returns
    -------
    rows, count
        Both (m, up to k + 8).
    """
    first = int(skip_self)
    k = min(k, len(points) - first)
    reach = min(k + 8, len(points) - first) + first
    distance, rows = cKDTree(points).query(places, reach)
    distance, rows = distance.reshape(len(places), -1)[:, first:], rows.reshape(len(places), -1)[:, first:]
    return rows, distance <= 1.001 * distance[:, [k - 1]]


def fit_locally(
    places: Float, points: Float, neighbour: NDArray[np.intp], use: NDArray[np.bool_], *, ridge: float = 1e-9
) -> LocalFit:
    """Fit a plane around each place.

    Parameters
    ----------
    places
        (m, 2) where the planes are wanted, px.
    points
        (n, 2) where values are known, px.
    neighbour
        (m, k) rows of `points` around each place.
    use
        (m, k) True where a neighbour takes part.
    ridge
        Pull of the slopes towards zero, relative to the number of neighbours: 1e-9 is none; 0.02
        keeps a place with two or three neighbours on one side from being extrapolated wildly.

    Notes
    -----
    Cost: O(m k) for k neighbours.
    """
    step = points[neighbour] - places[:, None]
    weight = use.astype(float)
    count = weight.sum(axis=1)
    size = np.sqrt((weight * (step**2).sum(-1)).sum(axis=1) / np.maximum(count, 1) / 2)
    size = np.where(size > 0, size, 1.0)
    basis = np.concatenate([np.ones((*step.shape[:2], 1)), step / size[:, None, None]], axis=-1)
    normal = np.einsum("mkp,mk,mkq->mpq", basis, weight, basis)
    determinant = np.linalg.det(normal / np.maximum(count, 1)[:, None, None])
    normal += np.eye(3) * (ridge * np.maximum(count, 1))[:, None, None] * np.array([0.0, 1.0, 1.0])
    normal += np.eye(3) * 1e-12
    solved = np.linalg.solve(normal, (basis * weight[..., None]).transpose(0, 2, 1))
    solved[:, 1:] /= size[:, None, None]
    return LocalFit(solved, neighbour, (count >= 3) & (determinant > 1e-3))


def local_misfit(
    ideal: Float, displacement: Float, *, k: int = 12, cut: float = 5.0
) -> tuple[Float, float, NDArray[np.bool_]]:
    """Compare each column's displacement with the plane through its neighbours'.

    Parameters
    ----------
    ideal
        (n, 2) ideal positions, px.
    displacement
        (n, 2) deviation from them, px.
    k
        Number of neighbours.
    cut
        Columns beyond this many times the scatter are not inliers; 5 passes all but 4 in a million
        Gaussian ones.

    Returns
    -------
    misfit
        (n, 2) deviation from the local plane, in units of the scatter of single columns, px.
    scatter
        Robust scatter of a single column about its surroundings, per axis, px.
    inlier
        (n,) True where the misfit is within `cut` times the scatter.
    """
    neighbour, near = nearest_rows(ideal, ideal, k, skip_self=True)
    inlier = np.ones(len(ideal), dtype=bool)
    spacing = float(np.median(np.linalg.norm(ideal[neighbour[:, 0]] - ideal, axis=1)))
    misfit, scatter = displacement, 0.0
    for _ in range(3):
        fit = fit_locally(ideal, ideal, neighbour, near & inlier[neighbour], ridge=0.02)
        misfit = (displacement - fit.of(displacement)[:, 0]) / np.sqrt(1 + fit.noise_gain)[:, None]
        length = np.linalg.norm(misfit, axis=1)
        # 2 ln 2: the median squared length of a two-dimensional Gaussian, per variance of one axis
        scatter = float(np.median(length) / np.sqrt(2 * np.log(2)))
        new = length <= cut * max(scatter, 1e-6 * spacing)
        if np.array_equal(new, inlier):
            break
        inlier = new
    return misfit, scatter, inlier
