"""Axes: what the calibration of an array says, with the units brought to one spelling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Axis", "axes_of_array", "axes_of_signal", "image_pixel_size_nm", "normalise_unit"]

# one spelling per unit; the keys are compared after stripping blanks
_SPELLINGS = {
    "nm": "nm",
    "nanometer": "nm",
    "nanometers": "nm",
    "nanometre": "nm",
    "nanometres": "nm",
    "Å": "Å",
    "\u212b": "Å",  # the angstrom sign, a character of its own
    "A": "Å",
    "Ang": "Å",
    "ang": "Å",
    "angstrom": "Å",
    "Angstrom": "Å",
    "angstroms": "Å",
    "pm": "pm",
    "picometer": "pm",
    "µm": "µm",
    "\u03bcm": "µm",  # Greek mu instead of the micro sign
    "um": "µm",
    "micron": "µm",
    "microns": "µm",
    "micrometer": "µm",
    "micrometre": "µm",
    "mm": "mm",
    "m": "m",
    "meter": "m",
    "metre": "m",
    "1/nm": "1/nm",
    "nm^-1": "1/nm",
    "nm-1": "1/nm",
    "1 / nm": "1/nm",
    "1 / nanometer": "1/nm",
    "nm$^{-1}$": "1/nm",
    "1/Å": "1/Å",
    "1/\u212b": "1/Å",
    "1/A": "1/Å",
    "A^-1": "1/Å",
    "Å^-1": "1/Å",
    "$A^{-1}$": "1/Å",
    "$Å^{-1}$": "1/Å",
    "mrad": "mrad",
    "milliradian": "mrad",
    "rad": "rad",
    "eV": "eV",
    "ev": "eV",
    "keV": "keV",
    "kev": "keV",
    "s": "s",
    "": "",
    "px": "",
    "pixel": "",
    "pixels": "",
    "<undefined>": "",
    "None": "",
}
_NANOMETRES = {"pm": 1e-3, "Å": 0.1, "nm": 1.0, "µm": 1e3, "mm": 1e6, "m": 1e9}


def normalise_unit(unit: object) -> str:
    """Return the one spelling of a unit; ``""`` for an undefined one.

    Parameters
    ----------
    unit
        A unit as files and HyperSpy write it: a string, None, or traits' ``Undefined``.

    Returns
    -------
    str
        ``"nm"``, ``"Å"``, ``"pm"``, ``"µm"``, ``"mm"``, ``"m"``, ``"1/nm"``, ``"1/Å"``, ``"mrad"``,
        ``"rad"``, ``"eV"``, ``"keV"``, ``"s"`` or ``""``; an unknown unit is returned as it is.

    Examples
    --------
    >>> normalise_unit("microns"), normalise_unit(None), normalise_unit("A")
    ('µm', '', 'Å')
    """
    if unit is None:
        return ""
    text = str(unit).strip()
    return _SPELLINGS.get(text, text)


def nanometres_per_unit(unit: object) -> float | None:
    """Return the number of nm in one unit of length; None when `unit` is not a length."""
    return _NANOMETRES.get(normalise_unit(unit))


@dataclass(frozen=True)
class Axis:
    """One axis of an array and its calibration: coordinate = offset + scale × index.

    Parameters
    ----------
    name
        Name of the axis, ``""`` when it has none.
    size
        Number of samples.
    scale
        Step between samples in `units`; NaN for an axis that is not uniform.
    offset
        Coordinate of the first sample in `units`.
    units
        Unit in the one spelling of `normalise_unit`; ``""`` when undefined (pixels).
    navigate
        True for HyperSpy's navigation axes (scan positions, frames).

    Examples
    --------
    >>> Axis("x", 512, 0.5, units="µm").scale_nm
    500.0
    """

    name: str
    size: int
    scale: float = 1.0
    offset: float = 0.0
    units: str = ""
    navigate: bool = False

    @property
    def scale_nm(self) -> float | None:
        """Step between samples in nm (absolute value), or None when the axis is not a length."""
        factor = nanometres_per_unit(self.units)
        if factor is None or not math.isfinite(self.scale) or self.scale == 0:
            return None
        return abs(self.scale) * factor

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; a scale that is not uniform becomes None."""
        scale = self.scale if math.isfinite(self.scale) else None
        return {
            "name": self.name,
            "size": self.size,
            "scale": scale,
            "offset": self.offset,
            "units": self.units,
            "navigate": self.navigate,
        }


def axes_of_array(shape: Sequence[int]) -> tuple[Axis, ...]:
    """Return uncalibrated axes for a plain array."""
    return tuple(Axis("", int(n)) for n in shape)


def axes_of_signal(signal: Any) -> tuple[Axis, ...]:
    """Return the axes of a HyperSpy signal in the order of its array."""
    axes = []
    for a in signal.axes_manager._axes:
        name = "" if normalise_unit(a.name) == "" else str(a.name)
        uniform = bool(getattr(a, "is_uniform", False))
        scale = float(a.scale) if uniform else math.nan
        offset = float(a.offset) if uniform else float(a.axis[0])
        axes.append(Axis(name, int(a.size), scale, offset, normalise_unit(a.units), bool(a.navigate)))
    return tuple(axes)


def image_axes(axes: Sequence[Axis]) -> tuple[int, int] | None:
    """Return the indices of the two axes that span the image in real space, (y, x).

    The two signal axes of an image (series) when they are not calibrated in reciprocal space;
    otherwise the two navigation axes of a spectrum image or 4D scan. None when there is no such pair.
    """
    signal = [i for i, a in enumerate(axes) if not a.navigate]
    navigation = [i for i, a in enumerate(axes) if a.navigate]
    reciprocal = {"1/nm", "1/Å", "mrad", "rad"}
    if len(signal) == 2 and not any(axes[i].units in reciprocal for i in signal):
        # a 4D scan whose patterns carry no unit: only the scan axes can be real space
        lengths = all(axes[i].scale_nm is not None for i in signal)
        if lengths or len(navigation) != 2:
            return signal[0], signal[1]
    if len(navigation) == 2:
        return navigation[0], navigation[1]
    return None


def image_pixel_size_nm(axes: Sequence[Axis]) -> tuple[float, float] | None:
    """Return the pixel size (py, px) in nm of the two image axes, or None when it is not known."""
    pair = image_axes(axes)
    if pair is None:
        return None
    py, px = axes[pair[0]].scale_nm, axes[pair[1]].scale_nm
    return None if py is None or px is None else (py, px)
