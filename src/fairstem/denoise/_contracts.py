"""What the parts of non-local denoising hand to each other.

`find_lattice` returns a pair, `FoundLattice` or None and the check of periodicity: the check is there either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fairstem.priors import PriorCheck

__all__ = ["Crystal", "Deviations", "Estimate", "FoundLattice"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FoundLattice:
    """A lattice that an image shows, in pixels.

    Parameters
    ----------
    vectors
        ``(2, 2)``: the two cell vectors as rows, each (y, x), Gauss-reduced, right-handed.
    relative_error
        Standard error of the vectors over their length.
    prior
        The periodicity statistic with its threshold: name ``"periodic"``.
    """

    vectors: Floats
    relative_error: float
    prior: PriorCheck


@dataclass(frozen=True)
class Estimate:
    """An estimate of the expected counts.

    Parameters
    ----------
    mean
        ``(y, x)`` expected kernel counts, > 0.
    leverage
        ``(y, x)``: the derivative of each pixel's estimate by its own count, between 0 (nothing of
        the pixel's own noise is kept) and 1 (all).
    """

    mean: Floats
    leverage: Floats


@dataclass(frozen=True)
class Crystal:
    """A crystal as it appears in an image: one cell, repeated along a slowly deformed lattice.

    Parameters
    ----------
    estimate
        The image of the crystal without defects.
    lattice
        The undeformed lattice.
    sites
        ``(n, 5)``: each column of the crystal in the image and within one cell of its border:
        y, x (deformed position, px), width (Gaussian sigma, px), number of the site in the cell,
        height above its surroundings (counts).
    displacement
        ``(2, y, x)`` px: the deformation (dy, dx); the crystal's pixel at r - u(r). Slow, but for what a scan
        adds: shifts of single rows and waves of vibration. It jumps by a lattice vector along a line that
        ends in a dislocation, where that leaves the crystal as it is.
    gain, background
        ``(y, x)``: the cell's image is multiplied by `gain`, then `background` is added.
    freedom
        Number of parameters that were fitted, all fields together.
    """

    estimate: Estimate
    lattice: FoundLattice
    sites: Floats
    displacement: Floats
    gain: Floats
    background: Floats
    freedom: float


@dataclass(frozen=True)
class Deviations:
    """Where an image differs from its crystal by more than chance, and the image with that put back.

    Parameters
    ----------
    estimate
        Crystal with the deviations put back.
    active
        ``(n,)`` bool: which of the tested sites deviate.
    statistic
        ``(n,)``: likelihood-ratio statistic of each site, chi-square with 6 degrees of freedom where
        nothing deviates; NaN where it could not be tested.
    coefficients
        ``(n, 6)``: what was put back at each site, in units of the site's height: the Gauss-Hermite functions
        G·{1, y, x, y²-1, xy, x²-1}, lengths in units of the width; 0 at inactive sites.
    covariance
        ``(n, 6, 6)`` of the coefficients at active sites; 0 elsewhere.
    blobs
        ``(m, 5)``: what lies off the sites: y, x, width (px), height (counts), z.
    rounds
        Rounds of the joint fit.
    """

    estimate: Estimate
    active: NDArray[np.bool_]
    statistic: Floats
    coefficients: Floats
    covariance: Floats
    blobs: Floats
    rounds: int = 0
    notes: Sequence[str] = field(default=())
