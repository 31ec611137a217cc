"""Worker: a scan of discs, counted electrons, for timing. Arguments: OUT SCAN_SIDE DETECTOR_SIDE.

OUT is ``.npy``, or ``.h5`` with the data set "scan" in chunks of 4 x 32 patterns. The disc's intensity leans to one
side by an amount that repeats over 22 x 22 positions, so that centres of mass vary.
"""

import sys

import h5py
import numpy as np

PERIOD, ELECTRONS = 22, 1180.0
CHUNK = (4, 32)


def expected(side):
    """Return the mean patterns of one period, ``(22, 22, side, side)``, about the middle of the detector."""
    y, x = np.indices((side, side)) - (side - 1) / 2
    radius = side / 5
    disc = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1) + 2e-3
    phase = 2 * np.pi * np.arange(PERIOD) / PERIOD
    lean = np.sin(phase)[:, None, None, None] * y + np.sin(phase)[None, :, None, None] * x
    patterns = disc * (1 + 0.3 * np.clip(lean / radius, -1, 1))
    return ELECTRONS * patterns / patterns.sum(axis=(2, 3), keepdims=True)


def rows(scan, side):
    """Yield the counts of one row of the scan after the other."""
    mean, rng = expected(side), np.random.default_rng(0)
    at = np.arange(scan) % PERIOD
    for i in range(scan):
        yield rng.poisson(mean[i % PERIOD, at]).astype(np.uint16)


def main(path, scan, side):
    """Write the scan."""
    scan, side = int(scan), int(side)
    shape = (scan, scan, side, side)
    if path.endswith(".h5"):
        with h5py.File(path, "w") as file:
            chunks = (*(min(n, scan) for n in CHUNK), side, side)
            data = file.create_dataset("scan", shape, "uint16", chunks=chunks)
            for i, row in enumerate(rows(scan, side)):
                data[i] = row
        return
    data = np.lib.format.open_memmap(path, "w+", "uint16", shape)
    for i, row in enumerate(rows(scan, side)):
        data[i] = row
    data.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
