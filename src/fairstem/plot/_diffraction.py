"""4D-STEM: diffraction patterns with their geometry, and fields of deflection over the scan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairstem.errors import CalibrationError, DataError
from fairstem.plot._image import ImageArtists, PixelSize, draw_image, round_length, scale_bar, size_bar
from fairstem.plot.style import CATEGORIES, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FieldArtists", "PatternArtists", "com", "pattern"]

_DECADES = 4  # that a logarithmic scale shows at most
_WHEEL = 41  # px of the key


class PatternArtists(NamedTuple):
    """What `pattern` draws: picture, scale bar, cross at the centre, edge of the disc, rings (None, not drawn)."""

    image: Any
    scale_bar: Any
    center: Any
    disc: Any
    rings: tuple[Any, ...]


class FieldArtists(NamedTuple):
    """What `com` draws: picture, scale bar, axes of the key, length of a vector of full colour."""

    image: Any
    scale_bar: Any
    key: Any
    full: float


def pattern(
    data: ArrayLike,
    *,
    ax: Axes | None = None,
    mrad_per_px: float | None = None,
    center: tuple[float, float] | None = None,
    radius_px: float | None = None,
    rings_px: Sequence[float] = (),
    ellipse: ArrayLike | None = None,
    scale: float | Literal["log"] = 0.5,
    cmap: str = "inferno",
) -> PatternArtists:
    """Draw a diffraction pattern with its centre and disc.

    Parameters
    ----------
    data
        ``(k_y, k_x)`` intensities; NaN is drawn in blue-grey.
    ax
        Axes to draw on; new ones by default.
    mrad_per_px
        Angle per pixel in mrad; without it the scale bar is in px.
    center
        Position (y, x) of the optic axis in px, marked with a cross.
    radius_px
        Radius of the bright-field disc in px, drawn as a line about `center`.
    rings_px
        Radii of detectors in px, drawn dashed.
    ellipse
        2 × 2 matrix that makes offsets (y, x) round, as `fairstem.diffraction.Calibration` has it: disc and rings are
        drawn as the detector sees them.
    scale
        Intensities are shown to this power, or on a logarithmic scale of at most four decades: the parameter that
        matters. 0.5 shows counting noise as equally strong everywhere; 1 shows the bright-field disc, ``"log"`` what is
        around it.
    cmap
        Name of a matplotlib colour map.

    Returns
    -------
    PatternArtists
        Picture, scale bar, cross, disc and rings.

    Raises
    ------
    DataError
        The data are no 2-D array of real numbers with a finite value, or the power isn't positive.
    CalibrationError
        Circles without a centre, or an angle per pixel that isn't positive.

    Examples
    --------
    >>> import numpy as np
    >>> k = np.hypot(*np.mgrid[-16:17, -16:17])
    >>> pattern(k < 9, center=(16, 16), radius_px=9, mrad_per_px=2.0).scale_bar.txt_label.get_text()
    '10 mrad'
    """
    array = _pattern(data)
    if mrad_per_px is not None and not (math.isfinite(mrad_per_px) and mrad_per_px > 0):
        raise CalibrationError(f"mrad_per_px={mrad_per_px}", needed="a positive angle per pixel in mrad")
    if center is None and (radius_px is not None or len(rings_px)):
        raise CalibrationError("circles without a center", needed="center=(y, x) in px")
    ax = axes(ax)
    drawn = draw_image(array, ax, (0.0, 1.0), None, cmap, "", False).image
    drawn.set_norm(_norm(array, scale))
    wide = array.shape[1]
    bar = scale_bar(ax, wide) if mrad_per_px is None else _angle_bar(ax, wide, mrad_per_px)
    if center is None:
        return PatternArtists(drawn, bar, None, None, ())
    colour = CATEGORIES[1]
    (cross,) = ax.plot(center[1], center[0], "+", color=colour, markersize=9, markeredgewidth=1.2, zorder=4)
    disc = None if radius_px is None else _circle(ax, center, radius_px, ellipse, colour, "-")
    rings = tuple(_circle(ax, center, r, ellipse, CATEGORIES[4], (0, (4, 3))) for r in rings_px)
    ax.set_xlim(-0.5, wide - 0.5)
    ax.set_ylim(array.shape[0] - 0.5, -0.5)
    return PatternArtists(drawn, bar, cross, disc, rings)


def _pattern(data: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(data)
    if array.ndim != 2 or array.size == 0:
        raise DataError(
            f"pattern of shape {array.shape}", needed="a 2-D array (k_y, k_x)", todo="pass one pattern"
        )
    if array.dtype.kind not in "buif":
        raise DataError(f"pattern of dtype {array.dtype}", needed="real numbers")
    values = array.astype(np.float64)
    if not np.isfinite(values).any():
        raise DataError("pattern without any finite value", needed="intensities")
    return values


def _norm(array: NDArray[np.float64], scale: float | str) -> Any:
    from matplotlib.colors import LogNorm, PowerNorm

    finite = array[np.isfinite(array)]
    high = float(finite.max())
    if scale == "log":
        positive = finite[finite > 0]
        if not positive.size:
            return PowerNorm(1.0, 0.0, 1.0)
        low = max(float(positive.min()), high * 10.0**-_DECADES)
        # what is below the last decade, zeros included, has its colour
        return LogNorm(low, high if high > low else 10 * low, clip=True)
    if isinstance(scale, str) or not (math.isfinite(scale) and scale > 0):
        raise DataError(f"scale={scale!r}", needed="a positive power, or 'log'")
    low = min(0.0, float(finite.min()))
    return PowerNorm(float(scale), low, high if high > low else low + 1, clip=True)


def _angle_bar(ax: Axes, wide: int, mrad_per_px: float) -> Any:
    length = round_length(wide * mrad_per_px / 4)
    return size_bar(ax, length / mrad_per_px, f"{length:g} mrad", wide)


def _circle(
    ax: Axes, center: tuple[float, float], radius: float, ellipse: ArrayLike | None, colour: str, style: Any
) -> Any:
    turn = np.linspace(0, 2 * np.pi, 181)
    edge: NDArray[Any] = radius * np.stack([np.sin(turn), np.cos(turn)])
    if ellipse is not None:
        edge = np.linalg.solve(np.asarray(ellipse, dtype=np.float64), edge)
    (line,) = ax.plot(
        center[1] + edge[1], center[0] + edge[0], color=colour, linestyle=style, linewidth=1.2, zorder=4
    )
    return line


def com(
    field: Any,
    *,
    ax: Axes | None = None,
    pixel_size_nm: PixelSize = None,
    unit: str | None = None,
    full: float | None = None,
    bar: bool = True,
) -> FieldArtists:
    """Draw a field of vectors over the scan, such as the centre of mass: colour for direction, brightness for length.

    Parameters
    ----------
    field
        `fairstem.diffraction.CenterOfMass`, or an array ``(2, y, x)``: components (y, x). Positions that aren't valid,
        or finite, are drawn in blue-grey. Subtract the mean first (or a plane) where only differences mean something.
    ax, pixel_size_nm, bar
        As in `fairstem.plot.image`; the pixel size by default that of a `CenterOfMass`.
    unit
        Unit of the vectors; by default that of a `CenterOfMass`, else px.
    full
        Length that has full brightness; by default the 99th percentile.

    Returns
    -------
    FieldArtists
        Picture, scale bar, axes of the key (a wheel that tells which colour points where) and the length.

    Raises
    ------
    DataError
        The field has another shape, isn't real, or holds no finite vector.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[-8:9, -8:9] / 8.0
    >>> com(np.stack([y, x]), unit="mrad", full=1.0).key.get_title()
    '1 mrad'
    """
    measured = all(hasattr(field, name) for name in ("y", "x", "valid", "unit"))
    if measured:
        pixel_size_nm = field.pixel_size_nm if pixel_size_nm is None else pixel_size_nm
        vectors = np.where(field.valid, np.stack([field.y, field.x]), np.nan)
    else:
        vectors = np.asarray(field)
    unit = unit or (field.unit if measured else "px")
    if vectors.ndim != 3 or vectors.shape[0] != 2 or vectors.size == 0 or vectors.dtype.kind not in "buif":
        raise DataError(
            f"a field of shape {vectors.shape} and dtype {vectors.dtype}",
            needed="real numbers (2, y, x): components along y and x",
        )
    values = vectors.astype(np.float64)
    length = np.hypot(values[0], values[1])
    known = length[np.isfinite(length)]
    if not known.size:
        raise DataError("a field without any finite vector", needed="components along y and x")
    longest = float(np.percentile(known, 99)) if full is None else float(full)
    longest = longest if math.isfinite(longest) and longest > 0 else 1.0
    ax = axes(ax)
    # the frame, aspect and scale bar of any image; its colours are replaced
    drawn: ImageArtists = draw_image(np.zeros(length.shape), ax, (0.0, 1.0), pixel_size_nm, "gray", "", bar)
    drawn.image.set_data(_colours(values / longest))
    return FieldArtists(drawn.image, drawn.scale_bar, _key(ax, longest, unit), longest)


def _colours(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return red, green, blue ``(y, x, 3)``; vectors of length 1 and more have full brightness."""
    from matplotlib.colors import hsv_to_rgb

    length = np.hypot(vectors[0], vectors[1])
    known = np.isfinite(length)
    safe = np.where(known, vectors, 0.0)
    hue = (np.arctan2(-safe[0], safe[1]) / (2 * np.pi)) % 1.0  # the y axis of images points down
    bright = np.clip(np.hypot(safe[0], safe[1]), 0, 1)
    out = np.asarray(hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.85), bright], axis=-1)))
    out[~known] = (0x4A / 255, 0x60 / 255, 0x78 / 255)
    return out


def _key(ax: Axes, full: float, unit: str) -> Any:
    """Draw the wheel beside the axes: the colour at an angle is that of vectors that point there."""
    side = np.linspace(-1, 1, _WHEEL)
    wheel = np.stack(np.meshgrid(side, side, indexing="ij"))
    colours = _colours(wheel)
    shown = np.concatenate([colours, np.ones((_WHEEL, _WHEEL, 1))], axis=-1)
    shown[np.hypot(*wheel) > 1, 3] = 0
    key = ax.inset_axes((1.03, 0.74, 0.22, 0.22), anchor="W")
    key.imshow(shown, interpolation="antialiased")
    key.set_axis_off()
    key.set_title(f"{full:.2g} {unit}".rstrip(), fontsize=8, pad=3)
    return key
