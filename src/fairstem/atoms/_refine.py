"""Refinement of column positions by Poisson maximum likelihood, with error bars."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from fairstem.atoms._columns import read_columns
from fairstem.atoms._detect import choose_scale
from fairstem.atoms._fit import fit_columns
from fairstem.atoms._prepare import prepare
from fairstem.atoms._sweeper import Slope
from fairstem.atoms._table import CALIBRATED, column_table, fit_priors
from fairstem.errors import DataError
from fairstem.signals import Gain

__all__ = ["refine"]

BACKGROUNDS: dict[str, Slope | None] = {"auto": None, "constant": "none", "plane": "free"}


def refine(
    image: Any,
    columns: pd.DataFrame,
    *,
    gain: Gain = None,
    offset: float | None = None,
    readout: float | None = None,
    shape: Literal["round", "elliptic"] = "round",
    width: Literal["free"] | float = "free",
    background: Literal["auto", "constant", "plane"] = "auto",
    pixel_size_nm: float | tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Measure column positions (px, nm) with error bars (px, pm) from the recorded counts.

    Every column is a Gaussian on a local background; columns that overlap are fitted jointly; the counts are
    Poisson, or Poisson-Gauss for a detector with gain, offset and readout noise. The error bars are the inverse
    Fisher matrix at the fit with all free parameters of the overlapping columns in it: the Cramér-Rao bound, which
    the fit reaches.

    Prior: columns are Gaussian, the noise of a pixel is known and independent of its neighbours'. Both are measured
    and returned in ``attrs["priors"]``. What the counting noise doesn't hold - scan distortion, jitter - is not in
    the error bar.

    Parameters
    ----------
    image : HyperSpy signal, numpy or dask array (y, x)
        The image as recorded: never refine a denoised one. A plain array counts as electrons unless `gain` says
        otherwise; a signal whose metadata don't give the noise has it estimated (``attrs["noise"]`` says so).
    columns : DataFrame
        Start positions ``y, x`` in px, within about one width of the column; ``width`` (px) as a start if present.
        Further names are kept.
    gain, offset, readout
        Detector: raw units per electron, raw value without electrons, readout noise in raw units.
        ``gain="estimate"`` takes them from the image.
    shape
        ``"elliptic"`` frees ellipticity and angle, at some cost in precision.
    width
        ``"free"``, or the known Gaussian sigma in px: the parameter that matters at few counts (below ~50 electrons
        a column), where a held width makes positions steadier.
    background
        ``"constant"`` in each column's window, ``"plane"`` with a free slope, ``"auto"`` with a slope that follows
        from the backgrounds of the columns around (and a free one where that does not converge).
    pixel_size_nm
        Pixel size in nm, (y, x) or one number; None takes the signal's calibration.

    Returns
    -------
    DataFrame
        The rows and index of `columns` with ``y, x, sd_y, sd_x`` (px), ``cov_yx`` (px²), ``height, sd_height,
        background`` (electrons), ``width, sd_width`` (px), ``chi2`` (per degree of freedom), ``score``
        (height over its error), ``edge``, ``converged``; with calibration ``y_nm, x_nm, sd_y_pm, sd_x_pm,
        width_pm``; elliptic: ``ellipticity`` (long over short axis), ``angle_deg`` (long axis, from x towards y).
        A column whose fit does not converge keeps its start position and has its width as error bar.

    Raises
    ------
    DataError, DataTypeError
        Unusable image or table; start positions outside the image; negative counts; no column width can be chosen.

    Notes
    -----
    Cost: about 0.5 ms per column of 3.5 px width, growing with width² and with overlap; the first call compiles the
    kernels once (about 20 s, then cached).

    References
    ----------
    den Dekker et al., Ultramicroscopy 104 (2005) 83, doi:10.1016/j.ultramic.2005.03.001 (model and bound).

    Examples
    --------
    >>> import fairstem as fs
    >>> p = fs.simulate.phantom("p2", peak=20, seed=1, shape=(96, 96))
    >>> start = fs.atoms.find(p.data)[["y", "x"]].round()
    >>> table = fs.atoms.refine(p.data, start, pixel_size_nm=p.pixel_size_nm)
    >>> match = fs.metrics.match_positions(table, p.truth)
    >>> match.recall, bool(match.rms_pm < 4.0)  # the bound is 2.7 pm here
    (1.0, True)
    """
    if shape not in ("round", "elliptic") or background not in BACKGROUNDS:
        raise DataError(
            f"shape={shape!r}, background={background!r}",
            needed="shape 'round' or 'elliptic'; background 'auto', 'constant' or 'plane'",
        )
    ready = prepare(image, gain, offset, readout, pixel_size_nm)
    start = read_columns(columns, at_least=0)
    _check_inside(start.position, ready.shape)
    widths = _start_widths(start.width, width, ready.counts, len(start))
    fit = fit_columns(
        ready.counts,
        start.position[:, 0],
        start.position[:, 1],
        widths,
        mask=ready.mask,
        dark=ready.dark,
        elliptic=shape == "elliptic",
        fixed_width=width != "free",
        slope=BACKGROUNDS[background],
        width_range=_width_range(widths, width),
    )
    table = column_table(fit, ready.shape, ready.pixel_size_nm, unit=ready.unit, elliptic=shape == "elliptic")
    table.index = columns.index
    for name in columns.columns:
        # calibrated values of an earlier fit would contradict the new pixels
        if name not in table and name not in CALIBRATED:
            table[name] = columns[name]
    priors = ready.priors + fit_priors(table)
    table.attrs |= ready.attributes() | {
        "slope": fit.slope,
        "priors": [check.to_dict() for check in priors],
    }
    return table


