"""Worker: images of protocol P2 with truth, bound and start values. Arguments: OUT.npz PEAK CLEAN SEEDS.

Start positions are the true ones plus Gaussian errors.
CLEAN = 1 leaves out the noise. SEEDS = 0 makes one image of 5,000 columns, the cell turned by 7 degrees,
instead of SEEDS images of 512² px.
"""

import sys

import numpy as np

from fairstem import metrics, simulate

START_ERROR = 0.5  # px, standard deviation of the start positions
LARGE = {"shape": (1630, 1630), "rotation": np.deg2rad(7.0)}


def main(wanted, peak, clean, seeds):
    """Make the images and write them."""
    parts = {name: [] for name in ("images", "truth", "start", "bound", "scored", "image_of", "bright")}
    for seed in range(max(int(seeds), 1)):
        made = simulate.phantom("p2", peak=float(peak), seed=seed, **({} if int(seeds) else LARGE))
        rng = np.random.default_rng(1000 + seed)
        where = made.truth[["y", "x"]].to_numpy()
        inside = np.minimum(where, np.array(made.clean.shape) - 1 - where).min(axis=1)
        bound = metrics.cramer_rao(made.truth, made.clean)[["sd_y", "sd_x"]].to_numpy()
        kept = inside > 0
        parts["images"].append(made.clean if int(clean) else made.data.astype(float))
        parts["truth"].append(where[kept])
        parts["start"].append(where[kept] + rng.normal(0, START_ERROR, where[kept].shape))
        parts["bound"].append(bound[kept])
        # columns nearer than 5 px or 0.06 nm to the border are not scored
        parts["scored"].append(inside[kept] > max(5.0, 0.06 / made.pixel_size_nm))
        parts["bright"].append((made.truth["species"] == "Sr").to_numpy()[kept])
        parts["image_of"].append(np.full(kept.sum(), len(parts["image_of"])))
    images = np.stack(parts.pop("images"))
    np.savez(wanted, images=images, width=3.5, **{k: np.concatenate(v) for k, v in parts.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
