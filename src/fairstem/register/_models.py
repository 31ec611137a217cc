"""The three models, solved and brought to one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairstem.register._judge.floor import Floor, common_mode_floor
from fairstem.register._judge.floor_dense import dense_floor
from fairstem.register._rows.measure import (
    NoiseLaw,
    Segments,
    chi2_map,
    choose_blur,
    compare,
    fit_noise_law,
    gain_of,
)
from fairstem.register._rows.reference import Pool, canvas_of
from fairstem.register._rows.rowwise import Rows, register_rows
from fairstem.register._rows.slow import BENT_PX, bending
from fairstem.register._series.frames import Frames
from fairstem.register._series.motion import DenseMotion, Motion, RowMotion
from fairstem.register._start.start import Start

if TYPE_CHECKING:
    from fairstem.register._lattice.lattice_pass import LatticePass

__all__ = ["Solved", "solve"]

Floats = NDArray[np.float64]
_BANDS = (1, 4, 16, 64)  # rows
_KNOWN = 0.5  # of the rows: enough to measure how frames differ
_TRIAL = 4  # rounds, before a slow field is judged
_BETTER = 0.995  # of the misfit without a slow field: one that explains less is not worth its freedom


@dataclass(frozen=True)
class Solved:
    """A solved series, whichever model solved it.

    Parameters
    ----------
    motion
        The displacement.
    pool
        The frames on their canvas, as `motion` puts them.
    law
        Variance of a value.
    floor
        The common-mode floor.
    measured, measured_variance
        ``(frame, 2, y)`` px, px²: what each row by itself says of its displacement along the scan's axes,
        that of the model included where it is row-wise. Infinite variance where it says nothing.
    segments
        Equations of the parts of the rows.
    bent_px
        rms displacement within rows, px, that parts of neighbouring rows still ask for.
    variance
        ``(frame, 2, y)`` px²: of the displacement of the rows; None for the dense model.
    found
        What was estimated from the data, JSON-ready.
    lattice_pass
        What a lattice pass has removed; None without one.
    """

    motion: Motion
    pool: Pool
    law: NoiseLaw
    floor: Floor
    measured: Floats
    measured_variance: Floats
    segments: tuple[Segments | None, ...]
    bent_px: float
    variance: Floats | None = None
    found: dict[str, Any] = field(default_factory=dict)
    lattice_pass: LatticePass | None = None


def solve(
    frames: Frames,
    start: Start,
    angles_deg: Floats,
    used: Sequence[int],
    model: str,
    *,
    reference: int | None,
    slow: bool | Literal["auto"],
    dense: dict[str, Any],
) -> Solved:
    """Register the frames `used` by one of the models."""
    if model == "rowwise":
        return _rowwise(frames, start, angles_deg, used, reference, slow)
    if model == "rigid":
        return _rigid(frames, start, angles_deg, used, reference)
    return _dense(frames, start, used, reference, dense)


def _rowwise(
    frames: Frames,
    start: Start,
    angles_deg: Floats,
    used: Sequence[int],
    reference: int | None,
    slow: bool | Literal["auto"],
) -> Solved:
    begin = RowMotion(start.displacement(frames.shape[0]), frames.shape, angles_deg)
    rows = register_rows(frames, begin, used, slow=slow is True, reference=reference)
    bent_px = bending(rows.segments, used, frames.shape)
    if slow == "auto" and bent_px > BENT_PX:
        label = "rows and a slow field"
        bent = register_rows(
            frames, rows.motion, used, slow=True, reference=reference, most=_TRIAL, label=label
        )
        # what asks for a field may also be an object that changed: then the frames agree no better
        if _misfit(frames, bent, used, rows.law) < _BETTER * _misfit(frames, rows, used, rows.law):
            bent = register_rows(frames, bent.motion, used, slow=True, reference=reference, label=label)
            rows, bent_px = bent, bending(bent.segments, used, frames.shape)
    chosen = list(used)
    floor = common_mode_floor(
        rows.motion.rows[chosen],
        rows.variance[chosen],
        pixel_size_nm=frames.pixel_size_nm,
        angles_deg=angles_deg[chosen],
        row_length=frames.shape[1],
    )
    found: dict[str, Any] = {"rounds": rows.rounds, "noise": _law(rows.law), "blur_px": rows.blur_px}
    for axis, prior in zip(("y", "x"), rows.priors, strict=True):
        found[f"jitter_{axis}_px"] = float(np.sqrt(prior.jitter))
        found[f"walk_{axis}_px2"] = prior.walk
    found["row_brightness_sd"] = rows.flicker.sd
    found["slow"] = None if rows.slow is None else [list(v) for v in rows.slow.variances]
    return Solved(
        rows.motion,
        rows.pool,
        rows.law,
        floor,
        rows.measured,
        rows.measured_variance,
        rows.segments,
        bent_px,
        rows.variance,
        found,
    )


def _misfit(frames: Frames, rows: Rows, used: Sequence[int], law: NoiseLaw) -> float:
    chi2, seen = chi2_map(frames, rows.motion, rows.pool, used, law)
    return float((chi2 * seen).sum() / max(float(seen.sum()), 1.0))


def _rigid(
    frames: Frames, start: Start, angles_deg: Floats, used: Sequence[int], reference: int | None
) -> Solved:
    from fairstem.register._rows.rigid import refine_rigid
    from fairstem.register._series.gauge import centre_rows

    offsets, error = refine_rigid(frames, start, angles_deg=angles_deg)
    rows = np.repeat(offsets[:, :, None], frames.shape[0], axis=2)
    rows = centre_rows(rows, angles_deg, used, reference, bend=False)
    motion = RowMotion(rows, frames.shape, angles_deg)
    pool, law, measured, measured_variance, segments = _inspect(frames, motion, used)
    floor = common_mode_floor(
        *_in_bands(motion, segments, used),
        shrunk=False,
        pixel_size_nm=frames.pixel_size_nm,
        angles_deg=angles_deg[list(used)],
        row_length=frames.shape[1],
    )
    variance = np.repeat(error[:, :, None] ** 2, frames.shape[0], axis=2)
    found = {"noise": _law(law)}
    bent_px = bending(segments, used, frames.shape)
    return Solved(motion, pool, law, floor, measured, measured_variance, segments, bent_px, variance, found)


def _in_bands(
    motion: RowMotion, segments: Sequence[Segments | None], used: Sequence[int]
) -> tuple[Floats, Floats]:
    """Return displacement and variance of the rows, of bands of rows where single ones hold too little."""
    for band in _BANDS:
        shifts = [(k, s.shifts(band)) for k in used if (s := segments[k]) is not None]
        variance = np.stack([own[1] for _, own in shifts])
        known = np.isfinite(variance).all(axis=1).sum(axis=0) >= 2
        if known.mean() >= _KNOWN:
            break
    return np.stack([motion.rows[k] + own[0] for k, own in shifts]), variance


def _dense(
    frames: Frames, start: Start, used: Sequence[int], reference: int | None, options: dict[str, Any]
) -> Solved:
    from fairstem.register._dense.dense import register_dense

    # frames that show something else are left out like blank ones
    chosen = replace(frames, blank=tuple(k for k in range(frames.n) if k not in used))
    origin = start.offsets[list(used)].mean(axis=0) if reference is None else start.offsets[reference]
    motion, report = register_dense(chosen, start.offsets - origin, **options)
    pool, law, measured, measured_variance, segments = _inspect(frames, motion, used)
    floor = dense_floor(motion.fields[list(used)], pixel_size_nm=frames.pixel_size_nm)
    found = {"noise": _law(law), "dense": asdict(report)}
    bent_px = bending(segments, used, frames.shape)
    return Solved(motion, pool, law, floor, measured, measured_variance, segments, bent_px, None, found)


def _inspect(
    frames: Frames, motion: RowMotion | DenseMotion, used: Sequence[int]
) -> tuple[Pool, NoiseLaw, Floats, Floats, tuple[Segments | None, ...]]:
    """Say what the rows of registered frames say beyond where they lie."""
    pool = Pool(canvas_of(motion, used), [0] * frames.n, len(used))
    for k in used:
        pool.add(k, frames.read(k), motion.forward(k))
    law = fit_noise_law(frames, motion, pool, used)
    passes = choose_blur(frames, motion, pool, used, law)
    gain = gain_of(pool.everything().reference(passes))
    shape = (frames.n, 2, frames.shape[0])
    measured, variance = np.zeros(shape), np.full(shape, np.inf)
    segments: list[Segments | None] = [None] * frames.n
    for k in used:
        frame, forward = frames.read(k), motion.forward(k)
        angle = float(motion.angles_deg[k]) if isinstance(motion, RowMotion) else 0.0
        others = pool.without(k, frame, forward).reference(passes)
        found = compare(frame, pool.canvas.positions(forward), others, law, gain=gain, angle_deg=angle)
        segments[k] = found
        measured[k], variance[k] = found.shifts()
        # what all pixels of a row share is the row's own
        measured[k] += motion.rows[k] if isinstance(motion, RowMotion) else forward.mean(axis=2)
    return pool, law, measured, variance, tuple(segments)


def _law(law: NoiseLaw) -> dict[str, float]:
    return {"constant": law.constant, "slope": law.slope}
