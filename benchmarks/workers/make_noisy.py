"""Worker: noisy images of the scenes, with truth and regions. Arguments: SCENE PEAK [SEED OUT.npz ...]."""

import sys

import numpy as np
import scene_regions

from fairstem import simulate

VIEW = {"shape": (512, 512), "pixel_size_nm": 0.012}
SCENES = {
    "p2": ("p2", {"shifted": 12, "halved": 12}),
    "vacancies": ("vacancies", VIEW | {"vacancies": 12, "interstitials": 8}),
    "strained": ("strained", VIEW),
    "bent": ("bent", VIEW),
    "row-drift": ("row-drift", VIEW),
    "vacuum-edge": ("vacuum-edge", VIEW),
    "gain-ramp": ("gain-ramp", VIEW),
    "dislocation": ("dislocation", VIEW),
    "grain-boundary": ("grain-boundary", VIEW),
    "interface": (
        "interface",
        VIEW | {"second": "fcc110", "dim": 0.6, "pixel_size_nm": 0.015, "background_ratio": 0.7},
    ),
    "si110": ("si110", VIEW),
    "pt-nanoparticle": (
        "pt-nanoparticle",
        {"shape": (512, 512), "pixel_size_nm": 0.015, "diameter_nm": 5.0},
    ),
    "single-atoms": ("single-atoms", {"shape": (512, 512), "count": 200}),
}


def make(scene, peak, seed, **options):
    """Return the arrays of one noisy image: noisy, clean, columns, regions."""
    name, own = SCENES[scene]
    made = simulate.phantom(name, seed=seed, peak=peak, **{**own, **options})
    masks = scene_regions.regions(made)
    truth = made.truth
    return {
        "noisy": made.data,
        "clean": made.clean,
        "columns": truth[["y", "x", "height", "width"]].to_numpy(float),
        "shift": truth[["shift_y", "shift_x"]].to_numpy(float),
        "planted": truth["planted"].to_numpy(str),
        "species": truth["species"].to_numpy(str),
        "regions": np.stack(list(masks.values())),
        "names": np.array(list(masks)),
    }


def main(scene, peak, *pairs):
    """Make and write the images."""
    options = {}
    if ":" in scene:  # "p2:6": planted shifts of 6 pm
        scene, shift = scene.split(":")
        options = {"shift_pm": float(shift)}
    for seed, path in zip(pairs[::2], pairs[1::2], strict=True):
        np.savez(path, **make(scene, float(peak), int(seed), **options))


if __name__ == "__main__":
    main(*sys.argv[1:])
