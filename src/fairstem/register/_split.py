"""Half-split test: do the odd and the even frames of a series give the same geometry?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.register._alignment import Alignment
from fairstem.register._judge.difference import Difference, Image, measure_difference
from fairstem.register._judge.floor import Floor
from fairstem.register._series.frames import open_series

__all__ = ["SplitCheck", "split_check"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
FALSE_ALARM = 0.01
_ROW_WINDOW_PX, _DENSE_WINDOW_PX = 5.0, 12.0
_MODES_ROWS = 96  # rows of the matrix whose eigenvalues say how many waves the floor has


@dataclasses.dataclass(frozen=True, eq=False)
class SplitCheck:
    """The geometry of two independent averages of one series, compared.

    Parameters
    ----------
    rms_px
        Root mean square difference per axis, px, shift, scale and shear of the whole field removed.
    rms_pm
        The same in pm, None without calibration.
    y_px, x_px
        The two axes, px.
    expected_px
        What the common-mode floors of both halves and counting noise predict.
    floor_px, counting_px
        The two parts of it: ``expected² = floor² + counting²``.
    error_px
        Half of `rms_px`: the error of the average of *all* frames, counting noise of the comparison
        included, as far as the halves do not share it.
    field
        ``(2, y, x)`` px, the difference (dy, dx) after the affine part: the second average at
        (y + dy, x + dx) shows the first at (y, x). NaN where there is nothing to compare.
    check
        The verdict.
    halves
        The two alignments: of the frames 0, 2, 4 ... and 1, 3, 5 ...
    """

    rms_px: float
    rms_pm: float | None
    y_px: float
    x_px: float
    expected_px: float
    floor_px: float
    counting_px: float
    error_px: float
    field: Floats = dataclasses.field(repr=False)
    check: PriorCheck
    halves: tuple[Alignment, Alignment] = dataclasses.field(repr=False)

    @property
    def holds(self) -> bool | None:
        """Whether the halves agree as well as they should."""
        return self.check.holds


def split_check(
    series: Any,
    *,
    model: Literal["rowwise", "dense", "rigid"] = "rowwise",
    angles: Sequence[float] | None = None,
    window_px: float | None = None,
    false_alarm: float = FALSE_ALARM,
    **options: Any,
) -> SplitCheck:
    """Align the two halves of a series independently, and compare the geometry of their averages.

    Prior: none beyond those of `align`; this is the test of its error bars. Odd and even frames share
    the object and nothing else, so that their averages may differ by what each one's frames share by
    chance (the common-mode floor) and by counting noise, not by more. A distortion that is the same in
    all frames is in both halves and goes unseen.

    Parameters
    ----------
    series
        ``(frame, y, x)`` as for `align`, at least 4 frames.
    model, angles
        As for `align`. Scans in several directions are split direction by direction, so that both halves
        have all of them.
    window_px
        Standard deviation, px, of the Gaussian window in which the shift between the averages is
        measured: the parameter that matters. It must hold some columns. Default: 5 rows for rows of one
        direction, 12 px both ways otherwise. Differences finer than that are not seen.
    false_alarm
        Probability that good halves fail.
    **options
        Further options of `align`.

    Returns
    -------
    SplitCheck

    Raises
    ------
    DataError
        Fewer than 4 frames, 2 of each direction, or averages with nothing to compare.

    Notes
    -----
    Threshold of the ratio measured/expected: quantile of the F distribution; its degrees of freedom are
    those of the waves that the floor consists of, and of the floor, which is itself estimated.
    Cost: that of `align`, and ``O(pixels)``.

    Examples
    --------
    >>> from fairstem import simulate
    >>> p = simulate.phantom("p1", seed=3, shape=(96, 96), frames=8)
    >>> split = split_check(p.data)
    >>> split.holds, split.rms_px < 0.5
    (True, True)
    """
    from fairstem.register._align import align

    frames = open_series(series)
    halves = split_frames(frames.usable, angles)
    if window_px is not None and not (math.isfinite(window_px) and window_px > 0):
        raise DataError(f"window_px is {window_px}", needed="a positive number of px")
    array = frames.opened.array
    aligned = []
    for half in halves:
        turns = None if angles is None else [float(angles[k]) for k in half]
        aligned.append(align(array[half], model=model, angles=turns, **options))
    one_way = model != "dense" and (angles is None or len({round(a % 180.0, 2) for a in angles}) == 1)
    upright = one_way and (angles is None or not any(round(a % 180.0, 2) for a in angles))
    window = window_px or (_ROW_WINDOW_PX if upright else _DENSE_WINDOW_PX)
    first, second = (Image(np.asarray(a.average, float), a.samples, a.variance) for a in aligned)
    difference = measure_difference(first, second, window, rows=upright)
    pixel = frames.pixel_size_nm
    return _judge(difference, (aligned[0], aligned[1]), window, pixel, false_alarm)


def split_frames(usable: Sequence[int], angles: Sequence[float] | None) -> tuple[list[int], list[int]]:
    """Return the numbers of the frames of both halves: every other one of each direction."""
    turns: dict[float, list[int]] = {}
    for k in usable:
        turns.setdefault(0.0 if angles is None else round(float(angles[k]), 2), []).append(k)
    if any(len(group) < 2 for group in turns.values()) or len(usable) < 4:
        raise DataError(
            f"{len(usable)} frames that hold an image, in {len(turns)} directions",
            needed="at least 4, and 2 of each direction: both halves must be aligned",
            todo="record more frames",
        )
    halves: tuple[list[int], list[int]] = ([], [])
    start = 0
    for group in turns.values():
        for n, k in enumerate(group):
            halves[(n + start) % 2].append(k)
        start = (start + len(group)) % 2  # directions of odd size do not all favour the same half
    return sorted(halves[0]), sorted(halves[1])


def _judge(
    difference: Difference,
    halves: tuple[Alignment, Alignment],
    window: float,
    pixel_size_nm: tuple[float, float] | None,
    false_alarm: float,
) -> SplitCheck:
    good = difference.good
    left = difference.shift[:, good]
    y, x = (math.sqrt(float(v)) for v in (left**2).mean(axis=1))
    counting2 = float(difference.variance[:, good].mean())
    floor2, modes = _floor_of_window([a.floor for a in halves], window, difference.shift.shape[1])
    rms = math.hypot(y, x) / math.sqrt(2)
    # counting noise has one degree of freedom a window and axis
    ny, nx = difference.shift.shape[1:]
    windows = 2 * max(ny / (2 * math.sqrt(math.pi) * window), 1)
    if not difference.rows:
        windows *= max(nx / (2 * math.sqrt(math.pi) * window), 1)
    # the affine map took 2 or 3 of them on each axis
    counting2 *= max(1 - (2 if difference.rows else 3) / (windows / 2), 0.2)
    expected = math.sqrt(floor2 + counting2)
    freedom = max((floor2 + counting2) ** 2 / (floor2**2 / modes + counting2**2 / windows), 1.0)
    frames = sum(len(a.used) for a in halves)
    limit = math.sqrt(float(f_distribution.isf(false_alarm, freedom, max(freedom * (frames - 2), 2.0))))
    check = PriorCheck(
        "halves-agree",
        "odd and even frames, aligned independently, give the same geometry",
        rms / expected if expected > 0 else math.nan,
        limit,
        "<=",
        f"difference of the two averages {rms:.3g} px rms over what floor and noise predict, {expected:.3g} px",
        "error bars are too small: look at the difference field, the residual map and the hop test",
    )
    pm = None
    if pixel_size_nm is not None:
        pm = 1000 * math.hypot(y * pixel_size_nm[0], x * pixel_size_nm[1]) / math.sqrt(2)
    shown = np.where(good, difference.shift, np.nan)
    return SplitCheck(
        rms, pm, y, x, expected, math.sqrt(floor2), math.sqrt(counting2), rms / 2, shown, check, halves
    )


def _floor_of_window(floors: list[Floor], window: float, ny: int) -> tuple[float, float]:
    """Return px² per axis of the difference of the floors in Gaussian windows, and its number of waves."""
    rows = np.linspace(0, ny - 1, min(ny, _MODES_ROWS))
    apart = np.abs(rows[:, None] - rows)
    total, square = 0.0, 0.0
    for axis in range(2):
        joint = np.zeros_like(apart)
        for floor in floors:
            c = _windowed(floor, window, axis)
            joint += np.interp(apart, np.arange(len(c)), c)
        design = np.linalg.qr(np.column_stack([np.ones(len(rows)), rows]))[0]
        rest = np.eye(len(rows)) - design @ design.T
        joint = rest @ joint @ rest
        total += float(np.trace(joint)) / len(rows)
        square += float((joint**2).sum()) / len(rows) ** 2
    exact = sum(float(_windowed(floor, window, axis)[0]) for floor in floors for axis in range(2))
    return exact / 2, max(total**2 / square, 1.0) if square > 0 else 1.0


def _windowed(floor: Floor, window: float, axis: int) -> Floats:
    """Return the autocovariance of the common mode averaged over a Gaussian window."""
    c = floor.covariance[axis]
    lags = np.arange(len(c))
    if floor.radial:
        # two windows of sigma w, convolved, weigh the distance r with r exp(-r² / 4 w²)
        weight = lags * np.exp(-((lags / window) ** 2) / 4)
        start = float(c @ weight / weight.sum()) if weight.sum() > 0 else float(c[0])
        return np.concatenate([[max(start, 0.0)], np.minimum(c[1:], max(start, 0.0))])
    both = np.abs(lags[:, None] + np.arange(-math.ceil(6 * window), math.ceil(6 * window) + 1))
    weight = np.exp(-((np.arange(-math.ceil(6 * window), math.ceil(6 * window) + 1) / window) ** 2) / 4)
    smooth = (c[np.minimum(both, len(c) - 1)] @ weight) / weight.sum()
    return np.asarray(np.concatenate([[max(smooth[0], 0.0)], smooth[1:]]))
