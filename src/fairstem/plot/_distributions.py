"""Distributions: distances with their spread and its error, error bars of positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fairstem.errors import DataError
from fairstem.plot._columns import columns as draw_columns
from fairstem.plot.numbers import with_error
from fairstem.plot.style import CATEGORIES, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["HistogramArtists", "error_bars", "histogram"]


class HistogramArtists(NamedTuple):
    """What `histogram` draws, and the numbers it writes: mean, spread and their standard errors."""

    bars: Any
    mean: float
    mean_error: float
    spread: float
    spread_error: float


def histogram(
    values: ArrayLike,
    *,
    ax: Axes | None = None,
    label: str = "nearest-neighbour distance (pm)",
    unit: str = "pm",
    reference: float | None = None,
    expected_spread: float | None = None,
    color: str = CATEGORIES[6],
    numbers_above: bool = True,
) -> HistogramArtists:
    """Draw a histogram with mean and spread, each with its standard error.

    Parameters
    ----------
    values
        The values; those not finite are left out.
    ax
        Axes; new ones by default.
    label
        Quantity and unit, for the axis.
    unit
        Written behind the numbers.
    reference
        A known value to compare with, drawn as a dashed line.
    expected_spread
        Spread that the error bars alone would give, drawn as a normal curve about the mean.
    color
        Of the bars.
    numbers_above
        Write mean and spread above the bars; leave them out where a caption says them.

    Returns
    -------
    HistogramArtists
        Bars and numbers. The error of a spread s from n values is s/√(2(n−1)), for values that
        are normal and independent.

    Raises
    ------
    DataError
        If there is no finite value.

    Examples
    --------
    >>> import numpy as np
    >>> drawn = histogram(np.random.default_rng(0).normal(390, 5, 400))
    >>> bool(abs(drawn.mean - 390) < 3 * drawn.mean_error)
    True
    """
    ax = axes(ax)
    numbers = np.asarray(values, dtype=float).ravel()
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        raise DataError("no finite value to draw", needed="at least one")
    n = numbers.size
    mean, spread = float(numbers.mean()), float(numbers.std(ddof=1)) if n > 1 else float("nan")
    mean_error, spread_error = spread / np.sqrt(n), spread / np.sqrt(2 * max(n - 1, 1))
    low, high = np.percentile(numbers, (0.5, 99.5))
    # rare outliers would squeeze the bars; they are counted in the caption instead
    reach = max(high - low, 1e-9 * max(abs(mean), 1))
    limits = (max(low - 0.3 * reach, numbers.min()), min(high + 0.3 * reach, numbers.max()))
    inside = numbers[(numbers >= limits[0]) & (numbers <= limits[1])]
    bins = int(np.clip(np.sqrt(inside.size) * 1.5, 5, 60))
    bars = ax.hist(inside, bins=bins, color=color, alpha=0.85, edgecolor="none")
    if expected_spread is not None and expected_spread > 0:
        x = np.linspace(*ax.get_xlim(), 300)
        step = bars[1][1] - bars[1][0]
        curve = inside.size * step * np.exp(-0.5 * ((x - mean) / expected_spread) ** 2)
        curve /= expected_spread * np.sqrt(2 * np.pi)
        top = ax.get_ylim()[1]
        ax.plot(
            x, curve, color=CATEGORIES[5], lw=1.5, label=f"from error bars: sd {expected_spread:.3g} {unit}"
        )
        ax.set_ylim(0, max(top, min(float(curve.max()) * 1.05, 1.3 * top)))
    if reference is not None:
        ax.axvline(reference, color="black", ls="--", lw=1, label=f"reference {reference:.5g} {unit}")
    left_out = n - inside.size
    text = ""
    if numbers_above:
        text = f"mean {' ± '.join(filter(None, with_error(mean, mean_error)))} {unit}\n"
        if n > 1:
            text += f"spread {' ± '.join(filter(None, with_error(spread, spread_error)))} {unit}\n"
    text += f"n = {n}" + (f", {left_out} outside" if left_out else "")
    _finish(ax, text, label)
    return HistogramArtists(bars, mean, mean_error, spread, spread_error)


def _finish(ax: Axes, text: str, label: str) -> None:
    ax.set_title(text, fontsize=9, loc="left")
    ax.set_xlabel(label)
    ax.set_ylabel("number")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        # room above the bars, so that the legend covers none
        ax.set_ylim(0, ax.get_ylim()[1] * 1.22)
        ax.legend(fontsize=8, frameon=False, loc="upper right")


def error_bars(table: pd.DataFrame, *, ax: Axes | None = None, kind: str = "histogram") -> Any:
    """Draw the standard deviations of the columns' positions.

    Parameters
    ----------
    table
        Columns `sd_y_pm`, `sd_x_pm` (or `sd_y`, `sd_x` in px); for a map also `y`, `x`.
    ax
        Axes; for a map, those with the image.
    kind
        ``"histogram"``: one per direction. ``"map"``: columns coloured by √((sd_y² + sd_x²)/2).

    Returns
    -------
    list
        Artists; empty when no error bar is finite.

    Raises
    ------
    DataError
        If the table has no error bars, or `kind` is unknown.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"y": [1.0, 9], "x": [2.0, 2], "sd_y_pm": [2.0, 3], "sd_x_pm": [2.0, 4]})
    >>> len(error_bars(table, kind="map"))
    1
    """
    unit = next((u for u in ("_pm", "") if {f"sd_y{u}", f"sd_x{u}"} <= set(table.columns)), None)
    if unit is None:
        raise DataError("a table without error bars", needed="sd_y_pm and sd_x_pm, or sd_y and sd_x")
    name = "pm" if unit else "px"
    ax = axes(ax)
    both = {axis: table[f"sd_{axis}{unit}"].to_numpy(dtype=float) for axis in "yx"}
    if kind == "map":
        combined = np.sqrt((both["y"] ** 2 + both["x"] ** 2) / 2)
        shown = table[["y", "x"]].assign(sd=combined)[np.isfinite(combined)]
        return draw_columns(shown, ax=ax, color_by="sd", label=f"error bar of position ({name})")
    if kind != "histogram":
        raise DataError(f"kind {kind!r}", needed="'histogram' or 'map'")
    finite = {axis: values[np.isfinite(values)] for axis, values in both.items()}
    joint = np.concatenate(list(finite.values()))
    drawn = []
    if joint.size:
        top = float(np.percentile(joint, 99)) * 1.05
        edges = np.linspace(max(0.0, joint.min() * 0.95), max(top, joint.min() * 1.05 + 1e-12), 40)
        for axis, colour in zip("yx", (CATEGORIES[6], CATEGORIES[0]), strict=True):
            drawn.append(
                ax.hist(
                    finite[axis],
                    bins=list(edges),
                    histtype="stepfilled",
                    alpha=0.55,
                    color=colour,
                    label=f"{axis}: median {np.median(finite[axis]):.3g} {name}",
                )
            )
    _finish(ax, "", f"error bar of position ({name})")
    return drawn
