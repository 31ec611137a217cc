"""One cell's image as a Fourier series, fitted to all cells of an image at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.sparse.linalg import LinearOperator, cg

from fairstem.errors import DataError

__all__ = ["Template", "fit_template", "table_shape"]

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]
_BAND = 0.45  # cycles/px: what pixels can tell apart, with a margin to the Nyquist frequency
_KEEP = 2.0  # an order is kept when its expected power is this many variances
_RING = 2.0  # parts of the ring in an order's expected power, beside one part of its own
_DENSE = 400  # unknowns up to which the normal equations are inverted


@dataclass(frozen=True)
class Template:
    """Fourier series of one cell's image.

    Parameters
    ----------
    orders
        ``(n, 2)`` integer orders, each with its negative; (0, 0) is the first.
    coefficients
        ``(n,)``: the image is the sum of ``c exp(2 pi i h.s)``.
    variance
        Mean variance of the image over the cell (for weights ``1 / T``).
    spread
        Spline coefficients of that variance over the cell.
    freedom
        Number of parameters, each as much as it was kept.
    table
        Cubic spline coefficients of the image on a grid of the cell.
    """

    orders: NDArray[np.int64]
    coefficients: Complex
    variance: float
    freedom: float
    table: Floats
    spread: Floats


def table_shape(vectors: Floats) -> tuple[int, int]:
    """Return the grid of a cell: three nodes a pixel keep the gridding error below 0.1 %."""
    lengths = np.hypot(vectors[:, 0], vectors[:, 1])
    n1, n2 = (scipy.fft.next_fast_len(max(16, math.ceil(3 * length))) for length in lengths)
    return n1, n2


def fit_template(sums: Floats, vectors: Floats, previous: Template | None = None) -> Template:
    """Fit the series by weighted least squares, from the folded weights and weighted values.

    Prior: every cell shows the same image, whose power falls with the length of the order. The
    expected power of an order is two parts that of its ring and one part its own; orders that are
    expected below twice their variance are zero, the others are shrunk towards zero by it.

    Parameters
    ----------
    sums
        ``(2, n1, n2)`` of `kernels.fold`: weights ``w a² / T``, values ``w a (k - b) / T``.
    vectors
        Cell vectors in px.
    previous
        Template of an earlier round, which says the orders to solve for jointly. None: the orders
        are found as if the weights were uniform.

    Notes
    -----
    Cost: an FFT of the table plus ``O(orders³)`` up to 400 orders, 100 FFTs of the table above.
    """
    weights, values = (_spectrum(s) for s in sums)
    every = _orders(vectors, (sums.shape[1], sums.shape[2]))
    total = float(weights[0, 0].real)
    if not total > 0:
        raise DataError(
            "no pixel has weight", needed="a region with pixels", todo="check weight and excluded"
        )
    if previous is None:
        mean = values[0, 0] / total
        coefficients = (_take(values, every) - mean * _take(weights, every)) / total
        variance = np.full(len(every), 1.0 / total)
        coefficients[0] = mean
    else:
        coefficients, variance = _joint(weights, values, every, previous.orders)
    power = _expected_power(every, coefficients, variance, vectors)
    keep = power > _KEEP * variance
    keep[0] = True
    orders, power = every[keep], power[keep]
    power[0] = 1e12 * (1.0 + abs(coefficients[0]) ** 2)
    solved, variance, freedom, spread = _solve(weights, values, orders, 1.0 / power)
    shape = (sums.shape[1], sums.shape[2])
    table = _table(orders, solved, shape)
    return Template(orders, solved, float(variance.sum()), freedom, table, _divided(spread))


def _joint(
    weights: Complex, values: Complex, every: NDArray[np.int64], known: NDArray[np.int64]
) -> tuple[Complex, Floats]:
    """Coefficients and variances of all orders: `known` jointly, others from what those leave."""
    shape, total = weights.shape, float(weights[0, 0].real)
    solved, spread, _, _ = _solve(weights, values, known, np.full(len(known), 1e-9 * total))
    grid = np.zeros(shape, dtype=np.complex128)
    grid[known[:, 0], known[:, 1]] = solved
    fitted = scipy.fft.fft2(scipy.fft.ifft2(grid) * scipy.fft.ifft2(weights)) * (shape[0] * shape[1])
    coefficients = _take((values - fitted) / total, every)
    variance = np.full(len(every), 1.0 / total)
    place = np.full(shape, -1)
    place[known[:, 0], known[:, 1]] = np.arange(len(known))
    where = place[every[:, 0], every[:, 1]]
    coefficients[where >= 0] = solved[where[where >= 0]]
    variance[where >= 0] = spread[where[where >= 0]]
    return coefficients, variance


def _expected_power(
    orders: NDArray[np.int64], coefficients: Complex, variance: Floats, vectors: Floats
) -> Floats:
    """Power that each order is expected to have beyond its noise: its ring's and its own."""
    length = np.hypot(*(orders @ np.linalg.inv(vectors).T).T)
    excess = np.abs(coefficients) ** 2 - variance
    step = 0.125 / math.sqrt(abs(float(np.linalg.det(vectors))))
    bins = np.rint(length / step).astype(np.int64)
    use = bins > 0
    number = np.bincount(bins[use], minlength=int(bins.max()) + 1).astype(np.float64)
    summed = np.bincount(bins[use], excess[use], minlength=len(number))
    # rings half a reciprocal cell wide
    ring = gaussian_filter1d(summed, 4.0, mode="constant") / np.maximum(
        gaussian_filter1d(number, 4.0, mode="constant"), 1e-300
    )
    return np.asarray((_RING * np.maximum(ring[bins], 0) + np.maximum(excess, 0)) / (_RING + 1))


