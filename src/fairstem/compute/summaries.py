"""Several numbers for every position of an array in one pass: at once for arrays, lazily for Dask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.compute.blocks import is_dask, stream
from fairstem.compute.plans import BlockPlan, Slices
from fairstem.compute.progress import track
from fairstem.errors import DataError

__all__ = ["summarise"]


def summarise(
    source: Any,
    function: Callable[[NDArray[Any], Slices], Any],
    plan: BlockPlan,
    *,
    number: int,
    drop: int = 2,
    label: str = "",
) -> Any:
    """Compute several numbers from the last axes at every position of the other axes.

    Parameters
    ----------
    source
        numpy array, memmap, h5py.Dataset or dask array, such as ``(scan_y, scan_x, k_y, k_x)``.
    function
        ``function(block, slices)`` returns ``(number, *positions of the block)``; `slices` says where in the
        array the block lies.
    plan
        The blocks, with the last `drop` axes whole.
    number
        How many numbers a position gives.
    drop
        How many axes the function removes, the last ones.
    label
        Text of the progress bar.

    Returns
    -------
    array
        ``(number, *positions)`` float64: numpy, or a lazy dask array for Dask input.

    Raises
    ------
    DataError
        If the plan is another array's or cuts the last axes, or the function returns another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fairstem.compute import plan
    >>> x = np.arange(24.0).reshape(2, 3, 2, 2)
    >>> both = summarise(x, lambda b, at: [b.min((-2, -1)), b.max((-2, -1))], plan(x, keep_axes=(2, 3)), number=2)
    >>> both.shape, both[:, 1, 2].tolist()
    ((2, 2, 3), [20.0, 23.0])
    """
    if tuple(source.shape) != plan.shape:
        raise DataError(f"an array of shape {tuple(source.shape)} with a plan for {plan.shape}")
    if any(len(edges) > 2 for edges in plan.edges[len(plan.shape) - drop :]):
        raise DataError(
            f"a plan that cuts the last {drop} axes", needed="them whole", todo="make the plan with keep_axes"
        )
    work = _Work(function, number, drop)
    if is_dask(source):
        return _lazily(source, work, plan, number, drop)
    out = np.empty((number, *plan.shape[: len(plan.shape) - drop]))
    for at, block in track(stream(source, plan), total=plan.n_blocks, label=label):
        out[(slice(None), *at[: len(at) - drop])] = work.at(block, at)
    return out


def _lazily(source: Any, work: _Work, plan: BlockPlan, number: int, drop: int) -> Any:
    import dask.array as da

    kept = len(plan.shape) - drop
    lazily: Any = da.map_blocks  # untyped in Dask
    return lazily(
        work,
        source.rechunk(plan.chunks),
        dtype=np.float64,
        chunks=((number,), *plan.chunks[:kept]),
        drop_axis=list(range(kept, len(plan.shape))),
        new_axis=[0],
        meta=np.empty((0,) * (kept + 1)),
    )


class _Work:
    """The function with its checks; Dask tells it where its block lies."""

    def __init__(self, function: Callable[[NDArray[Any], Slices], Any], number: int, drop: int) -> None:
        self.function, self.number, self.drop = function, number, drop

    def __call__(self, block: NDArray[Any], block_info: Any = None) -> NDArray[np.float64]:
        place = block_info[0]["array-location"]
        return self.at(block, tuple(slice(int(a), int(b)) for a, b in place))

    def at(self, block: NDArray[Any], at: Slices) -> NDArray[np.float64]:
        result = np.asarray(self.function(block, at), dtype=np.float64)
        expected = (self.number, *block.shape[: block.ndim - self.drop])
        if result.shape != expected:
            raise DataError(
                f"a function that turns {block.shape} into {result.shape}", needed=f"shape {expected}"
            )
        return result
