"""Classes of columns by intensity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fairstem.errors import DataError

from ._columns import ColumnArrays, read_columns
from ._lattice_result import Lattice

__all__ = ["sublattices"]

Float = NDArray[np.float64]
MAX_CLASSES = 4


def sublattices(
    columns: pd.DataFrame | Lattice,
    n: int | Literal["auto"] = "auto",
    *,
    quantity: Literal["height", "volume"] = "height",
    neighbours: int = 32,
) -> pd.DataFrame:
    """Sort columns into classes by intensity: labels, and the probability of each label.

    **Prior.** Columns of one species have one intensity up to noise, once the slow variation over the
    image (thickness, tilt, an interface) is divided out; with a lattice, columns on one site mostly
    belong to one class.

    Parameters
    ----------
    columns
        Table with y, x, height (and width for "volume"); or a `Lattice`.
    n
        Number of classes; "auto" takes the number that the Bayesian information criterion prefers
        among classes that are at least two standard deviations apart. Give it when the contrast is
        known to be weak.
    quantity
        "height", or "volume" = height·width² (for columns of different width).
    neighbours
        Number of columns over which the slow variation is averaged. Fewer follow a steeper gradient;
        at least four columns of each class should be among them.

    Returns
    -------
    pandas.DataFrame
        Row labels of the input; sublattice ("A", "B", … by falling intensity; with a lattice the
        label may differ from the site's where a column is a substitute), posterior (probability of
        the label), relative (intensity over the local level; class means average about 1).

    Raises
    ------
    DataError
        No heights (or widths), too few columns, heights that are not positive, bad `n`.

    Notes
    -----
    A Gaussian mixture, fitted in turn with the local level. Cost: O(m · columns · neighbours).

    References
    ----------
    Schwarz, Ann. Stat. 6 (1978) 461, doi:10.1214/aos/1176344136.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> y, x = np.divmod(np.arange(400.0), 20)
    >>> bright = (y + x) % 2 == 0
    >>> height = np.where(bright, 100, 60) * (1 + x / 20) * rng.normal(1, 0.05, 400)
    >>> classes = sublattices(pd.DataFrame({"y": y, "x": x, "height": height}))
    >>> bool(((classes.sublattice == "A") == bright).mean() > 0.98)
    True
    """
    lattice = columns if isinstance(columns, Lattice) else None
    table = columns.columns if isinstance(columns, Lattice) else columns
    data = read_columns(table, at_least=4)
    if n != "auto" and (
        not isinstance(n, int | np.integer) or isinstance(n, bool) or not 1 <= n <= len(data) // 3
    ):
        raise DataError(f"n is {n!r}", needed='"auto" or a number from 1 to a third of the columns')
    if neighbours < 4:
        raise DataError(f"neighbours is {neighbours}", needed="at least 4")
    value = _intensity(data, quantity)
    group = np.zeros(len(data), dtype=int)
    if lattice is not None:
        group = 1 + pd.Index(lattice.sites.index).get_indexer(table["site"])
    near = cKDTree(data.position).query(data.position, min(neighbours, len(data)))[1]
    counts = range(1, MAX_CLASSES + 1) if n == "auto" else [int(n)]
    best: _Mixture | None = None
    for count in counts:
        if count > 1 and len(data) < 6 * count and n == "auto":
            break
        fitted = _fit_mixture(value, near, group, count)
        if best is None or (fitted.distinct and fitted.criterion < best.criterion):
            best = fitted
    if best is None:
        raise DataError(f"{len(data)} columns", needed="more")
    return _labels(table, best)


@dataclass(frozen=True)
class _Mixture:
    """A fitted mixture: class means and spreads of the relative intensity, posteriors, quality."""

    mean: Float
    spread: Float
    posterior: Float
    relative: Float
    criterion: float
    distinct: bool


def _intensity(data: ColumnArrays, quantity: str) -> Float:
    if data.height is None:
        raise DataError("the table has no height", needed="height", todo="run atoms.refine")
    if quantity == "height":
        value = data.height
    elif quantity == "volume":
        if data.width is None:
            raise DataError("the table has no width", needed="width", todo='use quantity="height"')
        value = data.height * data.width**2
    else:
        raise DataError(f"quantity is {quantity!r}", needed='"height" or "volume"')
    if np.median(value) <= 0:
        raise DataError("more than half of the heights are not positive", needed="heights above background")
    return value


def _fit_mixture(value: Float, near: NDArray[np.intp], group: NDArray[np.int_], count: int) -> _Mixture:
    """Alternate between the slow variation and the mixture of what is left."""
    floor = 0.05 * float(np.median(value))
    relative = value / np.maximum(value[near].mean(axis=1), floor)
    mean, spread, posterior, likelihood = _expectation(relative, group, count)
    for _ in range(8):
        # the level that fits the neighbours best, given which class each belongs to
        expected = posterior @ mean
        level = (expected[near] * value[near]).sum(axis=1) / np.maximum(
            (expected[near] ** 2).sum(axis=1), 1e-300
        )
        new = value / np.maximum(level, floor)
        change = float(np.abs(new - relative).max())
        relative = new
        mean, spread, posterior, likelihood = _expectation(relative, group, count)
        if change < 1e-4:
            break
    order = np.argsort(-mean)
    mean, spread, posterior = mean[order], spread[order], posterior[:, order]
    apart = -np.diff(mean) / np.sqrt((spread[1:] ** 2 + spread[:-1] ** 2) / 2)
    share = posterior.sum(axis=0)
    distinct = bool(np.all(apart > 2) and np.all(share >= max(3, 0.02 * len(value))))
    # a mean and a spread per class, and proportions per site
    parameters = 2 * count + len(np.unique(group)) * (count - 1)
    criterion = -2 * likelihood + parameters * np.log(len(value))
    return _Mixture(mean, spread, posterior, relative, criterion, distinct)


def _expectation(value: Float, group: NDArray[np.int_], count: int) -> tuple[Float, Float, Float, float]:
    """Expectation maximisation of a Gaussian mixture whose proportions depend on the group."""
    ordered = np.sort(value)
    starts = _start_means(ordered, count)
    spread = np.full(
        count, max(float(np.mean([part.std() for part in np.array_split(ordered, count)])), 1e-6)
    )
    mean = starts
    groups = np.bincount(group)
    portion = np.full((len(groups), count), 1.0 / count)
    posterior = np.empty((len(value), count))
    likelihood = -np.inf
    for _ in range(200):
        z = (value[:, None] - mean) / spread
        # residuals beyond six standard deviations say "neither", not "certainly the wider class"
        log = -0.5 * np.minimum(z**2, 36.0) - np.log(spread) + np.log(np.maximum(portion[group], 1e-12))
        top = log.max(axis=1)
        posterior = np.exp(log - top[:, None])
        total = posterior.sum(axis=1)
        posterior /= total[:, None]
        new = float(np.sum(top + np.log(total)))
        weight = posterior * (np.abs(z) < 6)
        sums = np.maximum(weight.sum(axis=0), 1e-9)
        mean = (weight * value[:, None]).sum(axis=0) / sums
        variance = (weight * (value[:, None] - mean) ** 2).sum(axis=0) / sums
        # a class must not collapse onto a few equal values
        spread = np.sqrt(np.maximum(variance, (0.005 * float(np.mean(value))) ** 2))
        for number in np.flatnonzero(groups):
            rows = posterior[group == number]
            portion[number] = (rows.sum(axis=0) + 0.5) / (len(rows) + 0.5 * count)
        if new - likelihood < 1e-6 * abs(new):
            break
        likelihood = new
    return mean, spread, posterior, new


def _start_means(ordered: Float, count: int) -> Float:
    """Start at the k-means solution of the sorted values (a few passes are enough in one dimension)."""
    low, high = np.quantile(ordered, [0.02, 0.98])
    mean = low + (high - low) * (np.arange(count) + 0.5) / count
    for _ in range(30):
        label = np.argmin(np.abs(ordered[:, None] - mean), axis=1)
        filled = [number for number in range(count) if (label == number).any()]
        mean[filled] = [ordered[label == number].mean() for number in filled]
    return np.asarray(mean)


def _labels(table: pd.DataFrame, best: _Mixture) -> pd.DataFrame:
    label = np.argmax(best.posterior, axis=1)
    names = np.array([chr(ord("A") + number) for number in range(best.posterior.shape[1])])
    out = pd.DataFrame(
        {
            "sublattice": names[label],
            "posterior": best.posterior[np.arange(len(label)), label],
            "relative": best.relative,
        },
        index=table.index,
    )
    out.attrs = {
        "means": [float(value) for value in best.mean],
        "spreads": [float(value) for value in best.spread],
    }
    return out
