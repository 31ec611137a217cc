"""Symmetry STEM: how symmetric the diffraction pattern of every scan position is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.diffraction._geometry import Calibration, geometry_of
from fairstem.diffraction._pairs.correlation import Correlator, Maps, correlate_scan
from fairstem.diffraction._pairs.maps import SymmetryMaps
from fairstem.diffraction._pairs.operations import Operation, parse_operations
from fairstem.diffraction._pairs.priors import check_priors
from fairstem.diffraction._scan import Scan, electrons_per_unit, open_scan
from fairstem.errors import CalibrationError, DataError, DataTypeError
from fairstem.priors import PriorCheck
from fairstem.signals.axes import Axis

__all__ = ["symmetry"]

_FARTHEST = 3.0  # px of shift search: centres further off should be measured, not searched
_FEWEST = 8  # pixels of a mask


def symmetry(
    scan: Any,
    operations: Any = ("C2", "C4", "mx", "my"),
    *,
    noise: str | None = "poisson",
    center: tuple[float, float] | None = None,
    calibration: Calibration | None = None,
    mask: Any = None,
    unit: str = "mrad",
    shift_px: float = 0.0,
    gain: float | None = None,
    budget: int | float | str = "256 MB",
) -> SymmetryMaps:
    """Map how symmetric every diffraction pattern of a scan is, freed of the bias of counting noise.

    Parameters
    ----------
    scan
        HyperSpy signal, numpy or dask array, memmap or h5py data set ``(scan_y, scan_x, k_y, k_x)``, in counted
        electrons; a line of patterns or one pattern as well.
    operations
        Names: ``"C2"``, ``"C3"``, ``"C4"``, ``"C6"`` (rotations), ``"m0"`` to ``"m179.9"`` (mirrors; the angle of
        the line from k_x towards k_y in degrees), ``"mx"`` and ``"my"`` for m0 and m90.
    noise
        ``"poisson"``: correct the counting noise and state standard errors. None or ``"none"``: the plain
        correlation, for simulated or denoised patterns.
    center
        Optic axis (y, x) in px; by default the calibration's, the axes' zero, or the centre of the array.
    calibration
        From `calibrate`: centre, descan, ellipse and hot pixels are used.
    mask
        Where patterns are compared: a bool array ``(k_y, k_x)``, or radii ``(inner, outer)`` in `unit`. Only pixels
        whose images under the operation all lie in the mask and on the detector count.
    unit
        ``"mrad"`` or ``"px"``, of the radii.
    shift_px
        Look for the best centre of every pattern up to this many px away (at most 3), in half pixels. The largest
        of several noisy values is biased upwards: up to 1.3 standard errors for smooth patterns, hardly where half
        a pixel matters. It is not corrected. 0: no search.
    gain
        Detector units per electron, where one electron counts more (or less) than 1.
    budget
        Memory for a block of patterns.

    Returns
    -------
    SymmetryMaps
        ``gamma`` and ``standard_error``, ``(operation, scan_y, scan_x)``, and the prior checks. Lazy data are
        computed, block by block.

    Raises
    ------
    DataError
        An unknown, repeated or missing operation; values that are no counts; negative or NaN values; a mask of
        another shape or with hardly any pixel; an operation without pixels to compare.
    DataTypeError
        Complex patterns, names or masks of another type.
    CalibrationError
        The centre lies outside; radii in mrad without an angle per pixel.

    Warns
    -----
    DataWarning
        A prior does not hold: scatter below counting noise, a centre off by more than 0.25 px, a beam stop without
        mask, few pixels, patterns without counts or contrast.

    Notes
    -----
    Prior: counts are Poisson, and the centre is known. γ_S = Σ(I - ⟨I⟩)(SI - ⟨I⟩) / Σ(I - ⟨I⟩)² [1]_. Counting
    noise adds ΣI to Σ(I - ⟨I⟩)² but nothing to the numerator, so that at 10⁴ electrons a perfectly symmetric
    pattern can read 0.7. Here (1 - 1/n) ΣI is taken off and pixels that share noise with their image are left
    out; what remains is unbiased up to the ratio, whose bias of second order is taken off too. Estimates may
    therefore exceed 1: they are not cut, which would bias averages over neighbours. The standard error is the exact
    variance of a quadratic form of Poisson counts with unbiased moments, to first order in the ratio. A pattern
    whose variance is less than 3 standard errors above its counting noise gets γ = 0 and an infinite error.

    C2, C4 and the mirrors at 0°, 45°, 90°, 135° map pixels onto pixels when the centre lies on a pixel or half
    way between (within 1/64 px). Other operations and centres compare two images interpolated bilinearly, turned by
    half the angle each. A symmetric pattern of knife-edged discs then reads 4·10⁻⁴ too low, with edges of 1 px 10⁻⁴
    (with the nearest pixel 7·10⁻³ and 4·10⁻³); detail of 3 px costs 2·10⁻³. Descan is followed in steps of 1/8 px,
    which costs 10⁻³ on SrTiO3 (half a pixel would cost 10⁻²). There, standard errors follow the noise of every
    fifth pixel.

    Cost: one pass; per 10⁴ patterns of 128 × 128 on one core ≈ 0.2 s for C2, C4 and each mirror of the grid, 0.8 s
    for other mirrors, 1.4 s for C3 or C6. A search multiplies it by (4 `shift_px` + 1)². Memory: `budget`.

    The parameter that matters is the centre: half a pixel costs 0.1 of γ where patterns have fine detail. Then the
    mask: leave out what is far from the discs, it only adds noise.

    References
    ----------
    .. [1] M. Krajnak, J. Etheridge, PNAS 117 (2020) 27805, https://doi.org/10.1073/pnas.2006975117

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.indices((32, 32)) - 15.5
    >>> pattern = np.exp(-(x**4 + y**4) / 5000) * (1 + np.cos(0.8 * x) * np.cos(0.8 * y))
    >>> counts = np.random.default_rng(0).poisson(4 * pattern, (8, 8, 32, 32))
    >>> [round(float(symmetry(counts, "C4", noise=n).gamma.mean()), 1) for n in (None, "poisson")]
    [0.7, 1.0]
    """
    asked = parse_operations(operations)
    opened = open_scan(scan)
    geometry = geometry_of(opened, center, calibration)
    allowed = _allowed(opened, geometry, mask, unit)
    units = _noise(opened, noise, gain)
    searched = _shifts(shift_px)
    correlators = [
        Correlator(asked, allowed, geometry, units, units is not None and gain is None, shift)
        for shift in searched
    ]
    maps, shifts = correlate_scan(opened, opened.plan(budget, working=0.25), correlators)
    checks = check_priors(maps, allowed, geometry.center, units is not None)
    parameters = {
        "operations": [o.name for o in asked],
        "noise": "none" if units is None else "poisson",
        "center": geometry.center,
        "mask": mask,
        "unit": unit,
        "shift_px": shift_px,
        "gain": gain,
    }
    return _result(opened, asked, maps, shifts, checks, parameters)


def _result(
    scan: Scan,
    asked: tuple[Operation, ...],
    maps: Maps,
    shifts: NDArray[np.float64] | None,
    checks: tuple[PriorCheck, ...],
    parameters: dict[str, Any],
) -> SymmetryMaps:
    template = None
    if scan.opened.kind == "hyperspy":
        step = scan.opened.step("fairstem.diffraction.symmetry", parameters, checks)
        axes = [Axis("operation", len(asked), navigate=True), *range(len(scan.shape))]
        template = scan.opened.rewrap(maps.gamma, step, axes=axes)
    return SymmetryMaps(
        tuple(o.name for o in asked),
        maps.gamma,
        None if parameters["noise"] == "none" else maps.standard_error,
        np.isfinite(maps.standard_error),
        maps.n_pixels,
        shifts,
        checks,
        template,
    )


def _noise(scan: Scan, noise: str | None, gain: float | None) -> float | None:
    """Return the detector units per electron, None where no noise is to be corrected."""
    if noise in (None, "none"):
        if gain is not None:
            raise DataError(
                f"gain={gain} with noise=None", needed='noise="poisson" with a gain', todo="leave one out"
            )
        return None
    if noise != "poisson":
        raise DataError(f"noise={noise!r}", needed='"poisson" for counted electrons, or None')
    return electrons_per_unit(scan, gain)


def _shifts(shift_px: float) -> list[tuple[float, float]]:
    """Return the shifts that are tried, none first: it wins a draw."""
    if not (isinstance(shift_px, int | float | np.number) and 0 <= shift_px <= _FARTHEST):
        raise DataError(
            f"shift_px={shift_px!r}",
            needed=f"px from 0 to {_FARTHEST:g}",
            todo="measure the centre with diffraction.center(scan) first",
        )
    steps = [k / 2 for k in range(-math.floor(2 * shift_px), math.floor(2 * shift_px) + 1)]
    return sorted(((y, x) for y in steps for x in steps), key=lambda at: math.hypot(*at))


def _allowed(scan: Scan, geometry: Calibration, mask: Any, unit: str) -> NDArray[np.bool_]:
    if unit not in ("mrad", "px"):
        raise DataError(f"unit={unit!r}", needed="'mrad' or 'px'")
    if mask is None:
        allowed = np.ones(scan.detector, dtype=bool)
    elif np.ndim(mask) == 1 and np.size(mask) == 2:
        allowed = _ring(scan, geometry, mask, unit)
    else:
        allowed = _given(scan, mask)
    if geometry.hot_pixels is not None:
        allowed = allowed & ~geometry.hot_pixels
    if int(allowed.sum()) < _FEWEST:
        raise DataError(f"a mask that leaves {int(allowed.sum())} px", needed=f"at least {_FEWEST}")
    return allowed


def _given(scan: Scan, mask: Any) -> NDArray[np.bool_]:
    values = np.asarray(mask)
    if values.dtype.kind not in "bui" or not np.isin(values, (0, 1)).all():
        raise DataTypeError(
            f"a mask of dtype {values.dtype}, shape {values.shape}",
            needed="bool (k_y, k_x), True where patterns are compared, or a pair of radii (inner, outer)",
        )
    if values.shape != scan.detector:
        raise DataError(f"a mask of shape {values.shape}", needed=f"the detector's shape {scan.detector}")
    return values.astype(bool)


def _ring(scan: Scan, geometry: Calibration, mask: Any, unit: str) -> NDArray[np.bool_]:
    try:
        inner, outer = (float(r) for r in mask)
    except (TypeError, ValueError):
        raise DataTypeError(
            f"mask={mask!r}", needed="a pair of radii (inner, outer), or a bool array"
        ) from None
    if not 0 <= inner < outer:
        raise DataError(f"mask=({inner:g}, {outer:g})", needed="0 <= inner < outer")
    scale = 1.0
    if unit == "mrad":
        if geometry.mrad_per_px is None:
            raise CalibrationError(
                "mask radii in mrad without the angle per pixel",
                needed="a calibrated scan",
                todo='pass calibration= from diffraction.calibrate, or unit="px"',
            )
        scale = geometry.mrad_per_px
    radius = scale * np.hypot(*geometry.offsets(scan.detector))
    return np.asarray((radius >= inner) & (radius <= outer))
