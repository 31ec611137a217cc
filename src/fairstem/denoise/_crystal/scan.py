"""Displacement that a scan adds: each row its own shift, and vibration as plane waves."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

__all__ = ["Scan", "fit_rows", "fit_waves", "still"]

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]
_SIGNIFICANT = 8.0  # twice the log-likelihood that row shifts must gain
_CHANCE = 20.0  # twice the log-likelihood of a wave beyond what the best of all frequencies has by chance
_MOST_WAVES, _LOOKS = 16, 8
_MOST_A_CELL = 4.0  # standard deviations
_SLOWEST = 0.25  # waves a cell: what is slower belongs to the smooth field


@dataclass(frozen=True)
class Scan:
    """Shift of each row, and waves.

    Parameters
    ----------
    rows
        ``(y, 2)`` px.
    variance
        ``(y, 2)`` px²: of the shifts of rows.
    frequencies
        ``(m, 2)`` cycles/px along y and x.
    amplitudes
        ``(m, 2)`` complex, px: the displacement is the real part of ``A exp(2 pi i f.r)``.
    row_freedom
        Number of parameters of the rows.
    """

    rows: Floats
    variance: Floats
    frequencies: Floats
    amplitudes: Complex
    row_freedom: float = 0.0

    @property
    def freedom(self) -> float:
        """Number of parameters."""
        return self.row_freedom + 6.0 * len(self.frequencies)

    def displacement(self, shape: tuple[int, int]) -> Floats:
        """Return ``(2, y, x)`` px."""
        out = np.broadcast_to(self.rows.T[:, :, None], (2, *shape)).copy()
        if len(self.frequencies):
            y, x = (_waves(n, f) for n, f in zip(shape, self.frequencies.T, strict=True))
            for c in (0, 1):
                turned = y * self.amplitudes[:, c]
                out[c] += turned.real @ x.real.T - turned.imag @ x.imag.T
        return out


def still(ny: int) -> Scan:
    """Return a scan without displacement."""
    none = np.zeros((0, 2))
    return Scan(np.zeros((ny, 2)), np.zeros((ny, 2)), none, none.astype(np.complex128))


def _waves(n: int, frequencies: Floats) -> Complex:
    return np.asarray(np.exp(2j * math.pi * np.outer(np.arange(n), frequencies)))


def fit_rows(rows: Floats, present: Scan, cell: float) -> Scan | None:
    """Fit the shift of each row, shrunk by how much rows shift at all; None where it stays.

    Prior: shifts of rows are independent, of one variance; what neighbours over a `cell` (px) share
    belongs to the smooth field.
    """
    new, variance, freedom = np.zeros_like(present.rows), np.zeros_like(present.rows), 0.0
    for axis in (0, 1):
        information = rows[:, 2 + 2 * axis]
        h = rows[:, axis] + information * present.rows[:, axis]
        shared = gaussian_filter1d(h, cell) / np.maximum(gaussian_filter1d(information, cell), 1e-300)
        h = h - information * shared
        spread = _jitter(h, information)
        if spread > 0:
            variance[:, axis] = 1 / (information + 1 / spread)
            new[:, axis] = h * variance[:, axis]
            freedom += float((variance[:, axis] * information).sum())
    if np.abs(new - present.rows).max() < 0.01:
        return None
    return replace(present, rows=new, variance=variance, row_freedom=freedom)


def _jitter(h: Floats, information: Floats) -> float:
    """Variance of independent row shifts by maximum likelihood; 0 where they don't show."""
    use = information > 1e-6 * information.max()
    y, noise = h[use] / information[use], 1 / information[use]
    best, spread = _SIGNIFICANT, 0.0
    for sigma in np.geomspace(0.02, 2.0, 15):
        total = noise + sigma**2
        gain = float((y**2 / noise - y**2 / total - np.log(total / noise)).sum())
        if gain > best:
            best, spread = gain, float(sigma**2)
    return spread


