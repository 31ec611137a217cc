"""The temporal spectrum of the displacement: is it smooth in time, does it have lines?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import median_filter
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import f as f_distribution

from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.register._judge.covariance import detrended

__all__ = ["SpectralLine", "TemporalSpectrum", "check_smooth_in_time", "temporal_spectrum"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
FALSE_ALARM = 0.01
_SLOW, _FAST = 0.1, 0.25  # cycles a row: below is slow, above is fast
_FIRST_BIN = 6  # lines are looked for from so many cycles a frame: below the continuum is too steep
_CONTINUUM_BINS = 17
_MAINS_HZ = (50.0, 60.0)
_HARMONICS = 10


@dataclass(frozen=True)
class SpectralLine:
    """A vibration: a narrow peak in the temporal spectrum of the displacement.

    Parameters
    ----------
    axis
        ``"slow"`` or ``"fast"`` axis of the scan.
    frequency
        Cycles a row, 0 to 0.5. A vibration faster than half a cycle a row appears folded into it.
    rms_px
        Its rms displacement, px.
    excess
        Power over that of the continuum.
    frequency_hz
        The same in Hz, None when the time of a row isn't known.
    mains
        What it may be: harmonics of 50 and 60 Hz that fold to this frequency.
    """

    axis: str
    frequency: float
    rms_px: float
    excess: float
    frequency_hz: float | None = None
    mains: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TemporalSpectrum:
    """Power spectral density of the displacement of rows, averaged over frames.

    Parameters
    ----------
    frequency
        ``(n,)`` cycles a row.
    power
        ``(2, n)`` px² a (cycle a row), one-sided, slow and fast axis: its integral is the variance.
    noise
        ``(2,)`` the level that the errors of the rows would have, in the same unit.
    lines
        Narrow peaks.
    row_time_s
        Time from row to row, None when it isn't known.
    """

    frequency: Floats
    power: Floats
    noise: Floats
    lines: tuple[SpectralLine, ...]
    row_time_s: float | None = None

    @property
    def frequency_hz(self) -> Floats | None:
        """``(n,)`` Hz; None when the time of a row isn't known."""
        return None if self.row_time_s is None else self.frequency / self.row_time_s


def temporal_spectrum(
    rows: ArrayLike, variance: ArrayLike, *, row_time_s: float | None = None, false_alarm: float = FALSE_ALARM
) -> TemporalSpectrum:
    """Compute the temporal spectrum of the displacement, and find its lines.

    Prior: none; rows are recorded at equal intervals.

    Parameters
    ----------
    rows
        ``(frame, 2, y)`` px, displacement along the slow and fast axis of the scan. Measured rows show
        all there is; smoothed ones lack what smoothing took from the fast end.
    variance
        Same shape, px², their error variance; infinite or NaN where a row is undetermined.
    row_time_s
        Time from the start of a row to that of the next, s, flyback included.
    false_alarm
        Probability of a line anywhere in a spectrum without lines.

    Returns
    -------
    TemporalSpectrum

    Raises
    ------
    DataError
        Shapes do not fit, fewer than 2 frames or 32 rows, or a time that isn't positive.

    Notes
    -----
    Mean and trend of each frame and the mean over frames are removed, and a Hann window is used. A line
    is a local maximum above the running median over 17 frequencies, by more than noise makes anywhere.
    Cost: ``O(frames * rows * log(rows))``.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> t = np.arange(256) * 2e-3 + rng.uniform(0, 1, (10, 2, 1))   # rows of 2 ms, mains of 50 Hz
    >>> rows = rng.normal(0, 0.1, t.shape) + 0.1 * np.sin(2 * np.pi * 50 * t)
    >>> lines = temporal_spectrum(rows, np.full(t.shape, 0.01), row_time_s=2e-3).lines
    >>> [(line.axis, round(line.frequency_hz), round(line.rms_px, 1)) for line in lines]
    [('slow', 50, 0.1), ('fast', 50, 0.1)]
    """
    u, v, good = _checked(rows, variance)
    if row_time_s is not None and not (math.isfinite(row_time_s) and row_time_s > 0):
        raise DataError(f"row_time_s is {row_time_s}", needed="a positive time in s")
    each = _periodograms(u, good)
    power = each.mean(axis=0)
    ny = u.shape[2]
    noise = np.array([2 * np.where(good, v[:, a], 0.0).sum() / max(good.sum(), 1) for a in range(2)])
    frequency = np.arange(1, power.shape[1] + 1) / ny
    lines = []
    for axis, name in enumerate(("slow", "fast")):
        for at, rms, excess in _peaks(each[:, axis], ny, false_alarm / 2):
            hertz = None if row_time_s is None else at / row_time_s
            mains = () if row_time_s is None else _mains(at, row_time_s, 1 / ny)
            lines.append(SpectralLine(name, at, rms, excess, hertz, mains))
    return TemporalSpectrum(frequency, power, noise, tuple(lines), row_time_s)


