"""Displacement against time: one trace a frame, and the spectrum of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairstem.errors import DataError
from fairstem.plot._image import PixelSize, pixel_pair, round_length
from fairstem.plot._panels import panels, plain_log
from fairstem.plot.numbers import significant
from fairstem.plot.style import CATEGORIES, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SpectrumArtists", "TraceArtists", "spectrum", "traces"]

Floats = NDArray[np.float64]
AXES = ("slow scan axis (y)", "fast scan axis (x)")
COLOURS = (CATEGORIES[6], CATEGORIES[5])


class TraceArtists(NamedTuple):
    """What `traces` draws: per axis the lines and the error bands, and the frames that are shown."""

    lines: list[list[Any]]
    bands: list[list[Any]]
    frames: tuple[int, ...]


class SpectrumArtists(NamedTuple):
    """What `spectrum` draws: one curve an axis, the noise's level, the marks of lines."""

    curves: list[Any]
    noise: list[Any]
    marks: list[Any]


def traces(
    rows: ArrayLike,
    sd: ArrayLike | None = None,
    *,
    ax: Sequence[Axes] | None = None,
    pixel_size_nm: PixelSize = None,
    frames: Sequence[int] | None = None,
    most: int = 12,
) -> TraceArtists:
    """Draw the displacement of the rows, frame below frame, with their error bands.

    Rows are recorded one after the other, so the horizontal axis is time. Each trace is drawn about its
    own mean: the shift of a whole frame says nothing about the scan, and would hide what does.

    Parameters
    ----------
    rows
        ``(frame, 2, y)`` displacement of each row along the slow and the fast scan axis, px.
    sd
        The same shape: standard deviation, px. Not finite where a row was not measured; the trace is
        drawn there without a band.
    ax
        Two axes, for slow and fast axis; new ones by default.
    pixel_size_nm
        Pixel size in nm, float or (py, px): the scale is then in pm, else in px.
    frames
        Numbers of the frames, where `rows` holds some of a series only.
    most
        Draw at most so many frames, spread evenly over the series.

    Returns
    -------
    TraceArtists
        Lines and bands of both axes, and the numbers of the frames drawn.

    Raises
    ------
    DataError
        If shapes don't fit or a displacement is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(0, 0.2, (5, 2, 64)).cumsum(-1)
    >>> traces(rows, np.full_like(rows, 0.1), most=3).frames
    (0, 2, 4)
    """
    array, bars = _checked_rows(rows, sd)
    names = tuple(range(len(array))) if frames is None else tuple(frames)
    if len(names) != len(array):
        raise DataError(f"{len(names)} frame numbers for {len(array)} traces", needed="one a trace")
    shown = np.unique(np.round(np.linspace(0, len(array) - 1, min(most, len(array)))).astype(int))
    both = panels(ax, 2, 6.4, 1.4 + 0.32 * len(shown))
    pair = pixel_pair(pixel_size_nm)
    factors = (1.0, 1.0) if pair is None else (1000 * pair[0], 1000 * pair[1])
    # one scale for both axes, so that they can be compared
    size = np.reshape(factors, (2, 1))
    about = (array[shown] - array[shown].mean(axis=-1, keepdims=True)) * size
    step = _step(about)
    lines, bands = [], []
    for axis, (where, name) in enumerate(zip(both, AXES, strict=True)):
        band = None if bars is None else bars[shown, axis] * factors[axis]
        drawn = _waterfall(where, about[:, axis], band, step, COLOURS[axis])
        lines.append(drawn[0])
        bands.append(drawn[1])
        _finish_traces(where, name, [names[k] for k in shown], step)
    both[0].set_ylabel("frame")
    _scale(both[1], len(shown), step, "px" if pair is None else "pm")
    return TraceArtists(lines, bands, tuple(names[k] for k in shown))


def _checked_rows(rows: ArrayLike, sd: ArrayLike | None) -> tuple[Floats, Floats | None]:
    array = np.asarray(rows, dtype=np.float64)
    if array.ndim != 3 or array.shape[1] != 2 or array.size == 0:
        raise DataError(f"rows of shape {array.shape}", needed="(frame, 2, y)")
    if not np.isfinite(array).all():
        raise DataError("a displacement that is not finite", needed="numbers", todo="leave that frame out")
    if sd is None:
        return array, None
    bars = np.asarray(sd, dtype=np.float64)
    if bars.shape != array.shape:
        raise DataError(f"sd of shape {bars.shape} for rows of shape {array.shape}", needed="equal shapes")
    return array, bars


def _step(about: Floats) -> float:
    """Return the distance between traces: so far that only the rare peak reaches its neighbour."""
    spread = np.percentile(about, (2, 98), axis=-1)
    reach = float(np.max(spread[1] - spread[0]))
    return 1.15 * reach if reach > 0 else 1.0


