"""Worker: fairstem.atoms.find, refined and unrefined, matched to the truth. Arguments: IN.npz OUT.npz."""

import sys
import time
import warnings

import numpy as np

from fairstem import atoms, metrics

PIXEL_NM = 0.012


def main(given, wanted):
    """Find the columns of every image; write recall, precision and the rms distance to the truth."""
    warnings.simplefilter("ignore")
    data = np.load(given)
    out = {}
    for name, refine in (("detected", False), ("refined", True)):
        matches, cpu = [], 0.0
        for k, image in enumerate(data["images"]):
            began = time.process_time()
            table = atoms.find(image, refine=refine)
            cpu += time.process_time() - began
            truth = data["truth"][data["image_of"] == k]
            where = table[["y", "x"]].to_numpy()
            matches.append(metrics.match_positions(where, truth, pixel_size_nm=PIXEL_NM, shape=image.shape))
        out[f"{name}_recall"] = np.mean([m.recall for m in matches])
        out[f"{name}_precision"] = np.mean([m.precision for m in matches])
        out[f"{name}_rms_pm"] = np.sqrt(np.mean([m.rms_pm**2 for m in matches]))
        out[f"{name}_cpu_s"] = cpu
    np.savez(wanted, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
