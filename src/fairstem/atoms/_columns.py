"""Reading the column table: one place that checks it and turns it into arrays.

Every function of this package that takes a table of columns reads it through `read_columns`, so a
table with nothing but ``y`` and ``x`` works everywhere, and a bad one is refused in one wording.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairstem.errors import CalibrationError, DataError, DataTypeError

__all__ = ["ColumnArrays", "check_pixel_size", "read_columns"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class ColumnArrays:
    """The columns as arrays; what the table lacks is None.

    Parameters
    ----------
    position
        (n, 2) positions (y, x) in px.
    covariance
        (n, 2, 2) covariance of each position in px², or None.
    height
        (n,) height above background, or None.
    width
        (n,) Gaussian sigma in px, or None.
    edge
        (n,) True where the column is cut by the image border or by a mask.
    shape
        Shape of the image (y, x), or None.
    pixel_size_nm
        (y, x) size of a pixel in nm, or None.
    """

    position: Float
    covariance: Float | None
    height: Float | None
    width: Float | None
    edge: NDArray[np.bool_]
    shape: tuple[int, int] | None
    pixel_size_nm: tuple[float, float] | None

    def __len__(self) -> int:
        return len(self.position)


def check_pixel_size(pixel_size_nm: float | tuple[float, float]) -> tuple[float, float]:
    """Return the pixel size as (y, x) in nm, or refuse it.

    Examples
    --------
    >>> check_pixel_size(0.02)
    (0.02, 0.02)
    """
    try:
        values = np.broadcast_to(np.asarray(pixel_size_nm, dtype=float), (2,))
    except (TypeError, ValueError):
        values = np.full(2, np.nan)
    if not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise CalibrationError(
            f"pixel_size_nm is {pixel_size_nm!r}",
            needed="one positive number, or (y, x), in nm per pixel",
            todo="leave it out to work in pixels",
        )
    return float(values[0]), float(values[1])


def read_columns(
    columns: pd.DataFrame,
    *,
    pixel_size_nm: float | tuple[float, float] | None = None,
    at_least: int = 1,
) -> ColumnArrays:
    """Check a column table and return its arrays.

    Parameters
    ----------
    columns
        One row a column; ``y`` and ``x`` (px) are needed, everything else is optional.
    pixel_size_nm
        Calibration; None takes ``columns.attrs["pixel_size_nm"]``.
    at_least
        Smallest number of rows that makes sense.

    Raises
    ------
    DataTypeError
        `columns` is not a DataFrame.
    DataError
        ``y`` or ``x`` is missing or not finite, row labels repeat, or there are too few rows.
    CalibrationError
        The pixel size is not positive.
    """
    if not isinstance(columns, pd.DataFrame):
        raise DataTypeError(
            f"columns is a {type(columns).__name__}",
            needed="a pandas.DataFrame with y and x in px",
            todo="pass the table that atoms.find or atoms.refine returns",
        )
    lacking = [name for name in ("y", "x") if name not in columns.columns]
    if lacking:
        present = ", ".join(map(str, columns.columns)) or "nothing"
        raise DataError(
            f"the table lacks {', '.join(lacking)}; it has {present}",
            needed="y and x in px",
        )
    if not columns.index.is_unique:
        raise DataError(
            "row labels repeat", needed="one label a column", todo="columns.reset_index(drop=True)"
        )
    position = np.column_stack([_numbers(columns, "y"), _numbers(columns, "x")])
    bad = int(np.sum(~np.isfinite(position).all(axis=1)))
    if bad:
        raise DataError(
            f"{bad} of {len(position)} positions are not finite",
            needed="finite y and x",
            todo='columns.dropna(subset=["y", "x"])',
        )
    if len(position) < at_least:
        raise DataError(f"the table has {len(position)} columns", needed=f"at least {at_least}")
    if pixel_size_nm is None:
        pixel_size_nm = columns.attrs.get("pixel_size_nm")
    shape = columns.attrs.get("shape")
    edge = (
        columns["edge"].to_numpy(dtype=bool)
        if "edge" in columns.columns
        else np.zeros(len(position), dtype=bool)
    )
    return ColumnArrays(
        position=position,
        covariance=_covariance(columns),
        height=_optional(columns, "height"),
        width=_optional(columns, "width"),
        edge=edge,
        shape=(int(shape[0]), int(shape[1])) if shape is not None else None,
        pixel_size_nm=None if pixel_size_nm is None else check_pixel_size(pixel_size_nm),
    )


def _numbers(columns: pd.DataFrame, name: str) -> Float:
    try:
        return columns[name].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataTypeError(f"column {name!r} is not numeric", needed="numbers") from error


def _optional(columns: pd.DataFrame, name: str) -> Float | None:
    """Return a column that may be absent; unknown entries take the median, so that no NaN spreads."""
    if name not in columns.columns:
        return None
    values = _numbers(columns, name)
    known = np.isfinite(values)
    if not known.any():
        return None
    return np.where(known, values, np.median(values[known]))


def _covariance(columns: pd.DataFrame) -> Float | None:
    if "sd_y" not in columns.columns or "sd_x" not in columns.columns:
        return None
    sd = np.column_stack([_numbers(columns, "sd_y"), _numbers(columns, "sd_x")])
    known: NDArray[np.bool_] = np.all(np.isfinite(sd) & (sd >= 0), axis=1)
    if not known.any():
        return None
    # a position without an error bar is treated as the worst measured one, not as an exact one
    sd = np.where(known[:, None], sd, sd[known].max(axis=0))
    covariance = np.zeros((len(sd), 2, 2))
    covariance[:, 0, 0], covariance[:, 1, 1] = sd[:, 0] ** 2, sd[:, 1] ** 2
    if "cov_yx" in columns.columns:
        limit = 0.999 * sd[:, 0] * sd[:, 1]
        cross = np.nan_to_num(_numbers(columns, "cov_yx"))
        covariance[:, 0, 1] = covariance[:, 1, 0] = np.where(known, np.clip(cross, -limit, limit), 0.0)
    return covariance
