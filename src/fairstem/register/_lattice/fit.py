"""Rows and lattice of an average fitted to each other through a template of its unit cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from fairstem.compute import track
from fairstem.errors import DataError
from fairstem.register._lattice.check import two_dimensional
from fairstem.register._lattice.template import (
    Fold,
    Lattice,
    as_reference,
    flat_contrast,
    local_contrast,
    misfit,
)
from fairstem.register._rows.kernels import residuals
from fairstem.register._rows.measure import NoiseLaw, Segments, compare
from fairstem.register._rows.reference import Reference, canvas_of
from fairstem.register._rows.smoother import Prior, estimate_prior, smooth
from fairstem.register._series.frames import Frame, Frames
from fairstem.register._series.motion import RowMotion
from fairstem.register._start.cell import SpectrumSum, find_cell
from fairstem.register._start.start import Start

__all__ = ["LatticeFit"]

Floats = NDArray[np.float64]
Placed = tuple[Frame, tuple[Floats, Floats]]
_FEWEST_CELLS = 36
_MOST_BENT = 0.015  # of the longer lattice vector, rms
_WEAK_ROW = 25.0  # times the usual variance: a row that only touches the crystal says nothing sure
_MOST_UNEXPLAINED = 0.05  # of the variance of the image, where it follows the template
_SUPPORT = 0.6  # of the frames behind a pixel that counts
_START = Prior(1e-6, 0.003)
_CLEARLY = 0.7  # of what is left unexplained: a larger cell that leaves less is the cell
_DOUBLED = np.array([[[2, 0], [0, 1]], [[1, 0], [0, 2]], [[1, 1], [1, -1]]])


class LatticeFit:
    """Lattice, template, mask and curve between rounds. All in px of a canvas."""

    def __init__(
        self, frames: Frames, motion: RowMotion, law: NoiseLaw, used: Sequence[int], start: Start
    ) -> None:
        self.frames, self.motion, self.law, self.used = frames, motion, law, tuple(used)
        self.canvas = canvas_of(motion, used)
        total = self.canvas.empty()
        for k in used:
            total = total + self.canvas.spread(frames.read(k), motion.forward(k))
        least = _SUPPORT * len(used)
        self.support, self.seen = total.weight, total.weight >= least
        mean = np.divide(total.total, total.weight, out=np.zeros_like(total.total), where=total.weight > 1e-3)
        self.image = Frame(np.where(self.seen, mean, 0.0), self.seen)
        n = len(used)
        self.image_law = NoiseLaw(law.constant / n, law.slope / n, law.lowest / n)
        reciprocal = _find_lattice(self.image, start, upright=not motion.angles_deg.any())
        self.lattice = Lattice(reciprocal, np.zeros((2, self.canvas.shape[1])))
        self.contrast = flat_contrast(self.seen)
        self._check_size()
        self.fit = np.ones_like(self.seen)
        self.curve = np.zeros((2, self.canvas.shape[0]))
        self.error = np.zeros_like(self.curve)
        self.priors = (_START, _START)
        self.segments = max(4, round(self.canvas.shape[1] / max(self.lattice.longest, 16.0)))

    def _check_size(self) -> None:
        """Refuse fields of few cells: a template of few rows of cells would hold what those rows share."""
        rows, columns = self.seen.any(axis=1).sum(), self.seen.any(axis=0).sum()
        across = float(np.abs(self.lattice.reciprocal * [rows, columns]).sum(axis=1).min())
        if self.cells < _FEWEST_CELLS or across < np.sqrt(_FEWEST_CELLS) / 2:
            raise DataError(
                f"lattice=True with {self.cells:.0f} unit cells in view",
                needed=f"at least {_FEWEST_CELLS}, about 6 x 6",
                todo="record a larger field, or leave lattice out",
            )

    @property
    def cells(self) -> float:
        """Number of unit cells that follow the template."""
        return float(self.contrast.keep.sum()) * abs(float(np.linalg.det(self.lattice.reciprocal)))

    def improve(self, *, mask_misfit: bool) -> None:
        """Fold, tile, and fit rows and lattice to each other on the average."""
        at = self._grid()
        tile = self._folded([(self.image, at)])
        self._judge(tile, mask_misfit=mask_misfit)
        if self.cells < _FEWEST_CELLS:
            _refuse(f"only {self.cells:.0f} unit cells follow one template, and {_FEWEST_CELLS} are needed")
        found = compare(self.image, at, as_reference(tile, self.contrast), self.image_law)
        rows, columns = (np.arange(n, dtype=np.float64) for n in self.canvas.shape)
        self._learn(*self._pooled([(found, rows, columns)]))

    def enlarge_cell(self) -> None:
        """Take a cell of twice the area while that explains the average clearly better.

        Where two columns of a cell are nearly alike, reflections show the smaller cell that they would have
        if they were.
        """
        left = self._unexplained(self.lattice)
        for _ in range(2):
            cells = [np.linalg.inv(double).T @ self.lattice.reciprocal for double in _DOUBLED]
            larger = [replace(self.lattice, reciprocal=g) for g in cells]
            lefts = [self._unexplained(one) for one in larger]
            best = int(np.argmin(lefts))
            if not lefts[best] < _CLEARLY * left:
                return
            left, self.lattice = lefts[best], larger[best]

    def _unexplained(self, lattice: Lattice) -> float:
        """Return the mean square of what the template of a lattice leaves of the average."""
        before, self.lattice = self.lattice, lattice
        tile, straight = self._folded([(self.image, self._grid())]), self._straight()
        self.lattice = before
        rest = (straight - self.contrast.level - self.contrast.gain * tile)[self.contrast.keep]
        return float(np.mean(rest**2)) if rest.size else np.inf

    def _straight(self) -> Floats:
        """Return the average with the curve removed, on the canvas."""
        y, x = np.indices(self.canvas.shape, dtype=np.float64)
        at = [y - self.curve[0][:, None], x - self.curve[1][:, None]]
        return np.asarray(map_coordinates(self.image.values, at, order=1))

    def _grid(self) -> tuple[Floats, Floats]:
        """Return the positions of the pixels of the average with the curve removed."""
        y, x = np.mgrid[: self.canvas.shape[0], : self.canvas.shape[1]].astype(np.float64)
        return y + self.curve[0][:, None], x + self.curve[1][:, None]

    def _folded(self, images: Iterable[Placed]) -> Floats:
        fold = Fold(self.lattice)
        for frame, at in images:
            fold.add(frame.values, frame.mask, at, self.contrast)
        return fold.tile(self.canvas.shape)

    def _judge(self, tile: Floats, *, mask_misfit: bool) -> None:
        """Fit the contrast, and mask what does not follow the template."""
        straight = self._straight()
        keep = self.seen & self.fit
        self.contrast = local_contrast(straight, tile, keep, self.lattice.longest)
        if not mask_misfit:
            return
        fitted, rest = np.empty_like(tile), np.empty_like(tile)
        whole = replace(self.contrast, keep=self.seen)
        residuals(
            self.image.values, self.seen, *self._grid(), _given(as_reference(tile, whole)), fitted, rest
        )
        known = np.isfinite(rest)
        noise = np.sqrt(self.image_law.variance(np.where(known, fitted, 1.0)))
        bad = misfit(np.where(known, rest / noise, 0.0), known, self.lattice.longest)
        self.fit = ~bad
        keep = self.seen & self.fit
        self.contrast = local_contrast(straight, tile, keep, self.lattice.longest)

    def _pooled(self, found: Iterable[tuple[Segments, Floats, Floats]]) -> tuple[Floats, Floats]:
        """Add up the equations of all rows at the same row of the average, and in the same part along x."""
        shape = (self.canvas.shape[0], self.segments)
        information, score = np.zeros((*shape, 4)), np.zeros((*shape, 2))
        for one, rows, columns in found:
            parts = one.information.shape[1]
            middle = (np.arange(parts) + 0.5) / parts * len(columns)
            x = np.interp(middle, np.arange(len(columns)), columns)
            part = np.clip(np.rint(x / self._pitch - 0.5), 0, self.segments - 1).astype(int)
            row = np.clip(np.rint(rows), 0, shape[0] - 1).astype(int)
            np.add.at(information, (row[:, None], part[None]), one.information)
            np.add.at(score, (row[:, None], part[None]), one.score)
        information[..., 3] = 0.0  # the template has no noise to speak of
        return information, score

    @property
    def _pitch(self) -> float:
        return self.canvas.shape[1] / self.segments

    def _learn(self, information: Floats, score: Floats, *, bend: bool = True) -> None:
        """Take curve and lattice from the equations (row, part)."""
        nothing = np.zeros((*score.shape[:2], 2))
        step, variance = Segments(information, score, nothing).shifts()
        variance = np.where(variance > _WEAK_ROW * _median(variance), np.inf, variance)
        measured = np.where(np.isfinite(variance), self.curve + step, 0.0)
        if not np.isfinite(variance).all(axis=0).sum() >= 16:
            _refuse("fewer than 16 rows of the average follow its lattice")
        curve = np.empty_like(measured)
        for axis in range(2):
            z, v = measured[axis][None], variance[axis][None]
            self.priors = tuple(
                estimate_prior(z, v, p) if a == axis else p for a, p in enumerate(self.priors)
            )  # type: ignore[assignment]
            smoothed, error = smooth(z, v, self.priors[axis])
            curve[axis], self.error[axis] = smoothed[0], error[0]
        seen = np.asarray(np.isfinite(variance).all(axis=0))
        y = np.arange(curve.shape[1], dtype=np.float64)
        slope_y, offset = np.polyfit(y[seen], curve[:, seen].T, 1)
        change = curve - self.curve
        self.variance = variance
        measured_rows = np.flatnonzero(seen)
        # beyond the rows that were measured nothing is known: the curve stays as it is there
        inside = np.clip(np.arange(len(seen)), measured_rows[0], measured_rows[-1])
        self.curve = (curve - offset[:, None] - slope_y[:, None] * y)[:, inside]
        if bend:
            self._bend(information, score - _response(information, change), offset, slope_y)

    def _bend(self, information: Floats, score: Floats, offset: Floats, slope_y: Floats) -> None:
        """Let the lattice follow what is left along x, and the trends of the curve."""
        turned = np.swapaxes(information, 0, 1), np.swapaxes(score, 0, 1)
        step, variance = Segments(*turned, np.zeros((*score.shape[1::-1], 2))).shifts()
        known = np.isfinite(variance).all(axis=0)
        x, slope_x, own = (
            (np.arange(self.segments) + 0.5) * self._pitch - 0.5,
            np.zeros(2),
            np.zeros_like(step),
        )
        if known.sum() >= 3:
            slope_x, base = np.polyfit(x[known], step[:, known].T, 1)
            own = np.where(known, step - base[:, None] - slope_x[:, None] * x, 0.0)
        columns = np.arange(self.canvas.shape[1])
        bend = np.stack([np.interp(columns, x, o) for o in own])
        self.lattice = self.lattice.moved(offset, slope_y, slope_x, bend)

    def finish(self) -> None:
        """Fold and fit once more with the raw pixels of all frames."""
        tile = self._folded((f, at) for f, at, _ in self._placed("lattice pass, template"))
        reference, found = as_reference(tile, self.contrast), []
        for frame, at, rows in self._placed("lattice pass, rows"):
            columns = at[1][0]
            found.append((compare(frame, at, reference, self.law), rows, columns))
        self.tile = tile
        chi2 = np.sum([one.chi2.sum(axis=(0, 1)) for one, _, _ in found], axis=0)
        self.chi2 = float(chi2[0] / max(chi2[1], 1.0))
        self._learn(*self._pooled(found), bend=False)
        self.bent = self.bent_px()
        left = self._share_left(tile)
        if left > _MOST_UNEXPLAINED:
            _refuse(f"one unit cell leaves {left:.0%} of the variance of the image unexplained")
        if self.bent > _MOST_BENT * self.lattice.longest:
            _refuse(f"its lattice bends by {self.bent:.2g} px rms in two dimensions")

    def _share_left(self, tile: Floats) -> float:
        """Return the share of the variance of the image, less its noise, that the template leaves."""
        keep = self.contrast.keep
        shown = (self.contrast.gain * tile + self.contrast.level)[keep]
        return (self.chi2 - 1) * float(self.law.variance(shown).mean()) / max(float(shown.var()), 1e-300)

    @property
    def masked(self) -> float:
        """Share of the field that has no say."""
        top, left = (-o for o in self.canvas.origin)
        inside = slice(top, top + self.motion.shape[0]), slice(left, left + self.motion.shape[1])
        return 1 - float(self.contrast.keep[inside].mean())

    def bent_px(self) -> float:
        """Return how far the lattice bends in two dimensions, px rms: neither along x only nor by rows."""
        at, n = self._grid(), self.segments
        keep = self.seen
        found = compare(
            self.image, at, as_reference(self.tile, self.contrast.everywhere(keep)), self.image_law
        )
        rows, columns = (np.arange(n, dtype=np.float64) for n in keep.shape)
        information, score = self._pooled([(found, rows, columns)])
        bands = max(4, round(keep.shape[0] / max(self.lattice.longest, 16.0)))
        edges = np.linspace(0, keep.shape[0], bands + 1).astype(int)[:-1]
        information, score = np.add.reduceat(information, edges), np.add.reduceat(score, edges)
        step, variance = Segments(information, score, np.zeros((bands, n, 2))).segment_shifts()
        return two_dimensional(step, variance)

    def _placed(self, label: str) -> Iterator[tuple[Frame, tuple[Floats, Floats], Floats]]:
        """Yield each frame, where its pixels lie, and on which row of the canvas its rows lay before."""
        number = np.arange(self.canvas.shape[0])
        for k in track(self.used, label=label):
            at_y, at_x = self.canvas.positions(self.motion.forward(k))
            rows = at_y[:, 0]
            shift = [np.interp(rows, number, c)[:, None] for c in self.curve]
            yield self.frames.read(k), (at_y + shift[0], at_x + shift[1]), rows


def _median(variance: Floats) -> Floats:
    """Return the median of the finite variances along each axis, (2, 1)."""
    finite = [v[np.isfinite(v)] for v in variance]
    return np.array([[np.median(v) if v.size else np.inf] for v in finite])


def _refuse(why: str) -> None:
    raise DataError(
        f"lattice=True, but {why}",
        needed="one crystal, whose lattice is affine or changes along x only",
        todo="leave lattice out, or crop to where there is no dislocation and no second crystal",
    )


def _given(reference: Reference) -> tuple[Floats, Floats, float]:
    return reference.coefficients, reference.weight, reference.least


def _response(information: Floats, change: Floats) -> Floats:
    """Return by how much the scores (row, part, 2) change when rows move by `change` (2, row)."""
    yy, yx, xx, _ = np.moveaxis(information, -1, 0)
    dy, dx = change[0][:, None], change[1][:, None]
    return np.stack([yy * dy + yx * dx, yx * dy + xx * dx], axis=-1)


def _find_lattice(image: Frame, start: Start, *, upright: bool) -> Floats:
    """Return the reciprocal vectors of an image."""
    spectra = SpectrumSum(image.values.shape)
    spectra.add(image.values, image.mask)
    cell = find_cell(spectra)
    if cell is None and upright:
        cell = start.cell
    if cell is None:
        raise DataError(
            "lattice=True, but the average shows no lattice",
            needed="a crystal in view, two independent reflections",
            todo="leave lattice out",
        )
    return np.asarray(cell.reciprocal, dtype=np.float64)
