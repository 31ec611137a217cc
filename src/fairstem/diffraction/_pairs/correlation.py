"""Streaming a scan through the symmetry kernel: one visit of every pattern, grouped by its centre."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.compute import BlockPlan, map_threads, stream, track
from fairstem.diffraction._geometry import Calibration
from fairstem.diffraction._pairs.kernels import CHUNK, SUMS, correlate
from fairstem.diffraction._pairs.operations import Operation
from fairstem.diffraction._pairs.pairing import Pairing, pair_pixels
from fairstem.diffraction._pairs.statistics import Correlations, correlations
from fairstem.diffraction._scan import Scan
from fairstem.errors import DataError

__all__ = ["Correlator", "Maps", "correlate_scan"]

_STEP = 1 / 8  # px: patterns whose centres lie this close are treated together
_CACHE = 64 * 2**20  # bytes of tables that are kept
_AT_ONCE = 16 * CHUNK  # patterns that a thread takes
_FEWEST = 8  # pixels that an operation must compare
Floats = NDArray[np.float64]


@dataclass
class Maps:
    """Results over the scan, (operation, *scan); `total` is the sum of the patterns of the central group."""

    gamma: Floats
    standard_error: Floats
    dispersion: Floats
    dispersion_error: Floats
    total: Floats
    patterns: int
    n_pixels: NDArray[np.int64]

    def maps(self) -> tuple[Floats, ...]:
        """Return what there is for every position."""
        return self.gamma, self.standard_error, self.dispersion, self.dispersion_error


@dataclass
class Correlator:
    """What is the same for every block.

    Parameters
    ----------
    operations
        The operations.
    allowed
        ``(k_y, k_x)``, True where a pixel may be used.
    geometry
        Centre, descan and ellipse.
    gain
        Detector units per electron; None for values without noise.
    counted
        True when the values have to be counts: negative ones are refused.
    shift
        (y, x) in px, added to every centre.
    """

    operations: tuple[Operation, ...]
    allowed: NDArray[np.bool_]
    geometry: Calibration
    gain: float | None
    counted: bool = False
    shift: tuple[float, float] = (0.0, 0.0)
    _tables: OrderedDict[tuple[float, float], Pairing] = field(default_factory=OrderedDict)

    def empty(self, scan: Scan) -> Maps:
        """Return maps to be filled; refuse a centre with hardly any pixel to compare."""
        shape = (len(self.operations), *scan.shape)
        n = self._tables_at(self._center()).n
        gamma, error, dispersion, spread = np.zeros((4, *shape))
        total = np.zeros(self.allowed.size)
        return Maps(gamma, error, dispersion, spread, total, 0, n.astype(np.int64))

    def _center(self) -> tuple[float, float]:
        y, x = self.geometry.center
        return y + self.shift[0], x + self.shift[1]

    def _tables_at(self, center: tuple[float, float]) -> Pairing:
        if center in self._tables:
            self._tables.move_to_end(center)
            return self._tables[center]
        made = pair_pixels(self.operations, self.allowed, center, self.geometry.ellipse)
        for operation, n in zip(self.operations, made.n, strict=True):
            if n < _FEWEST:
                raise DataError(
                    f"{operation.name} compares {int(n)} px about the centre ({center[0]:.4g}, {center[1]:.4g}) px",
                    needed=f"at least {_FEWEST} px whose images lie on the detector and within the mask",
                    todo="widen the mask, or measure the centre with diffraction.center(scan)",
                )
        self._tables[center] = made
        while len(self._tables) > 1 and sum(t.nbytes for t in self._tables.values()) > _CACHE:
            self._tables.popitem(last=False)
        return made

    def _groups(self, scan: Scan, at: tuple[slice, ...]) -> Iterator[tuple[tuple[float, float], Any]]:
        """Yield centres and the patterns of a block that have them; one centre for all without descan."""
        center = self._center()
        if not np.any(self.geometry.descan) or not scan.shape:
            yield center, slice(None)
            return
        centers = self.geometry.centers(scan.shape)[(slice(None), *at)].reshape(2, -1).T + np.array(
            self.shift
        )
        found, which = np.unique(np.rint(centers / _STEP), axis=0, return_inverse=True)
        for k, one in enumerate(found):
            yield (float(one[0] * _STEP), float(one[1] * _STEP)), np.flatnonzero(which.ravel() == k)

    def add(self, scan: Scan, block: NDArray[Any], at: tuple[slice, ...], out: Maps) -> None:
        """Correlate the patterns of one block."""
        patterns = block.reshape(-1, self.allowed.size)
        if self.counted and patterns.dtype.kind != "u" and patterns.min() < 0:
            raise DataError(
                f"{scan.opened.name} has negative values (down to {patterns.min():g})",
                needed="counted electrons",
                todo="subtract no background before, or pass noise=None",
            )
        result = [np.empty((patterns.shape[0], len(self.operations))) for _ in out.maps()]
        central = tuple(np.rint(np.array(self._center()) / _STEP))
        for center, members in self._groups(scan, at):
            tables = self._tables_at(center)
            total = np.zeros(self.allowed.size)
            found = self._sums(patterns[members], tables, total)
            self._check(found, scan)
            done = correlations(found, tables, self.gain)
            for array, values in zip(result, _parts(done), strict=True):
                array[members] = values
            if tuple(np.rint(np.array(center) / _STEP)) == central:
                out.total += total
                out.patterns += found.shape[0]
        for whole, part in zip(out.maps(), result, strict=True):
            whole[(slice(None), *at)] = part.T.reshape(len(self.operations), *block.shape[:-2])

    def _sums(self, patterns: NDArray[Any], tables: Pairing, total: Floats) -> Floats:
        found = np.zeros((patterns.shape[0], len(self.operations), SUMS))

        def work(first: int) -> Floats:
            own = np.zeros_like(total)
            for start in range(first, min(first + _AT_ONCE, patterns.shape[0]), CHUNK):
                part = slice(start, start + CHUNK)
                correlate(
                    np.ascontiguousarray(patterns[part], dtype=np.float32),
                    self.allowed,
                    0.0 if self.gain is None else self.gain,
                    tables.views,
                    (tables.pairs, tables.pair_ends),
                    (tables.quads, tables.quad_ends),
                    (tables.noise, tables.noise_rows, tables.listed),
                    tables.prints,
                    found[part],
                    own,
                )
            return own

        for own in map_threads(work, range(0, patterns.shape[0], _AT_ONCE)):
            total += own
        return found

    def _check(self, found: Floats, scan: Scan) -> None:
        bad = int((~np.isfinite(found).all(axis=(1, 2))).sum())
        if bad:
            raise DataError(
                f"{scan.opened.name} has NaN or infinite pixels in {bad} pattern(s)",
                needed="finite values where the mask is True",
                todo="pass mask= that leaves these pixels out, or repair them",
            )


def _parts(done: Correlations) -> tuple[Floats, ...]:
    return done.gamma, done.standard_error, done.dispersion, done.dispersion_error


def correlate_scan(
    scan: Scan, plan: BlockPlan, correlators: Sequence[Correlator]
) -> tuple[Maps, NDArray[np.float64] | None]:
    """Stream the scan once through all correlators and keep the largest correlation.

    Returns
    -------
    tuple
        The maps, and with several correlators the shift that was best, ``(operation, 2, *scan)``.
    """
    best, tried = correlators[0].empty(scan), correlators[-1].empty(scan)
    shifts = np.zeros((best.gamma.shape[0], 2, *scan.shape))
    for at, block in track(stream(scan.array, plan), total=plan.n_blocks, label="comparing with symmetry"):
        place = (slice(None), *at[:-2])
        correlators[0].add(scan, block, at[:-2], best)
        for one in correlators[1:]:
            one.add(scan, block, at[:-2], tried)
            better = np.isfinite(tried.standard_error[place]) & (tried.gamma[place] > best.gamma[place])
            # not the dispersion: the lowest of several is below 1 by chance
            for kept, new in zip(best.maps()[:2], tried.maps()[:2], strict=True):
                kept[place] = np.where(better, new[place], kept[place])
            for axis in range(2):
                part = shifts[:, axis][place]
                part[better] = one.shift[axis]
    return best, shifts if len(correlators) > 1 else None
