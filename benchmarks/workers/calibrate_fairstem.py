"""Worker: geometry of the detector by fairstem. Arguments: IN.npz OUT.npz [...]."""

import calibration_timing

from fairstem import diffraction


def calibrate(counts, semiangle_mrad):
    """Return all that `calibrate` measures."""
    found = diffraction.calibrate(counts, semiangle_mrad=semiangle_mrad)
    return {
        "center": found.center,
        "center_sd": found.center_sd,
        "descan": found.descan,
        "mrad_per_px": found.mrad_per_px,
        "mrad_per_px_sd": found.mrad_per_px_sd,
        "ellipse": found.ellipse,
    }


if __name__ == "__main__":
    calibration_timing.run(calibrate)
