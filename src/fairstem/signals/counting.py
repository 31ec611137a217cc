"""Are these counts? Integers, averages of counts, or counts times a gain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Counting", "judge_counts"]

_SAMPLE = 2**18  # values that are looked at
_FEWEST_LEVELS = 8  # fewer different values say nothing about a common step
_MOST_STEPS = 2**22  # a step this small is the rounding of floats, not a gain


@dataclass(frozen=True)
class Counting:
    """What kind of numbers the values are.

    Parameters
    ----------
    kind
        ``"counts"``: integers; ``"multiples"``: integer multiples of `step` above the smallest value;
        ``"continuous"``: anything else, such as averages, interpolated or filtered data.
    step
        The common step of ``"multiples"``: the gain if the detector counted, 1/n for an average of n.
    """

    kind: Literal["counts", "multiples", "continuous"]
    step: float | None = None


def judge_counts(values: NDArray[Any]) -> Counting:
    """Judge whether values are counts, counts times a gain, or averages.

    Parameters
    ----------
    values
        Measured values of any shape; NaN are left out. At most 262 144 of them, evenly spread, are looked at.

    Returns
    -------
    Counting
        The kind and the common step.

    Notes
    -----
    The smallest difference between two values is the candidate for the step; every value has to lie on
    its grid within 1 %. Cost: one sort of the sample.

    Examples
    --------
    >>> import numpy as np
    >>> counts = np.random.default_rng(0).poisson(40.0, (64, 64))
    >>> judge_counts(counts).kind, judge_counts(counts / 4), judge_counts(counts * 16).step
    ('counts', Counting(kind='multiples', step=0.25), 16.0)
    """
    flat = np.ravel(values)
    sample = flat[:: max(1, -(-flat.size // _SAMPLE))].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return Counting("continuous")
    levels = np.unique(sample)
    if np.array_equal(levels, np.round(levels)):
        return _integers(levels)
    if levels.size < _FEWEST_LEVELS or levels.size > sample.size // 2:
        return Counting("continuous")
    precision = np.finfo(flat.dtype if flat.dtype.kind == "f" else np.float64).eps
    rounding = 8 * precision * float(np.abs(levels).max())
    gaps = np.diff(levels)
    gaps = gaps[gaps > rounding]
    if gaps.size == 0:
        return Counting("continuous")
    # the smallest gap carries its rounding error into every multiple: refine it by the whole range
    span = float(levels[-1] - levels[0])
    steps = round(span / float(gaps.min()))
    if steps > _MOST_STEPS or float(gaps.min()) < 32 * rounding:
        return Counting("continuous")
    step = span / steps
    multiples = (levels - levels[0]) / step
    if float(np.abs(multiples - np.round(multiples)).max()) > 0.01:
        return Counting("continuous")
    return Counting("multiples", float(f"{step:.6g}"))


def _integers(levels: NDArray[np.float64]) -> Counting:
    if levels.size < _FEWEST_LEVELS or float(np.abs(levels).max()) >= 2**53:
        return Counting("counts")
    step = math.gcd(*(int(v) for v in (levels - levels[0])))
    return Counting("counts") if step <= 1 else Counting("multiples", float(step))
