"""Running work over blocks: stream, reduce, map. The same code on numpy, memmap, HDF5 and Dask.

The maths stays in plain functions of arrays; this module cuts, feeds and joins. Arrays in memory
and on disk are processed at once, block after block; Dask arrays give lazy results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fairstem.compute.memory import parse_bytes as parse_bytes
from fairstem.compute.plans import BlockPlan as BlockPlan
from fairstem.compute.plans import Slices
from fairstem.compute.plans import plan as plan
from fairstem.compute.progress import track
from fairstem.compute.reductions import Reduction as Reduction
from fairstem.errors import DataError, DataTypeError

__all__ = ["BlockPlan", "Reduction", "is_dask", "map_blocks", "parse_bytes", "plan", "reduce", "stream"]

P = TypeVar("P")
R = TypeVar("R")


def is_dask(source: Any) -> bool:
    """Say whether an object is a Dask collection, without importing Dask.

    Parameters
    ----------
    source
        Any object.

    Returns
    -------
    bool
        True for Dask's own types.

    Examples
    --------
    >>> import numpy as np
    >>> is_dask(np.zeros(3))
    False
    """
    return type(source).__module__.partition(".")[0] == "dask"


def _check(source: Any, plan: BlockPlan) -> None:
    shape = getattr(source, "shape", None)
    if shape is None:
        raise DataTypeError(
            f"a source of type {type(source).__name__}", needed="a numpy, memmap, h5py.Dataset or dask array"
        )
    if tuple(shape) != plan.shape:
        raise DataError(
            f"an array of shape {tuple(shape)} with a plan for {plan.shape}",
            todo="make the plan from the same array",
        )


def _read(source: Any, at: Slices) -> NDArray[Any]:
    part = source[at]
    if is_dask(part):
        part = part.compute()
    return np.asarray(part)


def stream(source: Any, plan: BlockPlan) -> Iterator[tuple[Slices, NDArray[Any]]]:
    """Read an array block by block.

    Parameters
    ----------
    source
        numpy array, memmap, h5py.Dataset or dask array of the plan's shape.
    plan
        The blocks, from `plan`.

    Yields
    ------
    tuple
        The slices of a block, and the block as a numpy array. Blocks of numpy arrays are views:
        don't write into them. A Dask block is computed when its turn comes and then forgotten;
        what several blocks share in the graph is computed again for each, so persist expensive
        common parts.

    Raises
    ------
    DataError
        If the plan was made for another shape.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(12).reshape(4, 3)
    >>> [int(block.sum()) for at, block in stream(x, plan(x, budget=100))]
    [15, 51]
    """
    _check(source, plan)
    return ((at, _read(source, at)) for at in plan)


def reduce(
    source: Any, reduction: Reduction[P, R], plan: BlockPlan, *, lazy: bool = False, label: str = ""
) -> R | Any:
    """Run a reduction over the blocks of an array.

    Parameters
    ----------
    source
        numpy array, memmap, h5py.Dataset or dask array.
    reduction
        What to compute; the same value serves every kind of source.
    plan
        The blocks. Memory: one block, its work, and two partial results.
    lazy
        For Dask arrays: return a `dask.delayed` object instead of computing now; partial results
        are then joined pairwise as a tree, in parallel.
    label
        Text of the progress bar; the reduction's name by default.

    Returns
    -------
    object
        What the reduction's `finalise` returns.

    Raises
    ------
    DataError
        If the plan was made for another shape.
    DataTypeError
        If `lazy` is asked for and the source is not a Dask array.

    Examples
    --------
    >>> import numpy as np
    >>> from fairstem.compute.reductions import MOMENTS
    >>> x = np.arange(10.0)
    >>> reduce(x, MOMENTS, plan(x, budget=48)).mean
    4.5
    """
    _check(source, plan)
    if lazy:
        return _reduce_lazily(source, reduction, plan)
    blocks = track(stream(source, plan), total=plan.n_blocks, label=label or reduction.name)
    at, first = next(blocks)
    partial = reduction.chunk(first, at)
    for at, block in blocks:
        partial = reduction.combine(partial, reduction.chunk(block, at))
    return reduction.finalise(partial)


def _reduce_lazily(source: Any, reduction: Reduction[P, R], plan: BlockPlan) -> Any:
    if not is_dask(source):
        raise DataTypeError(
            f"lazy=True with {type(source).__name__}", needed="a dask array", todo="leave lazy=False"
        )
    from dask.delayed import delayed

    chunk, combine = delayed(reduction.chunk), delayed(reduction.combine)
    # rechunked to one array per block, which delayed hands over as numpy
    parts = [chunk(source[at].rechunk(-1), at) for at in plan]
    while len(parts) > 1:
        pairs = [combine(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[len(pairs) * 2 :]
    return delayed(reduction.finalise)(parts[0])


def map_blocks(
    source: Any,
    function: Callable[[NDArray[Any]], Any],
    plan: BlockPlan,
    *,
    out: Any = None,
    dtype: Any = None,
    drop_axes: Sequence[int] = (),
    label: str = "",
) -> Any:
    """Apply a function to every block: at once for arrays in memory or on disk, lazily for Dask.

    Parameters
    ----------
    source
        numpy array, memmap, h5py.Dataset or dask array.
    function
        Takes a block, returns an array of the block's shape (less `drop_axes`). It must treat
        every position along the cut axes alike, whatever the block; keep whole the axes along
        which it doesn't (``keep_axes`` of `plan`).
    plan
        The blocks.
    out
        Where to write: anything that takes ``out[slices] = block``, such as an h5py.Dataset or a
        memmap. By default a new numpy array (or a lazy Dask array for Dask input). With `out`
        Dask input is computed block by block.
    dtype
        Data type of the result; the source's by default. The function's result must be of the
        same kind (float for float): numbers are never silently cut.
    drop_axes
        Axes that the function removes; they must be kept whole by the plan.
    label
        Text of the progress bar.

    Returns
    -------
    array
        numpy, or dask for dask input, or `out`.

    Raises
    ------
    DataError
        If the function returns another shape, the plan cuts a dropped axis, or `out` has another
        shape than the result.
    DataTypeError
        If the function returns a type that does not fit `dtype`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).poisson(9, (6, 4)).astype(float)
    >>> np.array_equal(map_blocks(x, np.sqrt, plan(x, budget="100 B")), np.sqrt(x))
    True
    """
    _check(source, plan)
    dropped = _dropped(drop_axes, plan)
    kind = np.dtype(plan.dtype if dtype is None else dtype)
    shape = _without(plan.shape, dropped)
    if out is not None and tuple(out.shape) != shape:
        raise DataError(f"out of shape {tuple(out.shape)}", needed=f"shape {shape}")
    work = _Work(function, kind, dropped)
    if out is None and is_dask(source):
        import dask.array as da

        chunks = _without(plan.chunks, dropped)
        lazily: Any = da.map_blocks  # untyped in Dask
        return lazily(
            work,
            source.rechunk(plan.chunks),
            dtype=kind,
            chunks=chunks,
            drop_axis=list(dropped),
            meta=np.empty((0,) * len(shape), kind),
        )
    result = np.empty(shape, kind) if out is None else out
    for at, block in track(stream(source, plan), total=plan.n_blocks, label=label):
        result[_without(at, dropped)] = work(block)
    return result


def _without(items: tuple[Any, ...], dropped: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(item for axis, item in enumerate(items) if axis not in dropped)


def _dropped(drop_axes: Sequence[int], plan: BlockPlan) -> tuple[int, ...]:
    ndim = len(plan.shape)
    for axis in drop_axes:
        if not -ndim <= axis < ndim:
            raise DataError(
                f"drop_axes {tuple(drop_axes)} for {ndim} axes", needed=f"axes from 0 to {ndim - 1}"
            )
        if len(plan.edges[axis]) > 2:
            raise DataError(
                f"drop_axes {tuple(drop_axes)}, where the plan cuts axis {axis}",
                needed="dropped axes kept whole",
                todo="make the plan with keep_axes",
            )
    return tuple(sorted({axis % ndim for axis in drop_axes}))


class _Work:
    """The function with its checks: one and the same on the eager and the lazy path."""

    def __init__(
        self, function: Callable[[NDArray[Any]], Any], dtype: np.dtype[Any], dropped: tuple[int, ...]
    ) -> None:
        self.function, self.dtype, self.dropped = function, dtype, dropped

    def __call__(self, block: NDArray[Any]) -> NDArray[Any]:
        result = np.asarray(self.function(block))
        expected = _without(block.shape, self.dropped)
        if result.shape != expected:
            raise DataError(
                f"a function that turns {block.shape} into {result.shape}", needed=f"shape {expected}"
            )
        if not np.can_cast(result.dtype, self.dtype, casting="same_kind"):
            raise DataTypeError(
                f"a function that returns {result.dtype} where {self.dtype} is expected",
                needed="a type of the same kind",
                todo=f"pass dtype='{result.dtype}'",
            )
        return result.astype(self.dtype, copy=False)
