"""Plans: how to cut an array into blocks that fit a byte budget and follow the chunks it is stored in."""

from __future__ import annotations

import bisect
import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairstem.compute.memory import format_bytes, parse_bytes
from fairstem.errors import DataError, DataTypeError

__all__ = ["BlockPlan", "Slices", "plan"]

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class BlockPlan:
    """How an array is cut into blocks.

    Parameters
    ----------
    shape, dtype
        Of the array.
    edges
        One tuple an axis: where blocks begin, and the axis' length at the end.
    block_shape
        Shape of the largest block.
    block_bytes
        Bytes of the largest block.
    peak_bytes
        Estimated peak of the memory in use while streaming: the largest block, what the work on
        it needs, and one stored chunk if blocks cut through chunks.
    budget_bytes
        What was allowed.
    aligned
        True if no stored chunk is read by two blocks.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    edges: tuple[tuple[int, ...], ...]
    block_shape: tuple[int, ...]
    block_bytes: int
    peak_bytes: int
    budget_bytes: int
    aligned: bool

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return math.prod(len(edges) - 1 for edges in self.edges)

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Lengths of the blocks along each axis, as Dask writes chunks."""
        return tuple(tuple(b - a for a, b in itertools.pairwise(edges)) for edges in self.edges)

    @property
    def slices(self) -> tuple[Slices, ...]:
        """The blocks as tuples of slices, the last axis fastest."""
        return tuple(self)

    def __iter__(self) -> Iterator[Slices]:
        axes = [[slice(a, b) for a, b in itertools.pairwise(edges)] for edges in self.edges]
        return itertools.product(*axes)

    def __len__(self) -> int:
        return self.n_blocks

    def __str__(self) -> str:
        shape = " × ".join(map(str, self.shape))
        block = " × ".join(map(str, self.block_shape))
        note = "" if self.aligned else "; blocks cut through stored chunks, which are read more than once"
        return (
            f"{shape} {self.dtype} ({format_bytes(math.prod(self.shape) * self.dtype.itemsize)}) "
            f"in {self.n_blocks} block{'s' if self.n_blocks > 1 else ''} of at most {block} "
            f"({format_bytes(self.block_bytes)}), peak about {format_bytes(self.peak_bytes)} "
            f"of {format_bytes(self.budget_bytes)}{note}"
        )


def _shape_and_chunks(source: Any) -> tuple[tuple[int, ...], list[list[int]] | None]:
    """Return the shape and, where the source is stored in chunks, the chunk edges along each axis."""
    shape = tuple(source) if isinstance(source, tuple | list) else getattr(source, "shape", None)
    if shape is None:
        raise DataTypeError(
            f"a source of type {type(source).__name__}",
            needed="an array (numpy, memmap, h5py.Dataset, dask) or a shape",
        )
    try:
        shape = tuple(operator.index(n) for n in shape)
    except (TypeError, ValueError):
        raise DataError(f"shape {shape}", needed="a shape of known integers") from None
    if not shape or any(n < 1 for n in shape):
        raise DataError(f"shape {shape}", needed="at least one axis, and at least one element along each")
    chunks = getattr(source, "chunks", None)
    if chunks is None or isinstance(source, tuple | list):
        return shape, None
    edges: list[list[int]] = []
    for size, chunk in zip(shape, chunks, strict=True):
        if isinstance(chunk, tuple):  # dask: every chunk's length
            edges.append([0, *itertools.accumulate(int(c) for c in chunk if c)])
        else:  # HDF5: one length, the last chunk cut off
            edges.append([*range(0, size, int(chunk)), size])
    return shape, edges


def _longest(edges: Sequence[int]) -> int:
    return max(b - a for a, b in itertools.pairwise(edges))


def _merge(pieces: Sequence[int], longest: int) -> list[int]:
    """Join neighbouring pieces into blocks no longer than `longest` (or than one piece)."""
    edges = [pieces[0]]
    while edges[-1] != pieces[-1]:
        at = bisect.bisect_right(pieces, edges[-1] + longest) - 1
        if pieces[at] <= edges[-1]:
            at = bisect.bisect_right(pieces, edges[-1])
        edges.append(pieces[at])
    return edges


