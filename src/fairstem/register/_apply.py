"""A registration applied: to its own frames, and to what was recorded with them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fairstem.compute import BlockPlan, map_items, parse_bytes, plan, track
from fairstem.errors import DataError, DataTypeError
from fairstem.register._series.frames import Frames
from fairstem.register._series.motion import Motion
from fairstem.register._series.warp import deposit, resample
from fairstem.signals import Opened, open_data

if TYPE_CHECKING:
    from fairstem.register._alignment import Alignment

__all__ = ["aligned_frames", "apply"]

Floats = NDArray[np.float64]
Method = Literal["conserve", "interpolate"]
_WORKING = 5.0  # float64 blocks in use at a time besides the block itself
_log = logging.getLogger(__name__)


def aligned_frames(motion: Motion, frames: Frames) -> Any:
    """Return the frames on the grid of the average, of the kind of the series. Value-preserving.

    Parameters
    ----------
    motion
        Where the pixels of the frames lie.
    frames
        The series.

    Returns
    -------
    HyperSpy signal, numpy or dask array (frame, y, x)
        float32, or float64 where the series needs it; lazy for a lazy series. Beyond a frame its nearest
        value.

    Notes
    -----
    Cost: one cubic interpolation per frame.
    """
    opened = frames.opened
    dtype = _result_type(opened)

    def move(k: int, part: NDArray[Any]) -> Floats:
        frame = frames.as_frame(k, part)
        return resample(frame.values, motion.backward(k), frame.mask)[0]

    step = opened.step("fairstem.register.align.aligned", {"method": "interpolate"}, hash_input=False)
    if opened.lazy:
        return opened.rewrap(map_items(opened.array, move, dtype=dtype), step, axes=(0, 1, 2))
    out = np.empty(opened.array.shape, dtype)
    for k in track(range(frames.n), label="moving frames"):
        frame = frames.read(k)
        out[k] = resample(frame.values, motion.backward(k), frame.mask)[0]
    return opened.rewrap(out, step, axes=(0, 1, 2))


def apply(
    alignment: Alignment,
    data: Any,
    *,
    method: Method = "conserve",
    frame: int | None = None,
    out: Any = None,
    combine: bool = True,
    memory: int | float | str = "1 GB",
) -> Any:
    """Bring what was recorded with the images, spectra or patterns, onto the grid of the average.

    Prior: the data were recorded in the same scans as the images, so that they share their displacement.

    Parameters
    ----------
    alignment
        Result of `align`.
    data : HyperSpy signal, numpy, memmap, h5py or dask array
        ``(frame, y, x, ...)``, one scan for each frame of the series, those left out of the average included;
        or ``(y, x, ...)`` with `frame`. The scan may be coarser than the images by whole numbers, (64, 64)
        spectra with (256, 256) images.
    method
        The parameter that matters. ``"conserve"``: every count goes where it belongs, sums stay what they
        were; for counts. ``"interpolate"``: values are kept, as of a calibrated quantity.
    frame
        Number of the frame that `data` belong to, when they are of one scan only.
    out
        Where to write: what takes ``out[slices] = block``, such as an h5py.Dataset or a memmap.
    combine
        True: one result ``(y, x, ...)`` of the frames in the average, summed ("conserve") or averaged over
        those that reach the pixel ("interpolate"). False: all frames apart.
    memory
        Memory to use at a time, in bytes or such as "1 GB".

    Returns
    -------
    HyperSpy signal, numpy or dask array
        As `data`, float32 (float64 where the data need it); lazy for lazy data. `out` if it was given.
        Where no frame reaches there are no counts ("conserve"), or the nearest values ("interpolate").

    Raises
    ------
    DataError
        Shapes that do not fit the alignment, values that are not finite, too little memory.
    DataTypeError
        No numbers.

    Notes
    -----
    Cost: ``O(values * 4)``, or ``O(values * 16)`` to interpolate. Reads the data once, in parts that hold
    whole scans of some channels; a file stored in chunks of few scan positions is slow to read so. What
    came in, what came out and what was lost beyond the edge is in the provenance of a HyperSpy result, and
    in the log.

    Examples
    --------
    >>> import fairstem as fs
    >>> import numpy as np
    >>> p = fs.simulate.phantom("p1", seed=1, frames=3, shape=(64, 64))
    >>> alignment = fs.register.align(p.data)
    >>> spectra = np.random.default_rng(0).poisson(0.1, (3, 16, 16, 40))  # a coarser scan, 40 channels
    >>> fs.register.apply(alignment, spectra).shape
    (16, 16, 40)
    """
    if method not in get_args(Method):
        raise DataError(f"method={method!r}", needed="'conserve' or 'interpolate'")
    opened = open_data(data, name="data")
    job = _Job(alignment.motion, opened, method, _numbers(alignment, opened, frame, combine), frame is None)
    together = combine and frame is None
    blocks = _plan(job, memory)
    parameters: dict[str, Any] = {
        "method": method,
        "frame": frame,
        "combine": together,
        "frames": list(job.numbers),
    }
    axes = tuple(range(1 if together else 0, opened.array.ndim))
    if opened.lazy and out is None:
        step = opened.step("fairstem.register.apply", parameters)
        return opened.rewrap(_lazily(job, blocks, together), step, axes=axes)
    shape = tuple(opened.array.shape[1:] if together else opened.array.shape)
    if out is not None and tuple(out.shape) != shape:
        raise DataError(f"out of shape {tuple(out.shape)}", needed=f"shape {shape}")
    result = np.empty(shape, _result_type(opened)) if out is None else out
    totals = _streamed(job, blocks, result, together, parse_bytes(memory))
    if method == "conserve":
        parameters |= totals
        _log.info("counts in %(total_in).6g, out %(total_out).6g, beyond the edge %(lost).6g", totals)
    if out is not None:
        return out
    return opened.rewrap(result, opened.step("fairstem.register.apply", parameters), axes=axes)


@dataclass
class _Job:
    """What is moved, and how."""

    motion: Motion
    opened: Opened
    method: Method
    numbers: tuple[int, ...]
    series: bool
    kept: dict[int, Floats] = field(default_factory=dict)

    @property
    def grid(self) -> tuple[int, int]:
        """Scan positions (y, x) of the data."""
        first = 1 if self.series else 0
        return int(self.opened.array.shape[first]), int(self.opened.array.shape[first + 1])

    @property
    def factors(self) -> tuple[int, int]:
        """Pixels of the images in one scan position of the data."""
        return self.motion.shape[0] // self.grid[0], self.motion.shape[1] // self.grid[1]

    def read(self, k: int, at: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of scan `k`."""
        part = self.opened.array[(k, *at) if self.series else at]
        return checked(part.compute() if hasattr(part, "compute") else part, k)

    def field(self, k: int, limit: int = 0) -> Floats:
        """Displacement of scan `k` on the grid of the data; kept where that takes less than `limit` bytes."""
        if k in self.kept:
            return self.kept[k]
        moved = self.motion.forward(k) if self.method == "conserve" else self.motion.backward(k)
        moved = _coarser(moved, self.factors)
        if moved.strides[-1] == 0 or moved.nbytes * len(self.numbers) <= limit:
            self.kept[k] = moved
        return moved

    def move(self, k: int, part: NDArray[Any], limit: int = 0) -> tuple[Floats, Floats, Floats]:
        """Return the part on the new grid, the weights of its pixels, and the counts that were lost."""
        if self.method == "conserve":
            return deposit(part, self.field(k, limit))
        values, weight = resample(part, self.field(k, limit))
        return values, weight, np.zeros(())

    def reached(self) -> NDArray[np.bool_]:
        """Say which pixels at least one frame reaches."""
        empty = np.zeros(self.grid)
        found = np.zeros(self.grid, dtype=np.bool_)
        for k in self.numbers:
            found |= resample(empty, self.field(k), order=1)[1] > 0
        return found


