"""Worker: scans of an elliptical detector, off centre, with descan. Arguments: PROTOCOL DOSE SEED OUT.npz [...].

PROTOCOL is "distorted", or "distorted:N:D" for N x N cells of the crystal and a detector of D px. A thin crystal of
SrTiO3 is simulated on pixels four times as fine, looked at through the distortion, and binned.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from fairstem import simulate

CELL, FINE, MRAD_PER_PX, SEMIANGLE_MRAD = 8, 4, 1.0, 20.0
OFFSET_PX, ELLIPTICITY, DESCAN_PX = (
    2.0,
    0.02,
    2.0,
)  # the largest offset; excess of the long axis; over the scan


def geometry(seed, cells, detector):
    """Return centre, descan and ellipse, drawn anew for each seed."""
    rng = np.random.default_rng([7, seed])
    center = (detector - 1) / 2 + rng.uniform(-OFFSET_PX, OFFSET_PX, 2)
    descan = rng.uniform(-DESCAN_PX, DESCAN_PX, (2, 2)) / (cells * CELL)
    angle, stretch = rng.uniform(0, np.pi), np.sqrt(1 + ELLIPTICITY)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return center, descan, turn @ np.diag([stretch, 1 / stretch]) @ turn.T


def seen(fine, center, ellipse, detector):
    """Return a fine pattern as the detector sees it, binned."""
    sub = (np.arange(detector * FINE) + 0.5) / FINE - 0.5
    at = np.stack(np.meshgrid(sub, sub, indexing="ij")) - np.asarray(center)[:, None, None]
    at = FINE * np.tensordot(ellipse, at, axes=1) + (len(fine) - 1) / 2
    values = map_coordinates(fine, at, order=1)
    return values.reshape(detector, FINE, detector, FINE).sum(axis=(1, 3))


def expected(fine, center, descan, ellipse, cells, detector):
    """Return the patterns of the whole scan without noise."""
    side = cells * CELL
    out = np.empty((side, side, detector, detector))
    for i, j in np.ndindex(side, side):
        moved = center + descan @ (np.array([i, j]) - (side - 1) / 2)
        out[i, j] = seen(fine[i % CELL, j % CELL], moved, ellipse, detector)
    return out


def simulated(path, detector, semiangle_mrad):
    """Return one cell of the crystal on the fine detector, computed once a folder."""
    if not path.exists():
        wide = 2 * int(FINE * (detector / 2 + 6)) + 1  # room for offset, descan and ellipse
        scan = simulate.thin_scan(
            "SrTiO3",
            (CELL, CELL),
            detector=(wide, wide),
            mrad_per_px=MRAD_PER_PX / FINE,
            semiangle_mrad=semiangle_mrad,
        )
        np.save(path, scan.intensities)
    return np.load(path)


def main(protocol, dose, *pairs):
    """Make and write."""
    cells, detector = [int(part) for part in protocol.split(":")[1:]] or (3, 65)
    semiangle = SEMIANGLE_MRAD * min(1.0, detector / 65)
    fine = simulated(Path(pairs[1]).parent / f"fine-{detector}.npy", detector, semiangle)
    for seed, path in zip(pairs[::2], pairs[1::2], strict=True):
        center, descan, ellipse = geometry(int(seed), cells, detector)
        patterns = expected(fine, center, descan, ellipse, cells, detector)
        counts = np.random.default_rng([int(seed), round(float(dose))]).poisson(float(dose) * patterns)
        np.savez(
            path,
            counts=counts.astype(np.uint16),
            center=center,
            descan=descan,
            ellipse=ellipse,
            mrad_per_px=MRAD_PER_PX,
            semiangle_mrad=semiangle,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
