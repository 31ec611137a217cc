"""What lies off the sites of a crystal: extra or missing Gaussians in the residual."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fairstem.denoise._crystal.putback import PutBack

__all__ = ["MOST_BLOBS", "THRESHOLD", "add_blobs", "blob_widths", "matched_filter"]

Floats = NDArray[np.float64]

# 4.5 standard deviations: 0.03 false blobs in a noisy 512² with columns 3.5 px wide
THRESHOLD = 4.5
MOST_BLOBS = 200


def matched_filter(k: Floats, mean: Floats, weight: Floats, width: float) -> tuple[Floats, Floats]:
    """Significance and height (y, x) of a Gaussian of `width` px at each pixel, on top of `mean`.

    The score for the height is divided by the square root of its information; at low counts its skewness is taken
    out by the signed root of the likelihood ratio of a Poisson number that has the same skewness.
    """
    area = 2 * np.pi * width**2

    def smooth(image: Floats, power: int) -> Floats:
        out: Floats = ndimage.gaussian_filter(image, width / np.sqrt(power), mode="constant", truncate=3.5)
        return out * (area / power)

    inverse = weight / mean
    score = smooth(inverse * (k - mean), 1)
    info = np.maximum(smooth(inverse, 2), 1e-100)
    third = np.maximum(smooth(inverse / mean, 3), 1e-100)
    events = np.maximum(info**3 / third**2, 1e-6)
    z = score / np.sqrt(info)
    seen = np.maximum(events + z * np.sqrt(events), 1e-12 * events)
    root = np.sqrt(2 * np.maximum(seen * np.log(seen / events) - seen + events, 0.0))
    # where little is in view (edges, masks) nothing is claimed
    full = np.pi * width**2 / mean
    visible = info > 0.5 * full
    return np.where(visible, np.sign(z) * root, 0.0), score / info


def blob_widths(sites: Floats) -> list[float]:
    """Widths to look for: the typical one; the narrowest and widest kind of site where they differ by 30 %."""
    kinds = [float(np.median(sites[sites[:, 3] == kind, 2])) for kind in np.unique(sites[:, 3])]
    low, high = min(kinds), max(kinds)
    return [low, high] if high > 1.3 * low else [float(np.median(sites[:, 2]))]


def add_blobs(
    k: Floats, state: PutBack, weight: Floats, floor: Floats, widths: list[float], room: int
) -> int:
    """Add up to `room` blobs that stand out of the residual to the fit, strongest first; how many."""
    mean = np.maximum(state.mean, floor)
    best = np.zeros_like(mean)
    height, width = np.zeros_like(mean), np.full_like(mean, widths[0])
    for candidate in widths:
        z, amount = matched_filter(k, mean, weight, candidate)
        better = np.abs(z) > np.abs(best)
        best = np.where(better, z, best)
        height, width = np.where(better, amount, height), np.where(better, candidate, width)
    size = np.abs(best)
    apart = 2 * int(np.ceil(2 * min(widths))) + 1
    peaks = np.argwhere((size > THRESHOLD) & (size == ndimage.maximum_filter(size, apart)))
    order = np.argsort(-size[tuple(peaks.T)], kind="stable")
    y, x = peaks[order[:room]].T
    rows = np.column_stack([y, x, width[y, x], np.full(y.size, -1.0), height[y, x]]).astype(float)
    if y.size:
        state.extend(np.ascontiguousarray(rows), np.tile([True, True, False], (y.size, 1)))
    return int(y.size)
