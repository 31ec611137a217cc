"""Worker: series larger than memory should be. Arguments: STEP DATA.h5 OUT.json [SIDE FRAMES].

STEP is "make-align" (a series on the disk), "align" (register it lazily), "make-apply" (a series with spectrum images)
or "apply" (let the spectrum images follow their frames).
"""

import json
import sys
import time
import warnings
from pathlib import Path

import dask.array as da
import h5py
import numpy as np

from fairstem import register, simulate

PIXEL_NM, PEAK, BACKGROUND = 0.018, 30.0, 0.06
CHANNELS = 128


def make(path, side, frames, channels):
    """Write `frames` frames of side², uint16, one chunk each, with their row displacement and spectrum images."""
    shape = (side, side)
    rng = np.random.default_rng([0, side])
    rows = simulate.RowDistortion().series((side, 2), frames, rng)[..., 0]
    table = simulate.srtio3(ratio=0.45, width_nm=0.05).columns(shape, PIXEL_NM, rotation=0.06, margin_nm=1.0)
    table["height"] *= PEAK * (1 - BACKGROUND)
    spectrum = np.exp(-0.5 * ((np.arange(CHANNELS) - 40) / 4.0) ** 2) + 0.01
    with h5py.File(path, "w") as file:
        file["rows"] = rows
        data = file.create_dataset("series", (frames, *shape), "uint16", chunks=(1, *shape))
        if channels:
            cube = (frames, *shape, CHANNELS)
            spectra = file.create_dataset("spectra", cube, "uint16", chunks=(1, *shape, 16))
        for k in range(frames):
            u = np.broadcast_to(rows[k][:, :, None], (2, *shape))
            clean = simulate.render_columns(
                table, shape, background=PEAK * BACKGROUND, displacement=u, accuracy=1e-5
            )
            data[k] = rng.poisson(clean)
            if channels:
                inner = np.zeros(shape)
                inner[side // 8 : -side // 8, side // 8 : -side // 8] = (
                    0.05  # counts that no shift takes out of view
                )
                spectra[k] = rng.poisson((inner * clean)[..., None] * spectrum)


def error(displacement, rows):
    """Return the rmse in px of the rows' displacement (frame, 2, y), free of what all frames share."""
    number = np.arange(rows.shape[2], dtype=float)
    at = number + displacement[:, 0]
    object_at = displacement.copy()
    for k, own in enumerate(rows):
        for axis in range(2):
            object_at[k, axis] += np.interp(at[k], number, own[axis])
    off = object_at - object_at.mean(axis=0)
    inside = ((at >= 0) & (at <= len(number) - 1)).all(axis=0)
    return float(np.sqrt((off[:, :, inside] ** 2).mean()))


def align(path):
    """Register the series of the file; return CPU seconds and error."""
    with h5py.File(path) as file:
        data = da.from_array(file["series"], chunks=file["series"].chunks)
        began = time.process_time()
        found = register.align(data)
        np.asarray(found.average)
        cpu = time.process_time() - began
        column = data.shape[2] // 2
        moved = np.stack([found.motion.backward(k)[:, :, column] for k in range(found.motion.n)])
        return {"cpu_s": cpu, "rmse_px": error(moved, file["rows"][()])}


def follow(path):
    """Apply an alignment to spectrum images, chunk by chunk; return CPU seconds and what became of the counts."""
    with h5py.File(path) as file:
        found = register.align(file["series"][()])
        data = da.from_array(file["spectra"], chunks=file["spectra"].chunks)
        before = int(data.sum(dtype=np.int64).compute())
        began = time.process_time()
        moved = register.apply(found, data)
        after = float(moved.sum(dtype=np.float64).compute())
        return {"cpu_s": time.process_time() - began, "counts_off": abs(after / before - 1)}


def main(step, path, wanted, side=None, frames=None):
    """Do one step."""
    warnings.simplefilter("ignore")
    if step == "make-align":
        make(path, int(side or 2048), int(frames or 50), False)
    elif step == "make-apply":
        make(path, int(side or 256), int(frames or 8), True)
    else:
        Path(wanted).write_text(json.dumps({"align": align, "apply": follow}[step](path)))


if __name__ == "__main__":
    main(*sys.argv[1:])
