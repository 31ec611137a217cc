"""Worker: fairstem.atoms on the given images. Arguments: IN.npz OUT.npz HOW REPEATS.

HOW is "width" (`refine` from start positions and the width that detection takes for them), "bare" (`refine` from
start positions alone) or "find" (nothing is given). The median CPU time of REPEATS calls is written.
"""

import sys
import time
import warnings

import numpy as np
import pandas as pd

from fairstem import atoms, metrics
from fairstem.atoms._detect import detect_columns  # the step inside find, which has no name of its own

NAMES = ("y", "x", "sd_y", "sd_x")
PIXEL_NM = 0.012
TINY = 128  # px; large enough for columns to be found


def starts(data, how):
    """Return the start table of each image."""
    tables = []
    for k, image in enumerate(data["images"]):
        table = pd.DataFrame(data["start"][data["image_of"] == k], columns=["y", "x"])
        tables.append(table.assign(width=detect_columns(image).scale) if how == "width" else table)
    return tables


def measured(image, start, how):
    """Return the table of columns of one image."""
    return atoms.find(image, pixel_size_nm=PIXEL_NM) if how == "find" else atoms.refine(image, start)


def warm_up(image, start, how):
    """Measure a corner of the image twice: the first call compiles, or loads compiled code; return what that cost."""
    corner = start[(start[["y", "x"]] < TINY - 1).all(axis=1)]
    spent = []
    for _ in range(2):
        began = time.process_time()
        measured(image[:TINY, :TINY], corner, how)
        spent.append(time.process_time() - began)
    return spent[0] - spent[1]


def main(given, wanted, how, repeats):
    """Measure every image."""
    warnings.simplefilter("ignore")
    data = np.load(given)
    tables = starts(data, how)
    first = warm_up(data["images"][0], tables[0], how)
    spent = []
    for _ in range(int(repeats)):
        began = time.process_time()
        results = [measured(image, *of, how) for image, *of in zip(data["images"], tables, strict=True)]
        spent.append(time.process_time() - began)
    found = {name: np.full(len(data["start"]), np.nan) for name in NAMES}
    for k, table in enumerate(results):
        mine = np.flatnonzero(data["image_of"] == k)
        rows, of = np.arange(len(table)), np.arange(len(table))
        if how == "find":
            truth = data["truth"][mine]
            match = metrics.match_positions(
                table, truth, pixel_size_nm=PIXEL_NM, shape=data["images"][k].shape
            )
            rows, of = match.pairs.T
        for name in NAMES:
            found[name][mine[of]] = table[name].to_numpy()[rows]
    np.savez(wanted, cpu_s=np.median(spent), first_s=first, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
