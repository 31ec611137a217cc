"""What each reader of scans does on its own account: names, flips, placeholders that look like a calibration.

A number that a reader made up is taken back and reported; a number of the file that can't be right is reported and
kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fairstem.signals.axes import Axis, normalise_unit
from fairstem.signals.findings import Finding

__all__ = ["check_scan_axes", "optic_axis_inside", "settle_conventions"]

_RECIPROCAL = {"1/nm", "1/Å", "mrad", "rad"}
_STEPS = {"mrad": (1e-4, 100.0), "rad": (1e-7, 0.1), "1/nm": (1e-5, 50.0), "1/Å": (1e-6, 5.0)}
_NAMES = ("y", "x", "k_y", "k_x")
_HIGHEST_KEV = 3000.0


def settle_conventions(signal: Any, reader: str) -> list[Finding]:
    """Name the axes of a scan, take back what its reader made up, and say what the reader did.

    Parameters
    ----------
    signal
        What was read; changed in place.
    reader
        Name of the reader.

    Returns
    -------
    list of Finding
        ``orientation``, ``placeholder-removed``, ``detector-lengths``, ``eight-bit-patterns``, ``beam-energy-units``.
    """
    found = _beam_energy(signal)
    _make_native(signal)
    axes = signal.axes_manager._axes
    if len(axes) < 3 or signal.axes_manager.signal_dimension != 2:
        return found
    settle: dict[str, Callable[[Any], list[Finding]]] = {
        "quantumdetector": _merlin,
        "blockfile": _blockfile,
        "tvips": _tvips,
        "empad": _empad,
    }
    known = settle.get(reader.lower())
    return found + (known(signal) if known is not None else [])


def _make_native(signal: Any) -> None:
    """Bring the numbers to this machine's byte order, which compiled code needs; values and type stay."""
    data = signal.data
    if data.dtype.names is not None or data.dtype.isnative:
        return
    native = data.dtype.newbyteorder("=")
    own = isinstance(data, np.ndarray) and data.flags.writeable
    signal.data = data.byteswap(inplace=True).view(native) if own else data.astype(native)


def _name(signal: Any) -> None:
    axes = signal.axes_manager._axes
    names = _NAMES[-len(axes) :] if len(axes) != 3 else ("frame", "k_y", "k_x")
    for axis, name in zip(axes[-4:], names[-4:], strict=False):
        axis.name = name


def _uncalibrated(axes: Sequence[Any]) -> None:
    for axis in axes:
        axis.scale, axis.offset, axis.units = 1.0, 0.0, ""


def _merlin(signal: Any) -> list[Finding]:
    _name(signal)
    message = (
        "the patterns are shown with the detector's first row at the top: a .mib file holds them upside down and they "
        "were flipped"
    )
    return [Finding("orientation", "info", message, assumed="flipped along k_y", topic="file")]


def _blockfile(signal: Any) -> list[Finding]:
    _name(signal)
    header = signal.original_metadata.get_item("blockfile_header", default=None)
    detector = signal.axes_manager._axes[-2:]
    message = (
        "a blockfile holds 8-bit pictures of the patterns: grey levels, scaled and cut at 255, unless the detector "
        "counted; methods that rest on Poisson statistics need a gain"
    )
    found = [Finding("eight-bit-patterns", "warning", message, given="dtype uint8")]
    if header is None or detector[-1].units != "cm":
        return found
    step_cm, length = float(detector[-1].scale), float(header.get_item("Camera_length", default=0))
    message = f"a detector pixel is {step_cm:.4g} cm, a length on the screen and no angle"
    if length > 0:
        # the header counts the camera length in tenths of a mm
        message += (
            f"; with the header's camera length of {length / 10:g} mm it is {1e5 * step_cm / length:.4g} mrad"
        )
    message += ": calibrate before angles are used"
    return [
        *found,
        Finding("detector-lengths", "info", message, given=f"{step_cm:g} cm", topic="calibration"),
    ]


def _tvips(signal: Any) -> list[Finding]:
    scanned = len(signal.axes_manager._axes) == 4
    _name(signal)
    if not scanned:
        return []
    _uncalibrated(signal.axes_manager._axes[:2])
    message = "a .tvips file does not hold the scan step; the reader's 1 nm was taken back"
    return [Finding("placeholder-removed", "info", message, given="1 nm", topic="calibration")]


def _empad(signal: Any) -> list[Finding]:
    _name(signal)
    message = (
        "EMPAD patterns are analogue values, not counts: divide by the detector's units per electron, or give it as "
        "gain="
    )
    return [Finding("analogue-detector", "warning", message, given=f"dtype {signal.data.dtype}")]


