"""Deflection of the beam over a scan: its derivatives, its integral, and what they mean in physics."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from fairstem.diffraction._field.rotation import ScanRotation, find_rotation
from fairstem.errors import CalibrationError, DataError
from fairstem.priors import PriorCheck
from fairstem.signals.electrons import wavelength_nm

__all__ = ["CenterOfMass"]

_REST_ENERGY_KEV = 510.99895
_CHARGES_PER_VOLT_NM = 0.05526349406  # vacuum permittivity in elementary charges / (V nm)


@dataclass(frozen=True)
class CenterOfMass:
    """Deflection of the beam at every scan position, with its standard error; made by `com` and `dpc`.

    Parameters
    ----------
    y, x
        Deflection from the optic axis along the detector's axes in `unit`, ``(scan_y, scan_x)``; 0 where not
        `valid`.
    sd_y, sd_x
        Standard errors in `unit` from counting statistics, infinite with fewer than two electrons; None where
        the values are no counts (``noise=None``).
    cov_yx
        Covariance of the errors of `y` and `x`; None with the standard errors.
    electrons
        Electrons that were used per position (detector units where the values are no counts).
    valid
        False where a pattern has no electrons on the mask.
    unit
        ``"mrad"`` or ``"px"``.
    pixel_size_nm
        Step (y, x) of the scan in nm, None when unknown: derivatives are then per px.
    energy_kev
        Beam energy in keV, None when unknown.
    priors
        The assumptions and whether the data support them.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    sd_y: NDArray[np.float64] | None
    sd_x: NDArray[np.float64] | None
    cov_yx: NDArray[np.float64] | None
    electrons: NDArray[np.float64]
    valid: NDArray[np.bool_]
    unit: str
    pixel_size_nm: tuple[float, float] | None = None
    energy_kev: float | None = None
    priors: tuple[PriorCheck, ...] = ()

    @property
    def magnitude(self) -> NDArray[np.float64]:
        """Length of the deflection in `unit`."""
        return np.hypot(self.y, self.x)

    @property
    def angle(self) -> NDArray[np.float64]:
        """Direction of the deflection in rad, from x towards y."""
        return np.arctan2(self.y, self.x)

    @property
    def divergence(self) -> NDArray[np.float64]:
        """Divergence in `unit` per nm (per px without pixel size), by central differences."""
        (yy, _), (_, xx) = self._gradients()
        return yy + xx

    @property
    def curl(self) -> NDArray[np.float64]:
        """Curl in `unit` per nm (per px without pixel size), by central differences: 0 for electric fields."""
        (_, yx), (xy, _) = self._gradients()
        return yx - xy

    def _gradients(self) -> tuple[tuple[NDArray[np.float64], ...], tuple[NDArray[np.float64], ...]]:
        """Return the derivatives along (y, x) of the y and of the x component."""
        if self.y.ndim != 2 or min(self.y.shape) < 3:
            raise DataError(f"a scan of shape {self.y.shape}", needed="a map of at least 3 × 3 positions")
        step = self.pixel_size_nm or (1.0, 1.0)
        return tuple(np.gradient(self.y, *step)), tuple(np.gradient(self.x, *step))

    def rotation(self) -> ScanRotation:
        """Find the angle between detector and scan axes, and whether one is mirrored: the least curl.

        Returns
        -------
        ScanRotation
            Apply it with ``com.aligned(rotation)``.

        Notes
        -----
        Prior: electric fields have no curl, and atoms attract electrons (which decides between an angle and the
        opposite one). A magnetic or strongly thick specimen breaks it.
        """
        self._gradients()
        noise = None if self.sd_y is None or self.sd_x is None else (self.sd_y, self.sd_x)
        return find_rotation(self.y, self.x, self.pixel_size_nm or (1.0, 1.0), noise)

    def aligned(self, rotation: ScanRotation | float, flipped: bool = False) -> CenterOfMass:
        """Turn the deflection into the scan's axes.

        Parameters
        ----------
        rotation
            From `rotation`, or an angle in degrees from x towards y.
        flipped
            With an angle: change the sign of y first.
        """
        if isinstance(rotation, ScanRotation):
            angle, flipped, priors = rotation.angle_deg, rotation.flipped, rotation.priors
        else:
            angle, priors = float(rotation), ()
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        sign = -1.0 if flipped else 1.0
        matrix = np.array([[c * sign, s], [-s * sign, c]])  # acts on (y, x)
        y, x = np.tensordot(matrix, np.stack([self.y, self.x]), axes=1)
        sd_y = sd_x = cov = None
        if self.sd_y is not None and self.sd_x is not None and self.cov_yx is not None:
            sd_y, sd_x, cov = turned_errors(matrix, self.sd_y, self.sd_x, self.cov_yx)
        return replace(self, y=y, x=x, sd_y=sd_y, sd_x=sd_x, cov_yx=cov, priors=(*self.priors, *priors))

    def integrated(self) -> NDArray[np.float64]:
        """Integrate the deflection to the map whose gradient it is, in `unit` times nm (px without pixel size).

        Returns
        -------
        numpy.ndarray
            ``(scan_y, scan_x)``, mean 0.

        Notes
        -----
        Least squares in Fourier space over the scan and its mirror images, so that opposite borders need not
        match. Noise of long period is amplified. Turn the field into the scan's axes before (`aligned`).
        Cost: four FFTs of (2·scan_y, 2·scan_x).
        """
        self._gradients()
        return _integrate(self.y, self.x, self.pixel_size_nm or (1.0, 1.0))

    def phase(self, energy_kev: float | None = None) -> NDArray[np.float64]:
        """Return the phase of the specimen in rad (integrated DPC): the integral of 2π/λ times the deflection.

        Parameters
        ----------
        energy_kev
            Beam energy in keV, where the signal doesn't say it.

        Raises
        ------
        CalibrationError
            The unit isn't mrad, or the pixel size or the energy isn't known.

        Notes
        -----
        Prior: a thin specimen, a phase object. The phase is blurred by the probe (convolved with its intensity).

        References
        ----------
        .. [1] I. Lazić, E. G. T. Bosch, S. Lazar, Ultramicroscopy 160 (2016) 265,
           https://doi.org/10.1016/j.ultramic.2015.10.011
        """
        energy = self._calibrated(energy_kev)
        return self.integrated() * (1e-3 * 2 * math.pi / wavelength_nm(energy))

    def charge_density(self, energy_kev: float | None = None) -> NDArray[np.float64]:
        """Return the projected charge density in elementary charges per nm², from the divergence.

        Parameters
        ----------
        energy_kev
            Beam energy in keV, where the signal doesn't say it.

        Raises
        ------
        CalibrationError
            The unit isn't mrad, or the pixel size or the energy isn't known.

        Notes
        -----
        Gauss's law on the projected field ``E = -θ p v / e``; positive at nuclei, blurred by the probe.
        Prior: a thin specimen without magnetic field.

        References
        ----------
        .. [1] K. Müller et al., Nature Communications 5 (2014) 5653, https://doi.org/10.1038/ncomms6653
        """
        energy = self._calibrated(energy_kev)
        # momentum times velocity, in volts
        volts = 1e3 * energy * (energy + 2 * _REST_ENERGY_KEV) / (energy + _REST_ENERGY_KEV)
        return -_CHARGES_PER_VOLT_NM * volts * 1e-3 * self.divergence

    def _calibrated(self, energy_kev: float | None) -> float:
        energy = self.energy_kev if energy_kev is None else energy_kev
        missing = [
            name
            for name, absent in (
                ("angle per pixel (mrad_per_px=)", self.unit != "mrad"),
                ("pixel size of the scan (axes in nm)", self.pixel_size_nm is None),
                ("beam energy (energy_kev=)", energy is None),
            )
            if absent
        ]
        if missing or energy is None:
            raise CalibrationError(
                f"a deflection in {self.unit} without {', '.join(missing)}", needed="all of them"
            )
        return energy


