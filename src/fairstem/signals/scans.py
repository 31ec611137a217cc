"""The shape of a scan: a stack of diffraction patterns laid out over the scan positions, and what is missing."""

from __future__ import annotations

import math
import operator
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from fairstem.errors import DataError, DataTypeError
from fairstem.signals.axes import Axis
from fairstem.signals.door import Opened, is_dask, open_data
from fairstem.signals.findings import Finding

__all__ = ["arrange", "check_request", "factorizations", "scan_from_frames", "stack_finding"]

Missing = Literal["refuse", "crop"]
_SPECTRAL = {"eV", "keV"}
_IMAGE_NAMES = {"", "y", "x", "dy", "dx"}
_LONGEST_FLYBACK = 0.25  # of a row: what is suggested as flyback, not what is accepted


def scan_from_frames(
    frames: Any, scan_shape: tuple[int, int], *, flyback: int = 0, missing: Missing = "refuse"
) -> Any:
    """Lay a stack of diffraction patterns out over the positions of a scan.

    The prior is the raster: patterns were recorded row by row, each row from its first to its last position,
    with `flyback` more while the beam returned.

    Parameters
    ----------
    frames
        HyperSpy signal, numpy or dask array (frame, k_y, k_x), or a scan (y, x, k_y, k_x) whose shape is wrong.
    scan_shape
        Number of positions (y, x), flyback not counted.
    flyback
        Patterns at the end of each row that were recorded while the beam flew back; they are left out.
    missing
        What to do when the scan was interrupted: ``"refuse"``, or ``"crop"`` to keep the complete rows.

    Returns
    -------
    numpy.ndarray, dask.array.Array or hyperspy signal
        The scan (y, x, k_y, k_x) of the type that came in, with the detector's axes as they were. A lazy one
        stays lazy, in chunks of whole patterns and whole rows.

    Raises
    ------
    DataError
        The number of patterns does not fit; the message lists shapes that would. Also fewer than 3 axes, a time
        series of scans, spectra.
    DataTypeError
        The shape or the flyback are no integers.

    Notes
    -----
    The parameter that matters is `scan_shape`: a wrong one that fits (64 × 32 instead of 32 × 64) shears the image,
    which any virtual image shows at once. Cost: none in memory (a view); a lazy one may be cut into other chunks.

    Examples
    --------
    >>> import numpy as np
    >>> frames = np.random.default_rng(0).poisson(1.0, (3 * 5, 8, 8))
    >>> scan_from_frames(frames, (3, 4), flyback=1).shape
    (3, 4, 8, 8)
    """
    return arrange(frames, scan_shape, flyback, missing)[0]


def arrange(
    frames: Any,
    scan_shape: tuple[int, int],
    flyback: int = 0,
    missing: Missing = "refuse",
    name: str = "frames",
) -> tuple[Any, list[Finding]]:
    """Do what `scan_from_frames` does, and say what was done.

    Parameters
    ----------
    frames, scan_shape, flyback, missing
        As in `scan_from_frames`.
    name
        How messages call the data, a file name for instance.

    Returns
    -------
    tuple
        The scan, and the findings ``scan-shape``, ``flyback-removed``, ``rows-missing``.

    Raises
    ------
    DataError, DataTypeError
        As `scan_from_frames` does.
    """
    (ny, nx), flyback = check_request(scan_shape, flyback, missing)
    opened = open_data(frames, name=name)
    array = _stack(opened)
    before = tuple(int(n) for n in opened.array.shape[:-2])
    as_it_is = [a.navigate for a in opened.axes] == [True, True, False, False]
    if before == (ny, nx) and not flyback and (as_it_is or opened.kind != "hyperspy"):
        return frames, []
    total, row = int(array.shape[0]), nx + flyback
    rows = _rows(total, (ny, nx), flyback, missing, name)
    scan = _laid_out(array, rows, nx, row)
    told = " × ".join(map(str, before))
    given = f"{told} patterns" if len(before) == 1 else f"a scan of {told}"
    message = f"{given} laid out as a scan of {rows} × {nx} (y × x) positions, as scan_shape= says"
    found = [Finding("scan-shape", "info", message, given=given, assumed=f"{rows} × {nx}", topic="file")]
    if flyback:
        message = (
            f"{flyback} flyback pattern{'s' if flyback > 1 else ''} at the end of each row were left out"
        )
        found.append(Finding("flyback-removed", "info", message, given=f"rows of {row}", topic="file"))
    if rows < ny:
        used = (rows - 1) * row + min(row, total - (rows - 1) * row)
        message = f"the scan was interrupted: {rows} of {ny} rows are complete, the others are missing" + (
            f" and {total - used} patterns of an unfinished row were dropped" if total > used else ""
        )
        found.append(Finding("rows-missing", "warning", message, given=f"{total} patterns", topic="file"))
    axes, taken_back = _axes(opened, before, rows, nx)
    return opened.rewrap(scan, axes=axes), found + taken_back


