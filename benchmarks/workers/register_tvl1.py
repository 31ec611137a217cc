"""Worker, run by the peers' Python: TV-L1 flow of scikit-image. Arguments: SETTING IN.npz OUT.npz [IN.npz OUT.npz ...].

SETTING is "rows" (best of those tried on P1, seed 0) or "field" (best on the series that isn't row-wise, seed 0).
Tried, with the displacement rmse in px, each in 21 to 22 CPU s; sigma is that of the filter before, in px. Rows:
attachment 15 sigma 1: 0.238, sigma 2: 0.223; 50 sigma 1.5: 0.488; 8 sigma 2: 0.193. Field: 10 sigma 2: 0.327;
4 sigma 2: 0.358.
"""

import sys
from functools import partial

import iterated_average as common
import numpy as np
from skimage.registration import optical_flow_tvl1

SIGMA = 2.0  # px, of the filter before
ATTACHMENT = {"rows": 8.0, "field": 10.0}  # the smaller, the smoother
TIGHTNESS = 0.3


def register(average, frame, start, setting):
    """Return the displacement of one frame: what is left after `start`, then `start` where that leads."""
    flow = optical_flow_tvl1(
        average,
        common.seen_at(frame, start, average),
        attachment=ATTACHMENT[setting],
        tightness=TIGHTNESS,
        dtype=np.float64,
    )
    return common.compose(start, flow)


def main(setting, *pairs):
    """Register each series."""

    def solve(frames, reach):
        images = common.filtered(frames, SIGMA)
        return common.iterate(images, common.translations(images, reach), partial(register, setting=setting))

    common.run(pairs, solve)


if __name__ == "__main__":
    main(*sys.argv[1:])
