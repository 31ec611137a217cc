"""Small copies of the frames of a series, for finding where they lie: reading, turning, straightening."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from fairstem.register._series.frames import Frame, Frames
from fairstem.register._series.motion import turn_matrix
from fairstem.register._start.cell import Cell, Lock, SpectrumSum, find_cell, lock_rows
from fairstem.register._start.pairs import SmallFrame, mean_blocks, prepare_frame

__all__ = ["Copies", "make_copies"]

Floats = NDArray[np.float64]
_LARGEST = 512  # px: larger frames are averaged in blocks first
_RARE = 2e-3  # of the pixels
_FAR = 3.0  # times the distance of the rare ones from the median
_SAMPLES = 50_000  # pixels that tell the range
_SMALLEST = 64  # px: the search needs that much
_WILD = 0.05  # of the rows: more means that the rows do not show one lattice
_STEP = 1.5  # cells: rows within which a step by a lattice vector happens
_WHOLE = 0.4  # of a lattice vector may be missing
_PRESENT = 4.5  # standard deviations of the weaker reflection: the lattice is there


@dataclass(frozen=True)
class Copies:
    """Small copies of the usable frames.

    Parameters
    ----------
    numbers
        Numbers of the frames in the series.
    frames
        Copies, turned and straightened, ready to be correlated.
    upright
        Copies as they were recorded, for frames that are turned or bent; their values and masks.
    block
        Pixels of a frame per pixel of a copy, along each axis.
    reach
        Largest shift in px of the copies.
    cell
        The common lattice in px of the frames.
    locks
        How each frame lies against the lattice, in px of the frames; None without a lattice, for turned
        scans, and where the rows do not show one lattice.
    present
        Which frames show the lattice.
    """

    numbers: tuple[int, ...]
    frames: tuple[SmallFrame, ...]
    upright: tuple[Frame, ...]
    block: int
    reach: tuple[int, int]
    cell: Cell | None
    locks: tuple[Lock, ...] | None
    present: NDArray[np.bool_]


def make_copies(frames: Frames, angles_deg: Floats, max_shift: float | None) -> Copies:
    """Read each frame once; find the lattice; straighten and turn; average blocks as far as nothing is lost."""
    first = max(1, math.ceil(max(frames.shape) / _LARGEST))
    base: list[Frame] = []
    spectra: SpectrumSum | None = None
    unit = 0.0
    for k in frames.usable:
        frame = frames.read(k)
        # in a unit of their own, values of any size can be squared in single precision
        unit = unit or _brightest(frame)
        small = Frame(*mean_blocks(_tamed(frame), frame.mask, first))
        small = Frame((small.values / unit).astype(np.float32), small.mask)
        base.append(small)
        turned = _turned(small, angles_deg[k])
        spectra = SpectrumSum(turned.values.shape) if spectra is None else spectra
        spectra.add(turned.values, turned.mask)
    if spectra is None:
        raise ValueError("no usable frame")  # open_series has refused such a series
    cell = find_cell(spectra)
    locks, present = None, np.zeros(len(base), dtype=bool)
    if cell is not None:
        turned_frames = (_turned(f, angles_deg[k]) for f, k in zip(base, frames.usable, strict=True))
        found = [lock_rows(f.values, f.mask, cell) for f in turned_frames]
        present = np.array([lock.presence >= _PRESENT for lock in found])
        # rows of a turned frame were not recorded at one time
        if not angles_deg.any() and np.median([lock.wild for lock in found]) <= _WILD:
            locks = _relative(_one_branch(found, cell))
    ny, nx = base[0].values.shape
    second = _blocks(spectra, min(ny, nx))
    block = first * second
    # shifts of 0.7 fields leave 9 % of a frame on another
    share = (0.7, 0.7) if max_shift is None else tuple(min(0.9, max_shift / n) for n in frames.shape)
    reach = (math.ceil(share[0] * (ny // second)) + 1, math.ceil(share[1] * (nx // second)) + 1)
    ready, plain = [], []
    for n, (k, frame) in enumerate(zip(frames.usable, base, strict=True)):
        straight = _turned(frame, angles_deg[k])
        if locks is not None:
            straight = _straightened(frame, locks[n])
        ready.append(prepare_frame(*mean_blocks(straight.values, straight.mask, second), reach))
        plain.append(Frame(*mean_blocks(frame.values, frame.mask, second)))
    if locks is not None:
        locks = tuple(_in_frame_px(lock, first, frames.shape[0]) for lock in locks)
    cell = None if cell is None else cell.scaled(first)
    return Copies(frames.usable, tuple(ready), tuple(plain), block, reach, cell, locks, present)


def _blocks(spectra: SpectrumSum, smallest: int) -> int:
    """Return how many px may be averaged along each axis: what has signal stays well below the new limit."""
    until = spectra.resolved_until()
    # peaks of the correlation must be wide enough for a parabola to give their height to a per cent
    size = int(0.28 / max(until, 1e-3))
    return max(1, min(size, smallest // _SMALLEST, 8))


def _tamed(frame: Frame) -> Floats:
    """Return the values without what lies far beyond the range of nearly all: one wild pixel outweighs a lattice."""
    inside = frame.values if frame.mask is None else frame.values[frame.mask]
    low, middle, high = np.quantile(
        inside.ravel()[:: max(inside.size // _SAMPLES, 1)], (_RARE, 0.5, 1 - _RARE)
    )
    # where nearly all pixels are empty, what is not is the image
    limits = [middle + _FAR * (end - middle) if end != middle else None for end in (low, high)]
    return frame.values if limits == [None, None] else np.clip(frame.values, *limits)


def _brightest(frame: Frame) -> float:
    return float(np.abs(frame.values).max())


def _turned(frame: Frame, angle_deg: float) -> Frame:
    """Turn a frame about its middle; what comes from beyond its border is masked."""
    if not angle_deg:
        return frame
    shape = np.array(frame.values.shape)
    middle = ((shape - 1) / 2)[:, None, None]
    grid = np.mgrid[: shape[0], : shape[1]] - middle
    at = np.tensordot(turn_matrix(angle_deg).T, grid, axes=1) + middle
    limit = (shape - 1)[:, None, None]
    good = ((at >= -0.01) & (at <= limit + 0.01)).all(axis=0)
    if frame.mask is not None:
        good &= map_coordinates(frame.mask.astype(np.float32), at, order=1) > 0.99
    values = map_coordinates(frame.values, at, order=3, mode="nearest")
    return Frame(np.where(good, values, 0.0), None if good.all() else np.asarray(good))


def _one_branch(locks: list[Lock], cell: Cell) -> list[Lock]:
    """Remove steps by a lattice vector within a frame, against the other frames.

    Rows above and below the core of a dislocation differ in phase by half a turn, one way where the core
    lies left of the middle, the other way where it lies right of it: the difference is a lattice vector.
    """
    usual = np.median([lock.rows for lock in locks], axis=0)
    span = round(_STEP * cell.shortest)
    if span < 2 or 2 * span >= usual.shape[1]:
        return locks
    return [_without_step(lock, lock.rows - usual, span, cell) for lock in locks]


def _without_step(lock: Lock, rest: Floats, span: int, cell: Cell) -> Lock:
    change = rest[:, span:] - rest[:, :-span]
    # a ramp steps nowhere
    change = change - np.median(change, axis=1, keepdims=True)
    vector = cell.nearest(change.T).T
    length = np.hypot(*vector)
    missing = np.where(length > 0, np.hypot(*(change - vector)) / np.maximum(length, 1e-9), np.inf)
    at = int(np.argmin(missing))
    if missing[at] > _WHOLE:
        return lock
    rows = lock.rows.copy()
    rows[:, at + span :] -= vector[:, at, None]
    # within the step no row has a phase of its own
    part = np.linspace(0, 1, span + 1)
    rows[:, at : at + span + 1] = rows[:, at, None] * (1 - part) + rows[:, at + span, None] * part
    middle = rows.mean(axis=1)
    y = np.arange(rows.shape[1]) - (rows.shape[1] - 1) / 2
    slope = (y @ (rows - lock.rows).T) / (y @ y)
    ramp = lock.ramp + slope * rows.shape[1]
    return replace(lock, ramp=ramp, offset=lock.offset + middle, rows=rows - middle[:, None])


def _relative(locks: list[Lock]) -> tuple[Lock, ...]:
    """Subtract what all frames share: it belongs to the lattice, not to a frame."""
    sure = [lock for lock in locks if lock.presence >= _PRESENT and lock.wild <= _WILD] or locks
    rows, ramp = np.mean([lock.rows for lock in sure], axis=0), np.mean([lock.ramp for lock in sure], axis=0)
    out = []
    for lock in locks:
        if lock.presence < _PRESENT or lock.wild > _WILD:
            # nothing to straighten by
            out.append(Lock(np.zeros(2), lock.offset, np.zeros_like(rows), lock.presence, 0.0, lock.wild))
        else:
            out.append(replace(lock, ramp=lock.ramp - ramp, rows=lock.rows - rows))
    return tuple(out)


def _in_frame_px(lock: Lock, block: int, ny: int) -> Lock:
    """Scale a lock from a copy to the frame."""
    if block == 1 and lock.rows.shape[1] == ny:
        return lock
    at = (np.arange(ny) - (block - 1) / 2) / block
    number = np.arange(lock.rows.shape[1])
    rows = block * np.stack([np.interp(at, number, axis) for axis in lock.rows])
    return replace(lock, ramp=block * lock.ramp, offset=block * lock.offset, rows=rows)


def _straightened(frame: Frame, lock: Lock) -> Frame:
    """Undo the row-wise displacement (less its middle): the first order of it, linear between pixels."""
    values = np.asarray(frame.values, dtype=np.float32)
    # smooth rows need no more than their line and what bends slowly; beyond the border lies the mean
    inside = values if frame.mask is None else values[frame.mask]
    mean = np.float32(inside.mean())
    mask = np.ones((1, 1), dtype=np.bool_) if frame.mask is None else frame.mask
    out, good = _shift_rows(values, mask, np.ascontiguousarray(lock.rows), mean)
    return Frame(out, None if frame.mask is None else good)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _shift_rows(values, mask, rows, mean):  # type: ignore[no-untyped-def]
    """Row q of the result is the frame at q - rows(q), bilinear."""
    ny, nx = values.shape
    masked = mask.shape[0] == ny
    out = np.full((ny, nx), mean, dtype=np.float32)
    good = np.ones((ny, nx), dtype=np.bool_)
    for i in range(ny):
        y = i - rows[0, i]
        top = int(np.floor(y))
        if top < 0 or top >= ny - 1:
            continue
        fy = np.float32(y - top)
        shift = -rows[1, i]
        whole = int(np.floor(shift))
        fx = np.float32(shift - whole)
        for j in range(max(0, -whole), min(nx, nx - 1 - whole)):
            left = j + whole
            upper = (1 - fx) * values[top, left] + fx * values[top, left + 1]
            lower = (1 - fx) * values[top + 1, left] + fx * values[top + 1, left + 1]
            out[i, j] = (1 - fy) * upper + fy * lower
            if masked:
                good[i, j] = (
                    mask[top, left]
                    and mask[top, left + 1]
                    and mask[top + 1, left]
                    and mask[top + 1, left + 1]
                )
                if not good[i, j]:
                    out[i, j] = mean
    return out, good
