"""The lattice of an image: found in its spectrum, refined, and the prior that it has one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fairstem.denoise._contracts import FoundLattice
from fairstem.denoise._crystal.indexing import Indexed, index_reflections, reduced
from fairstem.denoise._crystal.refining import Refined, refine_reciprocal
from fairstem.denoise._crystal.spectrum import find_reflections, make_spectrum, windowed
from fairstem.errors import DataError
from fairstem.priors import PriorCheck

__all__ = ["SMALLEST_PX", "SURE", "find_lattice", "refine_lattice"]

Floats = NDArray[np.float64]

SMALLEST_PX = 64  # px
_SHORTEST = 4.0  # px, cell
_FEWEST = 9.0  # cells in view
SURE = 2.0  # decimal logarithm of the odds against chance
_MOST_FROM_HEIGHT = 2.0
_TAPER = 1.4  # cells over which the window rises while refining: less mixes harmonics
_LARGEST = 2048  # px a side whose spectrum is taken


def find_lattice(k: Floats, weight: Floats | None = None) -> tuple[FoundLattice | None, PriorCheck]:
    """Find the lattice that an image, or a region of it, shows.

    Prior: the region repeats itself along two vectors, so that its spectrum has sharp reflections at
    integer combinations of two others. An amorphous film has sharp peaks too when it is seen well, but they
    lie anywhere; noise has none.

    Parameters
    ----------
    k
        ``(y, x)`` kernel counts, at least 64 px a side. Any scale.
    weight
        ``(y, x)`` in [0, 1]: where to look. None: everywhere.

    Returns
    -------
    lattice : FoundLattice or None
        The strongest lattice; None where the prior does not hold.
    prior : PriorCheck
        Name ``"periodic"``: decimal logarithm of the odds that what was found is no accident.

    Raises
    ------
    DataError
        Not a finite image of at least 64 px a side, or a weight that does not fit it.

    Notes
    -----
    Cost: one transform of four times the pixels and ``O(pixels * harmonics)``: 0.1 s for 512² on one core. Cells
    from 4 px to about a third of the region. Of images beyond 2048 px a side the middle is searched, and the whole
    refines.

    Examples
    --------
    >>> from fairstem.simulate import phantom
    >>> lattice, prior = find_lattice(phantom("p2", peak=5, shape=(256, 256)).data.astype(float))
    >>> bool(prior.holds), [round(float((v @ v) ** 0.5), 1) for v in lattice.vectors]
    (True, [32.5, 32.5])
    """
    weight = _checked(k, weight)
    rest, window = windowed(*_middle(k, weight))
    if float(np.abs(rest).max(initial=0.0)) <= 1e-6 * float(np.abs(k).max()):
        return None, _prior(0.0)
    spectrum = make_spectrum(rest, window)
    found = index_reflections(find_reflections(spectrum), spectrum)
    if found is None or not _in_range(found.reciprocal, window):
        return None, _prior(0.0)
    prior = _prior(_evidence(found, spectrum.threshold))
    if not prior.holds:
        return None, prior
    fine = _refined(k, weight, found.reciprocal, found.covariance)
    vectors, error = _direct(fine)
    return FoundLattice(vectors, error, prior), prior


def refine_lattice(k: Floats, vectors: Floats, weight: Floats | None = None) -> Floats:
    """Refine lattice vectors in an image, or in a region of it.

    Prior: as `find_lattice`; the vectors are good to half a spacing of the lattice across the region.

    Parameters
    ----------
    k
        ``(y, x)`` kernel counts.
    vectors
        ``(2, 2)`` start: rows (y, x) px.
    weight
        ``(y, x)`` in [0, 1]: where to look. None: everywhere.

    Returns
    -------
    ndarray
        ``(2, 2)`` vectors, the same combination as given.

    Raises
    ------
    DataError
        As `find_lattice`, or vectors that span no plane.

    Notes
    -----
    Cost: ``O(pixels * harmonics)``, 0.05 s for 512².
    """
    weight = _checked(k, weight)
    start = np.asarray(vectors, dtype=np.float64)
    if start.shape != (2, 2) or not np.isfinite(start).all() or abs(np.linalg.det(start)) < 1e-6:
        raise DataError(
            f"vectors are {start.tolist()}", needed="two lattice vectors (y, x) in px that span a plane"
        )
    # harmonics of a reduced basis are the low orders
    g = reduced(np.linalg.inv(start).T)
    back = np.rint(start @ g.T)
    return np.asarray(back @ np.linalg.inv(_refined(k, weight, g).reciprocal).T)


def _checked(k: Floats, weight: Floats | None) -> Floats | None:
    if k.ndim != 2 or min(k.shape) < SMALLEST_PX:
        raise DataError(
            f"image has shape {k.shape}",
            needed=f"a 2-D array (y, x) of at least {SMALLEST_PX} px a side",
            todo="denoise small images without a lattice",
        )
    if not np.isfinite(k).all():
        raise DataError("the image has values that are not finite", needed="finite counts")
    if weight is None:
        return None
    if weight.shape != k.shape or not (float(weight.min()) >= 0 and float(weight.max()) <= 1):
        raise DataError(
            f"weight has shape {weight.shape}", needed=f"shape {k.shape} and values between 0 and 1"
        )
    if float(weight.sum()) < SMALLEST_PX**2 / 4:
        raise DataError(
            f"weight adds up to {float(weight.sum()):.4g} px",
            needed=f"a region of at least {SMALLEST_PX**2 // 4} px",
        )
    return np.asarray(weight, dtype=np.float64)


def _middle(k: Floats, weight: Floats | None) -> tuple[Floats, Floats | None]:
    """Return the part of a very large image round the middle of its weight."""
    cut = []
    for axis, n in enumerate(k.shape):
        line = np.ones(n) if weight is None else weight.sum(axis=1 - axis)
        centre = float(line @ np.arange(n) / line.sum())
        first = int(min(max(centre - _LARGEST / 2, 0), max(n - _LARGEST, 0)))
        cut.append(slice(first, first + _LARGEST))
    box = (cut[0], cut[1])
    return k[box], None if weight is None else weight[box]


def _in_range(g: Floats, window: NDArray[np.float32]) -> bool:
    """Whether the cell is no smaller than 4 px and the region holds enough of it."""
    area = float(window.sum()) ** 2 / float((window**2).sum())
    a = reduced(np.linalg.inv(g).T)
    return float(np.hypot(*a[0])) >= 0.95 * _SHORTEST and area * abs(float(np.linalg.det(g))) >= 0.5 * _FEWEST


def _evidence(found: Indexed, threshold: float) -> float:
    """Return the odds; reflections that are few, but high and all of one lattice, count too."""
    if found.weaker <= 0:
        return 0.0
    height = min(math.log2(max(found.weaker / threshold, 1.0)), _MOST_FROM_HEIGHT)
    return found.odds + height * max(2 * found.share - 1, 0.0)


def _prior(odds: float) -> PriorCheck:
    return PriorCheck(
        "periodic",
        "the image repeats itself along two vectors",
        float(odds),
        SURE,
        ">=",
        "decimal logarithm of the odds that the reflections do not fall on a lattice by chance",
        "no lattice was found: denoise with local block matching, choose a region with the crystal alone, or "
        "record more electrons or more cells",
    )


def _refined(k: Floats, weight: Floats | None, g: Floats, covariance: Floats | None = None) -> Refined:
    side = min(k.shape) if weight is None else min(math.sqrt(float(weight.sum())), *k.shape)
    cell = 1 / float(np.hypot(*g.T).min())
    rest, window = windowed(k, weight, float(np.clip(_TAPER * cell / side, 0.05, 0.3)))
    noise = float((window.astype(np.float64) ** 2 * np.maximum(k, 0)).sum())
    return refine_reciprocal(rest, noise, g, covariance)


def _direct(fine: Refined) -> tuple[Floats, float]:
    """Return the vectors, reduced and right-handed, and the relative error of the worse one."""
    inverse = np.linalg.inv(fine.reciprocal)
    vectors = reduced(inverse.T)
    if np.linalg.det(vectors) < 0:
        vectors = np.stack([vectors[0], -vectors[1]])
    worst = 0.0
    whole = np.rint(vectors @ fine.reciprocal.T)
    for orders, vector in zip(whole, vectors, strict=True):
        # a = n · inv(G)ᵀ, so that da = -(dG a)ᵀ in that basis
        lever = np.zeros((2, 4))
        for value in range(4):
            change = np.zeros((2, 2))
            change.flat[value] = 1.0
            lever[:, value] = -orders @ (inverse @ change @ inverse).T
        variance = float(np.trace(lever @ fine.covariance @ lever.T))
        worst = max(worst, math.sqrt(max(variance, 0.0) / float(vector @ vector)))
    return vectors, worst
