"""What the rows of one frame say about where they lie, and what is left when they lie there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fairstem.register._rows.kernels import SHARP_NOISE, compare_rows, residuals
from fairstem.register._rows.reference import EVERYWHERE, Pool, Reference
from fairstem.register._series.frames import Frame, Frames
from fairstem.register._series.motion import Motion

__all__ = [
    "NoiseLaw",
    "Segments",
    "chi2_map",
    "choose_blur",
    "compare",
    "compare_values",
    "fit_noise_law",
    "gain_of",
    "segments_of",
]

Floats = NDArray[np.float64]
_PX_A_SEGMENT, _MOST_SEGMENTS = 16, 64
_WEAK = 1 / 25.0  # 1/px²: a row that says nothing stays within about 5 px of where it was
_UNKNOWN = 4.0  # px²: a row with a larger variance is taken as not measured
_NARROWEST = 7 / 6  # px²: the blur for which the kernel states the noise of slopes
_BLURS = (1, 4, 16, 48)  # passes: 1.1, 1.6, 2.9, 5 px (sigma)
_WORTH = 1.05  # times the information: for less the narrower blur is kept
_LEAST_LEFT = 0.05  # of what a row says of its brightness, beside a shift: with less it says nothing
_REACH = 2.0  # px: a slope says nothing of what lies farther away
_BINS = 24
_LEAST_NOISE = 1e-12  # of the contrast, squared: frames without noise need a variance too
_MOST_GAIN = 1.5  # features this much sharper than the blur are noise


@dataclass(frozen=True)
class NoiseLaw:
    """Variance of a value: ``constant + slope * value``, and never below `lowest`."""

    constant: float
    slope: float
    lowest: float

    def variance(self, value: Floats) -> Floats:
        """Return the variance of values with this expectation."""
        return np.maximum(self.constant + self.slope * value, self.lowest)


@dataclass(frozen=True)
class Segments:
    """Normal equations of small shifts of the parts of each row, along the scan's own axes.

    Parameters
    ----------
    information
        ``(y, segment, 4)`` 1/px²: yy, yx, xx, and the part of yy and of xx that is noise.
    score
        ``(y, segment, 2)`` 1/px: derivative of the log-likelihood by a shift.
    chi2
        ``(y, segment, 2)``: sum of squared residuals over their variance, and their number.
    gain
        Response of a row to a shift over that of the blurred reference.
    tone
        ``(y, segment, 4)``: the equation of the brightness, as a share of it: information, score, and the
        cross terms with a shift along y and along x (1/px).
    lost
        ``(y, 3)`` 1/px²: the information (yy, yx, xx) of a row that its unknown brightness costs.
    """

    information: Floats
    score: Floats
    chi2: Floats
    gain: float = 1.0
    tone: Floats | None = None
    lost: Floats | None = None

    def shifts(self, band: int = 1) -> tuple[Floats, Floats]:
        """Return the shift of each row, ``(2, y)`` px, and its variance in px², infinite where unknown.

        Rows in bands of `band` rows share their shift, with a variance that averages to that of the band.
        """
        information, score = self.information.sum(axis=1), self.score.sum(axis=1)
        if self.lost is not None:
            information[:, :3] -= self.lost
        if band > 1:
            number = np.arange(len(score)) // band
            starts = np.arange(0, len(score), band)
            information = np.add.reduceat(information, starts)[number]
            score = np.add.reduceat(score, starts)[number]
        step, variance = _solve(information, score, self.gain)
        return step, band * variance

    def segment_shifts(self) -> tuple[Floats, Floats]:
        """Return the shift of each segment, ``(2, y, segment)`` px, and its variance in px²."""
        return _solve(self.information, self.score, self.gain)

    def brightness(self) -> tuple[Floats, Floats]:
        """Return by what share each row is brighter than the reference, ``(y,)``, and its variance.

        What a shift of the row would explain as well counts for nothing; where that is nearly all the
        variance is infinite.
        """
        information, score = self.information.sum(axis=1), self.score.sum(axis=1)
        own, gradient, *cross = self._whole_tone().T
        yy, yx, xx, det = _responses(information, self.gain)
        to_y, to_x = (xx * cross[0] - yx * cross[1]) / det, (yy * cross[1] - yx * cross[0]) / det
        left = own - self.gain * (to_y * cross[0] + to_x * cross[1])
        known = left > _LEAST_LEFT * own
        rest = gradient - self.gain * (to_y * score[:, 0] + to_x * score[:, 1])
        share = np.divide(rest, left, out=np.zeros_like(own), where=known)
        # slopes that are noise add to the variance, as they do to that of a shift
        raw = information[:, 0] * to_y**2 + 2 * information[:, 1] * to_y * to_x + information[:, 2] * to_x**2
        spread = np.maximum(2 * left - own + self.gain**2 * raw, left)
        return share, np.divide(spread, left**2, out=np.full_like(own, np.inf), where=known)

    def of_any_brightness(self, variance: float, expected: Floats) -> Segments:
        """Return the equations of rows whose brightness is not known, marginalised over it.

        Parameters
        ----------
        variance
            Of the brightness of a row, as a share of it, squared. 0 leaves the equations as they are.
        expected
            ``(y,)`` the brightness to expect, as a share.
        """
        if variance == 0:
            return self
        own, gradient, *cross = self._whole_tone().T
        total = own + 1.0 / variance
        share = (gradient - own * expected) / total
        lost = np.stack([cross[0] ** 2, cross[0] * cross[1], cross[1] ** 2], axis=-1) / total[:, None]
        # a part of the row gives up what the brightness of the whole row explains of its score; what the
        # parts of a row say of one another keeps its information: there the brightness cancels
        score = self.score - share[:, None, None] * self._tone()[..., 2:]
        return replace(self, score=score, lost=lost)

    def _whole_tone(self) -> Floats:
        return np.asarray(self._tone().sum(axis=1))

    def _tone(self) -> Floats:
        if self.tone is None:
            raise ValueError("these equations say nothing of brightness")
        return self.tone


def _responses(information: Floats, gain: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Return by how much the score changes with a shift (yy, yx, xx), and the determinant."""
    raw_yy, yx, raw_xx, noise = np.moveaxis(information, -1, 0)
    # slopes that are noise respond to no shift; the blur of the reference makes it respond too little
    yy, xx = np.maximum(raw_yy - noise, 0.0) * gain + _WEAK, np.maximum(raw_xx - noise, 0.0) * gain + _WEAK
    yx = yx * gain
    return yy, yx, xx, np.maximum(yy * xx - yx * yx, 1e-3 * yy * xx)


