"""What every function of this package does first: open the scan, find its axes, judge its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.compute import BlockPlan, plan
from fairstem.errors import DataError, DataTypeError
from fairstem.signals import open_data
from fairstem.signals.axes import Axis
from fairstem.signals.counting import judge_counts
from fairstem.signals.door import Opened
from fairstem.signals.electrons import beam_energy_kev, wavelength_nm

__all__ = ["Scan", "electrons_per_unit", "open_scan", "sample_patterns"]

_SAMPLED = 24  # patterns looked at to judge whether the values are counts


@dataclass(frozen=True)
class Scan:
    """Diffraction patterns over scan positions, opened.

    Parameters
    ----------
    opened
        As it came through the door.
    array
        numpy, memmap, HDF5 or dask array ``(scan_y, scan_x, k_y, k_x)``; fewer scan axes for a line of
        patterns or a single one. Nothing is read.
    mrad_per_px
        Step (y, x) of the detector in mrad; None when the axes don't say it.
    center
        Position (y, x) of the optic axis in px: where the calibrated axes have their zero, else the centre of
        the array.
    centered_by
        ``"axes"`` or ``"array"``.
    """

    opened: Opened
    array: Any
    mrad_per_px: tuple[float, float] | None
    center: tuple[float, float]
    centered_by: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the scan: (scan_y, scan_x), (scan_x,) or ()."""
        return tuple(self.array.shape[:-2])

    @property
    def detector(self) -> tuple[int, int]:
        """Shape (k_y, k_x) of the detector."""
        return int(self.array.shape[-2]), int(self.array.shape[-1])

    @property
    def scan_axes(self) -> tuple[Axis, ...]:
        """The axes of the scan."""
        return self.opened.axes[:-2]

    def plan(self, budget: int | float | str = "256 MB", working: float = 1.0) -> BlockPlan:
        """Cut the scan into blocks of whole patterns."""
        return plan(self.array, budget=budget, keep_axes=(-2, -1), working=working)


def open_scan(scan: Any, *, energy_kev: float | None = None, name: str = "scan") -> Scan:
    """Open diffraction patterns: a 4D scan, a line of patterns, or one pattern.

    Parameters
    ----------
    scan
        HyperSpy signal, numpy or dask array, memmap or h5py data set ``(scan_y, scan_x, k_y, k_x)``.
    energy_kev
        Beam energy in keV, to turn 1/nm into mrad; by default the signal's own.
    name
        How messages call the data.

    Raises
    ------
    DataTypeError
        No array, or complex, structured or text values.
    DataError
        Fewer than two or more than four axes, or a detector smaller than 4 px.
    """
    opened = open_data(scan, name=name)
    array = opened.array
    if array.ndim > 4:
        raise DataError(
            f"{name} has {array.ndim} axes, shape {tuple(array.shape)}",
            needed="(scan_y, scan_x, k_y, k_x)",
            todo="a time series of scans: pass one scan, or sum over time, such as data.sum(axis=0)",
        )
    if array.ndim < 2:
        raise DataError(f"{name} has shape {tuple(array.shape)}", needed="(scan_y, scan_x, k_y, k_x)")
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "uifb":
        raise DataTypeError(
            f"{name} has dtype {dtype}", needed="real numbers", todo="pass intensities, such as abs(wave)**2"
        )
    if min(array.shape[-2:]) < 4:
        raise DataError(
            f"{name} has patterns of {array.shape[-2]} × {array.shape[-1]} px",
            needed="at least 4 × 4",
            todo="check the order of the axes: (scan_y, scan_x, k_y, k_x)",
        )
    step = _mrad_per_px(opened, energy_kev)
    center, by = _center(opened.axes[-2:])
    return Scan(opened, array, step, center, by)


def _mrad_per_px(opened: Opened, energy_kev: float | None) -> tuple[float, float] | None:
    steps = [_mrad(axis, opened, energy_kev) for axis in opened.axes[-2:]]
    if steps[0] is None or steps[1] is None:
        return None
    return steps[0], steps[1]


def _mrad(axis: Axis, opened: Opened, energy_kev: float | None) -> float | None:
    scale = abs(axis.scale)
    if not math.isfinite(scale) or scale == 0:
        return None
    if axis.units in ("mrad", "rad"):
        return scale * (1e3 if axis.units == "rad" else 1.0)
    if axis.units in ("1/nm", "1/Å"):
        energy = energy_kev if energy_kev is not None else beam_energy_kev(opened)
        if energy is None:
            return None
        return 1e3 * scale * wavelength_nm(energy) * (10.0 if axis.units == "1/Å" else 1.0)
    return None


def _center(axes: tuple[Axis, ...]) -> tuple[tuple[float, float], str]:
    """Take the zero of calibrated axes where someone has set it; files start their axes with 0."""
    zero = [-axis.offset / axis.scale if axis.scale else math.nan for axis in axes]
    calibrated = all(axis.units in ("mrad", "rad", "1/nm", "1/Å") for axis in axes)
    inside = all(0 < at < axis.size - 1 for at, axis in zip(zero, axes, strict=True))
    if calibrated and inside:
        return (zero[0], zero[1]), "axes"
    return ((axes[0].size - 1) / 2, (axes[1].size - 1) / 2), "array"


def sample_patterns(scan: Scan, number: int = _SAMPLED) -> NDArray[Any]:
    """Return a few patterns spread evenly over the scan, (n, k_y, k_x).

    Cost: reads `number` patterns (and the stored chunks around them).
    """
    return np.stack(list(_spread(scan, number)))


def _spread(scan: Scan, number: int) -> Iterator[NDArray[Any]]:
    total = math.prod(scan.shape)
    for flat in np.unique(np.linspace(0, total - 1, min(number, total)).astype(int)):
        part = scan.array[np.unravel_index(int(flat), scan.shape)] if scan.shape else scan.array
        yield np.asarray(part.compute() if scan.opened.lazy else part)


def electrons_per_unit(scan: Scan, gain: float | None) -> float:
    """Return the detector units per electron, for methods that stand on counting statistics.

    Parameters
    ----------
    scan
        The opened scan; a few patterns are looked at.
    gain
        Detector units per electron as the caller gave it. None: the values have to be counts.

    Raises
    ------
    DataError
        The gain isn't positive; or no gain was given and the values aren't whole numbers of electrons (averages,
        normalised, interpolated or denoised patterns), or are negative.
    """
    if gain is not None:
        if not (math.isfinite(gain) and gain > 0):
            raise DataError(f"gain={gain}", needed="detector units per electron, positive")
        return float(gain)
    values = sample_patterns(scan)
    judged = judge_counts(values)
    name = scan.opened.name
    if judged.kind == "multiples" and judged.step:
        kind = "an average or a scaled detector" if judged.step < 1 else "a detector with that gain"
        raise DataError(
            f"the values of {name} are multiples of {judged.step:g}, no counts ({kind})",
            needed="counted electrons, or the detector's gain",
            todo=f"pass gain={judged.step:g} if one electron gives {judged.step:g}, or noise=None to correct nothing",
        )
    if judged.kind != "counts":
        raise DataError(
            f"the values of {name} are no counts (averaged, normalised, interpolated or denoised)",
            needed="counted electrons, or the detector's gain",
            todo="pass the raw counts, gain= (detector units per electron), or noise=None to correct nothing",
        )
    if values.min() < 0:
        raise DataError(
            f"{name} has negative values (down to {values.min():g})",
            needed="counted electrons",
            todo="subtract no background before, or pass noise=None",
        )
    return 1.0
