"""Worker: one real image denoised by fairstem. Arguments: FILE COUNTS.npz DENOISED.npz OUT.json.

COUNTS.npz gets what the peers are given too: values whose variance is their mean, by the noise that was found.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np

import fairstem as fs
from fairstem import denoise
from fairstem.errors import DataError

COUNT, SHIFT_PM, SHIFT_PX = 8, 20.0, 1.0  # planted columns; px where there is no calibration
MOST = 512  # px a side: columns are planted in the middle of a larger image


def keep(counts, columns, pixel_size_nm):
    """Return what `metrics.retention` says of the default on this image, or why it can't."""
    corner = np.maximum((np.array(counts.shape) - MOST) // 2, 0)
    counts = counts[corner[0] : corner[0] + MOST, corner[1] : corner[1] + MOST]
    where = columns[["y", "x"]].to_numpy() - corner
    columns = columns.assign(y=where[:, 0], x=where[:, 1])
    columns = columns[((where > 0) & (where < np.array(counts.shape) - 1)).all(axis=1)]
    shift = SHIFT_PM if pixel_size_nm else SHIFT_PX * 1000
    try:
        kept = fs.metrics.retention(
            np.maximum(counts, 0),
            lambda planted: denoise.nonlocal_means(np.maximum(planted, 0)),
            columns=columns,
            pixel_size_nm=pixel_size_nm or 1.0,
            shift_pm=shift,
            count=COUNT,
            noise=fs.signals.NoiseModel(readout=1e-6),  # fractions of counts
        )
    except DataError as error:
        return {"why_not": str(error)}
    return {
        "kept": kept.displacement,
        "kept_sd": kept.displacement_sd,
        "kept_raw": kept.raw_displacement,
        "height": kept.height,
        "height_sd": kept.height_sd,
    }


def main(name, counts_file, denoised_file, wanted):
    """Load, denoise, find columns, plant, write."""
    warnings.simplefilter("ignore")
    image = fs.load(fs.data.fetch(name))
    image = image[0] if isinstance(image, list) else image
    denoise.separate(image, noise="poisson-gauss")  # compiles, or loads compiled code
    began = time.process_time()
    found = denoise.separate(image, noise="poisson-gauss")
    out = {"cpu_s": time.process_time() - began, "lattices": len(found.lattices)}
    counts = found.noise.kernel_counts(np.asarray(image.data, float))[0]
    mean = found.noise.kernel_counts(np.asarray(found.image.data, float))[0]
    columns = fs.atoms.find(image, gain="estimate")
    out |= {"share": float(found.share.mean()), "deviations": len(found.deviations), "columns": len(columns)}
    out |= {check.name: check.statistic for check in found.priors}
    out["failed"] = ", ".join(check.name for check in found.priors if check.holds is False)
    where = columns[["y", "x", "height", "width", "background"]].to_numpy(float)
    np.savez(counts_file, noisy=counts, columns=where)
    np.savez(denoised_file, mean=mean, cpu_s=out["cpu_s"])
    pixel = columns.attrs.get("pixel_size_nm")
    out["pixel_pm"] = None if pixel is None else float(np.mean(pixel)) * 1000
    out |= keep(counts, columns, pixel)
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in out.items()}
    Path(wanted).write_text(json.dumps(plain))


if __name__ == "__main__":
    main(*sys.argv[1:])
