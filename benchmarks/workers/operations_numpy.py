"""Worker: operations on a whole scan as one writes them with NumPy. Arguments: see `operation_timing`.

Rows of the scan in float64, so that sums of counts are exact: what the others are compared with.
"""

import numpy as np
import operation_timing as shared


def rows(array):
    """Yield the patterns of each scan row as float64, ``(scan_x, pixels)``."""
    for row in array:
        yield row.reshape(len(row), -1).astype(np.float64)


def virtual(array):
    """Return bright field and annular dark field."""
    weights = shared.masks(array).reshape(2, -1).T.astype(np.float64)
    images = np.stack([row @ weights for row in rows(array)])
    return {"bright": images[..., 0], "dark": images[..., 1]}


def com(array):
    """Return the centre of mass less the middle of the detector, px."""
    y, x = np.indices(array.shape[-2:]) - np.array(shared.middle(array))[:, None, None]
    weights = np.stack([np.ones_like(y), y, x]).reshape(3, -1).T
    sums = np.stack([row @ weights for row in rows(array)])
    return {"com_y": sums[..., 1] / sums[..., 0], "com_x": sums[..., 2] / sums[..., 0]}


def pacbed(array):
    """Return the mean pattern."""
    return {
        "pacbed": sum(row.sum(axis=0) for row in rows(array)).reshape(array.shape[-2:])
        / len(array[0])
        / len(array)
    }


def symmetry(array):
    """Return the correlations of patterns with their images under C2, C4, mx and my; no noise correction."""
    turned = (
        lambda p: p[:, ::-1, ::-1],
        lambda p: np.rot90(p, axes=(1, 2)),
        lambda p: p[:, ::-1],
        lambda p: p[:, :, ::-1],
    )
    out = np.empty((len(turned), *array.shape[:2]))
    for i, row in enumerate(array):
        patterns = row.astype(np.float64)
        patterns -= patterns.mean(axis=(1, 2), keepdims=True)
        power = np.einsum("nij,nij->n", patterns, patterns)
        for o, turn in enumerate(turned):
            out[o, i] = np.einsum("nij,nij->n", patterns, turn(patterns)) / power
    return {"gamma": out}


OPERATIONS = {"virtual": virtual, "com": com, "pacbed": pacbed, "symmetry": symmetry}

if __name__ == "__main__":
    shared.run(OPERATIONS)