def _check_inside(position: np.ndarray[Any, np.dtype[np.float64]], shape: tuple[int, int]) -> None:
    limit = np.array(shape) - 0.5
    outside = np.any((position < -0.5) | (position > limit), axis=1) if len(position) else np.zeros(0, bool)
    if outside.any():
        first = position[outside][0]
        raise DataError(
            f"{int(outside.sum())} of {len(position)} start positions lie outside the image of {shape}"
            f" (the first at y={first[0]:.1f}, x={first[1]:.1f})",
            needed="y, x in px, the first pixel at 0, 0",
            todo="drop them: columns[columns.y.between(0, ny - 1) & columns.x.between(0, nx - 1)]",
        )


def _start_widths(
    known: np.ndarray[Any, np.dtype[np.float64]] | None,
    width: Literal["free"] | float,
    counts: np.ndarray[Any, np.dtype[np.float64]],
    n: int,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Start widths: the one given, the table's own, or the scale that explains the image."""
    if width != "free":
        most = min(counts.shape) / 4
        if not (isinstance(width, (int, float)) and 0.3 < width <= most):
            raise DataError(
                f"width={width!r} for an image of {counts.shape}",
                needed=f"'free', or a Gaussian sigma between 0.3 and {most:.4g} px",
            )
        return np.full(n, float(width))
    if known is not None and n:
        if not np.all(np.isfinite(known)) or known.min() <= 0:
            raise DataError(
                f"the table's widths go down to {float(np.min(known)):.4g}",
                needed="positive Gaussian sigmas in px",
                todo="drop the width column to have the width chosen from the image",
            )
        # one start for all: a measured table refined again must not depend on its own noise
        return np.full(n, float(np.median(known)))
    scales = choose_scale(counts) if n else (1.0, 1.0)
    if scales is None:
        raise DataError(
            "no column width can be chosen: nothing in the image stands out of the noise",
            needed="a start width",
            todo="pass width= in px, or a table with a width column",
        )
    return np.full(n, float(np.sqrt(scales[0] * scales[1])))


def _width_range(
    widths: np.ndarray[Any, np.dtype[np.float64]], width: Literal["free"] | float
) -> tuple[float, float]:
    if width != "free" or not len(widths):
        return 0.3, 1e3
    return max(0.3, float(widths.min()) / 3), float(widths.max()) * 3
