"""Cramér-Rao bound of atom-column parameters: the smallest error bars the counts allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg, sparse

from fairstem.errors import DataError
from fairstem.metrics._peaks import peak_table

__all__ = ["PARAMETERS", "cramer_rao"]

Floats = npt.NDArray[np.float64]
PARAMETERS = ("y", "x", "height", "width", "background")
_LARGEST_JOINT = 3000  # parameters; the dense inverse of the joint matrix costs O(n^3)


def cramer_rao(
    columns: pd.DataFrame,
    expected: npt.ArrayLike,
    *,
    free: Sequence[str] = PARAMETERS,
    joint: bool = False,
    readout: float = 0.0,
    radius: float = 6.0,
) -> pd.DataFrame:
    """Return the smallest standard deviations any unbiased fit of the columns can have.

    Prior: the image is a sum of Gaussian columns on a smooth background; counts are Poisson, or
    Poisson with Gaussian readout noise. The Fisher matrix is ``F_ij = sum d_i m d_j m / v`` with
    ``v = m + readout**2``, exact for Poisson counts; for mixed noise it is the usual
    approximation by a Gaussian of that variance, good to a few per cent.

    Parameters
    ----------
    columns
        Table with `y`, `x`, `width` (sigma) in px and `height` in electrons; optional
        `ellipticity` and `angle` as in `fairstem.simulate.render_columns`, held fixed.
    expected
        Expected electrons ``(ny, nx)``: the noise-free image with all columns and background.
    free
        Which parameters are fitted, of ``"y", "x", "height", "width", "background"``. The rest is
        known. The background is one constant per column, or one for the image when `joint`.
    joint
        False: every column by itself, its neighbours known. True: all columns at once, which is
        what overlapping columns need; at most 3000 parameters.
    readout
        Standard deviation of the readout noise in electrons, as `image` is: a detector's readout in grey
        levels (`fairstem.simulate.add_noise`, `fairstem.atoms.find`) divided by its gain.
    radius
        Pixels up to this many widths from the column carry information. For an isolated column it
        matters only to height, width and background: the smaller, the more they trade off.

    Returns
    -------
    pandas.DataFrame
        Index of `columns`; ``sd_y, sd_x, cov_yx`` in px, ``sd_height`` and ``sd_background`` in
        electrons, ``sd_width`` in px: those that are free. Infinite where the image does not
        determine the parameter, as for a column outside the image.

    Raises
    ------
    DataError
        Unknown parameter, negative or non-finite counts, missing table columns, or too many
        parameters for a joint bound.

    Notes
    -----
    An isolated column without background has ``sd_y = width / sqrt(N)``, where N is its number of
    electrons. Cost: ``O(n radius**2 width**2)``; joint adds ``O((4 n)**3)``.

    References
    ----------
    A. J. den Dekker et al., Ultramicroscopy 104 (2005) 83, doi:10.1016/j.ultramic.2005.03.001.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> y, x = np.mgrid[:64, :64]
    >>> image = 5.0 * np.exp(-((y - 31.0) ** 2 + (x - 32.0) ** 2) / (2 * 3.5**2))
    >>> column = pd.DataFrame({"y": [31.0], "x": [32.0], "height": [5.0], "width": [3.5]})
    >>> bound = cramer_rao(column, image)
    >>> round(float(bound["sd_y"][0]), 3), round(float(3.5 / np.sqrt(image.sum())), 3)
    (0.178, 0.178)
    """
    table = peak_table(columns)
    names = _free_parameters(free)
    image = _expected_image(expected)
    if not (math.isfinite(readout) and readout >= 0 and radius > 0):
        raise DataError(
            f"readout {readout}, radius {radius}",
            needed="readout >= 0 and radius > 0",
            todo="see the docstring",
        )
    variance = image + readout**2
    if joint:
        covariance = _joint_covariance(table, variance, names, radius)
    else:
        pick = [PARAMETERS.index(name) for name in names]
        blocks = _fisher_blocks(table, variance, radius)[:, pick][:, :, pick]
        covariance = _invert(blocks)
    return _bound_table(covariance, names, columns.index)


def _free_parameters(free: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in free if name not in PARAMETERS]
    if unknown or not free or isinstance(free, str):
        raise DataError(
            f"free is {free!r}", needed=f"a sequence of {', '.join(PARAMETERS)}", todo="e.g. ('y', 'x')"
        )
    return tuple(name for name in PARAMETERS if name in free)


def _expected_image(expected: npt.ArrayLike) -> Floats:
    image = np.ascontiguousarray(expected, dtype=np.float64)
    if image.ndim != 2:
        raise DataError(
            f"expected has shape {image.shape}", needed="a 2-D image (y, x)", todo="pass one frame"
        )
    if image.size and not (np.isfinite(image).all() and image.min() >= 0):
        raise DataError("expected has negative or non-finite values", needed="expected electrons >= 0")
    return image


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _gradient(peak: Floats, row: int, col: int, out: Floats) -> float:
    """Write d model / d (y, x, height, width, background) of one column; return its squared distance."""
    dy, dx = row - peak[0], col - peak[1]
    along_y = peak[4] * dy + peak[5] * dx
    along_x = peak[5] * dy + peak[6] * dx
    q = dy * along_y + dx * along_x
    shape = math.exp(-0.5 * q)
    value = peak[2] * shape
    out[0], out[1], out[2], out[3], out[4] = value * along_y, value * along_x, shape, value * q / peak[3], 1.0
    return float(q)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _window(peak: Floats, shape: tuple[int, int], radius: float) -> tuple[int, int, int, int]:
    reach = radius * peak[7]
    y0, y1 = max(0, math.ceil(peak[0] - reach)), min(shape[0], math.floor(peak[0] + reach) + 1)
    x0, x1 = max(0, math.ceil(peak[1] - reach)), min(shape[1], math.floor(peak[1] + reach) + 1)
    return y0, y1, x0, x1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _fisher_blocks(table: Floats, variance: Floats, radius: float) -> Floats:
    blocks = np.zeros((table.shape[0], 5, 5))
    gradient = np.empty(5)
    for n in range(table.shape[0]):
        y0, y1, x0, x1 = _window(table[n], variance.shape, radius)
        for row in range(y0, y1):
            for col in range(x0, x1):
                v = variance[row, col]
                if v <= 0.0 or _gradient(table[n], row, col, gradient) > radius * radius:
                    continue
                for i in range(5):
                    for j in range(i + 1):
                        blocks[n, i, j] += gradient[i] * gradient[j] / v
        for i in range(5):
            for j in range(i):
                blocks[n, j, i] = blocks[n, i, j]
    return blocks


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _weighted_gradients(peak: Floats, variance: Floats, radius: float) -> tuple[Floats, Floats]:
    """Gradients over sqrt(variance) in the window of one column, and their pixel numbers."""
    y0, y1, x0, x1 = _window(peak, variance.shape, radius)
    size = max(0, y1 - y0) * max(0, x1 - x0)
    values, pixels = np.zeros((4, size)), np.zeros(size)
    gradient = np.empty(5)
    n = 0
    for row in range(y0, y1):
        for col in range(x0, x1):
            v = variance[row, col]
            if v <= 0.0 or _gradient(peak, row, col, gradient) > radius * radius:
                continue
            for i in range(4):
                values[i, n] = gradient[i] / math.sqrt(v)
            pixels[n] = row * variance.shape[1] + col
            n += 1
    return values[:, :n], pixels[:n]


def _joint_covariance(table: Floats, variance: Floats, names: tuple[str, ...], radius: float) -> Floats:
    """Return (n, p, p): each column's block of the inverse of the Fisher matrix of all columns."""
    own = [name for name in names if name != "background"]
    size = len(table) * len(own) + ("background" in names)
    if size > _LARGEST_JOINT:
        raise DataError(
            f"{size} parameters for a joint bound",
            needed=f"at most {_LARGEST_JOINT}",
            todo="pass fewer columns, fewer free parameters, or joint=False",
        )
    fisher = _joint_fisher(table, variance, [PARAMETERS.index(name) for name in own], radius)
    inverse = _invert((fisher if "background" in names else fisher[:-1, :-1])[None])[0]
    blocks = []
    for n in range(len(table)):
        index = list(range(n * len(own), (n + 1) * len(own))) + ([size - 1] if "background" in names else [])
        blocks.append(inverse[np.ix_(index, index)])
    return np.array(blocks).reshape(len(table), len(names), len(names))


