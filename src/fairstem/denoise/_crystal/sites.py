"""The test of each site of a crystal: does its column deviate in intensity, position or shape?

Score test with the site's Gauss-Hermite functions. The six standardised scores are split, in this order,
into intensity (1), shift (2) and shape (3), independent under the crystal. A site is judged by the smallest of
four tail probabilities - intensity, shift, both, all six - turned into one exact tail probability: for a shift
or a half-empty column that has far more power than one test with six degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fairstem.denoise._crystal.site_kernels import RADIUS, site_scores

__all__ = [
    "GROUPS",
    "GROUP_COSTS",
    "SiteTest",
    "combined_tail",
    "first_groups",
    "group_statistics",
    "judge_sites",
    "model_tails",
    "standard_scores",
    "visible_share",
]  # fmt: skip

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# coefficients of the groups intensity, shift, shape
GROUPS = np.array([[1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], bool)
# groups of the four models that compete
MODELS = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]], bool)
FREEDOM = (1, 2, 3, 6)
# a change of shape is rarer than one of intensity or position: its tail counts four times
COSTS = np.array([1.0, 1.0, 1.0, 4.0])
GROUP_COSTS = np.array([1.0, 1.0, 4.0])

# a site of which less than this share of its column is in view can't be tested
LEAST_VISIBLE = 0.3


@dataclass(frozen=True)
class SiteTest:
    """What the test found.

    Parameters
    ----------
    tail
        (n,): combined tail probability; NaN where not tested.
    models
        (n, 4): weighted tail of each competing model.
    tested
        (n,): whether the site could be tested.
    evidence
        (n, 6): coefficients of what would raise the evidence: d(-log tail)/dk = phi·evidence/T.
    """

    tail: Floats
    models: Floats
    tested: Bools
    evidence: Floats


def visible_share(weight: Floats, sites: Floats) -> Floats:
    """Share of each column (of its Gaussian, squared) that lies on usable pixels."""
    # with mean = floor = 1 and height 1 the first information is the sum of w·G²
    unit = np.ascontiguousarray(np.column_stack([sites[:, :4], np.ones(len(sites))]))
    ones = np.ones_like(weight)
    index = np.arange(len(sites))
    _, info = site_scores(ones, ones, weight, ones, unit, index)
    # a disc of 3.2 widths holds all of G² but 4e-5; narrow columns: the sum over pixels is still the integral
    share: Floats = info[:, 0, 0] / (np.pi * sites[:, 2] ** 2 * -np.expm1(-(RADIUS**2)))
    return share


def standard_scores(score: Floats, info: Floats, ridge: float = 1e-6) -> tuple[Floats, Floats]:
    """Scores (n, 6) made independent and of unit variance, in the order of the coefficients; Cholesky factors."""
    diagonal = np.einsum("nii->ni", info)
    factor = np.linalg.cholesky(info + np.eye(6) * (ridge * diagonal)[:, None, :])
    z = np.asarray(np.linalg.solve(factor, score[..., None])[..., 0], np.float64)
    return z, np.asarray(factor, np.float64)


def group_statistics(z: Floats) -> Floats:
    """Statistics (n, 3) of intensity, shift given that, shape given both: independent chi-squares 1, 2, 3."""
    return np.column_stack([z[:, 0] ** 2, (z[:, 1:3] ** 2).sum(1), (z[:, 3:] ** 2).sum(1)])


def model_tails(groups: Floats) -> Floats:
    """Tail probability times cost (n, 4) of each competing model."""
    sums = groups @ MODELS.T.astype(float)
    return np.column_stack([COSTS[m] * special.chdtrc(FREEDOM[m], sums[:, m]) for m in range(len(MODELS))])


@lru_cache(maxsize=1)
def _tail_table() -> tuple[Floats, Floats]:
    """Log of the smallest of the four weighted tails, and log of the probability that it is that small by chance."""
    tails = np.concatenate([np.geomspace(1e-30, 0.1, 40), np.linspace(0.12, 0.999, 30)])
    chance = np.empty_like(tails)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    for n, tail in enumerate(tails):
        a1, a2, a3, a6 = (
            float(special.chdtri(f, min(tail / c, 1.0))) for f, c in zip(FREEDOM, COSTS, strict=True)
        )
        # P(one rejects) = P(intensity does) + ∫ over what intensity leaves; z = ±√statistic is smooth there
        z = np.sqrt(a1) * nodes[:, None]
        one = z**2
        top = np.minimum(a2, a3 - one)
        two = top * (nodes[None, :] + 1) / 2
        inner = (special.chdtrc(3, a6 - one - two) * np.exp(-two / 2) * weights[None, :] / 4).sum(1) * top[
            :, 0
        ]
        reject = inner + np.exp(-top[:, 0] / 2)
        chance[n] = tail + np.sqrt(a1) * np.sum(
            weights * np.exp(-one[:, 0] / 2) / np.sqrt(2 * np.pi) * reject
        )
    return np.log(tails), np.log(np.minimum(chance, 1.0))


def combined_tail(smallest: Floats) -> Floats:
    """Probability that the smallest of the four tails is at most this where nothing deviates."""
    log_tail, log_chance = _tail_table()
    smallest = np.clip(smallest, 1e-300, 1.0)
    out: Floats = np.exp(np.interp(np.log(smallest), log_tail, log_chance))
    # below the table the ratio of the two no longer changes
    far = smallest < np.exp(log_tail[0])
    out[far] = smallest[far] * np.exp(log_chance[0] - log_tail[0])
    return out


def judge_sites(
    k: Floats, mean: Floats, weight: Floats, floor: Floats, sites: Floats, usable: Bools
) -> SiteTest:
    """Test every usable site against `mean`, the expected counts where nothing deviates."""
    n = len(sites)
    tail, models, evidence = np.full(n, np.nan), np.full((n, len(MODELS)), np.nan), np.zeros((n, 6))
    tested = usable.copy()
    index = np.flatnonzero(usable)
    score, info = site_scores(k, mean, weight, floor, sites, index)
    tested[index] &= np.einsum("nii->ni", info[index]).min(1) > 0
    index = np.flatnonzero(tested)
    if index.size:
        z, factor = standard_scores(score[index], info[index])
        models[index] = model_tails(group_statistics(z))
        tail[index] = combined_tail(models[index].min(1))
        evidence[index] = _evidence(z, factor, models[index])
    return SiteTest(tail, models, tested, evidence)


def _evidence(z: Floats, factor: Floats, models: Floats) -> Floats:
    """Derivative of -log tail by the score (n, 6): hazard of chi-square, times twice what the best model fits."""
    best = models.argmin(1)
    kept = z * (MODELS[best] @ GROUPS)
    statistic, freedom = (kept**2).sum(1), np.array(FREEDOM)[best]
    half = freedom / 2
    log_density = (
        (half - 1) * np.log(np.maximum(statistic, 1e-12) / 2) - statistic / 2 - special.gammaln(half)
    )
    tail = special.chdtrc(freedom, statistic)
    # far out the hazard is 1/2, and both underflow
    hazard = np.where(tail > 1e-200, np.exp(log_density) / 2 / np.maximum(tail, 1e-300), 0.5)
    log_tail, log_chance = _tail_table()
    at = np.log(np.clip(models.min(1), 1e-300, 1.0))
    gain = np.interp(at, log_tail, np.gradient(log_chance, log_tail))
    linear = np.linalg.solve(factor.transpose(0, 2, 1), kept[..., None])[..., 0]
    out: Floats = (2 * gain * hazard)[:, None] * linear
    return out


def first_groups(tail: Floats, models: Floats, strength: float) -> Bools:
    """Groups (n, 3) to begin with at the sites whose tail is below `strength`; the others are tested given these.

    A moved column looks changed in shape to second order, so shape alone begins only where neither
    intensity nor shift stands out.
    """
    groups = np.zeros((len(tail), 3), bool)
    if strength >= 1:
        groups[np.isfinite(tail)] = True
        return groups
    found = np.flatnonzero(np.nan_to_num(tail, nan=1.0) < strength)
    plain = models[found, :3]
    begin = MODELS[plain.argmin(1)].copy()
    begin[plain.min(1) >= strength] = (False, False, True)
    groups[found] = begin
    return groups
