"""From fitted columns to the column table, and the prior checks that come with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fairstem.atoms._kernels import E1, E2, HEIGHT, LOG_WIDTH, X, Y
from fairstem.atoms._sweeper import ColumnFit
from fairstem.priors import PriorCheck

__all__ = ["EDGE_NM", "EDGE_PX", "column_table", "fit_priors"]

EDGE_PX, EDGE_NM = 5.0, 0.06  # the band along the border that benchmarks don't score
CALIBRATED = ("y_nm", "x_nm", "sd_y_pm", "sd_x_pm", "width_pm")


def column_table(
    fit: ColumnFit,
    shape: tuple[int, int],
    pixel_size_nm: tuple[float, float] | None,
    *,
    unit: float = 1.0,
    elliptic: bool = False,
) -> pd.DataFrame:
    """Build the table of `atoms.find` and `atoms.refine`; lengths in px and, with calibration, nm and pm.

    A column whose fit did not converge stays where it started; its error bar is then the distance it could have
    been off, its width: a number that can't be mistaken for a measurement.
    """
    params, covariance = fit.params, fit.covariance
    width = np.exp(params[:, LOG_WIDTH])
    good = fit.converged
    variance = np.diagonal(covariance, axis1=1, axis2=2) if len(params) else np.zeros((0, 6))
    sd = np.sqrt(np.where(good[:, None], variance, 0.0))
    sd_height = np.where(good, sd[:, HEIGHT], params[:, HEIGHT])
    e = np.hypot(params[:, E1], params[:, E2])
    # σ/(1-e²)^¼ is the geometric mean of the two half axes
    mean_width = width / (1 - e**2) ** 0.25
    table = pd.DataFrame(
        {
            "y": params[:, Y],
            "x": params[:, X],
            "sd_y": np.where(good, sd[:, Y], width),
            "sd_x": np.where(good, sd[:, X], width),
            "cov_yx": np.where(good, covariance[:, Y, X], 0.0) if len(params) else np.zeros(0),
            "height": params[:, HEIGHT] * unit,
            "sd_height": sd_height * unit,
            "width": mean_width,
            "sd_width": np.where(good, sd[:, LOG_WIDTH] * width, width),
            "background": fit.background[:, 0] * unit,
            "chi2": np.where(np.isfinite(fit.chi2), fit.chi2, 0.0),
            "score": params[:, HEIGHT] / np.maximum(sd_height, 1e-300),
            "edge": _edge(params[:, Y], params[:, X], shape, pixel_size_nm),
            "converged": good,
        }
    )
    if elliptic:
        table["ellipticity"] = np.sqrt((1 + e) / (1 - e))
        # the long axis is the eigenvector of the precision matrix with the smaller eigenvalue
        table["angle_deg"] = (
            np.degrees(0.5 * np.arctan2(-params[:, E2], params[:, E1])) % 180 if len(table) else 0.0
        )
    if pixel_size_nm is not None:
        _calibrate(table, pixel_size_nm)
    table.attrs = {"pixel_size_nm": pixel_size_nm, "shape": tuple(int(n) for n in shape)}
    return table


def _edge(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    shape: tuple[int, int],
    pixel_size_nm: tuple[float, float] | None,
) -> NDArray[np.bool_]:
    size = pixel_size_nm or (np.inf, np.inf)
    band = [max(EDGE_PX, EDGE_NM / s) for s in size]
    near: NDArray[np.bool_] = (
        (y < band[0]) | (x < band[1]) | (y > shape[0] - 1 - band[0]) | (x > shape[1] - 1 - band[1])
    )
    return near


def _calibrate(table: pd.DataFrame, pixel_size_nm: tuple[float, float]) -> None:
    py, px = pixel_size_nm
    values = (table["y"] * py, table["x"] * px, table["sd_y"] * py * 1e3, table["sd_x"] * px * 1e3)
    for name, value in zip(CALIBRATED, (*values, table["width"] * np.sqrt(py * px) * 1e3), strict=True):
        table[name] = value


def fit_priors(table: pd.DataFrame) -> list[PriorCheck]:
    """Measure whether columns are what the model says: Gaussian, sampled, apart from each other."""
    if table.empty:
        return []
    inner = table[table["converged"] & ~table["edge"]]
    inner = inner if len(inner) else table
    position = inner[["y", "x"]].to_numpy()
    gap = float("nan")
    if len(inner) > 1:
        gap = float(np.median(cKDTree(position).query(position, 2)[0][:, 1] / inner["width"].to_numpy()))
    checks: list[tuple[str, str, float, float, Any, str, str]] = [
        (
            "gaussian-columns", "a column is a Gaussian on a smooth background",
            float(inner["chi2"].median()), 1.5, "<=",
            "median chi-square per degree of freedom",
            "error bars count only the counting noise: scan jitter, tails or aberrations add to them; "
            "align a series, or try shape='elliptic'",
        ),
        (
            "sampling", "the pixels are finer than the columns", float(inner["width"].median()), 1.0, ">=",
            "median column width in px", "record with smaller pixels: positions are biased below one pixel",
        ),
        (
            "separation", "columns can be told apart", gap, 2.0, ">=",
            "median distance to the nearest column in widths",
            "columns this close share their error: read sd_y and sd_x, which include it",
        ),
        (
            "convergence", "the fit settles", float(table["converged"].mean()), 0.9, ">=",
            "share of columns whose fit converged", "look at the overlay; give width=, or a higher threshold",
        ),
    ]  # fmt: skip
    return [PriorCheck(*check) for check in checks]
