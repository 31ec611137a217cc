"""Worker: columns measured on counts and on a denoised image. Arguments: COUNTS.npz DENOISED.npz OUT.json."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import fairstem as fs


def whiteness(counts, mean):
    """Return variance of the residual in units of the noise, and the correlation of neighbours in it."""
    residual = (counts - mean) / np.sqrt(np.maximum(mean, 1e-3))
    pairs = [(residual[1:] * residual[:-1]).mean(), (residual[:, 1:] * residual[:, :-1]).mean()]
    power = (residual**2).mean()
    return {"variance": power, "neighbour_y": pairs[0] / power, "neighbour_x": pairs[1] / power}


def positions(counts, mean, columns):
    """Return how far columns on the denoised image are from those on the counts, beside their error bars."""
    given = pd.DataFrame(columns, columns=["y", "x", "height", "width", "background"])
    raw, own = (fs.atoms.refine(np.maximum(image, 0), given) for image in (counts, mean))
    both = np.isfinite(raw[["y", "x", "sd_y", "sd_x"]].to_numpy()).all(axis=1)
    both &= np.isfinite(own[["y", "x"]].to_numpy()).all(axis=1)
    if "edge" in raw:
        both &= ~raw["edge"].to_numpy(bool)
    away = (own[["y", "x"]].to_numpy() - raw[["y", "x"]].to_numpy())[both]
    bars = raw[["sd_y", "sd_x"]].to_numpy()[both]
    return {
        "measured": int(both.sum()),
        "away_px": np.sqrt((away**2).mean()),
        "away_median_px": np.median(np.abs(away)) / 0.6745,
        "bar_px": np.sqrt((bars**2).mean()),
        "bar_median_px": np.median(bars),
    }


def main(counts_file, denoised_file, wanted):
    """Compare and write."""
    warnings.simplefilter("ignore")
    data, denoised = np.load(counts_file), np.load(denoised_file)
    out = whiteness(data["noisy"], denoised["mean"])
    if len(data["columns"]):
        out |= positions(data["noisy"], denoised["mean"], data["columns"])
    Path(wanted).write_text(json.dumps({k: v if isinstance(v, int) else float(v) for k, v in out.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
