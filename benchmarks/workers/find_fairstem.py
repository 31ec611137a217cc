"""Worker: detection alone, and fairstem.atoms.find, matched to the truth. Arguments: IN.npz OUT.npz."""

import sys
import time
import warnings

import numpy as np

from fairstem import atoms, metrics
from fairstem.atoms._detect import detect_columns  # the step inside find, which has no name of its own

PIXEL_NM = 0.012


def detected(image):
    """Return the positions of the detected peaks."""
    found = detect_columns(image)
    return np.column_stack([found.y, found.x])


def refined(image):
    """Return the positions of the columns that `find` gives: detected, fitted, completed, fitted again."""
    return atoms.find(image)[["y", "x"]].to_numpy()


def main(given, wanted):
    """Find the columns of every image; write recall, precision and the rms distance to the truth."""
    warnings.simplefilter("ignore")
    data = np.load(given)
    out = {}
    for name, method in (("detected", detected), ("refined", refined)):
        matches, cpu = [], 0.0
        method(data["images"][0])  # compiles, or loads compiled code
        for k, image in enumerate(data["images"]):
            began = time.process_time()
            where = method(image)
            cpu += time.process_time() - began
            truth = data["truth"][data["image_of"] == k]
            matches.append(metrics.match_positions(where, truth, pixel_size_nm=PIXEL_NM, shape=image.shape))
        out[f"{name}_recall"] = np.mean([m.recall for m in matches])
        out[f"{name}_precision"] = np.mean([m.precision for m in matches])
        out[f"{name}_rms_pm"] = np.sqrt(np.mean([m.rms_pm**2 for m in matches]))
        out[f"{name}_cpu_s"] = cpu
    np.savez(wanted, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
