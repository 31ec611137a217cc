"""Extended defects of a table of columns: strain, dislocations, grain boundaries, interfaces."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from fairstem.errors import DataError
from fairstem.simulate.defects import with_planted

__all__ = ["dislocate", "join_grains", "strain_columns"]


def strain_columns(
    columns: pd.DataFrame, gradient: npt.ArrayLike, centre: tuple[float, float] = (0.0, 0.0)
) -> pd.DataFrame:
    """Move every column by ``gradient @ (position - centre)``: homogeneous strain and rotation.

    Parameters
    ----------
    columns
        Table with `y, x` in px.
    gradient
        Displacement gradient ``[[du_y/dy, du_y/dx], [du_x/dy, du_x/dx]]``; 0.01 is 1 % strain.
    centre
        The point (y, x) in px that stays.

    Returns
    -------
    pandas.DataFrame
        The same rows, moved.

    Raises
    ------
    DataError
        `gradient` is not a finite 2 × 2 matrix.

    Notes
    -----
    Cost: ``O(n)``.

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

    Raises
    ------
    DataError
        No Burgers vector, or a Poisson's ratio outside (-1, 0.5).

    Notes
    -----
    Prior: linear elasticity, one straight dislocation along the beam in an infinite body.
    With x along b and r² = x² + y²: ``u_x = b/2π (atan2(y, x) + x y / (2 (1-ν) r²))`` and
    ``u_y = -b/2π ((1-2ν)/(4 (1-ν)) ln r² + (x² - y²) / (4 (1-ν) r²))``; r is kept above b/4,
    where linear elasticity ends. Cost: ``O(n)``.

    References
    ----------
    J. P. Hirth, J. Lothe, Theory of Dislocations, 2nd ed., Wiley 1982, chapter 3.

    Examples
    --------
    >>> from fairstem.simulate import square
    >>> crystal = square(0.4).columns((128, 128), 0.02, margin_nm=1.0)
    >>> defect = dislocate(crystal, (73.5, 73.5), burgers=(0.0, 20.0))
    >>> bool(defect["shift_x"].abs().max() > 9)
    True
    """
    b = math.hypot(*burgers)
    if not (math.isfinite(b) and b > 0 and -1 < poisson_ratio < 0.5):
        raise DataError(
            f"burgers {burgers}, poisson_ratio {poisson_ratio}", needed="b > 0 and -1 < ratio < 0.5"
        )
    out = with_planted(columns)
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

    Notes
    -----
    Cost: ``O(n log n)``.

    Examples
    --------
    >>> from fairstem.simulate import srtio3
    >>> first, second = (srtio3().columns((128, 128), 0.02, rotation=r) for r in (-0.2, 0.2))
    >>> both = join_grains(first, second, (64.0, 64.0), closest=8.0)
    >>> sorted(set(both["grain"]))
    [0, 1]
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
