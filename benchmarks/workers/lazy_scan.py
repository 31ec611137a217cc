"""Worker: one operation on a scan in an HDF5 file, read block by block. Arguments: OPERATION DATA.h5 OUT.json.

OPERATION is "nothing" (what Python and the imports take), "symmetry", "virtual", "com", "pacbed" or "calibrate".
"""

import json
import sys
import time
import warnings
from pathlib import Path

import h5py
from operations_fairstem import OPERATIONS


def main(name, given, wanted):
    """Run and write the seconds."""
    warnings.simplefilter("ignore")
    with h5py.File(given) as file:
        data = file["scan"]
        began = time.process_time(), time.perf_counter()
        if name != "nothing":
            OPERATIONS[name](data)
        out = {"cpu_s": time.process_time() - began[0], "wall_s": time.perf_counter() - began[1]}
    Path(wanted).write_text(json.dumps(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
