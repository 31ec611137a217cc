"""Worker: an everyday least-squares fit, scipy.optimize.curve_fit on every column.

Arguments: IN.npz OUT.npz.
"""

import sys
import time

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

RADIUS_IN_WIDTHS = 3.0


def gaussian(pixels, y, x, height, width, background):
    """Return a round Gaussian on a constant at `pixels` (2, n)."""
    return height * np.exp(-((pixels[0] - y) ** 2 + (pixels[1] - x) ** 2) / (2 * width**2)) + background


def fit(image, start, width):
    """Return y, x and their standard deviations; NaN where the fit fails."""
    radius = RADIUS_IN_WIDTHS * width
    y0, x0 = np.maximum(np.floor(start - radius).astype(int), 0)
    y1, x1 = np.ceil(start + radius).astype(int) + 1
    yy, xx = np.mgrid[y0 : min(y1, image.shape[0]), x0 : min(x1, image.shape[1])]
    near = (yy - start[0]) ** 2 + (xx - start[1]) ** 2 <= radius**2
    values = image[yy[near], xx[near]]
    low = values.min()
    guess = (*start, max(values.max() - low, 1e-3), width, low)
    try:
        best, covariance = curve_fit(gaussian, np.array([yy[near], xx[near]]), values, guess, maxfev=400)
    except (RuntimeError, OptimizeWarning):
        return np.full(4, np.nan)
    return np.concatenate([best[:2], np.sqrt(np.diag(covariance)[:2])])


def main(given, wanted):
    """Fit every column of every image."""
    data = np.load(given)
    began = time.process_time()
    found = np.array(
        [
            fit(data["images"][k], s, data["width"])
            for k, s in zip(data["image_of"], data["start"], strict=True)
        ]
    )
    cpu = time.process_time() - began
    np.savez(wanted, y=found[:, 0], x=found[:, 1], sd_y=found[:, 2], sd_x=found[:, 3], cpu_s=cpu)


if __name__ == "__main__":
    main(*sys.argv[1:])