def _beam_energy(signal: Any) -> list[Finding]:
    """Bring a beam energy in V to the keV that HyperSpy's metadata mean."""
    node = "Acquisition_instrument.TEM.beam_energy"
    energy = signal.metadata.get_item(node, default=None)
    if energy is None or not float(energy) > _HIGHEST_KEV:
        return []
    signal.metadata.set_item(node, float(energy) / 1e3)
    message = (
        f"a beam energy of {float(energy):g} keV can't be: it is {float(energy) / 1e3:g} keV, written in V"
    )
    given, assumed = f"{float(energy):g}", f"{float(energy) / 1e3:g} keV"
    return [Finding("beam-energy-units", "info", message, given, assumed, "calibration")]


def check_scan_axes(axes: Sequence[Axis]) -> list[Finding]:
    """Check the axes of a 4D scan, or of a time series of them.

    Parameters
    ----------
    axes
        The axes, scan first.

    Returns
    -------
    list of Finding
        ``time-series``, ``axes-swapped``, ``diffraction-uncalibrated``, ``diffraction-step-absurd``,
        ``detector-not-square``, ``optic-axis-unset``.

    Examples
    --------
    >>> scan = [Axis(n, 8, 0.1, units="nm", navigate=True) for n in "yx"]
    >>> detector = [Axis(n, 64, 0.5, units="mrad") for n in ("k_y", "k_x")]
    >>> [f.code for f in check_scan_axes([*scan, *detector])]
    ['optic-axis-unset']
    """
    scan, detector = [a for a in axes if a.navigate], [a for a in axes if not a.navigate]
    if len(detector) != 2 or len(scan) < 2:
        return []
    found = []
    if len(scan) > 2:
        message = (
            f"a time series of {' × '.join(str(a.size) for a in scan[:-2])} scans: methods take one scan, such as "
            "s.inav[:, :, 0], or the sum over time, s.sum(axis=2)"
        )
        found.append(Finding("time-series", "info", message, given=f"{len(axes)} axes"))
    if all(a.units in _RECIPROCAL for a in scan[-2:]) and all(a.scale_nm is not None for a in detector):
        message = (
            "the scan axes are reciprocal and the detector axes are lengths: the two were swapped when the file was "
            "written; swap them back with s = s.T"
        )
        return [*found, Finding("axes-swapped", "warning", message, given=_text(axes), topic="calibration")]
    if not all(a.units in _RECIPROCAL for a in detector):
        message = "the diffraction patterns have no angular calibration (1/nm or mrad)"
        given = _text(detector)
        return [
            *found,
            Finding("diffraction-uncalibrated", "info", message, given, "detector pixels", "calibration"),
        ]
    return found + _check_steps(detector)


def _check_steps(detector: Sequence[Axis]) -> list[Finding]:
    for axis in detector:
        low, high = _STEPS[axis.units]
        if not low <= abs(axis.scale) <= high:
            message = (
                f"a detector pixel of {axis.scale:g} {axis.units} is absurd: calibrate before angles are used"
            )
            given = _text(detector)
            return [
                Finding(
                    "diffraction-step-absurd",
                    "warning",
                    message,
                    given,
                    "the file's value is kept",
                    "calibration",
                )
            ]
    y, x = detector
    found = []
    if y.units == x.units and abs(abs(y.scale) - abs(x.scale)) > 0.01 * abs(x.scale):
        message = f"the detector's pixels are not square: {y.scale:.5g} (k_y), {x.scale:.5g} {x.units} (k_x)"
        assumed = "both values are used as they are"
        found.append(
            Finding("detector-not-square", "warning", message, _text(detector), assumed, "calibration")
        )
    if not optic_axis_inside(detector):
        message = (
            "the zero of the detector's axes is not inside the detector, so the optic axis was never set: methods take "
            "the centre of the array, or center="
        )
        found.append(Finding("optic-axis-unset", "info", message, _text(detector), topic="calibration"))
    return found


def optic_axis_inside(detector: Sequence[Axis]) -> bool:
    """Return whether both axes of the detector have their zero inside it, not on its rim."""
    zero = [-a.offset / a.scale if a.scale and math.isfinite(a.scale) else math.nan for a in detector]
    return all(0 < at < a.size - 1 for at, a in zip(zero, detector, strict=True))


def _text(axes: Sequence[Axis]) -> str:
    return ", ".join(
        f"{a.name or 'axis'}: {a.scale:g} {normalise_unit(a.units) or '(no unit)'}" for a in axes
    )