def check_request(scan_shape: Any, flyback: Any, missing: Any) -> tuple[tuple[int, int], int]:
    """Check the arguments that say how a scan is laid out.

    Parameters
    ----------
    scan_shape, flyback, missing
        As given by the caller.

    Returns
    -------
    tuple
        The shape (y, x) and the flyback as integers.

    Raises
    ------
    DataTypeError
        Something is no integer.
    DataError
        A number is out of range, or `missing` is unknown.
    """
    needed = "two positive integers: rows, positions in a row (y, x)"
    if isinstance(scan_shape, str) or not hasattr(scan_shape, "__len__") or len(scan_shape) != 2:
        raise DataTypeError(f"scan_shape={scan_shape!r}", needed=needed)
    try:
        shape, extra = tuple(operator.index(n) for n in scan_shape), operator.index(flyback)
    except TypeError:
        raise DataTypeError(
            f"scan_shape={scan_shape!r}, flyback={flyback!r}", needed=f"{needed}; an integer flyback"
        ) from None
    if min(shape) < 1:
        raise DataError(f"scan_shape={scan_shape!r}", needed=needed)
    if extra < 0:
        raise DataError(
            f"flyback={flyback!r}", needed="the number of patterns to leave out of each row, 0 or more"
        )
    if missing not in ("refuse", "crop"):
        raise DataError(f"missing={missing!r}", needed="'refuse', or 'crop' to keep the complete rows")
    return (shape[0], shape[1]), extra