def fit_waves(score: Floats, information: Floats, present: Scan, cell: float) -> Scan | None:
    """Find plane waves of displacement; None where there is nothing new.

    Prior: vibration has few lines, and a line is a plane wave of the image whatever its frequency,
    because pixels follow each other at constant speed along a row, and rows do.

    Parameters
    ----------
    score
        ``(2, y, x)``: of displacement along y and x at each pixel, at the present fields.
    information
        ``(3, y, x)``: (yy, yx, xx) at each pixel.
    present
        Waves and rows so far.
    cell
        Length of a cell in px.

    Notes
    -----
    Cost: two FFTs of the image a wave, and two more where there is none.
    """
    shape = (score.shape[1], score.shape[2])
    total = np.maximum(information[[0, 2]].sum(axis=(1, 2)), 1e-300)
    fy, fx = np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1]), indexing="ij")
    allowed = np.hypot(fy, fx) * cell > _SLOWEST
    threshold = 2 * math.log(score[0].size) + _CHANCE
    rest, changed = _without_impulses(score, information, max(round(cell), 4)), False
    frequencies, amplitudes = list(present.frequencies), list(present.amplitudes)
    for n, f in enumerate(present.frequencies):
        step = _amplitude(rest, f, total)
        amplitudes[n] = amplitudes[n] + step
        changed = changed or float(np.abs(step).max()) > 0.02
        _subtract(rest, information, f, step)
    for _ in range(_LOOKS):
        if len(frequencies) == _MOST_WAVES:
            break
        power = sum(np.abs(scipy.fft.rfft2(rest[c])) ** 2 * (2 / total[c]) for c in (0, 1)) * allowed
        at = np.unravel_index(int(np.argmax(power)), power.shape)
        if power[at] < threshold:
            break
        f = _refined(rest, np.array([fy[at], fx[at]]), total)
        amplitude = _amplitude(rest, f, total)
        frequencies.append(f)
        amplitudes.append(amplitude)
        _subtract(rest, information, f, amplitude)
        changed = True
    if not changed:
        return None
    return replace(present, frequencies=np.array(frequencies), amplitudes=np.array(amplitudes))


def _without_impulses(score: Floats, information: Floats, block: int) -> Floats:
    """Limit what one cell says: a few displaced columns are not a vibration."""
    out = np.empty_like(score)
    for c in (0, 1):
        edges = [np.arange(0, n, block) for n in score[c].shape]
        told, known = (
            np.add.reduceat(np.add.reduceat(a, edges[0], axis=0), edges[1], axis=1)
            for a in (score[c], information[2 * c])
        )
        share = np.minimum(1.0, _MOST_A_CELL * np.sqrt(known) / np.maximum(np.abs(told), 1e-300))
        rows, columns = (np.arange(n) // block for n in score[c].shape)
        out[c] = score[c] * share[rows][:, columns]
    return out


def _amplitude(score: Floats, f: Floats, total: Floats) -> Complex:
    """Amplitudes along y and x of a wave, as if the information were uniform."""
    y, x = _waves(score.shape[1], f[:1]), _waves(score.shape[2], f[1:])
    return np.asarray(
        [2 * (y[:, 0].conj() @ (s @ x[:, 0].conj())) / t for s, t in zip(score, total, strict=True)]
    )


def _subtract(score: Floats, information: Floats, f: Floats, amplitude: Complex) -> None:
    """Take what a wave explains out of the score."""
    y, x = _waves(score.shape[1], f[:1]), _waves(score.shape[2], f[1:])
    wave = y * x.T
    dy, dx = (wave * amplitude[0]).real, (wave * amplitude[1]).real
    score[0] -= information[0] * dy + information[1] * dx
    score[1] -= information[1] * dy + information[2] * dx


def _refined(score: Floats, f: Floats, total: Floats) -> Floats:
    """The frequency between those of the FFT."""
    steps = np.arange(-3, 4)
    for width in (0.25, 0.07, 0.02):
        fy, fx = (f[c] + steps * width / score.shape[1 + c] for c in (0, 1))
        y, x = _waves(score.shape[1], fy).conj(), _waves(score.shape[2], fx).conj()
        power = sum(np.abs(y.T @ s @ x) ** 2 / t for s, t in zip(score, total, strict=True))
        i, j = np.unravel_index(int(np.argmax(power)), power.shape)
        f = np.array([fy[i], fx[j]])
    return f