def _solve(information: Floats, score: Floats, gain: float) -> tuple[Floats, Floats]:
    raw_yy, raw_xx = information[..., 0], information[..., 2]
    yy, yx, xx, det = _responses(information, gain)
    step = np.stack([xx * score[..., 0] - yx * score[..., 1], yy * score[..., 1] - yx * score[..., 0]]) / det
    step = np.clip(step, -_REACH, _REACH)
    excess = np.stack([(raw_yy + _WEAK) / yy, (raw_xx + _WEAK) / xx])
    variance = np.stack([xx, yy]) / det * excess
    variance[variance > _UNKNOWN] = np.inf
    return step, variance


def gain_of(reference: Reference) -> float:
    """Return by how much a shift changes a row more than the slope of the blurred reference says."""
    seen = reference.weight >= 1.0
    if seen.sum() < 100:
        return 1.0
    sharp = reference.sharpened().coefficients
    own, cross = 0.0, 0.0
    for axis in range(2):
        slope = np.gradient(reference.coefficients, axis=axis)[seen]
        own += float((slope * slope).sum())
        cross += float((slope * np.gradient(sharp, axis=axis)[seen]).sum())
    return min(max(cross / own, 1.0), _MOST_GAIN) if own > 0 else 1.0


def segments_of(nx: int) -> int:
    """Return into how many parts a row of `nx` pixels is cut, whose displacement is looked at by itself."""
    return min(max(nx // _PX_A_SEGMENT, 2), _MOST_SEGMENTS)


def compare(
    frame: Frame,
    at: tuple[Floats, Floats],
    reference: Reference,
    law: NoiseLaw,
    *,
    gain: float = 1.0,
    angle_deg: float = 0.0,
) -> Segments:
    """Compare a frame, its pixels at canvas positions `at`, with a reference."""
    ny, parts = frame.values.shape[0], segments_of(frame.values.shape[1])
    information, score, chi2 = np.empty((ny, parts, 4)), np.empty((ny, parts, 2)), np.empty((ny, parts, 2))
    tone = np.empty((ny, parts, 4))
    mask = EVERYWHERE if frame.mask is None else frame.mask
    given = (reference.coefficients, reference.weight, reference.least)
    noise = (law.constant, law.slope, law.lowest)
    compare_rows(frame.values, mask, *at, given, noise, information, score, chi2, tone)
    # the wider the blur, the less noise there is in the slopes
    information[..., 3] *= (_NARROWEST / reference.blur) ** 2
    if angle_deg:
        cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
        information, score = _turned(information, score, cos, sin)
        tone[..., 2:] = _turned_vector(tone[..., 2:], cos, sin)
    return Segments(information, score, chi2, gain, tone)


def choose_blur(frames: Frames, motion: Motion, pool: Pool, used: Sequence[int], law: NoiseLaw) -> int:
    """Return how many passes of smoothing let the rows say most about where they lie.

    The noisier the other frames and the broader the features, the more. Three frames are asked.
    """
    chosen = sorted({used[0], used[len(used) // 2], used[-1]})
    parts = []
    for k in chosen:
        frame, forward = frames.read(k), motion.forward(k)
        parts.append((frame, pool.canvas.positions(forward), pool.without(k, frame, forward)))
    best, most = _BLURS[0], -1.0
    for passes in _BLURS:
        known = 0.0
        for frame, at, others in parts:
            reference = others.reference(passes)
            known += float(
                (1 / compare(frame, at, reference, law, gain=gain_of(reference)).shifts()[1]).sum()
            )
        if known < _WORTH * most:
            break
        best, most = passes, known
    return best


def _turned(information: Floats, score: Floats, cos: float, sin: float) -> tuple[Floats, Floats]:
    """Express the equations along the axes of a scan that is turned from +x towards +y."""
    yy, yx, xx, noise = np.moveaxis(information, -1, 0)
    turned = np.stack(
        [
            cos * cos * yy - 2 * cos * sin * yx + sin * sin * xx,
            cos * sin * (yy - xx) + (cos * cos - sin * sin) * yx,
            sin * sin * yy + 2 * cos * sin * yx + cos * cos * xx,
            noise,
        ],
        axis=-1,
    )
    return turned, _turned_vector(score, cos, sin)


def _turned_vector(vector: Floats, cos: float, sin: float) -> Floats:
    y, x = vector[..., 0], vector[..., 1]
    return np.stack([cos * y - sin * x, sin * y + cos * x], axis=-1)


def compare_values(frame: Frame, at: tuple[Floats, Floats], reference: Reference) -> tuple[Floats, Floats]:
    """Return the reference at each pixel, and what the pixel differs from it: see the kernel `residuals`."""
    fitted, rest = np.empty(frame.values.shape), np.empty(frame.values.shape)
    mask = EVERYWHERE if frame.mask is None else frame.mask
    given = (reference.coefficients, reference.weight, reference.least)
    residuals(frame.values, mask, *at, given, fitted, rest)
    return fitted, rest


def fit_noise_law(
    frames: Frames, motion: Motion, pool: Pool, used: Sequence[int], at_most: int = 3
) -> NoiseLaw:
    """Find how the variance of a value depends on its expectation, from what frames differ by.

    Squared residuals are averaged in bins of the reference and a line is fitted, its constant and its
    slope not negative. Frames that aren't registered yet give too large a variance.
    """
    chosen = np.unique(np.linspace(0, len(used) - 1, min(len(used), at_most)).round().astype(int))
    parts = []
    for k in (used[i] for i in chosen):
        frame, forward = frames.read(k), motion.forward(k)
        reference = pool.without(k, frame, forward).reference().sharpened()
        fitted, rest = compare_values(frame, pool.canvas.positions(forward), reference)
        seen = np.isfinite(rest)
        parts.append((fitted[seen], frame.values[seen], rest[seen] ** 2))
    expected, value, square = (np.concatenate(p) for p in zip(*parts, strict=True))
    return _fit_line(expected, value, square)


def _fit_line(expected: Floats, value: Floats, square: Floats) -> NoiseLaw:
    if value.size == 0:
        return NoiseLaw(0.0, 1.0, np.finfo(np.float64).tiny)
    least = max(_LEAST_NOISE * float(expected.var()), np.finfo(np.float64).tiny)
    edges = np.quantile(expected[:: max(value.size // 20_000, 1)], np.linspace(0, 1, _BINS + 1))
    number = np.clip(np.searchsorted(edges, expected, side="right") - 1, 0, _BINS - 1)
    count = np.maximum(np.bincount(number, minlength=_BINS), 1e-9)
    # where the reference is low it is so by its noise too; the values of the frame itself are not biased so
    x = np.bincount(number, value, _BINS) / count
    y = np.bincount(number, square, _BINS) / count
    filled = (count > 4) & (y > 0)
    if filled.sum() < 2:
        level = max(float(square.mean()), least)
        return NoiseLaw(level, 0.0, level)
    from scipy.optimize import nnls

    # the scatter of a mean square is proportional to it: each bin is weighted by its own inverse
    x, y, weight = x[filled], y[filled], np.sqrt(count[filled]) / y[filled]
    low = float(x.min())
    design = np.column_stack([np.ones_like(x), x - low]) * weight[:, None]
    (base, slope), _ = nnls(design, y * weight)
    lowest = max(0.3 * float(y.min()), least)
    return NoiseLaw(float(base - slope * low), float(slope), lowest)


def chi2_map(
    frames: Frames, motion: Motion, pool: Pool, used: Sequence[int], law: NoiseLaw
) -> tuple[Floats, Floats]:
    """Return the mean squared residual over its variance ``(y, x)``, and the number of samples behind it.

    Each pixel of each frame is compared with the other frames, and counted at the nearest pixel of the
    average. Where no frame lies the map is 1.
    """
    ny, nx = motion.shape
    total, number = np.zeros(ny * nx), np.zeros(ny * nx)
    # the reference is noisy: dividing by the variance that it states gives too much on average, by this
    doubt = SHARP_NOISE * law.slope**2 / max(len(used) - 1, 1)
    for k in used:
        frame, forward = frames.read(k), motion.forward(k)
        at = pool.canvas.positions(forward)
        reference = pool.without(k, frame, forward).reference().sharpened()
        fitted, rest = compare_values(frame, at, reference)
        y = np.rint(at[0] + pool.canvas.origin[0]).astype(int)
        x = np.rint(at[1] + pool.canvas.origin[1]).astype(int)
        good = np.isfinite(rest) & (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
        where = y[good] * nx + x[good]
        total += np.bincount(where, rest[good] ** 2 / (law.variance(fitted[good]) + doubt), ny * nx)
        number += np.bincount(where, minlength=ny * nx)
    mean = np.divide(total, number, out=np.ones_like(total), where=number > 0)
    return mean.reshape(ny, nx), number.reshape(ny, nx)
