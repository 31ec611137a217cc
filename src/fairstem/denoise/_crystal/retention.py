"""What share of a shift or of a change of intensity survives at this dose and strength: expected, per kind of site."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from fairstem.denoise._crystal.certainty import Certainty
from fairstem.denoise._crystal.site_kernels import site_scores
from fairstem.denoise._crystal.sites import (
    GROUP_COSTS,
    combined_tail,
    first_groups,
    group_statistics,
    model_tails,
    visible_share,
)
from fairstem.errors import DataError

__all__ = ["expected_retention", "site_information"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DRAWS = 2000
KEPT = 0.9
# full view only: cut columns would lower the typical information
WHOLE = 0.98


def site_information(crystal_mean: Floats, sites: Floats, weight: Floats | None = None) -> Floats:
    """Fisher information (n, 6, 6) of each site's Gauss-Hermite coefficients; 0 where it isn't fully in view."""
    mean = np.ascontiguousarray(crystal_mean, np.float64)
    weight = np.ones_like(mean) if weight is None else np.ascontiguousarray(weight, np.float64)
    sites = np.ascontiguousarray(sites, np.float64)
    index = np.flatnonzero(visible_share(weight, sites) > WHOLE)
    floor = np.full_like(mean, 1e-3 * float(mean.mean()))
    _, info = site_scores(mean, mean, weight, floor, sites, index)
    return info


def expected_retention(
    information: Floats,
    sites: Floats,
    strength: float,
    *,
    pixel_size_nm: float,
    certainty: Certainty | None = None,
    shifts_pm: Sequence[float] = (1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 25, 30, 40),
    changes: Sequence[float] = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0),
) -> pd.DataFrame:
    """Predict the share of a shift, and of a change of intensity, that `find_deviations` keeps.

    Prior: that of `find_deviations`, and enough counts that scores are normal (some tens in a column). The test
    and the choice of what is fitted are drawn 2000 times, seeded, per amount and kind of site.

    Parameters
    ----------
    information : ndarray (n, 6, 6)
        As `site_information` returns it: the dose is in it.
    sites : ndarray (n, 5)
        The sites: y, x, width [px], number in the cell, height.
    strength : float
        As for `find_deviations`.
    pixel_size_nm : float
        Pixel size in nm.
    certainty : Certainty, optional
        How the image's own sites weight what is put back. Default: in full.
    shifts_pm : sequence of float
        Displacements in pm.
    changes : sequence of float
        Losses of intensity, relative: 0.5 is half a column.

    Returns
    -------
    pandas.DataFrame
        `site` (number in the cell), `quantity` ("shift" or "intensity"), `amount` (pm, or relative), `found`
        (probability that the site is put back), `kept` (expected share that is kept), and `amount_90`: where
        `kept` reaches 0.9, by interpolation; NaN when it doesn't.

    Raises
    ------
    DataError
        Shapes that don't fit, or a pixel size or strength out of range.
    """
    information, sites = np.asarray(information, float), np.asarray(sites, float)
    if information.shape != (len(sites), 6, 6) or sites.ndim != 2 or sites.shape[1] != 5:
        raise DataError(
            f"information of shape {information.shape} for sites {sites.shape}", needed="(n, 6, 6) and (n, 5)"
        )
    if not pixel_size_nm > 0 or not 0 < strength <= 1:
        raise DataError(f"pixel_size_nm {pixel_size_nm}, strength {strength}", needed="> 0, and in (0, 1]")
    noise = np.random.default_rng(0).standard_normal((DRAWS, 6))
    angle = 2 * np.pi * np.arange(DRAWS) / DRAWS
    tables = []
    for kind in np.unique(sites[:, 3]):
        of_kind = (sites[:, 3] == kind) & (information[:, 0, 0] > 0)
        if not of_kind.any():
            continue
        typical = np.median(information[of_kind], axis=0)
        per_pm = 1e-3 / pixel_size_nm / float(np.median(sites[of_kind, 2]))
        shifts = [_kept(typical, noise, _moved(per_pm * s, angle), strength, certainty, 1) for s in shifts_pm]
        dimmed = [_kept(typical, noise, _dimmed(c), strength, certainty, 0) for c in changes]
        for quantity, amounts, results in (("shift", shifts_pm, shifts), ("intensity", changes, dimmed)):
            found, kept = np.array(results).T
            tables.append(pd.DataFrame({
                "site": int(kind), "quantity": quantity, "amount": np.asarray(amounts, float), "found": found,
                "kept": kept, "amount_90": _reaches(np.asarray(amounts, float), kept),
            }))  # fmt: skip
    names = ["site", "quantity", "amount", "found", "kept", "amount_90"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=names)


def _moved(shift: float, angle: Floats) -> Floats:
    """Coefficients (draws, 6) of a column moved by `shift` widths in each direction."""
    y, x = shift * np.sin(angle), shift * np.cos(angle)
    return np.column_stack([0 * y, y, x, y**2 / 2, x * y, x**2 / 2])


def _dimmed(change: float) -> Floats:
    out = np.zeros((1, 6))
    out[0, 0] = -change
    return out


def _kept(
    info: Floats, noise: Floats, truth: Floats, strength: float, certainty: Certainty | None, group: int
) -> tuple[float, float]:
    """Probability to be found, and expected share kept of what `group` (0 intensity, 1 shift) has in `truth`."""
    low = np.linalg.cholesky(info)
    z = truth @ low + noise
    parts = group_statistics(z)
    models = model_tails(parts)
    tail = combined_tail(models.min(1))
    groups = first_groups(tail, models, strength)
    freedom = np.array([1, 2, 3])
    alone = special.chdtrc(freedom, parts) * GROUP_COSTS
    begun = np.asarray(groups.any(1), dtype=bool)
    groups |= begun[:, None] & (alone < strength)
    estimate = np.linalg.solve(low.T, z.T).T
    columns = slice(0, 1) if group == 0 else slice(1, 3)
    wanted = np.broadcast_to(truth, estimate.shape)[:, columns]
    share = (estimate[:, columns] * wanted).sum(1) / (wanted**2).sum(1)
    if certainty is not None:
        share = share * certainty.share(tail)
    return float(groups.any(1).mean()), float((share * groups[:, group]).mean())


def _reaches(amounts: Floats, kept: Floats) -> float:
    """Amount from which on `kept` stays at 0.9 or above."""
    below = np.flatnonzero(kept < KEPT)
    if below.size == 0:
        return float(amounts[0])
    last = int(below[-1])
    if last + 1 == len(amounts):
        return float("nan")
    between = (KEPT - kept[last]) / (kept[last + 1] - kept[last])
    return float(amounts[last] + between * (amounts[last + 1] - amounts[last]))
