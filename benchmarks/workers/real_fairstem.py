"""Worker: find the columns of one sample image and check them. Arguments: FILE UNITS OUT.json.

UNITS is the unit that a file has lost, or "-".
"""

import json
import sys
import time
import warnings
from pathlib import Path

import count_columns as count
import numpy as np
from scipy.spatial import Delaunay

import fairstem as fs


def spread(where_nm):
    """Return mean and standard deviation of the nearest distances in pm, its error, and their number.

    Distances between Delaunay neighbours within 15 % of the usual nearest one, each pair once.
    """
    triangles = Delaunay(where_nm).simplices
    pairs = np.unique(np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    length = np.linalg.norm(where_nm[pairs[:, 0]] - where_nm[pairs[:, 1]], axis=1) * 1000
    near = length[np.abs(length / (count.spacing(where_nm) * 1000) - 1) < 0.15]
    sd = near.std(ddof=1)
    return {
        "nn_pm": near.mean(),
        "nn_sd_pm": sd,
        "nn_sd_error_pm": sd / np.sqrt(2 * (len(near) - 1)),
        "pairs": len(near),
    }


def against(where, fitted):
    """Return how many fitted positions of the file were found, and the median distance in px."""
    truth = np.column_stack([fitted["y"], fitted["x"]])
    match = fs.metrics.match_positions(where, truth, tolerance=0.5 * count.spacing(truth))
    return {
        "reference": len(truth),
        "reference_found": len(match.pairs),
        "median_px": match.median,
        "not_in_reference": len(where) - len(match.pairs),
    }


def main(name, units, wanted):
    """Load, find, check, write."""
    warnings.simplefilter("ignore")
    image = fs.load(fs.data.fetch(name), **({} if units == "-" else {"units": units}))
    fs.atoms.find(image)  # compiles, or loads compiled code
    began = time.process_time()
    columns = fs.atoms.find(image)
    out = {"cpu_s": time.process_time() - began, "columns": len(columns), "shape": list(image.data.shape)}
    where = columns[["y", "x"]].to_numpy()
    lattice = fs.atoms.lattice(columns)
    vectors = lattice.cell
    band = max(5.0, float(columns["width"].median()) * 2)
    whole = count.border(image.data.shape, band)
    covered = Delaunay(where).find_simplex(
        np.argwhere(np.ones((20, 20))) / 19 * (np.array(image.data.shape) - 1)
    )
    inside = whole if (covered >= 0).mean() > 0.8 else count.region(where, 1.5 * count.spacing(where))
    missing = len(count.holes(where, vectors, inside))
    interior = int(inside(where).sum())
    out |= {"interior": interior, "holes": missing, "completeness": interior / (interior + missing)}
    out |= {"duplicates": count.duplicates(where), "strays": count.strays(where, vectors, inside)}
    out |= {"sd_pm": None, "chi2": float(columns["chi2"].median())}
    pixel = columns.attrs.get("pixel_size_nm")
    scale = np.array(pixel) if pixel else np.ones(2)
    unit = "nm" if pixel else "px"
    out |= {key: getattr(lattice, f"{key}_{unit}") for key in ("a", "b", "sd_a", "sd_b")} | {"unit": unit}
    out |= {"indexed": min(lattice.completeness.values()), "sites": len(lattice.sites)}
    if pixel:
        kept = where[inside(where)] * scale
        out |= spread(kept) | {"sd_pm": float(columns[["sd_y_pm", "sd_x_pm"]].to_numpy().mean())}
    fitted = image.original_metadata.get_item("fitted")
    if fitted is not None:
        out |= against(where, fitted.as_dictionary())
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in out.items()}
    Path(wanted).write_text(json.dumps(plain))


if __name__ == "__main__":
    main(*sys.argv[1:])
