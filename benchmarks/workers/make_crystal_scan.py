"""Worker: scans of one cell of SrTiO3 [100] by multislice, counted. Arguments: PROTOCOL DOSE SEED OUT.npz [...].

PROTOCOL is "cell", or "cell:N:D" for N positions along each edge and a detector of D px. The expected patterns are
computed once a folder and kept there.
"""

import sys
from pathlib import Path

import numpy as np

from fairstem import simulate

THICKNESS_NM, SEMIANGLE_MRAD = 20.0, 13.6


def simulated(folder, positions=22, detector=127):
    """Return the scan without noise."""
    return simulate.multislice_scan(
        "SrTiO3",
        thickness_nm=THICKNESS_NM,
        semiangle_mrad=SEMIANGLE_MRAD,
        scan_px=positions,
        detector=detector,
        cache=folder,
    )


def main(protocol, dose, *pairs):
    """Make and write."""
    size = [int(part) for part in protocol.split(":")[1:]]
    scan = simulated(Path(pairs[1]).parent / "multislice", *size)
    for seed, path in zip(pairs[::2], pairs[1::2], strict=True):
        rng = np.random.default_rng([int(seed), round(float(dose))])
        np.savez(path, counts=scan.counts(float(dose), rng), expected=scan.intensities)


if __name__ == "__main__":
    main(*sys.argv[1:])
