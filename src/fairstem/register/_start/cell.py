"""Periodicity of a series: the reflections all frames share, and how each frame's rows lie against them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import maximum_filter

__all__ = ["Cell", "Lock", "SpectrumSum", "find_cell", "lock_rows", "nearest_vectors"]

Floats = NDArray[np.float64]
_EDGE = 4  # columns of negative frequency kept beside the half plane, for peaks on its border
_FEWEST_CELLS = 3  # fields with fewer cells show no lattice
_SIGNIFICANT = 6.0  # a reflection's height over the scatter of its ring
_MOST = 24
_INDEXED = 0.15  # of a reciprocal vector: nearer to an integer is indexed


@dataclass(frozen=True)
class Cell:
    """The lattice that the frames share.

    Parameters
    ----------
    reciprocal
        ``(2, 2)`` shortest reciprocal vectors, one a row, (y, x) in cycles per px.
    direct
        ``(2, 2)`` shortest lattice vectors, one a row, (y, x) in px.
    significance
        Height of the weaker of the two reflections over the scatter of the background, standard
        deviations.
    """

    reciprocal: Floats
    direct: Floats
    significance: float

    @property
    def shortest(self) -> float:
        """Length of the shortest lattice vector in px."""
        return float(np.hypot(*self.direct.T).min())

    def scaled(self, factor: float) -> Cell:
        """Return the cell on a grid whose pixels are `factor` times smaller."""
        return Cell(self.reciprocal / factor, self.direct * factor, self.significance)

    def nearest(self, move: Floats) -> Floats:
        """Return the lattice vectors nearest to ``move (..., 2)`` px."""
        flat = np.ascontiguousarray(np.reshape(move, (-1, 2)), dtype=np.float64)
        return np.asarray(nearest_vectors(flat, self.direct, _inverse(self.direct)).reshape(np.shape(move)))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def nearest_vectors(move: Floats, direct: Floats, inverse: Floats) -> Floats:
    """Return the lattice vectors nearest to (n, 2): of a reduced cell, a neighbour of the rounded one."""
    out = np.empty_like(move)
    for n in range(len(move)):
        y, x = move[n, 0], move[n, 1]
        i0 = np.rint(y * inverse[0, 0] + x * inverse[1, 0])
        j0 = np.rint(y * inverse[0, 1] + x * inverse[1, 1])
        least = np.inf
        for i in range(-1, 2):
            for j in range(-1, 2):
                ty = (i0 + i) * direct[0, 0] + (j0 + j) * direct[1, 0]
                tx = (i0 + i) * direct[0, 1] + (j0 + j) * direct[1, 1]
                far = (ty - y) ** 2 + (tx - x) ** 2
                if far < least:
                    least, out[n, 0], out[n, 1] = far, ty, tx
    return out


class SpectrumSum:
    """Amplitude spectra of frames, each in units of its own white noise, added up."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.total = np.zeros((shape[0], shape[1] // 2 + 1), dtype=np.float32)
        self.power = np.zeros_like(self.total)
        self.n = 0
        rows, cols = (np.hanning(n + 2)[1:-1].astype(np.float32) for n in shape)
        self.window = rows[:, None] * cols
        fy, fx = np.abs(np.fft.fftfreq(shape[0])), np.fft.rfftfreq(shape[1])
        self.high = np.maximum(fy[:, None], fx) > 0.4
        self.fine = np.maximum(fy[:, None], fx)

    def add(self, values: Floats, mask: NDArray[np.bool_] | None) -> None:
        """Add a frame; what was not measured counts as its mean."""
        inside = values if mask is None else values[mask]
        centred = (values - inside.mean()).astype(np.float32)
        if mask is not None:
            centred[~mask] = 0
        spectrum = fft.rfft2(centred * self.window)
        power = spectrum.real**2 + spectrum.imag**2
        floor = float(np.median(power[self.high])) / math.log(2)
        # a frame without noise has none: its own mean power then sets the scale
        power /= max(floor, 1e-6 * float(power.mean()))
        self.total += np.sqrt(power)
        self.power += power
        self.n += 1

    def resolved_until(self, share: float = 0.02) -> float:
        """Return the frequency, cycles per px, beyond which lies less than `share` of the signal."""
        signal = self.power / self.n - 1
        order = np.argsort(self.fine, axis=None)
        running = np.cumsum(signal.ravel()[order], dtype=np.float64)
        inside = np.flatnonzero(running >= (1 - share) * running.max())
        return float(self.fine.ravel()[order][inside[0]])


