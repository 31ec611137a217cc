"""Bond lengths between atom columns, with error bars, and their spread."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairstem.errors import DataError

from ._columns import ColumnArrays, read_columns
from ._lattice_result import Lattice
from ._neighbours import neighbours

__all__ = ["bond_spread", "bonds"]

Float = NDArray[np.float64]
CROSS = ("cov_y_y", "cov_y_x", "cov_x_y", "cov_x_x")


def bonds(
    columns: pd.DataFrame | None = None,
    lattice: Lattice | None = None,
    *,
    k: int | None = None,
    cutoff: float | None = None,
    pixel_size_nm: float | tuple[float, float] | None = None,
    covariance: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Measure the bonds between neighbouring columns.

    **Prior.** The error bars of the positions are right, and positions fitted separately err
    independently (give `covariance` for those fitted together).

    Parameters
    ----------
    columns
        Column table: y, x (px); sd_y, sd_x, cov_yx give the error bars. None: the lattice's own.
    lattice
        Its bond vectors decide which columns are bonded, of which kind, along which direction. Use it
        whenever there is one.
    k, cutoff
        Passed to `neighbours`.
    pixel_size_nm
        Size of a pixel, nm, one number or (y, x); None: from the table or the lattice.
    covariance
        For pairs fitted together: first, second (row labels) and cov_y_y, cov_y_x, cov_x_y, cov_x_x,
        covariance between a coordinate of the first and one of the second, px².

    Returns
    -------
    pandas.DataFrame
        first, second, dy, dx (px), length (px), angle_deg (from +x towards +y, -180 to 180), kind,
        direction, strain (length over the mean of its kind and direction, minus 1), edge (either
        column at the border); with error bars sd_length (px), sd_strain; with calibration length_nm
        and sd_length_pm. Without a lattice, kind is "" and direction numbers groups of equal angle.

    Raises
    ------
    DataError
        Neither table nor lattice, no pairs, or a `covariance` table that lacks columns.

    Notes
    -----
    The error of a length is that of the difference vector along the bond. It holds while it is small
    beside the length. Cost: O(n log n).

    Examples
    --------
    >>> import pandas as pd
    >>> pair = pd.DataFrame({"y": [0.0, 0.0], "x": [0.0, 20.0], "sd_y": [0.1] * 2, "sd_x": [0.3, 0.4]})
    >>> bonds(pair, pixel_size_nm=0.01)[["length_nm", "sd_length_pm"]].round(3).values.tolist()
    [[0.2, 5.0]]
    """
    if columns is None:
        if lattice is None:
            raise DataError("neither columns nor a lattice is given", needed="one of them")
        columns = lattice.columns
    if pixel_size_nm is None and lattice is not None and columns.attrs.get("pixel_size_nm") is None:
        pixel_size_nm = lattice.pixel_size_nm
    data = read_columns(columns, pixel_size_nm=pixel_size_nm, at_least=2)
    pairs = neighbours(columns if lattice is None else lattice, k, cutoff)
    if lattice is not None:
        pairs = pairs[pairs["first"].isin(columns.index) & pairs["second"].isin(columns.index)]
    if len(pairs) == 0:
        raise DataError("no two columns are neighbours", needed="at least one pair", todo="raise cutoff")
    one = columns.index.get_indexer(pd.Index(pairs["first"]))
    two = columns.index.get_indexer(pd.Index(pairs["second"]))
    step = data.position[two] - data.position[one]
    if lattice is None:
        step, one, two = _point_forward(step, one, two)
    table = _measure(columns.index, data, step, one, two)
    if lattice is None:
        table["kind"], table["direction"] = "", _group_angles(step)
    else:
        table["kind"], table["direction"] = pairs["kind"].to_numpy(), pairs["direction"].to_numpy()
    _add_errors(table, data, step, (one, two), covariance)
    table["edge"] = data.edge[one] | data.edge[two]
    table.attrs = {"pixel_size_nm": data.pixel_size_nm}
    return table