def _joint_fisher(table: Floats, variance: Floats, pick: list[int], radius: float) -> Floats:
    """Return the Fisher matrix of the picked parameters of all columns, and last one background."""
    size = len(table) * len(pick)
    rows, cols, data = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    lit = variance > 0
    background = np.zeros(size + 1)
    background[-1] = (1 / variance[lit]).sum()
    for n, peak in enumerate(table):
        values, pixels = _weighted_gradients(peak, variance, radius)
        number = pixels.astype(np.int64)
        for k, i in enumerate(pick):
            rows.append(number)
            cols.append(np.full(len(number), n * len(pick) + k))
            data.append(values[i])
            background[n * len(pick) + k] = (values[i] / np.sqrt(variance.ravel()[number])).sum()
    entries = (np.concatenate(data), (np.concatenate(rows), np.concatenate(cols)))
    jacobian = sparse.csc_array(entries, shape=(variance.size, size))
    fisher = np.empty((size + 1, size + 1))
    fisher[:-1, :-1] = (jacobian.T @ jacobian).toarray()
    fisher[-1], fisher[:, -1] = background, background
    return fisher


def _well_posed_inverse(unit: Floats) -> Floats | None:
    """Invert one large matrix of unit diagonal by Cholesky; None when it is nearly singular."""
    try:
        factor = linalg.cholesky(unit, lower=True)
    except linalg.LinAlgError:
        return None
    if factor.diagonal().min() < 1e-6:
        return None
    return np.asarray(linalg.cho_solve((factor, True), np.eye(len(unit))))


