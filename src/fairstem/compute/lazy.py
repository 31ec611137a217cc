"""Lazy work on a series, item by item: the function knows which item it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.compute.blocks import is_dask
from fairstem.errors import DataError, DataTypeError

__all__ = ["map_items"]

Chunks = tuple[tuple[int, ...], ...]


def map_items(
    source: Any,
    function: Callable[[int, NDArray[Any]], Any],
    *,
    dtype: Any,
    whole: int = 2,
    chunks: Chunks | None = None,
) -> Any:
    """Apply a function to every item of a Dask array along its first axis, lazily.

    Parameters
    ----------
    source
        Dask array ``(item, ...)``.
    function
        ``function(k, item)`` takes the number of the item and (a part of) it as numpy; returns an array of
        the same shape. Along the axes that are cut it must treat every position alike.
    dtype
        Data type of the result; what the function returns is cast to it.
    whole
        Number of axes after the first that are never cut, such as 2 for images.
    chunks
        Lengths of the parts along the axes after these, as Dask writes chunks; those of the source by
        default.

    Returns
    -------
    dask.array.Array
        Shape of the source. Nothing is computed yet.

    Raises
    ------
    DataTypeError
        If the source is no Dask array.
    DataError
        If it has fewer axes than stay whole, or (when computed) the function returns another shape.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> series = da.ones((3, 4, 5), chunks=(2, 2, 5))
    >>> map_items(series, lambda k, image: image * k, dtype=float).sum(axis=(1, 2)).compute().tolist()
    [0.0, 20.0, 40.0]
    """
    if not is_dask(source):
        raise DataTypeError(f"a source of type {type(source).__name__}", needed="a dask array")
    if source.ndim < whole + 1:
        raise DataError(f"a source of shape {tuple(source.shape)}", needed=f"at least {whole + 1} axes")
    import dask.array as da

    kind = np.dtype(dtype)
    trailing = tuple(source.chunks[whole + 1 :]) if chunks is None else tuple(chunks)
    items = source.rechunk((1, *source.shape[1 : whole + 1], *trailing))
    lazily: Any = da.map_blocks  # untyped in Dask
    return lazily(_Item(function, kind), items, dtype=kind, meta=np.empty((0,) * source.ndim, kind))


class _Item:
    """The function with its checks, which learns the number of its item from Dask."""

    def __init__(self, function: Callable[[int, NDArray[Any]], Any], dtype: np.dtype[Any]) -> None:
        self.function, self.dtype = function, dtype

    def __call__(self, block: NDArray[Any], block_info: Any = None) -> NDArray[Any]:
        number = int(block_info[0]["chunk-location"][0])
        result = np.asarray(self.function(number, block[0]))
        if result.shape != block.shape[1:]:
            raise DataError(
                f"a function that turns {block.shape[1:]} into {result.shape}",
                needed=f"shape {block.shape[1:]}",
            )
        return result.astype(self.dtype, copy=False)[None]
