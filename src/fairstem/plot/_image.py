"""Images with contrast limits from percentiles and a scale bar from the calibration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairstem.errors import CalibrationError, DataError
from fairstem.plot.style import DIVERGING, axes, colour_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "ImageArtists",
    "draw_image",
    "image",
    "pixel_pair",
    "residual",
    "round_length",
    "scale_bar",
    "size_bar",
]

PixelSize = float | tuple[float, float] | None


class ImageArtists(NamedTuple):
    """What `image` and `residual` draw: the picture, its scale bar and colour bar (None if not drawn)."""

    image: Any
    scale_bar: Any
    colour_bar: Any


def pixel_pair(pixel_size_nm: PixelSize) -> tuple[float, float] | None:
    """Return the pixel size as (py, px) in nm, or None.

    Parameters
    ----------
    pixel_size_nm
        One number, (py, px), or None.

    Returns
    -------
    tuple of float or None
        In nm.

    Raises
    ------
    CalibrationError
        If a size is not positive and finite.

    Examples
    --------
    >>> pixel_pair(0.01)
    (0.01, 0.01)
    """
    if pixel_size_nm is None:
        return None
    values = np.ravel(np.asarray(pixel_size_nm, dtype=float))
    if values.size not in (1, 2) or not (np.isfinite(values).all() and (values > 0).all()):
        raise CalibrationError(f"pixel size {pixel_size_nm!r}", needed="one or two positive lengths in nm")
    return float(values[0]), float(values[-1])


def _picture(data: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(data)
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"{name} of shape {array.shape}", needed="a 2-D array (y, x)", todo="pass one frame")
    if array.dtype.kind not in "buif":
        raise DataError(f"{name} of dtype {array.dtype}", needed="real numbers")
    if not np.isfinite(array).any():
        raise DataError(f"{name} without any finite value", needed="an image")
    return array


def round_length(longest: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is not above a length.

    Parameters
    ----------
    longest
        The length, positive.

    Returns
    -------
    float
        In the same unit.

    Examples
    --------
    >>> round_length(0.4)
    0.2
    """
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))


def _length_label(length: float, calibrated: bool) -> str:
    if not calibrated:
        return f"{length:g} px"
    if length < 0.1:
        return f"{length * 1000:g} pm"
    return f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"


def scale_bar(ax: Axes, width_px: float, pixel_size_nm: PixelSize = None) -> Any:
    """Draw a scale bar of a round length, at most a quarter of the image wide.

    Parameters
    ----------
    ax
        Axes whose x data are pixels.
    width_px
        Width of the image in px.
    pixel_size_nm
        Pixel size in nm, float or (py, px). Without it the bar is in px.

    Returns
    -------
    mpl_toolkits.axes_grid1.anchored_artists.AnchoredSizeBar
        In the lower right corner, on a dark ground so that it shows on any image.

    Examples
    --------
    >>> from fairstem.plot import figure
    >>> ax = figure().subplots()
    >>> scale_bar(ax, 1024, 0.01).txt_label.get_text()
    '2 nm'
    """
    pair = pixel_pair(pixel_size_nm)
    unit = 1.0 if pair is None else pair[1]
    longest = width_px * unit / 4
    length = round_length(longest) if pair is not None else max(round_length(longest), 1.0)
    return size_bar(ax, length / unit, _length_label(length, pair is not None), width_px)


def size_bar(ax: Axes, length_px: float, text: str, width_px: float) -> Any:
    """Draw a bar of a given length with a text above it, on a dark ground in the lower right corner.

    Parameters
    ----------
    ax
        Axes whose x data are pixels.
    length_px
        Length of the bar in px.
    text
        What it stands for, such as "2 nm".
    width_px
        Width of the image in px.

    Returns
    -------
    mpl_toolkits.axes_grid1.anchored_artists.AnchoredSizeBar
        The bar.
    """
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    bar = AnchoredSizeBar(
        ax.transData,
        length_px,
        text,
        "lower right",
        pad=0.35,
        borderpad=0.4,
        sep=3,
        color="white",
        frameon=True,
        size_vertical=max(width_px / 140, 0.2),
        fill_bar=True,
    )
    bar.patch.set(facecolor="black", alpha=0.65, edgecolor="none")
    bar.set_zorder(10)
    ax.add_artist(bar)
    return bar


