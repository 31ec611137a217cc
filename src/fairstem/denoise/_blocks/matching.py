"""Blocks that look alike: the search for groups, on an estimate and not on the counts.

Matching noisy blocks by their distance matches their noise. The guide is therefore an estimate (the pilot),
stabilised so that equal differences are equally significant.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "GROUP", "match_local", "match_periodic", "reference_blocks"]

BLOCK = 8  # side of a block, px
GROUP = 16  # most blocks in a group

Floats32 = NDArray[np.float32]
Indices = NDArray[np.int32]


def reference_blocks(shape: tuple[int, int], step: int, where: NDArray[np.bool_] | None) -> Indices:
    """Return the corners (y, x) of the blocks to filter: every `step` px, the last ones at the border.

    Only blocks that touch `where` are kept.
    """
    corners = [np.append(np.arange(0, n - BLOCK, step), n - BLOCK) for n in shape]
    grid = np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.int32)
    if where is None:
        return grid
    total = np.zeros((shape[0] + 1, shape[1] + 1), np.int64)
    total[1:, 1:] = where.cumsum(0).cumsum(1)
    y, x = grid.T
    inside = total[y + BLOCK, x + BLOCK] - total[y, x + BLOCK] - total[y + BLOCK, x] + total[y, x]
    return grid[inside > 0]


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _distance(guide: Floats32, y0: int, x0: int, y1: int, x1: int, bound: np.float32) -> np.float32:
    """Sum of squared differences on every second pixel of both axes; the guide is smooth."""
    total = np.float32(0.0)
    for dy in range(0, BLOCK, 2):
        for dx in range(0, BLOCK, 2):
            d = guide[y0 + dy, x0 + dx] - guide[y1 + dy, x1 + dx]
            total += d * d
        if total >= bound:
            break
    return total


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _insert(d: np.float32, y: int, x: int, best: Floats32, group: Indices, size: int) -> int:
    """Put a candidate into the sorted list of the best; return the new length."""
    i = min(size, GROUP - 1)
    while i > 0 and best[i - 1] > d:
        best[i] = best[i - 1]
        group[i, 0], group[i, 1] = group[i - 1, 0], group[i - 1, 1]
        i -= 1
    best[i] = d
    group[i, 0], group[i, 1] = y, x
    return min(size + 1, GROUP)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _power_of_two(n: int) -> int:
    size = 1
    while 2 * size <= n:
        size *= 2
    return size


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def match_local(
    guide: Floats32, corners: Indices, radius: int, step: int, limit: float, groups: Indices, sizes: Indices
) -> None:
    """Fill `groups` (n, GROUP, 2) with the blocks nearest to each reference block, itself first.

    Candidates lie every `step` px within `radius` of it; `limit` is the largest distance (sum over a
    quarter of the block's pixels). `sizes` are powers of two, as the transform along the group needs.
    """
    ny, nx = guide.shape
    best = np.empty(GROUP, np.float32)
    limit32 = np.float32(limit)
    for r in range(len(corners)):
        y0, x0 = corners[r, 0], corners[r, 1]
        best[0] = np.float32(-1.0)
        groups[r, 0, 0], groups[r, 0, 1] = y0, x0
        size = 1
        for y in range(y0 - (min(radius, y0) // step) * step, min(y0 + radius, ny - BLOCK) + 1, step):
            for x in range(x0 - (min(radius, x0) // step) * step, min(x0 + radius, nx - BLOCK) + 1, step):
                if y == y0 and x == x0:
                    continue
                bound = best[GROUP - 1] if size == GROUP else limit32
                d = _distance(guide, y0, x0, y, x, bound)
                if d < bound:
                    size = _insert(d, y, x, best, groups[r], size)
        sizes[r] = _power_of_two(size)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _best_near(
    guide: Floats32, y0: int, x0: int, cy: int, cx: int, window: int
) -> tuple[np.float32, int, int]:
    """Return the distance and corner of the block around (cy, cx) nearest to that at (y0, x0); -1: outside."""
    ny, nx = guide.shape
    best, by, bx = np.float32(np.inf), -1, -1
    for y in range(max(cy - window, 0), min(cy + window, ny - BLOCK) + 1):
        for x in range(max(cx - window, 0), min(cx + window, nx - BLOCK) + 1):
            d = _distance(guide, y0, x0, y, x, best)
            if d < best:
                best, by, bx = d, y, x
    return best, by, bx


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def match_periodic(
    guide: Floats32, corners: Indices, vectors: NDArray[np.float64], reach: int, window: int,
    groups: Indices, sizes: Indices,
) -> None:  # fmt: skip
    """Fill `groups` as `match_local` does, from the block's translations by up to `reach` lattice vectors.

    Each translation is looked for within `window` px of where the one before it, a cell nearer to the
    reference, was found: strain and drift are followed.
    """
    side = 2 * reach + 1
    offset = np.zeros((side, side, 2))
    best = np.empty(GROUP, np.float32)
    for r in range(len(corners)):
        y0, x0 = corners[r, 0], corners[r, 1]
        best[0] = np.float32(-1.0)
        groups[r, 0, 0], groups[r, 0, 1] = y0, x0
        size = 1
        offset[reach, reach] = 0.0
        for ring in range(1, reach + 1):
            for i in range(-ring, ring + 1):
                for j in range(-ring, ring + 1):
                    if max(abs(i), abs(j)) != ring:
                        continue
                    # one cell nearer: each index one step towards 0 where it is on the ring
                    ni = i - (1 if i == ring else -1 if i == -ring else 0)
                    nj = j - (1 if j == ring else -1 if j == -ring else 0)
                    oy, ox = offset[reach + ni, reach + nj]
                    ty = i * vectors[0, 0] + j * vectors[1, 0]
                    tx = i * vectors[0, 1] + j * vectors[1, 1]
                    d, y, x = _best_near(
                        guide, y0, x0, int(np.rint(y0 + ty + oy)), int(np.rint(x0 + tx + ox)), window
                    )
                    offset[reach + i, reach + j, 0] = oy if y < 0 else y - y0 - ty
                    offset[reach + i, reach + j, 1] = ox if y < 0 else x - x0 - tx
                    if y >= 0 and (size < GROUP or d < best[GROUP - 1]):
                        size = _insert(d, y, x, best, groups[r], size)
        sizes[r] = _power_of_two(size)
