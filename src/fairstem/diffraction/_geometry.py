"""The geometry of a detector: where the optic axis is, how large a pixel, how round a circle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.diffraction._scan import Scan
from fairstem.errors import CalibrationError, DataError
from fairstem.priors import PriorCheck

__all__ = ["Calibration", "detector_offsets", "geometry_of"]


@dataclass(frozen=True)
class Calibration:
    """Geometry of the diffraction patterns of a scan, as measured by `calibrate`.

    Parameters
    ----------
    center
        Position (y, x) of the optic axis on the detector in px, in the middle of the scan.
    descan
        Shift of the centre in px per scan position: ``[[dy/d_scan_y, dy/d_scan_x], [dx/d_scan_y, dx/d_scan_x]]``.
    center_sd
        Standard error (y, x) of `center` in px.
    mrad_per_px
        Angle per pixel in mrad, after the ellipse is made round; None when nothing tells it.
    mrad_per_px_sd
        Its standard error.
    ellipse
        2 × 2 matrix of determinant 1 that takes offsets (y, x) from the centre in detector px to round ones.
    radius_px
        Radius of the bright-field disc in (round) px; None when there is no disc.
    semiangle_mrad
        Convergence semi-angle in mrad; None when unknown.
    hot_pixels
        ``(k_y, k_x)``, True where the detector's values can't be used (hot or dead).
    priors
        The assumptions and whether the data support them.
    """

    center: tuple[float, float]
    descan: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2)))
    center_sd: tuple[float, float] = (0.0, 0.0)
    mrad_per_px: float | None = None
    mrad_per_px_sd: float | None = None
    ellipse: NDArray[np.float64] = field(default_factory=lambda: np.eye(2))
    radius_px: float | None = None
    semiangle_mrad: float | None = None
    hot_pixels: NDArray[np.bool_] | None = None
    priors: tuple[PriorCheck, ...] = ()

    def centers(self, scan_shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the centre of every pattern in px, ``(2, *scan_shape)``, following the descan plane."""
        grids = np.indices(scan_shape, dtype=np.float64)
        middle = np.array([(n - 1) / 2 for n in scan_shape])
        slopes = np.asarray(self.descan)[:, 2 - len(scan_shape) :]
        out = np.empty((2, *scan_shape))
        for axis in range(2):
            out[axis] = self.center[axis] + sum(
                slopes[axis, i] * (grids[i] - middle[i]) for i in range(len(scan_shape))
            )
        return out

    def offsets(self, detector: tuple[int, int]) -> NDArray[np.float64]:
        """Return the round offsets (y, x) of every pixel from `center` in px, ``(2, k_y, k_x)``."""
        return detector_offsets(detector, self.center, self.ellipse)


def detector_offsets(
    detector: tuple[int, int], center: tuple[float, float], ellipse: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the offsets (y, x) of every pixel from `center` in px, ``(2, k_y, k_x)``; round with `ellipse`."""
    flat: NDArray[np.float64] = np.indices(detector, dtype=np.float64)
    flat -= np.asarray(center, dtype=float)[:, None, None]
    return flat if ellipse is None else np.tensordot(ellipse, flat, axes=1)


def geometry_of(
    scan: Scan,
    center: Any = None,
    calibration: Calibration | None = None,
    mrad_per_px: float | None = None,
) -> Calibration:
    """Join what the caller gave with what the axes say: the geometry that a function uses.

    Parameters
    ----------
    scan
        The opened scan.
    center
        Pair (y, x) in px; None takes the calibration's, the axes' zero, or the centre of the array.
    calibration
        From `calibrate`.
    mrad_per_px
        Overrides both.

    Raises
    ------
    CalibrationError
        The centre is no pair of numbers or lies outside the detector; `mrad_per_px` isn't positive.
    DataError
        The hot-pixel map has another shape than the detector.
    """
    hot = None if calibration is None else calibration.hot_pixels
    if hot is not None and hot.shape != scan.detector:
        raise DataError(
            f"a calibration for patterns of {hot.shape} with patterns of {scan.detector}",
            needed="the calibration of this detector",
            todo="calibrate this scan, or crop both alike",
        )
    known = calibration if calibration is not None else _of_axes(scan)
    at = known.center if center is None else _pair(center)
    for value, size in zip(at, scan.detector, strict=True):
        if not 0 <= value <= size - 1:
            raise CalibrationError(
                f"center ({at[0]:.4g}, {at[1]:.4g}) px outside the detector of {scan.detector} px",
                needed="(y, x) on the detector, first pixel at 0",
                todo="measure it with diffraction.center(scan)",
            )
    angle = known.mrad_per_px if mrad_per_px is None else float(mrad_per_px)
    if angle is not None and not (np.isfinite(angle) and angle > 0):
        raise CalibrationError(f"mrad_per_px={mrad_per_px}", needed="a positive angle per pixel in mrad")
    return Calibration(
        at,
        known.descan,
        known.center_sd,
        angle,
        known.mrad_per_px_sd,
        known.ellipse,
        known.radius_px,
        known.semiangle_mrad,
        known.hot_pixels,
        known.priors,
    )


def _of_axes(scan: Scan) -> Calibration:
    """Pixels that aren't square on the axes are an ellipse of determinant 1."""
    if scan.mrad_per_px is None:
        return Calibration(scan.center)
    y, x = scan.mrad_per_px
    mean = float(np.sqrt(y * x))
    return Calibration(scan.center, mrad_per_px=mean, ellipse=np.diag([y / mean, x / mean]))


def _pair(center: Any) -> tuple[float, float]:
    try:
        y, x = (float(v) for v in center)
    except (TypeError, ValueError):
        raise CalibrationError(f"center={center!r}", needed="a pair (y, x) in px") from None
    if not (np.isfinite(y) and np.isfinite(x)):
        raise CalibrationError(f"center={center!r}", needed="a finite pair (y, x) in px")
    return y, x
