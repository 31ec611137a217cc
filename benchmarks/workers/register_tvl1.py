"""Worker, run by the peers' Python: TV-L1 flow of scikit-image. Arguments: IN.npz OUT.npz [IN.npz OUT.npz ...]."""

import sys

import iterated_average as common
import numpy as np
from skimage.registration import optical_flow_tvl1

SIGMA = 1.0  # px, of the filter before
ATTACHMENT, TIGHTNESS = 15.0, 0.3


def register(average, frame, start):
    """Return the displacement of one frame: what is left after `start`, then `start` where that leads."""
    seen = common.seen_at(frame, start, average)
    flow = optical_flow_tvl1(average, seen, attachment=ATTACHMENT, tightness=TIGHTNESS, dtype=np.float64)
    return common.compose(start, flow)


def solve(frames, reach):
    """Register one series."""
    images = common.filtered(frames, SIGMA)
    return common.iterate(images, common.translations(images, reach), register)


if __name__ == "__main__":
    common.run(sys.argv[1:], solve)
