"""The pictures of a registration report."""

from __future__ import annotations

from typing import Any

import numpy as np

from fairstem import plot
from fairstem.cli.registered import Registered
from fairstem.plot.numbers import significant
from fairstem.plot.report import Picture

PICTURES = (
    "before_after",
    "budget",
    "changed",
    "displacement",
    "frames_behind",
    "picture_of_average",
    "temporal",
)
__all__ = [
    "PICTURES",
    "average_png",
    "before_after",
    "budget",
    "changed",
    "displacement",
    "frames_behind",
    "picture_of_average",
    "temporal",
]

WIDTH = 6.4


def _canvas(registered: Registered, bar: bool = False) -> Any:
    """Return axes as high as the image needs, with room for a colour bar."""
    ny, nx = registered.average.shape
    size = registered.pixel_size_nm or (1.0, 1.0)
    ratio = ny * size[0] / (nx * size[1])
    wide = WIDTH if bar else WIDTH - 0.9
    return plot.figure(wide, float(np.clip((WIDTH - 0.9) * ratio, 1.5, 9.0))).subplots()


def _png(artist: Any, dpi: float = 110, colours: int | None = None) -> bytes:
    return plot.to_png(artist.get_figure(root=True), dpi, colours)


def average_png(registered: Registered, dpi: float = 150, colours: int | None = None) -> bytes:
    """Draw the average with a scale bar.

    Parameters
    ----------
    registered
        What was registered.
    dpi
        Dots per inch.
    colours
        Reduce to a palette of so many colours.

    Returns
    -------
    bytes
        PNG.
    """
    ax = _canvas(registered)
    drawn = plot.image(registered.average, ax=ax, pixel_size_nm=registered.pixel_size_nm)
    return _png(drawn.image, dpi, colours)


def picture_of_average(registered: Registered) -> Picture:
    """Draw the whole average for the page."""
    text = f"{registered.title}: average of {len(registered.used)} registered frames."
    return Picture(average_png(registered, 110, colours=256), text, text)


def before_after(registered: Registered) -> Picture:
    """Draw a part of one frame, of the average of shifted frames, and of the registered average."""
    y, x, side = registered.crop
    part = (slice(y, y + side), slice(x, x + side))
    size = registered.pixel_size_nm
    fig = plot.figure(9.6, 3.4)
    shown = np.stack([registered.before, registered.average[part]])
    plot.before_after(
        shown[0],
        shown[1],
        frame=registered.frame,
        ax=fig.subplots(1, 3),
        pixel_size_nm=size,
        crop=(0, 0, side),
        labels=(
            f"frame {registered.frame_number} as recorded",
            "average, frames shifted as a whole",
            "average, registered",
        ),
    )
    words = "The same part, pixel by pixel, on one grey scale"
    return Picture(
        plot.to_png(fig, 110, colours=256),
        f"{words}: {side} × {side} px at row {y}, column {x}. The middle picture uses the same shifts, without "
        "what was corrected within the frames.",
        f"{words}: one frame, average of shifted frames, registered average",
        wide=True,
    )


def displacement(registered: Registered) -> Picture | None:
    """Draw the traces of the rows; None where frames move as a whole."""
    if registered.rows is None:
        return None
    used = list(registered.used)
    bars = None if registered.row_error is None else registered.row_error[used]
    drawn = plot.traces(
        registered.rows[used], bars, pixel_size_nm=registered.pixel_size_nm, frames=registered.used
    )
    what = "mean displacement of each row" if registered.model == "dense" else "displacement of each row"
    some = "" if len(drawn.frames) == len(used) else f" {len(drawn.frames)} of {len(used)} frames are shown."
    size = significant(registered.within_frames, 3)
    error = registered.row_error_size
    band = "" if bars is None else f" Bands: one standard deviation, about {significant(error, 2)} "
    band += registered.unit + "." if band else ""
    return Picture(
        _png(drawn.lines[0][0]),
        f"The {what} against time, about the mean of its frame ({size} {registered.unit} rms per axis)."
        f"{band}{some}",
        f"Traces of displacement against row for {len(drawn.frames)} frames, along both scan axes",
    )


def temporal(registered: Registered) -> Picture | None:
    """Draw the spectrum of the rows; None where frames move as a whole."""
    found = registered.spectrum
    if found is None or not (found.power > 0).any():
        return None
    rows = registered.shape[1]
    drawn = plot.spectrum(
        found.frequency * rows,  # cycles a row, shown as cycles a frame
        found.power / rows,  # a density, shown as the mean square in each frequency
        ax=plot.figure(WIDTH, 4.4).subplots(),
        pixel_size_nm=registered.pixel_size_nm,
        noise=found.noise / rows if found.noise.any() else None,
        lines=sorted({line["cycles_per_frame"] for line in registered.lines}),
    )
    lines = ", ".join(
        f"{significant(line['cycles_per_frame'], 3)} cycles per frame ({line['axis']} axis, "
        f"{significant(line['rms'], 2)} {registered.unit} rms)"
        for line in registered.lines
    )
    said = f"Lines stand out at {lines}" if lines else "No line stands out"
    return Picture(
        _png(drawn.curves[0]),
        f"How the displacement varies in time: amplitudes by frequency, mean over the frames. {said}. "
        "A line that stays at the same hertz when the scan speed changes is vibration or mains.",
        f"Temporal spectrum of the displacement. {said}",
    )


def changed(registered: Registered) -> Picture:
    """Draw where frames differ by more than noise."""
    drawn = plot.chi2_map(
        registered.chi2,
        ax=_canvas(registered, bar=True),
        pixel_size_nm=registered.pixel_size_nm,
        changed=registered.changed,
    )
    n = len(drawn.changed)
    if n:
        said = f"{n} region{'s' * (n > 1)} outlined: the object changed there, or moved by itself"
    else:
        said = "No region stands out: the object did not change as far as the noise lets see"
    return Picture(
        _png(drawn.image),
        f"What the frames leave over after registration, against their noise. {said}.",
        f"Map of χ² per frame. {said}",
    )


def frames_behind(registered: Registered) -> Picture | None:
    """Draw the number of frames behind each pixel; None where all stand behind every pixel."""
    count = registered.samples
    if float(count.min()) >= len(registered.used) - 1e-6:
        return None
    drawn = plot.samples(count, ax=_canvas(registered, bar=True), pixel_size_nm=registered.pixel_size_nm)
    share = 100 * float((count >= len(registered.used) - 1e-6).mean())
    text = f"Number of frames behind each pixel of the average: all {len(registered.used)} in {share:.0f} % of it"
    return Picture(_png(drawn.image, colours=256), f"{text}.", text)


def budget(registered: Registered) -> Picture | None:
    """Draw the error budget against the number of frames."""
    if not any(v > 0 for v in registered.budget.values()):
        return None
    ax = plot.figure(WIDTH, 4.4).subplots()
    drawn = plot.floor(dict(registered.budget), len(registered.used), ax=ax, unit=registered.unit)
    width = registered.column_width
    what = "one row" if width is None else f"an atom column (width {significant(width, 2)} px)"
    return Picture(
        _png(next(iter(drawn.points.values()))),
        f"What limits the position of {what} in the average, and how it falls with more frames.",
        f"Error budget of the position of {what} against the number of frames",
    )