def turned_errors(
    matrix: NDArray[np.float64],
    sd_y: NDArray[np.float64],
    sd_x: NDArray[np.float64],
    cov: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the standard errors and the covariance after a matrix has acted on (y, x)."""
    known = np.isfinite(sd_y) & np.isfinite(sd_x)
    yy, xx, yx = (np.where(known, v, 0.0) for v in (sd_y, sd_x, cov))
    yy, xx = yy**2, xx**2
    (a, b), (c, d) = matrix
    var_y = a * a * yy + 2 * a * b * yx + b * b * xx
    var_x = c * c * yy + 2 * c * d * yx + d * d * xx
    both = a * c * yy + (a * d + b * c) * yx + b * d * xx
    lost = np.where(known, 0.0, np.inf)  # infinite times 0 would be NaN
    return np.sqrt(np.maximum(var_y, 0)) + lost, np.sqrt(np.maximum(var_x, 0)) + lost, both


def _integrate(
    y: NDArray[np.float64], x: NDArray[np.float64], step: tuple[float, float]
) -> NDArray[np.float64]:
    shape = y.shape
    # the mirrored map is even, hence its derivative odd, along the axis of the derivative
    wide_y = np.block([[y, y[:, ::-1]], [-y[::-1], -y[::-1, ::-1]]])
    wide_x = np.block([[x, -x[:, ::-1]], [x[::-1], -x[::-1, ::-1]]])
    ky = 2 * np.pi * fft.fftfreq(2 * shape[0], step[0])[:, None]
    kx = 2 * np.pi * fft.rfftfreq(2 * shape[1], step[1])[None, :]
    square = ky**2 + kx**2
    square[0, 0] = 1.0
    transform = -1j * (ky * fft.rfft2(wide_y) + kx * fft.rfft2(wide_x)) / square
    transform[0, 0] = 0.0
    out = fft.irfft2(transform, s=wide_y.shape)[: shape[0], : shape[1]]
    return np.asarray(out - out.mean())
