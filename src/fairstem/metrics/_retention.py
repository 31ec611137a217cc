"""Plant and measure: what a denoising method would erase in an image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from fairstem.errors import DataError, DataTypeError
from fairstem.metrics._columnfit import ColumnFits, fit_columns
from fairstem.metrics._planting import Change, Counts, far_apart, plant
from fairstem.metrics._retention_input import (
    as_columns,
    as_electrons,
    as_expectation,
    as_pixel_size,
    as_shift,
)
from fairstem.signals.door import open_data
from fairstem.signals.noise import NoiseModel

__all__ = ["Retention", "retention"]

Floats = npt.NDArray[np.float64]
Denoise = Callable[[npt.NDArray[Any]], npt.ArrayLike]

_BORDER = 5.0  # widths between a planted column and the border
_SEEN = 4.0  # least height of a column that may be chosen, in its standard errors
_GONE = 0.05  # columns fitted lower than this share of their height are erased


@dataclass(frozen=True)
class Retention:
    """What is kept of planted deviations, by a method and by the noisy counts themselves.

    Parameters
    ----------
    displacement
        Share of the planted displacement that is found along its direction: 1 all, 0 erased. Mean over the
        columns; `displacement_sd` is the standard error of that mean.
    height
        Height of the scaled columns over their height before, to compare with `factor`; 1 when the change is
        erased. `height_sd` is its standard error.
    raw_displacement, raw_height
        The same, measured in the same way on the counts that were not denoised: the reference. With
        `raw_displacement_sd`, `raw_height_sd`.
    shift_pm, factor
        What was planted: displacements of `shift_pm`, heights multiplied by `factor`.
    count
        How many columns were moved, and how many scaled.
    images
        How many images it took to keep the planted columns apart.
    exact
        True when the planted images are exactly Poisson (whole counts), False when thinned values carry
        Gaussian noise of the right variance (readout noise, fractions of counts).
    columns
        One row a planted column: `y, x` [px], `kind` ("shift" or "scale"), `image`, `height` [electrons],
        `direction_y, direction_x` (of the shift, in nm), `kept, kept_raw` (share of the shift, or relative height).
    """

    displacement: float
    displacement_sd: float
    height: float
    height_sd: float
    raw_displacement: float
    raw_displacement_sd: float
    raw_height: float
    raw_height_sd: float
    shift_pm: float
    factor: float
    count: int
    images: int
    exact: bool
    columns: pd.DataFrame

    @property
    def relative_displacement(self) -> float:
        """Share kept over that found in the counts: what the method alone erases where the fit itself is off."""
        return self.displacement / self.raw_displacement

    @property
    def height_error(self) -> float:
        """Relative height less the planted factor: 0 when the change is kept."""
        return self.height - self.factor

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a JSON-ready dictionary, without the table."""
        out = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "columns"}
        return out | {
            "height_error": self.height_error,
            "relative_displacement": self.relative_displacement,
        }

    def __str__(self) -> str:
        """Return the numbers in a few lines."""
        noise = "Poisson counts: exact" if self.exact else "mean and variance right, not whole counts"
        return (
            f"planted in {self.images} image(s), {self.count} columns each ({noise})\n"
            f"displacement of {self.shift_pm:g} pm kept: {self.displacement:.2f} ± {self.displacement_sd:.2f}"
            f" (counts: {self.raw_displacement:.2f} ± {self.raw_displacement_sd:.2f})\n"
            f"height of columns scaled to {self.factor:g}: {self.height:.2f} ± {self.height_sd:.2f}"
            f" (counts: {self.raw_height:.2f} ± {self.raw_height_sd:.2f})"
        )


