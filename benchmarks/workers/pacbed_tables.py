"""Worker: plane waves of SrTiO3 [100] against abTEM. Arguments: OUT.json MAX_ANGLE MAX_NM COARSE.npz FINE.npz [...].

Times the table with thermal motion, as it is used, and its patterns; compares those of the crystal at rest with pairs
of of patterns of abTEM on the same grids, of which the coarse one is the table's default.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from pacbed_abtem import SEMIANGLE_MRAD

from fairstem import simulate

PATTERNS = 20


def made(**options):
    """Return a table and its CPU seconds."""
    began = time.process_time()
    table = simulate.pacbed_table("SrTiO3", cache=None, **options)
    return table, time.process_time() - began


def per_pattern(table, largest_nm):
    """Return the median CPU milliseconds of a pattern at random thickness and tilt."""
    rng, spent = np.random.default_rng(0), []
    for _ in range(PATTERNS):
        thickness, tilt = rng.uniform(1, largest_nm), rng.uniform(-1, 1, 2)
        began = time.process_time()
        table.pattern(thickness, SEMIANGLE_MRAD, tuple(tilt))
        spent.append(time.process_time() - began)
    return 1000 * statistics.median(spent)


def difference(table, reference):
    """Return the relative L2 distance where both have pixels."""
    tilt = (float(reference["tilt_mrad"]), 0.0)
    theirs = reference["pattern"]
    ours = table.pattern(float(reference["thickness_nm"]), SEMIANGLE_MRAD, tilt)
    least = [min(a, b) for a, b in zip(ours.shape, theirs.shape, strict=True)]
    ours, theirs = (
        image[tuple(slice((n - m) // 2, (n + m) // 2) for n, m in zip(image.shape, least, strict=True))]
        for image in (ours, theirs)
    )
    y, x = np.indices(ours.shape) - np.array(ours.shape)[:, None, None] // 2
    inside = np.hypot(y, x) * table.mrad_per_px < table.max_angle_mrad - table.mrad_per_px
    return float(np.linalg.norm((ours - theirs)[inside]) / np.linalg.norm(theirs[inside]))


def main(wanted, max_angle_mrad, max_nm, *paths):
    """Make the tables, compare and write."""
    size = {"max_angle_mrad": float(max_angle_mrad), "max_thickness_nm": float(max_nm)}
    coarse, fine = [np.load(path) for path in paths[::2]], [np.load(path) for path in paths[1::2]]
    made(max_angle_mrad=3.0, max_thickness_nm=2.0, max_tilt_mrad=1.0)  # compiles
    thermal, seconds = made(**size)
    out = {"cpu_s": seconds, "pattern_ms": per_pattern(thermal, float(max_nm))}
    size["thermal"] = False
    tables = {}

    def compared(reference, **options):
        # the pixel of a scan follows from the area it needs, which grows with the thickness
        px = float(np.mean(reference["mrad_per_px"]))
        key = (px, *options.values())
        if key not in tables:
            tables[key] = made(mrad_per_px=px, **options, **size)[0]
        return difference(tables[key], reference)

    out["rows"] = [
        {"thickness_nm": float(low["thickness_nm"]), "tilt_mrad": float(low["tilt_mrad"])}
        | {"same": compared(low), "finer": compared(high, gpts=int(high["points"]))}
        | {"abtem_cpu_s": float(low["cpu_s"]), "abtem_fine_cpu_s": float(high["cpu_s"])}
        for low, high in zip(coarse, fine, strict=True)
    ]
    Path(wanted).write_text(json.dumps(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
