"""Worker, run by the peers' Python: Atomap's refinement with 2-D Gaussians. Arguments: IN.npz OUT.npz."""

import sys
import time
import warnings

import numpy as np

warnings.simplefilter("ignore")
import atomap.api as am  # noqa: E402


def main(given, wanted):
    """Refine every column of every image, as Atomap's documentation does it, without progress bars."""
    data = np.load(given)
    found = np.full(data["start"].shape, np.nan)
    cpu = 0.0
    for k, image in enumerate(data["images"]):
        mine = data["image_of"] == k
        if not mine.any():
            continue
        began = time.process_time()
        sublattice = am.Sublattice(data["start"][mine][:, ::-1], image=image)
        sublattice.find_nearest_neighbors()
        sublattice.refine_atom_positions_using_2d_gaussian(show_progressbar=False)
        found[mine] = np.column_stack([sublattice.y_position, sublattice.x_position])
        cpu += time.process_time() - began
    np.savez(wanted, y=found[:, 0], x=found[:, 1], cpu_s=cpu)


if __name__ == "__main__":
    main(*sys.argv[1:])
