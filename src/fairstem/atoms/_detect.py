"""Classical multi-scale detection: peaks of the Laplacian of Gaussian that stand out of the counting noise.

Prior: a column is a peaked spot of about one width all over the image, on a background that is locally a plane;
the noise of a pixel is known. Lindeberg, IJCV 30 (1998) 79, doi:10.1023/A:1008045108935, for the scale space;
here every response is divided by its own noise, so that the threshold is a number of standard deviations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from fairstem.errors import DataError

__all__ = ["Detection", "detect_columns", "detect_residual"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

THRESHOLD = 5.0  # standard deviations; white noise then gives < 1 false column per 4096² pixels
TILE = 512
MOST_PIXELS = 3 * TILE**2
RIDGE = 0.1  # least curvature of a peak over its greatest
PROMINENCE = 3.0  # standard deviations between a peak and the saddle to a higher one
SCALE_STEP = 2 ** (1 / 3)
FINEST_SHARE = 0.75  # of the best scale's explained likelihood: take the finest scale that reaches it


@dataclass(frozen=True)
class Detection:
    """Peaks of an image: positions and scale in px, score in standard deviations of the counting noise.

    `height` is the peak in counts of a Gaussian of that scale that would give the response.
    """

    y: FloatArray
    x: FloatArray
    score: FloatArray
    height: FloatArray
    scale: float


def _fill(counts: FloatArray, mask: BoolArray, scale: float) -> FloatArray:
    """Replace masked pixels by the weighted mean of their neighbours, so that they make no peaks of their own."""
    if mask.all():
        return counts
    weight = ndimage.gaussian_filter(mask.astype(float), scale, mode="reflect")
    mean = ndimage.gaussian_filter(np.where(mask, counts, 0.0), scale, mode="reflect")
    level = float(counts[mask].mean())
    return np.where(mask, counts, np.where(weight > 1e-3, mean / np.maximum(weight, 1e-3), level))


def _bin(image: FloatArray, factor: int) -> FloatArray:
    """Sum factor × factor pixels; an incomplete last row or column is left out."""
    if factor == 1:
        return image
    ny, nx = image.shape[0] // factor, image.shape[1] // factor
    cut = image[: ny * factor, : nx * factor]
    binned: FloatArray = cut.reshape(ny, factor, nx, factor).sum(axis=(1, 3))
    return binned


def _trend(image: FloatArray) -> FloatArray:
    """Plane through the medians of blocks, by least absolute deviations: bright spots don't tilt it."""
    ny, nx = (max(4, n // 12) for n in image.shape)
    corners = [(y, x) for y in range(0, image.shape[0], ny) for x in range(0, image.shape[1], nx)]
    value = np.array([np.median(image[y : y + ny, x : x + nx]) for y, x in corners])
    place = np.array(corners) + np.array([(ny - 1) / 2, (nx - 1) / 2])
    design = np.column_stack([np.ones(len(place)), place])
    weight = np.ones(len(place))
    for _ in range(6):
        plane = np.linalg.lstsq(design * weight[:, None], value * weight, rcond=None)[0]
        residual = np.abs(value - design @ plane)
        weight = 1.0 / np.sqrt(np.maximum(residual, 1e-3 * residual.max() + 1e-12))
    y, x = np.arange(image.shape[0]), np.arange(image.shape[1])
    trend: FloatArray = plane[0] + plane[1] * y[:, None] + plane[2] * x[None, :]
    return trend


def _mirrored(kernel: FloatArray, n: int) -> FloatArray:
    """How the variance of filtered noise grows towards a reflecting border: the kernel meets its own mirror image."""
    factor = np.ones(n)
    for distance in range(min(n, kernel.shape[0] // 2)):
        lag = 2 * distance + 1
        if lag >= kernel.shape[0]:
            break
        overlap = float((kernel[lag:] * kernel[:-lag]).sum() / (kernel**2).sum())
        factor[distance] += overlap
        factor[n - 1 - distance] += overlap
    return np.maximum(factor, 0.25)


def _significance(counts: FloatArray, mean: FloatArray, scale: float) -> tuple[FloatArray, FloatArray]:
    """Response of the negative Laplacian of Gaussian over its noise, and as a height; `mean` is the variance."""
    # the truncated kernel doesn't quite sum to zero, and a slope makes a ridge at the reflecting border
    level = counts - _trend(counts)
    response = -ndimage.gaussian_laplace(level, scale, mode="reflect") * scale**2
    radius = math.ceil(4.5 * scale)
    axis = np.arange(-radius, radius + 1.0)
    q = (axis[:, None] ** 2 + axis[None, :] ** 2) / scale**2
    kernel = (2 - q) * np.exp(-q / 2) / (2 * np.pi * scale**2)
    # a smoothed variance: where hardly an electron fell, one count still means a variance of about one
    variance = ndimage.gaussian_filter(mean, max(scale, 2.0), mode="reflect")
    variance = np.maximum(variance, 1.0 / (4 * np.pi * max(scale, 2.0) ** 2))
    power = float((kernel**2).sum())
    border = np.outer(_mirrored(kernel, counts.shape[0]), _mirrored(kernel, counts.shape[1]))
    noise: FloatArray = np.sqrt(variance * power * border)
    # few counts are skewed: a Cornish-Fisher term keeps the false-alarm rate at the threshold what it says
    skew = float((kernel**3).sum()) / power**1.5 / np.sqrt(variance)
    z = response / noise / (1.0 + (THRESHOLD**2 - 1.0) / (6.0 * THRESHOLD) * skew)
    # a Gaussian spot of height 1 and this width gives a response of 1/2
    return z, 2.0 * response


def _peaks(z: FloatArray, scale: float, threshold: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Local maxima above the threshold; of a plateau only its first pixel."""
    size = 2 * math.ceil(scale) + 1
    top = (z == ndimage.maximum_filter(z, size=size, mode="nearest")) & (z > threshold)
    y, x = np.nonzero(top)
    if y.size < 2:
        return y, x
    # equal maxima that touch are one plateau: its first pixel stands for it
    touching = cKDTree(np.column_stack([y, x])).query_pairs(1.5, output_type="ndarray")
    first = np.ones(y.size, np.bool_)
    first[touching.max(axis=1)] = False
    return y[first], x[first]


def _subpixel(z: FloatArray, py: NDArray[np.intp], px: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
    """Vertex of the parabola through each maximum and its neighbours along y and along x."""
    padded = np.pad(z, 1, mode="reflect")
    iy, ix = py + 1, px + 1
    centre = padded[iy, ix]

    def vertex(below: FloatArray, above: FloatArray) -> FloatArray:
        curvature = below - 2 * centre + above
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = np.where(curvature < 0, 0.5 * (below - above) / curvature, 0.0)
        return np.clip(shift, -0.5, 0.5)

    return py + vertex(padded[iy - 1, ix], padded[iy + 1, ix]), px + vertex(
        padded[iy, ix - 1], padded[iy, ix + 1]
    )


def _peaked(image: FloatArray, py: NDArray[np.intp], px: NDArray[np.intp], scale: float) -> BoolArray:
    """False on a ridge or the rim of a step: curved across, straight along."""
    if py.size == 0:
        return np.ones(0, np.bool_)
    yy, xx, yx = (
        ndimage.gaussian_filter(image, scale, order=order, mode="reflect")[py, px]
        for order in ((2, 0), (0, 2), (1, 1))
    )
    middle, half = -(yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    peaked: BoolArray = middle - half > RIDGE * (middle + half)
    return peaked


def _prominent(z: FloatArray, y: FloatArray, x: FloatArray, score: FloatArray, scale: float) -> BoolArray:
    """False for a peak that noise may have split off a higher one: no deep enough saddle on the line between."""
    keep = np.ones(y.size, np.bool_)
    pairs = (
        cKDTree(np.column_stack([y, x])).query_pairs(3.5 * scale, output_type="ndarray")
        if y.size
        else np.empty((0, 2))
    )
    if not len(pairs):
        return keep
    low, high = np.where((score[pairs[:, 0]] < score[pairs[:, 1]])[:, None], pairs, pairs[:, ::-1]).T
    t = np.linspace(0, 1, 9)[:, None]
    line = ndimage.map_coordinates(
        z, [y[low] + t * (y[high] - y[low]), x[low] + t * (x[high] - x[low])], order=1, mode="nearest"
    )
    keep[low[score[low] - line.min(axis=0) < PROMINENCE]] = False
    return keep


def _at_scale(counts: FloatArray, mean: FloatArray, scale: float, threshold: float) -> Detection:
    """Detect at one scale, on binned counts where the scale allows."""
    factor = max(1, int(scale / 2.8))
    small, small_mean = _bin(counts, factor), _bin(mean, factor)
    z, height = _significance(small, small_mean, scale / factor)
    py, px = _peaks(z, scale / factor, threshold)
    y, x = _subpixel(z, py, px)
    score = z[py, px]
    keep = _prominent(z, y, x, score, scale / factor) & _peaked(small, py, px, scale / factor)
    offset = (factor - 1) / 2
    tall = height[py, px] / factor**2
    return Detection(y[keep] * factor + offset, x[keep] * factor + offset, score[keep], tall[keep], scale)


def scales(shape: tuple[int, ...], largest: float | None = None) -> list[float]:
    """Return the ladder of column widths tried, px: from 0.9 px in steps of 2^(1/3) up to 1/16 of the short side."""
    top = min(40.0, max(2.0, min(shape) / 16)) if largest is None else largest
    steps = math.floor(math.log(top / 0.9) / math.log(SCALE_STEP) + 1e-9)
    return [0.9 * SCALE_STEP**i for i in range(steps + 1)]


def _tiles(counts: FloatArray) -> list[FloatArray]:
    """What a large image chooses its scale on: the tiles with the strongest contrast."""
    if counts.size <= MOST_PIXELS:
        return [counts]
    corners = [(y, x) for y in range(0, counts.shape[0], TILE) for x in range(0, counts.shape[1], TILE)]
    tiles = [counts[y : y + TILE, x : x + TILE] for y, x in corners]
    whole = [tile for tile in tiles if min(tile.shape) >= TILE // 2]
    return sorted(whole, key=lambda tile: -float(_bin(tile, 4).var()))[:3]


def choose_scale(counts: FloatArray, threshold: float = THRESHOLD) -> tuple[float, float] | None:
    """Return the finest useful and the best column width in px, None where nothing stands out of the noise.

    Each scale scores Σz²/s² over its peaks: the likelihood explained by spots, per area that they cover; a merged
    pair of columns explains less than the two. The finest within 75 % of the best still tells pairs apart.
    """
    share = {}
    tiles = _tiles(counts)
    # below ~6 counts under the kernel single electrons look like peaks: their noise is far from normal
    enough = math.sqrt(6.0 / (2 * math.pi * max(float(counts.mean()), 1e-9)))
    for scale in scales(counts.shape):
        if scale < enough:
            continue
        z = np.concatenate([_at_scale(tile, tile, scale, threshold).score for tile in tiles])
        # a few pixels may stand out by chance or defect: they don't make a scale, a bright spot does
        enough_said = z.size >= 3 or (z.size > 0 and z.max() > 2 * threshold)
        share[scale] = float((z**2).sum()) / scale**2 if enough_said else 0.0
    best = max(share.values(), default=0.0)
    if best == 0.0:
        found = [s for s in share if _at_scale(counts, counts, s, threshold).score.size]
        return (found[len(found) // 2],) * 2 if found else None
    finest = next(s for s, value in share.items() if value >= FINEST_SHARE * best)
    return finest, max(share, key=lambda s: share[s])


def detect_columns(
    counts: FloatArray,
    mask: BoolArray | None = None,
    *,
    width: float | None = None,
    threshold: float = THRESHOLD,
) -> Detection:
    """Find peaked spots in an image of counts.

    Parameters
    ----------
    counts : ndarray (y, x)
        Counts whose variance equals their mean (`NoiseModel.kernel_counts`).
    mask : ndarray of bool (y, x), optional
        True where a pixel may be used.
    width
        Column width (Gaussian sigma) in px. None chooses it from the image.
    threshold
        Significance in standard deviations of the counting noise.

    Returns
    -------
    Detection
        No peaks, with ``scale=0``, when nothing stands out of the noise.

    Raises
    ------
    DataError
        A width below 0.5 px or above a quarter of the image.

    Notes
    -----
    Cost: the choice of scale takes ~18 filters of ~1 µs per pixel; images are binned to scales of 2.8 px and more.
    """
    mask = np.ones(counts.shape, np.bool_) if mask is None else mask
    if width is not None and not 0.5 <= width <= min(counts.shape) / 4:
        raise DataError(
            f"column width of {width} px for an image of {counts.shape}",
            needed="0.5 px to a quarter of the image",
            todo="leave width out to have it chosen from the image",
        )
    filled = _fill(counts, mask, 2.0 if width is None else width)
    chosen = choose_scale(filled, threshold) if width is None else (float(width), float(width))
    if chosen is None:
        nothing = np.empty(0)
        return Detection(nothing, nothing, nothing, nothing, 0.0)
    finest, best = chosen
    found = _at_scale(filled, filled, finest, threshold)
    if best > finest:
        found = _union(found, _at_scale(filled, filled, best, threshold))
    return _off_mask(found, mask)


def _union(fine: Detection, coarse: Detection) -> Detection:
    """The fine peaks, and the coarse ones that have no fine peak within: weak columns need the larger kernel."""
    if fine.y.size and coarse.y.size:
        tree = cKDTree(np.column_stack([fine.y, fine.x]))
        alone = tree.query(np.column_stack([coarse.y, coarse.x]))[0] > 2.0 * coarse.scale
    else:
        alone = np.ones(coarse.y.size, np.bool_)
    parts = [
        np.concatenate([getattr(fine, name), getattr(coarse, name)[alone]])
        for name in ("y", "x", "score", "height")
    ]
    return Detection(parts[0], parts[1], parts[2], parts[3], math.sqrt(fine.scale * coarse.scale))


def _off_mask(found: Detection, mask: BoolArray) -> Detection:
    """Drop peaks that lie on masked pixels."""
    if mask.all():
        return found
    row = np.clip(np.rint(found.y).astype(int), 0, mask.shape[0] - 1)
    column = np.clip(np.rint(found.x).astype(int), 0, mask.shape[1] - 1)
    keep = mask[row, column]
    return Detection(found.y[keep], found.x[keep], found.score[keep], found.height[keep], found.scale)


def detect_residual(
    counts: FloatArray, model: FloatArray, mask: BoolArray, scale: float, threshold: float = THRESHOLD
) -> Detection:
    """Find what a fitted model has left: peaks of counts - model, where there is a model (elsewhere it is NaN).

    The threshold is in units of the residual's own scatter where that is larger than the counting noise: a model
    that misfits everywhere must not sprout columns everywhere.
    """
    fitted = np.isfinite(model) & mask
    expected = np.where(fitted, np.maximum(np.nan_to_num(model), 0.0), 0.0)
    residual = np.where(fitted, counts - expected, 0.0)
    if not fitted.any():
        nothing = np.empty(0)
        return Detection(nothing, nothing, nothing, nothing, scale)
    z = _significance(residual, expected, scale)[0][fitted]
    scatter = 1.4826 * float(np.median(np.abs(z - np.median(z))))
    return _off_mask(_at_scale(residual, expected, scale, threshold * max(1.0, scatter)), mask)
