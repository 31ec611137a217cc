"""Worker: score denoised images against their truth. Arguments: OUT.json IN.npz DENOISED.npz [IN.npz DENOISED.npz ...].

The same local Gaussian fit, of known width, measures all methods: where the shifted columns are, from where they would
be without the shift, and how high the half columns are beside the other columns of their kind in the same image.
"""

import json
import sys
from pathlib import Path

import numpy as np

from fairstem import metrics
from fairstem.metrics._columnfit import fit_columns

BORDER = 5.0  # widths


def db(estimate, clean, mask):
    """Return the PSNR in a region, on the maximum of the whole clean image; 200 dB at most."""
    error = ((estimate - clean)[mask] ** 2).mean()
    return float(10 * np.log10(clean.max() ** 2 / max(error, 1e-20 * clean.max() ** 2)))


def planted(mean, data):
    """Return the share of the planted shifts that is kept, and the relative height of the half columns."""
    columns, kind, species = data["columns"], data["planted"], data["species"]
    where, width = columns[:, :2], float(np.median(columns[:, 3]))
    inner = ((where >= BORDER * width) & (where <= np.array(mean.shape) - 1 - BORDER * width)).all(axis=1)
    out = {}
    moved, half = inner & (kind == "shift"), inner & (kind == "half")
    if moved.any():
        shift = data["shift"][moved]
        fits = fit_columns(mean, where[moved], where, width)
        found = fits.position - (where[moved] - shift)
        kept = (found * shift).sum(axis=1) / (shift**2).sum(axis=1)
        across = (found[:, 1] * shift[:, 0] - found[:, 0] * shift[:, 1]) / np.hypot(*shift.T)
        out |= {"kept": kept.mean(), "kept_sd": kept.std(ddof=1), "across_px": np.sqrt((across**2).mean())}
    if half.any():
        usual = inner & (kind == "none") & np.isin(species, species[half])
        height = [fit_columns(mean, where[which], where, width).height for which in (half, usual)]
        out |= {
            "height": height[0].mean() / height[1].mean(),
            "height_sd": height[0].std() / height[1].mean(),
        }
    return {name: float(value) for name, value in out.items()}


def judge(data, denoised):
    """Return all scores of one image."""
    mean, clean = np.asarray(denoised["mean"], float), data["clean"]
    out = {"psnr": metrics.psnr(mean, clean), "ssim": metrics.ssim(mean, clean)}
    out |= {"cpu_s": float(denoised["cpu_s"])} | planted(mean, data)
    out["regions"] = {
        str(name): db(mean, clean, mask) for name, mask in zip(data["names"], data["regions"], strict=True)
    }
    return out


def main(wanted, *pairs):
    """Score and write."""
    pairs = zip(pairs[::2], pairs[1::2], strict=True)
    scores = [judge(dict(np.load(given)), np.load(found)) for given, found in pairs]
    Path(wanted).write_text(json.dumps(scores))


if __name__ == "__main__":
    main(*sys.argv[1:])
