"""Fast transforms of a group of blocks: 8-point cosine transforms and a Haar transform along the group.

A group is one flat array, in one of two layouts, so that every inner loop runs over neighbours in memory:
``rows``: [y, member, x], and ``columns``: [x, y, member].
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from fairstem.denoise._blocks.matching import BLOCK, GROUP

__all__ = ["cosine", "cosine_back", "haar", "haar_back", "overlap_table", "to_columns", "to_rows"]

Floats32 = NDArray[np.float32]

LINE = BLOCK * GROUP  # numbers between one transformed index and the next
_MEAN = np.float32(1 / np.sqrt(8))
_ROOT_HALF = np.float32(np.sqrt(0.5))
_C1, _C2, _C3, _C5, _C6, _C7 = (np.float32(0.5 * np.cos(j * np.pi / 16)) for j in (1, 2, 3, 5, 6, 7))


def overlap_table() -> Floats32:
    """Return R[d, u]: the covariance of coefficient u of two blocks `d` px apart, for white noise of unit variance."""
    u, y = np.meshgrid(np.arange(BLOCK), np.arange(BLOCK), indexing="ij")
    matrix = np.sqrt(2.0 / BLOCK) * np.cos(np.pi * u * (2 * y + 1) / (2 * BLOCK))
    matrix[0] = np.sqrt(1.0 / BLOCK)
    table = np.zeros((BLOCK, BLOCK), np.float32)
    for d in range(BLOCK):
        table[d] = (matrix[:, d:] * matrix[:, : BLOCK - d]).sum(1)
    return table


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def cosine(a: Floats32) -> None:
    """Orthonormal DCT-II along the first index of either layout, in place."""
    for q in range(LINE):
        s0, d0 = a[q] + a[q + 7 * LINE], a[q] - a[q + 7 * LINE]
        s1, d1 = a[q + LINE] + a[q + 6 * LINE], a[q + LINE] - a[q + 6 * LINE]
        s2, d2 = a[q + 2 * LINE] + a[q + 5 * LINE], a[q + 2 * LINE] - a[q + 5 * LINE]
        s3, d3 = a[q + 3 * LINE] + a[q + 4 * LINE], a[q + 3 * LINE] - a[q + 4 * LINE]
        p0, p1, m0, m1 = s0 + s3, s1 + s2, s0 - s3, s1 - s2
        a[q] = _MEAN * (p0 + p1)
        a[q + 4 * LINE] = _MEAN * (p0 - p1)
        a[q + 2 * LINE] = _C2 * m0 + _C6 * m1
        a[q + 6 * LINE] = _C6 * m0 - _C2 * m1
        a[q + LINE] = _C1 * d0 + _C3 * d1 + _C5 * d2 + _C7 * d3
        a[q + 3 * LINE] = _C3 * d0 - _C7 * d1 - _C1 * d2 - _C5 * d3
        a[q + 5 * LINE] = _C5 * d0 - _C1 * d1 + _C7 * d2 + _C3 * d3
        a[q + 7 * LINE] = _C7 * d0 - _C5 * d1 + _C3 * d2 - _C1 * d3


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def cosine_back(a: Floats32) -> None:
    """Undo `cosine`."""
    for q in range(LINE):
        p, m = _MEAN * (a[q] + a[q + 4 * LINE]), _MEAN * (a[q] - a[q + 4 * LINE])
        r = _C2 * a[q + 2 * LINE] + _C6 * a[q + 6 * LINE]
        t = _C6 * a[q + 2 * LINE] - _C2 * a[q + 6 * LINE]
        e0, e1, e2, e3 = p + r, m + t, m - t, p - r
        b1, b3, b5, b7 = a[q + LINE], a[q + 3 * LINE], a[q + 5 * LINE], a[q + 7 * LINE]
        o0 = _C1 * b1 + _C3 * b3 + _C5 * b5 + _C7 * b7
        o1 = _C3 * b1 - _C7 * b3 - _C1 * b5 - _C5 * b7
        o2 = _C5 * b1 - _C1 * b3 + _C7 * b5 + _C3 * b7
        o3 = _C7 * b1 - _C5 * b3 + _C3 * b5 - _C1 * b7
        a[q], a[q + 7 * LINE] = e0 + o0, e0 - o0
        a[q + LINE], a[q + 6 * LINE] = e1 + o1, e1 - o1
        a[q + 2 * LINE], a[q + 5 * LINE] = e2 + o2, e2 - o2
        a[q + 3 * LINE], a[q + 4 * LINE] = e3 + o3, e3 - o3


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def haar(a: Floats32, size: int, scratch: Floats32) -> None:
    """Haar transform along the first `size` members of the layout ``rows``; the mean comes first."""
    for y in range(BLOCK):
        line = a[y * LINE : (y + 1) * LINE]
        n = size
        while n > 1:
            half = n // 2
            for i in range(half):
                for x in range(BLOCK):
                    p, q = line[2 * i * BLOCK + x], line[(2 * i + 1) * BLOCK + x]
                    scratch[i * BLOCK + x] = (p + q) * _ROOT_HALF
                    scratch[(half + i) * BLOCK + x] = (p - q) * _ROOT_HALF
            for i in range(n * BLOCK):
                line[i] = scratch[i]
            n = half


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def haar_back(a: Floats32, size: int, scratch: Floats32) -> None:
    """Undo `haar`."""
    for y in range(BLOCK):
        line = a[y * LINE : (y + 1) * LINE]
        n = 2
        while n <= size:
            half = n // 2
            for i in range(half):
                for x in range(BLOCK):
                    p, q = line[i * BLOCK + x], line[(half + i) * BLOCK + x]
                    scratch[2 * i * BLOCK + x] = (p + q) * _ROOT_HALF
                    scratch[(2 * i + 1) * BLOCK + x] = (p - q) * _ROOT_HALF
            for i in range(n * BLOCK):
                line[i] = scratch[i]
            n *= 2


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def to_columns(rows: Floats32, columns: Floats32) -> None:
    """Copy [y, member, x] to [x, y, member]."""
    for q in range(LINE):
        for x in range(BLOCK):
            columns[x * LINE + q] = rows[q * BLOCK + x]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def to_rows(columns: Floats32, rows: Floats32) -> None:
    """Copy [x, y, member] to [y, member, x]."""
    for q in range(LINE):
        for x in range(BLOCK):
            rows[q * BLOCK + x] = columns[x * LINE + q]
