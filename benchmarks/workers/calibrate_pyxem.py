"""Worker, run by the peers' Python: the direct beam by pyxem. Arguments: IN.npz OUT.npz [...].

`get_direct_beam_position` by centre of mass of the bright pixels, and the plane through them. It measures no disc
radius.
"""

import calibration_timing
import hyperspy.api as hs
import numpy as np
from pyxem.signals import Diffraction2D

hs.preferences.General.show_progressbar = False


def calibrate(counts, _):
    """Return centre and descan."""
    shifts = Diffraction2D(counts).get_direct_beam_position("center_of_mass", threshold=1)
    plane = shifts.get_linear_plane().data
    planes = (np.array(counts.shape[:1:-1]) / 2 - plane)[..., ::-1].transpose(2, 0, 1)
    return {
        "center": planes.mean(axis=(1, 2)),
        "descan": np.stack(
            [np.diff(planes, axis=1).mean(axis=(1, 2)), np.diff(planes, axis=2).mean(axis=(1, 2))], 1
        ),
    }


if __name__ == "__main__":
    calibration_timing.run(calibrate)