def _spline(n: int) -> Floats:
    """Fourier transform of the cubic B-spline on n nodes a period, without its aliases, at fft's orders."""
    return np.asarray(np.sinc(scipy.fft.fftfreq(n)) ** 4)


def _spectrum(table: Floats) -> Complex:
    """Sums of ``value exp(-2 pi i h.s)`` over all pixels, from their splat."""
    n1, n2 = table.shape
    return np.asarray(scipy.fft.fft2(table) / (_spline(n1)[:, None] * _spline(n2)))


def _orders(vectors: Floats, shape: tuple[int, int]) -> NDArray[np.int64]:
    """All orders within the band of the pixels, (0, 0) first."""
    lengths = np.hypot(vectors[:, 0], vectors[:, 1])
    top = [min(math.floor(_BAND * length), (n - 1) // 4) for length, n in zip(lengths, shape, strict=True)]
    h, k = np.meshgrid(*(np.arange(-t, t + 1) for t in top), indexing="ij")
    orders = np.stack([h.ravel(), k.ravel()], axis=1)
    g = orders @ np.linalg.inv(vectors).T
    length = np.hypot(g[:, 0], g[:, 1])
    inside = length < _BAND
    return np.asarray(orders[inside][np.argsort(length[inside], kind="stable")], dtype=np.int64)


def _take(spectrum: Complex, orders: NDArray[np.int64]) -> Complex:
    return np.asarray(spectrum[orders[..., 0], orders[..., 1]])


def _solve(
    weights: Complex, values: Complex, orders: NDArray[np.int64], ridge: Floats
) -> tuple[Complex, Floats, float, Complex]:
    """Solve ``sum_k W(h - k) c_k + ridge c_h = V(h)``.

    Returns coefficients, variances, freedom, and the series of the variance over the cell.
    """
    total = float(weights[0, 0].real)
    right = _take(values, orders)
    if len(orders) <= _DENSE:
        normal = _take(weights, orders[:, None] - orders[None])
        inverse = np.linalg.inv(normal + np.diag(ridge + 1e-9 * total))
        spread = np.maximum(np.diag(inverse).real, 1e-300)
        differences = (orders[:, None] - orders[None]).reshape(-1, 2)
        n1, n2 = weights.shape
        flat = (differences[:, 0] % n1) * n2 + differences[:, 1] % n2
        series = np.bincount(flat, inverse.real.ravel(), n1 * n2) + 1j * np.bincount(
            flat, inverse.imag.ravel(), n1 * n2
        )
        freedom = float(len(orders) - (spread * ridge).sum())
        return np.asarray(inverse @ right), spread, freedom, series.reshape(n1, n2)
    shape = weights.shape
    cells = shape[0] * shape[1]
    density = scipy.fft.ifft2(weights)

    def apply(c: Complex) -> Complex:
        grid = np.zeros(shape, dtype=np.complex128)
        grid[orders[:, 0], orders[:, 1]] = c.ravel()
        # a product in the cell is the sum over orders
        product = _take(scipy.fft.fft2(scipy.fft.ifft2(grid) * density), orders) * cells
        return np.asarray(product + ridge * c.ravel())

    operator = LinearOperator((len(orders), len(orders)), matvec=apply, dtype=np.complex128)
    solution, _ = cg(operator, right, rtol=1e-6, maxiter=100)
    # with all orders free, the variance is the mean of the inverse density
    free = float((1.0 / np.maximum(density.real * cells, 1e-3 * total)).mean())
    spread = 1.0 / (1.0 / free + ridge)
    series = np.zeros(shape, dtype=np.complex128)
    series[0, 0] = spread.sum()
    return np.asarray(solution), spread, float(len(orders) - (spread * ridge).sum()), series


def _table(orders: NDArray[np.int64], coefficients: Complex, shape: tuple[int, int]) -> Floats:
    """Spline coefficients whose spline has the given series."""
    grid = np.zeros(shape, dtype=np.complex128)
    grid[orders[:, 0], orders[:, 1]] = coefficients
    return _divided(grid)


def _divided(series: Complex) -> Floats:
    n1, n2 = series.shape
    return np.ascontiguousarray(scipy.fft.ifft2(series / (_spline(n1)[:, None] * _spline(n2))).real * n1 * n2)
