"""Calibration checks and repairs of a HyperSpy signal: reported, never guessed silently."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import CalibrationError
from fairstem.signals.axes import Axis, axes_of_signal, image_axes, nanometres_per_unit, normalise_unit
from fairstem.signals.conventions import check_scan_axes
from fairstem.signals.counting import judge_counts
from fairstem.signals.findings import Finding
from fairstem.signals.image_check import find_saturation
from fairstem.signals.scan_check import check_patterns, pattern_statistics

__all__ = ["check_signal", "guess_kind", "repair"]

_SMALLEST_NM, _LARGEST_NM = 1e-4, 1e6  # 0.1 pm and 1 mm
_PLAUSIBLE_NM = (1e-3, 100.0)  # pixel sizes of transmission electron microscopes
_LATTICE_NM = (0.05, 3.0)  # periods of projected crystals, superstructures included
_RECIPROCAL = {"1/nm", "1/Å", "mrad", "rad"}
_ENERGY = {"eV", "keV"}
_PERIODIC = 300.0  # peak power over the median power at the same frequency; noise reaches about 20


def guess_kind(axes: Sequence[Axis]) -> str:
    """Guess what the data are from their axes.

    Returns
    -------
    str
        ``"spectrum"``, ``"spectrum line"``, ``"spectrum image"``, ``"image"``, ``"image series"``,
        ``"diffraction pattern"``, ``"4D scan"``, ``"4D scan series"`` or ``"array"``.
    """
    navigation = sum(a.navigate for a in axes)
    signal = [a for a in axes if not a.navigate]
    if not signal and navigation == 2:
        return "image"  # a map that is still laid out over scan positions
    if len(signal) == 1:
        return {0: "spectrum", 1: "spectrum line", 2: "spectrum image"}.get(navigation, "array")
    if len(signal) != 2:
        return "array"
    if navigation == 0:
        reciprocal = any(a.units in _RECIPROCAL for a in signal)
        return "diffraction pattern" if reciprocal else "image"
    return {1: "image series", 2: "4D scan", 3: "4D scan series"}.get(navigation, "array")


def check_signal(signal: Any, *, picture: bool = False) -> list[Finding]:
    """Check the calibration and the values of a HyperSpy signal.

    Parameters
    ----------
    signal
        The signal; lazy ones have only their axes and type checked.
    picture
        True when it comes from a picture format (PNG, JPEG): 8 bits are then worth a warning.

    Returns
    -------
    list of Finding
        Calibration first. Empty when nothing is wrong.

    Notes
    -----
    Cost: two passes over the data in memory (three over a 4D scan) and one FFT of 512² pixels for an image.

    Examples
    --------
    >>> import hyperspy.api as hs, numpy as np
    >>> counts = np.random.default_rng(0).poisson(20.0, (64, 64))
    >>> [f.code for f in check_signal(hs.signals.Signal2D(counts))]
    ['pixel-size-missing']
    """
    axes = axes_of_signal(signal)
    findings = [*_check_pixels(axes), *_check_spectral(axes)]
    dtype = np.dtype(signal.data.dtype)
    if dtype.names is not None:
        message = "this is a colour picture, no measurement: methods for one image refuse it"
        findings.append(
            Finding("colour-picture", "warning", message, given=f"channels {', '.join(dtype.names)}")
        )
        return findings
    if dtype == np.uint8 and picture:
        message = (
            "8-bit picture: its contrast was probably stretched and (JPEG) compressed, so the grey levels "
            "are no counts and counting statistics do not apply; use the microscope's own file"
        )
        findings.append(Finding("eight-bit-picture", "warning", message, given="dtype uint8"))
    if type(signal.data).__module__.startswith("dask."):
        message = "the data are lazy: their values were not checked for NaN, saturation or averages"
        findings.append(Finding("values-not-checked", "info", message))
    elif dtype.kind in "iuf" and guess_kind(axes).startswith("4D scan"):
        findings += check_patterns(pattern_statistics(signal.data, everything=True))
    elif dtype.kind in "iuf":
        findings += _check_values(np.asarray(signal.data), guess_kind(axes), axes)
    return findings


def _finding(
    code: str, message: str, given: str = "", assumed: str = "", severity: str = "warning"
) -> Finding:
    return Finding(
        code, "warning" if severity == "warning" else "info", message, given, assumed, "calibration"
    )


def _check_pixels(axes: Sequence[Axis]) -> list[Finding]:
    pair = image_axes(axes)
    if pair is None or guess_kind(axes) == "diffraction pattern":
        return []
    y, x = axes[pair[0]], axes[pair[1]]
    findings = []
    for axis in (y, x):
        if axis.scale < 0:
            message = f"the scale of axis {axis.name or '?'} is negative; the sign is ignored in pixel sizes"
            findings.append(
                _finding("negative-scale", message, _text(axis), f"{abs(axis.scale):g} {axis.units}")
            )
    sizes = (y.scale_nm, x.scale_nm)
    if sizes[0] is None or sizes[1] is None:
        return [*findings, _missing(y, x)]
    low, high = min(sizes[0], sizes[1]), max(sizes[0], sizes[1])
    if low < _SMALLEST_NM or high > _LARGEST_NM:
        message = f"a pixel of {low:g} nm x {high:g} nm is absurd; correct it with pixel_size_nm="
        findings.append(_finding("pixel-size-absurd", message, _text(y, x), "the file's value is kept"))
    if high > 1.01 * low:
        message = f"the pixels are not square: {sizes[0]:.5g} nm (y) x {sizes[1]:.5g} nm (x)"
        findings.append(
            _finding("pixels-not-square", message, _text(y, x), "both values are used as they are")
        )
    return findings


def _text(*axes: Axis) -> str:
    return ", ".join(f"{a.name or 'axis'}: {a.scale:g} {a.units or '(no unit)'}" for a in axes)


def _missing(y: Axis, x: Axis) -> Finding:
    """Say what is wrong when the two image axes are not both lengths."""
    given, assumed = _text(y, x), "lengths are in pixels"
    if {y.units, x.units} != {""}:
        message = "the pixel size is no length on both axes; give it with pixel_size_nm="
        return _finding("pixel-size-missing", message, given, assumed)
    if not all(math.isfinite(a.scale) and a.scale != 0 for a in (y, x)) or y.scale == x.scale == 1:
        message = "the pixel size is missing, so everything is in pixels; give it with pixel_size_nm="
        return _finding("pixel-size-missing", message, given, assumed)
    message = f"the unit of the pixel size was lost (scale {abs(x.scale):.5g} without unit)"
    if math.log2(abs(x.scale)).is_integer():
        message += f"; {x.scale:g} is probably a fraction of a scan step or a binning, no length"
    elif _PLAUSIBLE_NM[0] <= abs(x.scale) <= _PLAUSIBLE_NM[1]:
        message += f"; nm would be plausible: pass pixel_size_nm={abs(x.scale):.6g} if that is right"
    else:
        message += "; give the pixel size with pixel_size_nm="
    return _finding("units-lost", message, given, assumed)


def _check_spectral(axes: Sequence[Axis]) -> list[Finding]:
    kind = guess_kind(axes)
    signal = [a for a in axes if not a.navigate]
    if kind.startswith("spectrum"):
        axis = signal[0]
        if axis.units == "":
            message = (
                f"the signal axis ({axis.name or 'no name'}) has no unit; set s.axes_manager[-1].units = 'eV'"
            )
            return [_finding("energy-unit-missing", message, _text(axis), "channels")]
        if axis.units in _ENERGY and axis.scale <= 0:
            message = "the energy axis does not increase"
            return [_finding("energy-axis-reversed", message, _text(axis))]
    if kind.startswith("4D scan"):
        return check_scan_axes(axes)
    return []


def _check_values(data: NDArray[Any], kind: str, axes: Sequence[Axis]) -> list[Finding]:
    findings: list[Finding] = []
    finite = data
    if data.dtype.kind == "f":
        good = np.isfinite(data)
        bad = int(good.size - np.count_nonzero(good))
        if bad:
            message = f"{bad} of {data.size} values are NaN or infinite ({100 * bad / data.size:.2g} %)"
            findings.append(Finding("not-finite", "warning", message, assumed="they are left out"))
            finite = data[good]
    if finite.size == 0:
        return findings
    findings += _check_counts(finite)
    if kind in ("image", "image series", "diffraction pattern"):
        top = find_saturation(finite)
        if top is not None:
            message = f"{100 * top[0]:.2g} % of the pixels pile up at the maximum {top[1]:g}: saturated"
            findings.append(Finding("saturated", "warning", message, given=f"maximum {top[1]:g}"))
    if kind == "image":
        findings += _check_offset(finite)
        findings += _check_period(data, axes)
    return findings


def _check_counts(values: NDArray[Any]) -> list[Finding]:
    counting = judge_counts(values)
    if counting.kind == "counts":
        return []
    if counting.kind == "continuous":
        message = (
            "the values are no integers: averages, or filtered or normalised data instead of counts; methods "
            "that rest on Poisson statistics need a gain and an offset"
        )
        return [Finding("averages", "warning", message, given=f"dtype {values.dtype}")]
    step = counting.step or math.nan
    guess = f"a gain of {step:g}"
    if step in (256, 257):
        guess = "an 8-bit picture that was stretched to 16 bits"
    elif step < 1 and abs(1 / step - round(1 / step)) < 0.01:
        guess = f"the average of {1 / step:.0f} frames or pixels"
    message = f"all values are multiples of {step:g} above the smallest: {guess} is likely"
    return [Finding("gain", "warning", message, given=f"step {step:g}", assumed="the values are kept")]


def _check_offset(values: NDArray[Any]) -> list[Finding]:
    low, mean = float(values.min()), float(values.mean())
    if low <= 0 or low < 0.5 * mean:
        return []
    # the lowest of many counts with this mean lies about 4 standard deviations below it: that needs no
    # offset; a smaller distance is less noise than counting has, a larger one is contrast on a pedestal
    distance = (mean - low) / math.sqrt(mean)
    if 3 <= distance <= 8:
        return []
    message = (
        f"the smallest value is {low:g}, {100 * low / mean:.0f} % of the mean: a detector offset (dark "
        "level) is likely; counting statistics need it, give it to the method as offset="
    )
    return [Finding("offset", "warning", message, given=f"minimum {low:g}, mean {mean:g}")]


def _check_period(image: NDArray[Any], axes: Sequence[Axis]) -> list[Finding]:
    """Compare the strongest period of the image with what crystals can have."""
    pair = image_axes(axes)
    if pair is None:
        return []
    sizes = (axes[pair[0]].scale_nm, axes[pair[1]].scale_nm)
    period = lattice_period(image)
    if period is None or sizes[0] is None or sizes[1] is None:
        return []
    length = period * math.sqrt(sizes[0] * sizes[1])
    if _LATTICE_NM[0] <= length <= _LATTICE_NM[1]:
        return []
    message = (
        f"the image has a period of {period:.1f} px, which is {length:.3g} nm by its calibration; crystals "
        f"have {_LATTICE_NM[0]:g} to {_LATTICE_NM[1]:g} nm, so the pixel size may be wrong: check it, or "
        "correct it with pixel_size_nm="
    )
    return [_finding("period-absurd", message, _text(*(axes[i] for i in pair)), "the file's value is kept")]


def lattice_period(image: NDArray[Any]) -> float | None:
    """Return the strongest period of an image in px, None when nothing stands out.

    Parameters
    ----------
    image
        One image (y, x); its central 512² pixels are looked at.
    """
    size = [min(n, 512) for n in image.shape]
    if min(size) < 64:
        return None
    start = [(n - m) // 2 for n, m in zip(image.shape, size, strict=True)]
    crop = image[start[0] : start[0] + size[0], start[1] : start[1] + size[1]].astype(np.float64)
    crop = np.nan_to_num(crop - np.nanmean(crop), posinf=0.0, neginf=0.0)
    window = np.hanning(size[0])[:, None] * np.hanning(size[1])
    power = np.abs(np.fft.rfft2(crop * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    ring = np.round(frequency * max(size)).astype(int)
    # the lines k_x = 0 and k_y = 0 carry scan-line noise and the frame's edge
    usable = (frequency > 1 / 64) & (frequency < 1 / 3)
    usable[[0, 1, -1], :] = False
    usable[:, :2] = False
    medians = np.array([np.median(power[ring == r]) for r in range(ring.max() + 1)])
    ratio = np.where(usable, power / np.maximum(medians[ring], np.finfo(float).tiny), 0.0)
    best = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return float(1 / frequency[best]) if ratio[best] > _PERIODIC else None


def repair(
    signal: Any, pixel_size_nm: float | tuple[float, float] | None, units: str | None
) -> list[Finding]:
    """Set the pixel size or the unit of the image axes of a signal in place.

    Parameters
    ----------
    signal
        HyperSpy signal.
    pixel_size_nm
        Pixel size in nm, one number or (py, px).
    units
        Unit of the scale that the axes have already, such as ``"nm"``.

    Returns
    -------
    list of Finding
        The repair, with what the file said.

    Raises
    ------
    CalibrationError
        Both were given, the value is not positive, the unit is no length, or there are no image axes.
    """
    if pixel_size_nm is None and units is None:
        return []
    pair = image_axes(axes_of_signal(signal))
    if pair is None:
        raise CalibrationError("the data have no two image axes", needed="an image to give a pixel size to")
    old = axes_of_signal(signal)
    axes = [signal.axes_manager._axes[i] for i in pair]
    if pixel_size_nm is not None:
        if units is not None:
            raise CalibrationError("pixel_size_nm= and units= were both given", needed="one of them")
        for axis, scale in zip(axes, _pair(pixel_size_nm), strict=True):
            factor = scale / axis.scale if axis.scale else 0.0
            axis.offset, axis.scale, axis.units = axis.offset * factor, scale, "nm"
        code = "repaired-pixel-size"
    else:
        if nanometres_per_unit(units) is None:
            raise CalibrationError(
                f"units={units!r} is no length", needed="'pm', 'Å', 'nm', 'µm', 'mm' or 'm'"
            )
        for axis in axes:
            axis.units = normalise_unit(units)
        code = "repaired-units"
    given = _text(*(old[i] for i in pair))
    new = _text(*(axes_of_signal(signal)[i] for i in pair))
    return [_finding(code, f"the pixel size was set by the user: {new}", given, new, "info")]


def _pair(value: float | tuple[float, float]) -> tuple[float, float]:
    numbers = np.atleast_1d(np.asarray(value, dtype=float))
    if numbers.size not in (1, 2) or not np.all(np.isfinite(numbers)) or np.any(numbers <= 0):
        raise CalibrationError(f"pixel_size_nm={value!r}", needed="a positive length in nm, or two: (py, px)")
    return float(numbers[0]), float(numbers[-1])