def retention(
    image: Any,
    denoise: Denoise,
    *,
    columns: pd.DataFrame | npt.ArrayLike,
    pixel_size_nm: float | tuple[float, float] | None = None,
    mean: npt.ArrayLike | None = None,
    shift_pm: float = 20.0,
    factor: float = 0.5,
    count: int = 12,
    noise: NoiseModel | None = None,
    seed: int = 0,
) -> Retention:
    """Plant displaced and dimmed columns in an image, denoise it, and measure what is left of them.

    A denoised image may look perfect because the method made every column like its neighbours. This says what
    it would erase in *this* image at *this* dose: `count` columns are moved by `shift_pm`, as many are multiplied
    by `factor`, the planted image is denoised as the original is, and both are fitted in the same way.

    Prior: columns are Gaussian peaks of one width on a local background, and the counts are Poisson. Where the
    expectation m falls by D, counts are thinned to the share 1 - D/m; where it rises, Poisson counts are added:
    a thinned Poisson count and a sum of two are Poisson again, so whole counts stay exactly what a detector
    would have recorded, noise included, whatever the true m is. The size of what is planted stands on the
    height fitted to the column, which is unbiased. With readout noise or fractions of counts, the thinned
    part gets Gaussian noise such that mean and variance are right (``exact`` is False then).

    Parameters
    ----------
    image
        HyperSpy signal, numpy or dask array ``(y, x)``, noisy; raw detector values when `noise` says how they
        relate to electrons, electrons otherwise.
    denoise
        Any function from an array ``(y, x)`` like `image` to one of the same shape, in the same unit. It is
        called once for the original and once for each planted image, and must be deterministic. It gets a plain
        array: a detector's gain has to be told to it, ``lambda raw: nonlocal_means(raw, gain=..., offset=...)``.
    columns
        Positions of the columns: a table with `y, x` in px (as `atoms.find` returns) or an array ``(n, 2)``.
        The median of `width` (Gaussian sigma, px) is taken if the table has it, else fitted.
    pixel_size_nm
        Pixel size in nm, a number or (py, px). Default: that of `columns.attrs` or of the signal.
    mean
        ``(y, x)`` expectation in the unit of `image`, where it is known better than from the fits to the
        counts, such as a simulation's truth.
    shift_pm
        Planted displacement in pm, in random directions; at most 1.5 widths.
    factor
        Height of the scaled columns over their own, >= 0 and not 1.
    count
        How many columns are moved, and as many others scaled. The standard errors fall as its square root.
    noise
        How raw values relate to electrons. Default: they are electrons.
    seed
        Seed of the choice of columns, the directions and the planted counts.

    Returns
    -------
    Retention
        Shares kept with their standard errors, the same for the counts, and a table.

    Raises
    ------
    DataError
        Columns outside the image, fewer than ``2 count`` that stand out of the noise away from the border,
        no pixel size, negative counts, NaN, or `denoise` returns another shape or values that are not finite.
    DataTypeError
        `denoise` cannot be called.

    Notes
    -----
    Columns that stand 4 standard errors out of the counts are drawn at random. In one image, planted
    columns are at least two cells apart (twice the distance to the fifth neighbour) and 5 widths from the
    border; as many images are made as that takes. Displacements are differences between the planted and
    the original image, which share most of their noise. A denoised image in which a column is lower than
    5 % of its height in the counts has erased it: nothing is kept. Where columns are no Gaussians of one width,
    the share found in the counts differs from 1 as well: compare with it (`Retention.relative_displacement`).

    How to choose the parameter that matters: `shift_pm` is the displacement you want to find. Retention grows
    with it, as methods keep what stands out of the noise.

    Cost: ``1 + images`` calls of `denoise`, 1 ms a fitted column; images are 2 to 4 for 24 columns in 200.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> columns = np.mgrid[20:256:24, 20:256:24].reshape(2, -1).T.astype(float)
    >>> pixels = np.mgrid[:256, :256]
    >>> clean = 3.0 + sum(
    ...     50 * np.exp(-((pixels[0] - y) ** 2 + (pixels[1] - x) ** 2) / (2 * 3.5**2)) for y, x in columns
    ... )
    >>> image = rng.poisson(clean)
    >>> def nothing(counts):
    ...     return counts
    >>> kept = retention(image, nothing, columns=columns, pixel_size_nm=0.012, seed=1)
    >>> abs(kept.displacement - 1) < 0.05, abs(kept.height - 0.5) < 0.02, kept.exact
    (True, True, True)
    >>> def template(counts):  # every column the same: nothing that deviates can survive
    ...     return clean
    >>> lost = retention(image, template, columns=columns, pixel_size_nm=0.012, seed=1)
    >>> round(abs(lost.displacement), 3), round(lost.height, 3)
    (0.0, 1.0)
    """
    opened = open_data(image)
    raw = np.asarray(opened.array)
    model = noise if noise is not None else NoiseModel()
    counts = as_electrons(image, model)
    positions, width = as_columns(columns, counts.electrons)
    pixel = as_pixel_size(pixel_size_nm, columns, opened.pixel_size_nm)
    shift = as_shift(shift_pm, factor, count, width, pixel)
    expected = None if mean is None else as_expectation(mean, raw.shape, model)
    source = counts.electrons if expected is None else expected
    rng = np.random.default_rng(seed)
    chosen = _choose(source, positions, width, count, rng)
    every = fit_columns(source, positions, positions, width, move=False)
    target = fit_columns(source, positions[chosen], positions, width)
    angle = rng.uniform(0, 2 * np.pi, count)
    direction = np.column_stack([np.sin(angle), np.cos(angle)])
    moves = np.concatenate([direction * shift, np.zeros((count, 2))])
    factors = np.concatenate([np.ones(count), np.full(count, factor)])
    job = _Job(counts, model, raw.dtype, positions, width, target, every, expected)
    group, before, after = job.measure(denoise, raw, moves, factors, rng)
    table = _table(target, group, direction, moves, before, after)
    own = _shares(table["kept"], before[1], after[1], target.height, count)
    reference = _shares(table["kept_raw"], before[0], after[0], target.height, count)
    images = int(group.max()) + 1
    return Retention(*own, *reference, float(shift_pm), float(factor), count, images, counts.exact, table)


