"""From counts to the expected counts: crystals, what deviates from them, and the rest block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import chdtrc

from fairstem.denoise._blocks.local import local_estimate
from fairstem.denoise._contracts import Crystal, Deviations, Estimate, FoundLattice
from fairstem.denoise._crystal.deviations import find_deviations
from fairstem.denoise._crystal.fit import fit_crystal
from fairstem.denoise._crystal.lattice import SMALLEST_PX, SURE, find_lattice
from fairstem.denoise._crystal.presence import presence
from fairstem.denoise._regions import blend, crystal_share, plain_estimate, share_of
from fairstem.denoise._residual import FLAGGED, standardised, structure_map
from fairstem.priors import PriorCheck

__all__ = ["TERMS", "Analysis", "Part", "Search", "analyse"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Search = Literal["auto", "periodic", "local"]
_MOST_LATTICES = 4
_LEAST_AREA = 0.02  # of the image: a smaller rest isn't searched for another lattice
_LEAST_CELLS = 9.0
_PRESENT = 0.5  # share of the crystal's contrast from which a place belongs to it
_COHERENT = 0.35  # share of the local contrast that a lattice's reflections carry, where it is
_CLEAR = 8.0  # sd: noise reaches it once an image
_SAME = 0.01  # of the area: less is not worth another fit
TERMS = 6  # of a site's statistic
_SCATTERED = 20.0  # of the median statistic; 5.3 where nothing deviates
_OUTLIER = 0.02  # tail probability: the column is kept out of the template
_FOOTPRINT = 2.5  # widths round a column that deviates: kept out of the template


@dataclass(frozen=True)
class Part:
    """One crystal of the image, where it is, and what deviates from it.

    Parameters
    ----------
    crystal, deviations
        The crystal without defects; what was put back.
    region
        ``(y, x)`` 0 to 1: where this crystal is.
    tested
        Positions, in the crystal's list, of the sites in its region.
    """

    crystal: Crystal
    deviations: Deviations
    region: Floats
    tested: NDArray[np.int64]


@dataclass(frozen=True)
class Analysis:
    """What an image was taken apart into.

    Parameters
    ----------
    estimate
        The expected counts.
    parts
        The crystals, strongest first.
    share
        ``(y, x)``: share of the crystals in the estimate; the rest is local block matching.
    periodic
        The check of periodicity of the first lattice, found or not.
    """

    estimate: Estimate
    parts: tuple[Part, ...]
    share: Floats
    periodic: PriorCheck

    def crystal_mean(self) -> Floats | None:
        """Return the crystals without deviations, each where it is; None without any."""
        if not self.parts:
            return None
        mean = self.parts[0].crystal.estimate.mean
        for part in self.parts[1:]:
            mean = part.region * part.crystal.estimate.mean + (1 - part.region) * mean
        return mean


def analyse(
    k: Floats,
    *,
    dark: float = 0.0,
    mask: Bools | None = None,
    strength: float = 0.05,
    search: Search = "auto",
) -> Analysis:
    """Take an image in kernel counts apart: see `fairstem.denoise.nonlocal_means`."""
    parts: list[Part] = []
    if search == "local":
        _, periodic = _lattice(k, None if mask is None else mask.astype(np.float64))
    else:
        parts, periodic = _crystals(k, mask, strength)
    if not parts:
        estimate = local_estimate(k, dark)
        return Analysis(estimate, (), np.zeros(k.shape), periodic)
    whole = _join(k, parts, mask)
    if search == "periodic":
        return Analysis(whole, tuple(parts), np.ones(k.shape), periodic)
    window = _window(parts[0].crystal)
    doubtful = _doubtful(k, whole, parts, window, mask)
    if not doubtful.any():
        return Analysis(whole, tuple(parts), np.ones(k.shape), periodic)
    vectors = parts[0].crystal.lattice.vectors
    local = local_estimate(k, dark, search="periodic", vectors=vectors, where=doubtful)
    share = np.where(doubtful, crystal_share(k, whole, local, window, mask=mask), 1.0)
    share = 1.0 - ndimage.gaussian_filter(1.0 - share, 0.25 * window) * doubtful
    return Analysis(blend(whole, local, share), tuple(parts), share, periodic)


def _crystals(k: Floats, mask: Bools | None, strength: float) -> tuple[list[Part], PriorCheck]:
    """Find lattice after lattice in what those before do not explain; return the check of the first as well."""
    free = np.ones(k.shape) if mask is None else mask.astype(np.float64)
    parts: list[Part] = []
    lattice, periodic = _lattice(k, None if mask is None else free)
    while lattice is not None:
        area = abs(float(np.linalg.det(lattice.vectors)))
        part = _one_crystal(k, lattice, free, mask, strength)
        if part is None:
            break
        parts.append(part)
        free = free * (1.0 - part.region)
        if free.sum() < max(_LEAST_AREA * k.size, _LEAST_CELLS * area) or len(parts) == _MOST_LATTICES:
            break
        lattice, _ = _lattice(k, free)
    return parts, periodic


def _lattice(k: Floats, weight: Floats | None) -> tuple[FoundLattice | None, PriorCheck]:
    """Find a lattice; none in what is too small to show one."""
    if min(k.shape) >= SMALLEST_PX and (weight is None or weight.sum() >= SMALLEST_PX**2 / 4):
        return find_lattice(k, weight)
    return None, PriorCheck(
        "periodic",
        "the image repeats itself along two vectors",
        float("nan"),
        SURE,
        ">=",
        f"decimal logarithm of the odds; fewer than {SMALLEST_PX} px a side or {SMALLEST_PX**2 // 4} px in all",
        "give a larger image for its lattice to be found; blocks can be matched in any",
    )


def _one_crystal(
    k: Floats, lattice: FoundLattice, free: Floats, mask: Bools | None, strength: float
) -> Part | None:
    least = _LEAST_CELLS * abs(float(np.linalg.det(lattice.vectors)))
    coherent = presence(k, lattice, free) > _COHERENT
    if (coherent * free).sum() < least:
        return None
    region = coherent * free
    crystal = fit_crystal(k, lattice, region)
    # edges are seen sharper once the crystal is known, but not far from where it was seen
    reach = ndimage.binary_dilation(coherent, iterations=round(_window(crystal)))
    seen, region = region, _region(k, crystal, free * reach, mask)
    if region.sum() < least:
        return None
    if np.abs(region - seen).mean() > _SAME * region.mean():
        crystal = fit_crystal(k, lattice, region, start=crystal)
    tested = _sites_in(crystal, region)
    found = find_deviations(k, crystal.estimate.mean, crystal.sites[tested], strength=strength, weight=region)
    # whatever is put back: what is likely to be the crystal's own is needed to know the crystal
    kept_out = _footprint(crystal.sites[tested][chdtrc(TERMS, found.statistic) < _OUTLIER], k.shape)
    # where most columns deviate, by scan noise for one, leaving them out leaves no crystal
    if kept_out.any() and np.nanmedian(found.statistic) < _SCATTERED:
        crystal = fit_crystal(k, lattice, region, excluded=kept_out, start=crystal)
        region = _region(k, crystal, free * reach, mask, kept_out)
        tested = _sites_in(crystal, region)
        found = find_deviations(
            k, crystal.estimate.mean, crystal.sites[tested], strength=strength, weight=region
        )
    return Part(crystal, found, region, tested)


def _window(crystal: Crystal) -> float:
    """Return the width (sigma) of the windows in which estimates are compared: two thirds of a cell, 6 px at least."""
    return max(6.0, 0.67 * float(np.sqrt(abs(np.linalg.det(crystal.lattice.vectors)))))


def _region(
    k: Floats, crystal: Crystal, free: Floats, mask: Bools | None, kept_out: Bools | None = None
) -> Floats:
    """Return where the crystal's contrast is there, 0 to 1."""
    window = _window(crystal)
    plain = plain_estimate(k, window, mask)
    seen = free > 0.5
    if kept_out is not None:
        seen &= ~kept_out
    share, _ = share_of(k, crystal.estimate, plain, window, mask=seen)
    inside = ndimage.gaussian_filter((share > _PRESENT).astype(np.float64), 0.25 * window)
    return np.asarray(np.clip(inside, 0.0, 1.0) * free)


