"""Worker: score what was found of a detector. Arguments: OUT.json IN.npz FOUND.npz [IN.npz FOUND.npz ...]."""

import json
import sys
from pathlib import Path

import numpy as np


def judge(truth, found):
    """Return the errors: centre and descan over the scan in px, angle per pixel and ellipse in %.

    The ellipse: excess of the long axis over the short one of what is a circle, after what was found is made round.
    """
    side = np.array(truth["counts"].shape[:2])
    out = {"cpu_s": found["cpu_s"]}
    out["center_px"] = np.linalg.norm(found["center"] - truth["center"])
    out["descan_px"] = np.abs((found["descan"] - truth["descan"]) * side).max()
    stretch = (found["ellipse"] if "ellipse" in found else np.eye(2)) @ np.linalg.inv(truth["ellipse"])
    long, short = np.linalg.svd(stretch, compute_uv=False)
    out["ellipse_percent"] = 100 * (long / short - 1)
    if "mrad_per_px" in found:
        out["mrad_percent"] = 100 * abs(found["mrad_per_px"] / truth["mrad_per_px"] - 1)
    if "center_sd" in found:
        out["center_errors"] = np.linalg.norm(
            (found["center"] - truth["center"]) / found["center_sd"]
        ) / np.sqrt(2)
        out["mrad_errors"] = abs(found["mrad_per_px"] - truth["mrad_per_px"]) / found["mrad_per_px_sd"]
    return {key: float(value) for key, value in out.items()}


def main(wanted, *pairs):
    """Score and write."""
    pairs = zip(pairs[::2], pairs[1::2], strict=True)
    Path(wanted).write_text(json.dumps([judge(np.load(given), np.load(found)) for given, found in pairs]))


if __name__ == "__main__":
    main(*sys.argv[1:])
