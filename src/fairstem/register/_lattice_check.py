"""What a lattice pass leaves, and whether it took more than distortion."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fairstem.priors import PriorCheck
from fairstem.register._covariance import detrended
from fairstem.register._floor import Floor, make_floor
from fairstem.register._smoother import Prior

__all__ = ["check_curve", "floor_of_error", "mode_deviations"]

Floats = NDArray[np.float64]
_MODES = 4  # half waves 2 to 5 over the field: a step of strain is mostly the first of them
_BY_CHANCE = 0.01  # series without strain that fail


def mode_deviations(curve: Floats, rows: Floats) -> Floats:
    """Return ``(2, mode)``: low cosine modes of a curve over what the scatter of the frames lets expect.

    Parameters
    ----------
    curve
        ``(2, y)`` px, the removed curve.
    rows
        ``(frame, 2, y)`` px, displacement of the frames, which scatter about their mean.
    """
    ny = curve.shape[1]
    y = (np.arange(ny) + 0.5) / ny
    waves = np.cos(math.pi * np.arange(2, 2 + _MODES)[:, None] * y) * math.sqrt(2 / ny)
    flat, _ = detrended(np.concatenate([curve[None], rows]), np.ones((len(rows) + 1, ny), dtype=np.bool_))
    heights = flat @ waves.T
    own, others = heights[0], heights[1:]
    expected = others.var(axis=0, ddof=1) / len(others)
    return np.asarray(own / np.sqrt(np.maximum(expected, 1e-300)))


def check_curve(curve: Floats, rows: Floats, floor: Floor) -> PriorCheck:
    """Compare the removed curve with what the scatter of the frames lets expect.

    The mean of K independent displacements scatters by their own scatter over the root of K. A curve
    that is larger is not an accident of K frames: it is strain of the object, or a distortion that is the same
    in every frame.

    Parameters
    ----------
    curve, rows
        As of `mode_deviations`.
    floor
        The floor before the pass.
    """
    del floor
    deviations = np.abs(mode_deviations(curve, rows))
    threshold = float(stats.t.isf(_BY_CHANCE / 2 / deviations.size, max(len(rows) - 1, 1)))
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
        covariance[axis] = line * float(error[axis].mean()) / max(float(line[0]), 1e-300)
    return make_floor(
        covariance,
        before.frames,
        before.pixel_size_nm,
        before.slope,
        before.directions_deg,
        before.shares,
        radial=before.radial,
    )
