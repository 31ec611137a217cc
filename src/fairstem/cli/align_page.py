"""The sections of a registration report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairstem.cli import align_figures as draw
from fairstem.cli import pages
from fairstem.cli.align_budget import FLOOR, REGISTRATION
from fairstem.cli.options import as_options
from fairstem.cli.registered import Registered
from fairstem.plot.numbers import significant
from fairstem.plot.report import (
    Checks,
    Citation,
    Number,
    Numbers,
    Picture,
    Prose,
    Provenance,
    Report,
    Section,
    Table,
    Warnings,
)

__all__ = ["citations", "headline", "page", "section", "summary"]

MODELS = {
    "rowwise": "row by row, as a function of time",
    "dense": "a displacement of every pixel",
    "rigid": "frames shifted as a whole",
}
ROWS = (
    "Correction of scan distortion by non-rigid registration along rows: L. Jones et al., Advanced Structural "
    "and Chemical Imaging 1 (2015) 8, doi:10.1186/s40679-015-0008-4."
)
DENSE = (
    "Dense non-rigid registration with sequential composition and bias correction: B. Berkels et al., "
    "Ultramicroscopy 138 (2014) 46, doi:10.1016/j.ultramic.2013.11.007."
)
PAIRS = (
    "Scans in orthogonal directions: C. Ophus, J. Ciston, C. T. Nelson, Ultramicroscopy 162 (2016) 1, "
    "doi:10.1016/j.ultramic.2015.12.002."
)
_FRAMES_LISTED = 40


def summary(registered: Registered) -> dict[str, Any]:
    """Return the numbers of a registration, JSON-ready.

    Parameters
    ----------
    registered
        What was registered.

    Returns
    -------
    dict
        Lengths in the units their names say.
    """
    unit = registered.unit
    return {
        "frames": registered.shape[0],
        "frames_used": list(registered.used),
        "shape": list(registered.shape),
        "dtype": registered.dtype,
        "pixel_size_nm": registered.pixel_size_nm,
        "model": registered.model,
        "unit": unit,
        "floor": registered.floor_size,
        "floor_px": float(registered.floor.px),
        "floor_pm": registered.floor.pm,
        "budget": dict(registered.budget),
        "column_width_px": registered.column_width,
        "within_frames": registered.within_frames,
        "row_error": registered.row_error_size,
        "shifts_px": registered.shifts.tolist(),
        "lines": registered.lines,
        "changed_fraction": float(registered.changed.mean()),
        "samples": {"min": float(registered.samples.min()), "max": float(registered.samples.max())},
        "parameters": dict(registered.parameters),
        "priors": list(registered.priors),
        "warnings": list(registered.warnings),
        "seconds": registered.seconds,
    }


def headline(registered: Registered) -> list[Number]:
    """Return the numbers that head the page: floor first.

    Parameters
    ----------
    registered
        What was registered.

    Returns
    -------
    list of Number
        What could not be measured is left out.
    """
    unit, used = registered.unit, len(registered.used)
    shown = [
        Number(
            "common-mode floor",
            significant(registered.floor_size, 2),
            unit=unit,
            note=f"error of a row's position that all {used} frames share, rms per axis; below it only more "
            "frames, scans at 0/90°, or the lattice pass help",
        )
    ]
    left = registered.left_out
    note = f"left out: {_listed(left)}" if left else "all of them are in the average"
    shown.append(Number("frames", f"{used} of {registered.shape[0]}", note=note))
    if np.isfinite(registered.within_frames):
        value = significant(registered.within_frames, 3)
        note = "rms per axis, the shifts of whole frames left out"
        shown.append(Number("displacement within the frames", value, unit=unit, note=note))
    if np.isfinite(registered.row_error_size):
        value = significant(registered.row_error_size, 2)
        note = "median, one standard deviation per axis, in one frame"
        shown.append(Number("error bar of a row's displacement", value, unit=unit, note=note))
    width = registered.column_width
    for name, size in registered.budget.items() if width is not None else ():
        if name == REGISTRATION:
            continue
        note = (
            f"of an atom column's position (width {significant(width or 0.0, 2)} px) in the average, per axis"
        )
        shown.append(Number(f"{name}, a column", significant(size, 2), unit=unit, note=note))
    return shown


def _listed(numbers: Sequence[int], most: int = 8) -> str:
    text = ", ".join(map(str, numbers[:most]))
    return text if len(numbers) <= most else f"{text} and {len(numbers) - most} more"


def _input(registered: Registered) -> Prose:
    n, ny, nx = registered.shape
    size = registered.pixel_size_nm
    scale = "no pixel size, so lengths are in px" if size is None else f"{size[1]:.5g} nm per pixel"
    text = f"{n} frames of {ny} × {nx} px ({registered.dtype}), {scale}. Model: {registered.model}"
    text += f", {MODELS[registered.model]}" if registered.model in MODELS else ""
    if registered.angles.any():
        turns = ", ".join(f"{angle:g}" for angle in np.unique(registered.angles.round(3)))
        text += f"; scans at {turns}°"
    return Prose(f"{text}.")


def _frame_table(registered: Registered) -> Table:
    unit, scale = registered.unit, registered.scale
    digits = 3 if unit == "px" else 1
    rows = []
    time = np.arange(registered.shape[1]) - (registered.shape[1] - 1) / 2
    for k in range(min(registered.shape[0], _FRAMES_LISTED)):
        cells: list[Any] = [k, "yes" if k in registered.used else "no"]
        cells += [round(float(v), digits) for v in registered.shifts[k] * scale]
        if registered.rows is not None:
            about = registered.rows[k] - registered.rows[k].mean(axis=-1, keepdims=True)
            slope = about @ time / (time @ time)
            rest = about - slope[:, None] * time
            cells += [round(float(v), digits) for v in slope * registered.shape[1] * scale]
            cells += [round(float(v), digits) for v in rest.std(axis=-1) * scale]
        rows.append(cells)
    heads = ["frame", "in the average", f"shift y ({unit})", f"shift x ({unit})"]
    if registered.rows is not None:
        heads += [f"drift within it, slow ({unit})", f"fast ({unit})", f"rms about it, slow ({unit})"]
        heads += [f"fast ({unit})"]
    more = registered.shape[0] - len(rows)
    caption = "Displacement of the frames" + (f"; {more} more are in rows.csv" if more > 0 else "")
    return Table(heads, rows, caption)


def _shown(*pictures: Picture | None) -> list[Any]:
    return [p for p in pictures if p is not None]


def _parts(registered: Registered) -> list[tuple[str, list[Any]]]:
    """Return heading and blocks of each part of the page, in the order of reading."""
    notes = Warnings([as_options(w) for w in registered.warnings])
    moved: list[Any] = _shown(draw.displacement(registered), draw.temporal(registered))
    if not moved:
        moved = [Prose("Frames were shifted as a whole: there is no displacement within them to show.")]
    return [
        ("What came in", [_input(registered), notes]),
        ("Before and after", _shown(draw.before_after(registered), draw.picture_of_average(registered))),
        ("Displacement in time", [*moved, _frame_table(registered)]),
        ("What changed", _shown(draw.changed(registered), draw.frames_behind(registered))),
        ("What limits positions", [Prose(_floor_sentence(registered)), *_shown(draw.budget(registered))]),
        ("Assumptions", [*pages.failed(registered.priors), Checks(registered.priors)]),
    ]


def _floor_sentence(registered: Registered) -> str:
    used, unit, width = len(registered.used), registered.unit, registered.column_width
    column = ""
    if width is not None:
        size = significant(registered.budget[FLOOR], 2)
        column = (
            f" for one row, {size} {unit} for an atom column, which averages over the rows that it covers"
        )
    return (
        f"Common-mode floor: {significant(registered.floor_size, 2)} {unit} at {used} frames{column}. What the "
        "frames share by chance stays in the average, and no registration can see it; below it only more "
        "frames, scans at 0/90°, or the lattice pass help. It falls as one over the root of the number of "
        "frames."
    )


def section(
    registered: Registered, *, about: str = "", title: str = "", extra: Sequence[Number] = ()
) -> Section:
    """Return the part of a page that shows one series.

    Parameters
    ----------
    registered
        What was registered.
    about
        What the series is.
    title
        Heading; the series' by default.
    extra
        More numbers: how the displacement agrees with a known one.

    Returns
    -------
    Section
        Numbers, the most telling pictures, checks.
    """
    blocks: list[Any] = [Prose(about)] if about else []
    blocks += [Numbers([*headline(registered), *extra]), _input(registered)]
    blocks += [Warnings([as_options(w) for w in registered.warnings]), *pages.failed(registered.priors)]
    blocks += _shown(
        draw.before_after(registered),
        draw.displacement(registered),
        draw.changed(registered),
        draw.budget(registered),
    )
    blocks += [Checks(registered.priors), Provenance(registered.steps)]
    line = f"{len(registered.used)} frames, floor {significant(registered.floor_size, 2)} {registered.unit}"
    return Section(title or registered.title, blocks, line)


def citations(registered: Registered) -> list[str]:
    """Return what to cite for a registration.

    Parameters
    ----------
    registered
        What was registered.

    Returns
    -------
    list of str
        One reference each.
    """
    entries = [DENSE] if registered.model == "dense" else [ROWS] if registered.model == "rowwise" else []
    entries += [PAIRS] if np.ptp(registered.angles) > 0 else []
    return pages.citations(*entries)


def page(registered: Registered, *, source: str = "") -> Report:
    """Return the whole page of ``fairstem align``.

    Parameters
    ----------
    registered
        What was registered.
    source
        Names of the files.

    Returns
    -------
    Report
        Ready for `to_html`.
    """
    from fairstem import __version__

    parts = [Section(title, blocks) for title, blocks in _parts(registered)]
    first = Section("In short", [Numbers(headline(registered))])
    made = Section("Provenance", [Provenance(registered.steps)]) if registered.steps else None
    cite = Section("How to cite", [Citation(citations(registered))])
    return Report(
        f"Registration of {registered.title or source}",
        [first, *parts, *([made] if made else []), cite],
        subtitle=source,
        footer=f"fairstem {__version__}, {registered.seconds:.1f} s",
    )
