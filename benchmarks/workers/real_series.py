"""Worker: register a real series and check it. Arguments: MODEL OUT.json FILE FILE ...

Hand labels (``NNN_Results.csv`` of the same data set) are mapped to the average where they are there.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

import fairstem as fs

NEAR_PX = 4.0  # labels nearer than this may be of one atom
TURNS = 40  # shifts by which one set of labels is moved away, to count pairs by chance
SMOOTH_PX = 2.0


def correlation(frames, keep):
    """Return the mean correlation of each frame with the mean of the others, smoothed, over the pixels to keep."""
    smooth = np.array([gaussian_filter(frame, SMOOTH_PX)[keep] for frame in frames])
    smooth -= smooth.mean(axis=1, keepdims=True)
    smooth /= smooth.std(axis=1, keepdims=True)
    others = smooth.sum(axis=0) - smooth
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(smooth, others, strict=True)]))


def labels_of(files):
    """Return the labels (n, 2) of each frame, None where there are none."""
    if not all("_HAADF_" in file for file in files):
        return None
    tables = [pd.read_csv(fs.data.fetch(f"{file[:3]}_Results.csv")) for file in files]
    return [table[["Y", "X"]].to_numpy(float) for table in tables]


def pairs(one, two):
    """Return the distances of labels that are each other's nearest and near."""
    distance, to_two = cKDTree(two).query(one)
    _, to_one = cKDTree(one).query(two)
    mutual = to_one[to_two] == np.arange(len(one))
    return distance[mutual & (distance < NEAR_PX)]


def agreement(labels, motion):
    """Return how many labels of different frames agree, how many would by chance, and the rms distance in px."""
    mapped = []
    for k, own in enumerate(labels):
        field = motion.forward(k)
        at = np.clip(np.rint(own).astype(int), 0, np.array(motion.shape) - 1)
        mapped.append(own + field[:, at[:, 0], at[:, 1]].T)
    near, chance = [], 0.0
    for j, two in enumerate(mapped):
        for one in mapped[:j]:
            near.append(pairs(one, two))
            angle = 2 * np.pi * np.arange(TURNS) / TURNS
            away = 40 * np.column_stack([np.sin(angle), np.cos(angle)])
            chance += float(np.mean([len(pairs(one, two + step)) for step in away]))
    near = np.concatenate(near)
    rms = float(np.sqrt((near**2).mean())) if len(near) else None
    return {"label_pairs": len(near), "label_chance": chance, "label_rms_px": rms}


def main(model, wanted, *files):
    """Register, check, write."""
    warnings.simplefilter("ignore")
    loaded = [fs.load(fs.data.fetch(name)) for name in files]
    series = fs.signals.stack([one[0] if isinstance(one, list) else one for one in loaded])
    fs.register.align(series, model=model)  # compiles, or loads compiled code
    began = time.process_time()
    found = fs.register.align(series, model=model)
    out = {"cpu_s": time.process_time() - began, "frames": len(files), "used": len(found.used)}
    keep = found.samples >= len(files) - 0.5
    out["before"] = correlation(series.data.astype(float), keep)
    out["after"] = correlation(np.asarray(found.aligned.data, dtype=float), keep)
    out["floor_px"] = found.floor_px
    out["failed"] = ", ".join(check.name for check in found.priors if check.holds is False)
    labels = labels_of(files)
    if labels is not None:
        out |= agreement(labels, found.motion)
    if len(files) >= 4:
        split = fs.register.split_check(series, model=model)
        out |= {"split_px": split.rms_px, "split_expected_px": split.expected_px}
    Path(wanted).write_text(json.dumps(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
