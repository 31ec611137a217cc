"""Displacements of columns from where the lattice puts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fairstem.errors import DataError
from fairstem.plot._columns import spacing
from fairstem.plot._image import PixelSize, pixel_pair
from fairstem.plot.style import axes, colour_bar, overlay_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["displacement"]


def displacement(
    positions: ArrayLike,
    vectors: ArrayLike,
    *,
    ax: Axes | None = None,
    pixel_size_nm: PixelSize = None,
    magnify: float | None = None,
) -> Any:
    """Draw displacements as arrows coloured by their size.

    Parameters
    ----------
    positions
        (n, 2) positions (y, x), px.
    vectors
        (n, 2) displacements (dy, dx), px.
    ax
        Axes with the image; new ones by default.
    pixel_size_nm
        Pixel size in nm, float or (py, px): colours are then in pm, else in px.
    magnify
        Factor by which arrows are longer than the displacements. By default the 90th percentile
        becomes 0.8 of the nearest-neighbour distance; the factor is written into the label.

    Returns
    -------
    matplotlib.quiver.Quiver
        The arrows, or None when there are no finite ones.

    Raises
    ------
    DataError
        If shapes don't agree or `magnify` is not positive.

    Examples
    --------
    >>> arrows = displacement([[0, 0], [0, 10]], [[0.1, 0], [0, 0.2]], pixel_size_nm=0.01)
    >>> arrows.get_array().round().tolist()
    [1.0, 2.0]
    """
    ax = axes(ax)
    at, moved = np.asarray(positions, dtype=float), np.asarray(vectors, dtype=float)
    if at.shape != moved.shape or at.ndim != 2 or at.shape[1] != 2:
        raise DataError(
            f"positions of shape {at.shape} and vectors of shape {moved.shape}", needed="both (n, 2)"
        )
    if magnify is not None and not magnify > 0:
        raise DataError(f"magnify {magnify}", needed="a positive factor")
    good = np.isfinite(at).all(1) & np.isfinite(moved).all(1)
    at, moved = at[good], moved[good]
    if not len(at):
        return None
    pair = pixel_pair(pixel_size_nm)
    sizes = np.hypot(*moved.T) if pair is None else np.hypot(*(moved * pair).T) * 1000
    if magnify is None:
        typical = float(np.percentile(np.hypot(*moved.T), 90))
        distance = spacing(at)
        magnify = 0.8 * distance / typical if typical > 0 and np.isfinite(distance) else 1.0
        magnify = float(f"{magnify:.1g}")
    arrows = ax.quiver(
        at[:, 1],
        at[:, 0],
        moved[:, 1] * magnify,
        moved[:, 0] * magnify,
        sizes,
        angles="xy",
        scale_units="xy",
        scale=1,
        cmap=overlay_map(),
        width=0.004,
        zorder=3,
    )
    arrows.set_clim(0, max(float(np.percentile(sizes, 98)), 1e-12))
    if not ax.images:
        ax.set_aspect("equal")
        if not ax.yaxis_inverted():
            ax.invert_yaxis()
    unit = "px" if pair is None else "pm"
    colour_bar(arrows, ax, f"displacement ({unit}), arrows × {magnify:g}")
    return arrows
