"""The lattice of a set of columns: cell, sites, indices, deviations, empty sites."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from fairstem.errors import CalibrationError, DataError

from ._assembly import MIN_COLUMNS, NAMES, assemble_lattice, order_sites
from ._cellsearch import find_cell
from ._columns import read_columns
from ._lattice_result import Lattice
from ._superlattice import change_cell, find_superlattice
from ._translations import nearest_pairs

__all__ = ["Lattice", "lattice"]


def lattice(
    columns: pd.DataFrame,
    *,
    pixel_size_nm: float | tuple[float, float] | None = None,
    sites: int | Literal["auto"] = "auto",
    reference: float | tuple[float, ...] | None = None,
) -> Lattice:
    """Fit a lattice to atom columns and index every column.

    **Prior.** The columns (of the largest grain) repeat with two translations; strain and scan
    distortion change little from one cell to the next. Checked, and refused when it does not hold:
    random or amorphous points raise an error instead of giving a lattice.

    Parameters
    ----------
    columns
        One row a column: y, x (px); used when there: sd_y, sd_x, cov_yx, height, edge, and
        ``attrs["shape"]``, ``attrs["pixel_size_nm"]``.
    pixel_size_nm
        Size of a pixel, nm, one number or (y, x). None: from the table; without one, all is in px.
    sites
        Number of columns per unit cell. "auto" takes the smallest cell that the positions repeat with,
        then a larger one where heights or displacements alternate significantly (SrTiO3 [001]: two
        sites, a = 0.39 nm, not the half cell). Set it when that decision is wrong: 1 for an alloy
        whose heights happen to alternate, 2 for a weakly visible second species.
    reference
        Expected lattice parameter in nm, or (a, b), or (a, b, angle in degrees): adds `calibration`.

    Returns
    -------
    Lattice
        Cell, sites, table with indices and deviations, empty sites, checks; all with standard errors.

    Raises
    ------
    DataError
        Fewer than eight columns, no lattice, or `sites` that can't be reached.
    CalibrationError
        `reference` without a pixel size, or a bad one of either.

    Notes
    -----
    Pair differences of neighbours pile up at translations; two translations are accepted together
    when most columns have partners at both. Indices grow from neighbour to neighbour, then an affine
    fit with Huber weights gives cell and sites. Standard errors hold for independent deviations;
    where neighbours deviate together (check "one-lattice") they come from leaving out blocks.
    Cost: O(n k) for n columns and k = 60 neighbours, about 3 s for 20,000 columns.

    References
    ----------
    Huber, *Robust Statistics*, doi:10.1002/0471725250.
    Galindo et al., Ultramicroscopy 107 (2007) 1186, doi:10.1016/j.ultramic.2007.01.019 (peak pairs).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> j, i = np.meshgrid(np.arange(12.0), np.arange(10.0))
    >>> rng = np.random.default_rng(0)
    >>> y, x = 20 * i.ravel() + rng.normal(0, 0.2, 120), 20 * j.ravel() + rng.normal(0, 0.2, 120)
    >>> result = lattice(pd.DataFrame({"y": y, "x": x}), pixel_size_nm=0.0195)
    >>> abs(result.a_nm - 0.39) < 3 * result.sd_a_nm, len(result.sites), len(result.missing)
    (True, 1, 0)
    """
    n_sites = _check_sites(sites)
    data = read_columns(columns, pixel_size_nm=pixel_size_nm, at_least=MIN_COLUMNS)
    if reference is not None and data.pixel_size_nm is None:
        raise CalibrationError(
            "reference is given, pixel_size_nm is not", needed="both", todo="pass pixel_size_nm"
        )
    pairs = nearest_pairs(data.position)
    indexing, evidence = find_cell(data.position, pairs)
    indexing = find_superlattice(data.position, pairs, indexing, data.height, n_sites=n_sites)
    if n_sites is not None and len(indexing.fraction) != n_sites:
        raise DataError(
            f"the positions repeat with {len(indexing.fraction)} sites per cell",
            needed=f"sites={n_sites}",
            todo='use sites="auto", or a multiple by 2 or 3 of the number found',
        )
    indexing = order_sites(change_cell(indexing, np.eye(2, dtype=int)), data)
    return assemble_lattice(columns, data, indexing, evidence, reference)


def _check_sites(sites: int | str) -> int | None:
    if sites == "auto":
        return None
    if not isinstance(sites, int | np.integer) or isinstance(sites, bool) or not 1 <= sites <= len(NAMES):
        raise DataError(f"sites is {sites!r}", needed=f'"auto" or a number from 1 to {len(NAMES)}')
    return int(sites)
