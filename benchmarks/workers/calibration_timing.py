"""What the workers of calibration share: the loop over scans, timed."""

import sys
import time
import warnings

import numpy as np


def run(calibrate):
    """Calibrate each scan with ``calibrate(counts, semiangle_mrad)`` and write what it returns, and the CPU seconds.

    The first scan is calibrated twice, the first time unmeasured.
    """
    pairs = sys.argv[1:]
    warnings.simplefilter("ignore")
    for number, (given, wanted) in enumerate(zip(pairs[::2], pairs[1::2], strict=True)):
        data = np.load(given)
        counts, semiangle = data["counts"], float(data["semiangle_mrad"])
        if number == 0:
            calibrate(counts, semiangle)
        began = time.process_time()
        found = calibrate(counts, semiangle)
        np.savez(wanted, cpu_s=time.process_time() - began, **found)
