"""Where an image differs from its crystal by more than chance, and the image with that put back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fairstem.denoise._contracts import Deviations, Estimate
from fairstem.denoise._crystal.blobs import MOST_BLOBS, THRESHOLD, add_blobs, blob_widths
from fairstem.denoise._crystal.certainty import Certainty, fit_certainty
from fairstem.denoise._crystal.putback import (
    PutBack,
    covariances,
    expanded,
    fit_rounds,
    free_more,
    leverage_of,
    prune,
    weighted,
)
from fairstem.denoise._crystal.site_kernels import add_sites
from fairstem.denoise._crystal.sites import (
    LEAST_VISIBLE,
    SiteTest,
    first_groups,
    judge_sites,
    visible_share,
)
from fairstem.errors import DataError

__all__ = ["find_deviations"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# rounds of Fisher scoring after each change of what is free, and the step (standard deviations) that ends them
ROUNDS, TOLERANCE = 6, 0.03

# the mean that divides is at least this share of the image's: no weight rests on near vacuum
VACUUM = 1e-3


def find_deviations(
    k: Floats,
    crystal_mean: Floats,
    sites: Floats,
    *,
    strength: float = 0.05,
    weight: Floats | None = None,
    blobs: bool = True,
) -> Deviations:
    """Find the columns that deviate from a crystal by more than chance, and put them back into its image.

    Prior: counts are Poisson; `crystal_mean` is right wherever nothing deviates; a deviation is that of a column
    - moved, brighter or dimmer, changed in shape to second order - or an extra or missing Gaussian off the sites.

    Each site is tested by its score for intensity, shift and shape, with exact tail probabilities. What deviates
    is fitted jointly by Poisson maximum likelihood, each column with the least that explains it: a changed
    intensity costs one parameter, not six. Then the residual is searched for Gaussians off the sites.

    Parameters
    ----------
    k : ndarray (y, x)
        Kernel counts: variance equal to mean; may be non-integer and slightly negative.
    crystal_mean : ndarray (y, x)
        Expected counts of the crystal without deviations, > 0.
    sites : ndarray (n, 5)
        Columns of the crystal: y, x [px], width (Gaussian sigma) [px], number of the site in the cell, height
        [counts].
    strength : float
        The one parameter that matters: a site whose deviation has a tail probability below this is put back, in
        proportion to (probability that it deviates, given how many sites of the image do)^(1 - strength).
        0.05 keeps what is clear and a part of what is doubtful; 0.5 keeps most of the doubtful, and its noise;
        1 puts back every site in full: nothing at a site is ever erased. See `expected_retention`.
    weight : ndarray (y, x), optional
        Share of each pixel that may be used, 0 to 1; 0 leaves it out.
    blobs : bool
        Look for Gaussians off the sites as well, at 4.5 standard deviations, at most 200.

    Returns
    -------
    Deviations
        `statistic` is the site's tail probability as a quantile of chi-square with 6 degrees of freedom;
        `coefficients` are those of the fit in full; the estimate's `leverage` is that of what was put back, the
        crystal counting as fixed.

    Raises
    ------
    DataError
        Shapes that differ, values that are not finite, a mean that isn't positive, or a strength outside (0, 1].

    Notes
    -----
    Cost: ~10 ns·S·π(3.2 σ)² for S sites tested and ~60 ns for each put back, and ~80 ns per pixel for blobs:
    about 0.1 s for 512² with 512 sites.

    References
    ----------
    C. R. Rao, Proc. Camb. Philos. Soc. 44 (1948) 50, doi:10.1017/S0305004100023987 (score test).
    N. Mevenkamp et al., Adv. Struct. Chem. Imaging 1 (2015) 3, doi:10.1186/s40679-015-0004-8.

    Examples
    --------
    >>> import numpy as np
    >>> from fairstem import simulate
    >>> crystal = simulate.phantom("p2", peak=20.0, shape=(128, 128), seed=1)
    >>> image = simulate.phantom("p2", peak=20.0, shape=(128, 128), seed=1, halved=2)
    >>> sites = crystal.truth[["y", "x", "width", "site", "height"]].to_numpy(float)
    >>> found = find_deviations(image.data.astype(float), crystal.clean, sites, strength=1e-4)
    >>> planted = (image.truth["planted"] == "half").to_numpy()
    >>> bool((found.active == planted).all()), bool(np.allclose(found.coefficients[planted, 0], -0.5, atol=0.1))
    (True, True)
    """
    k, mean, sites, usable_weight = _checked(k, crystal_mean, sites, strength, weight)
    vacuum = VACUUM * float(mean.mean())
    test = judge_sites(
        k, mean, usable_weight, np.full_like(mean, vacuum), sites,
        visible_share(usable_weight, sites) >= LEAST_VISIBLE,
    )  # fmt: skip
    # an empty site keeps a hundredth of its column: the fit needs a positive mean
    floor = np.maximum(0.01 * mean, min(vacuum, float(mean.min())))
    state = PutBack(mean, sites, first_groups(test.tail, test.models, strength))
    rounds = _fit(k, state, usable_weight, floor, strength, len(sites))
    if blobs and len(sites):
        rounds += _find_blobs(k, state, usable_weight, floor, strength, len(sites))
    pairs, blocks, own = covariances(state, usable_weight, floor)
    if prune(state, pairs, own, strength, len(sites)):
        rounds += fit_rounds(k, state, usable_weight, floor, ROUNDS, TOLERANCE)
        pairs, blocks, own = covariances(state, usable_weight, floor)
    share, slope = _shares(fit_certainty(test.tail, strength), test, len(state.sites))
    leverage = leverage_of(state, usable_weight, floor, pairs, blocks * share[pairs[:, :1], None])
    leverage += usable_weight * _growth(state, mean, test, slope)
    leverage = np.clip(leverage, 0.0, 1.0)
    estimate = Estimate(np.maximum(weighted(state, share), floor), leverage)
    return _result(state, test, estimate, own, rounds)


def _growth(state: PutBack, mean: Floats, test: SiteTest, slope: Floats) -> Floats:
    """Leverage (y, x) through the shares: a count that speaks for a deviation raises the share of all of it."""
    root = np.sqrt(np.maximum(slope, 0.0))
    deviation = weighted(state, root) - state.base
    evidence = np.zeros_like(mean)
    count = len(test.tail)
    index = np.flatnonzero(state.active[:count])
    add_sites(evidence, state.sites[:count], index, root[:count, None] * test.evidence)
    return deviation * evidence / mean


def _shares(certainty: Certainty, test: SiteTest, rows: int) -> tuple[Floats, Floats]:
    """Share of each row of the fit that is put back, and its slope; blobs, far beyond chance, in full."""
    share, slope, count = np.ones(rows), np.zeros(rows), len(test.tail)
    tail = np.nan_to_num(test.tail, nan=1.0)
    share[:count], slope[:count] = certainty.share(tail), certainty.slope(tail)
    return share, slope


def _checked(
    k: Floats, mean: Floats, sites: Floats, strength: float, weight: Floats | None
) -> tuple[Floats, Floats, Floats, Floats]:
    """Arrays that the kernels can take: float64, contiguous, finite where they count."""
    k, mean, sites = (np.ascontiguousarray(a, np.float64) for a in (k, mean, sites))
    weight = np.ones_like(k) if weight is None else np.ascontiguousarray(weight, np.float64)
    if k.ndim != 2 or mean.shape != k.shape or weight.shape != k.shape:
        raise DataError(
            f"counts of shape {k.shape}, crystal {mean.shape}, weight {weight.shape}",
            needed="2-D arrays (y, x) of one shape",
        )
    if sites.ndim != 2 or sites.shape[1] != 5 or not np.isfinite(sites).all() or (sites[:, 2] <= 0).any():
        raise DataError(
            f"sites of shape {sites.shape}",
            needed="(n, 5) finite: y, x, width > 0, number in the cell, height",
        )
    if not 0 < strength <= 1:
        raise DataError(f"strength is {strength}", needed="a probability above 0, at most 1")
    if not (np.isfinite(weight).all() and weight.min() >= 0 and weight.max() <= 1):
        raise DataError("weight outside 0 to 1 or not finite", needed="the share of each pixel to use")
    if not np.isfinite(k[weight > 0]).all():
        raise DataError(
            "counts that are not finite where their weight isn't 0", todo="give these pixels weight 0"
        )
    if not (np.isfinite(mean).all() and mean.min() > 0):
        raise DataError("crystal that is not positive everywhere", needed="expected counts > 0")
    return np.where(weight > 0, k, mean), mean, sites, weight


def _fit(k: Floats, state: PutBack, weight: Floats, floor: Floats, strength: float, count: int) -> int:
    """Fit what is free, and free what then stands out, until nothing does; rounds taken."""
    rounds = fit_rounds(k, state, weight, floor, ROUNDS, TOLERANCE)
    # three groups a site: two more can follow the first
    for _ in range(2):
        if not free_more(k, state, weight, floor, strength, count):
            break
        rounds += fit_rounds(k, state, weight, floor, ROUNDS, TOLERANCE)
    return rounds


def _find_blobs(k: Floats, state: PutBack, weight: Floats, floor: Floats, strength: float, count: int) -> int:
    """Two searches, the second with what the first found explained; what falls below the threshold goes."""
    rounds, widths = 0, blob_widths(state.sites)
    for _ in range(2):
        room = MOST_BLOBS - (len(state.sites) - count)
        if not add_blobs(k, state, weight, floor, widths, room):
            break
        rounds += _fit(k, state, weight, floor, strength, count)
        pairs, _, own = covariances(state, weight, floor)
        significance = np.abs(1 + state.beta[:, 0]) / np.sqrt(np.maximum(own[:, 0, 0], 1e-300))
        weak = np.arange(len(state.sites)) >= count
        weak &= ~(significance >= THRESHOLD)
        if weak.any():
            _remove(state, ~weak)
        if weak.any() or prune(state, pairs, own, strength, count):
            rounds += fit_rounds(k, state, weight, floor, ROUNDS, TOLERANCE)
    return rounds


def _remove(state: PutBack, keep: Bools) -> None:
    """Take blobs out of the base and out of the fit."""
    rows = state.sites[~keep]
    negative = rows * np.array([1.0, 1.0, 1.0, 1.0, -1.0])
    kept = state.sites[keep], state.groups[keep], state.shift[keep], state.beta[keep]
    state.extend(np.ascontiguousarray(negative), np.zeros((len(rows), 3), bool))
    state.sites, state.groups, state.shift, state.beta = kept
    state.render()


def _result(state: PutBack, test: SiteTest, estimate: Estimate, own: Floats, rounds: int) -> Deviations:
    """The contract's arrays: sites first, blobs by themselves."""
    count = len(test.tail)
    coefficients, covariance = expanded(state, own)
    moved, height = state.moved[count:], state.sites[count:, 4] * (1 + state.beta[count:, 0])
    sd = np.abs(state.sites[count:, 4]) * np.sqrt(own[count:, 0, 0])
    found = np.column_stack([moved[:, :3], height, height / np.where(sd > 0, sd, 1.0)])
    with np.errstate(invalid="ignore"):
        statistic = special.chdtri(6, np.clip(test.tail, 1e-300, 1.0))
    untested = int((~test.tested).sum())
    notes = (f"{untested} sites were not tested: too little of them is in view",) if untested else ()
    return Deviations(
        estimate,
        state.active[:count].copy(),
        np.where(test.tested, statistic, np.nan),
        coefficients[:count],
        covariance[:count],
        found,
        rounds,
        notes,
    )
