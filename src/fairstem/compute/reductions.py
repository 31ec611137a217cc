"""Reductions as values: what to do with a block, how to join two partial results, how to finish.

A `Reduction` knows nothing of files, Dask or budgets; `fairstem.compute.blocks.reduce` runs the same
value eagerly, streamed from a file, or as a lazy graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fairstem.compute.plans import Slices

__all__ = ["EXTREMES", "MOMENTS", "Extremes", "Moments", "Reduction", "sum_over"]

P = TypeVar("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Reduction(Generic[P, R]):
    """An algorithm that reduces an array block by block.

    Parameters
    ----------
    name
        Short name, for progress bars and errors.
    chunk
        ``chunk(block, slices)`` returns the partial result of one block; `slices` says where in
        the array the block lies.
    combine
        ``combine(a, b)`` joins two partial results. Must be associative and commutative up to
        rounding; must not change its arguments.
    finalise
        Turns the last partial result into the answer.

    Examples
    --------
    >>> import numpy as np
    >>> from fairstem.compute import plan, reduce
    >>> largest = Reduction("largest", lambda b, at: b.max(), max, float)
    >>> x = np.random.default_rng(0).poisson(5, (8, 8))
    >>> reduce(x, largest, plan(x, budget="200 B")) == float(x.max())
    True
    """

    name: str
    chunk: Callable[[NDArray[Any], Slices], P]
    combine: Callable[[P, P], P]
    finalise: Callable[[P], R]


class Moments(NamedTuple):
    """Number of finite values, of values that are not finite, mean and variance (divided by n)."""

    n: int
    n_not_finite: int
    mean: float
    variance: float


class Extremes(NamedTuple):
    """Smallest and largest finite value; NaN when there is none."""

    smallest: float
    largest: float


def _moments_chunk(block: NDArray[Any], at: Slices) -> Moments:  # noqa: ARG001
    values = np.asarray(block, dtype=np.float64).ravel()
    finite = np.isfinite(values)
    if not finite.all():
        values = values[finite]
    bad = int(finite.size - values.size)
    if values.size == 0:
        return Moments(0, bad, 0.0, 0.0)
    return Moments(int(values.size), bad, float(values.mean()), float(values.var()))


def _moments_combine(a: Moments, b: Moments) -> Moments:
    # Chan, Golub, LeVeque (1983): stable where sums of squares would cancel
    n = a.n + b.n
    bad = a.n_not_finite + b.n_not_finite
    if n == 0:
        return Moments(0, bad, 0.0, 0.0)
    wa, wb = a.n / n, b.n / n
    shift = b.mean - a.mean
    return Moments(n, bad, a.mean + wb * shift, wa * a.variance + wb * b.variance + wa * wb * shift**2)


def _moments_finalise(m: Moments) -> Moments:
    return m if m.n else m._replace(mean=float("nan"), variance=float("nan"))


MOMENTS: Reduction[Moments, Moments] = Reduction(
    "moments", _moments_chunk, _moments_combine, _moments_finalise
)


def _extremes_chunk(block: NDArray[Any], at: Slices) -> Extremes:  # noqa: ARG001
    values = block[np.isfinite(block)]
    if values.size == 0:
        return Extremes(float("inf"), float("-inf"))
    return Extremes(float(values.min()), float(values.max()))


def _extremes_combine(a: Extremes, b: Extremes) -> Extremes:
    return Extremes(min(a.smallest, b.smallest), max(a.largest, b.largest))


def _extremes_finalise(e: Extremes) -> Extremes:
    return e if e.smallest <= e.largest else Extremes(float("nan"), float("nan"))


EXTREMES: Reduction[Extremes, Extremes] = Reduction(
    "extremes", _extremes_chunk, _extremes_combine, _extremes_finalise
)


def sum_over(axes: tuple[int, ...]) -> Reduction[NDArray[Any], NDArray[Any]]:
    """Sum over some axes, the others kept whole in every block.

    Parameters
    ----------
    axes
        Axes to sum over; plan with ``keep_axes`` = all the others.

    Returns
    -------
    Reduction
        Its result is float64, or uint64/int64 for integers, so that counts stay exact.

    Examples
    --------
    >>> import numpy as np
    >>> from fairstem.compute import plan, reduce
    >>> scan = np.random.default_rng(0).poisson(1, (4, 5, 6, 6)).astype("uint16")
    >>> pacbed = reduce(scan, sum_over((0, 1)), plan(scan, budget="1 kB", keep_axes=(2, 3)))
    >>> bool((pacbed == scan.sum((0, 1))).all())
    True
    """

    def chunk(block: NDArray[Any], at: Slices) -> NDArray[Any]:  # noqa: ARG001
        wide = {"u": np.uint64, "i": np.int64, "b": np.int64, "c": np.complex128}.get(
            block.dtype.kind, np.float64
        )
        return np.asarray(block.sum(axis=axes, dtype=wide))

    return Reduction("sum", chunk, np.add, np.asarray)
