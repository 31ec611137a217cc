"""Registering one series for a report: the alignment, and what a page shows of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from fairstem.cli.align_budget import COUNTING, budget_of
from fairstem.cli.registered import Registered

__all__ = ["register_series"]

Floats = NDArray[np.float64]
CROP = 96


def register_series(
    signal: Any, title: str, options: Mapping[str, Any], warnings: Sequence[str]
) -> tuple[Any, Registered]:
    """Register a series and gather what a report shows.

    Parameters
    ----------
    signal
        ``(frame | y, x)`` HyperSpy signal.
    title
        For captions.
    options
        Arguments of `fairstem.register.align`.
    warnings
        List that collects warnings while this runs; copied at the end.

    Returns
    -------
    tuple
        The `fairstem.register.Alignment`, and a `Registered`.

    Raises
    ------
    DataError
        If the series does not fit the method.
    """
    from fairstem import register
    from fairstem.register import check_unchanged
    from fairstem.signals import open_data, steps_of

    start = time.perf_counter()
    alignment = register.align(signal, **options)
    seconds = time.perf_counter() - start
    average = open_data(alignment.average, name="average")
    image = np.asarray(average.array, dtype=np.float64)
    crop, number, frame, before = _before(alignment, image)
    rows, row_error = _rows(alignment)
    used = tuple(int(k) for k in alignment.used)
    opened = open_data(signal, name="series")
    budget, width = budget_of(alignment, image, row_error)
    registered = Registered(
        title=title,
        shape=tuple(int(n) for n in opened.array.shape),  # type: ignore[arg-type]
        dtype=str(np.dtype(opened.array.dtype)),
        pixel_size_nm=opened.pixel_size_nm,
        average=image,
        crop=crop,
        frame=frame,
        before=before,
        frame_number=number,
        rows=rows,
        row_error=row_error,
        shifts=_shifts(alignment),
        angles=_angles(alignment),
        spectrum=_spectrum(rows, row_error, used),
        samples=np.asarray(alignment.samples, dtype=np.float64),
        chi2=np.asarray(alignment.chi2, dtype=np.float64),
        changed=check_unchanged(alignment.chi2, alignment.samples)[1],
        floor=alignment.floor,
        budget=budget,
        column_width=width,
        used=used,
        model=str(options.get("model", "rowwise")),
        priors=_checks(alignment, budget, width),
        parameters=dict(alignment.parameters),
        warnings=_all_warnings(warnings, alignment),
        steps=tuple(steps_of(alignment.average)) if average.kind == "hyperspy" else (),
        seconds=seconds,
    )
    return alignment, registered


def _checks(alignment: Any, budget: Mapping[str, float], width: float | None) -> list[dict[str, Any]]:
    """Return the checks of the alignment, and of the number of frames where there are columns to judge it."""
    from fairstem.register import check_floor

    checks = [check.to_dict() for check in alignment.priors]
    known = {check["name"] for check in checks}
    counting = budget.get(COUNTING, 0.0)
    if width is not None and counting > 0 and "enough-frames" not in known:
        pixel = alignment.floor.pixel_size_nm
        scale = 1.0 if pixel is None else 1000 * float(np.sqrt(np.mean(np.square(pixel))))
        checks.append(check_floor(alignment.floor, counting / scale, width).to_dict())
    return checks


def _all_warnings(heard: Sequence[str], alignment: Any) -> tuple[str, ...]:
    """Return what was heard on the way and what the checks of the frames noticed, each once."""
    findings = [] if alignment.frames is None else alignment.frames.findings
    found = [f.message for f in findings if f.severity == "warning"]
    return (*heard, *(text for text in found if not any(text in known for known in heard)))


def _rows(alignment: Any) -> tuple[Floats | None, Floats | None]:
    """Return the displacement of the rows with error bars; None where frames move as a whole."""
    rows = getattr(alignment.motion, "rows", None)
    if rows is None:
        # of a dense field, the mean over each row: what a row-wise model would see of it
        motion = alignment.motion
        rows = np.stack([motion.forward(k).mean(axis=-1) for k in range(motion.n)])
    rows = np.asarray(rows, dtype=np.float64)
    if not np.ptp(rows, axis=-1).any():
        return None, None
    bars = alignment.row_error
    return rows, None if bars is None else np.asarray(bars, dtype=np.float64)


def _spectrum(rows: Floats | None, row_error: Floats | None, used: Sequence[int]) -> Any:
    from fairstem.register import temporal_spectrum

    if rows is None or len(used) < 2 or rows.shape[-1] < 32:
        return None
    chosen = rows[list(used)]
    return temporal_spectrum(
        chosen, np.zeros_like(chosen) if row_error is None else row_error[list(used)] ** 2
    )


def _shifts(alignment: Any) -> Floats:
    motion = alignment.motion
    return np.stack([motion.forward(k).mean(axis=(1, 2)) for k in range(motion.n)])


def _angles(alignment: Any) -> Floats:
    angles = getattr(alignment.motion, "angles_deg", None)
    return np.zeros(alignment.motion.n) if angles is None else np.asarray(angles, dtype=np.float64)


def _before(alignment: Any, average: Floats) -> tuple[tuple[int, int, int], int, Floats, Floats]:
    """Return a part of the image, one frame of it, and the average of frames shifted as a whole.

    The comparison is with whole-frame shifts from the same registration, not with frames that are not
    aligned at all: what is left to see is what the correction within the frames does.
    """
    from fairstem.plot import contrast_part

    crop = contrast_part(average, CROP)
    y, x, side = crop
    grid = np.mgrid[y : y + side, x : x + side].astype(np.float64)
    angles = _angles(alignment)
    upright = [k for k in alignment.used if angles[k] == angles[alignment.used[0]]]
    number = int(upright[len(upright) // 2])
    total, count = np.zeros((side, side)), np.zeros((side, side))
    one = np.full((side, side), np.nan)
    for k in alignment.used:
        values = alignment.frames.read(int(k))
        image = values.values if values.mask is None else np.where(values.mask, values.values, np.nan)
        shift = _whole_frame(alignment.motion, int(k), (slice(y, y + side), slice(x, x + side)))
        moved = map_coordinates(image, grid + shift, order=1, mode="constant", cval=np.nan)
        good = np.isfinite(moved)
        total[good] += moved[good]
        count[good] += 1
        if k == number:
            # whole pixels, so that every pixel is shown as it was recorded
            at = np.rint(grid + shift)
            one = map_coordinates(image, at, order=0, mode="constant", cval=np.nan)
    before = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return crop, number, one, before


def _whole_frame(motion: Any, k: int, part: tuple[slice, slice]) -> Floats:
    """Return where the part lies in frame k when the frame is moved and turned as a whole, (2, y, x) px."""
    rows = getattr(motion, "rows", None)
    if rows is None:
        mean: Floats = motion.backward(k).mean(axis=(1, 2))
        return mean[:, None, None]
    flat = np.broadcast_to(rows[k].mean(axis=-1)[None, :, None], (1, *rows[k].shape))
    still = dataclasses.replace(motion, rows=flat, angles_deg=motion.angles_deg[k : k + 1], slow=None)
    field: Floats = still.backward(0)
    return field[:, part[0], part[1]]
