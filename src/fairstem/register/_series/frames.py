"""The frames of a series: checked one by one, read one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError, DataTypeError
from fairstem.signals import Finding, Opened, open_data, stack

__all__ = ["Frame", "Frames", "open_series"]

Floats = NDArray[np.float64]
_SMALLEST = 32  # px a side: fewer rows say nothing about how displacement goes on in time


@dataclass(frozen=True)
class Frame:
    """One frame: values (y, x), float64, and where they were measured.

    Parameters
    ----------
    values
        ``(y, x)``, finite everywhere: 0 where `mask` is False.
    mask
        ``(y, x)``, False where the pixel is NaN or masked; None when every pixel was measured.
    """

    values: Floats
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Frames:
    """A checked series; frames are read when they are asked for.

    Parameters
    ----------
    opened
        The series as it came through the door.
    blank
        Numbers of the frames that hold no image: constant, or not measured.
    findings
        What was noticed.
    scale, level
        ``(frame,)``: a value is read as (value - level) / scale, where brightness and contrast of the
        frames differ; None where they don't.
    """

    opened: Opened
    blank: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()
    scale: Floats | None = None
    level: Floats | None = None

    @property
    def n(self) -> int:
        """Number of frames, blank ones included."""
        return int(self.opened.array.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Size of a frame (ny, nx)."""
        return int(self.opened.array.shape[1]), int(self.opened.array.shape[2])

    @property
    def usable(self) -> tuple[int, ...]:
        """Numbers of the frames that are not blank."""
        return tuple(k for k in range(self.n) if k not in self.blank)

    @property
    def pixel_size_nm(self) -> tuple[float, float] | None:
        """Pixel size (py, px) in nm, None without calibration."""
        return self.opened.pixel_size_nm

    def read(self, k: int) -> Frame:
        """Read frame `k`."""
        part = self.opened.array[k]
        return self.as_frame(k, part.compute() if hasattr(part, "compute") else part)

    def as_frame(self, k: int, part: Any) -> Frame:
        """Return what was read of frame `k` as a frame: masked, and brought to one brightness."""
        masked = np.ma.getmaskarray(part) if isinstance(part, np.ma.MaskedArray) else None
        # in one order of memory, for which the kernels are compiled
        values = np.array(np.ma.getdata(part), dtype=np.float64, order="C")
        if self.scale is not None and self.level is not None:
            values = (values - self.level[k]) / self.scale[k]
        good = np.isfinite(values) if masked is None else np.isfinite(values) & ~masked
        if good.all():
            return Frame(values)
        values[~good] = 0.0
        return Frame(values, good)


def open_series(series: Any, name: str = "series") -> Frames:
    """Check a series of images and return its frames.

    Parameters
    ----------
    series
        ``(frame, y, x)``: HyperSpy signal, numpy or dask array, or a list of images of equal size.
    name
        How messages call it.

    Raises
    ------
    DataTypeError
        Not an array of integers or floats.
    DataError
        Not three axes, fewer than 2 frames, frames too small or of different size, or fewer than
        two frames that hold an image.

    Notes
    -----
    Cost: reads every frame once.
    """
    if isinstance(series, Sequence) and not isinstance(series, str):
        series = stack(series, name=name)
    opened = open_data(series, name=name)
    _check_form(opened, name)
    frames = Frames(opened)
    blank, gaps = [], {}
    for k in range(frames.n):
        frame = frames.read(k)
        inside = frame.values if frame.mask is None else frame.values[frame.mask]
        if frame.mask is not None:
            gaps[k] = int(frame.mask.size - frame.mask.sum())
        if inside.size < 2 or inside.min() == inside.max():
            blank.append(k)
    findings = []
    if blank:
        text = f"frame {_listed(blank)} of {name} hold{'s' * (len(blank) == 1)} no image (constant or NaN)"
        findings.append(Finding("blank-frame", "warning", text, assumed="left out of the average"))
    partly = {k: n for k, n in gaps.items() if k not in blank}
    if partly:
        text = f"{sum(partly.values())} pixels in frame {_listed(list(partly))} of {name} are NaN, infinite or masked"
        findings.append(Finding("nan", "warning", text, assumed="they are left out of the measurement"))
    if frames.n - len(blank) < 2:
        raise DataError(
            f"{name} has {frames.n} frames, {len(blank)} of them blank",
            needed="at least 2 frames that hold an image",
            todo="check that the right detector was loaded",
        )
    return Frames(opened, tuple(blank), tuple(findings))


def _listed(numbers: Sequence[int], most: int = 6) -> str:
    text = ", ".join(map(str, numbers[:most]))
    return text if len(numbers) <= most else f"{text} and {len(numbers) - most} more"


def _check_form(opened: Opened, name: str) -> None:
    array = opened.array
    dtype, shape = np.dtype(array.dtype), tuple(array.shape)
    coloured = shape[-1:] in ((3,), (4,)) and dtype == np.uint8
    if array.ndim != 3:
        todo = {
            2: "one image has nothing to be registered with: stack the frames of the series, numpy.stack([a, b])",
            4: "a 4D scan or a series of spectrum images follows its images: align those, then register.apply",
        }.get(array.ndim, "")
        if coloured:
            todo = "these are RGB pictures: load the microscope's own files, or average the colours first"
        raise DataError(
            f"{name} has {array.ndim} dimension(s), shape {shape}", needed="a series (frame, y, x)", todo=todo
        )
    if dtype.kind not in "iuf":
        todo = {
            "c": "take the modulus: numpy.abs(series)",
            "V": "RGB pictures hold no counts: load the microscope's own files",
        }.get(dtype.kind, "convert: series.astype(float)")
        raise DataTypeError(f"{name} has values of type {dtype}", needed="integers or floats", todo=todo)
    if shape[0] < 2:
        raise DataError(
            f"{name} has {shape[0]} frame, shape {shape}",
            needed="2 frames or more",
            todo="a single image can't be registered: measure it as it is, with fairstem.atoms.find",
        )
    if min(shape[1:]) < _SMALLEST:
        raise DataError(
            f"{name} has frames of {shape[1]} x {shape[2]} px",
            needed=f"at least {_SMALLEST} px a side",
            todo="check the order of the axes: (frame, y, x)",
        )
