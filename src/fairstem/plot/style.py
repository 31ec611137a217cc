"""The look of fairstem's figures: colours, sizes, and figures that belong to no window."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from fairstem.errors import DataTypeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = ["CATEGORIES", "DIVERGING", "SEQUENTIAL", "axes", "colour_bar", "figure", "overlay_map", "to_png"]

# Okabe and Ito (2008): told apart with any colour vision; the order keeps neighbours far apart
CATEGORIES = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2", "#999999")
SEQUENTIAL = "viridis"
DIVERGING = "PuOr"


def overlay_map(diverging: bool = False) -> Colormap:
    """Return a colour map whose every colour shows on a dimmed image as well as on white.

    Parameters
    ----------
    diverging
        Blue over grey to orange, for values about a centre; else viridis without its dark end.

    Returns
    -------
    matplotlib.colors.Colormap
        Not registered by name: nothing global changes.

    Examples
    --------
    >>> overlay_map(diverging=True).name
    'blue-grey-orange'
    """
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    if diverging:
        return LinearSegmentedColormap.from_list("blue-grey-orange", ["#4DB3FF", "#6E7378", "#FF9A1F"])
    light = matplotlib.colormaps[SEQUENTIAL]([0.25 + 0.75 * k / 255 for k in range(256)])
    return LinearSegmentedColormap.from_list("light viridis", light)


def figure(width: float = 6.0, height: float = 5.0, dpi: float = 100) -> Figure:
    """Make a figure that needs no window and no pyplot.

    Parameters
    ----------
    width, height
        Size in inches.
    dpi
        Dots per inch.

    Returns
    -------
    matplotlib.figure.Figure
        With a layout that keeps labels from overlapping. Safe in threads: nothing global changes.

    Examples
    --------
    >>> ax = figure(3, 2).subplots()
    >>> ax.figure.get_size_inches().tolist()
    [3.0, 2.0]
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(made)
    return made


def axes(ax: Axes | None) -> Axes:
    """Return the axes given, or those of a new figure.

    Parameters
    ----------
    ax
        Axes, or None.

    Returns
    -------
    matplotlib.axes.Axes
        To draw on.

    Raises
    ------
    DataTypeError
        If `ax` is something else, such as the array that ``plt.subplots(2)`` returns.

    Examples
    --------
    >>> ax = axes(None)
    >>> axes(ax) is ax
    True
    """
    if ax is None:
        return figure().subplots()
    if not hasattr(ax, "transData"):
        raise DataTypeError(
            f"ax of type {type(ax).__name__}", needed="one matplotlib Axes", todo="index it: ax=axes[0]"
        )
    return ax


def colour_bar(artist: Any, ax: Axes, label: str) -> Any:
    """Put a colour bar beside the axes, as high as they are.

    Parameters
    ----------
    artist
        What the colours belong to.
    ax
        The axes it is drawn on.
    label
        Quantity and unit.

    Returns
    -------
    matplotlib.colorbar.Colorbar
        The bar.

    Examples
    --------
    >>> ax = axes(None)
    >>> colour_bar(ax.imshow([[1, 2]]), ax, "counts").ax.get_ylabel()
    'counts'
    """
    # an inset is exactly as high as the axes, also when their aspect is fixed
    bar = ax.figure.colorbar(artist, cax=ax.inset_axes((1.02, 0, 0.045, 1)))
    bar.set_label(label)
    bar.outline.set_visible(False)
    return bar


def to_png(fig: Figure, dpi: float = 100, colours: int | None = None) -> bytes:
    """Draw a figure as PNG.

    Parameters
    ----------
    fig
        The figure.
    dpi
        Dots per inch.
    colours
        Reduce to a palette of so many colours, at most 256: a third of the size for noisy images.

    Returns
    -------
    bytes
        The same bytes for the same figure: no date, no version inside.

    Examples
    --------
    >>> to_png(axes(None).figure)[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    # cut to what is drawn: labels of colour bars stand outside the axes that the layout knows
    fig.savefig(
        buffer, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.06, metadata={"Software": None}
    )
    if colours is None:
        return buffer.getvalue()
    from PIL import Image

    with Image.open(buffer) as drawn:
        reduced = drawn.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    small = io.BytesIO()
    reduced.save(small, "PNG", optimize=True)
    return small.getvalue()
