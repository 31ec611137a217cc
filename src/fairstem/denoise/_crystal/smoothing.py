"""Local-polynomial smoothing of two coupled fields on a grid of boxes, each box with its own information."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["smooth"]

Floats = NDArray[np.float64]
_REACH = 3.0  # widths at which a kernel ends
_RIDGE = 1e-6  # of the information: what keeps a box without neighbours solvable
_BEYOND = 0.5  # squared distance from a box to its data, in widths, from where on it is beyond them
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


# terms of a local polynomial as powers of (y, x), and all powers that their products have
_TERMS = np.array([(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)])
_PRODUCTS = np.array([(p, q) for p in range(5) for q in range(5 - p)])
_WHERE = np.array([[5 * p - p * (p - 1) // 2 + q if p + q < 5 else -1 for q in range(5)] for p in range(5)])


def _separable(
    data: Floats, size: tuple[int, int], widths: tuple[float, float], field: Floats, scale: Floats
) -> tuple[Floats, Floats]:
    """Moments around every box: the kernel is a product of one along y and one along x."""
    by, bx = size
    information = data[:, 2:].reshape(by, bx, 3)
    h = np.empty((by * bx, 2))
    h[:, 0] = data[:, 0] + data[:, 2] * field[:, 0] + data[:, 3] * field[:, 1]
    h[:, 1] = data[:, 1] + data[:, 3] * field[:, 0] + data[:, 4] * field[:, 1]
    both = np.concatenate([information, h.reshape(by, bx, 2)], axis=2)
    along = [_powers(n, w, s) for n, w, s in zip(size, widths, scale, strict=True)]
    across = [np.matmul(kernel, both) for kernel in along[1]]
    moments, right = np.empty((by * bx, 15, 3)), np.empty((by * bx, 6, 2))
    for c, (p, q) in enumerate(_PRODUCTS):
        moments[:, c] = np.tensordot(along[0][p], across[q][..., :3], (1, 0)).reshape(-1, 3)
    for c, (p, q) in enumerate(_TERMS):
        right[:, c] = np.tensordot(along[0][p], across[q][..., 3:], (1, 0)).reshape(-1, 2)
    # from the field itself to its change at each box
    first = moments[:, _WHERE[_TERMS[:, 0], _TERMS[:, 1]]]
    right[..., 0] -= first[..., 0] * field[:, None, 0] + first[..., 1] * field[:, None, 1]
    right[..., 1] -= first[..., 1] * field[:, None, 0] + first[..., 2] * field[:, None, 1]
    return moments, right


def _powers(n: int, width: float, scale: float) -> list[Floats]:
    away = np.arange(n)[None] - np.arange(n)[:, None]
    kernel = np.exp(-0.5 * (away / width) ** 2)
    kernel[np.abs(away) > _REACH * width] = 0.0
    return [kernel * (away / scale) ** p for p in range(5)]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _modulo(
    data: Floats, size: tuple[int, int], widths: tuple[float, float], field: Floats, scale: Floats,
    vectors: Floats, inverse: Floats,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Moments around every box, each neighbour the lattice vectors away that bring it nearest."""
    by, bx = size
    wy, wx = widths
    moments, right = np.zeros((by * bx, 15, 3)), np.zeros((by * bx, 6, 2))
    cut_y = by if math.isinf(wy) else math.ceil(_REACH * wy)
    cut_x = bx if math.isinf(wx) else math.ceil(_REACH * wx)
    py, px = np.ones(5), np.ones(5)
    for n in range(by * bx):
        y, x = n // bx, n % bx
        for i in range(max(0, y - cut_y), min(by, y + cut_y + 1)):
            for c in range(1, 5):
                py[c] = py[c - 1] * (i - y) / scale[0]
            for j in range(max(0, x - cut_x), min(bx, x + cut_x + 1)):
                m = i * bx + j
                f0, f1, f2 = data[m, 2], data[m, 3], data[m, 4]
                if f0 + f2 == 0.0:
                    continue
                w = math.exp(-0.5 * (((i - y) / wy) ** 2 + ((j - x) / wx) ** 2))
                for c in range(1, 5):
                    px[c] = px[c - 1] * (j - x) / scale[1]
                d0, d1 = field[m, 0] - field[n, 0], field[m, 1] - field[n, 1]
                c0 = np.rint(d0 * inverse[0, 0] + d1 * inverse[1, 0])
                c1 = np.rint(d0 * inverse[0, 1] + d1 * inverse[1, 1])
                d0 -= c0 * vectors[0, 0] + c1 * vectors[1, 0]
                d1 -= c0 * vectors[0, 1] + c1 * vectors[1, 1]
                h0 = w * (data[m, 0] + f0 * d0 + f1 * d1)
                h1 = w * (data[m, 1] + f1 * d0 + f2 * d1)
                for c in range(15):
                    q = w * py[_PRODUCTS[c, 0]] * px[_PRODUCTS[c, 1]]
                    moments[n, c, 0] += q * f0
                    moments[n, c, 1] += q * f1
                    moments[n, c, 2] += q * f2
                for c in range(6):
                    q = py[_TERMS[c, 0]] * px[_TERMS[c, 1]]
                    right[n, c, 0] += h0 * q
                    right[n, c, 1] += h1 * q
    return moments, right


