"""The table of `pacbed_table`: patterns for any thickness, semi-angle and tilt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from fairstem.errors import DataError
from fairstem.simulate import _pacbed_kernels as kernels
from fairstem.simulate.plane_waves import PlaneWaves
from fairstem.simulate.structures import Structure

__all__ = ["Diffuse", "PacbedTable"]


@dataclass(frozen=True)
class Diffuse:
    """Thermal diffuse scattering as a blurred copy of the elastic pattern and a constant.

    Parameters
    ----------
    blurred
        Weight of the elastic pattern, blurred by a Gaussian.
    width_mrad
        Standard deviation of that Gaussian in mrad.
    constant
        Fraction of the beam per mrad² that is added everywhere.
    """

    blurred: float = 0.0
    width_mrad: float = 5.0
    constant: float = 0.0

    def __post_init__(self) -> None:
        values = np.array([self.blurred, self.width_mrad, self.constant], dtype=float)
        if not np.isfinite(values).all() or values.min() < 0 or self.width_mrad == 0:
            raise DataError(f"{self}", needed="finite numbers of 0 or more, a width above 0 mrad")

    def added(self, pattern: NDArray[np.float32], mrad_per_px: float) -> NDArray[np.float32]:
        """Return `pattern` with the diffuse scattering added, ``(k_y, k_x)``."""
        blur: NDArray[np.float32] = gaussian_filter(pattern, self.width_mrad / mrad_per_px, mode="constant")
        return np.asarray(pattern + self.blurred * blur + self.constant * mrad_per_px**2, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class PacbedTable:
    """Patterns of a crystal at any thickness, convergence semi-angle and tilt; made by `pacbed_table`.

    Parameters
    ----------
    structure
        The crystal in its orthogonal cell.
    energy_kev
        Energy of the beam in keV.
    max_angle_mrad
        Radius of the patterns' field of view, and the largest semi-angle plus tilt, in mrad.
    max_tilt_mrad
        Largest tilt in mrad.
    max_thickness_nm
        Largest thickness in nm.
    mrad_per_px
        Angle per pixel of the patterns, along both axes.
    thermal
        Whether the atoms move.
    waves
        The beams' intensities.
    """

    structure: Structure
    energy_kev: float
    max_angle_mrad: float
    max_tilt_mrad: float
    max_thickness_nm: float
    mrad_per_px: float
    thermal: bool
    waves: PlaneWaves

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (k_y, k_x) of the patterns: odd, the optic axis in the centre pixel."""
        half = int(np.floor(self.max_angle_mrad / self.mrad_per_px + 1e-9))
        return 2 * half + 1, 2 * half + 1

    def pattern(
        self,
        thickness_nm: float,
        semiangle_mrad: float,
        tilt_mrad: tuple[float, float] = (0.0, 0.0),
        *,
        diffuse: Diffuse | None = None,
        hard_edge: bool = True,
    ) -> NDArray[np.float32]:
        """Return the pattern of one thickness, semi-angle and tilt.

        The sum of the intensities of all plane waves in the aperture: what a probe gives, averaged over its position
        in the cell (exact for a hard, coherent aperture of any aberrations).

        Parameters
        ----------
        thickness_nm
            Thickness in nm; between two kept thicknesses a cubic is taken.
        semiangle_mrad
            Convergence semi-angle in mrad.
        tilt_mrad
            Angle (y, x) of the optic axis from the zone axis in mrad.
        diffuse
            Thermal diffuse scattering to add; None: the elastic pattern.
        hard_edge
            True takes the plane waves of the aperture whole or not at all, as simulated probes with a hard aperture do;
            False by the fraction of their pixel that lies inside: then patterns change smoothly with the semi-angle and
            tilt, which fits and training need.

        Returns
        -------
        numpy.ndarray
            ``(k_y, k_x)`` float32, fraction of the beam; zero outside the field of view.

        Raises
        ------
        DataError
            A number is negative, not finite, or outside the table.

        Notes
        -----
        Cost: (beams in the field) × (directions in the aperture) × 10 operations; milliseconds.
        """
        semiangle, tilt = self._aperture(semiangle_mrad, tilt_mrad)
        first, weights = self._thickness(thickness_nm)
        out = self._sum(first, weights, semiangle, tilt, 0.0 if hard_edge else self.mrad_per_px)
        return out if diffuse is None else diffuse.added(out, self.mrad_per_px)

    def patterns(
        self,
        thickness_nm: ArrayLike,
        semiangle_mrad: ArrayLike,
        tilt_mrad: ArrayLike = (0.0, 0.0),
        *,
        diffuse: Diffuse | None = None,
        hard_edge: bool = True,
    ) -> NDArray[np.float32]:
        """Return many patterns: thicknesses and semi-angles ``(n,)`` or one for all, tilts ``(n, 2)`` or one pair.

        Returns
        -------
        numpy.ndarray
            ``(n, k_y, k_x)`` float32.
        """
        thick = np.asarray(thickness_nm, dtype=float)
        semi, tilt = np.asarray(semiangle_mrad, dtype=float), np.asarray(tilt_mrad, dtype=float)
        if thick.ndim > 1 or semi.ndim > 1 or tilt.shape[-1:] != (2,) or tilt.ndim > 2:
            raise DataError(
                f"thickness_nm {thick.shape}, semiangle_mrad {semi.shape}, tilt_mrad {tilt.shape}",
                needed="shapes (n,), (n,), (n, 2)",
            )
        try:
            (count,) = np.broadcast_shapes(thick.shape, semi.shape, tilt.shape[:-1], (1,))
        except ValueError:
            raise DataError(
                f"{thick.size} thicknesses, {semi.size} semi-angles and {tilt.size // 2} tilts",
                needed="the same number of each, or one for all",
            ) from None
        thick, semi = np.broadcast_to(thick, count), np.broadcast_to(semi, count)
        tilt = np.broadcast_to(tilt, (count, 2))
        out = np.empty((count, *self.shape), dtype=np.float32)
        for i in range(count):
            out[i] = self.pattern(thick[i], semi[i], tilt[i], diffuse=diffuse, hard_edge=hard_edge)
        return out

    def elastic_fraction(
        self, thickness_nm: float, semiangle_mrad: float, tilt_mrad: tuple[float, float] = (0.0, 0.0)
    ) -> float:
        """Return the fraction of the beam that is elastic, at all angles; the rest is thermal diffuse scattering."""
        semiangle, (tilt_y, tilt_x) = self._aperture(semiangle_mrad, tilt_mrad)
        first, weights = self._thickness(thickness_nm)
        grid = self.waves.directions
        by_direction = np.tensordot(weights, self.waves.elastic[first : first + weights.size], axes=1)
        iy, ix = np.indices(grid.which.shape)
        angle_y = (iy - grid.half[0]) * grid.step_mrad[0] - tilt_y
        angle_x = (ix - grid.half[1]) * grid.step_mrad[1] - tilt_x
        inside = (np.hypot(angle_y, angle_x) <= semiangle) & (grid.which >= 0)
        if not inside.any():  # an aperture smaller than the step: the nearest direction stands for it
            nearest = np.where(grid.which >= 0, np.hypot(angle_y, angle_x), np.inf)
            inside = nearest == nearest.min()
        return float(by_direction[grid.which[inside]].mean())

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the table to a file (``.npz``), whole or not at all; `PacbedTable.load` reads it."""
        from fairstem.simulate._pacbed_store import save

        return save(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> PacbedTable:
        """Read a table that `save` wrote.

        Raises
        ------
        FileFormatError
            The file isn't such a table, or is damaged.
        """
        from fairstem.simulate._pacbed_store import load

        return load(path)

    @cached_property
    def _beam_places(self) -> NDArray[np.float64]:
        grid = self.waves.directions
        return np.asarray(self.waves.reflections * (np.array(grid.step_mrad) * grid.steps))

    @cached_property
    def _images(self) -> NDArray[np.int32]:
        """Which beam each beam is taken from, by operation: I(R K, G) = I(K, R⁻¹ G)."""
        reflections = self.waves.reflections
        index = {tuple(g): i for i, g in enumerate(reflections.tolist())}
        rows = [
            [index[tuple(g)] for g in (reflections @ m).tolist()] for m in self.waves.directions.operations
        ]
        return np.array(rows, dtype=np.int32)

    def _sum(
        self,
        first: int,
        weights: NDArray[np.float64],
        semiangle: float,
        tilt: tuple[float, float],
        edge: float,
    ) -> NDArray[np.float32]:
        grid, waves = self.waves.directions, self.waves
        step, px = np.array(grid.step_mrad), self.mrad_per_px
        near = np.hypot(*self._beam_places.T) <= semiangle + self.max_angle_mrad + px
        chosen = np.flatnonzero(near)
        reach = semiangle + px
        low = np.floor((np.array(tilt) - reach) / step).astype(int) - 3 + np.array(grid.half)
        high = np.ceil((np.array(tilt) + reach) / step).astype(int) + 4 + np.array(grid.half)
        box = np.zeros((chosen.size, *(high - low + 1)), dtype=np.float32)
        intensity = kernels.decode(waves.amplitude, first, weights)
        origin = np.array(tilt) / step + grid.half - low
        # the field of view as seen from each beam, with the points that the interpolation takes beside it
        center = origin - self._beam_places[chosen] / step
        extent = self.max_angle_mrad / step + 4
        kernels.unfold(
            intensity,
            grid.which,
            grid.operation,
            self._images,
            waves.slot,
            chosen,
            low,
            np.floor(center - extent).astype(np.int64),
            np.ceil(center + extent).astype(np.int64),
            box,
        )
        out = np.zeros(self.shape)
        total = kernels.add_beams(
            box, origin, step, self._beam_places[chosen], px, semiangle, edge, self.max_angle_mrad, out
        )
        return np.asarray(np.maximum(out / total, 0), dtype=np.float32)

    def _aperture(self, semiangle: Any, tilt: Any) -> tuple[float, tuple[float, float]]:
        try:
            alpha, (tilt_y, tilt_x) = float(semiangle), (float(v) for v in tilt)
        except (TypeError, ValueError):
            raise DataError(
                f"semiangle_mrad={semiangle!r}, tilt_mrad={tilt!r}",
                needed="a number and a pair (y, x), in mrad",
            ) from None
        size = float(np.hypot(tilt_y, tilt_x))
        if not (np.isfinite(alpha) and alpha > 0 and np.isfinite(size)):
            raise DataError(
                f"semiangle_mrad={alpha:g}, tilt_mrad=({tilt_y:g}, {tilt_x:g})",
                needed="a positive semi-angle and a finite tilt in mrad",
            )
        if size > self.max_tilt_mrad + 1e-9 or alpha + size > self.max_angle_mrad + 1e-9:
            raise DataError(
                f"semi-angle {alpha:g} mrad with a tilt of {size:.4g} mrad",
                needed=f"a tilt up to {self.max_tilt_mrad:g} and a sum up to {self.max_angle_mrad:g} mrad",
                todo="make the table with a larger max_angle_mrad or max_tilt_mrad",
            )
        return alpha, (tilt_y, tilt_x)

    def _thickness(self, thickness: Any) -> tuple[int, NDArray[np.float64]]:
        """Return the first of the 4 kept thicknesses around `thickness` and their weights."""
        try:
            value = float(thickness)
        except (TypeError, ValueError):
            value = np.nan
        if not 0 <= value <= self.max_thickness_nm + 1e-9:
            raise DataError(
                f"thickness_nm={thickness!r}",
                needed=f"0 to {self.max_thickness_nm:g} nm",
                todo="make the table with a larger max_thickness_nm",
            )
        known = self.waves.thickness_nm
        first = int(np.clip(np.searchsorted(known, value) - 2, 0, known.size - 4))
        points = known[first : first + 4]
        gaps = points[:, None] - points[None] + np.eye(4)
        offsets = np.where(np.eye(4, dtype=bool), 1.0, value - points[None])
        return first, np.prod(offsets / gaps, axis=1)
