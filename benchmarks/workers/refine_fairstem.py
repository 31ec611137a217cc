"""Worker: fairstem.atoms.refine from the given start positions. Arguments: IN.npz OUT.npz."""

import sys
import time
import warnings

import numpy as np
import pandas as pd

from fairstem import atoms


def main(given, wanted):
    """Refine every image once to compile, then once to measure."""
    warnings.simplefilter("ignore")
    data = np.load(given)
    names = ("y", "x", "sd_y", "sd_x")
    found = {name: np.full(len(data["start"]), np.nan) for name in names}
    spent = []
    for _ in range(2):
        began = time.process_time()
        for k, image in enumerate(data["images"]):
            mine = np.flatnonzero(data["image_of"] == k)
            columns = pd.DataFrame(data["start"][mine], columns=["y", "x"])
            table = atoms.refine(image, columns)
            kept = mine[table.index.to_numpy()]
            for name in names:
                found[name][kept] = table[name].to_numpy()
        spent.append(time.process_time() - began)
    np.savez(wanted, cpu_s=spent[1], first_s=spent[0], **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
