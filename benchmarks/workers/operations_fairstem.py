"""Worker: operations of fairstem on a whole scan. Arguments: see `operation_timing`."""

import dask
import dask.array as da
import operation_timing as shared

from fairstem import diffraction

ALL = ("C2", "C3", "C4", "C6", "mx", "my", "m45", "m135")
POSITIONS = (8, 114)  # of the scan in a block of the lazy array


def virtual(array):
    """Return bright field and annular dark field, from one pass."""
    bright, dark = shared.masks(array)  # radii would count pixels on the circles by the part that lies inside
    return dict(diffraction.virtual_images(array, {"bright": bright, "dark": dark}))


def com(array):
    """Return the centre of mass with its standard errors, px."""
    made = diffraction.com(array)
    return {"com_y": made.y, "com_x": made.x}


def com_plain(array):
    """Return the centre of mass alone, px."""
    made = diffraction.com(array, noise=None)
    return {"com_y": made.y, "com_x": made.x}


def pacbed(array):
    """Return the mean pattern."""
    return {"pacbed": diffraction.pacbed(array, mean=True)}


def symmetry(array):
    """Return the correlations, free of counting noise, under C2, C4, mx and my."""
    return {"gamma": diffraction.symmetry(array).gamma}


def symmetry_all(array):
    """Return the correlations under all operations."""
    return {"gamma": diffraction.symmetry(array, ALL).gamma}


def symmetry_threads(array):
    """Return them from a Dask array, two blocks at a time."""
    lazy = da.from_array(array, chunks=(*POSITIONS, *array.shape[-2:]))
    with dask.config.set(scheduler="threads", num_workers=2):
        return symmetry_all(lazy)


def calibrate(array):
    """Return the centre, from discs in sums of patterns, with descan, radius, ellipse and hot pixels."""
    return {"center": diffraction.calibrate(array).center}


OPERATIONS = {
    "virtual": virtual,
    "com": com,
    "com-plain": com_plain,
    "pacbed": pacbed,
    "symmetry": symmetry,
    "symmetry-all": symmetry_all,
    "symmetry-threads": symmetry_threads,
    "calibrate": calibrate,
}

if __name__ == "__main__":
    shared.run(OPERATIONS)
