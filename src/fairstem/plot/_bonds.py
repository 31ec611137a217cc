"""Bonds as lines coloured by their length or strain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fairstem.errors import DataError
from fairstem.plot.style import axes, colour_bar, overlay_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["bonds"]


def bonds(
    starts: ArrayLike,
    ends: ArrayLike,
    values: ArrayLike,
    *,
    ax: Axes | None = None,
    label: str = "bond length (pm)",
    centre: float | None = None,
    percentiles: tuple[float, float] = (2, 98),
    width: float = 2.0,
) -> Any:
    """Draw bonds as lines whose colour is a value: length in pm, strain in per cent.

    Parameters
    ----------
    starts, ends
        (n, 2) positions (y, x) of the two ends, in px.
    values
        (n,) values. NaN is not drawn.
    ax
        Axes with the image; new ones by default.
    label
        Quantity and unit, for the colour bar.
    centre
        With it colours diverge from this value, such as the mean length or zero strain.
    percentiles
        Of the values, for the ends of the colours. The parameter that matters: outliers would
        else use up the colours.
    width
        Of the lines, in points.

    Returns
    -------
    matplotlib.collections.LineCollection
        The lines; empty when there is nothing to draw.

    Raises
    ------
    DataError
        If shapes don't agree.

    Examples
    --------
    >>> lines = bonds([[0, 0], [0, 4]], [[0, 4], [0, 9]], [400.0, 500.0])
    >>> len(lines.get_segments())
    2
    """
    from matplotlib.collections import LineCollection

    ax = axes(ax)
    first, second, numbers = (np.asarray(v, dtype=float) for v in (starts, ends, values))
    numbers = numbers.ravel()
    first, second = first.reshape(-1, 2), second.reshape(-1, 2)
    if not len(first) == len(second) == len(numbers):
        raise DataError(
            f"{len(first)} starts, {len(second)} ends and {len(numbers)} values", needed="as many of each"
        )
    good = np.isfinite(numbers) & np.isfinite(first).all(1) & np.isfinite(second).all(1)
    first, second, numbers = first[good], second[good], numbers[good]
    lines = LineCollection(
        list(np.stack([first[:, ::-1], second[:, ::-1]], axis=1)),
        cmap=overlay_map(diverging=centre is not None),
        linewidths=width,
        capstyle="round",
        zorder=3,
    )
    lines.set_array(numbers)
    if len(numbers):
        low, high = np.percentile(numbers, percentiles)
        if centre is not None:
            reach = max(high - centre, centre - low)
            low, high = centre - reach, centre + reach
        lines.set_clim(low, high if high > low else low + 1)
    ax.add_collection(lines, autolim=not ax.images)
    if not ax.images:
        ax.autoscale_view()
        ax.set_aspect("equal")
        if not ax.yaxis_inverted():
            ax.invert_yaxis()
    if len(numbers):
        colour_bar(lines, ax, label)
    return lines
