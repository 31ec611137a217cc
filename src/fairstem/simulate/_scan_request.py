"""The arguments of a multislice scan: checked, and brought to one form."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np

from fairstem.errors import DataError, DataTypeError

__all__ = ["Request", "ScanOptions", "read_request"]

_LARGEST_ANGLE = 200.0  # mrad; beyond, angle = wavelength · frequency is wrong by more than 1 %


class ScanOptions(TypedDict, total=False):
    """What `multislice_scan` takes besides; see there."""

    pixel_size_nm: float | None
    source_fwhm_nm: float
    defocus_nm: float
    tilt_mrad: tuple[float, float]
    seed: int
    sampling_nm: float | None
    slice_nm: float
    every_position: bool


@dataclass(frozen=True)
class Request:
    """The arguments of `multislice_scan` that decide what is computed (no source size, no dose)."""

    energy_kev: float
    semiangle_mrad: float
    thickness_nm: float
    scan_px: tuple[int, int] | None
    pixel_size_nm: float | None
    detector: tuple[int, int]
    max_angle_mrad: float
    frozen_phonons: int
    defocus_nm: float
    tilt_mrad: tuple[float, float]
    seed: int
    sampling_nm: float | None
    slice_nm: float
    every_position: bool

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def read_request(given: dict[str, Any], **named: Any) -> Request:
    """Check every number, and bring them to one form.

    Raises
    ------
    DataError
        A number out of its range, an even detector, both ways to say the step of the scan.
    DataTypeError
        An unknown option, or something else than a number.
    """
    known = set(ScanOptions.__annotations__)
    unknown = sorted(set(given) - known)
    if unknown:
        raise DataTypeError(f"unknown option {unknown[0]!r}", needed=f"one of {', '.join(sorted(known))}")
    if named["scan_px"] is not None and given.get("pixel_size_nm") is not None:
        raise DataError("both scan_px and pixel_size_nm", needed="one of them")
    scan, step = named["scan_px"], given.get("pixel_size_nm")
    sampling = given.get("sampling_nm")
    detector = _whole_pair("detector", named["detector"], 3)
    if detector[0] % 2 == 0 or detector[1] % 2 == 0:
        raise DataError(
            f"detector={named['detector']!r}",
            needed="odd sides, so that the optic axis is a pixel",
            todo="pass one more or one less",
        )
    return Request(
        energy_kev=_positive("energy_kev", named["energy_kev"]),
        semiangle_mrad=_positive("semiangle_mrad", named["semiangle_mrad"], _LARGEST_ANGLE),
        thickness_nm=_positive("thickness_nm", named["thickness_nm"]),
        scan_px=None if scan is None else _whole_pair("scan_px", scan, 1),
        pixel_size_nm=None if step is None else _positive("pixel_size_nm", step),
        detector=detector,
        max_angle_mrad=_positive("max_angle_mrad", named["max_angle_mrad"], _LARGEST_ANGLE),
        frozen_phonons=_whole("frozen_phonons", named["frozen_phonons"], 0),
        defocus_nm=_finite("defocus_nm", given.get("defocus_nm", 0.0)),
        tilt_mrad=_tilt(given.get("tilt_mrad", (0.0, 0.0))),
        seed=_whole("seed", given.get("seed", 0), 0),
        sampling_nm=None if sampling is None else _positive("sampling_nm", sampling),
        slice_nm=_positive("slice_nm", given.get("slice_nm", 0.2)),
        every_position=bool(given.get("every_position", False)),
    )


def _finite(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DataTypeError(f"{name}={value!r}", needed="a number") from None
    if not math.isfinite(number):
        raise DataError(f"{name}={value!r}", needed="a finite number")
    return number


def _positive(name: str, value: Any, most: float = math.inf) -> float:
    number = _finite(name, value)
    if not 0 < number <= most:
        bound = f", at most {most:g}" if most < math.inf else ""
        raise DataError(f"{name}={value!r}", needed=f"a positive number{bound}")
    return number


def _tilt(value: Any) -> tuple[float, float]:
    if np.shape(value) != (2,):
        raise DataTypeError(f"tilt_mrad={value!r}", needed="a pair (y, x) in mrad")
    pair = _finite("tilt_mrad", value[0]), _finite("tilt_mrad", value[1])
    if max(map(abs, pair)) > _LARGEST_ANGLE:
        raise DataError(f"tilt_mrad={value!r}", needed=f"at most {_LARGEST_ANGLE:g} mrad")
    return pair


def _whole(name: str, value: Any, least: int) -> int:
    if np.ndim(value) != 0:
        raise DataTypeError(f"{name}={value!r}", needed="a whole number")
    return _whole_pair(name, value, least)[0]


def _whole_pair(name: str, value: Any, least: int) -> tuple[int, int]:
    pair = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(pair) != 2 or not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in pair):
        raise DataTypeError(f"{name}={value!r}", needed="a whole number, or a pair (y, x) of them")
    if min(pair) < least:
        raise DataError(f"{name}={value!r}", needed=f"{least} or more")
    return int(pair[0]), int(pair[1])