def checked(part: Any, k: int) -> NDArray[Any]:
    """Return a part as a plain array of finite values."""
    missing = np.ma.getmaskarray(part) if isinstance(part, np.ma.MaskedArray) else None
    values = np.asarray(np.ma.getdata(part))  # type: ignore[no-untyped-call, unused-ignore]
    bad = int(missing.sum()) if missing is not None else 0
    if values.dtype.kind == "f":
        bad += int(values.size - np.isfinite(values).sum())
    if bad:
        raise DataError(
            f"data hold {bad} values that are NaN, infinite or masked in scan {k}",
            needed="finite values",
            todo="replace them first, for instance counts by 0: numpy.nan_to_num(data)",
        )
    return values


def _numbers(alignment: Alignment, opened: Opened, frame: int | None, combine: bool) -> tuple[int, ...]:
    """Check the shape of the data; return the numbers of the frames to move."""
    motion, shape = alignment.motion, tuple(map(int, opened.array.shape))
    if np.dtype(opened.array.dtype).kind not in "biuf":
        raise DataTypeError(f"data of type {opened.array.dtype}", needed="integers or floats")
    if frame is not None and not 0 <= frame < motion.n:
        raise DataError(f"frame={frame}", needed=f"a number from 0 to {motion.n - 1}")
    first = 1 if frame is None else 0
    if len(shape) < first + 2 or (frame is None and shape[0] != motion.n):
        raise DataError(
            f"data of shape {shape} for {motion.n} frames",
            needed=f"(y, x, ...) of frame {frame}" if first == 0 else f"({motion.n}, y, x, ...)",
            todo="pass frame=k for the data of one scan" if first else "",
        )
    grid = shape[first : first + 2]
    if any(n > m or m % n for n, m in zip(grid, motion.shape, strict=True)):
        raise DataError(
            f"data with {grid[0]} x {grid[1]} scan positions for images of {motion.shape[0]} x {motion.shape[1]}",
            needed="as many, or fewer by whole numbers",
            todo="check the order of the axes: (frame, y, x, ...)"
            if frame is None
            else "check the order: (y, x, ...)",
        )
    if frame is not None:
        return (frame,)
    return tuple(alignment.used) if combine else tuple(range(motion.n))


