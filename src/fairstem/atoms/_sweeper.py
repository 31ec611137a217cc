"""Sweeps over the groups of columns to the maximum of the likelihood, and the error bars there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fairstem.atoms import _sweeps
from fairstem.atoms._kernels import HEIGHT, LOG_WIDTH, Free, X, Y
from fairstem.atoms._overlap import WINDOW, common_slopes, joint_groups, neighbour_lists
from fairstem.atoms._sweeps import Groups, Scene, Task

__all__ = ["ColumnFit", "Slope", "Sweeper", "lowest_background"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Slope = Literal["none", "common", "free"]

OVERLAP = 4.4  # up to here (widths) a neighbour's uncertainty changes the error bar by more than ~0.3 %
SAMPLE = 250  # groups that decide on the common start width
COMMON = (-0.4, 0.5)  # how far the common log width may move from the detected scale
SPREAD = 0.6  # and a column's log width from the common one
MAX_SWEEPS = 12
MAX_ITERATIONS = 40
TOLERANCE = 2e-4  # px
SETTLING = 3  # sweeps during which the windows follow the columns
RECUT = 0.8  # px
POSITION = np.array([HEIGHT, Y, X])


@dataclass(frozen=True)
class ColumnFit:
    """Fitted columns in kernel counts and pixels: see `fairstem.atoms._fit.fit_columns`."""

    params: FloatArray
    background: FloatArray
    covariance: FloatArray
    chi2: FloatArray
    converged: NDArray[np.bool_]
    sweeps: int
    slope: Slope

    def model(self, shape: tuple[int, int], radius: float = WINDOW) -> FloatArray:
        """Return the fitted image, NaN farther than `radius` widths from every column."""
        model: FloatArray = _sweeps.render_model(shape[0], shape[1], self.params, self.background, radius)
        return model


def lowest_background(counts: FloatArray, mask: NDArray[np.bool_], dark: float) -> float:
    """How low a background may go: a quarter of the contrast below the darkest spot, and never below zero counts.

    Without this bound a broad column and the negative background under its neighbour can grow without end.
    """
    smooth = ndimage.gaussian_filter(np.where(mask, counts, counts[mask].mean()), 2.0)[mask]
    low, high = float(smooth.min()), float(smooth.max())
    return max(low - dark - 0.25 * (high - low), 1e-6 - dark)


class Sweeper:
    """Gauss-Seidel sweeps over the groups: positions first, then a common width, then everything until it rests.

    Free widths, backgrounds and overlapping neighbours can run away together from a poor start; a width that the
    whole image agrees on is the start that keeps them.
    """

    def __init__(self, scene: Scene, params: FloatArray, background: FloatArray, limits: FloatArray) -> None:
        self.scene, self.params, self.background, self.limits = scene, params, background, limits
        self.sweeps = 0
        self._regroup()

    def _regroup(self) -> None:
        width = np.exp(self.params[:, LOG_WIDTH])
        self.members, self.pointers = joint_groups(self.params[:, [Y, X]], width)
        self.n_groups = len(self.pointers) - 1
        self.group_of = np.empty(len(self.params), np.int64)
        self.group_of[self.members] = np.repeat(np.arange(self.n_groups), np.diff(self.pointers))

    def _groups(self) -> Groups:
        return Groups(self.members, self.pointers, *neighbour_lists(self.params))

    def _sweep(
        self, active: BoolArray, task: Task, tolerance: FloatArray, anchor: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        self.groups = self._groups()
        out: tuple[FloatArray, BoolArray] = _sweeps.sweep(
            self.scene, self.groups, self.params, anchor, self.background, task, active, tolerance
        )
        return out

    def run(self, slope: Slope, columns: IntArray) -> None:
        """Fit all columns in place; `columns` are the free ones of the six parameters."""
        self.slope, self.free = slope, Free(columns, 3 if slope == "free" else 1)
        params = self.params
        start = np.rint(params[:, [Y, X]])
        everyone = np.ones(self.n_groups, np.bool_)
        coarse = np.full(self.n_groups, 0.03)  # px: the first sweeps only have to come near
        near = Task(Free(POSITION, self.free.plane), self.limits, 2.5 if slope == "free" else 2.0, 12)
        self._sweep(everyone, near, coarse, params.copy())
        if LOG_WIDTH in columns:
            self._agree_on_width(coarse)
        self._regroup()
        anchor = params.copy()
        # whole pixels and steps of 5 % in width: windows that don't depend on where the sweeps before have stopped
        anchor[:, [Y, X]] = start
        anchor[:, LOG_WIDTH] = np.rint(20 * anchor[:, LOG_WIDTH]) / 20
        tolerance = self._tolerance()
        converged, active = np.zeros(self.n_groups, np.bool_), np.ones(self.n_groups, np.bool_)
        for self.sweeps in range(1, MAX_SWEEPS + 1):
            iterations = MAX_ITERATIONS if self.sweeps == 1 else 4
            task = Task(self.free, self.limits, WINDOW, iterations)
            moved, good = self._sweep(active, task, tolerance, anchor)
            converged = np.where(active, good, converged)
            active = self._disturbed(moved, tolerance)
            if slope == "common":
                active |= self._update_slopes(tolerance)
            if self.sweeps <= SETTLING:
                active |= self._recut(anchor, moved)
            if not active.any():
                break
        self.converged = converged[self.group_of] & self._plausible(anchor)

    def _recut(self, anchor: FloatArray, moved: FloatArray) -> BoolArray:
        """Cut the windows anew where a column has left its pixel; the others keep theirs, whatever the order."""
        position = self.params[:, [Y, X]]
        shifted = np.abs(position - anchor[:, [Y, X]]).max(axis=1) > RECUT
        anchor[np.ix_(shifted, [Y, X])] = np.rint(position[shifted])
        groups = np.zeros(self.n_groups, np.bool_)
        groups[self.group_of[shifted]] = True
        return groups & (moved > 0)

    def _tolerance(self) -> FloatArray:
        """A hundredth of the error bar of an isolated column, width/sqrt(counts): the least of each group."""
        error = 1.0 / np.sqrt(2 * np.pi * np.maximum(self.params[:, HEIGHT], 1e-6))
        tolerance = np.full(self.n_groups, np.inf)
        np.minimum.at(tolerance, self.group_of, np.maximum(TOLERANCE, 0.01 * error))
        return tolerance

    def _disturbed(self, moved: FloatArray, tolerance: FloatArray) -> BoolArray:
        """Groups whose neighbours' moves shift them by more than the tolerance; the overlap carries the move."""
        params, width = self.params, np.exp(self.params[:, LOG_WIDTH])
        owner = np.repeat(np.arange(len(params)), np.diff(self.groups.neighbour_pointers))
        other = self.groups.neighbours
        gap = np.hypot(params[owner, Y] - params[other, Y], params[owner, X] - params[other, X])
        reach = gap / (width[owner] + width[other])
        # Fisher information shared by two positions, relative to their own
        overlap = np.maximum(1.0, 2 * reach**2) * np.exp(-(reach**2))
        strength = params[other, HEIGHT] / np.maximum(params[owner, HEIGHT], 1e-9)
        apart = self.group_of[owner] != self.group_of[other]
        shift = moved[self.group_of[other]] * overlap * strength
        disturbed = np.zeros(self.n_groups, np.bool_)
        disturbed[self.group_of[owner[apart & (shift > tolerance[self.group_of[owner]])]]] = True
        return disturbed

    def _slopes(self) -> FloatArray:
        position, shape = self.params[:, [Y, X]], np.array(self.scene.mask.shape)
        # columns outside the image disturb those along the border, and these their own neighbours
        reach = 2 * WINDOW * np.exp(self.params[:, LOG_WIDTH])
        whole = np.minimum(position, shape - 1 - position).min(axis=1) >= reach
        return common_slopes(self.params, self.background[:, 0], whole)

    def _update_slopes(self, tolerance: FloatArray) -> BoolArray:
        """Renew the common slopes; return the groups that the change shifts by more than the tolerance."""
        slopes = self._slopes()
        change = np.hypot(*(slopes - self.background[:, 1:]).T)
        # a slope b shifts a column of height A and width w by about 4 w² b / A
        width = np.exp(self.params[:, LOG_WIDTH])
        shift = 4 * width**2 * change / np.maximum(self.params[:, HEIGHT], 1e-9)
        self.background[:, 1:] = slopes
        moved = np.zeros(self.n_groups, np.bool_)
        moved[self.group_of[shift > tolerance[self.group_of]]] = True
        return moved

    def _plausible(self, anchor: FloatArray) -> BoolArray:
        """Within reach of the start, inside the image, and not at the limits of the width."""
        params, shape = self.params, self.scene.mask.shape
        moved = np.hypot(params[:, Y] - anchor[:, Y], params[:, X] - anchor[:, X])
        near = moved < 1.5 * np.exp(anchor[:, LOG_WIDTH]) + 1
        for axis, column in enumerate((Y, X)):
            near &= np.abs(params[:, column] - (shape[axis] - 1) / 2) <= shape[axis] / 2
        if LOG_WIDTH not in self.free.columns:
            return near
        width = params[:, LOG_WIDTH]
        plausible: BoolArray = near & (width > self.limits[0] + 1e-6) & (width < self.limits[1] - 1e-6)
        return plausible

    def finish(self, start: FloatArray) -> ColumnFit:
        """Rescue what did not converge with the common width held, then the error bars."""
        covariance, chi2 = self._covariances(self.free, np.ones(self.n_groups, np.bool_))
        lost = ~self.converged | ~_finite(covariance, self.free.columns)
        if lost.any():
            groups = self._rescue(lost, start)
            again = groups[self.group_of]
            held_covariance, held_chi2 = self._covariances(Free(POSITION, 1), groups)
            covariance[again], chi2[again] = held_covariance[again], held_chi2[again]
            self.converged &= _finite(covariance, POSITION)
            self.params[~self.converged] = start[~self.converged]
        covariance[~self.converged] = np.nan
        return ColumnFit(
            self.params, self.background, covariance, chi2, self.converged, self.sweeps, self.slope
        )

    def _rescue(self, lost: BoolArray, start: FloatArray) -> BoolArray:
        """Fit the groups of lost columns again from their start, width held; return these groups."""
        params = self.params
        params[lost] = start[lost]
        if not lost.all():
            params[lost, LOG_WIDTH] = np.median(params[~lost, LOG_WIDTH])
        groups = np.zeros(self.n_groups, np.bool_)
        groups[self.group_of[lost]] = True
        concerned: BoolArray = groups[self.group_of]
        # a slope of its own would be one more thing to go astray
        self.background[lost, 1:] = self._slopes()[lost]
        anchor, held = params.copy(), Free(POSITION, 1)
        for _ in range(2):
            task = Task(held, self.limits, 2.5, MAX_ITERATIONS)
            good = self._sweep(groups, task, np.full(self.n_groups, 1e-3), anchor)[1]
        self.free = Free(POSITION, self.free.plane)
        self.converged = np.where(concerned, good[self.group_of] & self._plausible(anchor), self.converged)
        return groups

    def _covariances(self, free: Free, active: BoolArray) -> tuple[FloatArray, FloatArray]:
        out: tuple[FloatArray, FloatArray] = _sweeps.covariances(
            self.scene, self._groups(), self.params, self.background, free, WINDOW, OVERLAP, active
        )
        return out

    def _sample(self) -> BoolArray:
        """Groups spread over the image that decide for all."""
        sample = np.zeros(self.n_groups, np.bool_)
        sample[:: -(-self.n_groups // SAMPLE)] = True
        return sample

    def _agree_on_width(self, tolerance: FloatArray) -> None:
        """Scale all widths by the median change that a sample of the groups asks for, three times."""
        params, sample = self.params, self._sample()
        members = np.flatnonzero(sample[self.group_of])
        free = Free(np.append(POSITION, LOG_WIDTH), self.free.plane)
        low, high = self.limits
        # the first windows stay: growing with the width they would take in ever more background
        first = params.copy()
        for _ in range(3):
            start = params[:, LOG_WIDTH]
            around = np.array([max(low, start.min() - 0.5), min(high, start.max() + 0.5)])
            self._sweep(sample, Task(free, around, 2.5, 12), tolerance, first)
            change = np.median((params - first)[members, LOG_WIDTH])
            params[:, LOG_WIDTH] = np.clip(first[:, LOG_WIDTH] + np.clip(change, *COMMON), low, high)
        common = params[:, LOG_WIDTH]
        self.limits = np.array([max(low, common.min() - SPREAD), min(high, common.max() + SPREAD)])


def _finite(covariance: FloatArray, columns: IntArray) -> BoolArray:
    variance = np.diagonal(covariance, axis1=1, axis2=2)[:, columns]
    good: BoolArray = np.all(np.isfinite(variance) & (variance > 0), axis=1)
    return good
