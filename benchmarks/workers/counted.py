"""What the peers of denoising are given: stabilised counts; and the loop over images, timed."""

import time

import numpy as np


def stabilise(counts):
    """Return 2 sqrt(k + 3/8), whose noise has a variance near 1 (Anscombe 1948)."""
    return 2.0 * np.sqrt(np.maximum(counts, 0) + 0.375)


def unbiased(y):
    """Return the expectation that belongs to a denoised stabilised value.

    Closed form of the exact unbiased inverse: Mäkitalo and Foi, IEEE Trans. Image Process. 20 (2011) 2697,
    doi:10.1109/TIP.2011.2121085. Below y = 2 sqrt(3/8) the expectation is 0.
    """
    y = np.maximum(y, 2.0 * np.sqrt(0.375))
    root = np.sqrt(1.5)
    return np.maximum(y**2 / 4 + root / (4 * y) - 11 / (8 * y**2) + 5 * root / (8 * y**3) - 1 / 8, 0.0)


def run(pairs, denoise):
    """Denoise each image with ``denoise(counts, data)`` and write what came out and the CPU seconds."""
    for given, wanted in zip(pairs[::2], pairs[1::2], strict=True):
        data = dict(np.load(given))
        counts = data["noisy"].astype(float)
        began = time.process_time()
        mean = denoise(counts, data)
        spent = time.process_time() - began
        np.savez(wanted, mean=mean, cpu_s=spent)
