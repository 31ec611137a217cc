"""Worker: score symmetry maps. Arguments: OUT.json IN.npz MAPS.npz [IN.npz MAPS.npz ...].

Bias and error are against the method's own map of the patterns without noise; "sites" are the positions where the
operation is a symmetry of the crystal, where every definition of the correlation gives 1.
"""

import json
import sys
from pathlib import Path

import numpy as np
from crystal_sites import on_element


def judge(maps):
    """Return the scores of every operation, and the CPU seconds."""
    out = {"cpu_s": float(maps["cpu_s"]), "operations": {}}
    errors = maps["standard_error"] if "standard_error" in maps else [None] * len(maps["gamma"])
    for name, gamma, truth, error in zip(
        maps["operations"], maps["gamma"], maps["truth"], errors, strict=True
    ):
        off, sites = gamma - truth, on_element(str(name), len(truth))
        own = {"bias": off.mean(), "rmse": np.sqrt((off**2).mean()), "least": truth.min()}
        if sites.any():
            own |= {"worst": np.abs(truth[sites] - 1).max(), "sites": gamma[sites].mean()}
            own |= {"rmse_sites": np.sqrt(((gamma - 1)[sites] ** 2).mean())}
        if error is not None:
            own |= {"within": np.mean(np.abs(off) <= error), "error": np.sqrt((error**2).mean())}
        out["operations"][str(name)] = {key: float(value) for key, value in own.items()}
    return out


def main(wanted, *pairs):
    """Score and write."""
    Path(wanted).write_text(json.dumps([judge(np.load(path)) for path in pairs[1::2]]))


if __name__ == "__main__":
    main(*sys.argv[1:])
