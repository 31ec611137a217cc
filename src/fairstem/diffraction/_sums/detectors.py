"""Virtual detectors as weight maps: which part of every pixel lies inside, also where the beam moves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from fairstem.compute.plans import Slices
from fairstem.diffraction._geometry import Calibration
from fairstem.errors import CalibrationError, DataError, DataTypeError, DataWarning

__all__ = [
    "Detector",
    "Moving",
    "bad_pixels_shared",
    "disc_radius",
    "mended",
    "resolve",
    "ring",
    "warn_if_cut",
]

Maps = Callable[[NDArray[np.float64]], NDArray[np.float64]]
# inner and outer radius in convergence semi-angles; infinity: as far as whole circles fit on the sensor
_NAMED = {"BF": (0.0, 1.0), "ABF": (0.5, 1.0), "ADF": (1.1, math.inf), "HAADF": (3.0, math.inf)}
_STEPS_PER_PX = 8  # how finely detectors follow a moving beam
_SMALL_RADIUS_PX = 3.0  # below, the edge is too curved for a straight one within a pixel
_SAMPLES = 32  # along each axis of a pixel, for such small circles
_CUT = 0.01  # a ring with more than this outside the sensor is reported


@dataclass(frozen=True)
class Detector:
    """A ring (round px around the optic axis) or a half of one, or a map of weights fixed to the sensor."""

    name: str
    radii: tuple[float, float] | None = None
    weights: NDArray[np.float64] | None = None
    half: Literal["", "lower", "right"] = ""  # only the half towards larger k_y, k_x


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _inside(y: float, x: float, matrix: NDArray[np.float64], reach: float, radius: float) -> float:
    """Return the part of the pixel at offset (y, x) that lies inside the (elliptical) circle.

    `reach` is a bound on how far the pixel's corners are from its centre, made round.
    """
    u, v = matrix[0, 0] * y + matrix[0, 1] * x, matrix[1, 0] * y + matrix[1, 1] * x
    square = u * u + v * v
    if square > (radius + reach) ** 2:
        return 0.0
    if radius > reach and square < (radius - reach) ** 2:
        return 1.0
    rho = math.sqrt(square)
    if rho == 0.0:
        return 1.0
    if radius < _SMALL_RADIUS_PX:
        hits = 0
        for i in range(_SAMPLES):
            for j in range(_SAMPLES):
                p, q = y + (i + 0.5) / _SAMPLES - 0.5, x + (j + 0.5) / _SAMPLES - 0.5
                s, t = matrix[0, 0] * p + matrix[0, 1] * q, matrix[1, 0] * p + matrix[1, 1] * q
                hits += s * s + t * t <= radius * radius
        return hits / _SAMPLES**2
    # normal of the edge in detector pixels, and the signed distance of the pixel's centre from it
    ny, nx = (u * matrix[0, 0] + v * matrix[1, 0]) / rho, (u * matrix[0, 1] + v * matrix[1, 1]) / rho
    steep = math.sqrt(ny * ny + nx * nx)
    # the tangent lies outside the circle, by 1/(24 R) in the mean over a pixel
    distance = (radius - rho) / steep - 1.0 / (24.0 * radius)
    wide, narrow = max(abs(ny), abs(nx)) / steep, min(abs(ny), abs(nx)) / steep
    far = abs(distance)
    if far >= 0.5 * (wide + narrow):
        part = 1.0
    elif far <= 0.5 * (wide - narrow):
        part = 0.5 + far / wide
    else:
        part = 1.0 - (0.5 * (wide + narrow) - far) ** 2 / (2.0 * wide * narrow)
    return part if distance >= 0 else 1.0 - part


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def ring(
    shape: tuple[int, int],
    center: NDArray[np.float64],
    matrix: NDArray[np.float64],
    inner: float,
    outer: float,
) -> NDArray[np.float64]:
    """Return which part of every pixel lies between two circles around `center` px, ``(k_y, k_x)``.

    The edge is taken as straight within a pixel, with its mean curvature corrected; `matrix` makes offsets round.
    """
    out = np.empty(shape)
    reach = 0.75 * math.sqrt((matrix**2).sum())
    for i in range(shape[0]):
        for j in range(shape[1]):
            y, x = i - center[0], j - center[1]
            value = 1.0 if outer == np.inf else _inside(y, x, matrix, reach, outer)
            if inner > 0.0 and value > 0.0:
                value = max(value - _inside(y, x, matrix, reach, inner), 0.0)
            out[i, j] = value
    return out


def resolve(
    detector: Any, geometry: Calibration, shape: tuple[int, int], unit: str, semiangle_mrad: float | None
) -> Detector:
    """Turn what the caller wrote, a name, a pair of radii or a mask, into a `Detector` in px."""
    if unit not in ("mrad", "px"):
        raise DataError(f"unit={unit!r}", needed="'mrad' or 'px'")
    if isinstance(detector, str):
        return _named(detector, geometry, shape, semiangle_mrad)
    if isinstance(detector, np.ndarray) and detector.ndim == 2:
        return _mask(detector, shape)
    try:
        inner, outer = (float(r) for r in detector)
    except (TypeError, ValueError):
        raise DataTypeError(
            f"detector={detector!r}"
            if np.ndim(detector) < 2
            else f"a detector of shape {np.shape(detector)}",
            needed=f"one of {', '.join(_NAMED)}, a pair (inner, outer), or a mask of shape {shape}",
        ) from None
    if not (0 <= inner < outer):
        raise DataError(f"detector ({inner:g}, {outer:g}) {unit}", needed="0 <= inner < outer")
    name = f"({inner:g}, {outer:g}) {unit}"
    if unit == "mrad":
        if geometry.mrad_per_px is None:
            raise CalibrationError(
                f"detector ({inner:g}, {outer:g}) mrad on a scan without angle per pixel",
                needed="mrad_per_px, or a calibration with one",
                todo="pass calibration=diffraction.calibrate(scan, ...), mrad_per_px=, or unit='px'",
            )
        inner, outer = inner / geometry.mrad_per_px, outer / geometry.mrad_per_px
    return Detector(name, (inner, outer))


def _named(
    name: str, geometry: Calibration, shape: tuple[int, int], semiangle_mrad: float | None
) -> Detector:
    if name not in _NAMED:
        raise DataError(f"detector {name!r}", needed=f"one of {', '.join(_NAMED)}, a pair of radii or a mask")
    radius = disc_radius(name, geometry, semiangle_mrad)
    inner, outer = (factor * radius for factor in _NAMED[name])
    if outer == math.inf:
        outer = _largest_circle(geometry, shape)
        if outer <= inner:
            raise DataError(
                f"{name} begins at {inner:.1f} px, where the sensor of {shape} px holds circles up to {outer:.1f} px",
                needed="a sensor that reaches further out",
                todo="pass (inner, outer) in mrad or px",
            )
    return Detector(name, (inner, outer))


def disc_radius(name: str, geometry: Calibration, semiangle_mrad: float | None) -> float:
    """Return the radius of the bright-field disc in round px, for what messages call `name`."""
    if semiangle_mrad is not None and not (math.isfinite(semiangle_mrad) and semiangle_mrad > 0):
        raise CalibrationError(f"semiangle_mrad={semiangle_mrad}", needed="a positive angle in mrad")
    if semiangle_mrad is None and geometry.radius_px is not None:
        return geometry.radius_px
    angle = semiangle_mrad if semiangle_mrad is not None else geometry.semiangle_mrad
    if angle is None or geometry.mrad_per_px is None:
        missing = "convergence semi-angle" if angle is None else "angle per pixel"
        raise CalibrationError(
            f"detector {name!r} without the {missing}",
            needed="the radius of the bright-field disc",
            todo="pass calibration=diffraction.calibrate(scan, ...), or semiangle_mrad= and mrad_per_px=",
        )
    return angle / geometry.mrad_per_px


def _largest_circle(geometry: Calibration, shape: tuple[int, int]) -> float:
    """Return the largest radius in round px whose (elliptical) circle lies wholly on the sensor."""
    back = np.linalg.inv(geometry.ellipse)
    reach = np.linalg.norm(back, axis=1)  # how far the unit circle reaches along y and x
    rooms = [(min(at, n - 1 - at) + 0.5) / r for at, n, r in zip(geometry.center, shape, reach, strict=True)]
    return float(min(rooms))


def _mask(mask: NDArray[Any], shape: tuple[int, int]) -> Detector:
    if mask.dtype.kind not in "buif":
        raise DataTypeError(f"a detector mask of dtype {mask.dtype}", needed="bool, or real weights")
    if mask.shape != shape:
        raise DataError(f"a detector mask of shape {mask.shape}", needed=f"the patterns' shape {shape}")
    weights = mask.astype(np.float64)
    if not np.isfinite(weights).all():
        raise DataError("a detector mask with NaN or infinite weights", needed="finite weights")
    if not weights.any():
        raise DataError("an empty detector: all weights of the mask are 0", needed="at least one pixel")
    return Detector("mask", weights=weights)


def bad_pixels_shared(weights: NDArray[np.float64], bad: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Give the weight of every unusable pixel to its nearest usable neighbours, in equal parts.

    That is the same as replacing the pixel by its neighbours' mean before the sum: the sum stays unbiased where
    the pattern is smooth, and the pixel itself is never read.
    """
    if bad is None or not bad.any():
        return weights
    if bad.all():
        raise DataError("a calibration that calls every pixel hot or dead", needed="pixels that can be used")
    out = np.where(bad, 0.0, weights)
    for y, x in np.argwhere(bad):
        near = _usable(bad, int(y), int(x))
        for i, j in near:
            out[..., i, j] += weights[..., y, x] / len(near)
    return out


