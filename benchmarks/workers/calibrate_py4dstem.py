"""Worker, run by the peers' Python: geometry of the detector by py4DSTEM. Arguments: IN.npz OUT.npz [...].

Disc radius by `get_probe_size` on the mean pattern, origins by `get_origin`, their plane by `fit_origin`. Its
ellipses are fitted to rings, of which these patterns have none. It gets floating-point counts: on whole numbers its
Gaussian filter, and with it the origin, is cut to whole numbers too.
"""

import calibration_timing
import numpy as np
import py4DSTEM
from py4DSTEM.process import calibration


def calibrate(counts, semiangle_mrad):
    """Return centre, descan and angle per pixel."""
    counts = counts.astype(np.float32)
    radius, *_ = calibration.get_probe_size(counts.mean(axis=(0, 1)))
    y, x, _ = calibration.get_origin(py4DSTEM.DataCube(counts), r=radius)
    y, x, *_ = calibration.fit_origin((y, x), fitfunction="plane")
    planes = np.stack([y, x])
    return {
        "center": planes.mean(axis=(1, 2)),
        "descan": np.stack(
            [np.diff(planes, axis=1).mean(axis=(1, 2)), np.diff(planes, axis=2).mean(axis=(1, 2))], 1
        ),
        "mrad_per_px": semiangle_mrad / radius,
    }


if __name__ == "__main__":
    calibration_timing.run(calibrate)
