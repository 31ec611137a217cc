"""Worker, run by the peers' Python: BM3D of PyPI on stabilised counts. Arguments: IN.npz OUT.npz [...]."""

import sys

import bm3d
import counted


def denoise(counts, _):
    """Stabilise, denoise with sigma 1, invert without bias."""
    return counted.unbiased(bm3d.bm3d(counted.stabilise(counts), 1.0))


if __name__ == "__main__":
    counted.run(sys.argv[1:], denoise)
