"""Tables of Gaussian columns as arrays: what rendering and bounds both start from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairstem.errors import DataError, DataTypeError

__all__ = ["peak_table"]

Floats = npt.NDArray[np.float64]


def peak_table(columns: pd.DataFrame) -> Floats:
    """Return (n, 8): y, x, height, width, precision matrix (yy, yx, xx), longest sigma.

    `columns` has `y, x, height, width` and may have `ellipticity` and `angle`; see
    `fairstem.simulate.render_columns` for their meaning.
    """
    if not isinstance(columns, pd.DataFrame):
        raise DataTypeError(
            f"columns is a {type(columns).__name__}",
            needed="a pandas DataFrame with y, x, height, width",
            todo="pd.DataFrame({'y': ..., 'x': ..., 'height': ..., 'width': ...})",
        )
    missing = [name for name in ("y", "x", "height", "width") if name not in columns]
    if missing:
        raise DataError(
            f"columns lacks {', '.join(missing)}",
            needed="y, x [px], height, width [px]",
            todo="add the missing ones; a table of atoms.refine has all four",
        )
    y, x, height, width = (columns[name].to_numpy(np.float64) for name in ("y", "x", "height", "width"))
    ratio = columns["ellipticity"].to_numpy(np.float64) if "ellipticity" in columns else np.ones(len(y))
    angle = columns["angle"].to_numpy(np.float64) if "angle" in columns else np.zeros(len(y))
    values = np.stack([y, x, height, width, ratio, angle]) if len(y) else np.zeros((6, 0))
    if not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values).all(axis=0))
        raise DataError(
            f"columns has values that are not finite in rows {rows[:5].tolist()}", todo="drop them"
        )
    if len(y) and (width.min() <= 0 or ratio.min() <= 0):
        raise DataError("a column has a width or ellipticity that is not positive", todo="drop or correct it")
    long2, short2 = width**2 * ratio, width**2 / ratio
    cos, sin = np.cos(angle), np.sin(angle)
    # the precision matrix of an ellipse whose long axis has direction (sin, cos) in (y, x)
    a_yy = sin**2 / long2 + cos**2 / short2
    a_xx = cos**2 / long2 + sin**2 / short2
    a_yx = sin * cos * (1 / long2 - 1 / short2)
    longest = np.sqrt(np.maximum(long2, short2))
    return np.ascontiguousarray(np.stack([y, x, height, width, a_yy, a_yx, a_xx, longest], axis=1))
