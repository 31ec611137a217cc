"""A simulated 4D scan, free of noise: tiling, size of the source, counts, signal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.signals import make_scan
from fairstem.signals.provenance import Step

__all__ = ["SimulatedScan", "electrons_per_pattern"]

_ELECTRONS_PER_PA_S = 1e-12 / 1.602176634e-19
_SIGMA = 1 / (2 * math.sqrt(2 * math.log(2)))  # of a full width at half maximum
_UNSHARP = 1e-3  # negative intensity, in units of the brightest pixel, that is more than rounding


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """Diffraction patterns over scan positions without noise, and what made them.

    Stands on the prior of its simulation; `parameters` names it. Fields are what `multislice_scan` returns; a scan
    may also be made by hand.

    Parameters
    ----------
    intensities
        ``(scan_y, scan_x, k_y, k_x)``, float32, fractions of the beam. The detector's sides are odd, and
        the optic axis is exactly at the pixel in the middle.
    pixel_size_nm
        Step (y, x) of the scan in nm.
    mrad_per_px
        Step (y, x) of the detector in mrad.
    energy_kev
        Beam energy in keV.
    semiangle_mrad
        Convergence semi-angle in mrad.
    thickness_nm
        Thickness in nm that was simulated: whole slices.
    periodic
        Whether the scan covers whole cells, so that position (scan_y, scan_x) follows on the last one.
    parameters
        What made the scan, ready for JSON.

    Raises
    ------
    DataError
        A shape, an even detector, values that aren't finite and 0 or more, patterns of more than the beam, or steps
        and angles that aren't positive.

    Examples
    --------
    >>> import numpy as np
    >>> k = np.hypot(*np.mgrid[-4:5, -4:5])
    >>> disc = np.broadcast_to((k <= 3) / np.sum(k <= 3), (4, 4, 9, 9))
    >>> cell = SimulatedScan(disc, (0.1, 0.1), (5.0, 5.0), 200.0, 15.0, 10.0)
    >>> scan = cell.tiled((6, 10))
    >>> counts = scan.counts(electrons_per_pattern(1.6, frames_per_s=1000), rng=0)
    >>> counts.shape, counts.dtype, int(counts.sum(axis=(2, 3)).mean().round(-2))
    ((6, 10, 9, 9), dtype('uint16'), 10000)
    """

    intensities: NDArray[np.float32]
    pixel_size_nm: tuple[float, float]
    mrad_per_px: tuple[float, float]
    energy_kev: float
    semiangle_mrad: float
    thickness_nm: float
    periodic: bool = True
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        array = np.asarray(self.intensities, dtype=np.float32)
        if array.ndim != 4 or 0 in array.shape:
            raise DataError(
                f"intensities has shape {array.shape}", needed="(scan_y, scan_x, k_y, k_x), none of them 0"
            )
        if array.shape[2] % 2 == 0 or array.shape[3] % 2 == 0:
            raise DataError(
                f"patterns of {array.shape[2]} × {array.shape[3]} px",
                needed="odd sides, so that the optic axis is a pixel",
            )
        lowest, brightest = float(array.min()), float(array.sum(axis=(2, 3), dtype=np.float64).max())
        if not (lowest >= 0 and brightest <= 1.001):  # NaN fails too
            raise DataError(
                f"intensities from {lowest:.4g}, patterns up to {brightest:.4g} in total",
                needed="fractions of the beam: finite, 0 or more, at most 1 a pattern",
            )
        lengths = (*self.pixel_size_nm, *self.mrad_per_px)
        optics = (self.energy_kev, self.semiangle_mrad, self.thickness_nm)
        if len(lengths) != 4 or not all(math.isfinite(v) and v > 0 for v in (*lengths, *optics)):
            raise DataError(
                f"pixel_size_nm={self.pixel_size_nm}, mrad_per_px={self.mrad_per_px}, energy_kev={self.energy_kev}, "
                f"semiangle_mrad={self.semiangle_mrad}, thickness_nm={self.thickness_nm}",
                needed="positive numbers, the steps as pairs (y, x)",
            )
        object.__setattr__(self, "intensities", array)

    @property
    def shape(self) -> tuple[int, int]:
        """Positions (y, x)."""
        return self.intensities.shape[0], self.intensities.shape[1]

    @property
    def detector(self) -> tuple[int, int]:
        """Pixels (k_y, k_x) of the detector."""
        return self.intensities.shape[2], self.intensities.shape[3]

    def tiled(self, shape: tuple[int, int], *, start: tuple[int, int] = (0, 0)) -> SimulatedScan:
        """Return a scan of any number of positions: the cell repeated, or a part of it.

        Parameters
        ----------
        shape
            Positions (y, x) of the result.
        start
            Its first position (y, x), counted from the first one here; negative ones too where the scan is periodic.

        Returns
        -------
        SimulatedScan
            A copy of ``4 · shape · detector`` bytes; `counts` tiles without it.

        Raises
        ------
        DataError
            No positions, or a scan that isn't periodic would have to be continued.
        """
        rows, columns = self._positions(shape, start)
        whole = self.periodic and all(n % period == 0 for n, period in zip(shape, self.shape, strict=True))
        made = {**self.parameters, "tiled": list(map(int, shape)), "start": list(map(int, start))}
        part = self.intensities[np.ix_(rows, columns)]
        return replace(self, intensities=part, periodic=whole, parameters=made)

    def _positions(
        self, shape: tuple[int, int], start: tuple[int, int]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        for name, pair in (("shape", shape), ("start", start)):
            whole = np.shape(pair) == (2,) and all(isinstance(n, int | np.integer) for n in pair)
            if not whole or (name == "shape" and min(pair) < 1):
                raise DataError(
                    f"{name}={pair!r}", needed="two whole numbers (y, x), of 1 or more for a shape"
                )
        at = [np.arange(first, first + n) for first, n in zip(start, shape, strict=True)]
        if not self.periodic and any(
            i[0] < 0 or i[-1] >= period for i, period in zip(at, self.shape, strict=True)
        ):
            raise DataError(
                f"positions {start} to {(int(at[0][-1]), int(at[1][-1]))} of a scan of {self.shape} that covers no "
                "whole cells",
                needed="positions inside the scan",
                todo="tile the simulated cell first, then cut",
            )
        return at[0] % self.shape[0], at[1] % self.shape[1]

    def blurred(self, source_fwhm_nm: float) -> SimulatedScan:
        """Return the scan with an incoherent source of finite size: a Gaussian blur over the positions.

        The beam stands on the prior of a Gaussian source image. The blur is a product in Fourier space over the
        periodic scan, exact where the step of the scan resolves the probe (at most ``wavelength / (4 semiangle)``);
        the mean pattern is kept.

        Parameters
        ----------
        source_fwhm_nm
            Full width at half maximum of the source's image on the specimen in nm; 0 changes nothing. 0.05 to
            0.1 nm are usual.

        Returns
        -------
        SimulatedScan
            Cost ``O(n log n)`` of the whole array.

        Raises
        ------
        DataError
            A negative size, a scan of no whole cells, or one whose step is too coarse for the probe.
        """
        if not (math.isfinite(source_fwhm_nm) and source_fwhm_nm >= 0):
            raise DataError(f"source_fwhm_nm={source_fwhm_nm}", needed="a width in nm of 0 or more")
        if source_fwhm_nm == 0:
            return self
        if not self.periodic:
            raise DataError(
                "a scan that covers no whole cells", todo="blur the simulated cell first, then cut"
            )
        sigma = source_fwhm_nm * _SIGMA
        q = [np.fft.fftfreq(n, step) for n, step in zip(self.shape, self.pixel_size_nm, strict=True)]
        damping = [np.exp(-2 * (np.pi * sigma * f) ** 2) for f in q]
        out = np.empty_like(self.intensities)
        for row in range(self.detector[0]):  # one row of the detector at a time keeps memory low
            waves = np.fft.fft2(self.intensities[:, :, row].astype(np.float64), axes=(0, 1))
            waves *= damping[0][:, None, None] * damping[1][None, :, None]
            out[:, :, row] = np.fft.ifft2(waves, axes=(0, 1)).real
        if out.min() < -_UNSHARP * out.max():
            raise DataError(
                f"a scan step of {self.pixel_size_nm} nm, with which the blurred patterns become negative",
                needed="a step that resolves the probe: at most wavelength / (4 semiangle)",
                todo="simulate more positions",
            )
        made = {**self.parameters, "source_fwhm_nm": float(source_fwhm_nm)}
        return replace(self, intensities=np.maximum(out, 0), parameters=made)

    def counts(
        self,
        electrons_per_pattern: float,
        rng: np.random.Generator | int,
        *,
        shape: tuple[int, int] | None = None,
        start: tuple[int, int] = (0, 0),
        dtype: Any = np.uint16,
    ) -> NDArray[Any]:
        """Return counted electrons, Poisson distributed.

        Parameters
        ----------
        electrons_per_pattern
            Electrons of the beam per pattern; what misses the detector isn't counted. See `electrons_per_pattern`.
        rng
            Generator or seed.
        shape
            Positions (y, x) where the scan is to be tiled; by default its own.
        start
            First position (y, x).
        dtype
            ``uint8``, ``uint16`` or ``uint32``.

        Returns
        -------
        numpy.ndarray
            ``(*shape, k_y, k_x)``. Cost: one random number per pixel, memory of the result and 16 bytes per
            pixel of one row of the scan.

        Raises
        ------
        DataError
            A negative dose, another dtype, a count that doesn't fit in it; or as `tiled`.
        """
        electrons, kind = float(electrons_per_pattern), np.dtype(dtype)
        if not (math.isfinite(electrons) and electrons >= 0):
            raise DataError(f"electrons_per_pattern={electrons_per_pattern}", needed="a number of 0 or more")
        if kind not in (np.uint8, np.uint16, np.uint32):
            raise DataError(f"dtype={kind}", needed="uint8, uint16 or uint32")
        most = np.iinfo(kind).max
        if (
            electrons * float(self.intensities.max()) > most
        ):  # before the generator is asked for the impossible
            raise _overflow(electrons, kind, electrons * float(self.intensities.max()))
        generator = np.random.default_rng(rng)
        rows, columns = self._positions(self.shape if shape is None else shape, start)
        out = np.empty((len(rows), len(columns), *self.detector), kind)
        for row, source in zip(out, rows, strict=True):
            drawn = generator.poisson(electrons * self.intensities[source, columns].astype(np.float64))
            if drawn.max() > most:
                raise _overflow(electrons, kind, float(drawn.max()))
            row[...] = drawn
        return out

    def signal(self, data: NDArray[Any] | None = None) -> Any:
        """Return a HyperSpy signal, axes in nm and mrad with the zero on the optic axis.

        Parameters
        ----------
        data
            What it shall hold, such as `counts` of this scan: ``(scan_y, scan_x, k_y, k_x)``, any
            number of positions. By default the fractions of the beam.

        Returns
        -------
        hyperspy.signals.Signal2D
            With the beam energy, the semi-angle and the parameters of the simulation in its metadata.

        Raises
        ------
        DataError
            The data have another detector.
        """
        array = self.intensities if data is None else data
        parameters = dict(self.parameters)
        made_by = str(parameters.pop("function", "fairstem.simulate.multislice_scan"))
        if array.ndim != 4 or array.shape[2:] != self.detector:
            raise DataError(
                f"data of shape {array.shape} for a detector of {self.detector}",
                needed="(scan_y, scan_x, k_y, k_x) of this scan",
            )
        return make_scan(
            array,
            pixel_size_nm=self.pixel_size_nm,
            mrad_per_px=self.mrad_per_px,
            energy_kev=self.energy_kev,
            semiangle_mrad=self.semiangle_mrad,
            title="simulated 4D scan",
            steps=[Step(made_by, parameters=parameters)],
        )


def electrons_per_pattern(current_pa: float, frames_per_s: float) -> float:
    """Return the electrons per pattern of a beam current and a frame rate: I / (e · rate).

    Parameters
    ----------
    current_pa
        Beam current in pA.
    frames_per_s
        Patterns per second; 1000 and 10,000 are usual.

    Returns
    -------
    float
        6241 electrons for 1 pA and 1000 frames/s.

    Raises
    ------
    DataError
        A negative current, or a rate that isn't positive.

    Examples
    --------
    >>> round(electrons_per_pattern(1.89, frames_per_s=1000))
    11796
    """
    if not (
        math.isfinite(current_pa) and current_pa >= 0 and math.isfinite(frames_per_s) and frames_per_s > 0
    ):
        raise DataError(
            f"current_pa={current_pa}, frames_per_s={frames_per_s}",
            needed="a beam current in pA of 0 or more, and a positive rate",
        )
    return current_pa * _ELECTRONS_PER_PA_S / frames_per_s


def _overflow(electrons: float, kind: np.dtype[Any], count: float) -> DataError:
    return DataError(
        f"electrons_per_pattern={electrons:.6g} gives counts of {count:.0f}, and {kind} holds {np.iinfo(kind).max}",
        needed="a wider dtype or a smaller dose",
        todo="pass dtype='uint32', or fewer electrons",
    )
