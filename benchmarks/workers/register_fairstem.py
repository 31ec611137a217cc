"""Worker: fairstem.register.align. Arguments: HOW IN.npz OUT.npz [IN.npz OUT.npz ...].

HOW is a model ("rowwise", "dense", "rigid"), with "+reach" told how far frames may lie apart; "angles" (the default
with the scans' angles); "lattice" (the default, then the lattice pass); or "truth": the displacement that was
simulated, inverted, the best that anything can do.
"""

import sys
import time
import warnings

import iterated_average as common
import numpy as np
from scipy.ndimage import map_coordinates

INVERT = 12
OPTIONS = {
    "rowwise": {},
    "dense": {"model": "dense"},
    "rigid": {"model": "rigid"},
    "lattice": {"lattice": True},
}


def truth(data):
    """Return the displacement that undoes the simulated one."""
    u = data["u"].astype(float)
    grid = np.mgrid[: u.shape[2], : u.shape[3]].astype(float)
    middle = (np.array(u.shape[2:]) - 1).reshape(2, 1, 1) / 2
    found = []
    for own, angle in zip(u, np.deg2rad(data["angles"]), strict=True):
        cos, sin = np.cos(angle), np.sin(angle)

        def back(at, cos=cos, sin=sin):
            off = at - middle
            return np.stack([off[0] * cos - off[1] * sin, off[1] * cos + off[0] * sin]) + middle

        v, aim = back(grid + own) - grid, back(grid)
        at = aim.copy()
        for _ in range(INVERT):
            # between rows the mean of several steps: rows that jitter are recorded out of order
            at = 0.5 * at + 0.5 * (
                aim - np.stack([map_coordinates(a, at, order=1, mode="nearest") for a in v])
            )
        found.append(at - grid)
    return np.stack(found)


def align(data, how):
    """Return displacement, average, floor in px (NaN where there is none)."""
    from fairstem import register

    model, _, told = how.partition("+")
    given = {"angles": list(data["angles"])} if how == "angles" else dict(OPTIONS[model])
    given |= {"max_shift": float(data["reach"])} if told else {}
    found = register.align(data["frames"], **given)
    return np.asarray(found.displacement), np.asarray(found.average), float(found.floor_px)


def main(how, *pairs):
    """Register each series; the first one also once before, so that nothing is compiled while it is timed."""
    warnings.simplefilter("ignore")
    for number, (given, wanted) in enumerate(zip(pairs[::2], pairs[1::2], strict=True)):
        data = dict(np.load(given))
        if how == "truth":
            moved = truth(data)
            shown, floor, cpu = common.average(data["frames"], moved), np.nan, 0.0
        else:
            if number == 0:
                align(data, how)
            began = time.process_time()
            moved, shown, floor = align(data, how)
            cpu = time.process_time() - began
        out = {"displacement": moved.astype(np.float32), "average": shown, "cpu_s": cpu}
        np.savez(wanted, floor_px=floor, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
