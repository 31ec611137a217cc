"""What a multislice scan needs, settled before anything is computed: grids, slices, positions, detector."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from fairstem.errors import DataError
from fairstem.signals.electrons import wavelength_nm
from fairstem.simulate._scan_request import Request
from fairstem.simulate.structures import Structure

__all__ = ["ScanPlan", "interpolation", "plan_scan", "slice_shift", "wavelength_nm"]

# abTEM lets waves pass undamped up to this fraction of the sampling frequency: half of 2/3, less its taper
_UNDAMPED = 0.6666666 / 2 - 0.01
_NEAR = 0.1  # relative rounding of the detector's step that is taken without looking further
_SMALL = 3.0  # nm; areas up to this size cost little
_SPARE = 1.5  # how far waves are followed, in units of the largest angle that is looked at


@dataclass(frozen=True)
class ScanPlan:
    """How a scan is computed. Pairs are (y, x).

    Parameters
    ----------
    scan
        Positions per cell.
    simulated
        Positions per cell that are propagated; the others follow by interpolation without loss.
    cells
        Cells side by side in the simulated area.
    points
        Points of the potential per cell, even.
    slices
        Slices per cell along the beam.
    total_slices
        Slices of the whole thickness.
    detector
        Pixels, odd.
    binning
        Points of the simulated pattern per detector pixel, odd.
    mrad_per_px
        Step of the detector.
    thickness_nm
        Whole slices.
    pixel_size_nm
        Step of the scan.
    """

    scan: tuple[int, int]
    simulated: tuple[int, int]
    cells: tuple[int, int]
    points: tuple[int, int]
    slices: int
    total_slices: int
    detector: tuple[int, int]
    binning: tuple[int, int]
    mrad_per_px: tuple[float, float]
    thickness_nm: float
    pixel_size_nm: tuple[float, float]

    @property
    def grid(self) -> tuple[int, int]:
        """Points of the simulated area."""
        return self.cells[0] * self.points[0], self.cells[1] * self.points[1]

    def positions_nm(self, cell: tuple[float, float]) -> NDArray[np.float64]:
        """Return the positions (y, x) that are propagated in nm, row by row, ``(n, 2)``."""
        y, x = (np.arange(n) * (edge / n) for n, edge in zip(self.simulated, cell, strict=True))
        return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def plan_scan(structure: Structure, request: Request) -> ScanPlan:
    """Settle grids, slices, positions and the detector.

    Raises
    ------
    DataError
        The sampling of the potential can't hold the angles asked for.
    """
    wavelength = wavelength_nm(request.energy_kev)
    a, b, c = structure.cell_nm
    edges = (b, a)
    axes = [_lateral(edges[i], i, wavelength, request) for i in range(2)]
    _check_angles(axes, edges, wavelength, request)
    slices = _slices(structure, c / request.slice_nm)
    total = max(1, round(request.thickness_nm * slices / c))
    scan = _scan(edges, wavelength, request)
    simulated = tuple(_simulated(scan[i], edges[i], axes[i][0], wavelength, request) for i in range(2))
    step = [1e3 * wavelength * axes[i][2] / (axes[i][0] * edges[i]) for i in range(2)]
    return ScanPlan(
        scan=scan,
        simulated=(simulated[0], simulated[1]),
        cells=(axes[0][0], axes[1][0]),
        points=(axes[0][1], axes[1][1]),
        slices=slices,
        total_slices=total,
        detector=request.detector,
        binning=(axes[0][2], axes[1][2]),
        mrad_per_px=(step[0], step[1]),
        thickness_nm=total * c / slices,
        pixel_size_nm=(edges[0] / scan[0], edges[1] / scan[1]),
    )


def _lateral(edge: float, axis: int, wavelength: float, request: Request) -> tuple[int, int, int]:
    """Return the cells side by side, the points per cell and the binning along one axis."""
    cells, binning = _cells_and_binning(edge, axis, wavelength, request)
    sampling = request.sampling_nm
    if sampling is None:
        seen = max(request.max_angle_mrad * 1.05, request.semiangle_mrad)
        sampling = min(0.0125, 1e3 * _UNDAMPED * wavelength / (_SPARE * seen))
    # even: atoms at half a cell lie on a point of the grid, as those at its origin do
    return cells, 2 * next_fast_len(math.ceil(edge / sampling / 2)), binning


def _cells_and_binning(edge: float, axis: int, wavelength: float, request: Request) -> tuple[int, int]:
    """Choose whole cells and an odd binning whose step comes near to the one asked for.

    The smallest area whose step is within 10 %, if it isn't much larger than the smallest area that holds the probe.
    """
    wanted = request.max_angle_mrad / ((request.detector[axis] - 1) / 2)
    spread = 1e-3 * request.semiangle_mrad * (request.thickness_nm + abs(request.defocus_nm))
    least = 4 * 0.61e3 * wavelength / request.semiangle_mrad + spread  # the probe may not meet its neighbour
    exact = 1e3 * wavelength / (wanted * edge)  # cells per binning
    highest = 2 * math.ceil(max(least, edge) / edge / exact) + 3
    choices = [(max(1, round(binning * exact)), binning) for binning in range(1, highest + 1, 2)]
    choices = [choice for choice in choices if choice[0] * edge >= least]
    affordable = max(2 * choices[0][0] * edge, _SMALL)
    errors = [
        (abs(math.log(n / (binning * exact))), n, binning) for n, binning in choices if n * edge <= affordable
    ]
    near = [choice for choice in errors if choice[0] <= _NEAR]
    _, cells, binning = near[0] if near else min(errors)
    return cells, binning


def _check_angles(
    axes: list[tuple[int, int, int]], edges: tuple[float, float], wavelength: float, request: Request
) -> None:
    coarsest = max(edges[i] / axes[i][1] for i in range(2))
    limit = 1e3 * _UNDAMPED * wavelength / coarsest
    for i in range(2):
        cells, _, binning = axes[i]
        reach = (request.detector[i] * binning - 1) / 2 * 1e3 * wavelength / (cells * edges[i])
        if max(reach, request.semiangle_mrad) > limit:
            raise DataError(
                f"semiangle_mrad={request.semiangle_mrad:.4g} and a detector to {reach:.4g} mrad, with a potential "
                f"that holds angles up to {limit:.4g} mrad",
                needed="simulated angles that reach farther than both",
                todo="leave sampling_nm out, or make it smaller; or lower max_angle_mrad",
            )


def _scan(edges: tuple[float, float], wavelength: float, request: Request) -> tuple[int, int]:
    if request.scan_px is not None:
        return request.scan_px
    step = request.pixel_size_nm
    if step is None:  # what the probe can resolve
        step = 1e3 * wavelength / (4 * request.semiangle_mrad)
    # even: the middle of the cell is a position, as its origin is
    y, x = (2 * max(1, math.ceil(edge / step / 2 - 1e-9)) for edge in edges)
    return y, x


def _simulated(scan: int, edge: float, cells: int, wavelength: float, request: Request) -> int:
    """Return how many positions along one axis of the cell have to be propagated.

    A pattern's intensity as a function of the position holds differences of two frequencies of the aperture, no
    others: it is a trigonometric polynomial over the cell, known from an odd number of positions.
    """
    if request.every_position or request.frozen_phonons:
        return scan
    radius = math.floor(1e-3 * request.semiangle_mrad / wavelength * cells * edge) + 1
    return min(scan, 2 * (2 * radius // cells) + 1)


def interpolation(simulated: int, scan: int) -> NDArray[np.float64]:
    """Return the matrix ``(scan, simulated)`` that takes values at `simulated` positions of a period to `scan`.

    Exact for trigonometric polynomials of degree up to ``(simulated - 1) / 2``; `simulated` is odd or equal to
    `scan`.
    """
    if simulated == scan:
        return np.eye(scan)
    difference = np.arange(scan)[:, None] / scan - np.arange(simulated)[None] / simulated
    degrees = np.arange(1, (simulated - 1) // 2 + 1)
    waves = np.cos(2 * np.pi * difference[..., None] * degrees).sum(axis=-1)
    return np.asarray((1 + 2 * waves) / simulated)


def _slices(structure: Structure, wanted: float) -> int:
    """Return the number of slices per cell near to `wanted` that keeps boundaries farthest from atoms."""
    numbers = range(max(1, math.ceil(0.9 * wanted)), max(1, math.floor(1.6 * wanted), round(wanted)) + 1)
    # rounded: of equal ones the first, with the fewest slices, is taken
    return max(numbers, key=lambda n: round(_widest_gap(structure, n)[1] / n, 6))


def _widest_gap(structure: Structure, slices: int) -> tuple[float, float]:
    """Return the middle and the width of the widest range of heights without atoms, in slices."""
    height = np.unique(np.round(structure.fractional[:, 2] * slices % 1.0, 9) % 1.0)
    gaps = np.diff(np.append(height, height[0] + 1.0))
    widest = int(np.argmax(gaps))
    return float(height[widest] + gaps[widest] / 2), float(gaps[widest])


def slice_shift(structure: Structure, slices: int) -> float:
    """Return the shift along the beam, in units of the cell, that keeps atoms farthest from slice boundaries.

    Atoms on a boundary belong to either slice by rounding. For planes at 0 and c/2 and two slices it is c/4.
    """
    return (-_widest_gap(structure, slices)[0] % 1.0) / slices
