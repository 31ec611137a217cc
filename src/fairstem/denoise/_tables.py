"""The tables of a separation: what deviates, and what is kept of small changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2

from fairstem.denoise._analysis import Analysis, Part
from fairstem.denoise._crystal.certainty import fit_certainty
from fairstem.denoise._crystal.describe import describe_deviations
from fairstem.denoise._crystal.retention import expected_retention, site_information

__all__ = ["deviations_table", "retention_table"]

Floats = NDArray[np.float64]
_TERMS = 6
_SHIFTS_PX = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
_PX = 1e-3  # nm: with this pixel size a pm is a px


def deviations_table(
    analysis: Analysis, pixel_size_nm: tuple[float, float] | None, unit: float, tail: float
) -> pd.DataFrame:
    """List what deviates from the crystals of an image, the most certain first.

    `unit` is that of heights, per kernel count; only sites whose tail probability is below `tail` are listed.
    """
    tables = []
    for number, part in enumerate(analysis.parts):
        table = describe_deviations(part.deviations, part.crystal.sites[part.tested], pixel_size_nm)
        table.insert(0, "crystal", number)
        tables.append(table)
    if not tables:
        return pd.DataFrame()
    whole = pd.concat(tables, ignore_index=True)
    whole["height"] *= unit
    sure = (whole["p_value"] < tail) | (whole["site"] < 0)
    ny, nx = analysis.share.shape
    inside = whole["y"].between(-0.5, ny - 0.5) & whole["x"].between(-0.5, nx - 0.5)
    return whole[sure & inside].sort_values("p_value", kind="stable").reset_index(drop=True)


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
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    whole.attrs["unit"] = "px" if pixel_size_nm is None else "pm"
    return whole


def _of_part(part: Part, strength: float, pixel_size_nm: tuple[float, float] | None) -> pd.DataFrame:
    sites = part.crystal.sites[part.tested]
    tails = chi2.sf(part.deviations.statistic[np.isfinite(part.deviations.statistic)], _TERMS)
    certainty = fit_certainty(tails, strength)
    information = site_information(part.crystal.estimate.mean, sites, part.region)
    if pixel_size_nm is None:
        return expected_retention(
            information, sites, strength, pixel_size_nm=_PX, certainty=certainty, shifts_pm=_SHIFTS_PX
        )
    size = float(np.sqrt(pixel_size_nm[0] * pixel_size_nm[1]))
    return expected_retention(information, sites, strength, pixel_size_nm=size, certainty=certainty)