def mended(patterns: NDArray[Any], bad: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Return patterns (..., k_y, k_x) as float64 with unusable pixels replaced by their neighbours' mean.

    Without such pixels they are returned as they are.
    """
    if bad is None or not bad.any():
        return patterns
    if bad.all():
        raise DataError("a calibration that calls every pixel hot or dead", needed="pixels that can be used")
    out = patterns.astype(np.float64)
    for y, x in np.argwhere(bad):
        near = np.array(_usable(bad, int(y), int(x)))
        out[..., y, x] = patterns[..., near[:, 0], near[:, 1]].mean(axis=-1)
    return out


def _usable(bad: NDArray[np.bool_], y: int, x: int) -> Sequence[tuple[int, int]]:
    for reach in range(1, max(bad.shape)):
        top, left = max(y - reach, 0), max(x - reach, 0)
        found = np.argwhere(~bad[top : y + reach + 1, left : x + reach + 1])
        if len(found):
            return [(top + int(i), left + int(j)) for i, j in found]
    return []


class Moving:
    """Weight maps of several detectors that follow the beam over the scan.

    Detectors move in steps of 1/8 px; patterns of one step share their maps. Without descan there is one step.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        geometry: Calibration,
        scan: tuple[int, ...],
        shape: tuple[int, int],
    ) -> None:
        self.detectors, self.geometry, self.shape = detectors, geometry, shape
        still = not np.any(geometry.descan) or all(d.radii is None for d in detectors)
        self.centers = None if still else geometry.centers(scan)
        self.still = self.maps(np.array(geometry.center))

    def weights(self, center: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weights (detector, k_y, k_x) around a center in px, unusable pixels among them."""
        matrix = np.ascontiguousarray(self.geometry.ellipse, dtype=np.float64)
        out = np.empty((len(self.detectors), *self.shape))
        for k, detector in enumerate(self.detectors):
            if detector.radii is not None:
                out[k] = ring(self.shape, center, matrix, *detector.radii)
            elif detector.weights is not None:
                out[k] = detector.weights
            if detector.half:
                axis = 0 if detector.half == "lower" else 1
                inside = np.clip(np.arange(self.shape[axis]) - center[axis] + 0.5, 0, 1)
                out[k] *= np.expand_dims(inside, 1 - axis)
        return out

    def maps(self, center: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weights around a center, those of unusable pixels shared among their neighbours."""
        return bad_pixels_shared(self.weights(center), self.geometry.hot_pixels)

    def groups(
        self, at: Slices, maps: Maps | None = None
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
        """Yield maps (map, k_y, k_x), and the numbers of the block's patterns that take them (None: all).

        `maps` makes other maps of a center than `Moving.maps`.
        """
        make = self.maps if maps is None else maps
        if self.centers is None:
            yield make(np.array(self.geometry.center)), None
            return
        centers = self.centers[(slice(None), *at[:-2])].reshape(2, -1)
        steps, group = np.unique(np.round(centers * _STEPS_PER_PX), axis=1, return_inverse=True)
        order = np.argsort(group.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(group.ravel()))
        for step, members in zip(steps.T, np.split(order, ends[:-1]), strict=True):
            yield make(step / _STEPS_PER_PX), members

    def fractions_outside(self) -> list[float]:
        """Return the part of every ring outside the sensor, where it is largest; 0 for masks and open rings."""
        at = np.array([self.geometry.center])
        if self.centers is not None:
            corners = self.centers[
                (slice(None), *(slice(None, None, max(n - 1, 1)) for n in self.centers.shape[1:]))
            ]
            at = corners.reshape(2, -1).T
        out = []
        for detector in self.detectors:
            if detector.radii is None or detector.half or not math.isfinite(detector.radii[1]):
                out.append(0.0)
                continue
            whole = math.pi * (detector.radii[1] ** 2 - detector.radii[0] ** 2)
            matrix = np.ascontiguousarray(self.geometry.ellipse, dtype=np.float64)
            seen = min(float(ring(self.shape, c, matrix, *detector.radii).sum()) for c in at)
            out.append(max(0.0, 1 - seen * abs(float(np.linalg.det(matrix))) / whole))
        return out


def warn_if_cut(moving: Moving) -> None:
    """Warn of rings that leave the sensor; refuse those that miss it."""
    for detector, still, outside in zip(
        moving.detectors, moving.still, moving.fractions_outside(), strict=True
    ):
        if outside > 1 - 1e-9 or not still.any():
            raise DataError(
                f"detector {detector.name} lies outside the sensor of {moving.shape} px",
                needed="a detector that overlaps the sensor",
                todo="check mrad_per_px and the unit, or lower the radii",
            )
        if outside > _CUT:
            warnings.warn(
                f"{100 * outside:.0f} % of the detector {detector.name} lies outside the sensor and is missing "
                "in its image.",
                DataWarning,
                stacklevel=4,
            )
