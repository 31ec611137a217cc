"""Point defects planted in a table of columns: vacancies, interstitials, shifts, half columns."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import Voronoi, cKDTree

from fairstem.errors import DataError

__all__ = ["add_interstitials", "displace_columns", "remove_columns", "scale_columns"]

Floats = npt.NDArray[np.float64]


def remove_columns(
    columns: pd.DataFrame,
    count: int,
    seed: int | np.random.Generator = 0,
    *,
    shape: tuple[int, int] | None = None,
    species: str | None = None,
    border: float = 10.0,
) -> pd.DataFrame:
    """Remove `count` random columns (vacancies).

    Parameters
    ----------
    columns
        Table with `y, x, species`.
    count
        How many to remove.
    seed
        Seed or generator.
    shape
        With it, only columns at least `border` px inside the image are taken.
    species
        Only columns of this species.
    border
        Distance to the edge in px.

    Returns
    -------
    pandas.DataFrame
        The others; ``attrs["vacancies"]`` lists the (y, x) that were removed.

    Raises
    ------
    DataError
        There are fewer than `count` columns to choose from.

    Notes
    -----
    Columns that already carry something planted are not chosen. Cost: ``O(n)``.

    Examples
    --------
    >>> from fairstem.simulate import srtio3
    >>> crystal = srtio3().columns((128, 128), 0.02)
    >>> len(crystal) - len(remove_columns(crystal, 3, seed=1, species="Ti"))
    3
    """
    chosen = _choose(columns, count, seed, shape, species, border)
    out = columns.drop(columns.index[chosen]).reset_index(drop=True)
    gone = columns.iloc[chosen][["y", "x"]].to_numpy(np.float64)
    out.attrs = {**columns.attrs, "vacancies": [*columns.attrs.get("vacancies", []), *gone.tolist()]}
    return out


def add_interstitials(
    columns: pd.DataFrame,
    count: int,
    seed: int | np.random.Generator = 0,
    *,
    shape: tuple[int, int] | None = None,
    height: float = 0.5,
    border: float = 10.0,
) -> pd.DataFrame:
    """Add `count` columns in the largest holes between the others (interstitials).

    Parameters
    ----------
    columns
        Table with `y, x, width, species`.
    count
        How many to add.
    seed
        Seed or generator.
    shape
        With it, only holes at least `border` px inside the image are taken.
    height
        Height of the new columns, in the unit of the others.
    border
        Distance to the edge in px.

    Returns
    -------
    pandas.DataFrame
        All rows; new ones have species and `planted` ``"interstitial"``, the median width, and -1
        for cell indices.

    Raises
    ------
    DataError
        Fewer than 4 columns, or fewer than `count` holes.

    Notes
    -----
    Holes are Voronoi vertices of the columns; the wider half of them is drawn from. Cost:
    ``O(n log n)``.

    Examples
    --------
    >>> from fairstem.simulate import srtio3
    >>> crystal = srtio3().columns((128, 128), 0.02)
    >>> len(add_interstitials(crystal, 2, seed=1, shape=(128, 128))) - len(crystal)
    2
    """
    rng = np.random.default_rng(seed)
    table = with_planted(columns)
    positions = columns[["y", "x"]].to_numpy(np.float64)
    if len(positions) < 4:
        raise DataError(f"{len(positions)} columns", needed="at least 4 to have holes between them")
    holes = Voronoi(positions).vertices
    inside = (holes >= positions.min(axis=0)) & (holes <= positions.max(axis=0))
    if shape is not None:
        inside &= (holes >= border) & (holes <= np.asarray(shape) - 1 - border)
    holes = holes[inside.all(axis=1)]
    clearance = cKDTree(positions).query(holes)[0] if len(holes) else np.zeros(0)
    holes = holes[clearance >= np.median(clearance) - 1e-6] if len(holes) else holes
    holes = _thin(rng.permutation(holes), float(np.median(clearance)) if len(clearance) else 0.0)
    if len(holes) < count:
        raise DataError(
            f"{len(holes)} holes for {count} interstitials", todo="ask for fewer or a larger image"
        )
    new = pd.DataFrame({"y": holes[:count, 0], "x": holes[:count, 1]})
    new["height"], new["width"] = height, float(columns["width"].median())
    new["species"], new["planted"] = "interstitial", "interstitial"
    new["shift_y"] = new["shift_x"] = 0.0
    for name in table.columns.difference(new.columns):
        new[name] = -1 if table[name].dtype.kind in "iu" else 0.0
    out = pd.concat([table, new[table.columns]], ignore_index=True)
    out.attrs = dict(columns.attrs)
    return out


def _thin(points: Floats, distance: float) -> Floats:
    """Keep points, in order, that are at least `distance` apart."""
    if len(points) < 2:
        return points
    tree, keep = cKDTree(points), np.ones(len(points), dtype=bool)
    for n, near in enumerate(tree.query_ball_point(points, distance)):
        if keep[n]:
            keep[[k for k in near if k > n]] = False
    return points[keep]


def displace_columns(
    columns: pd.DataFrame,
    count: int,
    shift: float,
    seed: int | np.random.Generator = 0,
    *,
    shape: tuple[int, int] | None = None,
    species: str | None = None,
    direction: float | None = None,
    border: float = 10.0,
) -> pd.DataFrame:
    """Shift `count` random columns by `shift` px, in a random or a given direction.

    Parameters
    ----------
    columns, count, seed, shape, species, border
        As in `remove_columns`.
    shift
        Length of the shift in px; in pm it is ``shift_pm / (1000 * pixel_size_nm)`` px.
    direction
        Radians from +x towards +y; default random for each column.

    Returns
    -------
    pandas.DataFrame
        The same rows; shifted ones have ``planted="shift"`` and `shift_y, shift_x` in px.

    Raises
    ------
    DataError
        There are fewer than `count` columns to choose from.

    Notes
    -----
    Cost: ``O(n)``.

    Examples
    --------
    >>> from fairstem.simulate import srtio3
    >>> moved = displace_columns(srtio3().columns((128, 128), 0.02), 4, shift=1.0, seed=1)
    >>> int((moved["planted"] == "shift").sum())
    4
    """
    rng = np.random.default_rng(seed)
    out = with_planted(columns)
    chosen = _choose(out, count, rng, shape, species, border)
    angle = rng.uniform(0, 2 * math.pi, count) if direction is None else np.full(count, direction)
    moved = shift * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    rows = out.index[chosen]
    out.loc[rows, "planted"] = "shift"
    for k, axis in enumerate("yx"):
        out.loc[rows, axis] += moved[:, k]
        out.loc[rows, f"shift_{axis}"] += moved[:, k]
    return out


def scale_columns(
    columns: pd.DataFrame,
    count: int,
    factor: float = 0.5,
    seed: int | np.random.Generator = 0,
    *,
    shape: tuple[int, int] | None = None,
    species: str | None = None,
    border: float = 10.0,
) -> pd.DataFrame:
    """Multiply the height of `count` random columns by `factor`; ``planted="half"`` marks them.

    Parameters
    ----------
    columns, count, seed, shape, species, border
        As in `remove_columns`.
    factor
        New height over old height.

    Returns
    -------
    pandas.DataFrame
        The same rows, with `planted`.

    Raises
    ------
    DataError
        A negative factor, or fewer than `count` columns to choose from.

    Notes
    -----
    Cost: ``O(n)``.

    Examples
    --------
    >>> from fairstem.simulate import srtio3
    >>> table = scale_columns(srtio3().columns((128, 128), 0.02), 2, species="Sr")
    >>> table.loc[table["planted"] == "half", "height"].tolist()
    [0.5, 0.5]
    """
    if not (math.isfinite(factor) and factor >= 0):
        raise DataError(f"factor is {factor}", needed="a number >= 0")
    out = with_planted(columns)
    rows = out.index[_choose(out, count, seed, shape, species, border)]
    out.loc[rows, "height"] *= factor
    out.loc[rows, "planted"] = "half"
    return out


def with_planted(columns: pd.DataFrame) -> pd.DataFrame:
    """Return a copy that has the columns `planted`, `shift_y` and `shift_x`."""
    out = columns.copy()
    if "planted" not in out:
        out["planted"] = pd.Series("none", index=out.index, dtype=object)
    for name in ("shift_y", "shift_x"):
        if name not in out:
            out[name] = 0.0
    return out


def _choose(
    columns: pd.DataFrame,
    count: int,
    seed: int | np.random.Generator,
    shape: tuple[int, int] | None,
    species: str | None,
    border: float,
) -> npt.NDArray[np.int64]:
    usable = np.ones(len(columns), dtype=bool)
    if species is not None:
        usable &= columns["species"].to_numpy() == species
    if "planted" in columns:
        usable &= columns["planted"].to_numpy() == "none"
    if shape is not None:
        position = columns[["y", "x"]].to_numpy(np.float64)
        usable &= ((position >= border) & (position <= np.asarray(shape) - 1 - border)).all(axis=1)
    candidates = np.flatnonzero(usable)
    if not 0 <= count <= len(candidates):
        raise DataError(
            f"count is {count}, {len(candidates)} columns to choose from",
            needed="a count between 0 and that number",
            todo="ask for fewer, another species, or a larger image",
        )
    return np.sort(np.random.default_rng(seed).choice(candidates, count, replace=False)).astype(np.int64)
