"""Atom columns drawn over their image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.plot.style import CATEGORIES, axes, colour_bar, overlay_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["columns", "marker_points", "spacing"]


def spacing(positions: NDArray[np.float64]) -> float:
    """Return the median distance to the nearest neighbour, NaN for fewer than two positions.

    Parameters
    ----------
    positions
        (n, 2) positions.

    Returns
    -------
    float
        In the unit of the positions.

    Examples
    --------
    >>> import numpy as np
    >>> spacing(np.array([[0.0, 0.0], [0.0, 2.0], [5.0, 2.0]]))
    2.0
    """
    if len(positions) < 2:
        return float("nan")
    from scipy.spatial import cKDTree

    return float(np.median(cKDTree(positions).query(positions, k=2)[0][:, 1]))


def marker_points(ax: Axes, distance: float, fraction: float) -> float:
    """Return a marker's diameter in points that is a fraction of a distance in data units.

    Parameters
    ----------
    ax
        Axes, their limits already set.
    distance
        In data units (px); NaN gives the default size.
    fraction
        Of the distance.

    Returns
    -------
    float
        Between 1.5 and 12 points.

    Examples
    --------
    >>> from fairstem.plot import figure
    >>> marker_points(figure().subplots(), float("nan"), 0.3)
    6.0
    """
    if not np.isfinite(distance):
        return 6.0
    fig = ax.get_figure(root=True)
    box = ax.get_window_extent()
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    # the layout may still shrink the axes, so take the smaller scale of the two directions
    scale = min(box.width / max(abs(x1 - x0), 1e-9), box.height / max(abs(y1 - y0), 1e-9))
    dpi = 100.0 if fig is None else fig.dpi
    return float(np.clip(distance * fraction * scale * 72 / dpi, 1.5, 12.0))


def _positions(table: pd.DataFrame) -> NDArray[np.float64]:
    missing = [name for name in ("y", "x") if name not in table]
    if missing:
        raise DataError(
            f"a table with columns {list(table.columns)[:8]}",
            needed="columns y and x, in px",
            todo="pass atoms.find's",
        )
    return table[["y", "x"]].to_numpy(dtype=float)


def columns(
    table: pd.DataFrame,
    *,
    ax: Axes | None = None,
    color_by: str | None = None,
    label: str = "",
    color: str = CATEGORIES[0],
    size: float | None = None,
    legend: bool = True,
) -> list[Any]:
    """Mark atom columns, coloured by sub-lattice or by any number in the table.

    Parameters
    ----------
    table
        Columns `y`, `x` in px; with a column `edge`, columns at the border are drawn hollow.
    ax
        Axes with the image; new ones by default.
    color_by
        Name of a column of the table. Text, categories (in their order), booleans and up to eight different
        integers give a legend; other numbers a colour bar.
    label
        Text of the legend or colour bar: quantity and unit. `color_by` by default.
    color
        Colour when `color_by` is None.
    size
        Diameter of the marks in points; a third of the nearest-neighbour distance by default.
    legend
        Draw the legend or colour bar.

    Returns
    -------
    list of matplotlib.collections.PathCollection
        One per group; empty when the table is empty.

    Raises
    ------
    DataError
        If the table has no `y` and `x`, or no column `color_by`.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"y": [1.0, 5.0], "x": [2.0, 2.0], "site": ["A", "B"]})
    >>> len(columns(table, color_by="site"))
    2
    """
    ax = axes(ax)
    positions = _positions(table)
    if color_by is not None and color_by not in table:
        raise DataError(f"color_by={color_by!r}", needed=f"one of {list(table.columns)}")
    if len(table) == 0:
        return []
    points = size if size is not None else marker_points(ax, spacing(positions), 0.33)
    inner = ~table["edge"].to_numpy(dtype=bool) if "edge" in table else np.ones(len(table), bool)
    if color_by is not None and not _is_category(table[color_by]):
        return _by_number(ax, positions, table[color_by].to_numpy(float), label or color_by, points, legend)
    groups = [("", np.ones(len(table), bool))]
    if color_by is not None:
        values = table[color_by]
        groups = [(str(v), (values == v).to_numpy(dtype=bool)) for v in _groups(values)]
    drawn = []
    for number, (name, chosen) in enumerate(groups):
        hue = color if color_by is None else CATEGORIES[number % len(CATEGORIES)]
        for part, face in ((chosen & inner, hue), (chosen & ~inner, "none")):
            if part.any():
                drawn.append(_marks(ax, positions[part], points, face, hue, name if face == hue else ""))
    if legend and color_by is not None:
        shown = ax.legend(
            title=label or None,
            loc="upper left",
            fontsize=8,
            title_fontsize=8,
            framealpha=0.85,
            markerscale=min(1.5, 7.0 / points),
        )
        shown.set_zorder(11)
    return drawn


def _marks(ax: Axes, positions: NDArray[np.float64], points: float, face: str, edge: str, name: str) -> Any:
    return ax.scatter(
        positions[:, 1],
        positions[:, 0],
        s=points**2,
        facecolors=face,
        edgecolors=edge,
        linewidths=0.4 if face != "none" else max(0.15 * points, 0.5),
        label=name or None,
        zorder=3,
    )


def _groups(values: pd.Series[Any]) -> list[Any]:
    """Return the categories in their order, or the different values sorted."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return list(values.dtype.categories)
    return sorted(values.dropna().unique(), key=str)


def _is_category(values: pd.Series[Any]) -> bool:
    kind = values.dtype
    if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind):
        return True
    return pd.api.types.is_integer_dtype(kind) and values.nunique() <= len(CATEGORIES)


def _by_number(
    ax: Axes,
    positions: NDArray[np.float64],
    values: NDArray[np.float64],
    label: str,
    points: float,
    legend: bool,
) -> list[Any]:
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
    drawn = ax.scatter(
        positions[:, 1],
        positions[:, 0],
        c=values,
        s=points**2,
        cmap=overlay_map(),
        vmin=low,
        vmax=high if high > low else low + 1,
        plotnonfinite=False,
        linewidths=0,
        zorder=3,
    )
    if legend:
        colour_bar(drawn, ax, label)
    return [drawn]
