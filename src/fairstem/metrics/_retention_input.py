"""What `retention` is given: checked, and turned into electrons and px."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from fairstem.errors import DataError
from fairstem.metrics._columnfit import fit_width
from fairstem.metrics._planting import Counts
from fairstem.signals.image_check import validate_image
from fairstem.signals.noise import NoiseModel

__all__ = ["as_columns", "as_electrons", "as_expectation", "as_pixel_size", "as_shift"]

Floats = npt.NDArray[np.float64]


def as_electrons(image: Any, model: NoiseModel) -> Counts:
    """Return the electrons of a complete image of counts."""
    if not model.poisson:
        raise DataError(
            "a noise model without Poisson noise",
            needed="counts: planting thins them and adds to them",
            todo="give the gain of the detector, or estimate it with signals.estimate_noise",
        )
    check = validate_image(image, warn=False)
    if not check.complete:
        raise DataError(
            f"image has {int((~check.mask).sum())} values that are NaN or masked",
            needed="a complete image",
            todo="crop it, or put in the values of neighbours",
        )
    electrons = (check.array - model.offset) / model.gain
    if model.readout == 0 and electrons.min() < -1e-6:
        raise DataError(
            f"image has negative counts, the least is {electrons.min():.3g} electrons",
            needed="counts, or a noise model with offset and readout noise",
            todo="pass noise=NoiseModel(gain, offset, readout)",
        )
    return Counts(electrons, model.readout / model.gain)


def as_columns(columns: pd.DataFrame | npt.ArrayLike, image: Floats) -> tuple[Floats, float]:
    """Return positions (n, 2) inside the image and the width of a column."""
    width = math.nan
    if isinstance(columns, pd.DataFrame):
        lacking = [name for name in ("y", "x") if name not in columns]
        if lacking:
            raise DataError(f"columns lacks {', '.join(lacking)}", needed="y and x in px")
        positions = columns[["y", "x"]].to_numpy(np.float64)
        if "width" in columns:
            width = float(columns["width"].median())
    else:
        positions = np.asarray(columns, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 2 or len(positions) < 2:
        raise DataError(f"columns has shape {positions.shape}", needed="(n, 2), order (y, x), n >= 2")
    if not np.isfinite(positions).all():
        raise DataError("columns has positions that are not finite", todo="drop those rows")
    inside = np.asarray(((positions >= -0.5) & (positions <= np.asarray(image.shape) - 0.5)).all(axis=1))
    if not inside.all():
        raise DataError(
            f"{int((~inside).sum())} of {len(inside)} columns lie outside the image of shape {image.shape}",
            needed="positions in px of this image, order (y, x)",
            todo="drop them, or check that y and x are not swapped and not in nm",
        )
    if cKDTree(positions).query(positions, k=2)[0][:, 1].min() <= 0:
        raise DataError("columns has the same position twice", todo="drop duplicates")
    if math.isnan(width):
        width = fit_width(image, positions)
    if not (math.isfinite(width) and width > 0):
        raise DataError(f"columns have a width of {width} px", needed="a positive Gaussian sigma in px")
    return positions, width


def as_pixel_size(given: Any, columns: Any, of_image: tuple[float, float] | None) -> Floats:
    """Return (py, px) in nm: given, of the table, or of the image."""
    own = columns.attrs.get("pixel_size_nm") if isinstance(columns, pd.DataFrame) else None
    size = next((value for value in (given, own, of_image) if value is not None), None)
    if size is None:
        raise DataError(
            "the pixel size is not known", needed="it to plant a shift in pm", todo="pass pixel_size_nm="
        )
    pixel = np.broadcast_to(np.asarray(size, dtype=np.float64), 2)
    if not (np.isfinite(pixel).all() and (pixel > 0).all()):
        raise DataError(f"pixel_size_nm is {size}", needed="a positive number or (py, px) in nm")
    return np.asarray(pixel)


def as_shift(shift_pm: float, factor: float, count: int, width: float, pixel: Floats) -> Floats:
    """Return the length of the shift in px along y and x."""
    if not isinstance(count, int | np.integer) or count < 2:
        raise DataError(f"count is {count!r}", needed="an integer >= 2")
    if not (math.isfinite(factor) and factor >= 0 and factor != 1):
        raise DataError(f"factor is {factor}", needed=">= 0 and not 1")
    if not (math.isfinite(shift_pm) and shift_pm > 0):
        raise DataError(f"shift_pm is {shift_pm}", needed="a positive length in pm")
    shift = shift_pm * 1e-3 / pixel
    if shift.max() > 1.5 * width:
        raise DataError(
            f"shift_pm is {shift_pm:g}, that is {shift.max():.3g} px; columns have a width of {width:.3g} px",
            needed="at most 1.5 widths",
            todo="plant a smaller shift: larger ones are not mistaken for noise",
        )
    return shift


def as_expectation(mean: npt.ArrayLike, shape: tuple[int, ...], model: NoiseModel) -> Floats:
    """Return the expected electrons."""
    expected = (np.asarray(mean, dtype=np.float64) - model.offset) / model.gain
    if expected.shape != shape or not np.isfinite(expected).all() or expected.min() < 0:
        raise DataError(
            f"mean has shape {expected.shape}",
            needed=f"expected values >= 0 of shape {shape}, in the image's unit",
        )
    return expected
