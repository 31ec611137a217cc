"""Worker, run by the peers' Python: operations of py4DSTEM on a whole scan. Arguments: see `operation_timing`."""

import numpy as np
import operation_timing as shared
import py4DSTEM
from py4DSTEM.process import calibration


def cube(array):
    """Return the scan as a DataCube."""
    return py4DSTEM.DataCube(array)


def virtual(array):
    """Return bright field and annular dark field."""
    data, center = cube(array), shared.middle(array)
    inner, ring = shared.radii(array)
    bright = data.get_virtual_image("circle", (center, inner), verbose=False)
    dark = data.get_virtual_image("annulus", (center, ring), name="dark", verbose=False)
    return {"bright": bright.data, "dark": dark.data}


def com(array):
    """Return the centre of mass as DPC measures it, all patterns at once."""
    made = py4DSTEM.process.phase.DPC(cube(array), verbose=False)
    made.preprocess(
        force_com_rotation=0.0,
        force_com_transpose=False,
        vectorized_com_calculation=True,
        plot_center_of_mass=False,
        plot_rotation=False,
    )
    y, x = shared.middle(array)
    return {"com_y": made._com_measured_x - y, "com_x": made._com_measured_y - x}


def pacbed(array):
    """Return the mean pattern."""
    return {"pacbed": cube(array).get_dp_mean().data}


def calibrate(array):
    """Return the origin of every pattern, the plane through them, and the radius of the disc."""
    array = array.astype(np.float32)  # on whole numbers its Gaussian filter is cut to whole numbers
    radius, *_ = calibration.get_probe_size(np.mean(array, axis=(0, 1)))
    y, x, _ = calibration.get_origin(cube(array), r=radius)
    y, x, *_ = calibration.fit_origin((y, x), fitfunction="plane")
    return {"center": np.array([y.mean(), x.mean()])}


OPERATIONS = {"virtual": virtual, "com": com, "pacbed": pacbed, "calibrate": calibrate}

if __name__ == "__main__":
    shared.run(OPERATIONS)
