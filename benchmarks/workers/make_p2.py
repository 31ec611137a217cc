"""Worker: images of protocol P2 with truth, bound and start positions. Arguments: OUT.npz PEAK CLEAN SEEDS.

P2: 512² px of 12 pm, a square cell of 32.5 px with columns A at the corner and B in the middle, heights
1 : 0.45, width (sigma) 3.5 px, background 0.06 of the peak. SEEDS = 0 makes one image of 5,000 columns
instead, the cell turned by 7 degrees.
"""

import sys

import numpy as np
import pandas as pd

from fairstem import metrics, simulate

PIXEL_NM, CELL, WIDTH, BACKGROUND, RATIO = 0.012, 32.5, 3.5, 0.06, 0.45
START_ERROR = 0.5  # px, standard deviation of the start positions
EDGE_NM, EDGE_PX = 0.06, 5.0  # columns nearer to the border are not scored


def large(peak, cells=50, degrees=7.0):
    """Return the truth and the expected counts of an image with 2 x cells² columns."""
    turn = np.deg2rad(degrees)
    step = np.arange(cells) * CELL
    corner = np.stack(np.meshgrid(step, step, indexing="ij"), axis=-1).reshape(-1, 2)
    where = np.concatenate([corner, corner + CELL / 2])
    where = where @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    where += 20 - where.min(axis=0)
    height = np.repeat([1.0, RATIO], len(corner)) * peak * (1 - BACKGROUND)
    truth = pd.DataFrame({"y": where[:, 0], "x": where[:, 1], "height": height, "width": WIDTH})
    shape = tuple(np.ceil(where.max(axis=0) + 20).astype(int))
    return truth, simulate.render_columns(truth, shape, background=BACKGROUND * peak)


def scenes(peak, seeds):
    """Yield (truth, expected counts, seed) of every image."""
    if not seeds:
        yield *large(peak), 0
    for seed in range(seeds):
        made = simulate.phantom("p2", peak=peak, seed=seed)
        yield made.truth, made.clean, seed


def main(wanted, peak, clean, seeds):
    """Make the images and write them."""
    parts = {name: [] for name in ("images", "truth", "start", "bound", "scored", "image_of")}
    for truth, expected, seed in scenes(float(peak), int(seeds)):
        rng = np.random.default_rng(1000 + seed)
        where = truth[["y", "x"]].to_numpy()
        inside = np.minimum(where, np.array(expected.shape) - 1 - where).min(axis=1)
        bound = metrics.cramer_rao(truth, expected)[["sd_y", "sd_x"]].to_numpy()
        kept = inside > 0
        parts["images"].append(expected if int(clean) else rng.poisson(expected).astype(float))
        parts["truth"].append(where[kept])
        parts["start"].append(where[kept] + rng.normal(0, START_ERROR, where[kept].shape))
        parts["bound"].append(bound[kept])
        parts["scored"].append(inside[kept] > max(EDGE_PX, EDGE_NM / PIXEL_NM))
        parts["image_of"].append(np.full(kept.sum(), len(parts["image_of"])))
    images = np.stack(parts.pop("images"))
    np.savez(wanted, images=images, width=WIDTH, **{k: np.concatenate(v) for k, v in parts.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