def find_cell(spectra: SpectrumSum) -> Cell | None:
    """Find the lattice in the averaged amplitude spectrum of the frames.

    Prior: the reflections of a crystal stand above the background of their ring by more than its
    scatter, and integer combinations of two of them give the others.

    Parameters
    ----------
    spectra
        Spectra of all frames.

    Returns
    -------
    Cell or None
        None when there are no two independent reflections.

    Notes
    -----
    Cost: ``O(pixels)``. Drift within frames moves reflections by ``g . v`` bins (v: px per frame), so
    that spectra are added without phases, smoothed over three bins.
    """
    place, height = _reflections(spectra)
    if len(place) < 2:
        return None
    best, basis = 0.0, None
    choices = []
    for i in range(min(len(place), 12)):
        for j in range(i):
            g = np.stack([place[j], place[i]])
            # bins: a cell must be told from a line of reflections
            if abs(np.linalg.det(g)) < 0.3 * np.hypot(*g[0]) * np.hypot(*g[1]):
                continue
            choices.append((_explained(g, place, height), abs(np.linalg.det(g)), g))
    if choices:
        best = max(c[0] for c in choices)
        # of those that explain all, the largest reciprocal cell: the others invent reflections
        basis = max((c for c in choices if c[0] >= 0.93 * best), key=lambda c: c[1])[2]
    if basis is None:
        return None
    basis = _refine(basis, place, height)
    scale = 1 / np.array(spectra.shape)
    reciprocal = _reduced(basis * scale)
    direct = _reduced(_inverse(reciprocal).T)
    strengths = sorted((float(height[np.argmin(((place - g) ** 2).sum(1))]) for g in basis), reverse=True)
    return Cell(reciprocal, direct, strengths[-1])


