"""Regions of a phantom, from its truth: crystal, what lies near a boundary, edge or defect, vacuum, amorphous."""

import numpy as np
from scipy.spatial import cKDTree

CELL_NM = {
    "pt-nanoparticle": 0.3924, "si110": 0.3840, "dislocation": 0.39, "single-atoms": 0.2,
}  # fmt: skip
SRTIO3_NM = 0.3905
NEAR = 2.0  # cells: so far a boundary, a rim or a dislocation reaches
DEFECT = 1.0  # cells around a vacancy, an interstitial, a moved or half column
BORDER = 1.0  # cells at the border of the image


def grid(phantom):
    """Return the pixels (y, x)."""
    return np.mgrid[: phantom.clean.shape[0], : phantom.clean.shape[1]].astype(float)


def beyond_line(phantom):
    """Return the signed distance in px from the line that parts the image, positive on the second side."""
    y, x = grid(phantom)
    angle, (ny, nx) = phantom.parameters["angle"], phantom.clean.shape
    return np.sin(angle) * (x - (nx - 1) / 2) - np.cos(angle) * (y - (ny - 1) / 2)


def distance_to(phantom, points):
    """Return the distance in px of each pixel to the nearest of `points`."""
    pixels = np.moveaxis(grid(phantom), 0, -1).reshape(-1, 2)
    return cKDTree(np.asarray(points, float).reshape(-1, 2)).query(pixels)[0].reshape(phantom.clean.shape)


def parted(phantom, cell):
    """Return the two sides of a line, and what is near it."""
    beyond = beyond_line(phantom)
    second = {"vacuum-edge": "vacuum", "interface": "second crystal", "grain-boundary": "crystal"}[
        phantom.name
    ]
    near = abs(beyond) <= NEAR * cell
    out = {"crystal": (beyond < 0) & ~near, "boundary": near}
    out[second] = out.get(second, False) | ((beyond >= 0) & ~near)
    return out


def particle(phantom, cell):
    """Return inside, rim and support of a particle."""
    columns = phantom.truth[["y", "x"]].to_numpy()
    bond = np.median(cKDTree(columns).query(columns, k=2)[0][:, 1])
    solid = distance_to(phantom, columns) <= bond
    depth = distance_to(phantom, np.argwhere(~solid)) - distance_to(phantom, np.argwhere(solid))
    near = abs(depth) <= NEAR * cell / 2  # the particle is only ten cells wide
    return {"crystal": solid & ~near, "boundary": near, "amorphous": ~solid & ~near}


def defects(phantom):
    """Return the positions of what was planted."""
    truth = phantom.truth
    planted = truth.loc[(truth["planted"] != "none").to_numpy(), ["y", "x"]].to_numpy()
    gone = np.reshape(truth.attrs.get("vacancies", []), (-1, 2))
    return np.concatenate([planted, gone])


def regions(phantom):
    """Return a mask for each region by name; they do not overlap and cover the image."""
    cell = CELL_NM.get(phantom.name, SRTIO3_NM) / phantom.pixel_size_nm
    y, x = grid(phantom)
    ny, nx = phantom.clean.shape
    if phantom.name in ("vacuum-edge", "interface", "grain-boundary"):
        out = parted(phantom, cell)
    elif phantom.name == "pt-nanoparticle":
        out = particle(phantom, cell)
    elif phantom.name == "dislocation":
        core = [((ny - 1) / 2 + cell / 2, (nx - 1) / 2 + cell / 2)]
        near = distance_to(phantom, core) <= NEAR * cell
        out = {"crystal": ~near, "boundary": near}
    elif phantom.name == "single-atoms":
        near = distance_to(phantom, phantom.truth[["y", "x"]]) <= 3 * phantom.truth["width"].max()
        out = {"near defects": near, "amorphous": ~near}
    elif phantom.name == "empty":
        out = {"amorphous": np.ones((ny, nx), bool)}
    elif len(places := defects(phantom)):
        near = distance_to(phantom, places) <= DEFECT * cell
        out = {"crystal": ~near, "near defects": near}
    else:
        out = {"crystal": np.ones((ny, nx), bool)}
    if phantom.name == "gain-ramp":
        out = {"dim half": x < nx / 2, "bright half": x >= nx / 2}
    inside = np.minimum(np.minimum(y, ny - 1 - y), np.minimum(x, nx - 1 - x)) >= BORDER * cell
    out = {name: mask & inside for name, mask in out.items()} | {"border": ~inside}
    return {name: mask for name, mask in out.items() if mask.any()}