def factorizations(number: int, near: tuple[int, int] | None = None, most: int = 5) -> list[tuple[int, int]]:
    """Return the scan shapes (y, x) that hold exactly `number` patterns, the likeliest first.

    Parameters
    ----------
    number
        Number of patterns.
    near
        The shape that was asked for; shapes like it come first. By default square ones do.
    most
        Length of the list.

    Examples
    --------
    >>> factorizations(12)
    [(3, 4), (4, 3), (2, 6), (6, 2)]
    """
    small = [d for d in range(2, math.isqrt(number) + 1) if number % d == 0]
    pairs = {(d, number // d) for d in small} | {(number // d, d) for d in small}
    wanted = math.log(near[0] / near[1]) if near else 0.0

    def distance(pair: tuple[int, int]) -> tuple[float, int]:
        return round(abs(math.log(pair[0] / pair[1]) - wanted), 9), pair[0]

    return sorted(pairs, key=distance)[:most]


def stack_finding(number: int) -> Finding:
    """Say that patterns came without the shape of their scan."""
    fits = _listed(factorizations(number))
    message = f"a stack of {number} patterns without a scan shape: pass scan_shape=(ny, nx)" + (
        f"; {fits} would fit"
        if fits
        else f"; {number} patterns fill no rectangle, so flyback= or missing= is needed"
    )
    return Finding("scan-shape-missing", "warning", message, given=f"{number} patterns", topic="file")


def _listed(shapes: list[tuple[int, int]]) -> str:
    return ", ".join(f"{y} × {x}" for y, x in shapes)


def _stack(opened: Opened) -> Any:
    """Return the patterns as (frame, k_y, k_x)."""
    array = opened.array
    given = f"{opened.name} has shape {tuple(array.shape)}"
    if array.ndim < 3 or opened.axes[-1].units in _SPECTRAL:
        raise DataError(given, needed="a stack of patterns (frame, k_y, k_x) to lay out as scan_shape=")
    if array.ndim > 4:
        todo = "a time series of scans: pick one scan, such as s.inav[:, :, 0]"
        raise DataError(given, needed="one scan (y, x, k_y, k_x) or a stack (frame, k_y, k_x)", todo=todo)
    if array.ndim == 3:
        return array
    if is_dask(array):
        array = array.rechunk({1: -1, 2: -1, 3: -1})  # rows stay next to each other in memory
    return array.reshape((-1, *array.shape[-2:]))


def _rows(total: int, shape: tuple[int, int], flyback: int, missing: Missing, name: str) -> int:
    """Return how many rows there are, or say why the number of patterns does not fit."""
    ny, nx = shape
    row = nx + flyback
    # the beam needs no flyback after the last row, so its flyback may not be there
    complete = total // row + (total % row >= nx)
    if total == ny * row or (flyback and total == ny * row - flyback):
        return ny
    if total < ny * row - flyback and missing == "crop" and complete:
        return complete
    asked = f"scan_shape=({ny}, {nx})" + (f" with flyback={flyback}" if flyback else "")
    raise DataError(
        f"{name} has {total} patterns",
        needed=f"{ny * row} for {asked}",
        todo="; or ".join(_remedies(total, shape, flyback, complete)),
    )


def _remedies(total: int, shape: tuple[int, int], flyback: int, complete: int) -> list[str]:
    ny, nx = shape
    row, out = nx + flyback, []
    extra = total // ny - nx
    if total % ny == 0 and 0 < extra <= max(1, _LONGEST_FLYBACK * nx) and extra != flyback:
        out.append(f"pass flyback={extra}: {total} = {ny} × ({nx} + {extra})")
    if total > ny * row and total % row == 0:
        out.append(f"pass scan_shape=({total // row}, {nx}) if more rows were recorded")
    if total < ny * row and complete:
        out.append(f"if the scan was interrupted, pass missing='crop' to keep the {complete} complete rows")
    fits = factorizations(total, shape)
    if fits:
        out.append(f"pass another scan_shape=, {total} patterns fill {_listed(fits)}")
    if not out:
        out.append(
            "give the shape (y, x) that the microscope's scan had; flyback= leaves patterns out of each row"
        )
    return out


def _laid_out(array: Any, rows: int, nx: int, row: int) -> Any:
    """Return (rows, nx, k_y, k_x) from (frame, k_y, k_x): views, or tasks on whole rows."""
    detector = tuple(int(n) for n in array.shape[-2:])
    whole = min(rows, int(array.shape[0]) // row)
    array = array[: whole * row + (nx if whole < rows else 0)]
    if is_dask(array):
        # as many whole rows as the chunks had patterns: their bytes stay what the reader chose
        chunk = max(
            1,
            max(array.chunks[0]) * math.prod(max(c) for c in array.chunks[1:]) // (math.prod(detector) * row),
        )
        sizes = [min(chunk, whole - at) * row for at in range(0, whole, chunk)]
        sizes += [nx] if whole < rows else []
        array = array.rechunk((tuple(sizes), detector[:1], detector[1:]))
    scan = array[: whole * row].reshape((whole, row, *detector))[:, :nx]
    if whole < rows:
        scan = np.concatenate([scan, array[None, whole * row :]])
    return scan


def _axes(
    opened: Opened, before: tuple[int, ...], rows: int, nx: int
) -> tuple[list[int | Axis | None], list[Finding]]:
    """Return the axes of the scan: the old ones where they are a scan's, the detector's as they are."""
    old = opened.axes[:-2] if len(before) == 2 else (Axis("y", 1), Axis("x", 1))
    scan = [
        replace(axis, name=axis.name or name, size=size, navigate=True)
        for axis, name, size in zip(old, "yx", (rows, nx), strict=True)
    ]
    detector = [
        replace(axis, name=axis.name if axis.name not in _IMAGE_NAMES else name, navigate=False)
        for axis, name in zip(opened.axes[-2:], ("k_y", "k_x"), strict=True)
    ]
    found = []
    if all(axis.scale_nm is not None for axis in detector):
        given = ", ".join(f"{a.scale:g} {a.units}" for a in detector)
        message = f"the detector's axes were calibrated as an image ({given} a pixel), which no pattern is; taken back"
        found = [Finding("placeholder-removed", "info", message, given=given, topic="calibration")]
        detector = [replace(axis, scale=1.0, offset=0.0, units="") for axis in detector]
    return [*scan, *detector], found