@dataclass(frozen=True)
class _Job:
    """An image in which columns are planted, and how it goes to the method and comes back."""

    counts: Counts
    model: NoiseModel
    dtype: np.dtype[Any]
    positions: Floats
    width: float
    target: ColumnFits
    every: ColumnFits
    mean: Floats | None

    def measure(
        self,
        denoise: Denoise,
        raw: npt.NDArray[Any],
        moves: Floats,
        factors: Floats,
        rng: np.random.Generator,
    ) -> tuple[npt.NDArray[np.int64], list[ColumnFits], list[ColumnFits]]:
        """Return the image of each column, and fits before and after planting: (counts, denoised) each."""
        number = len(moves)
        apart = 2 * _cell(self.positions)
        groups = far_apart(self.target.position, number, apart, rng)
        original = _denoised(denoise, raw, self.model)
        before = [self._fits(image, np.arange(number)) for image in (self.counts.electrons, original)]
        after = [_empty(number), _empty(number)]
        group = np.empty(number, dtype=np.int64)
        for n, members in enumerate(groups):
            index = np.array(members)
            changes = [
                Change(k, (float(moves[k, 0]), float(moves[k, 1])), float(factors[k])) for k in members
            ]
            planted = plant(self.counts, self.target, changes, self.every, self.width, self.mean, rng)
            image = self._recorded(planted)
            for into, values in zip(after, (planted, _denoised(denoise, image, self.model)), strict=True):
                found = self._fits(values, index)
                into.position[index], into.height[index] = found.position, found.height
            group[index] = n
        return group, before, after

    def _fits(self, image: Floats, index: npt.NDArray[np.int64]) -> ColumnFits:
        return fit_columns(image, self.target.position[index], self.positions, self.width)

    def _recorded(self, electrons: Floats) -> npt.NDArray[Any]:
        """Return electrons as the detector would have recorded them."""
        raw = electrons * self.model.gain + self.model.offset
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            return np.clip(np.rint(raw), limits.min, limits.max).astype(self.dtype)
        return raw.astype(self.dtype)


