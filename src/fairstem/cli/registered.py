"""What `fairstem align` and the tour show of one registered series, for figures, pages and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fairstem.register import TemporalSpectrum

__all__ = ["Registered"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Registered:
    """One series and what its registration gave.

    Parameters
    ----------
    title
        What the series is.
    shape
        (frame, y, x).
    dtype
        Type of the values as recorded.
    pixel_size_nm
        (py, px) in nm, or None.
    average
        ``(y, x)`` the registered average.
    crop
        ``(y, x, size)`` of the part that the next two show, px.
    frame, before
        ``(size, size)`` one frame as recorded, and the average of frames shifted as a whole.
    frame_number
        Which frame that is.
    rows, row_error
        ``(frame, 2, y)`` px along the slow and the fast axis of the scan, and their error bars (None
        without). None for frames that are shifted as a whole.
    shifts
        ``(frame, 2)`` px, mean displacement of each frame.
    angles
        ``(frame,)`` rotation of the scans in degrees.
    spectrum
        How the rows vary in time; None without rows, or with too few.
    samples, chi2
        ``(y, x)`` frames behind each pixel, and how much more than noise they differ by.
    changed
        ``(y, x)`` True where the object changed, as the check found it.
    floor
        `fairstem.register` floor: ``px``, ``pm``, ``frames``.
    budget
        Name of each source of error of a position in the average and its size, rms per axis in `unit`.
    column_width
        Width of the atom columns (Gaussian sigma, px) that `budget` is for; None where there are none and
        it is for one row.
    used
        Numbers of the frames in the average.
    model
        Model of the registration.
    priors
        Checks, as dictionaries.
    parameters
        What was asked for and what was estimated.
    warnings
        What was noted on the way.
    steps
        Provenance.
    seconds
        Time of the registration.
    """

    title: str
    shape: tuple[int, int, int]
    dtype: str
    pixel_size_nm: tuple[float, float] | None
    average: Floats
    crop: tuple[int, int, int]
    frame: Floats
    before: Floats
    frame_number: int
    rows: Floats | None
    row_error: Floats | None
    shifts: Floats
    angles: Floats
    spectrum: TemporalSpectrum | None
    samples: Floats
    chi2: Floats
    changed: NDArray[np.bool_]
    floor: Any
    budget: Mapping[str, float]
    column_width: float | None
    used: tuple[int, ...]
    model: str
    priors: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]
    warnings: Sequence[str]
    steps: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    seconds: float = 0.0

    @property
    def unit(self) -> str:
        """Unit of displacements: pm, or px without calibration."""
        return "px" if self.pixel_size_nm is None else "pm"

    @property
    def scale(self) -> Floats:
        """Size of a pixel along y and x in `unit`."""
        return np.ones(2) if self.pixel_size_nm is None else 1000 * np.asarray(self.pixel_size_nm)

    @property
    def left_out(self) -> tuple[int, ...]:
        """Numbers of the frames that are not in the average."""
        return tuple(k for k in range(self.shape[0]) if k not in self.used)

    @property
    def floor_size(self) -> float:
        """The common-mode floor in `unit`."""
        return float(self.floor.px if self.floor.pm is None else self.floor.pm)

    @property
    def row_error_size(self) -> float:
        """Error bar of a row's displacement, median over the rows, rms per axis in `unit`; NaN without."""
        if self.row_error is None:
            return float("nan")
        bars = self.row_error[list(self.used)]
        # rows that saw nothing have error bars of many pixels, which would hide all others
        known = np.where(np.isfinite(bars), bars, np.inf)
        size = np.median(known, axis=(0, 2)) * self.scale
        return float(np.sqrt(np.mean(size**2))) if np.isfinite(size).all() else float("nan")

    @property
    def within_frames(self) -> float:
        """Displacement within frames that was corrected, rms per axis in `unit`; NaN without rows."""
        if self.rows is None:
            return float("nan")
        about = self.rows - self.rows.mean(axis=-1, keepdims=True)
        return float(np.sqrt(np.mean((about[list(self.used)] * self.scale[:, None]) ** 2)))

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Vibrations that stand out: axis, cycles per frame, and rms in `unit`."""
        found = () if self.spectrum is None else self.spectrum.lines
        return [
            {
                "axis": line.axis,
                "cycles_per_frame": line.frequency * self.shape[1],
                "rms": line.rms_px * float(self.scale[0 if line.axis == "slow" else 1]),
            }
            for line in found
        ]

    def row_table(self) -> pd.DataFrame:
        """Return one line a row of each frame: ``frame, row, dy, dx, sd_dy, sd_dx`` in px.

        Where scans were turned, `angle_deg` says by how much: displacements are along the scan's own axes.
        """
        n, ny = self.shape[:2]
        rows = np.broadcast_to(self.shifts[:, :, None], (n, 2, ny)) if self.rows is None else self.rows
        bars = np.full(rows.shape, np.nan) if self.row_error is None else self.row_error
        table = {
            "frame": np.repeat(np.arange(n), ny),
            "row": np.tile(np.arange(ny), n),
            "dy": rows[:, 0].ravel(),
            "dx": rows[:, 1].ravel(),
            "sd_dy": bars[:, 0].ravel(),
            "sd_dx": bars[:, 1].ravel(),
        }
        if self.angles.any():
            table["angle_deg"] = np.repeat(self.angles, ny)
        return pd.DataFrame(table)
