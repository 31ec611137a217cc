"""What the workers of whole-scan operations share: detectors, the data, the loop that times one operation.

Arguments of each of these workers: OPERATION DATA.npy OUT.npz REPEATS. OPERATION is one of its `OPERATIONS`, or
"load", which only loads the data: the memory that every operation needs.
"""

import statistics
import sys
import time
import warnings

import numpy as np

# px around the middle of a detector of 128 px; no pixel lies on these circles, so that < and <= mean the same
BRIGHT, DARK = 20.3, (30.3, 60.3)


def middle(array):
    """Return the middle (y, x) of the detector in px."""
    return tuple((n - 1) / 2 for n in array.shape[-2:])


def radii(array):
    """Return the radius of the bright field and the pair of radii of the dark field in px."""
    scale = min(array.shape[-2:]) / 128
    return BRIGHT * scale, (DARK[0] * scale, DARK[1] * scale)


def masks(array):
    """Return the bright field and the annular dark field, ``(2, k_y, k_x)`` bool."""
    bright, (inner, outer) = radii(array)
    y, x = np.indices(array.shape[-2:]) - np.array(middle(array))[:, None, None]
    radius = np.hypot(y, x)
    return np.stack([radius < bright, (radius > inner) & (radius < outer)])


def timed(operation, array, repeats):
    """Return what `operation` returns, and the medians of the CPU and wall seconds of `repeats` calls."""
    cpu, wall = [], []
    for _ in range(repeats):
        began = time.process_time(), time.perf_counter()
        result = operation(array)
        cpu.append(time.process_time() - began[0])
        wall.append(time.perf_counter() - began[1])
    return result, statistics.median(cpu), statistics.median(wall)


def run(operations):
    """Run the operation of the command line: once on a corner of the scan, unmeasured, then on all of it."""
    name, data, wanted, repeats = sys.argv[1:]
    array = np.load(data)
    if name == "load":
        np.savez(wanted, cpu_s=0.0, wall_s=0.0)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the peers' own dependencies
        operations[name](array[:6, :6].copy())
        result, cpu, wall = timed(operations[name], array, int(repeats))
    np.savez(wanted, cpu_s=cpu, wall_s=wall, **result)
