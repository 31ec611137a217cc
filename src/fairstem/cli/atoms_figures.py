"""The pictures of an atoms report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fairstem import plot
from fairstem.cli.measured import LatticeSummary, Measured
from fairstem.plot.report import Picture
from fairstem.plot.style import CATEGORIES

__all__ = ["figures", "overlay_png"]

WIDTH = 6.4


def _canvas(measured: Measured, legend: bool = False) -> Any:
    """Return axes as high as the image needs, with room for a colour bar."""
    ny, nx = measured.image.shape
    ratio = (
        ny / nx
        if measured.pixel_size_nm is None
        else ny * measured.pixel_size_nm[0] / (nx * measured.pixel_size_nm[1])
    )
    wide = WIDTH if legend else WIDTH - 0.9
    return plot.figure(wide, float(np.clip((WIDTH - 0.9) * ratio, 1.5, 9.0))).subplots()


def _sites(measured: Measured) -> list[str]:
    """Return the names of the sites, stray columns last: sites keep their colours, those are grey."""
    sites = measured.columns["site"] if "site" in measured.columns else pd.Series([], dtype=str)
    named = [f"site {s}" for s in sorted(set(sites) - {""})]
    if not (sites == "").any():
        return named
    unused = [f"unused {n}" for n in range(len(named), len(CATEGORIES) - 1)]
    return [*named, *unused, "no site"]


def _draw_overlay(
    measured: Measured, ax: Any, sites: list[str] | None = None, size: float | None = None
) -> None:
    plot.image(measured.image, ax=ax, pixel_size_nm=measured.pixel_size_nm)
    table = measured.columns
    if "site" not in table or len(table) == 0:
        plot.columns(table, ax=ax)
        return
    shown = _sites(measured) if sites is None else sites
    names = pd.Categorical([f"site {s}" if s else "no site" for s in table["site"]], categories=shown)
    plot.columns(table.assign(site=names), ax=ax, color_by="site", size=size)


def overlay_png(measured: Measured, dpi: float = 150, colours: int | None = None) -> bytes:
    """Draw the columns on the image.

    Parameters
    ----------
    measured
        What was measured.
    dpi
        Dots per inch.
    colours
        Reduce to a palette of so many colours.

    Returns
    -------
    bytes
        PNG.
    """
    ax = _canvas(measured)
    _draw_overlay(measured, ax)
    return plot.to_png(ax.get_figure(root=True), dpi, colours)


def figures(measured: Measured) -> list[Picture]:
    """Draw what can be drawn of a measurement.

    Parameters
    ----------
    measured
        What was measured.

    Returns
    -------
    list of Picture
        Overlay first; lattice, bonds and error bars only where there are any.
    """
    return list(_figures(measured))


def _figures(measured: Measured) -> Iterator[Picture]:
    n = len(measured.columns)
    yield Picture(
        overlay_png(measured, 110, colours=256),
        f"{measured.title}: {_found(measured)}.",
        f"The image with {n} marked columns and a scale bar",
    )
    if n == 0:
        return
    if measured.lattice is not None:
        yield _lattice(measured, measured.lattice)
    if len(measured.inner_bonds):
        yield _bond_map(measured, "size")
    if len(measured.spread):
        yield _bond_map(measured, "deviation")
        yield _bond_histogram(measured)
    yield _error_bars(measured)


def _found(measured: Measured) -> str:
    n = len(measured.columns)
    text = {0: "no column was found", 1: "the column found"}.get(n, f"the {n} columns found")
    return text if len(measured.inner) == n else f"{text}; hollow marks are cut by the border of the image"


def _lattice(measured: Measured, found: LatticeSummary) -> Picture:
    if not len(found.missing) and not len(found.duplicates):
        return _cell(measured, found)
    ax = _canvas(measured)
    plot.image(measured.image, ax=ax, pixel_size_nm=measured.pixel_size_nm, dim=0.3)
    plot.lattice(found.vectors, found.origin, ax=ax, missing=found.missing, duplicates=found.duplicates)
    words = (
        f"sites without a column: {len(found.missing)}, columns that share a site: {len(found.duplicates)}"
    )
    return Picture(
        plot.to_png(ax.get_figure(root=True), 110, colours=256),
        f"The unit cell of the fitted lattice (dashed), and what the count of sites found wrong ({words}).",
        f"Lattice vectors a and b on the image; {words}",
    )


def _cell(measured: Measured, found: LatticeSummary) -> Picture:
    """Draw the unit cell and the columns about it, large enough to judge the marks."""
    reach = 3.5 * np.linalg.norm(found.vectors, axis=1).max()
    middle = found.origin + found.vectors.sum(axis=0) / 2
    low = np.clip(np.floor(middle - reach), 0, None).astype(int)
    high = np.clip(np.ceil(middle + reach), None, measured.image.shape).astype(int)
    table = measured.columns
    inside = ((table[["y", "x"]] >= low) & (table[["y", "x"]] <= high - 1)).all(axis=1)
    near = table[inside].assign(y=table["y"] - low[0], x=table["x"] - low[1])
    part = replace(measured, image=measured.image[low[0] : high[0], low[1] : high[1]], columns=near)
    ax = _canvas(part)
    _draw_overlay(part, ax, sites=_sites(measured), size=4.0)
    plot.lattice(found.vectors, found.origin - low, ax=ax)
    words = "no site inside the image lacks a column or has two"
    return Picture(
        plot.to_png(ax.get_figure(root=True), 110, colours=256),
        f"The middle of the image: unit cell of the fitted lattice (dashed) and columns. By the lattice, {words}.",
        f"Lattice vectors a and b and columns in the middle of the image; {words}",
    )


def _bond_map(measured: Measured, value: str) -> Picture:
    bonds, unit = measured.inner_bonds, measured.unit
    ax = _canvas(measured, legend=True)
    plot.image(measured.image, ax=ax, pixel_size_nm=measured.pixel_size_nm, dim=0.6)
    length = value == "size"
    lines = plot.bonds(
        bonds[["y0", "x0"]].to_numpy(float),
        bonds[["y1", "x1"]].to_numpy(float),
        bonds[value].to_numpy(float),
        ax=ax,
        label=f"bond length ({unit})" if length else f"length minus mean ({unit})",
        centre=None if length else 0.0,
        width=float(np.clip(60 / np.sqrt(len(bonds)), 0.8, 2.5)),
    )
    if length:
        typical = float(np.nanmedian(bonds["error"]))
        words = f"Bond lengths: {len(bonds)} distances between neighbouring columns"
        if np.isfinite(typical):
            words += f", each with an error bar of about {plot.numbers.significant(typical, 2)} {unit}"
    else:
        words = (
            "The same bonds: length minus the mean of its kind and direction. Structure here is strain, "
            "distortion of the scan, or a defect"
        )
    return Picture(
        plot.to_png(lines.get_figure(root=True), 110),
        f"{words}.",
        f"Lines between neighbouring columns. {words}",
    )


def _bond_histogram(measured: Measured) -> Picture:
    unit = measured.unit
    spread, error, typical = measured.pooled_spread
    fig = plot.figure(WIDTH, 4.4)
    plot.histogram(
        measured.inner_bonds["deviation"].to_numpy(float),
        ax=fig.subplots(),
        label=f"bond length minus the mean of its kind and direction ({unit})",
        unit=unit,
        expected_spread=typical if np.isfinite(typical) else None,
        numbers_above=False,
    )
    text = " ± ".join(filter(None, plot.numbers.with_error(spread, error)))
    beyond = ""
    if np.isfinite(typical) and spread**2 > typical**2 + 4 * spread * error:
        rest = plot.numbers.significant(float(np.sqrt(spread**2 - typical**2)), 2)
        beyond = (
            f" The error bars explain {plot.numbers.significant(typical, 2)} {unit} of it (curve); the other "
            f"{rest} {unit}, in squares, are in the object or in the scan."
        )
    return Picture(
        plot.to_png(fig, 110),
        f"Spread of the bond lengths about their means: {text} {unit}.{beyond}",
        f"Histogram of bond lengths about their means, spread {text} {unit}",
    )


def _error_bars(measured: Measured) -> Picture:
    fig = plot.figure(WIDTH, 4.4)
    ax = fig.subplots()
    plot.error_bars(measured.inner, ax=ax)
    return Picture(
        plot.to_png(fig, 110),
        "Standard deviations of the positions, from the Fisher information of each fit. Columns at the "
        "border are left out.",
        "Histogram of the error bars of the positions in y and x",
    )
