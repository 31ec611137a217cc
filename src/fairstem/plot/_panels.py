"""Axes: several side by side, and logarithmic ones that are read as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fairstem.errors import DataError
from fairstem.plot.style import axes, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["panels", "plain_log"]


def panels(ax: Sequence[Axes] | None, count: int, width: float, height: float) -> list[Axes]:
    """Return so many axes side by side.

    Parameters
    ----------
    ax
        Axes, as ``plt.subplots(1, count)`` makes them; None for those of a new figure.
    count
        How many are needed.
    width, height
        Size of a new figure in inches.

    Returns
    -------
    list of matplotlib.axes.Axes
        `count` of them.

    Raises
    ------
    DataError
        If another number of axes is given.
    DataTypeError
        If one of them is no axes.

    Examples
    --------
    >>> len(panels(None, 2, 6, 3))
    2
    """
    if ax is None:
        return list(figure(width, height).subplots(1, count, squeeze=False)[0])
    given = list(ax) if isinstance(ax, Sequence) or hasattr(ax, "__len__") else [ax]
    if len(given) != count:
        raise DataError(f"{len(given)} axes", needed=f"{count} axes", todo=f"plt.subplots(1, {count})")
    return [axes(one) for one in given]


def plain_log(ax: Axes) -> None:
    """Make both axes logarithmic, with ticks such as 0.2, 0.5, 1 instead of powers of ten.

    Parameters
    ----------
    ax
        Axes with something drawn on them.

    Examples
    --------
    >>> ax = panels(None, 1, 3, 3)[0]
    >>> plain_log(ax)
    >>> ax.get_xscale(), ax.get_yscale()
    ('log', 'log')
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        # steps of 1, 2, 5 where there is room for them
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1000 * low else (1.0,)))
        axis.set_major_formatter(FuncFormatter(_plain))
        axis.set_minor_formatter(NullFormatter())


def _plain(value: float, _: Any) -> str:
    return f"{value:g}"
