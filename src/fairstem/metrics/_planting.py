"""Plant deviations in a recorded image: columns moved or scaled in its counts, without knowing its truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from fairstem.metrics._columnfit import ColumnFits, gaussian

__all__ = ["Change", "Counts", "far_apart", "plant"]

Floats = npt.NDArray[np.float64]

_REACH = 5.0  # a column ends here, in widths


@dataclass(frozen=True)
class Counts:
    """An image in electrons.

    Parameters
    ----------
    electrons
        ``(y, x)``: raw values less offset, over gain.
    readout
        Standard deviation of the readout noise in electrons.
    """

    electrons: Floats
    readout: float

    @property
    def exact(self) -> bool:
        """True when the values are whole counts without readout noise: planting is exact then."""
        return self.readout == 0 and bool(np.abs(self.electrons - np.rint(self.electrons)).max() < 1e-4)


@dataclass(frozen=True)
class Change:
    """What happens to one column: it moves by `shift` (dy, dx) px and is multiplied by `factor`."""

    column: int
    shift: tuple[float, float]
    factor: float


def far_apart(candidates: Floats, wanted: int, distance: float, rng: np.random.Generator) -> list[list[int]]:
    """Share out `wanted` random candidates to as few images as it takes to keep them `distance` px apart."""
    order = rng.permutation(len(candidates))[:wanted]
    images: list[list[int]] = []
    for n in order:
        for group in images:
            if cKDTree(candidates[group]).query(candidates[n])[0] >= distance:
                group.append(int(n))
                break
        else:
            images.append([int(n)])
    return images


def plant(
    counts: Counts,
    fits: ColumnFits,
    changes: list[Change],
    neighbours: ColumnFits,
    width: float,
    mean: Floats | None,
    rng: np.random.Generator,
) -> Floats:
    """Return the electrons with `changes` planted in the columns of `fits`.

    The expectation m changes by D = h (f G(r - s) - G(r)). Where D < 0 the counts are thinned to the share
    1 + D/m, where D > 0 as many counts are added. For Poisson counts this is again a Poisson image, with
    expectation m + D. With readout noise, thinned values get the noise that keeps their variance.
    `neighbours` are all columns, for m where `mean` is not given: the fitted columns, and what the counts
    show beyond them.
    """
    out = counts.electrons.copy()
    exact = counts.exact
    for change in changes:
        at, height = fits.position[change.column], float(fits.height[change.column])
        reach = _REACH * width + float(np.hypot(*change.shift))
        low = np.maximum(np.ceil(at - reach).astype(int), 0)
        high = np.minimum(np.floor(at + reach).astype(int) + 1, out.shape)
        part = slice(low[0], high[0]), slice(low[1], high[1])
        y, x = np.mgrid[part].astype(np.float64)
        before = height * gaussian(y, x, at, width)
        after = change.factor * height * gaussian(y, x, at + np.asarray(change.shift), width)
        if mean is None:
            level = before + _surroundings(y, x, at, neighbours, width)
            level += max(float(fits.background[change.column]), 0.0)
            level = np.maximum(_corrected(level, out[part], width), before)
        else:
            level = mean[part]
        out[part] = _changed(out[part], level, after - before, counts.readout, exact, rng)
    return out


def _corrected(level: Floats, values: Floats, width: float) -> Floats:
    """Add to a modelled expectation what the counts show beyond it, as far as that stands out of their noise."""
    excess = ndimage.gaussian_filter(values - level, width / 2, mode="nearest")
    noise = np.maximum(level, 1e-3) / (np.pi * width**2)  # variance of a count smoothed so
    trust = np.maximum(0.0, 1 - noise / np.maximum(excess**2, 1e-300))
    return np.asarray(level + trust * excess)


def _surroundings(y: Floats, x: Floats, at: Floats, neighbours: ColumnFits, width: float) -> Floats:
    """Return what the columns around one column add to its pixels."""
    total = np.zeros_like(y)
    distance = np.hypot(*(neighbours.position - at).T)
    for n in np.flatnonzero((distance > 0.5 * width) & (distance < 2 * _REACH * width)):
        total += max(float(neighbours.height[n]), 0.0) * gaussian(y, x, neighbours.position[n], width)
    return total


def _changed(
    values: Floats, level: Floats, change: Floats, readout: float, exact: bool, rng: np.random.Generator
) -> Floats:
    """Thin where the expectation falls, add where it rises."""
    kept = np.clip(1 + np.minimum(change, 0) / np.maximum(level, 1e-12), 0.0, 1.0)
    added = rng.poisson(np.maximum(change, 0))
    if exact:
        return np.asarray(rng.binomial(np.rint(values).astype(np.int64), kept) + added, dtype=np.float64)
    # mean and variance of thinned electrons with the readout noise they had
    lost = kept * (1 - kept) * np.maximum(level, 0) + (1 - kept**2) * readout**2
    return np.asarray(kept * values + rng.normal(0.0, np.sqrt(lost)) + added)
