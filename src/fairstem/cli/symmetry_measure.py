"""Calibrating a scan and mapping its symmetry, for a report."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.cli.scanned import Scanned
from fairstem.errors import CalibrationError

__all__ = ["measure"]


def measure(
    signal: Any, title: str, asked: Mapping[str, Any], warnings: Sequence[str]
) -> tuple[Scanned, dict[str, Any]]:
    """Calibrate a scan, look at it, and map its symmetry.

    Parameters
    ----------
    signal
        ``(scan_y, scan_x | k_y, k_x)`` HyperSpy signal, lazy or not.
    title
        For captions.
    asked
        ``operations``, ``noise``, and where they are given ``gain``, ``center``, ``mask``, ``shift_px``,
        ``budget``, ``semiangle_mrad``, ``lattice_nm``, ``energy_kev``, ``mrad_per_px``.
    warnings
        List that collects warnings while this runs; copied at the end.

    Returns
    -------
    tuple
        What is known of the scan; HyperSpy signals by the name of their file.

    Raises
    ------
    DataError
        If the scan does not fit the method.
    CalibrationError
        If a mask in mrad is asked for and nothing says how many mrad a pixel is.
    """
    from fairstem import diffraction
    from fairstem.signals import open_data, steps_of

    start = time.perf_counter()
    opened = open_data(signal, name="the scan")
    memory = {"budget": asked["budget"]} if "budget" in asked else {}
    found = _calibrated(signal, asked, memory)
    where = {"calibration": found, **memory}
    if "center" in asked:
        where["center"] = asked["center"]
    if "mask" in asked and found.mrad_per_px is None:
        raise CalibrationError(
            "a mask in mrad, and nothing says how many mrad a pixel of the detector is",
            needed="the angle per pixel",
            todo="give --semiangle-mrad, --lattice-nm or --mrad-per-px",
        )
    given = {n: asked[n] for n in ("mask", "shift_px") if n in asked}
    maps = _symmetry(signal, asked, **given, **where)
    corrected = maps.standard_error is not None
    raw = _symmetry(signal, {**asked, "noise": "none", "gain": None}, **given, **where) if corrected else None
    mean = diffraction.pacbed(signal, mean=True, **where)
    if found.mrad_per_px is not None:
        mean = replace(found, center=asked.get("center", found.center)).apply(mean)
    images, stacked = _virtual(signal, found, where)
    results = {"symmetry": maps.as_signal(), "pacbed": mean, "virtual": stacked}
    if corrected:
        results["standard_error"] = maps.as_signal("standard_error")
    scanned = Scanned(
        title=title,
        shape=tuple(int(n) for n in opened.array.shape),
        dtype=str(opened.array.dtype),
        pixel_size_nm=opened.pixel_size_nm,
        maps=maps,
        raw=raw,
        calibration=found,
        pattern=_computed(mean.data),
        images=images,
        gain=(asked.get("gain") or 1.0) if corrected else None,
        parameters=dict(asked),
        warnings=tuple(warnings),
        steps=tuple(steps_of(results["symmetry"])),
        seconds=time.perf_counter() - start,
    )
    return scanned, results


def _calibrated(signal: Any, asked: Mapping[str, Any], memory: Mapping[str, Any]) -> Any:
    """Measure the geometry; the angle per pixel is the given one, the measured one, the file's, in this order."""
    from fairstem import diffraction
    from fairstem.diffraction._geometry import geometry_of
    from fairstem.diffraction._pairs.operations import parse_operations
    from fairstem.diffraction._scan import open_scan

    given = {n: asked[n] for n in ("semiangle_mrad", "lattice_nm", "energy_kev") if n in asked}
    # what was asked for is refused before the patterns are read
    parse_operations(asked["operations"])
    stored = geometry_of(
        open_scan(signal, energy_kev=asked.get("energy_kev")), asked.get("center")
    ).mrad_per_px
    angle = asked.get("mrad_per_px") or (None if {"semiangle_mrad", "lattice_nm"} & set(given) else stored)
    if angle is None and not {"semiangle_mrad", "lattice_nm"} & set(given):
        noted = signal.metadata.get_item("Acquisition_instrument.TEM.convergence_angle", default=None)
        given |= {} if noted is None else {"semiangle_mrad": float(noted)}
    found = diffraction.calibrate(signal, **given, **memory)
    if angle is None:
        return found
    semiangle = None if found.radius_px is None else found.radius_px * angle
    return replace(found, mrad_per_px=float(angle), mrad_per_px_sd=None, semiangle_mrad=semiangle)


def _symmetry(signal: Any, asked: Mapping[str, Any], **given: Any) -> Any:
    from fairstem import diffraction

    return diffraction.symmetry(
        signal, asked["operations"], noise=asked["noise"], gain=asked.get("gain"), **given
    )


def _virtual(signal: Any, found: Any, where: Mapping[str, Any]) -> tuple[dict[str, NDArray[np.float64]], Any]:
    """Return virtual images by the name of the detector, and all of them as one signal."""
    from fairstem import diffraction
    from fairstem.signals import open_data
    from fairstem.signals.axes import Axis

    # without a disc there is no bright field: all electrons then
    wanted = {"all electrons": (0.0, math.inf)} if found.radius_px is None else {"BF": "BF", "ADF": "ADF"}
    unit = "px" if found.radius_px is None else "mrad"
    lazily = diffraction.virtual_images(signal, wanted, unit=unit, **where)
    # both in one pass over the patterns
    values = _computed(np.stack([image.data for image in lazily.values()]))
    first = next(iter(lazily.values()))
    axes: list[int | Axis | None] = [Axis("detector", len(values), navigate=True), 0, 1]
    stacked = open_data(first).rewrap(values, axes=axes)
    stacked.metadata.General.title = f"virtual images: {', '.join(lazily)}"
    return dict(zip(lazily, values, strict=True)), stacked


def _computed(array: Any) -> NDArray[np.float64]:
    values = array.compute() if hasattr(array, "compute") else array
    return np.asarray(values, dtype=np.float64)
