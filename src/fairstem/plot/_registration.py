"""Registered series: before and after, where the object changed, how many frames, the error budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import find_objects, gaussian_filter, label, uniform_filter

from fairstem.errors import DataError
from fairstem.plot._image import ImageArtists, PixelSize, draw_image
from fairstem.plot._panels import panels, plain_log
from fairstem.plot.numbers import significant
from fairstem.plot.style import CATEGORIES, DIVERGING, SEQUENTIAL, axes, colour_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BeforeAfterArtists",
    "Chi2Artists",
    "FloorArtists",
    "before_after",
    "chi2_map",
    "floor",
    "samples",
]

Floats = NDArray[np.float64]
_CHANGED = 6.0  # robust standard deviations of the smoothed map: no pixel of a million by noise alone


class BeforeAfterArtists(NamedTuple):
    """What `before_after` draws: one `ImageArtists` a panel, and the part that is shown."""

    panels: list[ImageArtists]
    crop: tuple[int, int, int]


class Chi2Artists(NamedTuple):
    """What `chi2_map` draws, and the boxes ``(y0, x0, y1, x1)`` around what has changed, px."""

    image: Any
    colour_bar: Any
    outlines: Any
    changed: list[tuple[int, int, int, int]]


class FloorArtists(NamedTuple):
    """What `floor` draws: a curve and a point for each source of error, by name."""

    curves: dict[str, Any]
    points: dict[str, Any]


def before_after(
    before: ArrayLike,
    after: ArrayLike,
    *,
    frame: ArrayLike | None = None,
    ax: Sequence[Axes] | None = None,
    pixel_size_nm: PixelSize = None,
    crop: tuple[int, int, int] | None = None,
    size: int = 96,
    labels: Sequence[str] = ("one frame", "before", "after"),
) -> BeforeAfterArtists:
    """Draw the same small part of two or three images side by side, pixel by pixel, on one grey scale.

    Parameters
    ----------
    before, after
        Averages ``(y, x)`` without and with the correction, in the same units.
    frame
        ``(y, x)`` one frame as it was recorded, drawn first.
    ax
        Two axes, three with `frame`; new ones by default.
    pixel_size_nm
        Pixel size in nm, float or (py, px); without it the scale bars are in px.
    crop
        ``(y, x, size)`` upper left corner and side of the part, px. By default the part with most
        contrast in `after`, away from the border.
    size
        Side of the part where `crop` is not given, px.
    labels
        Titles of the frame, of before and of after.

    Returns
    -------
    BeforeAfterArtists
        The panels and the part shown.

    Raises
    ------
    DataError
        If the images differ in shape, or the part lies outside.

    Notes
    -----
    The grey scale is that of `after`; a single frame is noisier and reaches beyond it.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).poisson(9.0, (64, 80))
    >>> before_after(image, image, crop=(4, 8, 32)).crop
    (4, 8, 32)
    """
    images = [np.asarray(i, dtype=np.float64) for i in ([] if frame is None else [frame]) + [before, after]]
    if any(i.ndim != 2 or i.shape != images[-1].shape for i in images):
        raise DataError(f"images of shapes {[i.shape for i in images]}", needed="2-D images of one shape")
    shape = images[-1].shape
    y, x, side = contrast_part(images[-1], size) if crop is None else crop
    if min(y, x) < 0 or side < 2 or y + side > shape[0] or x + side > shape[1]:
        raise DataError(
            f"crop {(y, x, side)} of images of {shape[0]} × {shape[1]} px", needed="a part inside"
        )
    part = (slice(y, y + side), slice(x, x + side))
    shown = images[-1][part]
    if not np.isfinite(shown).any():
        raise DataError("a part without any finite value", needed="an image", todo="give another crop")
    low, high = np.percentile(shown[np.isfinite(shown)], (0.5, 99.8))
    limits = (float(low), float(high if high > low else low + 1))
    drawn = []
    names = labels[-len(images) :]
    for where, image, name in zip(
        panels(ax, len(images), 3.2 * len(images), 3.4), images, names, strict=True
    ):
        artists = draw_image(image[part], where, limits, pixel_size_nm, "gray", "", True)
        # one screen pixel or more for each pixel: nothing is smoothed in between
        artists.image.set_interpolation("nearest")
        where.set_title(name, fontsize=10, loc="left")
        drawn.append(artists)
    return BeforeAfterArtists(drawn, (int(y), int(x), int(side)))


def contrast_part(image: ArrayLike, size: int = 96) -> tuple[int, int, int]:
    """Return the part of an image with most to see: slopes in every direction, as atoms have.

    Parameters
    ----------
    image
        ``(y, x)``; NaN counts as the mean.
    size
        Side of the part, px; less where the image is smaller.

    Returns
    -------
    tuple of int
        ``(y, x, size)``: upper left corner and side, away from the border where there is room.

    Raises
    ------
    DataError
        If the image is not 2-D.

    Notes
    -----
    Cost: ``O(pixels)``.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((64, 64))
    >>> image[30:40, 30:40] = 5.0
    >>> y, x, size = contrast_part(image, 16)
    >>> bool(y < 40 < y + 16 or y < 30 < y + 16)
    True
    """
    image = np.asarray(image, dtype=np.float64)
    if image.ndim != 2 or image.size == 0:
        raise DataError(f"image of shape {image.shape}", needed="a 2-D array (y, x)")
    side = min(size, *image.shape)
    filled = np.nan_to_num(image, nan=float(np.nanmean(image)) if np.isfinite(image).any() else 0.0)
    # slopes in every direction: counting noise has the same everywhere, ramps and straight edges only one
    slope_y, slope_x = np.gradient(gaussian_filter(filled, 1.5))
    yy, xx, yx = (uniform_filter(p, side) for p in (slope_y**2, slope_x**2, slope_y * slope_x))
    detail = (yy + xx) / 2 - np.sqrt((yy - xx) ** 2 / 4 + yx**2)
    # bright parts have more of that noise: what stands out of it counts
    rough = uniform_filter(((filled[2:] + filled[:-2])[:, 1:-1] / 2 - filled[1:-1, 1:-1]) ** 2, side)
    noise = np.pad(rough, 1, mode="edge") if rough.size else np.zeros_like(filled)
    detail /= np.maximum(noise, 0.1 * noise.mean()) + 1e-6 * filled.var() + np.finfo(np.float64).tiny
    corner = [min(max((n - side) // 2, 0), n // 16) for n in image.shape]
    low = [c + side // 2 for c in corner]
    inner = detail[low[0] : image.shape[0] - low[0] + 1, low[1] : image.shape[1] - low[1] + 1]
    at = divmod(int(np.argmax(inner)), inner.shape[1]) if inner.size else (0, 0)
    top = [min(a + c, n - side) for a, c, n in zip(at, corner, image.shape, strict=True)]
    return top[0], top[1], side


def chi2_map(
    chi2: ArrayLike,
    *,
    ax: Axes | None = None,
    pixel_size_nm: PixelSize = None,
    smooth: float = 2.0,
    changed: ArrayLike | None = None,
) -> Chi2Artists:
    """Draw where frames differ by more than their noise, and outline what has changed.

    Parameters
    ----------
    chi2
        ``(y, x)`` mean over the frames of the squared residual over its expected variance: 1 where frames
        differ by counting noise only.
    ax
        Axes; new ones by default.
    pixel_size_nm
        Pixel size in nm, float or (py, px); without it the scale bar is in px.
    smooth
        The map is smoothed with a Gaussian of this sigma, px, so that changes of the size of an atom
        stand out of the scatter of single pixels. 0 draws it as it is.
    changed
        ``(y, x)`` True where the object changed, to be outlined, as a test found it. By default where the
        smoothed map is six robust standard deviations above its median, and above 1.2.

    Returns
    -------
    Chi2Artists
        The map, its colour bar, the outlines, and the boxes around what has changed.

    Raises
    ------
    DataError
        If the map is not 2-D, has no finite value or a negative one, or `changed` has another shape.

    Notes
    -----
    Colours are logarithmic about 1: half as much and twice as much are equally far from white. They end at
    a factor of 2, or of 4 where something reaches beyond 2.

    Examples
    --------
    >>> import numpy as np
    >>> chi2 = np.random.default_rng(0).chisquare(9, (64, 64)) / 9
    >>> chi2[20:30, 40:50] += 3
    >>> len(chi2_map(chi2).changed)
    1
    """
    from matplotlib.colors import LogNorm

    array = np.asarray(chi2, dtype=np.float64)
    good = np.isfinite(array)
    if array.ndim != 2 or not good.any() or (array[good] < 0).any():
        raise DataError(f"a χ² map of shape {array.shape}", needed="a 2-D map of values of zero or more")
    weight = gaussian_filter(good.astype(float), smooth)
    shown = gaussian_filter(np.where(good, array, 0.0), smooth) / np.maximum(weight, 1e-9)
    shown[weight < 0.5 * good] = np.nan
    shown[~good] = np.nan
    inside = shown[np.isfinite(shown)]
    where = _stands_out(shown) if changed is None else np.asarray(changed, dtype=bool)
    if where.shape != shown.shape:
        raise DataError(f"changed of shape {where.shape}, χ² of shape {shown.shape}", needed="equal shapes")
    reach = 2.0 if inside.max() <= 2 else 4.0
    drawn = draw_image(shown, axes(ax), (1 / reach, reach), pixel_size_nm, f"{DIVERGING}_r", "", True)
    drawn.image.set_norm(LogNorm(1 / reach, reach))
    bar = colour_bar(drawn.image, drawn.image.axes, "χ² per frame (1: counting noise only)")
    _round_ticks(bar, reach, bool(inside.max() > reach))
    groups, _ = label(where)
    boxes = [(s[0].start, s[1].start, s[0].stop, s[1].stop) for s in find_objects(groups) if s is not None]
    outlines = None
    if boxes:
        outlines = drawn.image.axes.contour(where, levels=[0.5], colors="black", linewidths=1.1)
    return Chi2Artists(drawn.image, bar, outlines, boxes)


def _stands_out(shown: Floats) -> NDArray[np.bool_]:
    inside = shown[np.isfinite(shown)]
    middle = float(np.median(inside))
    scatter = 1.4826 * float(np.median(np.abs(inside - middle)))
    level = max(middle + _CHANGED * scatter, 1.2)
    return np.asarray(np.nan_to_num(shown, nan=0.0) > level)


def _round_ticks(bar: Any, reach: float, beyond: bool) -> None:
    from matplotlib.ticker import NullLocator

    ticks = [t for t in (0.25, 0.5, 1.0, 2.0, 4.0) if 1 / reach <= t <= reach]
    names = [f"{t:g}" if t >= 1 else f"1/{1 / t:g}" for t in ticks]
    if beyond:
        names[-1] = f"≥ {names[-1]}"
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.set_ticks(ticks, labels=names)


def samples(count: ArrayLike, *, ax: Axes | None = None, pixel_size_nm: PixelSize = None) -> ImageArtists:
    """Draw how many frames stand behind each pixel of an average.

    Parameters
    ----------
    count
        ``(y, x)`` number of frames; need not be whole.
    ax
        Axes; new ones by default.
    pixel_size_nm
        Pixel size in nm, float or (py, px); without it the scale bar is in px.

    Returns
    -------
    ImageArtists
        The map, its scale bar and colour bar.

    Raises
    ------
    DataError
        If the map is not 2-D or has no finite value.

    Examples
    --------
    >>> import numpy as np
    >>> samples(np.full((8, 8), 10.0)).image.get_clim()
    (0.0, 10.0)
    """
    array = np.asarray(count, dtype=np.float64)
    if array.ndim != 2 or not np.isfinite(array).any():
        raise DataError(f"a map of shape {array.shape}", needed="a 2-D map of numbers")
    top = max(float(np.nanmax(array)), 1.0)
    return draw_image(array, axes(ax), (0.0, top), pixel_size_nm, SEQUENTIAL, "frames behind a pixel", True)


def floor(
    budget: dict[str, float],
    frames: int,
    *,
    ax: Axes | None = None,
    unit: str = "pm",
) -> FloorArtists:
    """Draw the error budget of a position in the average against the number of frames.

    Prior: errors of different frames are independent, so that each part falls as 1/√K.

    Parameters
    ----------
    budget
        Name of each source of error and its size at this number of frames, rms per axis in `unit`:
        counting noise, registration error, common-mode floor.
    frames
        Number of frames K in the average.
    ax
        Axes; new ones by default.
    unit
        Unit of the sizes.

    Returns
    -------
    FloorArtists
        Curves and points by name.

    Raises
    ------
    DataError
        If there are no frames, or no size that is positive.

    Examples
    --------
    >>> drawn = floor({"common-mode floor": 3.1, "registration": 1.2}, frames=10)
    >>> [round(float(v), 2) for v in drawn.points["registration"].get_ydata()]
    [1.2]
    """
    sizes = {name: float(v) for name, v in budget.items() if np.isfinite(v) and v > 0}
    if frames < 1 or not sizes:
        raise DataError(f"{frames} frames, sizes {budget}", needed="one frame or more and a positive size")
    ax = axes(ax)
    most = 10 ** np.ceil(np.log10(4 * frames))
    count = np.geomspace(1, most, 60)
    curves, points = {}, {}
    colours = (CATEGORIES[6], CATEGORIES[5], CATEGORIES[3], CATEGORIES[2])
    for number, (name, value) in enumerate(sizes.items()):
        colour = colours[number % len(colours)]
        (curves[name],) = ax.plot(count, value * np.sqrt(frames / count), color=colour, lw=1.4)
        text = f"{name}: {significant(value, 2)} {unit}"
        (points[name],) = ax.plot([frames], [value], "o", color=colour, ms=6, label=text)
    ax.axvline(frames, color="0.8", lw=0.8, zorder=0)
    ax.set_xlim(1, most)
    plain_log(ax)
    ax.set_xlabel("number of frames K")
    ax.set_ylabel(f"error of a position ({unit} rms per axis)")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.legend(fontsize=8, frameon=False, title=f"at K = {frames}; each falls as 1/√K", title_fontsize=8)
    return FloorArtists(curves, points)
