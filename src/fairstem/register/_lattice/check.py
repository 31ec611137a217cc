"""What a lattice pass leaves, and whether it took more than distortion."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.linalg import matmul_toeplitz

from fairstem.priors import PriorCheck
from fairstem.register._judge.floor import Floor, make_floor
from fairstem.register._rows.smoother import Prior

__all__ = ["check_curve", "floor_of_error", "mode_deviations", "two_dimensional"]

Floats = NDArray[np.float64]
_MODES = 4  # half waves 2 to 5 over the field: a step of strain is mostly the first of them
_BENDS = 3  # half waves over the field in each direction
_BY_CHANCE = 0.01  # series without strain that fail
_LEAST = 0.1  # of the variance of a row: the least variance of a wave


def mode_deviations(curve: Floats, covariance: Floats) -> Floats:
    """Return ``(2, mode)``: low cosine modes of a curve in standard deviations.

    Parameters
    ----------
    curve
        ``(2, y)`` px; its trend does not count.
    covariance
        ``(2, lag)`` px², the autocovariance that it should have, as of `Floor`.
    """
    ny = curve.shape[1]
    y = (np.arange(ny) + 0.5) / ny - 0.5
    waves = np.cos(math.pi * np.arange(2, 2 + _MODES)[:, None] * (y + 0.5)) * math.sqrt(2 / ny)
    trend = np.stack([np.full(ny, 1 / math.sqrt(ny)), y / np.sqrt((y**2).sum())])
    waves -= (waves @ trend.T) @ trend
    out = np.empty((2, _MODES))
    for axis in range(2):
        lags = covariance[axis][np.minimum(np.arange(ny), covariance.shape[1] - 1)]
        # an autocovariance that was measured may be a little less than none for some wave
        expected = np.maximum((waves * matmul_toeplitz(lags, waves.T).T).sum(axis=1), _LEAST * lags[0])
        out[axis] = waves @ curve[axis] / np.sqrt(np.maximum(expected, 1e-300))
    return out


def check_curve(curve: Floats, floor: Floor) -> PriorCheck:
    """Compare the removed curve with what the scatter of the frames lets expect.

    The mean of K independent displacements scatters by their own scatter over the root of K, which is
    the common-mode floor. A curve that is larger is no accident of K frames: it is strain of the object, or a
    distortion that is the same in every frame. With less than some 6 frames only large strain is noticed.

    Parameters
    ----------
    curve
        ``(2, y)`` px, the removed curve.
    floor
        The floor before the pass.
    """
    deviations = np.abs(mode_deviations(curve, floor.covariance))
    # the covariance comes from K frames: one degree of freedom a frame is on the safe side
    threshold = float(stats.t.isf(_BY_CHANCE / 2 / deviations.size, max(floor.frames - 1, 1.0)))
    return PriorCheck(
        "lattice-pass",
        "what differs from row to row of the average is distortion of the scan, not strain of the object",
        float(deviations.max()),
        threshold,
        "<=",
        "largest slow wave of the removed curve over what the scatter of the frames predicts, standard deviations",
        "the lattice pass may have removed real strain along the slow axis of the scan, or a distortion that is "
        "the same in every frame: look at lattice_pass.curve, and register without lattice, or with scans at 0 "
        "and 90 degrees, which tell the two apart",
    )


def two_dimensional(shift: Floats, variance: Floats) -> float:
    """Return the rms in px of the slow part of a map of shifts that is a function of neither y nor x alone.

    Parameters
    ----------
    shift, variance
        ``(2, y, x)`` px and px² of parts of the field; infinite variance where nothing is known.
    """
    modes = [
        np.cos(math.pi * np.arange(1, _BENDS + 1)[:, None] * (np.arange(n) + 0.5) / n)
        for n in shift.shape[1:]
    ]
    both = np.einsum("iy,jx->ijyx", *modes).reshape(_BENDS**2, -1)
    alone = [np.eye(n) for n in shift.shape[1:]]
    rows = np.repeat(alone[0], shift.shape[2], axis=1)
    columns = np.tile(alone[1], shift.shape[1])[1:]
    total = 0.0
    for axis in range(2):
        known = np.isfinite(variance[axis]).ravel()
        design = np.concatenate([both, rows, columns])[:, known].T
        found = np.linalg.lstsq(design, shift[axis].ravel()[known], rcond=1e-6)[0][: len(both)]
        total += float(np.mean((found @ both[:, known]) ** 2)) if known.any() else 0.0
    return math.sqrt(total / 2)


def floor_of_error(before: Floor, priors: tuple[Prior, Prior], variance: Floats, error: Floats) -> Floor:
    """Return the floor after the pass: the error of the removed curve, and how it is correlated along rows.

    Parameters
    ----------
    before
        The floor before.
    priors
        Variances of the curve along both axes.
    variance
        ``(2, y)`` px² of each measured row; infinite where not measured.
    error
        ``(2, y)`` px², posterior variance.

    Notes
    -----
    Spectrum of the error of a smoother: ``P V / (P + V)``, P the prior's spectrum, V the noise. Waves longer than
    the field are affine, and not counted.
    """
    ny = error.shape[1]
    covariance = np.zeros((2, ny))
    frequency = np.fft.rfftfreq(2 * ny)
    change = np.maximum(2 - 2 * np.cos(2 * np.pi * frequency), 1e-30) ** 2
    for axis, prior in enumerate(priors):
        known = np.isfinite(variance[axis])
        noise = 1 / float(np.mean(1 / variance[axis][known]))
        power = prior.walk / change + prior.jitter
        rest = power * noise / (power + noise)
        rest[0] = 0.0
        line = np.fft.irfft(rest)[:ny]
        covariance[axis] = line * float(error[axis][known].mean()) / max(float(line[0]), 1e-300)
    return make_floor(
        covariance,
        before.frames,
        before.pixel_size_nm,
        before.slope,
        before.directions_deg,
        before.shares,
        radial=before.radial,
    )
