"""Symmetry maps: one picture an operation, on one colour scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.plot._image import PixelSize, draw_image, pixel_pair
from fairstem.plot._panels import panels
from fairstem.plot.style import SEQUENTIAL, axes, colour_bar, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MapArtists", "operation_label", "symmetry_comparison", "symmetry_limits", "symmetry_maps"]

_LABELS = {"gamma": "symmetry γ", "standard_error": "standard error of γ"}
_ERRORS = "magma"


class Maps(Protocol):
    """What is drawn of `fairstem.diffraction.SymmetryMaps`."""

    @property
    def operations(self) -> Sequence[str]:
        """Names of the operations."""

    @property
    def gamma(self) -> NDArray[np.floating[Any]]:
        """``(operation, scan_y, scan_x)``."""

    @property
    def standard_error(self) -> NDArray[np.floating[Any]] | None:
        """``(operation, scan_y, scan_x)``, or None."""

    @property
    def valid(self) -> NDArray[np.bool_]:
        """``(operation, scan_y, scan_x)`` or ``(scan_y, scan_x)``."""


class MapArtists(NamedTuple):
    """What `symmetry_maps` and `symmetry_comparison` draw: pictures, colour bar(s), limits of the colours."""

    images: list[Any]
    colour_bars: list[Any]
    limits: tuple[float, float]


def operation_label(name: str) -> str:
    """Return the symbol of an operation for a picture: C₄, mₓ, m at 45°.

    Parameters
    ----------
    name
        Name of the operation, such as ``"C4"``, ``"mx"`` or ``"m45"``.

    Returns
    -------
    str
        In matplotlib's mathematical text.

    Examples
    --------
    >>> operation_label("C4"), operation_label("m45")
    ('$C_{4}$', '$m_{45°}$')
    """
    kind, rest = name[:1], name[1:]
    degree = "°" if kind == "m" and rest[:1].isdigit() else ""
    return f"${kind}_{{{rest}{degree}}}$" if rest else name


def _values(maps: Maps, what: str) -> NDArray[np.float64]:
    """Return the values (operation, y, x), NaN where they aren't valid."""
    if what not in _LABELS:
        raise DataError(f"what={what!r}", needed="'gamma' or 'standard_error'")
    given = getattr(maps, what)
    if given is None:
        raise DataError(f"maps without {what.replace('_', ' ')}", todo='correct the noise: noise="poisson"')
    values = np.asarray(given, dtype=np.float64)
    if values.ndim != 3 or len(values) != len(maps.operations) or values.size == 0:
        raise DataError(
            f"{what} of shape {values.shape} for {len(maps.operations)} operations",
            needed="(operation, scan_y, scan_x)",
        )
    return np.where(np.broadcast_to(maps.valid, values.shape), values, np.nan)


def symmetry_limits(
    maps: Sequence[Maps], what: Literal["gamma", "standard_error"] = "gamma"
) -> tuple[float, float]:
    """Return limits of the colours that suit several symmetry maps.

    Parameters
    ----------
    maps
        As in `symmetry_maps`.
    what
        As in `symmetry_maps`.

    Returns
    -------
    tuple of float
        Of γ: from the first percentile of all maps to 1. Of errors: from 0 to the 99th percentile.

    Raises
    ------
    DataError
        The maps have another shape than their operations.
    """
    every = np.concatenate([_values(one, what).ravel() for one in maps])
    known = every[np.isfinite(every)]
    if what == "gamma":
        low = float(np.percentile(known, 1)) if known.size else 0.0
        return min(low, 0.99), 1.0
    high = float(np.percentile(known, 99)) if known.size else 1.0
    return 0.0, high if high > 0 else 1.0


def symmetry_maps(
    maps: Maps,
    *,
    ax: Sequence[Axes] | None = None,
    what: Literal["gamma", "standard_error"] = "gamma",
    limits: tuple[float, float] | None = None,
    pixel_size_nm: PixelSize = None,
    cmap: str | None = None,
) -> MapArtists:
    """Draw the map of each operation on one colour scale.

    Parameters
    ----------
    maps
        Of `fairstem.diffraction.symmetry`. Positions that aren't valid are drawn in blue-grey.
    ax
        One axes an operation; new ones by default.
    what
        ``"gamma"`` or ``"standard_error"``.
    limits
        Values of the first and the last colour; by default those of `symmetry_limits`, which end at 1 for γ: single
        corrected values beyond 1, which are noise, have the last colour.
    pixel_size_nm
        Step (y, x) of the scan in nm; without it the scale bar is in px.
    cmap
        Name of a matplotlib colour map.

    Returns
    -------
    MapArtists
        Pictures, colour bar (beside the last), limits.

    Raises
    ------
    DataError
        The maps have another shape than their operations, or another number of axes is given.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> maps = SimpleNamespace(operations=("C2", "C4"), gamma=np.full((2, 8, 8), 0.9),
    ...                        standard_error=np.full((2, 8, 8), 0.01), valid=np.ones((8, 8), bool))
    >>> len(symmetry_maps(maps, pixel_size_nm=0.05).images)
    2
    """
    values = _values(maps, what)
    low, high = symmetry_limits([maps], what) if limits is None else limits
    count = len(values)
    where = panels(ax, count, 2.6 * count + 0.8, 2.6 * _tall(values, pixel_size_nm) + 0.4)
    drawn = [
        draw_image(one, at, (low, high), pixel_size_nm, cmap or _map(what), "", number == 0).image
        for number, (at, one) in enumerate(zip(where, values, strict=True))
    ]
    for at, name in zip(where, maps.operations, strict=True):
        at.set_title(operation_label(name), fontsize=11)
    return MapArtists(drawn, [colour_bar(drawn[-1], where[-1], _LABELS[what])], (low, high))


