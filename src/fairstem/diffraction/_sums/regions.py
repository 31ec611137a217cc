"""Regions of a scan for averaging: masks, slices, whole unit cells, and whether a region is the same all over."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.compute.plans import Slices
from fairstem.compute.summaries import summarise
from fairstem.diffraction._cells.lattice import ScanLattice, find_lattice
from fairstem.diffraction._cells.unit_cells import UnitCells, cells_on_lattice
from fairstem.diffraction._geometry import Calibration
from fairstem.diffraction._scan import Scan, sample_patterns
from fairstem.diffraction._sums.detectors import Detector, Moving
from fairstem.diffraction._sums.kernels import pattern_sums
from fairstem.errors import DataError, DataTypeError
from fairstem.priors import PriorCheck

__all__ = ["PARTS", "parts_of", "region_of", "same_parts", "whole_cells"]

PARTS = 4  # two halves of a region, each twice: their noise is independent
_DIFFERENCE = 0.05
_SAMPLED = 64


def region_of(mask: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the region that a mask or slices name, as bool of the scan's shape."""
    if mask is None:
        return np.ones(shape, bool)
    slices = mask if isinstance(mask, tuple) else (mask,)
    if all(isinstance(s, slice) for s in slices):
        if len(slices) > len(shape):
            raise DataError(f"{len(slices)} slices for a scan of shape {shape}", needed="one per scan axis")
        region = np.zeros(shape, bool)
        region[slices] = True
    else:
        region = np.asarray(mask)
        if region.dtype != bool:
            raise DataTypeError(
                f"a mask of dtype {region.dtype}",
                needed="bool, or slices such as np.s_[10:20, 5:30]",
                todo="compare, such as mask > 0; weights come from find_unit_cells",
            )
        if region.shape != shape:
            raise DataError(f"a mask of shape {region.shape}", needed=f"the scan's shape {shape}")
    if not region.any():
        raise DataError(
            f"an empty region: no position of the scan of shape {shape}", needed="at least one position"
        )
    return region


def whole_cells(
    unit_cells: int | str | UnitCells | None,
    scan: Scan,
    geometry: Calibration,
    region: NDArray[np.bool_],
    budget: int | float | str,
) -> UnitCells | None:
    """Return the unit cells to average over, found in virtual images where only their number is given."""
    if unit_cells is None:
        return None
    if isinstance(unit_cells, UnitCells):
        if unit_cells.weights.shape != scan.shape:
            raise DataError(
                f"unit cells of a scan of shape {unit_cells.weights.shape}",
                needed=f"the scan's shape {scan.shape}",
            )
        if not region.all():
            raise DataError(
                "unit cells and a mask",
                needed="one of them",
                todo="find the cells with the mask: find_unit_cells",
            )
        return unit_cells
    if len(scan.shape) != 2:
        raise DataError(f"unit cells of a scan of shape {scan.shape}", needed="a scan (scan_y, scan_x)")
    return cells_on_lattice(_lattice_of(scan, geometry, budget), scan.shape, unit_cells, region)


def _lattice_of(scan: Scan, geometry: Calibration, budget: int | float | str) -> ScanLattice:
    """Find the lattice in the bright- or in the dark-field image, whichever shows it better."""
    moving = Moving(_bright_and_dark(scan, geometry), geometry, scan.shape, scan.detector)

    def sums(block: NDArray[Any], at: Slices) -> NDArray[np.float64]:
        patterns = block.reshape(-1, *block.shape[-2:])
        return pattern_sums(patterns, moving.groups(at), 2).reshape(2, *block.shape[:-2])

    images = summarise(scan.array, sums, scan.plan(budget), number=2, label="virtual images")
    images = np.asarray(images.compute() if scan.opened.lazy else images)
    if not np.isfinite(images).all():
        raise DataError(
            "NaN or infinite values in the virtual images", needed="finite patterns", todo="mark dead pixels"
        )
    found, failed = [], []
    for image in images:
        try:
            found.append(find_lattice(image))
        except DataError as error:  # one of the two may well show nothing
            failed.append(error)
    if not found:
        raise failed[0]
    return max(found, key=lambda lattice: lattice.strength)


def _bright_and_dark(scan: Scan, geometry: Calibration) -> list[Detector]:
    if geometry.radius_px is not None:
        radius = geometry.radius_px
        return [Detector("bright", (0.0, radius)), Detector("dark", (1.1 * radius, math.inf))]
    mean = np.nan_to_num(sample_patterns(scan, _SAMPLED).astype(np.float64)).mean(axis=0)
    # half of the bright field's height; its pixels are some of the brightest percents
    bright = mean > 0.5 * np.quantile(mean, 0.98)
    return [Detector("bright", weights=bright * 1.0), Detector("dark", weights=~bright * 1.0)]


def parts_of(cells: UnitCells) -> NDArray[np.int64]:
    """Return which quarter of the cells each position belongs to, -1 outside: 2·half + parity.

    Halves lie beside each other along the region's longer side; cells of even and odd number alternate in each.
    """
    middles = (cells.cells + 0.5) @ cells.vectors
    longer = int(np.argmax(np.ptp(middles, axis=0)))
    order = np.lexsort((middles[:, 1 - longer], middles[:, longer]))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    part = 2 * (2 * rank >= len(rank)).astype(np.int64) + cells.cells.sum(axis=1) % 2
    low = cells.cells.min(axis=0)
    table = np.full(cells.cells.max(axis=0) - low + 3, -1, np.int64)
    table[tuple((cells.cells - low + 1).T)] = part
    at = np.argwhere(cells.weights != 0)
    index = np.floor((at - cells.origin) @ np.linalg.inv(cells.vectors)).astype(np.int64) - low + 1
    found = table[tuple(np.clip(index, 0, np.array(table.shape) - 1).T)]
    out = np.full(cells.weights.shape, -1, np.int64)
    # a pixel on the edge of the region has its middle outside: it belongs to a neighbour's part
    out[tuple(at.T)] = np.where(found >= 0, found, 0)
    return out


def same_parts(
    sums: NDArray[Any], labels: NDArray[np.int64], weights: NDArray[np.float64], number: int
) -> PriorCheck:
    """Compare the mean patterns of the two halves of a region, without knowing the noise.

    The product of two independent estimates of the difference has no bias from noise.
    """
    inside = labels >= 0
    total = np.bincount(labels[inside], weights=weights[inside], minlength=PARTS)
    statistic = math.nan
    if number >= PARTS and (total > 0).all():
        a, b, c, d = (s / t for s, t in zip(sums.astype(np.float64), total, strict=True))
        power = float(((a + c) * (b + d)).sum()) / 4
        if power > 0:
            statistic = math.sqrt(max(float(((a - c) * (b - d)).sum()), 0.0) / power)
    return PriorCheck(
        "region-uniform",
        "thickness and orientation are the same over the region",
        statistic,
        _DIFFERENCE,
        "<=",
        "relative difference of the patterns of the region's two halves",
        "average over a smaller region (fewer unit cells, or a mask)",
    )