def _invert(fisher: Floats) -> Floats:
    """Invert symmetric matrices (n, p, p); infinite diagonal where the data determine nothing."""
    diagonal = np.einsum("nii->ni", fisher)
    usable = diagonal > 0
    scale = np.where(usable, 1 / np.sqrt(np.where(usable, diagonal, 1.0)), 1.0)
    unit = fisher * scale[:, :, None] * scale[:, None, :]
    np.einsum("nii->ni", unit)[~usable] = 1.0
    if len(unit) == 1 and (inverse_unit := _well_posed_inverse(unit[0])) is not None:
        covariance = inverse_unit[None] * scale[:, :, None] * scale[:, None, :]
        np.einsum("nii->ni", covariance)[~usable] = np.inf
        return np.asarray(covariance)
    values, vectors = np.linalg.eigh(unit)
    floor = 1e-12 * values[:, -1:] if unit.shape[1] else values
    inverse = np.where(values > floor, 1 / np.maximum(values, 1e-300), np.inf)
    finite = np.where(np.isfinite(inverse), inverse, 0.0)
    covariance = np.einsum("nij,nj,nkj->nik", vectors, finite, vectors)
    # a parameter with weight in an undetermined direction has no finite bound
    lost = np.einsum("nij,nj->ni", vectors**2, ~np.isfinite(inverse)) > 1e-9
    covariance *= scale[:, :, None] * scale[:, None, :]
    np.einsum("nii->ni", covariance)[lost | ~usable] = np.inf
    return np.asarray(covariance)


def _bound_table(covariance: Floats, names: tuple[str, ...], index: pd.Index) -> pd.DataFrame:
    out = {f"sd_{name}": np.sqrt(covariance[:, k, k]) for k, name in enumerate(names)}
    if "y" in names and "x" in names:
        out["cov_yx"] = covariance[:, names.index("y"), names.index("x")]
    return pd.DataFrame(out, index=index)
