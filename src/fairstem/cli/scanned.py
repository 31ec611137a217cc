"""What ``fairstem symmetry`` and the tour know of one 4D scan, in one place for figures, pages and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fairstem.diffraction import Calibration, SymmetryMaps

__all__ = ["Scanned"]

Floats = NDArray[np.float64]
_SURE = 2.0  # standard errors below 1 from which on a symmetry counts as broken


@dataclass(frozen=True)
class Scanned:
    """One 4D scan, its geometry, and its symmetry at each position.

    Parameters
    ----------
    title
        What the scan is.
    shape, dtype
        Of the data.
    pixel_size_nm
        Step (y, x) of the scan in nm, or None.
    maps
        Symmetry maps, corrected for counting noise where that was asked for.
    raw
        The same without correction; None where the maps are not corrected.
    calibration
        Geometry of the patterns.
    pattern
        ``(k_y, k_x)`` mean pattern (PACBED of the scan), in the scan's unit.
    images
        Virtual images ``(scan_y, scan_x)`` by the name of the detector.
    gain
        Detector units per electron; None where the values are no counts.
    parameters
        What was asked for.
    warnings
        What was noted on the way.
    steps
        Provenance of the maps.
    seconds
        Time that it took.
    truth
        The maps without noise, where they are known.
    """

    title: str
    shape: tuple[int, ...]
    dtype: str
    pixel_size_nm: tuple[float, float] | None
    maps: SymmetryMaps
    raw: SymmetryMaps | None
    calibration: Calibration
    pattern: Floats
    images: Mapping[str, Floats]
    gain: float | None
    parameters: Mapping[str, Any]
    warnings: Sequence[str]
    steps: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    seconds: float = 0.0
    truth: SymmetryMaps | None = None

    @property
    def dose(self) -> float | None:
        """Electrons per pattern on the detector; None where the values are no counts."""
        return None if self.gain is None else float(np.nansum(self.pattern)) / self.gain

    @property
    def center(self) -> tuple[float, float]:
        """Position (y, x) of the optic axis in px that was used: the given one, or the measured one."""
        y, x = self.parameters.get("center", self.calibration.center)
        return float(y), float(x)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """``(operation, scan_y, scan_x)`` where the maps hold numbers."""
        return np.asarray(self.maps.valid)

    @property
    def priors(self) -> list[dict[str, Any]]:
        """The checks of the maps and of the geometry, JSON-like."""
        return [check.to_dict() for check in (*self.maps.priors, *self.calibration.priors)]

    def of_operation(self, number: int) -> dict[str, Any]:
        """Return what an operation's map says in numbers.

        Parameters
        ----------
        number
            Of the operation.

        Returns
        -------
        dict
            Name, pixels compared, valid positions, extremes and median of γ, median standard error, and the share of
            positions whose γ is 1 within two standard errors (None without errors).
        """
        valid = self.valid[number]
        gamma = self.maps.gamma[number][valid]
        facts: dict[str, Any] = {
            "operation": self.maps.operations[number],
            "pixels": int(self.maps.n_pixels[number]),
            "valid": int(valid.sum()),
        }
        if not gamma.size:
            return facts | dict.fromkeys(("smallest", "median", "largest", "standard_error", "symmetric"))
        facts |= {
            "smallest": float(gamma.min()),
            "median": float(np.median(gamma)),
            "largest": float(gamma.max()),
        }
        if self.maps.standard_error is None:
            return facts | {"standard_error": None, "symmetric": None}
        error = self.maps.standard_error[number][valid]
        return facts | {
            "standard_error": float(np.median(error)),
            "symmetric": float((gamma + _SURE * error >= 1).mean()),
        }
