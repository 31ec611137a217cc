"""Where the cell of SrTiO3 [100], plane group p4mm, has each symmetry; its origin is on Sr."""

import numpy as np

OPERATIONS = ("C2", "C3", "C4", "mx", "my", "m45", "m135")


def on_element(operation, positions):
    """Return where the operation about the position itself is a symmetry of the crystal, ``(positions,) * 2`` bool.

    `positions` along each edge of the cell, even, the first at the origin.
    """
    y, x = np.indices((positions, positions))
    edge_y, edge_x = (2 * y) % positions == 0, (2 * x) % positions == 0
    same = {"C2": edge_y & edge_x, "mx": edge_y, "my": edge_x}
    same["C4"] = same["C2"] & (y == x)
    same["m45"], same["m135"] = y == x, (y + x) % positions == 0
    return same.get(operation, np.zeros((positions, positions), bool))
