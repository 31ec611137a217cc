"""One pass over a scan: sums of patterns over patches of the scan, and what the values are like."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fairstem.compute import Reduction, parse_bytes, reduce, stream
from fairstem.compute.plans import Slices
from fairstem.compute.progress import track
from fairstem.diffraction._scan import Scan
from fairstem.errors import DataError

__all__ = ["Patches", "finished_patches", "grid_of", "merged", "patch_sums", "scan_shape_2d", "usable_pixels"]


@dataclass(frozen=True)
class Patches:
    """Sums of patterns over rectangular patches of the scan.

    Parameters
    ----------
    sums
        ``(patch_y, patch_x, k_y, k_x)`` sums; values that aren't finite count as 0.
    numbers
        ``(patch_y, patch_x)`` patterns in each patch.
    at
        ``(2, patch_y, patch_x)`` middle of each patch in scan positions.
    edges
        Where the patches begin along scan_y and scan_x, and the scan's length at the end.
    largest, smallest
        Extreme finite values.
    clipped
        Number of values at the largest number that the data type holds (integers; 0 for others).
    not_finite
        ``(k_y, k_x)`` number of values that aren't finite at each pixel.
    """

    sums: NDArray[np.float64]
    numbers: NDArray[np.int64]
    at: NDArray[np.float64]
    edges: tuple[NDArray[np.int64], NDArray[np.int64]]
    largest: float
    smallest: float
    clipped: int
    not_finite: NDArray[np.int64]

    @property
    def total(self) -> NDArray[np.float64]:
        """The sum over the whole scan, ``(k_y, k_x)``."""
        out: NDArray[np.float64] = self.sums.sum(axis=(0, 1))
        return out


@dataclass(frozen=True)
class _Part:
    """Partial result: sums by patch number."""

    sums: dict[int, NDArray[np.float64]]
    largest: float
    smallest: float
    clipped: int
    not_finite: NDArray[np.int64]


def scan_shape_2d(scan: Scan) -> tuple[int, int]:
    """Return (scan_y, scan_x); a line of patterns is one row, a single pattern 1 × 1."""
    shape = (1, 1, *scan.shape)[-2:]
    return int(shape[0]), int(shape[1])


def grid_of(scan: Scan, most: int, budget: int | float | str) -> tuple[int, int]:
    """Return the number of patches along scan_y and scan_x: nearly square ones, at most `most`.

    Their sums take at most half the budget.
    """
    pixels = 8 * math.prod(scan.detector)
    fits = max(int(parse_bytes(budget) / 2 // pixels), 1)
    rows, columns = scan_shape_2d(scan)
    number = min(most, fits)
    side = max(math.sqrt(rows * columns / number), 1.0)
    grid = [max(min(round(n / side), n), 1) for n in (rows, columns)]
    while grid[0] * grid[1] > number:
        grid[int(grid[1] > grid[0])] -= 1
    return grid[0], grid[1]


def patch_sums(scan: Scan, grid: tuple[int, int], budget: int | float | str = "256 MB") -> Patches:
    """Sum the patterns over a grid of patches in one pass.

    Parameters
    ----------
    scan
        The opened scan.
    grid
        Number of patches along scan_y and scan_x.
    budget
        Bytes for one block and the sums.

    Raises
    ------
    DataError
        The budget is smaller than one pattern and the sums.
    """
    shape = scan_shape_2d(scan)
    edges, numbers_of = _numbered(shape, grid)
    kept = 8 * math.prod(scan.detector) * math.prod(grid)
    plan = scan.plan(max(parse_bytes(budget) - kept, parse_bytes(budget) // 4), working=0.5)

    def chunk(block: NDArray[Any], at: Slices) -> _Part:
        where: tuple[slice, ...] = (slice(0, 1), slice(0, 1), *at[:-2])[-2:]
        return _sum_block(block, numbers_of[where].ravel())

    part = reduce(scan.array, Reduction("sums of patches", chunk, _join, lambda p: p), plan)
    sums = np.stack([part.sums[i] for i in range(math.prod(grid))]).reshape(*grid, *scan.detector)
    widths = [np.diff(e) for e in edges]
    middles = [(e[:-1] + e[1:] - 1) / 2 for e in edges]
    return Patches(
        sums,
        np.multiply.outer(widths[0], widths[1]),
        np.stack(np.meshgrid(middles[0], middles[1], indexing="ij")),
        (edges[0], edges[1]),
        part.largest,
        part.smallest,
        part.clipped,
        part.not_finite,
    )


def _numbered(
    shape: tuple[int, int], grid: tuple[int, int]
) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.int64]]:
    """Edges of the patches, and the number of the patch of every scan position."""
    edges = tuple(np.linspace(0, n, g + 1).round().astype(np.int64) for n, g in zip(shape, grid, strict=True))
    rows, columns = (np.repeat(np.arange(g), np.diff(e)) for g, e in zip(grid, edges, strict=True))
    return edges, rows[:, None] * grid[1] + columns[None, :]


def finished_patches(
    scan: Scan, grid: tuple[int, int], budget: int | float | str = "256 MB"
) -> Iterator[tuple[tuple[int, int], NDArray[np.float64], NDArray[np.float64]]]:
    """Sum the patterns of each patch and hand it over as soon as its last pattern was read.

    Yields
    ------
    tuple
        Row and column of the patch, its sum ``(k_y, k_x)``, and its middle (y, x) in scan positions.

    Notes
    -----
    Memory: one block of at most half the budget, and the patches that are begun but not finished.
    """
    shape = scan_shape_2d(scan)
    edges, numbers_of = _numbered(shape, grid)
    left = np.bincount(numbers_of.ravel(), minlength=math.prod(grid))
    begun: dict[int, NDArray[np.float64]] = {}
    plan = scan.plan(parse_bytes(budget) // 2, working=0.5)
    blocks = track(stream(scan.array, plan), total=plan.n_blocks, label="centres of patterns")
    for at, block in blocks:
        where: tuple[slice, ...] = (slice(0, 1), slice(0, 1), *at[:-2])[-2:]
        numbers = numbers_of[where].ravel()
        flat = block.reshape(len(numbers), *scan.detector)
        for number in np.unique(numbers):
            mine = np.flatnonzero(numbers == number)
            part = np.nan_to_num(flat[mine[0] : mine[-1] + 1][mine - mine[0]].sum(axis=0, dtype=np.float64))
            begun[number] = begun[number] + part if number in begun else part
            left[number] -= len(mine)
            if left[number] == 0:
                row, column = divmod(int(number), grid[1])
                middle = [(e[i] + e[i + 1] - 1) / 2 for e, i in zip(edges, (row, column), strict=True)]
                yield (row, column), begun.pop(number), np.array(middle)


def _sum_block(block: NDArray[Any], numbers: NDArray[np.int64]) -> _Part:
    detector = block.shape[-2:]
    flat = np.ascontiguousarray(block).reshape(len(numbers), -1)
    if flat.dtype.kind == "b":
        flat = flat.view(np.uint8)
    if not flat.dtype.isnative or flat.dtype == np.float16:
        flat = flat.astype(np.float64 if flat.dtype.kind == "f" else flat.dtype.newbyteorder("="))
    bad = np.zeros(flat.shape[1], dtype=np.int64)
    if flat.dtype.kind == "f":
        finite = np.isfinite(flat)
        if not finite.all():
            bad = (~finite).sum(axis=0)
            flat = np.where(finite, flat, 0)
    present, index = np.unique(numbers, return_inverse=True)
    sums = np.zeros((len(present), flat.shape[1]))
    _add_patterns(flat, index.astype(np.int64), sums)
    top = np.iinfo(flat.dtype).max if block.dtype.kind in "ui" else np.inf
    largest = float(flat.max())
    clipped = int(np.count_nonzero(flat == top)) if largest >= top else 0
    parts = {int(k): s.reshape(detector) for k, s in zip(present, sums, strict=True)}
    return _Part(parts, largest, float(flat.min()), clipped, bad.reshape(detector))


def _join(a: _Part, b: _Part) -> _Part:
    sums = dict(a.sums)
    for key, value in b.sums.items():
        sums[key] = sums[key] + value if key in sums else value
    return _Part(
        sums,
        max(a.largest, b.largest),
        min(a.smallest, b.smallest),
        a.clipped + b.clipped,
        a.not_finite + b.not_finite,
    )


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_patterns(flat: NDArray[Any], index: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
    for p in range(flat.shape[0]):
        row = sums[index[p]]
        pattern = flat[p]
        for k in range(pattern.size):
            row[k] += pattern[k]


def merged(patches: Patches, number: int) -> Patches:
    """Join neighbouring patches until at most `number` are left, as square as the scan allows."""
    while patches.numbers.size > number:
        widths = [len(e) - 1 for e in patches.edges]
        axis = int(widths[1] > widths[0])
        starts = np.arange(0, widths[axis], 2)
        edges = list(patches.edges)
        edges[axis] = np.append(edges[axis][starts], edges[axis][-1])
        middles = [(e[:-1] + e[1:] - 1) / 2 for e in edges]
        patches = replace(
            patches,
            sums=np.add.reduceat(patches.sums, starts, axis=axis),
            numbers=np.add.reduceat(patches.numbers, starts, axis=axis),
            at=np.stack(np.meshgrid(middles[0], middles[1], indexing="ij")),
            edges=(edges[0], edges[1]),
        )
    return patches


def usable_pixels(
    patches: Patches, detector: tuple[int, int], mask: Any, name: str
) -> tuple[NDArray[np.bool_], int]:
    """Return the pixels that may be used ``(k_y, k_x)`` and how many hold values that aren't finite.

    Raises
    ------
    DataError
        The mask has another shape or leaves nothing; no value is positive; all are the same; or more than a
        twentieth of the pixels hold values that aren't finite.
    """
    usable = np.ones(detector, dtype=bool)
    if mask is not None:
        given = np.asarray(mask)
        if given.shape != detector or given.dtype != bool:
            raise DataError(
                f"mask of shape {given.shape} and dtype {given.dtype}",
                needed=f"booleans {detector}, True where the detector can be used",
            )
        usable &= given
    broken = patches.not_finite > 0
    number = int(np.count_nonzero(broken & usable))
    if number > 0.05 * usable.size:
        raise DataError(
            f"{name} has values that aren't finite (NaN or infinite) at {number} of {usable.size} pixels",
            needed="finite values at 95 % of the detector",
            todo="pass mask= without these pixels, or replace the values, such as numpy.nan_to_num(scan)",
        )
    usable &= ~broken
    if np.count_nonzero(usable) < 16:
        raise DataError(
            f"a mask that leaves {np.count_nonzero(usable)} pixels of {name}", needed="at least 16"
        )
    total = patches.total[usable]
    if not total.max() > 0:
        raise DataError(
            f"{name} holds no electrons: its largest value is {patches.largest:g}",
            needed="patterns with a bright-field disc",
            todo="check the file and the mask",
        )
    if np.ptp(total) == 0:
        what = "saturated" if patches.clipped else "constant"
        raise DataError(
            f"{name} is {what}: every value is {patches.largest:g}", needed="patterns with a disc"
        )
    return usable, number