def _empty(number: int) -> ColumnFits:
    return ColumnFits(np.zeros((number, 2)), np.zeros(number), np.zeros(number), np.zeros(number))


def _cell(positions: Floats) -> float:
    """Return the distance to the fifth neighbour: the cell where columns lie in rows, pairs or honeycombs."""
    k = min(6, len(positions))
    return float(np.median(cKDTree(positions).query(positions, k=k)[0][:, -1]))


def _choose(
    image: Floats, positions: Floats, width: float, count: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return 2 count random columns that stand out of the noise, away from the border."""
    edge = np.asarray(image.shape) - 1
    inner = np.flatnonzero(
        ((positions >= _BORDER * width) & (positions <= edge - _BORDER * width)).all(axis=1)
    )
    fits = fit_columns(image, positions[inner], positions, width, move=False)
    seen = inner[fits.height > _SEEN * fits.height_sd]
    if len(seen) < 2 * count:
        raise DataError(
            f"{len(seen)} of {len(positions)} columns stand out of the noise at least {_BORDER * width:.3g} px "
            "from the border",
            needed=f"{2 * count}: {count} to move and {count} to scale",
            todo="pass a smaller count=, or average more frames",
        )
    return np.asarray(rng.permutation(seen)[: 2 * count], dtype=np.int64)


def _denoised(denoise: Denoise, raw: npt.NDArray[Any], model: NoiseModel) -> Floats:
    if not callable(denoise):
        raise DataTypeError(f"denoise is a {type(denoise).__name__}", needed="a function from image to image")
    out = np.asarray(denoise(raw.copy()), dtype=np.float64)
    if out.shape != raw.shape:
        raise DataError(f"denoise returned shape {out.shape}", needed=f"the shape of the image, {raw.shape}")
    if not np.isfinite(out).all():
        bad = int((~np.isfinite(out)).sum())
        raise DataError(f"denoise returned {bad} values that are not finite", needed="a finite image")
    return (out - model.offset) / model.gain


def _table(
    target: ColumnFits,
    group: npt.NDArray[np.int64],
    direction: Floats,
    moves: Floats,
    before: list[ColumnFits],
    after: list[ColumnFits],
) -> pd.DataFrame:
    """Return one row a planted column."""
    number, count = len(moves), len(direction)
    table = pd.DataFrame(target.position, columns=["y", "x"])
    table["kind"] = pd.Series(["shift"] * count + ["scale"] * (number - count), dtype=object)
    table["image"], table["height"] = group, target.height
    table[["direction_y", "direction_x"]] = np.concatenate([direction, np.zeros((number - count, 2))])
    for name, old, new in zip(("kept_raw", "kept"), before, after, strict=True):
        length2 = (moves[:count] ** 2).sum(axis=1)
        found = ((new.position - old.position)[:count] * moves[:count]).sum(axis=1)
        there = np.minimum(old.height, new.height)[:count] > _GONE * target.height[:count]
        own = np.maximum(old.height, _GONE * target.height)[count:]
        scaled = 1 - (old.height - new.height)[count:] / own
        table[name] = np.concatenate([np.where(there, found / length2, 0.0), scaled])
    return table


def _shares(
    kept: pd.Series, old: ColumnFits, new: ColumnFits, height: Floats, count: int
) -> tuple[float, float, float, float]:
    """Return share of the displacement and relative height, each with its standard error."""
    moved = kept.to_numpy(np.float64)[:count]
    # a ratio of sums: single heights of few counts have no finite mean of ratios
    own = np.maximum(old.height, _GONE * height)[count:]
    change = (old.height - new.height)[count:]
    ratio = change.sum() / own.sum()
    spread = (change - ratio * own).std(ddof=1) / own.mean()
    root = math.sqrt(count)
    return float(moved.mean()), float(moved.std(ddof=1) / root), float(1 - ratio), float(spread / root)
