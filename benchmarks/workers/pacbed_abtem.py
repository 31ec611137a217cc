"""Worker: PACBED of SrTiO3 [100] from probes of abTEM over a cell. Arguments: OUT.npz THICKNESS_NM TILT_MRAD POINTS PX.

The mean over the scan; atoms at rest, a hard aperture. The tilt is along y. POINTS of the potential along the cell.
"""

import sys
import time

import numpy as np

from fairstem import simulate

SEMIANGLE_MRAD = 13.6


def simulated(thickness_nm, tilt_mrad, points, detector):
    """Return the scan."""
    cell = simulate.crystal("SrTiO3")
    return simulate.multislice_scan(
        cell,
        sampling_nm=cell.cell_nm[0] / points,
        thickness_nm=thickness_nm,
        semiangle_mrad=SEMIANGLE_MRAD,
        detector=detector,
        tilt_mrad=(tilt_mrad, 0.0),
        cache=None,
    )


def main(wanted, thickness_nm, tilt_mrad, points, detector):
    """Simulate, a thin crystal first, unmeasured, and write."""
    size = int(points), int(detector)
    simulated(0.4, 0.0, *size)
    began = time.process_time()
    scan = simulated(float(thickness_nm), float(tilt_mrad), *size)
    np.savez(
        wanted,
        cpu_s=time.process_time() - began,
        pattern=scan.intensities.mean(axis=(0, 1), dtype=np.float64),
        mrad_per_px=scan.mrad_per_px,
        thickness_nm=scan.thickness_nm,
        tilt_mrad=float(tilt_mrad),
        points=int(points),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
