"""Worker: judge registrations of simulated series. Arguments: OUT.json IN.npz FOUND.npz [IN.npz FOUND.npz ...].

All methods are judged alike. Written for each pair: `rmse_px`, the gauge-free error of the displacement; `column_pm`,
`column_y_pm`, `column_x_pm`, the rms error of column positions per axis after an affine fit, the columns measured once
in the average from where the truth lies; `width`, the median of fitted over true width; `columns`, how many were
scored and `lost`, how many of those the fit did not find; `hop_px`, the largest error of the middle of a frame;
`floor_pm`, what the registration itself says of its common-mode error; `cpu_s`. With planted columns: `kept`, the
shift found along the planted one over its length (mean, least, most).
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import map_coordinates

from fairstem import atoms, metrics

BORDER = 12.0  # px: columns nearer to the border, or to where a frame is missing, are not scored
LOST_PX = 3.0  # farther from the truth than this, it is another column or none


def reached(displacement, u):
    """Return (frame, 2, y, x): the object coordinate that each frame shows at a pixel of the average, and where."""
    grid = np.mgrid[: u.shape[2], : u.shape[3]].astype(float)
    object_at, inside = np.empty(u.shape), np.ones(u.shape[2:], bool)
    for k, (d, own) in enumerate(zip(displacement.astype(float), u.astype(float), strict=True)):
        at = grid + d
        for axis in range(2):
            object_at[k, axis] = at[axis] + map_coordinates(own[axis], at, order=1, mode="nearest")
        inside &= ((at >= BORDER) & (at <= np.reshape(u.shape[2:], (2, 1, 1)) - 1 - BORDER)).all(axis=0)
    return object_at, inside


def expected(truth, object_at):
    """Return where the average shows the columns (n, 2): the median over frames, inverted by iteration."""
    grid = np.mgrid[: object_at.shape[2], : object_at.shape[3]].astype(float)
    off = np.median(object_at, axis=0) - grid
    at = truth.copy()
    for _ in range(10):
        at = truth - np.stack([map_coordinates(a, at.T, order=1, mode="nearest") for a in off], axis=1)
    return at


def hop(object_at, inside):
    """Return the largest error of a whole frame in px, against the median of all."""
    middle = np.median(object_at[:, :, inside], axis=2)
    return float(np.hypot(*(middle - np.median(middle, axis=0)).T).max())


def columns(data, found, object_at, inside):
    """Measure the columns in the average; return scores."""
    shift = data["planted"] if "planted" in data else np.zeros_like(data["truth"])
    where = expected(data["truth"], object_at)
    shape = np.array(inside.shape)
    usable = data["scored"] & ((where >= BORDER) & (where <= shape - 1 - BORDER)).all(axis=1)
    usable[usable] = inside[tuple(where[usable].round().astype(int).T)]
    seen = ((where > 2) & (where < shape - 3)).all(axis=1)  # all are fitted, so that neighbours are known
    start = pd.DataFrame(where[seen], columns=["y", "x"]).assign(width=data["width"][seen])
    frames = len(found["displacement"])
    # the sum of the frames holds the counts
    table = atoms.refine(np.maximum(found["average"], 0) * frames, start)
    measured = np.full(where.shape, np.nan)
    measured[seen] = table[["y", "x"]].to_numpy()
    width = np.full(len(where), np.nan)
    width[seen] = table["width"].to_numpy()
    good = usable & (np.hypot(*(measured - where).T) < LOST_PX)
    pixel = float(data["pixel_nm"])
    fit = metrics.affine_rms(measured[good], data["truth"][good], pixel_size_nm=pixel)
    scores = {
        "column_pm": fit.rms_pm,
        "column_y_pm": fit.y_pm,
        "column_x_pm": fit.x_pm,
        "width": float(np.median(width[good] / data["width"][good])),
        "columns": int(usable.sum()),
        "lost": int(usable.sum() - good.sum()),
    }
    length = np.hypot(*shift.T)
    planted = good & (length > 0) & (length < 3)
    if planted.any() and (good & (length == 0)).any():
        scores |= kept(measured, data["truth"], shift, good & (length == 0), planted)
    return scores


def kept(measured, truth, shift, plain, planted):
    """Return how much of the planted shifts is there, with the affine map of the columns that were not shifted."""
    fit = metrics.affine_rms(measured[plain], truth[plain])
    off = measured[planted] - ((truth - shift)[planted] @ fit.matrix.T + fit.shift)
    length = np.hypot(*shift[planted].T)
    share = (off * shift[planted]).sum(axis=1) / length**2
    return {"kept": float(share.mean()), "kept_least": float(share.min()), "kept_most": float(share.max())}


def judge(data, found):
    """Return all scores of one registration."""
    error = metrics.displacement_error(
        found["displacement"].astype(float), data["u"].astype(float), pixel_size_nm=float(data["pixel_nm"])
    )
    object_at, inside = reached(found["displacement"], data["u"])
    scores = {"rmse_px": error.rmse, "floor_true_pm": error.common * float(data["pixel_nm"]) * 1000}
    scores |= {"hop_px": hop(object_at, inside if inside.any() else ~inside), "cpu_s": float(found["cpu_s"])}
    if "floor_px" in found:
        scores["floor_pm"] = float(found["floor_px"]) * float(data["pixel_nm"]) * 1000
    return scores | columns(data, found, object_at, inside)


def main(wanted, *pairs):
    """Judge each pair."""
    warnings.simplefilter("ignore")
    scores = []
    for given, name in zip(pairs[::2], pairs[1::2], strict=True):
        scores.append(judge(dict(np.load(given)), dict(np.load(name))))
    Path(wanted).write_text(json.dumps(scores))


if __name__ == "__main__":
    main(*sys.argv[1:])
