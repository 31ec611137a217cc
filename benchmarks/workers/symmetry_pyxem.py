"""Worker, run by the peers' Python: symmetry STEM of pyxem, rotations only. Arguments: IN.npz OUT.npz [...]."""

import sys
import time
import warnings

import numpy as np
import operations_pyxem as pyxem_operations


def main(*pairs):
    """Map the symmetry of the counts and of the expected patterns."""
    warnings.simplefilter("ignore")
    for given, wanted in zip(pairs[::2], pairs[1::2], strict=True):
        data = np.load(given)
        truth = pyxem_operations.symmetry(data["expected"])["gamma"]
        began = time.process_time()
        gamma = pyxem_operations.symmetry(data["counts"])["gamma"]
        spent = time.process_time() - began
        names = [f"C{order}" for order in pyxem_operations.ORDERS]
        np.savez(wanted, operations=names, gamma=gamma, truth=truth, cpu_s=spent)


if __name__ == "__main__":
    main(*sys.argv[1:])
