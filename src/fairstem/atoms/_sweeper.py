"""Sweeps over the groups of columns to the maximum of the likelihood, and the error bars there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fairstem.atoms import _sweeps
from fairstem.atoms._kernels import HEIGHT, LOG_WIDTH, X, Y
from fairstem.atoms._overlap import WINDOW, common_slopes, joint_groups, neighbour_lists

__all__ = ["ColumnFit", "Slope", "Sweeper", "lowest_background"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Slope = Literal["none", "common", "free"]

OVERLAP = 4.4  # up to here (widths) a neighbour's uncertainty changes the error bar by more than ~0.3 %
SAMPLE = 250  # groups that decide on the common start width
COMMON = (-0.4, 0.5)  # how far the common log width may move from the detected scale
SPREAD = 0.6  # and a column's log width from the common one
MAX_SWEEPS = 12
MAX_ITERATIONS = 40
TOLERANCE = 2e-4  # px


@dataclass(frozen=True)
class ColumnFit:
    """Fitted columns in kernel counts and pixels: see `fairstem.atoms._fit.fit_columns`."""

    params: FloatArray
    background: FloatArray
    covariance: FloatArray
    chi2: FloatArray
    pixels: IntArray
    converged: NDArray[np.bool_]
    sweeps: int
    slope: Slope

    def model(self, shape: tuple[int, int]) -> FloatArray:
        """Return the fitted image, NaN outside every column's window."""
        model: FloatArray = _sweeps.render_model(shape[0], shape[1], self.params, self.background, WINDOW)
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

    def __init__(
        self,
        counts: FloatArray,
        mask: NDArray[np.bool_],
        params: FloatArray,
        background: FloatArray,
        free: IntArray,
        limits: FloatArray,
        dark: float,
    ) -> None:
        self.counts, self.mask, self.params, self.background = counts, mask, params, background
        self.free, self.limits, self.dark = free, limits, dark
        self.n_plane = 1
        self.lowest = lowest_background(counts, mask, dark)
        self._regroup()

    def _regroup(self) -> None:
        params = self.params
        self.groups, self.pointers = joint_groups(params[:, [Y, X]], np.exp(params[:, LOG_WIDTH]))
        self.n_groups = len(self.pointers) - 1
        self.group_of = np.empty(len(params), np.int64)
        self.group_of[self.groups] = np.repeat(np.arange(self.n_groups), np.diff(self.pointers))

    def _sweep(
        self,
        active: NDArray[np.bool_],
        free: IntArray,
        window: float,
        iterations: int,
        tolerance: FloatArray,
        anchor: FloatArray,
    ) -> tuple[FloatArray, NDArray[np.bool_], FloatArray]:
        self.neighbours, self.neighbour_pointers = neighbour_lists(self.params)
        moved, good, likelihood = _sweeps.sweep(
            self.counts, self.mask, self.params, anchor, self.background, self.n_plane, self.groups, self.pointers,
            self.neighbours, self.neighbour_pointers, active, free, self.limits, window, self.dark, self.lowest,
            iterations, tolerance,
        )  # fmt: skip
        return moved, good, likelihood

    def run(self, slope: Slope) -> None:
        """Fit all columns in place."""
        self.slope, self.n_plane = slope, 3 if slope == "free" else 1
        params = self.params
        everyone = np.ones(self.n_groups, np.bool_)
        coarse = np.full(self.n_groups, 0.03)  # px: the first sweeps only have to come near
        self._sweep(
            everyone, np.array([HEIGHT, Y, X]), 2.5 if slope == "free" else 2.0, 12, coarse, params.copy()
        )
        if slope == "common":
            self.background[:, 1:] = common_slopes(params, self.background[:, 0])
        if LOG_WIDTH in self.free:
            self._agree_on_width(coarse)
        self._regroup()
        anchor = params.copy()
        # a twentieth of the error bar of an isolated column, width/sqrt(counts), is close enough
        error = 1.0 / np.sqrt(2 * np.pi * np.maximum(params[:, HEIGHT], 1e-6))
        tolerance = np.full(self.n_groups, np.inf)
        np.minimum.at(tolerance, self.group_of, np.maximum(TOLERANCE, 0.05 * error))
        converged, active = np.zeros(self.n_groups, np.bool_), np.ones(self.n_groups, np.bool_)
        for self.sweeps in range(1, MAX_SWEEPS + 1):
            moved, good, _ = self._sweep(
                active, self.free, WINDOW, MAX_ITERATIONS if self.sweeps == 1 else 4, tolerance, anchor
            )
            converged = np.where(active, good, converged)
            active = self._disturbed(moved, tolerance)
            if slope == "common" and self.sweeps <= 2:
                active |= self._update_slopes(tolerance)
            if not active.any():
                break
        self.group_converged = converged
        self.converged = converged[self.group_of] & self._plausible(anchor)

    def _disturbed(self, moved: FloatArray, tolerance: FloatArray) -> NDArray[np.bool_]:
        """Groups whose neighbours' moves shift them by more than the tolerance; the overlap carries the move."""
        params, width = self.params, np.exp(self.params[:, LOG_WIDTH])
        owner = np.repeat(np.arange(len(params)), np.diff(self.neighbour_pointers))
        other = self.neighbours
        gap = np.hypot(params[owner, Y] - params[other, Y], params[owner, X] - params[other, X])
        overlap = np.exp(-((gap / (width[owner] + width[other])) ** 2))
        strength = params[other, HEIGHT] / np.maximum(params[owner, HEIGHT], 1e-9)
        apart = self.group_of[owner] != self.group_of[other]
        shift = 2.0 * moved[self.group_of[other]] * overlap * strength
        disturbed = np.zeros(self.n_groups, np.bool_)
        disturbed[self.group_of[owner[apart & (shift > tolerance[self.group_of[owner]])]]] = True
        return disturbed

    def _update_slopes(self, tolerance: FloatArray) -> NDArray[np.bool_]:
        """Renew the common slopes; return the groups that the change shifts by more than the tolerance."""
        slopes = common_slopes(self.params, self.background[:, 0])
        change = np.hypot(*(slopes - self.background[:, 1:]).T)
        # a slope b shifts a column of height A and width w by about 4 w² b / A
        width = np.exp(self.params[:, LOG_WIDTH])
        shift = 4 * width**2 * change / np.maximum(self.params[:, HEIGHT], 1e-9)
        self.background[:, 1:] = slopes
        moved = np.zeros(self.n_groups, np.bool_)
        moved[self.group_of[shift > tolerance[self.group_of]]] = True
        return moved

    def _plausible(self, anchor: FloatArray) -> NDArray[np.bool_]:
        """Within reach of the start, inside the image, and not at the limits of the width."""
        params, shape = self.params, self.counts.shape
        moved = np.hypot(params[:, Y] - anchor[:, Y], params[:, X] - anchor[:, X])
        inside = (np.abs(params[:, Y] - (shape[0] - 1) / 2) <= shape[0] / 2) & (
            np.abs(params[:, X] - (shape[1] - 1) / 2) <= shape[1] / 2
        )
        width = params[:, LOG_WIDTH]
        free = (width > self.limits[0] + 1e-6) & (width < self.limits[1] - 1e-6)
        near = moved < 1.5 * np.exp(anchor[:, LOG_WIDTH]) + 1
        plausible: NDArray[np.bool_] = near & inside & (free | (LOG_WIDTH not in self.free))
        return plausible

    def finish(self, start: FloatArray) -> ColumnFit:
        """Rescue what did not converge with the common width held, then the error bars."""
        params, converged = self.params, self.converged
        covariance, chi2, pixels = self._covariances(self.free)
        lost = ~converged | ~self._finite(covariance, self.free)
        if lost.any():
            common = float(np.median(params[~lost, LOG_WIDTH])) if (~lost).any() else None
            params[lost] = start[lost]
            if common is not None:
                params[lost, LOG_WIDTH] = common
            held = np.array([HEIGHT, Y, X])
            groups = np.zeros(self.n_groups, np.bool_)
            groups[self.group_of[lost]] = True
            anchor, n_plane, self.n_plane = params.copy(), self.n_plane, 1
            # a slope of its own would be one more thing to go astray
            self.background[lost, 1:] = common_slopes(params, self.background[:, 0])[lost]
            for _ in range(2):
                good = self._sweep(groups, held, 2.5, MAX_ITERATIONS, np.full(self.n_groups, 1e-3), anchor)[1]
            again, chi2_again, pixels_again = self._covariances(held)
            self.n_plane = n_plane
            rescued = groups[self.group_of]
            covariance[rescued], chi2[rescued], pixels[rescued] = (
                again[rescued],
                chi2_again[rescued],
                pixels_again[rescued],
            )
            converged = np.where(rescued, good[self.group_of] & self._plausible(anchor), converged)
            converged &= self._finite(covariance, held)
            params[~converged] = start[~converged]
        covariance[~converged] = np.nan
        return ColumnFit(
            params, self.background, covariance, chi2, pixels, converged, self.sweeps, self.slope
        )

    @staticmethod
    def _finite(covariance: FloatArray, free: IntArray) -> NDArray[np.bool_]:
        variance = np.diagonal(covariance, axis1=1, axis2=2)[:, free]
        good: NDArray[np.bool_] = np.all(np.isfinite(variance) & (variance > 0), axis=1)
        return good

    def _covariances(self, free: IntArray) -> tuple[FloatArray, FloatArray, IntArray]:
        neighbours, pointers = neighbour_lists(self.params)
        out: tuple[FloatArray, FloatArray, IntArray] = _sweeps.covariances(
            self.counts, self.mask, self.params, self.background, self.n_plane, self.groups, self.pointers,
            neighbours, pointers, free, WINDOW, self.dark, OVERLAP,
        )  # fmt: skip
        return out

    def _sample(self) -> NDArray[np.bool_]:
        """Groups spread over the image that decide for all."""
        sample = np.zeros(self.n_groups, np.bool_)
        sample[:: -(-self.n_groups // SAMPLE)] = True
        return sample

    def _agree_on_width(self, tolerance: FloatArray) -> None:
        """Scale all widths by the median change that a sample of the groups asks for, three times."""
        params, sample = self.params, self._sample()
        members = np.flatnonzero(sample[self.group_of])
        free = np.array([HEIGHT, Y, X, LOG_WIDTH])
        low, high = self.limits
        first = (
            params.copy()
        )  # its windows stay: growing with the width they would take in ever more background
        for _ in range(3):
            start = params[:, LOG_WIDTH].copy()
            self.limits = np.array([max(low, start.min() - 0.5), min(high, start.max() + 0.5)])
            self._sweep(sample, free, 2.5, 12, tolerance, first)
            change = np.median((params - first)[members, LOG_WIDTH])
            params[:, LOG_WIDTH] = np.clip(first[:, LOG_WIDTH] + np.clip(change, *COMMON), low, high)
        common = params[:, LOG_WIDTH]
        self.limits = np.array([max(low, common.min() - SPREAD), min(high, common.max() + SPREAD)])
