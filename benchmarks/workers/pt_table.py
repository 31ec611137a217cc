"""Worker: the example of the Pt nanoparticle on many seeds, and what simpler averages make of it.

Arguments: CASE FIRST LAST OUT.json: one record a seed and a way, FIRST <= seed < LAST. CASE is "film", the particle
on its rough support, or "smooth", on a film without roughness.
"""

import importlib.util
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np

EXAMPLE = Path(__file__).parents[2] / "examples" / "pt_nanoparticle.py"
CASES = {"film": {}, "smooth": {"texture": 0.0}}
NAMES = ("atom", "true_place", "change_pm", "sd_change_pm", "true_change_pm", "inward_pm", "sd_inward_pm")


def example():
    """Return the example as a module."""
    spec = importlib.util.spec_from_file_location("pt_nanoparticle", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def score(pt, p, frames, way):
    """Return what one way of averaging makes of a series: a record of each surface atom, and the CPU seconds."""
    began = time.process_time()
    image, number, errors = pt.average(frames, way)
    aligned = time.process_time()
    columns, surface = pt.measure(image, number, errors, p.pixel_size_nm)
    done = time.process_time()
    table = pt.beside_truth(p, surface)
    known = table[table["true_change_pm"].notna()]
    out = {"way": way, "cpu_align_s": aligned - began, "cpu_s": done - began, "columns": len(columns)}
    out["false"] = len(table) - len(known)
    out["interior"] = surface.attrs["priors"][0]["statistic"]
    return out | {"atoms": known[[*NAMES, "true_inward_pm"]].to_dict("records")}


def main(case, first, last, wanted):
    """Score each way on each seed."""
    warnings.simplefilter("ignore")
    pt, scores = example(), []
    for seed in range(int(first), int(last)):
        p = pt.series(seed, **CASES[case])
        frames = np.asarray(p.data)
        for way in pt.WAYS:
            try:
                scores.append({"seed": seed} | score(pt, p, frames, way))
            except ValueError as error:
                scores.append({"seed": seed, "way": way, "failed": str(error), "atoms": []})
    Path(wanted).write_text(json.dumps(scores))


if __name__ == "__main__":
    main(*sys.argv[1:])