def _point_forward(step: Float, one: NDArray[np.intp], two: NDArray[np.intp]) -> tuple[Float, Any, Any]:
    """Turn bonds so that they point along +x (or +y), within the noise of that decision."""
    angle = np.arctan2(step[:, 0], step[:, 1])
    # cut the circle at -100°, where lattices along the image axes have no bonds
    turn = (angle < np.radians(-80)) | (angle >= np.radians(100))
    return np.where(turn[:, None], -step, step), np.where(turn, two, one), np.where(turn, one, two)


def _measure(
    labels: pd.Index, data: ColumnArrays, step: Float, one: NDArray[np.intp], two: NDArray[np.intp]
) -> pd.DataFrame:
    table = pd.DataFrame({
        "first": labels[one], "second": labels[two], "dy": step[:, 0], "dx": step[:, 1],
        "length": np.linalg.norm(step, axis=1), "angle_deg": np.degrees(np.arctan2(step[:, 0], step[:, 1])),
    })  # fmt: skip
    if data.pixel_size_nm is not None:
        table["length_nm"] = np.linalg.norm(step * data.pixel_size_nm, axis=1)
    return table


def _add_errors(
    table: pd.DataFrame,
    data: ColumnArrays,
    step: Float,
    pair: tuple[NDArray[np.intp], NDArray[np.intp]],
    covariance: pd.DataFrame | None,
) -> None:
    measure = "length_nm" if data.pixel_size_nm is not None else "length"
    mean = table.groupby(["kind", "direction"])[measure].transform("mean")
    table["strain"] = table[measure] / mean - 1
    if data.covariance is None:
        return
    joint = data.covariance[pair[0]] + data.covariance[pair[1]]
    if covariance is not None:
        cross = _cross_covariance(table, covariance)
        joint = joint - cross - cross.transpose(0, 2, 1)
    table["sd_length"] = _along(step, joint)
    if data.pixel_size_nm is None:
        table["sd_strain"] = table["sd_length"] / mean
        return
    scale = np.array(data.pixel_size_nm)
    table["sd_length_pm"] = 1000 * _along(step * scale, joint * np.outer(scale, scale))
    table["sd_strain"] = table["sd_length_pm"] / 1000 / mean


def _along(step: Float, covariance: Float) -> Float:
    """Return the standard error of the length of `step`."""
    unit = step / np.maximum(np.linalg.norm(step, axis=1), 1e-300)[:, None]
    variance = np.einsum("ni,nij,nj->n", unit, covariance, unit)
    return np.asarray(np.sqrt(np.maximum(variance, 0)))


def _cross_covariance(table: pd.DataFrame, covariance: pd.DataFrame) -> Float:
    """Return (m, 2, 2) covariance of first with second; zero for pairs that are not listed."""
    lacking = [name for name in ("first", "second", *CROSS) if name not in covariance.columns]
    if lacking:
        raise DataError(f"covariance lacks {', '.join(lacking)}", needed=f"first, second, {', '.join(CROSS)}")
    known = {
        (row[0], row[1]): np.array(row[2:], dtype=float).reshape(2, 2)
        for row in covariance[["first", "second", *CROSS]].itertuples(index=False)
    }
    known |= {(two, one): value.T for (one, two), value in known.items()}
    zero = np.zeros((2, 2))
    return np.array([known.get(key, zero) for key in zip(table["first"], table["second"], strict=True)])


def _group_angles(step: Float) -> NDArray[np.int_]:
    """Number groups of equal direction (undirected): minima of a smooth histogram part them."""
    angle = np.degrees(np.arctan2(step[:, 0], step[:, 1])) % 180
    bins = 180
    count = np.bincount((angle / 180 * bins).astype(int) % bins, minlength=bins).astype(float)
    kernel = np.exp(-0.5 * (np.minimum(np.arange(bins), bins - np.arange(bins)) / 5.0) ** 2)
    smooth = np.real(np.fft.ifft(np.fft.fft(count) * np.fft.fft(kernel)))
    higher = (smooth > np.roll(smooth, 1)) & (smooth >= np.roll(smooth, -1)) & (smooth > 0.02 * smooth.max())
    peaks = (np.flatnonzero(higher) + 0.5) * 180 / bins
    if len(peaks) == 0:
        return np.zeros(len(angle), dtype=int)
    away = np.abs(angle[:, None] - peaks)
    return np.asarray(np.argmin(np.minimum(away, 180 - away), axis=1))


