"""Calibrate a 4D scan from itself: centre, descan, angle per pixel, ellipse, bad pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.diffraction._center import PATCHES, usable_with_warning
from fairstem.diffraction._discs.centers import Geometry, Method, geometry_priors, locate
from fairstem.diffraction._discs.hot_pixels import bad_pixels
from fairstem.diffraction._discs.lattice import DiscLattice, find_lattice
from fairstem.diffraction._discs.patches import Patches, grid_of, patch_sums, scan_shape_2d
from fairstem.diffraction._geometry import Calibration
from fairstem.diffraction._scan import Scan, open_scan
from fairstem.errors import CalibrationError
from fairstem.priors import PriorCheck
from fairstem.signals.electrons import beam_energy_kev, wavelength_nm

__all__ = ["calibrate"]

_UNKNOWN_WIDTH = 0.5  # px
_WIDEST_SEMIANGLE = 300.0  # mrad
_CONTRADICTION = 0.1  # more than this between semi-angle and lattice means that one of them is wrong
_NEARLY_ROUND = 2e-3  # smaller ellipses move nothing by a tenth of a pixel
Array = NDArray[np.float64]


def calibrate(
    scan: Any,
    semiangle_mrad: float | None = None,
    lattice_nm: float | None = None,
    energy_kev: float | None = None,
    mask: Any = None,
    *,
    method: Method = "auto",
    bad: bool = True,
    budget: int | float | str = "256 MB",
) -> Calibration:
    """Measure the geometry of the diffraction patterns: centre, descan, mrad per pixel, ellipse, bad pixels.

    **Prior.** As for `center`: the bright-field disc has a round edge (or the pattern is its own point reflection).
    The aperture is round, so that an elliptical edge means an elliptical diffraction pattern. A hot pixel is hot
    wherever the beam stands and sharper than the blur of the edge.

    Parameters
    ----------
    scan
        ``(scan_y, scan_x, k_y, k_x)``, a line of patterns or one pattern: HyperSpy signal, numpy or dask array,
        memmap, h5py data set.
    semiangle_mrad
        Convergence semi-angle in mrad: gives the angle per pixel from the disc's radius.
    lattice_nm
        Spacing in nm of the lattice planes whose reflections are next to the centre, such as 0.3905 for SrTiO3 [100].
        It gives the angle per pixel from the lattice of discs or spots. With both, the lattice decides (a crystal is
        better known than an aperture), and a prior check compares them.
    energy_kev
        Beam energy in keV, needed with `lattice_nm`; by default the signal's own.
    mask
        ``(k_y, k_x)``, True where the detector can be used. The parameter that matters where there is a beam stop.
    method
        See `center`.
    bad
        Look for hot and dead pixels.
    budget
        Memory.

    Returns
    -------
    Calibration
        ``mrad_per_px`` is None where neither semi-angle nor lattice was given. ``hot_pixels`` holds hot and dead
        pixels and those that `mask` or NaN exclude; None when there are none. ``ellipse`` differs from the
        identity only where chance would do so once in a thousand, ``descan`` from 0 once in a hundred.

    Raises
    ------
    CalibrationError
        Absurd semi-angle, spacing or energy; `lattice_nm` without energy; no lattice of discs found; semi-angle and
        lattice contradict each other by more than 10 %; a semi-angle without a disc; a centre outside the detector.
    DataError
        As for `center`.

    Warns
    -----
    DataWarning
        Pixels with NaN were left out.

    Notes
    -----
    Standard errors follow the scatter of the data about the model, not counting statistics; only the thresholds
    for bad pixels take the values as counts, or as multiples of their own scatter. The error of the radius contains
    0.055 px⁻¹ times the blur squared for what the model leaves. In simulations of distorted thin crystals (radius
    20 px, blur 0.3 px) the angle per pixel has a bias of -0.02 to -0.04 %, and its standard error covers 62-75 % of the
    errors at 6·10⁶ electrons in all, but only 35-62 % at 6·10⁵: few electrons in a patch make the error bar too small.

    Cost: one pass over the data (about 0.5 ns per value), and about a second for the fits. Memory: one block and
    at most 100 sums of patterns, within the budget.

    References
    ----------
    .. [1] B. H. Savitzky et al., Microsc. Microanal. 27 (2021) 712, doi:10.1017/S1431927621000477

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y, x = np.indices((32, 32))
    >>> disc = 1.0 * (np.hypot(y - 15.2, x - 16.4) < 10)
    >>> geometry = calibrate(rng.poisson(5 * disc, (4, 4, 32, 32)), semiangle_mrad=20)
    >>> round(geometry.mrad_per_px, 1)
    2.0
    """
    for value, name, unit, largest in (
        (semiangle_mrad, "semiangle_mrad", "mrad", _WIDEST_SEMIANGLE),
        (lattice_nm, "lattice_nm", "nm", 100.0),
    ):
        if value is not None and not (math.isfinite(value) and 0 < value < largest):
            raise CalibrationError(f"{name}={value}", needed=f"more than 0 and less than {largest:g} {unit}")
    opened = open_scan(scan, energy_kev=energy_kev)
    wavelength = _wavelength(opened, lattice_nm, energy_kev)
    patches = patch_sums(opened, grid_of(opened, PATCHES, budget), budget)
    usable = usable_with_warning(opened, patches, mask)
    found, usable = _without_bad_pixels(opened, patches, usable, method, bad)
    lattice = None
    if lattice_nm is not None:
        lattice = _lattice(patches, usable, found)
    ellipse, ellipse_sd, more = _ellipse(found, lattice)
    scale, scale_sd, compared = _scale(found, lattice, semiangle_mrad, lattice_nm, wavelength)
    priors = (*geometry_priors(found, patches, usable, opened), *more, *compared)
    radius = None if found.edge is None else found.edge.radius
    measured = semiangle_mrad
    if lattice is not None and radius is not None and scale is not None:
        measured = radius * scale
    return Calibration(
        (float(found.plane.center[0]), float(found.plane.center[1])),
        found.plane.significant_descan,
        (float(found.center_sd[0]), float(found.center_sd[1])),
        scale,
        scale_sd,
        ellipse,
        radius,
        measured,
        None if usable.all() else ~usable,
        priors,
        found.plane.descan_sd,
        ellipse_sd,
        None if found.edge is None else found.edge.radius_sd,
        None if found.edge is None else float(found.edge.shared[3]),
        _residual(found),
    )


def _wavelength(scan: Scan, lattice_nm: float | None, energy_kev: float | None) -> float | None:
    energy = energy_kev if energy_kev is not None else beam_energy_kev(scan.opened)
    if lattice_nm is None:
        return None
    if energy is None:
        raise CalibrationError(
            f"lattice_nm={lattice_nm} without beam energy", needed="the energy", todo="pass energy_kev="
        )
    return wavelength_nm(energy)


def _without_bad_pixels(
    scan: Scan, patches: Patches, usable: NDArray[np.bool_], method: Method, bad: bool
) -> tuple[Geometry, NDArray[np.bool_]]:
    """Leave out bad pixels: first those that no camera draws, then, the blur known, those sharper than that."""
    shape = scan_shape_2d(scan)
    if not bad:
        return locate(patches, usable, shape, method), usable
    first = usable & ~np.logical_or(*bad_pixels(patches, usable, _UNKNOWN_WIDTH))
    found = locate(patches, first, shape, method)
    if found.edge is None:
        return found, first
    second = usable & ~np.logical_or(*bad_pixels(patches, usable, float(found.edge.shared[3])))
    second &= first
    if not np.array_equal(first, second):
        found = locate(patches, second, shape, method)
    return found, second


def _lattice(patches: Patches, usable: NDArray[np.bool_], found: Geometry) -> DiscLattice:
    edge = found.edge
    matrix = np.eye(2) if edge is None else edge.ellipse
    radius, width = (None, 1.0) if edge is None else (edge.radius, float(edge.shared[3]))
    lattice = find_lattice(patches.total, usable, found.plane.center, radius, width, matrix)
    if lattice is None:
        raise CalibrationError(
            "no lattice of discs or spots stands out in the summed pattern",
            needed="a crystal near a zone axis, for lattice_nm",
            todo="pass semiangle_mrad instead",
        )
    return lattice


def _ellipse(
    found: Geometry, lattice: DiscLattice | None
) -> tuple[Array, float | None, tuple[PriorCheck, ...]]:
    """The ellipse of the disc's edge where it was significant, without a disc that of a square or hexagonal lattice."""
    if found.edge is not None:
        size, error = float(np.hypot(*found.edge.shared[4:])), found.edge.ellipse_sd
        if size < _NEARLY_ROUND or error is None:
            return np.eye(2), None, ()
        check = PriorCheck(
            "ellipse-small", "the camera stretches the pattern only a little",
            size, 0.1, "<=", "half the logarithm of the ratio of the ellipse's axes",
            "an elliptical aperture or a wrongly found disc looks like this too",
        )  # fmt: skip
        return found.edge.ellipse, error, (check,)
    rounded = None if lattice is None else lattice.round_ellipse()
    if lattice is None or rounded is None:
        return np.eye(2), None, ()
    matrix, _ = rounded
    size = float(np.log(np.linalg.cond(matrix)) / 2)
    error = float(np.mean(lattice.sd) / lattice.spacing[0])
    significant = size > max(3.7 * error, _NEARLY_ROUND)
    check = PriorCheck(
        "lattice-regular", "the lattice is square or hexagonal, so that its stretch is the camera's",
        size, 0.1, "<=", "half the logarithm of the ratio of the ellipse's axes",
        "another crystal or orientation; calibrate with a disc",
    )  # fmt: skip
    return (matrix, error, (check,)) if significant else (np.eye(2), None, (check,))


