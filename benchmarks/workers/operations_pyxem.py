"""Worker, run by the peers' Python: operations of pyxem on a whole scan. Arguments: see `operation_timing`."""

import hyperspy.api as hs
import numpy as np
import operation_timing as shared
from pyxem.signals import Diffraction2D

hs.preferences.General.show_progressbar = False
RADIAL, AZIMUTHAL = 60, 360
ORDERS = [2, 4]


def signal(array):
    """Return the scan as a signal whose axes are pixels."""
    return Diffraction2D(array)


def virtual(array):
    """Return bright field and annular dark field."""
    y, x = shared.middle(array)
    radius, (inner, outer) = shared.radii(array)
    data = signal(array)
    images = [
        data.get_integrated_intensity(roi).data
        for roi in (
            hs.roi.CircleROI(x, y, radius),
            hs.roi.CircleROI(x, y, outer, inner),
        )
    ]
    return {"bright": images[0], "dark": images[1]}


def com(array):
    """Return the centre of mass less the middle of the detector, px."""
    data = signal(array)
    shifts = data.get_direct_beam_position("center_of_mass").data
    x, y = (np.array(array.shape[:1:-1]) / 2 - shifts.reshape(*array.shape[:2], 2)).transpose(2, 0, 1)
    middle = shared.middle(array)
    return {"com_y": y - middle[0], "com_x": x - middle[1]}


def pacbed(array):
    """Return the mean pattern."""
    return {"pacbed": signal(array).mean().data}


def polar(array):
    """Return the patterns over radius and azimuth about the middle of the detector."""
    data = signal(array)
    data.calibration.center = shared.middle(array)[::-1]
    half = min(array.shape[-2:]) / 2 - 1
    return data.get_azimuthal_integral2d(RADIAL, AZIMUTHAL, radial_range=(0, half), mean=True)


def symmetry(array):
    """Return symmetry STEM of C2 and C4: Pearson's correlation of the patterns over the azimuth."""
    found = (
        polar(array)
        .get_full_pearson_correlation()
        .get_symmetry_coefficient(angular_range=0.0, symmetries=ORDERS, method="average")
    )
    return {"gamma": np.moveaxis(found.data.reshape(*array.shape[:2], len(ORDERS)), -1, 0)}


OPERATIONS = {"virtual": virtual, "com": com, "pacbed": pacbed, "symmetry": symmetry}

if __name__ == "__main__":
    shared.run(OPERATIONS)
