"""Worker: symmetry STEM by fairstem. Arguments: NOISE IN.npz OUT.npz [...]; NOISE is "poisson" or "none"."""

import sys
import time

import numpy as np
from crystal_sites import OPERATIONS

from fairstem import diffraction


def main(noise, *pairs):
    """Map the symmetry of the counts and, without noise, that of the expected patterns."""
    for given, wanted in zip(pairs[::2], pairs[1::2], strict=True):
        data = np.load(given)
        truth = diffraction.symmetry(data["expected"], OPERATIONS, noise=None).gamma
        counts = data["counts"]
        began = time.process_time()
        found = diffraction.symmetry(counts, OPERATIONS, noise=noise)
        out = {"gamma": found.gamma, "truth": truth, "cpu_s": time.process_time() - began}
        if found.standard_error is not None:
            out["standard_error"] = found.standard_error
        np.savez(wanted, operations=OPERATIONS, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
