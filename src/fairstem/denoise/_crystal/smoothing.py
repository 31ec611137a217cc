"""Local-linear smoothing of two coupled fields on a grid of boxes, each box with its own information."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["smooth"]

Floats = NDArray[np.float64]
_REACH = 3.0  # widths at which a kernel ends
_RIDGE = 1e-6  # of the information: what keeps a box without neighbours solvable
_SLOPE = 1e-3  # of the information: slopes that nothing determines are zero


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _cholesky(matrix: Floats, factor: Floats, n: int) -> None:
    for i in range(n):
        for j in range(i + 1):
            value = matrix[i, j]
            for k in range(j):
                value -= factor[i, k] * factor[j, k]
            if i == j:
                factor[i, i] = math.sqrt(max(value, 1e-300))
            else:
                factor[i, j] = value / factor[j, j]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _backward(factor: Floats, vector: Floats, n: int) -> None:
    for i in range(n):
        value = vector[i]
        for k in range(i):
            value -= factor[i, k] * vector[k]
        vector[i] = value / factor[i, i]
    for i in range(n - 1, -1, -1):
        value = vector[i]
        for k in range(i + 1, n):
            value -= factor[k, i] * vector[k]
        vector[i] = value / factor[i, i]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _moments(
    n: int, data: Floats, size: tuple[int, int], widths: tuple[float, float], field: Floats,
    vectors: Floats, inverse: Floats, wrapped: bool, matrix: Floats, right: Floats, scale: Floats,
) -> None:  # fmt: skip
    """Normal equations of a local plane at box n, for the change from the present field there."""
    by, bx = size
    wy, wx = widths
    y, x = n // bx, n % bx
    cut_y = by if math.isinf(wy) else math.ceil(_REACH * wy)
    cut_x = bx if math.isinf(wx) else math.ceil(_REACH * wx)
    matrix[:], right[:] = 0.0, 0.0
    p = np.empty(3)
    p[0] = 1.0
    for i in range(max(0, y - cut_y), min(by, y + cut_y + 1)):
        ky = 1.0 if math.isinf(wy) else math.exp(-0.5 * ((i - y) / wy) ** 2)
        p[1] = (i - y) / scale[0]
        for j in range(max(0, x - cut_x), min(bx, x + cut_x + 1)):
            m = i * bx + j
            f0, f1, f2 = data[m, 2], data[m, 3], data[m, 4]
            if f0 + f2 == 0.0:
                continue
            w = ky if math.isinf(wx) else ky * math.exp(-0.5 * ((j - x) / wx) ** 2)
            p[2] = (j - x) / scale[1]
            d0, d1 = field[m, 0] - field[n, 0], field[m, 1] - field[n, 1]
            if wrapped:
                c0 = np.rint(d0 * inverse[0, 0] + d1 * inverse[1, 0])
                c1 = np.rint(d0 * inverse[0, 1] + d1 * inverse[1, 1])
                d0 -= c0 * vectors[0, 0] + c1 * vectors[1, 0]
                d1 -= c0 * vectors[0, 1] + c1 * vectors[1, 1]
            h0 = w * (data[m, 0] + f0 * d0 + f1 * d1)
            h1 = w * (data[m, 1] + f1 * d0 + f2 * d1)
            for a in range(3):
                right[2 * a] += h0 * p[a]
                right[2 * a + 1] += h1 * p[a]
                for b in range(a + 1):
                    q = w * p[a] * p[b]
                    matrix[2 * a, 2 * b] += q * f0
                    matrix[2 * a + 1, 2 * b] += q * f1
                    matrix[2 * a, 2 * b + 1] += q * f1
                    matrix[2 * a + 1, 2 * b + 1] += q * f2


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def smooth(
    data: Floats, size: tuple[int, int], widths: tuple[float, float], plane: bool,
    field: Floats, vectors: Floats, inverse: Floats, wrapped: bool,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """Smooth the change that `data` ask for, box by box.

    Parameters
    ----------
    data
        ``(n, 5)``: score (2) and information (00, 01, 11) of each box at the present field.
    size
        Boxes along y and x, ``n = by * bx``.
    widths
        Gaussian widths of the kernel along y and x in boxes; may be infinite.
    plane
        Local planes; else local constants.
    field
        ``(n, 2)``: the present field.
    vectors, inverse, wrapped
        With `wrapped`, boxes are compared modulo the lattice vectors.

    Returns
    -------
    field, covariance, loss
        ``(n, 2)`` new field; ``(n, 3)`` its covariance (00, 01, 11) in units of the kernel's equivalent; ``(n,)``
        loss of predicting each box from the others: minus twice its log-likelihood.

    Notes
    -----
    Cost: ``O(n · boxes within the kernel)``.
    """
    n = data.shape[0]
    value, covariance, loss = np.empty((n, 2)), np.empty((n, 3)), np.zeros(n)
    matrix, factor, right, unit = np.zeros((6, 6)), np.zeros((6, 6)), np.zeros(6), np.zeros(6)
    held = np.zeros((6, 6))
    terms = 6 if plane else 2
    scale = np.empty(2)
    scale[0], scale[1] = min(widths[0], float(size[0])), min(widths[1], float(size[1]))
    mean = 0.0
    for m in range(n):
        mean += (data[m, 2] + data[m, 4]) / n
    for m in range(n):
        _moments(m, data, size, widths, field, vectors, inverse, wrapped, matrix, right, scale)
        for out in range(2):
            # first without the box itself (a prediction), then with it
            for a in range(terms):
                for b in range(a + 1):
                    held[a, b] = matrix[a, b]
                unit[a] = right[a]
            if out == 0:
                held[0, 0] -= data[m, 2]
                held[1, 0] -= data[m, 3]
                held[1, 1] -= data[m, 4]
                unit[0] -= data[m, 0]
                unit[1] -= data[m, 1]
            ridge = _RIDGE * (mean + held[0, 0] + held[1, 1])
            for a in range(terms):
                held[a, a] += ridge if a < 2 else ridge + _SLOPE * (held[0, 0] + held[1, 1])
            _cholesky(held, factor, terms)
            _backward(factor, unit, terms)
            if out == 0:
                d0, d1 = unit[0], unit[1]
                loss[m] = data[m, 2] * d0 * d0 + 2 * data[m, 3] * d0 * d1 + data[m, 4] * d1 * d1
                loss[m] -= 2 * (data[m, 0] * d0 + data[m, 1] * d1)
            else:
                value[m, 0], value[m, 1] = field[m, 0] + unit[0], field[m, 1] + unit[1]
        for c in range(2):
            unit[:] = 0.0
            unit[c] = 1.0
            _backward(factor, unit, terms)
            if c == 0:
                covariance[m, 0], covariance[m, 1] = unit[0], unit[1]
            else:
                covariance[m, 2] = unit[1]
    return value, covariance, loss
