"""Scan calibration: how far the recorded lengths are from a known lattice parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import CalibrationError

from ._latticefit import propagate

__all__ = ["ScanCalibration", "calibrate_scan", "known_cell"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class ScanCalibration:
    """Deviation of recorded lengths from the expected ones, in per cent (positive: recorded too long).

    As-recorded STEM lengths are typically off by 0.4-1.2 % along x (fast) and 2.7-3.6 % along y (slow).

    Parameters
    ----------
    reference_nm
        The expected a and b.
    reference_angle_deg
        The expected angle; None when it was not used.
    mean_percent, sd_mean_percent
        Deviation of the square root of |a|·|b|.
    y_percent, sd_y_percent, x_percent, sd_x_percent
        Deviation along the two image axes; None when a, b and the angle do not determine it.
    """

    reference_nm: tuple[float, float]
    reference_angle_deg: float | None
    mean_percent: float
    sd_mean_percent: float
    y_percent: float | None
    sd_y_percent: float | None
    x_percent: float | None
    sd_x_percent: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def calibrate_scan(
    cell_nm: Float, covariance: Float, reference: float | tuple[float, ...]
) -> ScanCalibration:
    """Compare a measured cell with a known one.

    Parameters
    ----------
    cell_nm
        (2, 2): rows a and b, nm.
    covariance
        (4, 4) covariance of ``cell_nm.ravel()``, nm².
    reference
        Expected lattice parameter in nm; or (a, b); or (a, b, angle in degrees). With one number a
        right or 120° angle is assumed when the measured one is within 5° of it.

    Raises
    ------
    CalibrationError
        `reference` is not positive, or has the wrong length.

    Examples
    --------
    >>> import numpy as np
    >>> note = calibrate_scan(np.array([[0, 0.39], [0.40, 0]]), np.eye(4) * 1e-8, 0.3905)
    >>> round(note.x_percent, 2), round(note.y_percent, 2)
    (-0.13, 2.43)
    """
    a, b, angle = _expected(cell_nm, reference)
    expected = a, b

    def mean(flat: Float) -> Float:
        lengths = np.linalg.norm(flat.reshape(2, 2), axis=1)
        return np.array([100 * (np.sqrt(lengths[0] * lengths[1] / (expected[0] * expected[1])) - 1)])

    def axes(flat: Float) -> Float:
        return np.asarray(100 * (_axis_stretch(flat.reshape(2, 2), expected, angle) - 1))

    flat = cell_nm.ravel()
    sd_mean = float(np.sqrt(propagate(mean, flat, covariance)[0, 0]))
    try:
        along = axes(flat)
    except np.linalg.LinAlgError:
        return ScanCalibration(expected, angle, float(mean(flat)[0]), sd_mean, None, None, None, None)
    sd = np.sqrt(np.diag(propagate(axes, flat, covariance)))
    return ScanCalibration(
        expected,
        angle,
        float(mean(flat)[0]),
        sd_mean,
        float(along[0]),
        float(sd[0]),
        float(along[1]),
        float(sd[1]),
    )


def _expected(cell: Float, reference: float | tuple[float, ...]) -> tuple[float, float, float | None]:
    """Return a, b and the angle in degrees; None where neither given nor near one that lattices have."""
    values = np.atleast_1d(np.asarray(reference, dtype=float))
    if values.ndim != 1 or len(values) not in (1, 2, 3) or not np.all(np.isfinite(values) & (values > 0)):
        raise CalibrationError(
            f"reference is {reference!r}",
            needed="a lattice parameter in nm, (a, b) or (a, b, angle in degrees)",
        )
    a, b = float(values[0]), float(values[1] if len(values) > 1 else values[0])
    return a, b, float(values[2]) if len(values) == 3 else _assumed_angle(cell) if len(values) == 1 else None


def known_cell(cell: Float, reference: float | tuple[float, ...]) -> tuple[float, float, float]:
    """Return a, b (nm) and the angle between them (degrees) that `reference` says `cell` has.

    Parameters
    ----------
    cell
        (2, 2): rows a and b as measured, to choose a right or a hexagonal angle by.
    reference
        As in `calibrate_scan`.

    Raises
    ------
    CalibrationError
        `reference` is not positive, has the wrong length, or leaves the angle open.

    Examples
    --------
    >>> import numpy as np
    >>> known_cell(np.array([[0, 0.39], [0.40, 0]]), 0.3905)
    (0.3905, 0.3905, 90.0)
    """
    a, b, angle = _expected(cell, reference)
    if angle is None or not 0 < angle < 180:
        raise CalibrationError(f"reference is {reference!r}", needed="(a, b, angle in degrees)")
    return a, b, angle


def _assumed_angle(cell: Float) -> float | None:
    cosine = cell[0] @ cell[1] / np.prod(np.linalg.norm(cell, axis=1))
    measured = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    near = [angle for angle in (60.0, 90.0, 120.0) if abs(angle - measured) < 5]
    return near[0] if near else None


def _axis_stretch(cell: Float, expected: tuple[float, float], angle: float | None) -> Float:
    """Solve for the factors by which the y and x axes are stretched.

    With y = s_y y', x = s_x x' the squared lengths and the scalar product are linear in s⁻².
    """
    rows = [cell[0] ** 2 / expected[0] ** 2, cell[1] ** 2 / expected[1] ** 2]
    right = [1.0, 1.0]
    if angle is not None:
        product = expected[0] * expected[1]
        rows.append(cell[0] * cell[1] / product)
        right.append(float(np.cos(np.radians(angle))))
    matrix = np.array(rows)
    solution = np.linalg.lstsq(matrix, np.array(right), rcond=None)[0]
    if np.linalg.cond(matrix) > 30 or np.any(solution <= 0):
        raise np.linalg.LinAlgError("the lengths do not determine both axes")
    return np.asarray(solution**-0.5)