def _plan(job: _Job, memory: int | float | str) -> BlockPlan:
    """Cut one scan into parts that hold all of its positions for some channels."""
    array, first = job.opened.array, 1 if job.series else 0
    chunks = getattr(array, "chunks", None)
    item = SimpleNamespace(
        shape=tuple(array.shape[first:]),
        dtype=np.dtype(np.float64),
        chunks=None if chunks is None else tuple(chunks[first:]),
    )
    # a lazy result is computed by several workers at a time
    working = _WORKING * (4 if job.opened.lazy else 1)
    return plan(item, budget=memory, keep_axes=(0, 1), working=working)


def _parts(blocks: BlockPlan, numbers: tuple[int, ...]) -> Iterator[tuple[tuple[slice, ...], int]]:
    steps = itertools.product(blocks, range(len(numbers)))
    return track(steps, total=blocks.n_blocks * len(numbers), label="applying the registration")


def _streamed(job: _Job, blocks: BlockPlan, result: Any, together: bool, memory: int) -> dict[str, float]:
    """Move part by part into `result`; return the sums that went in, came out and were lost."""
    total_in = total_out = total_lost = 0.0
    reached = job.reached() if together and job.method == "interpolate" else None
    counts, weights = np.zeros(0), np.zeros(0)
    for at, i in _parts(blocks, job.numbers):
        k = job.numbers[i]
        part = job.read(k, at)
        total_in += float(part.sum(dtype=np.float64))
        values, weight, lost = job.move(k, part, memory // 4)
        total_lost += float(lost.sum())
        total_out += float(values.sum())
        if not together:
            result[(i, *at) if job.series else at] = values
            continue
        if i == 0:
            counts, weights = np.zeros_like(values), np.zeros(job.grid)
        if reached is not None:
            weight = np.where(reached, weight, 1.0)  # beyond all frames: their nearest values
            weights += weight
            values *= _alongside(weight, values)
        counts += values
        if i == len(job.numbers) - 1:
            result[at] = counts if reached is None else counts / _alongside(weights, counts)
    return {"total_in": total_in, "total_out": total_out, "lost": total_lost}


def _lazily(job: _Job, blocks: BlockPlan, together: bool) -> Any:
    source = job.opened.array
    if not job.series:
        source = source[None]
    elif together:
        source = source[list(job.numbers)]
    averaged = together and job.method == "interpolate"
    reached = job.reached() if averaged else None

    def move(i: int, part: NDArray[Any]) -> Floats:
        values, weight, _ = job.move(job.numbers[i], checked(part, job.numbers[i]))
        if reached is not None:
            values *= _alongside(np.where(reached, weight, 1.0), values)
        return values

    dtype = _result_type(job.opened)
    moved = map_items(source, move, dtype=np.float64 if together else dtype, chunks=blocks.chunks[2:])
    if not job.series:
        return moved[0]
    if not together:
        return moved
    total = moved.sum(axis=0)
    if reached is not None:
        empty = np.zeros(job.grid)
        weights = sum(resample(empty, job.field(k), order=1)[1] for k in job.numbers)
        total = total / _alongside(np.where(reached, weights, len(job.numbers)), total)
    return total.astype(dtype)


def _alongside(image: Floats, values: Any) -> Floats:
    """Return (y, x) with as many axes as `values`."""
    return image.reshape(*image.shape, *(1,) * (values.ndim - 2))


def _coarser(moved: Floats, factors: tuple[int, int]) -> Floats:
    """Average a displacement (2, y, x) over the pixels of a coarser scan, in its steps."""
    fy, fx = factors
    if fy == fx == 1:
        return moved
    _, ny, nx = moved.shape
    if moved.strides[-1] == 0:
        rows = moved[:, :, 0].reshape(2, ny // fy, fy).mean(axis=2) / np.array([[fy], [fx]])
        return np.broadcast_to(rows[:, :, None], (2, ny // fy, nx // fx))
    means = moved.reshape(2, ny // fy, fy, nx // fx, fx).mean(axis=(2, 4))
    return np.asarray(means / np.array([[[fy]], [[fx]]]))


def _result_type(opened: Opened) -> np.dtype[Any]:
    """Return float32, or float64 where the values of the data need it."""
    return np.result_type(np.dtype(opened.array.dtype), np.float32)