def _sites_in(crystal: Crystal, region: Floats) -> NDArray[np.int64]:
    ny, nx = region.shape
    y = np.clip(np.rint(crystal.sites[:, 0]).astype(int), 0, ny - 1)
    x = np.clip(np.rint(crystal.sites[:, 1]).astype(int), 0, nx - 1)
    return np.flatnonzero(region[y, x] > 0.5)


def _footprint(sites: Floats, shape: tuple[int, ...]) -> Bools:
    """Return the pixels round these sites."""
    out = np.zeros(shape, dtype=bool)
    for y, x, width in sites[:, :3]:
        reach = _FOOTPRINT * width
        rows = slice(max(int(y - reach), 0), max(int(y + reach) + 2, 0))
        columns = slice(max(int(x - reach), 0), max(int(x + reach) + 2, 0))
        part = out[rows, columns]
        if part.size:
            yy = np.arange(rows.start, rows.start + part.shape[0])[:, None] - y
            xx = np.arange(columns.start, columns.start + part.shape[1])[None] - x
            part |= yy * yy + xx * xx < reach * reach
    return out


def _join(k: Floats, parts: Sequence[Part], mask: Bools | None) -> Estimate:
    """Join the crystals: each where it explains the image better than those before."""
    whole = parts[0].deviations.estimate
    for part in parts[1:]:
        own = part.deviations.estimate
        share, error = share_of(k, own, whole, 0.5 * _window(part.crystal), mask=mask)
        keep = np.clip(share, 0.0, 1.0) * (share > 2 * error) * (part.region > 0.05)
        whole = blend(own, whole, keep)
    return whole


def _doubtful(k: Floats, whole: Estimate, parts: Sequence[Part], window: float, mask: Bools | None) -> Bools:
    """Return where the crystals leave structure over, or no crystal is."""
    covered = np.clip(sum((part.region for part in parts), np.zeros(k.shape)), 0, 1)
    structure = structure_map(standardised(k, whole, mask), mask)
    # somewhere in an image noise looks like structure: a place counts if it is clear somewhere
    places, number = ndimage.label(structure > FLAGGED)
    clear = np.zeros(number + 1, dtype=bool)
    clear[places[structure > _CLEAR]] = True
    clear[0] = False
    there = clear[places] | (covered < 0.9)
    return np.asarray(ndimage.binary_dilation(there, iterations=max(4, round(0.5 * window))))
