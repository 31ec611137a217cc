"""Worker: does registration hop by a cell where the specimen drifts? Arguments: PEAK DRIFT SEEDS OUT.json.

Series of protocol P1 with that drift in px per frame are made, aligned and judged one by one. Written for each:
`hop_px`, the largest error of the middle of any band of any frame; `cell_px`; `rmse_px`; `cpu_s`.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from score_series import reached

from fairstem import metrics, register, simulate

BAND = 32  # rows
CELL_NM = 0.3905


def largest(displacement, u):
    """Return the largest error in px of the middle of a band of rows, against the median over the frames."""
    object_at, inside = reached(displacement, u)
    off = object_at - np.median(object_at, axis=0)
    worst = 0.0
    for top in range(0, u.shape[2], BAND):
        here = inside[top : top + BAND]
        if here.any():
            middle = np.median(off[:, :, top : top + BAND][:, :, here], axis=2)
            worst = max(worst, float(np.hypot(*middle.T).max()))
    return worst


def main(peak, drift, seeds, wanted):
    """Make, align and judge each series."""
    warnings.simplefilter("ignore")
    scores = []
    for seed in range(int(seeds)):
        made = simulate.phantom(
            "p1", seed=seed, peak=float(peak), distortion_options={"drift_px": float(drift)}
        )
        if seed == 0:
            register.align(made.data)  # compiles, or loads compiled code
        began = time.process_time()
        found = register.align(made.data).displacement
        cpu = time.process_time() - began
        score = {
            "hop_px": largest(found, made.displacement),
            "cell_px": CELL_NM / made.pixel_size_nm,
            "cpu_s": cpu,
        }
        scores.append(score | {"rmse_px": metrics.displacement_error(found, made.displacement).rmse})
    Path(wanted).write_text(json.dumps(scores))


if __name__ == "__main__":
    main(*sys.argv[1:])