def bond_spread(table: pd.DataFrame, *, edge: bool = False) -> pd.DataFrame:
    """Summarise bonds by kind and direction: mean, spread, and how much of it the error bars explain.

    **Prior.** Bonds of one kind and direction have one true mean; intrinsic spread and measuring error
    add in squares.

    Parameters
    ----------
    table
        Bonds, as `bonds` returns them.
    edge
        Count bonds of columns at the image border.

    Returns
    -------
    pandas.DataFrame
        kind, direction, n, angle_deg, mean, sd_mean, spread, sd_spread, error (root-mean-square error
        bar), intrinsic = √(spread² − error²) (0 when the error bars explain all), sd_intrinsic. With
        calibration mean_nm, sd_mean_pm, spread_pm, … instead (px otherwise). error and intrinsic only
        where bonds have error bars.

    Raises
    ------
    DataError
        No class has three bonds.

    Notes
    -----
    Neighbouring bonds share a column, so their deviations are anticorrelated (−½ along a row). The
    standard error of the spread accounts for that.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> row = pd.DataFrame({"y": rng.normal(0, 0.2, 200), "x": rng.normal(0, 0.2, 200)})
    >>> row["x"] += 10 * np.arange(200)
    >>> summary = bond_spread(bonds(row.assign(sd_y=0.2, sd_x=0.2), cutoff=15)).iloc[0]
    >>> bool(abs(summary.spread - 0.2 * 2**0.5) < 3 * summary.sd_spread)
    True
    """
    nm = "length_nm" in table.columns
    measure, error_name = ("length_nm", "sd_length_pm") if nm else ("length", "sd_length")
    unit, tail = (1000.0, "_pm") if nm else (1.0, "")
    rows = []
    for (kind, direction), group in (table if edge else table[~table["edge"]]).groupby(["kind", "direction"]):
        if len(group) < 3:
            continue
        length = group[measure].to_numpy()
        spread = unit * float(length.std(ddof=1))
        # variance of s² grows with the squared correlations of bonds that share a column
        shared = Counter(list(group["first"]) + list(group["second"]))
        factor = 1 + 2 * 0.25 * sum(count * (count - 1) / 2 for count in shared.values()) / len(group)
        sd_spread = spread * np.sqrt(factor / (2 * (len(group) - 1)))
        row = {
            "kind": kind, "direction": direction, "n": len(group), "angle_deg": _mean_angle(group),
            "mean_nm" if nm else "mean": float(length.mean()),
            f"sd_mean{tail}": spread / np.sqrt(len(group)),
            f"spread{tail}": spread, f"sd_spread{tail}": sd_spread,
        }  # fmt: skip
        if error_name in group.columns:
            error = float(np.sqrt((group[error_name] ** 2).mean()))
            intrinsic = float(np.sqrt(max(spread**2 - error**2, 0.0)))
            row[f"error{tail}"], row[f"intrinsic{tail}"] = error, intrinsic
            # near zero the square root is steep: there the error is that of a value that is just visible
            floor = max(intrinsic, np.sqrt(spread * sd_spread))
            row[f"sd_intrinsic{tail}"] = spread * sd_spread / floor if floor > 0 else 0.0
        rows.append(row)
    if not rows:
        raise DataError("no kind and direction has three bonds", needed="more columns", todo="try edge=True")
    return pd.DataFrame(rows)


def _mean_angle(group: pd.DataFrame) -> float:
    return float(np.degrees(np.arctan2(group["dy"].mean(), group["dx"].mean())))