def smooth(
    data: Floats, size: tuple[int, int], widths: tuple[float, float], order: int,
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
    order
        Of the local polynomial: 0 constant, 1 plane, 2 quadratic.
    field
        ``(n, 2)``: the present field.
    vectors, inverse, wrapped
        With `wrapped`, boxes are compared modulo the lattice vectors.

    Returns
    -------
    field, covariance, loss
        ``(n, 2)`` new field; ``(n, 3)`` inverse information (00, 01, 11) within the kernel; ``(n,)``
        loss of predicting each box from the others: minus twice its log-likelihood.

    Notes
    -----
    Cost: ``O(n (by + bx))``; wrapped, ``O(n · boxes within the kernel)``.
    """
    scale = np.array([min(w, float(n)) for w, n in zip(widths, size, strict=True)])
    if wrapped:
        moments, right = _modulo(data, size, widths, field, scale, vectors, inverse)
    else:
        moments, right = _separable(data, size, widths, field, scale)
    change, covariance, loss = _solved(data, moments, right, order)
    return field + change, covariance, loss


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _solved(data: Floats, moments: Floats, right: Floats, order: int) -> tuple[Floats, Floats, Floats]:
    """Solve every box's equations: without the box itself (a prediction, its loss), and with it."""
    n = data.shape[0]
    change, covariance, loss = np.empty((n, 2)), np.empty((n, 3)), np.empty(n)
    held, factor, unit = np.zeros((12, 12)), np.zeros((12, 12)), np.zeros(12)
    basis = (order + 1) * (order + 2) // 2
    terms = 2 * basis
    mean = 0.0
    for m in range(n):
        mean += (data[m, 2] + data[m, 4]) / n
    for m in range(n):
        for out in range(2):
            own = 1.0 if out == 0 else 0.0
            for a in range(basis):
                unit[2 * a], unit[2 * a + 1] = right[m, a, 0], right[m, a, 1]
                for b in range(a + 1):
                    c = _WHERE[_TERMS[a, 0] + _TERMS[b, 0], _TERMS[a, 1] + _TERMS[b, 1]]
                    held[2 * a, 2 * b] = moments[m, c, 0]
                    held[2 * a + 1, 2 * b] = held[2 * a, 2 * b + 1] = moments[m, c, 1]
                    held[2 * a + 1, 2 * b + 1] = moments[m, c, 2]
            held[0, 0] -= own * data[m, 2]
            held[1, 0] -= own * data[m, 3]
            held[1, 1] -= own * data[m, 4]
            unit[0] -= own * data[m, 0]
            unit[1] -= own * data[m, 1]
            inside = held[0, 0] + held[1, 1]
            # beyond the data a polynomial is levelled the more, the farther the data are
            away = (held[2, 0] + held[3, 1]) ** 2 + (held[4, 0] + held[5, 1]) ** 2
            far = max(0.0, away / max(inside * inside, 1e-300) - _BEYOND) if order > 0 else 0.0
            for a in range(terms):
                held[a, a] += _RIDGE * (mean + inside) + (0.0 if a < 2 else (_SLOPE + far) * inside)
            _cholesky(held, factor, terms)
            _backward(factor, unit, terms)
            d0, d1 = unit[0], unit[1]
            if out == 0:
                loss[m] = data[m, 2] * d0 * d0 + 2 * data[m, 3] * d0 * d1 + data[m, 4] * d1 * d1
                loss[m] -= 2 * (data[m, 0] * d0 + data[m, 1] * d1)
            else:
                change[m, 0], change[m, 1] = d0, d1
        for c in range(2):
            unit[:] = 0.0
            unit[c] = 1.0
            _backward(factor, unit, terms)
            covariance[m, 2 * c], covariance[m, 1] = unit[c], unit[1 - c]
    return change, covariance, loss