def check_smooth_in_time(
    rows: ArrayLike,
    variance: ArrayLike,
    *,
    row_time_s: float | None = None,
    false_alarm: float = FALSE_ALARM,
) -> tuple[PriorCheck, TemporalSpectrum]:
    """Test that the displacement is larger at low frequencies, and compute its spectrum.

    Prior: drift, creep and most vibrations are slow beside the recording of a row, so that rows
    near each other move alike; then they can be smoothed.

    Parameters
    ----------
    rows, variance, row_time_s
        As for `temporal_spectrum`.
    false_alarm
        Probability that displacement without memory, which is *not* smooth, passes.

    Returns
    -------
    check : PriorCheck
        Mean power below 0.1 over that above 0.25 cycles a row, on the axis where it is smaller,
        against what white displacement reaches by chance. Not measured (NaN) where the displacement
        isn't larger than its own errors: nothing is there to be smooth.
    spectrum : TemporalSpectrum

    Raises
    ------
    DataError
        As for `temporal_spectrum`.

    Notes
    -----
    Threshold: quantile of the F distribution of two averages of periodograms.
    Cost: ``O(frames * rows * log(rows))``.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> walk = rng.normal(0, 0.1, (8, 2, 128)).cumsum(axis=2)
    >>> check_smooth_in_time(walk, np.full(walk.shape, 1e-3))[0].holds
    True
    >>> jumps = rng.normal(0, 1, (8, 2, 128))
    >>> check_smooth_in_time(jumps, np.full(walk.shape, 1e-3))[0].holds
    False
    """
    spectrum = temporal_spectrum(rows, variance, row_time_s=row_time_s)
    frames = len(np.asarray(rows))
    slow, fast = spectrum.frequency < _SLOW, spectrum.frequency > _FAST
    # the Hann window ties neighbouring frequencies: 1 / 1.94 independent ones each
    freedom = [2 * (frames - 1) * n / 1.94 for n in (slow.sum(), fast.sum())]
    threshold = float(f_distribution.isf(false_alarm / 2, *freedom))
    total = 2 * (frames - 1) * len(spectrum.frequency) / 1.94
    by_chance = float(chi2_distribution.isf(false_alarm, total) / total)
    ratios = []
    for power, noise in zip(spectrum.power, spectrum.noise, strict=True):
        # errors of the rows may themselves be 10 % off
        if power.mean() > 1.1 * by_chance * noise:
            ratios.append(float(power[slow].mean() / max(power[fast].mean(), 1e-300)))
    check = PriorCheck(
        "smooth-in-time",
        "the displacement is larger at low frequencies: rows near each other move alike",
        min(ratios, default=math.nan),
        threshold,
        ">=",
        "power of the displacement below 0.1 over that above 0.25 cycles a row",
        "rows jump independently of each other: smoothing has nothing to work with; more electrons a row, "
        "or slower scans",
    )
    return check, spectrum


def _checked(rows: ArrayLike, variance: ArrayLike) -> tuple[Floats, Floats, Bools]:
    u, v = np.array(rows, dtype=np.float64), np.array(variance, dtype=np.float64)
    if u.shape != v.shape or u.ndim != 3 or u.shape[1] != 2 or len(u) < 2 or u.shape[2] < 32:
        raise DataError(
            f"rows {u.shape} and variance {v.shape}",
            needed="twice (frame, 2, y), 2 frames and 32 rows or more",
        )
    good = np.asarray((np.isfinite(u) & np.isfinite(v)).all(axis=1))
    everywhere = np.broadcast_to(good[:, None], u.shape)
    u[~everywhere], v[~everywhere] = 0.0, 0.0
    return u, v, good


def _periodograms(u: Floats, good: Bools) -> Floats:
    """Return (frame, 2, n) px² a (cycle a row), frequencies 1/ny to below 1/2, unbiased over frames."""
    ny = u.shape[2]
    flat = detrended(u, good)[0]
    number = good.sum(axis=0)
    flat = np.where(good[:, None], flat - flat.sum(axis=0) / np.maximum(number, 1), 0.0)
    window = np.hanning(ny + 2)[1:-1]
    # rows that are not known take their share of the power away
    share = np.maximum((good * window**2).sum(axis=1), 1e-9)
    power = 2 * np.abs(np.fft.rfft(flat * window, axis=2)) ** 2 / share[:, None, None]
    return np.asarray(power[:, :, 1 : (ny + 1) // 2] * (len(u) / (len(u) - 1)))


def _peaks(each: Floats, ny: int, false_alarm: float) -> list[tuple[float, float, float]]:
    """Return (cycles a row, rms px, power over continuum) of the lines in the spectra (frame, n) of one axis."""
    frames, n = each.shape
    power = each.mean(axis=0)
    freedom = 2 * (frames - 1)
    typical = chi2_distribution.median(freedom) / freedom
    continuum = (
        np.exp(median_filter(np.log(np.maximum(power, 1e-300)), _CONTINUUM_BINS, mode="nearest")) / typical
    )
    # a median over 17 bins errs by 1.25 / sqrt(17 / 1.94) of the scatter of one
    scatter = math.sqrt(2 / freedom) * 1.25 * math.sqrt(1.94 / _CONTINUUM_BINS)
    limit = float(chi2_distribution.isf(false_alarm / n, freedom)) / freedom * (1 + 2 * scatter)
    found = []
    for at in range(_FIRST_BIN - 1, n):
        near = slice(max(at - 2, 0), min(at + 3, n))
        excess = power[at] / continuum[at]
        # a line is in most frames: one that jumped is no line
        common = np.mean(each[:, at] > continuum[at]) > 0.5
        if excess > limit and common and power[at] >= power[near].max():
            above = np.maximum(power[near] - continuum[near], 0.0)
            # bin b holds b + 1 cycles a frame
            middle = float(above @ np.arange(near.start + 1, near.stop + 1) / above.sum()) / ny
            found.append((middle, math.sqrt(above.sum() / ny), float(excess)))
    return found


def _mains(frequency: float, row_time_s: float, width: float) -> tuple[str, ...]:
    """Return the harmonics of the mains that fold to `frequency` cycles a row within `width`."""
    names = []
    for base in _MAINS_HZ:
        for order in range(1, _HARMONICS + 1):
            cycles = order * base * row_time_s
            folded = abs(cycles - round(cycles))
            if abs(folded - frequency) <= width:
                names.append(f"{order * base:g} Hz")
    return tuple(names)