def _waterfall(
    ax: Axes, about: Floats, band: Floats | None, step: float, colour: str
) -> tuple[list[Any], list[Any]]:
    lines, bands = [], []
    number = np.arange(about.shape[1])
    for k, trace in enumerate(about):
        # frame 0 at the top, positive displacement upwards
        level = -k * step
        ax.axhline(level, color="0.85", lw=0.6, zorder=0)
        if band is not None:
            lines_of = (level + trace - band[k], level + trace + band[k])
            bands.append(ax.fill_between(number, *lines_of, color=colour, alpha=0.3, lw=0))
        lines += ax.plot(number, level + trace, color=colour, lw=0.9 if band is None else 0.6)
    return lines, bands


def _finish_traces(ax: Axes, name: str, frames: Sequence[int], step: float) -> None:
    ax.set_title(name, fontsize=10, loc="left")
    ax.set_xlabel("row, in the order of time")
    ax.set_yticks([-k * step for k in range(len(frames))], [str(f) for f in frames])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-(len(frames) - 0.3) * step, 0.85 * step)
    ax.margins(x=0.01)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def _scale(ax: Axes, count: int, step: float, unit: str) -> None:
    """Draw how far a displacement of a round size reaches, beside the traces."""
    length = round_length(0.8 * step)
    place = ax.get_yaxis_transform()
    bottom = -(count - 1) * step - length / 2
    ax.plot([1.02, 1.02], [bottom, bottom + length], color="black", lw=2, transform=place, clip_on=False)
    text = f"{significant(length, 3)} {unit}"
    ax.text(1.035, bottom + length / 2, text, transform=place, va="center", fontsize=9, clip_on=False)


def spectrum(
    frequency: ArrayLike,
    power: ArrayLike,
    *,
    ax: Axes | None = None,
    pixel_size_nm: PixelSize = None,
    noise: ArrayLike | None = None,
    lines: Sequence[float] = (),
    unit: str = "cycles per frame",
) -> SpectrumArtists:
    """Draw the temporal spectrum of displacements as amplitudes, with its lines marked.

    Parameters
    ----------
    frequency
        ``(n,)`` frequencies, in `unit`; those of zero are left out.
    power
        ``(2, n)`` mean square of the displacement in each frequency along the slow and the fast scan
        axis, px²: over all frequencies it adds up to the variance. Drawn is √(2 power), the amplitude
        of a sine wave of that power.
    ax
        Axes; new ones by default.
    pixel_size_nm
        Pixel size in nm, float or (py, px): amplitudes are then in pm, else in px.
    noise
        ``(2,)`` or ``(2, n)`` power that the error bars of the rows alone would give, px²; dashed.
    lines
        Frequencies that stand out, marked with their values.
    unit
        Unit of the frequencies, such as ``"Hz"``.

    Returns
    -------
    SpectrumArtists
        Curves, noise levels and marks.

    Raises
    ------
    DataError
        If shapes don't fit, or there is no positive frequency or power.

    Examples
    --------
    >>> import numpy as np
    >>> drawn = spectrum(np.arange(33), np.full((2, 33), 1e-3), pixel_size_nm=0.02, lines=[4.0])
    >>> len(drawn.curves), len(drawn.marks)
    (2, 1)
    """
    ax = axes(ax)
    at, values = np.asarray(frequency, dtype=np.float64), np.asarray(power, dtype=np.float64)
    if at.ndim != 1 or values.shape != (2, at.size):
        raise DataError(
            f"frequencies of shape {at.shape} and powers of shape {values.shape}", needed="(n,) and (2, n)"
        )
    good = at > 0
    if not good.any() or not (values[:, good] > 0).any() or not np.isfinite(values[:, good]).all():
        raise DataError("a spectrum without a positive frequency and power", needed="finite powers")
    pair = pixel_pair(pixel_size_nm)
    factors = (1.0, 1.0) if pair is None else (1000 * pair[0], 1000 * pair[1])
    levels = None if noise is None else np.asarray(noise, dtype=np.float64)
    curves, floors = [], []
    for axis, name in enumerate(AXES):
        amplitude = factors[axis] * np.sqrt(2 * values[axis, good])
        curves += ax.plot(at[good], amplitude, color=COLOURS[axis], lw=1.2, label=name)
        if levels is not None:
            level = factors[axis] * np.sqrt(2 * np.broadcast_to(levels[axis], at.shape)[good])
            named = "from the error bars alone" if axis else None
            floors += ax.plot(at[good], level, color=COLOURS[axis], lw=1.0, ls="--", label=named)
    marks = _mark_lines(ax, lines)
    ax.set_xlim(at[good].min(), at[good].max())
    plain_log(ax)
    ax.set_xlabel(f"frequency ({unit})")
    ax.set_ylabel(f"amplitude ({'px' if pair is None else 'pm'})")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.legend(fontsize=8, frameon=False)
    return SpectrumArtists(curves, floors, marks)


def _mark_lines(ax: Axes, lines: Sequence[float]) -> list[Any]:
    marks = []
    for line in lines:
        marks.append(ax.axvline(line, color="0.6", lw=0.8, ls=":", zorder=0))
        ax.text(
            line,
            1.01,
            significant(line, 3),
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
            color="0.35",
        )
    return marks
