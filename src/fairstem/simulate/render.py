"""Images of atom columns: Gaussian peaks evaluated where each pixel samples the object."""

from __future__ import annotations

import math
from collections.abc import Callable

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd

from fairstem.errors import DataError
from fairstem.metrics._peaks import peak_table

__all__ = ["Background", "render_columns"]

Floats = npt.NDArray[np.float64]
Background = float | npt.NDArray[np.floating] | Callable[[Floats, Floats], Floats]


def render_columns(
    columns: pd.DataFrame,
    shape: tuple[int, int],
    *,
    background: Background = 0.0,
    displacement: npt.ArrayLike | None = None,
    accuracy: float = 1e-9,
) -> Floats:
    """Render atom columns as Gaussian peaks, in the unit of their heights (usually electrons).

    Prior: a column is a Gaussian peak. Each pixel is the value of the model at the one point the
    probe samples; nothing is interpolated or splatted, so positions hold to rounding error.

    Parameters
    ----------
    columns
        Table with `y`, `x`, `width` (sigma) in px and `height` above the background. Optional:
        `ellipticity` (long over short sigma, at a fixed product ``width**2``; 1 is round) and
        `angle` (radians, of the long axis, from +x towards +y).
    shape
        ``(ny, nx)`` of the image.
    background
        A number, an image ``(ny, nx)`` taken as recorded, or a function ``f(y, x)`` of object
        coordinates in px, which then moves with the displacement.
    displacement
        ``(2, ny, nx)`` in px, order (dy, dx): pixel (y, x) samples the object at (y + dy, x + dx).
    accuracy
        A column is left out where it is smaller than this fraction of its height.

    Returns
    -------
    numpy.ndarray
        Image ``(ny, nx)``, float64.

    Raises
    ------
    DataError
        A needed column of the table is missing, a value is not finite, a width is not positive,
        or a shape does not fit.

    Notes
    -----
    Cost: ``O(n_columns * width**2 * log(1 / accuracy))``; about 0.2 s for 10^5 columns of 3.5 px.
    `accuracy` is the one parameter to choose: 1e-9 is far below counting noise, and 1e-5 is 1.8
    times faster.

    Examples
    --------
    >>> import pandas as pd
    >>> one = pd.DataFrame({"y": [8.25], "x": [7.5], "height": [10.0], "width": [2.0]})
    >>> image = render_columns(one, (16, 16), background=1.0)
    >>> round(float(image.sum() - 256), 2), round(2 * 3.14159265 * 2.0**2 * 10, 2)
    (251.28, 251.33)
    """
    ny, nx = _image_shape(shape)
    table = peak_table(columns)
    if not 0 < accuracy < 1:
        raise DataError(f"accuracy is {accuracy}", needed="a fraction between 0 and 1", todo="leave 1e-9")
    reach = math.sqrt(-2.0 * math.log(accuracy))
    image = np.zeros((ny, nx))
    if displacement is None:
        _render_straight(image, table, reach)
    else:
        field = _displacement_field(displacement, (ny, nx))
        _render_displaced(image, table, reach, field[0], field[1])
        return image + _background_image(background, (ny, nx), field)
    return image + _background_image(background, (ny, nx), None)


def _image_shape(shape: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 1:
        raise DataError(
            f"shape is {shape}", needed="two positive sizes (ny, nx)", todo="pass e.g. (256, 256)"
        )
    return int(shape[0]), int(shape[1])


def _displacement_field(displacement: npt.ArrayLike, shape: tuple[int, int]) -> Floats:
    field = np.ascontiguousarray(displacement, dtype=np.float64)
    if field.shape != (2, *shape):
        raise DataError(
            f"displacement has shape {field.shape}",
            needed=f"(2, ny, nx) = {(2, *shape)}",
            todo="pass one frame",
        )
    if not np.isfinite(field).all():
        raise DataError("displacement has values that are not finite", todo="replace them")
    return field


def _background_image(background: Background, shape: tuple[int, int], field: Floats | None) -> Floats:
    if callable(background):
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
        values = background(y, x) if field is None else background(y + field[0], x + field[1])
        image = np.asarray(values, dtype=np.float64)
    else:
        image = np.asarray(background, dtype=np.float64)
    if image.shape not in ((), shape) or not np.isfinite(image).all():
        raise DataError(
            f"background has shape {image.shape}",
            needed=f"a finite number, image {shape} or function f(y, x) that returns one",
            todo="check the background",
        )
    return image


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _render_straight(image: Floats, table: Floats, reach: float) -> None:
    ny, nx = image.shape
    for n in range(table.shape[0]):
        y, x, height, a_yy, a_yx, a_xx = (
            table[n, 0], table[n, 1], table[n, 2], table[n, 4], table[n, 5], table[n, 6],
        )  # fmt: skip
        radius = reach * table[n, 7]
        x0, x1 = max(0, math.ceil(x - radius)), min(nx - 1, math.floor(x + radius))
        y0, y1 = max(0, math.ceil(y - radius)), min(ny - 1, math.floor(y + radius))
        if x1 < x0 or y1 < y0:
            continue
        if a_yx == 0.0:  # separable: one exponential per row and per pixel column
            along_x = np.exp(-0.5 * a_xx * (np.arange(x0, x1 + 1) - x) ** 2)
            for row in range(y0, y1 + 1):
                factor = height * math.exp(-0.5 * a_yy * (row - y) ** 2)
                for col in range(x0, x1 + 1):
                    image[row, col] += factor * along_x[col - x0]
        else:
            for row in range(y0, y1 + 1):
                dy = row - y
                for col in range(x0, x1 + 1):
                    dx = col - x
                    q = a_yy * dy * dy + 2 * a_yx * dy * dx + a_xx * dx * dx
                    image[row, col] += height * math.exp(-0.5 * q)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _render_displaced(image: Floats, table: Floats, reach: float, u_y: Floats, u_x: Floats) -> None:
    ny, nx = image.shape
    bounds = np.empty((ny, 4))  # per row: least and greatest displacement, so few pixels are visited
    for row in range(ny):
        bounds[row, 0], bounds[row, 1] = u_y[row].min(), u_y[row].max()
        bounds[row, 2], bounds[row, 3] = u_x[row].min(), u_x[row].max()
    lowest, highest = bounds[:, 0].min(), bounds[:, 1].max()
    for n in range(table.shape[0]):
        y, x, height, a_yy, a_yx, a_xx = (
            table[n, 0], table[n, 1], table[n, 2], table[n, 4], table[n, 5], table[n, 6],
        )  # fmt: skip
        radius = reach * table[n, 7]
        first = max(0, math.ceil(y - radius - highest))
        last = min(ny - 1, math.floor(y + radius - lowest))
        for row in range(first, last + 1):
            if row + bounds[row, 1] < y - radius or row + bounds[row, 0] > y + radius:
                continue
            x0 = max(0, math.ceil(x - radius - bounds[row, 3]))
            x1 = min(nx - 1, math.floor(x + radius - bounds[row, 2]))
            for col in range(x0, x1 + 1):
                dy = row + u_y[row, col] - y
                dx = col + u_x[row, col] - x
                q = a_yy * dy * dy + 2 * a_yx * dy * dx + a_xx * dx * dx
                if q <= reach * reach:
                    image[row, col] += height * math.exp(-0.5 * q)
