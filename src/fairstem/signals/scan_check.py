"""What the patterns of a scan are: counts or averages, the dose, empty patterns, saturated and hot pixels.

Large and lazy scans are judged from a sample: runs of neighbouring patterns spread over the scan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.signals.counting import judge_counts
from fairstem.signals.door import is_dask
from fairstem.signals.findings import Finding
from fairstem.signals.image_check import find_saturation

__all__ = ["SAMPLE_BYTES", "PatternStatistics", "check_patterns", "pattern_statistics", "sample"]

SAMPLE_BYTES = 2**26
_RUNS, _RUN = 16, 8  # runs of neighbouring positions, and the longest run
_KEPT = 2**18  # values kept to judge whether they are counts
_HOT, _HOT_SIGMA = 3.0, 8.0  # a hot pixel holds this many times its brightest neighbour, this significantly
_SEVERAL = 3  # a hot pixel was seen in that many patterns: a single event is none


@dataclass
class PatternStatistics:
    """Statistics of the patterns that were looked at.

    Parameters
    ----------
    patterns, of
        How many patterns were looked at, of how many.
    doses
        Sum of each pattern.
    total
        Sum of the patterns (k_y, k_x).
    values
        A thinned-out sample of the values.
    not_finite
        Number of values that are NaN or infinite.
    saturated
        Fraction of the sampled values at the maximum, and the maximum; None when nothing piles up.
    hot
        Positions (n, 2) of hot pixels, (k_y, k_x).
    """

    patterns: int
    of: int
    doses: NDArray[np.float64]
    total: NDArray[np.float64]
    values: NDArray[Any]
    not_finite: int = 0
    saturated: tuple[float, float] | None = None
    hot: NDArray[np.int_] = field(default_factory=lambda: np.empty((0, 2), int))

    @property
    def empty(self) -> int:
        """Number of patterns without a single count."""
        return int(np.count_nonzero(self.doses == 0))

    @property
    def dose(self) -> float:
        """Mean sum of a pattern."""
        return float(self.doses.mean()) if self.doses.size else math.nan

    @property
    def sampled(self) -> bool:
        """True when not every pattern was looked at."""
        return self.patterns < self.of


def sample(array: Any, inner: int, budget: int = SAMPLE_BYTES) -> Iterator[NDArray[Any]]:
    """Yield blocks of neighbouring positions, spread over data that are too large to be read.

    Parameters
    ----------
    array
        numpy, dask, memmap or h5py array.
    inner
        Number of trailing axes that belong to one position (2 for patterns, 1 for spectra).
    budget
        Bytes in all; one run of positions is read even when it alone is larger.

    Yields
    ------
    numpy.ndarray
        (positions, ...), in the order of the scan. Memory: one run, and the stored chunk around it.
    """
    outer = tuple(int(n) for n in array.shape[: array.ndim - inner])
    shape = tuple(int(n) for n in array.shape[array.ndim - inner :])
    if not outer:
        yield np.asarray(array.compute() if is_dask(array) else array)[None]
        return
    one = max(1, math.prod(shape) * np.dtype(array.dtype).itemsize)
    wanted = max(1, min(math.prod(outer), budget // one))
    length = max(1, min(_RUN, outer[-1], wanted))
    rows = math.prod(outer[:-1])
    places = max(1, min(_RUNS, wanted // length, rows * (outer[-1] // length)))
    for place in np.unique(np.linspace(0, rows * outer[-1] - length, places).astype(int)):
        row, start = divmod(int(place), outer[-1])
        start = min(start, outer[-1] - length)
        at = (*(int(i) for i in np.unravel_index(row, outer[:-1])), slice(start, start + length))
        part = array[at]
        yield np.asarray(part.compute() if is_dask(part) else part)


def pattern_statistics(array: Any, *, everything: bool = False) -> PatternStatistics:
    """Look at the patterns of a scan.

    Parameters
    ----------
    array
        (..., k_y, k_x), numpy or dask.
    everything
        True looks at all of them, row by row; False at a sample of at most 128 patterns and 64 MiB.

    Notes
    -----
    Cost: one pass over what is looked at. Memory: one row of the scan, or one run of the sample.
    """
    of = math.prod(int(n) for n in array.shape[:-2])
    blocks = _all(array) if everything else sample(array, 2)
    doses, kept, bad = [], [], 0
    total = np.zeros(array.shape[-2:], np.float64)
    seen = np.zeros(array.shape[-2:], np.int64)
    share = _KEPT // (max(1, int(array.shape[0])) if everything else _RUNS)
    for read in blocks:
        thin = np.ravel(read[:: max(1, len(read) // 4)])
        kept.append(thin[:: max(1, thin.size // max(share, 1))])
        block = read
        if read.dtype.kind == "f":
            good = np.isfinite(read)
            lost = int(good.size - np.count_nonzero(good))
            if lost:
                bad, block = bad + lost, np.where(good, read, 0)
        doses.append(block.sum(axis=(1, 2), dtype=np.float64))
        total += block.sum(axis=0, dtype=np.float64)
        seen += np.count_nonzero(block, axis=0)
    values = np.concatenate(kept)
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    each = np.concatenate(doses)
    saturated = find_saturation(values, array.dtype) if values.size else None
    return PatternStatistics(each.size, of, each, total, values, bad, saturated, _hot(total, seen))


def _all(array: Any) -> Iterator[NDArray[Any]]:
    if array.ndim == 3:
        yield from (np.asarray(array[i : i + 1]) for i in range(array.shape[0]))
    else:
        for row in array:
            yield np.asarray(row).reshape((-1, *array.shape[-2:]))


def _hot(total: NDArray[np.float64], seen: NDArray[np.int64]) -> NDArray[np.int_]:
    """Find pixels that stand far above all their neighbours in the sum of the patterns."""
    if min(total.shape) < 3:
        return np.empty((0, 2), int)
    padded = np.pad(total, 1, constant_values=-np.inf)
    ny, nx = total.shape
    around = np.full(total.shape, -np.inf)
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) != (1, 1):
                around = np.maximum(around, padded[dy : dy + ny, dx : dx + nx])
    around = np.maximum(around, 0.0)
    hot = (total > _HOT * around + _HOT_SIGMA * np.sqrt(around + 1.0)) & (seen >= _SEVERAL)
    return np.argwhere(hot)


def check_patterns(statistics: PatternStatistics) -> list[Finding]:
    """Say what is wrong with the patterns that were looked at.

    Parameters
    ----------
    statistics
        From `pattern_statistics`.

    Returns
    -------
    list of Finding
        ``averages``, ``gain``, ``negative``, ``not-finite``, ``empty-patterns``, ``saturated``, ``hot-pixels``,
        ``values-sampled``.
    """
    s = statistics
    where = f"of the {s.patterns} patterns looked at" if s.sampled else f"of {s.of} patterns"
    found = [] if not s.values.size else _check_values(s)
    if s.not_finite:
        message = f"{s.not_finite} values {where} are NaN or infinite"
        found.append(Finding("not-finite", "warning", message, assumed="methods refuse them"))
    if s.empty:
        message = f"{s.empty} {where} hold no counts at all: a blanked beam, lost frames, or no dose"
        found.append(Finding("empty-patterns", "warning", message, given=f"{s.empty} of {s.patterns}"))
    if s.saturated:
        message = f"{100 * s.saturated[0]:.2g} % of the pixels pile up at {s.saturated[1]:g}: saturated"
        found.append(Finding("saturated", "warning", message, given=f"maximum {s.saturated[1]:g}"))
    if len(s.hot):
        listed = ", ".join(f"({y}, {x})" for y, x in s.hot[:4].tolist()) + (" ..." if len(s.hot) > 4 else "")
        message = (
            f"{len(s.hot)} hot pixel{'s' if len(s.hot) > 1 else ''} of the detector, (k_y, k_x): {listed}"
        )
        found.append(Finding("hot-pixels", "warning", message, given=f"{len(s.hot)}"))
    if s.sampled:
        message = f"the values were judged from {s.patterns} of {s.of} patterns, spread over the scan"
        found.append(Finding("values-sampled", "info", message, given=f"{s.patterns} of {s.of}"))
    return found


def _check_values(s: PatternStatistics) -> list[Finding]:
    counting = judge_counts(s.values)
    found = []
    if counting.kind == "continuous":
        message = (
            "the values are no integers: averages (binned or summed with weights), normalised or filtered patterns "
            "instead of counts, which is fatal for Poisson models; go back to the raw counts, or give the gain"
        )
        found.append(Finding("averages", "warning", message, given=f"dtype {s.values.dtype}"))
    elif counting.kind == "multiples" and counting.step:
        step = counting.step
        if step < 1 and abs(1 / step - round(1 / step)) < 0.01:
            message = (
                f"all values are multiples of {step:g}: averages of {1 / step:.0f} pixels or frames instead of counts, "
                f"which is fatal for Poisson models; multiply by {1 / step:.0f}, or give gain={step:g}"
            )
            found.append(Finding("averages", "warning", message, given=f"step {step:g}"))
        else:
            message = f"all values are multiples of {step:g}: a detector with that many units per electron is likely"
            found.append(Finding("gain", "warning", message, given=f"step {step:g}", assumed="they are kept"))
    if s.values.min() < 0:
        message = (
            f"values down to {s.values.min():g}: a background was subtracted, or a dark level is not zero"
        )
        found.append(Finding("negative", "warning", message, given=f"minimum {s.values.min():g}"))
    return found
