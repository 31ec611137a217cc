"""Worker: fairstem.denoise.nonlocal_means. Arguments: HOW IN.npz OUT.npz [IN.npz OUT.npz ...].

HOW is "default" or a strength. One image is denoised before the first is timed: it compiles, or loads compiled code.
"""

import sys
import time
import warnings

import numpy as np

from fairstem import denoise


def main(how, *pairs):
    """Denoise each image."""
    warnings.simplefilter("ignore")
    options = {} if how == "default" else {"strength": float(how)}
    for n, (given, wanted) in enumerate(zip(pairs[::2], pairs[1::2], strict=True)):
        counts = np.load(given)["noisy"].astype(float)
        if n == 0:
            denoise.nonlocal_means(counts, **options)
        began = time.process_time()
        mean = denoise.nonlocal_means(counts, **options)
        spent = time.process_time() - began
        np.savez(wanted, mean=np.asarray(mean, float), cpu_s=spent)


if __name__ == "__main__":
    main(*sys.argv[1:])