def _reflections(spectra: SpectrumSum) -> tuple[Floats, Floats]:
    """Return places (n, 2) in bins, and heights over the scatter of their ring, highest first."""
    ny, nx = spectra.shape
    mean = spectra.total / spectra.n
    negative = mean[(-np.arange(ny)) % ny][:, _EDGE:0:-1]
    wide = np.fft.fftshift(np.concatenate([negative, mean], axis=1), axes=0).astype(np.float64)
    smooth = wide + 0.5 * (np.roll(wide, 1, axis=0) + np.roll(wide, -1, axis=0))
    fy, fx = np.arange(ny) - ny // 2, np.arange(wide.shape[1]) - _EDGE
    ring = np.rint(np.hypot(fy[:, None] / ny, fx / nx) * min(ny, nx)).astype(int)
    order = np.argsort(ring, axis=None, kind="stable")
    edges = np.searchsorted(ring.ravel()[order], np.arange(ring.max() + 2))
    centre, scatter = _ring_levels(smooth.ravel()[order], edges)
    # rings without noise scatter by rounding only
    scatter = np.maximum(scatter, 1e-3 * max(float(smooth.max()), 1e-300))
    z = (smooth - centre[ring]) / scatter[ring]
    peak = (
        (z > _SIGNIFICANT)
        & (np.hypot(fy[:, None], fx) >= _FEWEST_CELLS)
        & (smooth == maximum_filter(smooth, 5))
    )
    peak &= (fx > 0) | ((fx == 0) & (fy[:, None] > 0))
    peak[[0, -1]] = False
    peak[:, -1] = False
    at = np.argwhere(peak)
    at = at[np.argsort(-z[tuple(at.T)], kind="stable")][:_MOST]
    place = np.empty((len(at), 2))
    for n, (i, j) in enumerate(at):
        place[n, 0] = fy[i] + _vertex(smooth[i - 1 : i + 2, j])
        place[n, 1] = fx[j] + _vertex(smooth[i, j - 1 : j + 2])
    return place, z[tuple(at.T)]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _ring_levels(values: Floats, edges: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return median and scatter (from the median deviation) of each ring of sorted-by-ring values."""
    n = len(edges) - 1
    centre, scatter = np.zeros(n), np.zeros(n)
    for i in range(n):
        part = values[edges[i] : edges[i + 1]]
        if len(part):
            centre[i] = np.median(part)
            scatter[i] = 1.4826 * np.median(np.abs(part - centre[i]))
    return centre, scatter


def _vertex(three: Floats) -> float:
    """Sub-bin position of a peak: a parabola through logarithms, exact for a Gaussian."""
    before, top, after = np.log(np.maximum(three, 1e-300))
    bend = before - 2 * top + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _explained(g: Floats, place: Floats, height: Floats) -> float:
    """Sum of logarithmic heights of the reflections that two vectors index."""
    index = place @ np.linalg.inv(g)
    off = np.abs(index - np.rint(index)).max(axis=1)
    return float(np.log(height)[off < _INDEXED].sum())


def _refine(g: Floats, place: Floats, height: Floats) -> Floats:
    """Fit the two vectors to the low-order reflections that they index."""
    index = place @ np.linalg.inv(g)
    whole = np.rint(index)
    use = (np.abs(index - whole).max(axis=1) < _INDEXED) & (np.abs(whole).max(axis=1) <= 2)
    weight = np.log(height[use])[:, None]
    fitted = np.linalg.lstsq(whole[use] * weight, place[use] * weight, rcond=None)
    return np.asarray(fitted[0]) if fitted[2] == 2 else g


def _inverse(matrix: Floats) -> Floats:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _reduced(vectors: Floats) -> Floats:
    """Return the two shortest vectors of the lattice (Gauss), the shorter first."""
    a, b = vectors
    for _ in range(64):
        if a @ a > b @ b:
            a, b = b, a
        times = round(float(a @ b / (a @ a)))
        if times == 0:
            break
        b = b - times * a
    return np.stack([a, b])


@dataclass(frozen=True)
class Lock:
    """How the rows of one frame lie against the common lattice.

    Parameters
    ----------
    ramp
        ``(2,)`` px per frame height: displacement of the last row against the first, up to what all
        frames share.
    offset
        ``(2,)`` px, displacement of the middle row, up to a lattice vector and what all frames share.
    rows
        ``(2, ny)`` px, displacement of each row less `offset`, smooth over half a cell.
    presence
        Height of the weaker reflection over the background, standard deviations.
    steady
        Share of rows whose phases are known.
    wild
        Share of rows that lie half a lattice vector or more off a straight line: more than a few
        are another lattice, not drift.
    """

    ramp: Floats
    offset: Floats
    rows: Floats
    presence: float
    steady: float
    wild: float


def lock_rows(values: Floats, mask: NDArray[np.bool_] | None, cell: Cell) -> Lock:
    """Measure the displacement of each row from the phases of two reflections.

    Prior: a row moves as one, and the lattice is the same in all rows. A displacement u turns the
    phase of reflection g by ``2 pi g . u``: known up to a lattice vector.

    Parameters
    ----------
    values, mask
        Frame ``(y, x)`` and where it was measured.
    cell
        The common lattice in px of this frame.

    Notes
    -----
    Cost: four products of the frame with a vector. The ramp is the maximum of the transform of the
    demodulated rows; drift beyond half the distance of two reflections is not found.
    """
    ny, nx = values.shape
    first, last = (0, ny) if mask is None else _longest_run(mask)
    inside = values if mask is None else values[mask]
    centred = (values - inside.mean())[first:last]
    if mask is not None:
        centred = np.where(mask[first:last], centred, 0.0)
    g = cell.reciprocal
    x, every = np.arange(nx) - (nx - 1) / 2, np.arange(ny) - (ny - 1) / 2
    y = every[first:last]
    wave = np.exp(-2j * np.pi * np.outer(x, g[:, 1])) * np.hanning(nx + 2)[1:-1, None]
    rows = (centred @ wave.real + 1j * (centred @ wave.imag)) * np.exp(-2j * np.pi * np.outer(y, g[:, 0]))
    limit = 0.45 * float(np.hypot(*g.T).min())
    found = [_ramp_of(one, y, limit) for one in rows.T]
    slopes, phases = np.array([f[0] for f in found]), np.array([f[1] for f in found])
    level = rows * np.exp(-1j * (np.outer(y, slopes) + phases))
    smooth = _pass_one_reflection(level, _row_period(cell, nx))
    height = np.abs(smooth)
    rest = np.unwrap(np.angle(smooth), axis=0)
    weak = height < 0.25 * np.median(height, axis=0)
    wild = float((~weak & (np.abs(rest) > np.pi)).mean())
    for axis in range(2):
        good = ~weak[:, axis]
        rest[:, axis] = np.interp(y, y[good], rest[good, axis])
        rest[:, axis] -= 2 * np.pi * np.rint(np.median(rest[:, axis]) / (2 * np.pi))
    solve = np.linalg.inv(2 * np.pi * g)
    total = (np.outer(y, slopes) + rest) @ solve.T
    centre, spread = y.mean(), y - y.mean()
    slope = (spread @ total) / (spread @ spread)
    middle = total.mean(axis=0) - slope * centre
    # rows that were not measured move on along the line
    off = total - np.outer(y, slope) - middle
    full = np.stack([every * slope[a] + np.interp(every, y, off[:, a]) for a in range(2)])
    steady = float((~weak).mean()) * len(y) / ny
    return Lock(slope * ny, solve @ phases + middle, full, min(f[2] for f in found), steady, wild)


def _longest_run(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return first and last (exclusive) of the longest run of rows that were measured by half or more.

    A gap would mix reflections: its transform is wide.
    """
    good = np.concatenate([[False], mask.mean(axis=1) >= 0.5, [False]]).astype(int)
    starts, ends = np.flatnonzero(np.diff(good) == 1), np.flatnonzero(np.diff(good) == -1)
    if not len(starts) or (ends - starts).max() < 16:
        return 0, len(mask)
    best = int(np.argmax(ends - starts))
    return int(starts[best]), int(ends[best])


def _row_period(cell: Cell, nx: int) -> float:
    """Return the number of rows over which the reflections beside a reflection run through one period."""
    count = np.arange(-3, 4)
    beside = (count[:, None, None] * cell.reciprocal[0] + count[:, None] * cell.reciprocal[1]).reshape(-1, 2)
    beside = beside[np.hypot(*beside.T) > 0]
    # reflections further off along the row are told apart by the window along the row
    mixed = beside[np.abs(beside[:, 1]) < 2.5 / nx]
    spacing = np.abs(mixed[:, 0]).min() if len(mixed) else float(np.hypot(*cell.reciprocal.T).max())
    return 1 / max(float(spacing), 1 / nx)


def _pass_one_reflection(level: NDArray[np.complex128], period: float) -> NDArray[np.complex128]:
    """Average over one period of the neighbouring reflections, which removes them, and a little more.

    Near the ends the value of the last full window is kept: half a window would let neighbours through.
    """
    ny = len(level)
    period = min(period, ny / 3)
    reach = math.ceil(0.9 * period)
    fine = np.abs(np.arange(-16 * reach, 16 * reach + 1) / 16) <= period / 2
    box = fine.astype(np.float64)
    bell = np.exp(-0.5 * (np.arange(-16 * reach, 16 * reach + 1) / 16 / (0.15 * period)) ** 2)
    kernel = fft.irfft(fft.rfft(box, 4 * len(box)) * fft.rfft(bell, 4 * len(box)), 4 * len(box))
    kernel = kernel[32 * reach - 16 * reach : 32 * reach + 16 * reach + 1 : 16]
    kernel /= kernel.sum()
    size = fft.next_fast_len(ny + len(kernel))
    product = fft.fft(level, size, axis=0) * fft.fft(kernel, size)[:, None]
    full = fft.ifft(product, axis=0)[len(kernel) - 1 : ny]
    return np.concatenate([np.repeat(full[:1], reach, axis=0), full, np.repeat(full[-1:], reach, axis=0)])


def _ramp_of(row_phases: NDArray[np.complex128], y: Floats, limit: float) -> tuple[float, float, float]:
    """Return the slope (rad per row) and phase of a demodulated reflection, and how far it stands out."""
    ny = len(y)
    size = fft.next_fast_len(4 * ny)
    window = np.hanning(ny + 2)[1:-1]
    line = fft.fft(row_phases * window, size)
    power = np.abs(line) ** 2
    frequency = np.fft.fftfreq(size)
    near = np.abs(frequency) <= limit / 2
    top = int(np.argmax(np.where(near, power, -1.0)))
    before, after = power[top - 1], power[(top + 1) % size]
    bend = before - 2 * power[top] + after
    step = 0.5 * (before - after) / bend if bend < 0 else 0.0
    slope = 2 * np.pi * (frequency[top] + step / size)
    phase = float(np.angle((row_phases * window * np.exp(-1j * slope * y)).sum()))
    background = float(np.median(power)) / math.log(2)
    return slope, phase, math.sqrt(power[top] / max(background, 1e-300))
