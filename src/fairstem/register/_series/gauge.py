"""The gauge: what all frames share can't be measured, and is set to zero mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairstem.register._series.motion import turn_matrix

__all__ = ["centre_rows"]

Floats = NDArray[np.float64]


def centre_rows(
    rows: Floats,
    angles_deg: Floats,
    used: Sequence[int],
    reference: int | None = None,
    *,
    bend: bool = True,
) -> Floats:
    """Return rows whose mean over the frames `used` vanishes at every row of the average.

    Parameters
    ----------
    rows
        ``(frame, 2, y)`` px along the scan's axes.
    angles_deg
        ``(frame,)`` rotation of the scans.
    used
        The frames whose mean counts.
    reference
        The frame whose mean position is kept at zero; None: the mean over frames of all positions.
    bend
        Whether the mean displacement of the rows is removed as well as the mean position. False where
        scans in other directions tell what it is.

    Notes
    -----
    Beyond a frame's first and last row its displacement is taken to stay as it is there.
    """
    rows = rows.copy()
    offsets = rows.mean(axis=2)
    if bend:
        number = np.arange(rows.shape[2], dtype=np.float64)
        lies = number + rows[:, 0]
        low, high = lies[list(used)].min(), lies[list(used)].max()
        at = np.arange(np.floor(low), np.ceil(high) + 1)
        shared = np.zeros((2, len(at)))
        for k in used:
            order = np.argsort(lies[k], kind="stable")
            for axis in range(2):
                own = rows[k, axis] - offsets[k, axis]
                shared[axis] += np.interp(at, lies[k][order], own[order]) / len(used)
        for k in range(len(rows)):
            rows[k] -= np.stack([np.interp(lies[k], at, shared[axis]) for axis in range(2)])
    turn = np.stack([turn_matrix(angle) for angle in angles_deg])
    middle = np.einsum("kab,kb->ka", turn, rows.mean(axis=2))
    origin = middle[list(used)].mean(axis=0) if reference is None else middle[reference]
    back = np.einsum("kab,a->kb", turn, origin)
    return np.asarray(rows - back[:, :, None])