def _scale(
    found: Geometry,
    lattice: DiscLattice | None,
    semiangle_mrad: float | None,
    lattice_nm: float | None,
    wavelength: float | None,
) -> tuple[float | None, float | None, tuple[PriorCheck, ...]]:
    """Angle per pixel and its error from the lattice or the disc; both compared where both are known."""
    edge = found.edge
    by_disc = by_lattice = None
    if semiangle_mrad is not None:
        if edge is None:
            raise CalibrationError(
                f"semiangle_mrad={semiangle_mrad} for patterns without a disc",
                needed="a bright-field disc whose radius it is",
                todo="pass lattice_nm= and energy_kev=, or neither",
            )
        by_disc = semiangle_mrad / edge.radius, semiangle_mrad * edge.radius_sd / edge.radius**2
    if lattice is not None and lattice_nm is not None and wavelength is not None:
        spacing, error = lattice.spacing
        by_lattice = (
            1e3 * wavelength / lattice_nm / spacing,
            1e3 * wavelength / lattice_nm * error / spacing**2,
        )
    if by_disc is None or by_lattice is None:
        known = by_lattice or by_disc
        return (None, None, ()) if known is None else (*known, ())
    ratio = by_disc[0] / by_lattice[0]
    if abs(math.log(ratio)) > _CONTRADICTION:
        raise CalibrationError(
            f"semiangle_mrad={semiangle_mrad} gives {by_disc[0]:.4g} mrad/px, lattice_nm={lattice_nm} gives "
            f"{by_lattice[0]:.4g} mrad/px",
            needed="two that agree within 10 %",
            todo="pass the one that is right; the lattice's shortest vector in the pattern is "
            f"{lattice.spacing[0] if lattice else math.nan:.2f} px long",
        )
    error = math.hypot(by_disc[1] / by_disc[0], by_lattice[1] / by_lattice[0], 0.003)
    check = PriorCheck(
        "semiangle-agrees", "semi-angle and lattice give one angle per pixel",
        abs(math.log(ratio)) / error, 3.0, "<=", f"difference ({100 * (ratio - 1):+.1f} %) in standard errors",
        "the lattice was used; check the nominal semi-angle, it was measured on another day perhaps",
    )  # fmt: skip
    return (*by_lattice, (check,))


def _residual(found: Geometry) -> tuple[float, float]:
    rest = (found.centers - found.plane(found.at)).reshape(2, -1)
    y, x = np.sqrt(np.nanmean(rest**2, axis=1))
    return float(y), float(x)