def _cut(pieces: Sequence[Sequence[int]], kept: frozenset[int], elements: int) -> list[list[int]]:
    """Cut the slowest axes first until a block holds at most `elements`, following the pieces."""
    whole = [[p[0], p[-1]] for p in pieces]
    lengths = [_longest(p) for p in whole]
    result = [list(w) for w in whole]
    for axis, axis_pieces in enumerate(pieces):
        if axis in kept:
            continue
        rest = math.prod(lengths) // lengths[axis]
        allowed = max(elements // rest, 1)
        result[axis] = _merge(axis_pieces, allowed)
        lengths[axis] = _longest(result[axis])
        if math.prod(lengths) <= elements:
            break
    return result


def _kept(keep_axes: Sequence[int], ndim: int) -> frozenset[int]:
    for axis in keep_axes:
        if not -ndim <= axis < ndim:
            raise DataError(
                f"keep_axes {tuple(keep_axes)} for {ndim} axes", needed=f"axes from 0 to {ndim - 1}"
            )
    return frozenset(axis % ndim for axis in keep_axes)


def plan(
    source: Any,
    dtype: Any = None,
    *,
    budget: int | float | str = "256 MB",
    keep_axes: Sequence[int] = (),
    working: float = 1.0,
) -> BlockPlan:
    """Cut an array into blocks whose processing stays within a byte budget.

    The first axes are cut first, so that blocks are contiguous in C order. Where the array is
    stored in chunks (HDF5, Dask), blocks are made of whole chunks as long as the budget allows.

    Parameters
    ----------
    source
        An array (numpy, memmap, h5py.Dataset, dask), or a shape.
    dtype
        Data type; needed with a shape, otherwise the array's own.
    budget
        Bytes that may be in use at a time, block and work together. The parameter that matters:
        large enough for at least one item along `keep_axes`; a quarter of the free memory is a
        good value, more does not make it faster.
    keep_axes
        Axes that are never cut, such as ``(-2, -1)`` for whole diffraction patterns.
    working
        Memory the work on a block needs besides the block, in units of the block. 1 is a result
        of the same shape and type.

    Returns
    -------
    BlockPlan
        Printable; iterating it gives the slices.

    Raises
    ------
    DataError
        If the smallest possible block, or one stored chunk, does not fit the budget; if the shape
        is empty; if an axis doesn't exist.
    DataTypeError
        If `source` is no array and no shape, or the dtype is missing or has no fixed size.

    Examples
    --------
    >>> print(plan((512, 512, 256, 256), "uint16", budget="256 MB", keep_axes=(-2, -1)))
    512 × 512 × 256 × 256 uint16 (34.4 GB) in 512 blocks of at most 1 × 512 × 256 × 256 (67.1 MB), peak about 134 MB of 256 MB
    """  # noqa: E501
    shape, stored = _shape_and_chunks(source)
    kind = _dtype(source, dtype)
    limit = parse_bytes(budget)
    kept = _kept(keep_axes, len(shape))
    if not (math.isfinite(working) and working >= 0):
        raise DataError(f"working {working}", needed="a finite number of blocks, 0 or more")
    per_element = kind.itemsize * (1 + working)
    chunk_bytes = math.prod(map(_longest, stored)) * kind.itemsize if stored else 0
    pieces: Sequence[Sequence[int]] = stored or [range(n + 1) for n in shape]
    edges = _cut(pieces, kept, int(limit // per_element))
    aligned, extra = True, 0
    if stored and _peak(edges, per_element) > limit:
        # whole chunks do not fit: cut through them, and count the one chunk that is decoded meanwhile
        aligned, extra = False, chunk_bytes
        pieces = [range(n + 1) for n in shape]
        edges = _cut(pieces, kept, int(max(limit - chunk_bytes, 0) // per_element))
    block_shape = tuple(map(_longest, edges))
    peak = _peak(edges, per_element) + extra
    if peak > limit:
        smallest = " × ".join(map(str, block_shape))
        raise DataError(
            f"budget {format_bytes(limit)} for {' × '.join(map(str, shape))} {kind}",
            needed=f"at least {format_bytes(math.ceil(peak))}, for one block of {smallest}"
            + (f" and one stored chunk of {format_bytes(extra)}" if extra else ""),
            todo="raise the budget" + (", or store the data in smaller chunks" if extra else ""),
        )
    block_bytes = math.prod(block_shape) * kind.itemsize
    return BlockPlan(
        shape, kind, tuple(map(tuple, edges)), block_shape, block_bytes, math.ceil(peak), limit, aligned
    )


def _peak(edges: list[list[int]], per_element: float) -> float:
    return math.prod(map(_longest, edges)) * per_element


def _dtype(source: Any, dtype: Any) -> np.dtype[Any]:
    if dtype is None:
        dtype = getattr(source, "dtype", None)
    if dtype is None:
        raise DataTypeError("a shape without dtype", needed="a dtype", todo="pass dtype='uint16'")
    try:
        kind: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        raise DataTypeError(f"dtype {dtype!r}", needed="a numpy dtype") from None
    if kind.hasobject or kind.itemsize == 0:
        raise DataTypeError(f"dtype {kind}", needed="a dtype of fixed size")
    return kind
