"""The support under a particle: how much its roughness shifts the positions of columns on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from fairstem.errors import DataError
from fairstem.signals import Gain

from ._columns import read_columns
from ._overlap import WINDOW
from ._prepare import prepare

__all__ = ["Support", "support"]

Float = NDArray[np.float64]
CLEAR = 4.0  # widths: nearer to a column the image is not the support alone
ENOUGH = 40.0  # areas of a column's window: fewer of support say too little of its roughness


@dataclass(frozen=True, eq=False)
class Support:
    """Roughness of a support film, and the errors of column positions that it makes.

    Prior: the film under the columns is like the film beside them, and adds to them. A fit takes the
    slope of the film under a column for a shift of the column; no dose takes that away, and frames of
    one place share it.

    Parameters
    ----------
    level, roughness
        Mean of the film, and standard deviation of what is not counting noise, counts.
    spectrum
        ``(size, size)`` counts²: power of the roughness at the frequencies of `numpy.fft.fft2`.
    pixels
        Number of pixels that it was measured on.
    unit, dark
        Counts of `level` and of column heights per count of `spectrum`, and counts of it that are no signal:
        those of the image's noise model.
    """

    level: float
    roughness: float
    spectrum: Float = field(repr=False)
    pixels: int
    unit: float = 1.0
    dark: float = 0.0

    def widen(self, columns: pd.DataFrame) -> pd.DataFrame:
        """Return a copy of a column table whose error bars include the support.

        Parameters
        ----------
        columns
            Table of `fairstem.atoms.refine`: `height`, `background`, `width`, `sd_y`, `sd_x`.

        Raises
        ------
        DataError
            A column is lacking.
        """
        _require(columns, ("sd_y", "sd_x"))
        extra = self._covariance(columns, np.arange(len(columns)), np.arange(len(columns)))
        out = columns.copy()
        size = columns.attrs.get("pixel_size_nm")
        for axis, name in enumerate(("sd_y", "sd_x")):
            out[name] = np.sqrt(out[name].to_numpy(np.float64) ** 2 + extra[:, axis, axis])
            if f"{name}_pm" in out and size is not None:
                out[f"{name}_pm"] = out[name] * size[axis] * 1000
        if "cov_yx" in out:
            out["cov_yx"] = out["cov_yx"].to_numpy(np.float64) + extra[:, 0, 1]
        return out

    def bond_covariance(self, columns: pd.DataFrame, first: ArrayLike, second: ArrayLike) -> pd.DataFrame:
        """Return how the support moves pairs of columns together, as `fairstem.atoms.bonds` takes it.

        Parameters
        ----------
        columns
            Table with `y`, `x`, `width` (px), `height` and `background`.
        first, second
            Row labels of the columns of each pair; a column with itself gives its variance.

        Returns
        -------
        pandas.DataFrame
            ``first, second, cov_y_y, cov_y_x, cov_x_y, cov_x_x`` (px²).

        Raises
        ------
        DataError
            A column is lacking, or a label isn't in the table.
        """
        labels = pd.Index(np.asarray(first)), pd.Index(np.asarray(second))
        one, two = (columns.index.get_indexer(label) for label in labels)
        if len(one) != len(two) or (one < 0).any() or (two < 0).any():
            raise DataError("pairs of columns that are not in the table", needed="row labels of `columns`")
        joint = self._covariance(columns, one, two)
        names = ("cov_y_y", "cov_y_x", "cov_x_y", "cov_x_x")
        table = {"first": labels[0], "second": labels[1]}
        return pd.DataFrame(table | dict(zip(names, joint.reshape(-1, 4).T, strict=True)))

    def _covariance(self, columns: pd.DataFrame, one: NDArray[np.intp], two: NDArray[np.intp]) -> Float:
        """Return (m, 2, 2) px²: covariance of the shifts of columns `one` and `two`."""
        _require(columns, ("y", "x", "width", "height", "background"))
        position = columns[["y", "x"]].to_numpy(np.float64)
        step = position[two] - position[one]
        out = np.zeros((len(one), 2, 2))
        size = len(self.spectrum)
        # farther apart than the lags that the spectrum knows, films are independent
        near = np.abs(step).max(axis=1, initial=0.0) < size / 2
        used = np.unique(np.concatenate([one[near], two[near]]))
        place = np.zeros(len(columns), np.intp)
        place[used] = np.arange(len(used))
        response = self._responses(columns.iloc[used])
        k = 2j * np.pi * np.fft.fftfreq(size)
        for n in np.flatnonzero(near):
            phase = np.exp(k[:, None] * step[n, 0] + k[None] * step[n, 1]) * self.spectrum
            a, b = response[place[one[n]]], response[place[two[n]]]
            out[n] = np.einsum("akl,kl,bkl->ab", a.conj(), phase, b, optimize=True).real / size**2
        return out

    def _responses(self, columns: pd.DataFrame) -> NDArray[np.complex128]:
        """Return (n, 2, size, size): transform of the shift in px that a count at each pixel makes."""
        size = len(self.spectrum)
        lag = np.fft.fftfreq(size) * size
        y, x = np.meshgrid(lag, lag, indexing="ij")
        r2 = y**2 + x**2
        out = np.empty((len(columns), 2, size, size), np.complex128)
        values = columns[["width", "height", "background"]].to_numpy(np.float64)
        for n, (width, height, background) in enumerate(values):
            bell = height / self.unit * np.exp(-r2 / (2 * width**2)) * (r2 <= (WINDOW * width) ** 2)
            below = max(background, 0.05 * self.level) / self.unit + self.dark
            mean = np.maximum(bell + below, 1e-9)
            for axis, slope in enumerate((bell * y / width**2, bell * x / width**2)):
                weight = slope / mean
                out[n, axis] = np.fft.fft2(weight / max(float((weight * slope).sum()), 1e-300))
        return out


def support(
    image: Any,
    columns: pd.DataFrame,
    *,
    gain: Gain = None,
    offset: float | None = None,
    readout: float | None = None,
) -> Support:
    """Measure the roughness of the support beside a particle.

    **Prior.** What is farther than four widths from every column is support alone, and the support under
    the columns is like it.

    Parameters
    ----------
    image
        The image that the columns were measured in, ``(y, x)``.
    columns
        All columns of the particle, with `width`: what is not listed counts as support.
    gain, offset, readout
        As in `refine`.

    Returns
    -------
    Support
        ``.widen(columns)`` and ``.bond_covariance(...)`` give the errors that it makes.

    Raises
    ------
    DataError
        No `width`, or too little of the image is free of columns.

    Notes
    -----
    The autocovariance of the free pixels, less the counting noise, is passed through the linear response
    of the fit, ``(∂m/∂y / m) / sum((∂m/∂y)² / m)``. Cost: two transforms of the image, one of a patch a
    column.

    Examples
    --------
    >>> import fairstem as fs
    >>> p = fs.simulate.phantom("pt-nanoparticle", seed=1, peak=900)
    >>> columns = fs.atoms.refine(p.data, p.truth[["y", "x"]], pixel_size_nm=p.pixel_size_nm)
    >>> film = fs.atoms.support(p.data, columns)
    >>> bool(film.widen(columns).sd_y_pm.median() > 2 * columns.sd_y_pm.median())  # not the dose limits here
    True
    """
    ready = prepare(image, gain, offset, readout)
    data = read_columns(columns)
    if data.width is None:
        raise DataError("the table lacks width", needed="a table of fairstem.atoms.refine")
    width = float(np.median(data.width))
    y, x = np.indices(ready.shape)
    pixels = np.column_stack([y.ravel(), x.ravel()])
    away = cKDTree(data.position).query(pixels, distance_upper_bound=CLEAR * width)[0]
    free = ready.mask & np.isinf(away).reshape(ready.shape)
    needed = ENOUGH * np.pi * (WINDOW * width) ** 2
    if free.sum() < needed:
        raise DataError(
            f"{int(free.sum())} pixels are farther than {CLEAR:g} widths from every column",
            needed=f"{needed:.0f} pixels of support",
            todo="take a larger field of view",
        )
    level = float(ready.counts[free].mean())
    size = 2 * int(np.ceil(4 * WINDOW * width / 2))
    spectrum = np.maximum(_power(ready.counts - level, free, size) - max(level, 0.0), 0.0)
    roughness = float(np.sqrt(spectrum.mean()))
    shown = (level - ready.dark) * ready.unit
    return Support(shown, roughness * ready.unit, spectrum, int(free.sum()), ready.unit, ready.dark)


def _power(values: Float, free: NDArray[np.bool_], size: int) -> Float:
    """Return (size, size) power spectrum of the values at free pixels, from their autocovariance."""
    padded = tuple(n + size for n in values.shape)
    inside = np.where(free, values, 0.0)
    products = np.fft.irfft2(np.abs(np.fft.rfft2(inside, padded)) ** 2, padded)
    pairs = np.fft.irfft2(np.abs(np.fft.rfft2(free.astype(np.float64), padded)) ** 2, padded)
    lag = np.rint(np.fft.fftfreq(size) * size).astype(int)
    at = np.ix_(lag, lag)
    covariance = products[at] / np.maximum(pairs[at], 1.0)
    # lags fade out, so that the spectrum is smooth
    fade = np.cos(np.pi * lag / size) ** 2
    return np.asarray(np.fft.fft2(covariance * fade[:, None] * fade[None]).real)


def _require(columns: pd.DataFrame, names: tuple[str, ...]) -> None:
    lacking = [name for name in names if name not in columns]
    if lacking:
        raise DataError(f"the table lacks {', '.join(lacking)}", needed="a table of fairstem.atoms.refine")
