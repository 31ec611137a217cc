"""Defects planted in a table of columns: vacancies, shifts, strain, dislocations, grain boundaries."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import Voronoi, cKDTree

from fairstem.errors import DataError

__all__ = [
    "add_interstitials",
    "dislocate",
    "displace_columns",
    "join_grains",
    "remove_columns",
    "scale_columns",
    "strain_columns",
]

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

    Holes are Voronoi vertices of the columns; the wider half of them is drawn from. New rows have
    species ``"interstitial"``, ``planted="interstitial"`` and the median width.

    Raises
    ------
    DataError
        There are fewer than `count` holes.
    """
    rng = np.random.default_rng(seed)
    table = _with_planted(columns)
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
    """
    rng = np.random.default_rng(seed)
    out = _with_planted(columns)
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

    The other parameters are those of `remove_columns`.
    """
    if not (math.isfinite(factor) and factor >= 0):
        raise DataError(f"factor is {factor}", needed="a number >= 0")
    out = _with_planted(columns)
    rows = out.index[_choose(out, count, seed, shape, species, border)]
    out.loc[rows, "height"] *= factor
    out.loc[rows, "planted"] = "half"
    return out


def strain_columns(
    columns: pd.DataFrame, gradient: npt.ArrayLike, centre: tuple[float, float] = (0.0, 0.0)
) -> pd.DataFrame:
    """Move every column by ``gradient @ (position - centre)``: homogeneous strain and rotation.

    `gradient` is ``[[e_yy, w_yx], [w_xy, e_xx]]``, the displacement gradient.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"y": [100.0], "x": [50.0]})
    >>> strain_columns(table, [[0.01, 0], [0, 0.02]])[["y", "x"]].to_numpy().tolist()
    [[101.0, 51.0]]
    """
    matrix = np.asarray(gradient, dtype=np.float64)
    if matrix.shape != (2, 2) or not np.isfinite(matrix).all():
        raise DataError(f"gradient has shape {matrix.shape}", needed="(2, 2), finite")
    position = columns[["y", "x"]].to_numpy(np.float64)
    out = columns.copy()
    out[["y", "x"]] = position + (position - np.asarray(centre)) @ matrix.T
    return out


def dislocate(
    columns: pd.DataFrame,
    core: tuple[float, float],
    burgers: tuple[float, float],
    *,
    poisson_ratio: float = 0.3,
) -> pd.DataFrame:
    """Move the columns by the field of an edge dislocation in an isotropic elastic body.

    Parameters
    ----------
    columns
        Table of a perfect crystal, with a margin of at least twice the Burgers vector around the
        image (the field moves columns in and out of view).
    core
        Position (y, x) in px, between two rows of columns parallel to the Burgers vector.
    burgers
        Burgers vector (b_y, b_x) in px: a lattice vector, or the cut does not close.
    poisson_ratio
        Poisson's ratio of the body.

    Returns
    -------
    pandas.DataFrame
        The same rows, moved; `shift_y, shift_x` hold the field in px.

    Notes
    -----
    With x along b and r² = x² + y²: ``u_x = b/2π (atan2(y, x) + x y / (2 (1-ν) r²))`` and
    ``u_y = -b/2π ((1-2ν)/(4 (1-ν)) ln r² + (x² - y²) / (4 (1-ν) r²))``; r is kept above b/4,
    where linear elasticity ends.

    References
    ----------
    J. P. Hirth, J. Lothe, Theory of Dislocations, 2nd ed., Wiley 1982, chapter 3.
    """
    b = math.hypot(*burgers)
    if not (math.isfinite(b) and b > 0 and -1 < poisson_ratio < 0.5):
        raise DataError(
            f"burgers {burgers}, poisson_ratio {poisson_ratio}", needed="b > 0 and -1 < ratio < 0.5"
        )
    out = _with_planted(columns)
    along = np.asarray(burgers, dtype=np.float64) / b
    across = np.array([along[1], -along[0]])
    offset = out[["y", "x"]].to_numpy(np.float64) - np.asarray(core)
    x, y = offset @ along, offset @ across
    r2 = np.maximum(x**2 + y**2, (b / 4) ** 2)
    nu = poisson_ratio
    u_x = b / (2 * math.pi) * (np.arctan2(y, x) + x * y / (2 * (1 - nu) * r2))
    u_y = (
        -b
        / (2 * math.pi)
        * ((1 - 2 * nu) / (4 * (1 - nu)) * np.log(r2 / b**2) + (x**2 - y**2) / (4 * (1 - nu) * r2))
    )
    moved = u_x[:, None] * along + u_y[:, None] * across
    out[["y", "x"]] += moved
    out[["shift_y", "shift_x"]] += moved
    return out


def join_grains(
    first: pd.DataFrame,
    second: pd.DataFrame,
    point: tuple[float, float],
    angle: float = math.pi / 2,
    *,
    closest: float = 0.0,
) -> pd.DataFrame:
    """Join two crystals along a straight line: a grain boundary or an interface.

    Parameters
    ----------
    first, second
        Tables that each fill the image. `first` is kept on the left of the line (for a vertical
        one), `second` on the right.
    point
        A point (y, x) on the line, in px.
    angle
        Direction of the line in radians from +x towards +y; pi/2 is vertical.
    closest
        Columns of `second` nearer than this (px) to one of `first` are left out, so that no two
        overlap at the boundary.

    Returns
    -------
    pandas.DataFrame
        Both, with `grain` 0 and 1.
    """
    normal = np.array([-math.cos(angle), math.sin(angle)])  # points to the second side
    parts = []
    for number, table in enumerate((first, second)):
        side = (table[["y", "x"]].to_numpy(np.float64) - np.asarray(point)) @ normal
        part = table[side < 0 if number == 0 else side >= 0].copy()
        part["grain"] = number
        parts.append(part)
    if closest > 0 and len(parts[0]) and len(parts[1]):
        tree = cKDTree(parts[0][["y", "x"]].to_numpy(np.float64))
        parts[1] = parts[1][tree.query(parts[1][["y", "x"]].to_numpy(np.float64))[0] >= closest]
    joined: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return joined


def _with_planted(columns: pd.DataFrame) -> pd.DataFrame:
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
