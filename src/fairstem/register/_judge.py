"""The assumptions behind a registration, measured on its result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairstem.priors import PriorCheck
from fairstem.register._average import Averaged
from fairstem.register._checks import check_row_wise
from fairstem.register._frames import Frames
from fairstem.register._models import Solved

__all__ = ["judge"]

Floats = NDArray[np.float64]


def judge(
    frames: Frames, solved: Solved, averaged: Averaged, chi2: Floats, seen: Floats, used: Sequence[int]
) -> list[PriorCheck]:
    """Return the prior checks of a registration."""
    parts = [s.segment_shifts() for k in used if (s := solved.segments[k]) is not None]
    return [check_row_wise(np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts]))]