def image(
    data: ArrayLike,
    *,
    ax: Axes | None = None,
    pixel_size_nm: PixelSize = None,
    percentiles: tuple[float, float] = (0.5, 99.8),
    cmap: str = "gray",
    dim: float = 0.0,
    label: str = "",
    bar: bool = True,
) -> ImageArtists:
    """Draw an image with contrast limits from percentiles and a scale bar.

    Parameters
    ----------
    data
        Image (y, x). NaN is drawn in blue-grey.
    ax
        Axes to draw on; new ones by default. Data coordinates are px, (0, 0) the centre of the
        first pixel; pixels that are not square are drawn so.
    pixel_size_nm
        Pixel size in nm, float or (py, px); without it the scale bar is in px.
    percentiles
        Of the finite values; what lies outside is clipped. The parameter that matters: raise the
        second towards 100 if bright columns saturate.
    cmap
        Name of a matplotlib colour map.
    dim
        From 0 to 1: how far to dim the image so that an overlay stands out.
    label
        Quantity and unit; with it a colour bar is drawn.
    bar
        Draw the scale bar.

    Returns
    -------
    ImageArtists
        The picture, scale bar and colour bar.

    Raises
    ------
    DataError
        If the data are no 2-D image of real numbers, or hold no finite value.

    Examples
    --------
    >>> import numpy as np
    >>> drawn = image(np.random.default_rng(0).poisson(5, (32, 48)), pixel_size_nm=0.02)
    >>> drawn.scale_bar.txt_label.get_text()
    '0.2 nm'
    """
    array = _picture(data, "image")
    low, high = np.percentile(array[np.isfinite(array)].astype(float), percentiles)
    if not high > low:
        high = low + 1
    return draw_image(
        array, axes(ax), (low, high + dim * 1.5 * (high - low)), pixel_size_nm, cmap, label, bar
    )


def draw_image(
    array: NDArray[Any],
    ax: Axes,
    limits: tuple[float, float],
    pixel_size_nm: PixelSize,
    cmap: str,
    label: str,
    bar: bool,
) -> ImageArtists:
    """Draw values between given limits, without frame and ticks.

    Parameters
    ----------
    array
        (y, x); what is not finite is drawn in blue-grey.
    ax
        Axes to draw on.
    limits
        Values of the first and the last colour.
    pixel_size_nm, cmap, label, bar
        As in `image`.

    Returns
    -------
    ImageArtists
        The picture, scale bar and colour bar.
    """
    import matplotlib

    pair = pixel_pair(pixel_size_nm)
    colours = matplotlib.colormaps[cmap].with_extremes(bad="#4a6078")
    aspect = 1.0 if pair is None else pair[0] / pair[1]
    shown = ax.imshow(
        np.ma.masked_invalid(array.astype(np.float64)),
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        aspect=aspect,
        interpolation="antialiased",
    )
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    drawn = scale_bar(ax, array.shape[1], pair) if bar else None
    return ImageArtists(shown, drawn, colour_bar(shown, ax, label) if label else None)


def residual(
    data: ArrayLike,
    model: ArrayLike,
    variance: ArrayLike | None = None,
    *,
    ax: Axes | None = None,
    pixel_size_nm: PixelSize = None,
    limit: float = 5.0,
) -> ImageArtists:
    """Draw what a model leaves over, in standard deviations of the noise.

    Parameters
    ----------
    data, model
        Image and fitted image (y, x), in the same units.
    variance
        Variance of the noise per pixel, in squared units; the model itself (Poisson) by default.
    ax, pixel_size_nm
        As in `image`.
    limit
        Colours end at ± this many standard deviations.

    Returns
    -------
    ImageArtists
        The picture, scale bar and colour bar. If the model holds, the picture is structureless.

    Raises
    ------
    DataError
        If shapes differ or a variance is negative.

    Examples
    --------
    >>> import numpy as np
    >>> model = np.full((16, 16), 9.0)
    >>> drawn = residual(np.random.default_rng(0).poisson(model), model)
    >>> bool(abs(drawn.image.get_array().std() - 1) < 0.2)
    True
    """
    array, fitted = _picture(data, "image"), _picture(model, "model")
    if array.shape != fitted.shape:
        raise DataError(
            f"image of shape {array.shape} and model of shape {fitted.shape}", needed="equal shapes"
        )
    noise = (
        fitted.astype(float)
        if variance is None
        else np.broadcast_to(np.asarray(variance, float), array.shape)
    )
    if (noise < 0).any():
        raise DataError("a negative variance", needed="variances of zero or more")
    with np.errstate(divide="ignore", invalid="ignore"):
        score = (array.astype(float) - fitted) / np.sqrt(noise)
    score[~np.isfinite(score)] = np.nan
    if np.isnan(score).all():
        score = np.zeros_like(score)
    label = "residual (standard deviations)"
    return draw_image(score, axes(ax), (-limit, limit), pixel_size_nm, DIVERGING, label, True)
