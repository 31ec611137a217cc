"""The assumptions behind a registration, measured on its result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairstem.priors import PriorCheck
from fairstem.register._judge.checks import check_independent
from fairstem.register._judge.sharpness import check_sharpness
from fairstem.register._judge.spectrum import check_smooth_in_time
from fairstem.register._judge.unchanged import check_unchanged
from fairstem.register._models import Solved
from fairstem.register._rows.measure import NoiseLaw
from fairstem.register._rows.slow import BENT_PX
from fairstem.register._series.average import Averaged
from fairstem.register._series.frames import Frames

__all__ = ["judge"]

Floats = NDArray[np.float64]
_FEWEST = 0.05  # electrons a pixel: what is darker is taken as that


def judge(
    frames: Frames, solved: Solved, averaged: Averaged, chi2: Floats, seen: Floats, used: Sequence[int]
) -> list[PriorCheck]:
    """Return the prior checks of a registration.

    Parameters
    ----------
    frames, used
        The series, and the numbers of the frames in the average.
    solved, averaged
        Motion and average.
    chi2, seen
        ``(y, x)`` mean squared residual over its variance, and the number of samples behind it.

    Notes
    -----
    Cost: one more pass over the frames for the widths.
    """
    chosen = list(used)
    rows, variance = solved.measured[chosen], solved.measured_variance[chosen]
    unchanged, _ = check_unchanged(chi2, seen, counts=_electrons(averaged.image, solved.law))
    smooth, _ = check_smooth_in_time(rows, variance)
    sharpness, _ = check_sharpness(averaged.image, averaged.samples, frames, solved.motion, used)
    return [unchanged, smooth, _as_one(solved.bent_px), sharpness, check_independent(rows)]


def _electrons(image: Floats, law: NoiseLaw) -> Floats | None:
    """Return the counts that have the relative noise of the image; None where noise does not grow with it."""
    if law.slope <= 0:
        return None
    return np.maximum(law.variance(image) / law.slope**2, _FEWEST)


def _as_one(bent_px: float) -> PriorCheck:
    return PriorCheck(
        "rows-move-as-one",
        "what is recorded within a row moves as a whole, but for the slow field where one was fitted",
        bent_px,
        BENT_PX,
        "<=",
        "rms displacement within rows, px, that parts of neighbouring rows agree on",
        "let rows bend: slow=True; or model='dense'",
    )
