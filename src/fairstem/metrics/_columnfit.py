"""Least-squares fit of single columns: one Gaussian of known width each, its neighbours and a flat background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.spatial import cKDTree

__all__ = ["WINDOW", "ColumnFits", "fit_columns", "fit_width", "gaussian"]

Floats = npt.NDArray[np.float64]

WINDOW = 3.0  # radius of the fitted disc, in widths
_NEIGHBOUR = 2.0  # a neighbour that reaches this many widths into the disc is fitted along
_LEASH = 2.0  # the fit stays this near to its start, in widths
_ROUNDS = 40


@dataclass(frozen=True)
class ColumnFits:
    """Fitted columns, one entry each: position (n, 2), height, background, standard error of the height in counts."""

    position: Floats
    height: Floats
    background: Floats
    height_sd: Floats


def gaussian(y: Floats, x: Floats, at: Floats, width: float) -> Floats:
    """Return a Gaussian of height 1 at pixels (y, x)."""
    return np.asarray(np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * width**2)))


@dataclass(frozen=True)
class _Window:
    """Pixels around one column, their values, and the Gaussians of the neighbours that reach in."""

    y: Floats
    x: Floats
    values: Floats
    others: Floats
    width: float

    def design(self, at: Floats) -> Floats:
        """Return the linear part of the model: background, column, neighbours."""
        own = gaussian(self.y, self.x, at, self.width)
        return np.column_stack([np.ones(len(own)), own, self.others])

    def solve(self, at: Floats) -> tuple[Floats, Floats, float]:
        """Return design, coefficients and sum of squares for a column at `at`."""
        design = self.design(at)
        normal = design.T @ design
        normal[np.diag_indices_from(normal)] += 1e-10 * np.trace(normal)
        coefficients = np.asarray(np.linalg.solve(normal, design.T @ self.values), np.float64)
        return design, coefficients, float(((self.values - design @ coefficients) ** 2).sum())


def _window(image: Floats, at: Floats, neighbours: Floats, width: float) -> _Window:
    radius = WINDOW * width
    low = np.maximum(np.ceil(at - radius).astype(int), 0)
    high = np.minimum(np.floor(at + radius).astype(int) + 1, image.shape)
    y, x = np.mgrid[low[0] : high[0], low[1] : high[1]].astype(np.float64)
    disc = (y - at[0]) ** 2 + (x - at[1]) ** 2 <= radius**2
    y, x, values = y[disc], x[disc], image[low[0] : high[0], low[1] : high[1]][disc]
    others = np.column_stack([np.zeros((len(y), 0)), *(gaussian(y, x, n, width) for n in neighbours)])
    return _Window(y, x, values, others, width)


def _step(window: _Window, at: Floats, design: Floats, coefficients: Floats) -> Floats:
    """Return the Gauss-Newton step of the position; zero where there is no column to follow."""
    slope = coefficients[1] * design[:, 1] / window.width**2
    jacobian = np.column_stack([design, slope * (window.y - at[0]), slope * (window.x - at[1])])
    normal = jacobian.T @ jacobian
    normal[np.diag_indices_from(normal)] += 1e-10 * np.trace(normal)
    step = np.linalg.solve(normal, jacobian.T @ (window.values - design @ coefficients))[-2:]
    length = float(np.hypot(*step))
    return np.asarray(step * min(1.0, 0.5 * window.width / length) if length > 0 else step)


def _fit_one(window: _Window, start: Floats) -> tuple[Floats, Floats]:
    """Return position and coefficients of least squares within the leash of the start."""
    at = start.copy()
    design, coefficients, cost = window.solve(at)
    for _ in range(_ROUNDS):
        step = _step(window, at, design, coefficients)
        for _ in range(8):
            trial = at + step
            if np.hypot(*(trial - start)) <= _LEASH * window.width:
                found = window.solve(trial)
                if found[2] < cost and found[1][1] > 0:
                    break
            step = step / 2
        else:
            break
        at, (design, coefficients, cost) = trial, found
        if np.hypot(*step) < 1e-5:
            break
    return at, coefficients


def _neighbours(start: Floats, columns: Floats, width: float) -> list[Floats]:
    """Return the columns that reach into the disc of each start, itself left out."""
    tree = cKDTree(columns)
    near = tree.query_ball_point(start, (WINDOW + _NEIGHBOUR) * width)
    itself = tree.query(start)[1]
    return [columns[[j for j in group if j != own]] for group, own in zip(near, itself, strict=True)]


def fit_columns(
    image: Floats, start: Floats, columns: Floats, width: float, *, move: bool = True
) -> ColumnFits:
    """Fit the columns at `start`, each in a disc of 3 widths.

    Parameters
    ----------
    image
        ``(y, x)``, finite.
    start
        ``(n, 2)`` px, at least the disc away from the border.
    columns
        ``(m, 2)`` px: all columns; those that reach into a disc are fitted along, where they are.
    width
        Gaussian sigma in px, that of all columns.
    move
        False: only height and background are fitted, the position stays.

    Returns
    -------
    ColumnFits
        In the order of `start`.

    Notes
    -----
    Unweighted least squares: the same weights for counts and for denoised images, whose noise is not
    known. The position stays within 2 widths of its start. Cost: 1 ms a column.
    """
    out = [np.empty((len(start), 2)), *(np.empty(len(start)) for _ in range(3))]
    for n, near in enumerate(_neighbours(start, columns, width)):
        window = _window(image, start[n], near, width)
        at, coefficients = _fit_one(window, start[n]) if move else (start[n], window.solve(start[n])[1])
        design = window.design(at)
        inverse = np.linalg.pinv(design.T @ design, rcond=1e-8)
        variance = inverse @ (design.T @ (design * np.maximum(window.values, 0)[:, None])) @ inverse
        out[0][n], out[1][n], out[2][n], out[3][n] = (
            at,
            coefficients[1],
            coefficients[0],
            variance[1, 1] ** 0.5,
        )
    return ColumnFits(*out)


def fit_width(image: Floats, columns: Floats) -> float:
    """Return the width in px that all columns share, by least squares: at most 60 columns are looked at.

    The widths that are tried lie between 1/8 and 1/2 of the nearest distance.
    """
    distance = float(np.median(cKDTree(columns).query(columns, k=2)[0][:, 1]))
    edge = np.asarray(image.shape) - 1
    inside = columns[
        ((columns >= WINDOW * distance / 4) & (columns <= edge - WINDOW * distance / 4)).all(axis=1)
    ]
    some = inside[:: max(1, len(inside) // 60)]
    near = _neighbours(some, columns, distance / 4)

    def cost(width: float) -> float:
        # the same pixels whatever the width: discs of 3/4 of the nearest distance
        total = 0.0
        for at, group in zip(some, near, strict=True):
            window = _window(image, at, group, distance / 4)
            others = [gaussian(window.y, window.x, n, width) for n in group]
            stack = np.column_stack([np.zeros((len(window.y), 0)), *others])
            total += _Window(window.y, window.x, window.values, stack, width).solve(at)[2]
        return total

    found = minimize_scalar(
        cost, bounds=(distance / 8, distance / 2), method="bounded", options={"xatol": 1e-2}
    )
    return float(found.x)