def _map(what: str) -> str:
    return SEQUENTIAL if what == "gamma" else _ERRORS


def symmetry_comparison(
    columns: Mapping[str, Maps],
    *,
    ax: Any = None,
    operations: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
    pixel_size_nm: PixelSize = None,
) -> MapArtists:
    """Draw symmetry maps of one scan side by side: the truth, at some dose, corrected for its noise.

    Parameters
    ----------
    columns
        Maps by what they are: ``{"truth": ..., "1000 frames/s": ..., "corrected": ...}``.
    ax
        ``(operation, column)`` axes, as ``plt.subplots(n, m, squeeze=False)`` makes them; new ones by default.
    operations
        Which ones, in this order; by default those of the first maps.
    limits
        Values of the first and the last colour of all pictures. By default those of the first column, so that what
        noise adds or takes shows as another colour.
    pixel_size_nm
        As in `symmetry_maps`.

    Returns
    -------
    MapArtists
        Pictures row by row, a colour bar a row, limits.

    Raises
    ------
    DataError
        Nothing to draw, an operation that some maps haven't, or another shape of axes.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> maps = SimpleNamespace(operations=("C2", "C4"), gamma=np.full((2, 8, 8), 0.9),
    ...                        standard_error=np.full((2, 8, 8), 0.01), valid=np.ones((8, 8), bool))
    >>> len(symmetry_comparison({"truth": maps, "noisy": maps}, operations=["C4"]).images)
    2
    """
    if not columns:
        raise DataError("no maps", needed="maps by what they are, such as {'truth': ..., 'noisy': ...}")
    first = next(iter(columns.values()))
    names = list(first.operations if operations is None else operations)
    for label, maps in columns.items():
        missing = [name for name in names if name not in maps.operations]
        if missing:
            raise DataError(f"the maps of {label!r} lack {', '.join(missing)}", needed=", ".join(names))
    grid = _grid(ax, len(names), len(columns), _tall(_values(first, "gamma"), pixel_size_nm))
    low, high = symmetry_limits([first]) if limits is None else limits
    drawn, bars = [], []
    for row, name in enumerate(names):
        for column, (label, maps) in enumerate(columns.items()):
            at = grid[row, column]
            one = _values(maps, "gamma")[list(maps.operations).index(name)]
            bar = row == 0 and column == 0
            drawn.append(draw_image(one, at, (low, high), pixel_size_nm, SEQUENTIAL, "", bar).image)
            if row == 0:
                at.set_title(label, fontsize=10)
            if column == 0:
                at.set_ylabel(operation_label(name), fontsize=12, rotation=0, labelpad=14, va="center")
        bars.append(colour_bar(drawn[-1], grid[row, -1], _LABELS["gamma"]))
    return MapArtists(drawn, bars, (low, high))


def _tall(values: NDArray[np.float64], pixel_size_nm: PixelSize) -> float:
    """Return how much higher than wide a map is."""
    y, x = pixel_pair(pixel_size_nm) or (1.0, 1.0)
    return float(np.clip(values.shape[1] * y / (values.shape[2] * x), 0.2, 3.0))


def _grid(ax: Any, rows: int, columns: int, tall: float) -> NDArray[Any]:
    if ax is None:
        made = figure(2.4 * columns + 0.9, 2.4 * tall * rows + 0.5)
        ax = made.subplots(rows, columns, squeeze=False)
    grid = np.asarray(ax, dtype=object)
    if grid.shape != (rows, columns):
        raise DataError(
            f"axes of shape {grid.shape}",
            needed=f"{rows} × {columns}",
            todo=f"plt.subplots({rows}, {columns}, squeeze=False)",
        )
    for one in grid.flat:
        axes(one)
    return grid
