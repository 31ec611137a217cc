"""The geometry of a detector: where the optic axis is, how large a pixel, how round a circle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.diffraction._scan import Scan, open_scan
from fairstem.errors import CalibrationError, DataError, DataTypeError
from fairstem.priors import PriorCheck
from fairstem.signals.axes import Axis
from fairstem.signals.provenance import jsonable

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
    descan_sd
        Standard errors of `descan`.
    ellipse_sd
        Standard error of the entries of `ellipse`; None where no ellipse stood out and circles are round.
    radius_sd_px
        Standard error of `radius_px`.
    edge_width_px
        Blur of the disc's edge (Gaussian sigma) in px.
    residual_px
        Root mean square (y, x) of the patches' centres about the descan plane in px.

    Examples
    --------
    >>> geometry = Calibration((15.5, 16.0), mrad_per_px=0.5)
    >>> Calibration.from_dict(geometry.to_dict()).center
    (15.5, 16.0)
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
    descan_sd: NDArray[np.float64] | None = None
    ellipse_sd: float | None = None
    radius_sd_px: float | None = None
    edge_width_px: float | None = None
    residual_px: tuple[float, float] | None = None

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

    def apply(self, signal: Any) -> Any:
        """Return the signal with its detector's axes in mrad, 0 at the centre.

        Parameters
        ----------
        signal
            HyperSpy signal ``(scan_y, scan_x, k_y, k_x)`` with fewer scan axes or none. It isn't changed; the
            result shares its values.

        Returns
        -------
        hyperspy signal
            Eager or lazy as given, with this calibration in ``metadata.fairstem.steps``. Axes can't hold descan,
            ellipse or bad pixels: those stay in the step's parameters (`from_dict` reads them).

        Raises
        ------
        CalibrationError
            `mrad_per_px` isn't known.
        DataTypeError
            A plain array, which has no axes.
        """
        scan = open_scan(signal, name="signal")
        if scan.opened.kind != "hyperspy":
            raise DataTypeError(
                f"signal is a {type(signal).__name__}, which has no axes",
                needed="a HyperSpy signal",
                todo="pass calibration= to the functions of fairstem.diffraction",
            )
        if self.mrad_per_px is None:
            raise CalibrationError(
                "a calibration without mrad_per_px",
                needed="the angle per pixel",
                todo="calibrate(scan, semiangle_mrad=...), or lattice_nm= and energy_kev=",
            )
        axes: list[int | Axis] = list(range(len(scan.shape)))
        for old, at in zip(scan.opened.axes[-2:], self.center, strict=True):
            offset = -at * self.mrad_per_px
            axes.append(Axis(old.name, old.size, self.mrad_per_px, offset, "mrad", navigate=False))
        step = scan.opened.step(
            "fairstem.diffraction.Calibration.apply", {"calibration": self.to_dict()}, self.priors
        )
        return scan.opened.rewrap(scan.opened.array, step, axes=axes)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; the bad pixels as a list of (y, x) and the detector's shape."""
        out: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "priors":
                value = [check.to_dict() for check in value]
            elif item.name == "hot_pixels" and value is not None:
                value = {"shape": list(value.shape), "at": np.argwhere(value).tolist()}
            elif isinstance(value, np.ndarray):
                value = value.tolist()
            elif isinstance(value, tuple):
                value = [float(v) for v in value]
            out[item.name] = jsonable(value) if item.name != "hot_pixels" else value
        return out

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Calibration:
        """Return the calibration that `to_dict` wrote.

        Raises
        ------
        DataError
            Unknown or missing entries, or values that are no numbers.
        """
        known = {item.name for item in fields(cls)}
        strange = sorted(set(stored) - known)
        if strange or "center" not in stored:
            raise DataError(
                f"a stored calibration with {', '.join(strange) or 'no center'}",
                needed="what Calibration.to_dict() writes",
            )
        values = dict(stored)
        try:
            return cls(**{name: _restored(name, value) for name, value in values.items()})
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise DataError(
                f"a stored calibration that can't be read ({error})",
                needed="what Calibration.to_dict() writes",
            ) from None


def _restored(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in ("center", "center_sd", "residual_px"):
        return (float(value[0]), float(value[1]))
    if name in ("descan", "descan_sd", "ellipse"):
        return np.asarray(value, dtype=np.float64).reshape(2, 2)
    if name == "hot_pixels":
        out = np.zeros(tuple(value["shape"]), dtype=bool)
        out[tuple(np.asarray(value["at"], dtype=np.int64).reshape(-1, 2).T)] = True
        return out
    if name == "priors":
        return tuple(_restored_prior(dict(check)) for check in value)
    return float(value)


def _restored_prior(stored: dict[str, Any]) -> PriorCheck:
    stored.pop("holds", None)
    if stored["statistic"] is None:
        stored["statistic"] = float("nan")
    return PriorCheck(**stored)


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
    return replace(known, center=at, mrad_per_px=angle)


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
