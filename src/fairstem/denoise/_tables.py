"""The tables of a separation: what deviates, and what is kept of small changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2

from fairstem.denoise._analysis import TERMS, Analysis, Part
from fairstem.denoise._contracts import Deviations, Estimate
from fairstem.denoise._crystal.certainty import fit_certainty
from fairstem.denoise._crystal.describe import describe_deviations
from fairstem.denoise._crystal.retention import expected_retention, site_information
from fairstem.priors import PriorCheck

__all__ = [
    "deviations_table",
    "inflation",
    "judge_deviations",
    "no_deviations",
    "no_retention",
    "retention_table",
]

Floats = NDArray[np.float64]
_FEWEST = 40  # sites: the median of fewer is no measure
_INFLATED = 1.35  # perfect crystals: up to 1.17; 24 defects among 512 sites: up to 1.09
_SHIFTS_PX = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
_PX = 1e-3  # nm: with this pixel size a pm is a px


def inflation(deviations: Deviations) -> float:
    """Return how far the statistic of the typical site exceeds that of chance: its median over that of chi-square.

    1 where only a few sites deviate, and never less. Scan jitter makes every site deviate a little; then it is larger.
    """
    seen = deviations.statistic[np.isfinite(deviations.statistic)]
    return max(1.0, float(np.median(seen)) / float(chi2.ppf(0.5, TERMS))) if seen.size else 1.0


def judge_deviations(analysis: Analysis) -> PriorCheck:
    """Return the check: only a few columns deviate from their crystal, the rest by no more than counting noise."""
    many = [part for part in analysis.parts if np.isfinite(part.deviations.statistic).sum() >= _FEWEST]
    return PriorCheck(
        "few-deviate",
        "only a few columns differ from the crystal, the rest by counting noise alone",
        max((inflation(part.deviations) for part in many), default=float("nan")),
        _INFLATED,
        "<=",
        "median statistic of the columns over that of counting noise",
        "the columns differ from the crystal throughout: scan jitter, drift, or noise larger than assumed; the table "
        "lists those that stand out from the rest, with errors enlarged accordingly; align several fast frames "
        "(fairstem.register.align), or check the detector's numbers",
    )


def _scaled(deviations: Deviations, scale: float) -> Deviations:
    """Return deviations against a spread of the sites that is `scale` times that of counting noise, variances."""
    blobs = deviations.blobs.copy()
    blobs[:, 4] /= np.sqrt(scale)
    return replace(
        deviations,
        statistic=deviations.statistic / scale,
        covariance=deviations.covariance * scale,
        blobs=blobs,
    )


def deviations_table(
    analysis: Analysis, pixel_size_nm: tuple[float, float] | None, unit: float, tail: float
) -> pd.DataFrame:
    """List what deviates from the crystals of an image, the most certain first.

    `unit` is that of heights, per kernel count; only what has a tail probability below `tail` is listed. Where the
    crystal does not hold to the noise, all sites deviate: statistics are divided by `inflation`, errors multiplied
    by its root, so that the table lists what stands out from the rest. ``attrs["inflation"]`` has it, by crystal.
    """
    tables, scales = [], []
    for number, part in enumerate(analysis.parts):
        scales.append(inflation(part.deviations))
        scaled = _scaled(part.deviations, scales[-1])
        table = describe_deviations(scaled, part.crystal.sites[part.tested], pixel_size_nm)
        table.insert(0, "crystal", number)
        tables.append(table)
    whole = pd.concat(tables, ignore_index=True) if tables else no_deviations()
    ny, nx = analysis.share.shape
    inside = whole["y"].between(-0.5, ny - 0.5) & whole["x"].between(-0.5, nx - 0.5)
    whole = whole[inside & (whole["p_value"] < tail)].sort_values("p_value", kind="stable", ignore_index=True)
    whole["height"] *= unit
    at = np.rint(whole[["y", "x"]].to_numpy(float)).astype(int)
    whole["share"] = analysis.share[at[:, 0], at[:, 1]]
    whole.attrs["inflation"] = scales
    return whole.drop(columns="row")


def no_deviations() -> pd.DataFrame:
    """Return the table of an image from which nothing deviates."""
    nothing = Estimate(np.ones((1, 1)), np.zeros((1, 1)))
    none, terms = np.zeros(0), np.zeros((0, TERMS))
    deviations = Deviations(
        nothing, none.astype(bool), none, terms, np.zeros((0, TERMS, TERMS)), np.zeros((0, 5))
    )
    table = describe_deviations(deviations, np.zeros((0, 5)))
    table.insert(0, "crystal", 0)
    return table


def no_retention() -> pd.DataFrame:
    """Return the table of an image without a crystal."""
    return pd.DataFrame(columns=["crystal", "site", "quantity", "amount", "found", "kept", "amount_90"])


def retention_table(
    analysis: Analysis, strength: float, pixel_size_nm: tuple[float, float] | None
) -> pd.DataFrame:
    """Return what is kept of a displaced and of a dimmed column, by crystal and kind of column."""
    tables = []
    for number, part in enumerate(analysis.parts):
        if not len(part.tested):
            continue
        table = _of_part(part, strength, pixel_size_nm)
        table.insert(0, "crystal", number)
        tables.append(table)
    whole = pd.concat(tables, ignore_index=True) if tables else no_retention()
    whole.attrs["unit"] = "px" if pixel_size_nm is None else "pm"
    return whole


def _of_part(part: Part, strength: float, pixel_size_nm: tuple[float, float] | None) -> pd.DataFrame:
    sites = part.crystal.sites[part.tested]
    tails = chi2.sf(part.deviations.statistic[np.isfinite(part.deviations.statistic)], TERMS)
    # the column in question is one more that deviates: where none does, none would ever be believed
    certainty = fit_certainty(np.append(tails, 0.0), strength)
    information = site_information(part.crystal.estimate.mean, sites, part.region)
    if pixel_size_nm is None:
        return expected_retention(
            information, sites, strength, pixel_size_nm=_PX, certainty=certainty, shifts_pm=_SHIFTS_PX
        )
    size = float(np.sqrt(pixel_size_nm[0] * pixel_size_nm[1]))
    return expected_retention(information, sites, strength, pixel_size_nm=size, certainty=certainty)
