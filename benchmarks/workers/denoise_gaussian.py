"""Worker: a Gaussian filter, or nothing. Arguments: HOW IN.npz OUT.npz [IN.npz OUT.npz ...].

HOW is "noisy" (the counts themselves) or "best": of a range of widths the one nearest to the truth, which only a
simulation knows. The time is that of one filter.
"""

import sys
import time

import numpy as np
from scipy.ndimage import gaussian_filter

WIDTHS = np.geomspace(0.4, 6.0, 20)  # px


def best(counts, clean):
    """Return the filtered image nearest to the truth, and the time of one filter."""
    error = [((gaussian_filter(counts, width) - clean) ** 2).mean() for width in WIDTHS]
    began = time.process_time()
    mean = gaussian_filter(counts, WIDTHS[int(np.argmin(error))])
    return mean, time.process_time() - began


def main(how, *pairs):
    """Filter each image."""
    for given, wanted in zip(pairs[::2], pairs[1::2], strict=True):
        data = np.load(given)
        counts = data["noisy"].astype(float)
        mean, spent = (counts, 0.0) if how == "noisy" else best(counts, data["clean"])
        np.savez(wanted, mean=mean, cpu_s=spent)


if __name__ == "__main__":
    main(*sys.argv[1:])
