"""Count what a search missed, made up or found twice: from positions and two lattice vectors alone.

This does not use the package's own lattice code beyond the two vectors, so that it can contradict it.
"""

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial import cKDTree

CLOSE = 0.25  # of the shorter distance of two columns: nearer than this is the same place
TWICE = 0.5  # of the usual nearest-neighbour distance: nearer than this is one column found twice


def spacing(where):
    """Return the usual distance to the nearest neighbour: the median."""
    return float(np.median(cKDTree(where).query(where, 2)[0][:, 1]))


def duplicates(where):
    """Return how many columns lie nearer to another than half the usual distance."""
    return len(cKDTree(where).query_pairs(TWICE * spacing(where)))


def holes(where, vectors, inside):
    """Return places (n, 2) without a column where three of four lattice neighbours say one should be."""
    close = CLOSE * spacing(where)
    told = np.concatenate([where + sign * v for v in vectors for sign in (1, -1)])
    missing = told[(cKDTree(where).query(told)[0] > 1.6 * close) & inside(told)]
    if len(missing) < 3:
        return np.empty((0, 2))
    group = fcluster(linkage(missing, "average"), 1.6 * close, "distance")
    size = np.bincount(group)[1:]
    centre = np.array([np.bincount(group, weights=missing[:, k])[1:] / size for k in (0, 1)]).T
    return centre[size >= 3]


def strays(where, vectors, inside):
    """Return how many columns have a lattice neighbour at none of the four vectors."""
    tree, close = cKDTree(where), CLOSE * spacing(where)
    partners = sum(tree.query(where + sign * v)[0] < 1.6 * close for v in vectors for sign in (1, -1))
    return int(((partners == 0) & inside(where)).sum())


def border(shape, band):
    """Return a function that tells which points lie at least `band` px inside an image of `shape`."""
    high = np.array(shape) - 1 - band
    return lambda p: ((p >= band) & (p <= high)).all(axis=1)


def region(where, band):
    """Return a function that tells which points lie in the hull of the columns, `band` px inside."""
    from scipy.spatial import Delaunay

    centre = where.mean(axis=0)
    reach = np.linalg.norm(where - centre, axis=1).max()
    hull = Delaunay(centre + (where - centre) * (1 - band / reach))
    return lambda p: hull.find_simplex(p) >= 0
