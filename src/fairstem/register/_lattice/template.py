"""The unit cell of an average: folded from all cells that fit, and laid over the field again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, spline_filter, uniform_filter

from fairstem.register._rows.reference import EVERYWHERE, Reference
from fairstem.register._series.splines import spline_weights

__all__ = ["Contrast", "Fold", "Lattice", "as_reference", "flat_contrast", "local_contrast", "misfit"]

Floats = NDArray[np.float64]
_BINS_PER_PX = 2.0
_FINEST = 0.45  # cycles per px: finer detail than pixels show is noise
_SURE = 1e9  # frames: a template made of all cells has no noise to speak of
_WINDOW = 0.8  # of the longest lattice vector: over which contrast is taken to be constant
_SHRUNK = 0.05  # of the variance of the template: what is added so that contrast is defined in vacuum
_FAINT = 0.3  # of the usual contrast: vacuum, or another crystal
_STEEP = 0.3  # relative change of contrast over a window: an edge, near which the fit of contrast is no good
_MISFIT_WINDOW = 0.15  # of the longest lattice vector
_STANDS_OUT = 5.0  # deviations of the misfit from its median
_AT_LEAST = 2.0  # times the median


@dataclass(frozen=True)
class Lattice:
    """A lattice over a canvas, affine but for a bend that depends on x only.

    Parameters
    ----------
    reciprocal
        ``(2, 2)`` reciprocal vectors, one a row, (y, x) in cycles per px.
    bend
        ``(2, x)`` px for each column of the canvas: the point (y, x) lies in the cell where
        ``(y, x) + bend[:, x]`` would lie without.
    """

    reciprocal: Floats
    bend: Floats

    @property
    def direct(self) -> Floats:
        """Lattice vectors, one a row, (y, x) in px."""
        return np.asarray(np.linalg.inv(self.reciprocal).T)

    @property
    def longest(self) -> float:
        """Length of the longer lattice vector, px."""
        return float(np.hypot(*self.direct.T).max())

    def moved(self, step: Floats, slope_y: Floats, slope_x: Floats, bend: Floats) -> Lattice:
        """Return the lattice on which points lie where they lay, `step` + `slope` * position further, before.

        Slopes are px per px, of the displacement (y, x) along y and along x.
        """
        turn = np.eye(2) + np.column_stack([slope_y, slope_x])
        # bend is expressed in px of the new cell, that is after the turn
        bent = np.asarray(np.linalg.solve(turn, self.bend + step[:, None] + bend), dtype=np.float64)
        return Lattice(self.reciprocal @ turn, bent)


@dataclass(frozen=True)
class Contrast:
    """How an image follows the template: ``level + gain * template`` where `keep` is true; all ``(y, x)``."""

    gain: Floats
    level: Floats
    keep: NDArray[np.bool_]

    def everywhere(self, seen: NDArray[np.bool_]) -> Contrast:
        """Return a contrast for all that was `seen`: the usual one where it was too faint to be kept."""
        gain = np.where(self.keep, self.gain, _usual(self.gain[self.keep]))
        level = np.where(self.keep, self.level, np.median(self.level[self.keep]))
        return Contrast(gain, level, seen)


class Fold:
    """One unit cell, averaged over all that lie in the field.

    Parameters
    ----------
    lattice
        Where the cells lie.
    """

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        lengths = np.hypot(*lattice.direct.T)
        first, second = (max(8, math.ceil(_BINS_PER_PX * n)) for n in lengths)
        self.total, self.weight = np.zeros((first, second)), np.zeros((first, second))

    def add(
        self, values: Floats, mask: NDArray[np.bool_] | None, at: tuple[Floats, Floats], contrast: Contrast
    ) -> None:
        """Add an image whose pixels lie at canvas positions `at`."""
        given = EVERYWHERE if mask is None else mask
        how = (contrast.gain, contrast.level, contrast.keep)
        _fold(values, given, *at, self.lattice.reciprocal, self.lattice.bend, how, self.total, self.weight)

    def coefficients(self) -> Floats:
        """Return the periodic spline coefficients of the cell.

        The spreading of samples over bins is undone exactly, as the cell is periodic.
        """
        seen = self.weight > 1e-9
        middle = float(self.total.sum() / max(float(self.weight.sum()), 1e-300))
        mean = np.divide(self.total, self.weight, out=np.full_like(self.total, middle), where=seen)
        n, m = mean.shape
        h, k = np.fft.fftfreq(n, 1 / n)[:, None], np.fft.fftfreq(m, 1 / m)[None]
        g = h[..., None] * self.lattice.reciprocal[0] + k[..., None] * self.lattice.reciprocal[1]
        spread = (np.sinc(h / n) * np.sinc(k / m)) ** 4
        evaluated = (2 + np.cos(2 * np.pi * h / n)) * (2 + np.cos(2 * np.pi * k / m)) / 9
        known = np.hypot(g[..., 0], g[..., 1]) <= _FINEST
        return np.asarray(np.fft.ifft2(np.where(known, np.fft.fft2(mean) / (spread * evaluated), 0.0)).real)

    def tile(self, shape: tuple[int, int]) -> Floats:
        """Return the template over the whole canvas ``(y, x)``."""
        out = np.empty(shape)
        _tile(self.coefficients(), self.lattice.reciprocal, self.lattice.bend, out)
        return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _fold(values, mask, at_y, at_x, reciprocal, bend, contrast, total, weight):
    """Add pixels at canvas positions to the bins of the cell, spread by cubic B-splines, periodic."""
    gain, level, keep = contrast
    ny, nx = values.shape
    cy, cx = gain.shape
    n, m = total.shape
    wy, wx = np.empty(4), np.empty(4)
    for i in range(ny):
        for j in range(nx):
            if mask.size and not mask[i, j]:
                continue
            y, x = at_y[i, j], at_x[i, j]
            iy, ix = int(np.rint(y)), int(np.floor(x))
            if iy < 0 or ix < 0 or iy >= cy or ix >= cx - 1:
                continue
            f = x - ix
            jx = ix if f < 0.5 else ix + 1
            if not keep[iy, jx]:
                continue
            by = y + (1.0 - f) * bend[0, ix] + f * bend[0, ix + 1]
            bx = x + (1.0 - f) * bend[1, ix] + f * bend[1, ix + 1]
            a = reciprocal[0, 0] * by + reciprocal[0, 1] * bx
            b = reciprocal[1, 0] * by + reciprocal[1, 1] * bx
            a, b = (a - np.floor(a)) * n, (b - np.floor(b)) * m
            ia, ib = int(a), int(b)
            spline_weights(a - ia, wy)
            spline_weights(b - ib, wx)
            g = gain[iy, jx]
            w, v = g * g, g * (values[i, j] - level[iy, jx])
            for p in range(4):
                ip = (ia - 1 + p) % n
                for q in range(4):
                    iq = (ib - 1 + q) % m
                    share = wy[p] * wx[q]
                    total[ip, iq] += share * v
                    weight[ip, iq] += share * w


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _tile(coefficients, reciprocal, bend, out):
    """Write the cell's value at each pixel of a canvas."""
    n, m = coefficients.shape
    wy, wx = np.empty(4), np.empty(4)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            y, x = i + bend[0, j], j + bend[1, j]
            a = reciprocal[0, 0] * y + reciprocal[0, 1] * x
            b = reciprocal[1, 0] * y + reciprocal[1, 1] * x
            a, b = (a - np.floor(a)) * n, (b - np.floor(b)) * m
            ia, ib = int(a), int(b)
            spline_weights(a - ia, wy)
            spline_weights(b - ib, wx)
            value = 0.0
            for p in range(4):
                line = 0.0
                ip = (ia - 1 + p) % n
                for q in range(4):
                    line += wx[q] * coefficients[ip, (ib - 1 + q) % m]
                value += wy[p] * line
            out[i, j] = value


def flat_contrast(keep: NDArray[np.bool_]) -> Contrast:
    """Return a contrast of 1 everywhere."""
    return Contrast(np.ones(keep.shape), np.zeros(keep.shape), keep)


def local_contrast(image: Floats, template: Floats, keep: NDArray[np.bool_], longest: float) -> Contrast:
    """Fit ``image ~ level + gain * template`` in a window round each pixel of a canvas.

    Thickness and background vary over the field; without this, a row above brighter columns would
    seem to be displaced.

    Parameters
    ----------
    image, template
        ``(y, x)``.
    keep
        ``(y, x)`` pixels that count.
    longest
        The longer lattice vector in px, which sets the window.
    """
    share = keep.astype(np.float64)

    size = max(3, round(math.sqrt(6) * _WINDOW * longest))  # two boxes as wide as the bell they stand for

    def window(values: Floats) -> Floats:
        once = uniform_filter(values * share, size, mode="constant")
        return np.asarray(uniform_filter(once, size, mode="constant"))

    n = np.maximum(window(np.ones(keep.shape)), 1e-6)
    mean_t, mean_i = window(template) / n, window(image) / n
    both = window(image * template) / n - mean_i * mean_t
    own = window(template**2) / n - mean_t**2
    usual = float(np.var(template[keep]))
    gain = (both + _SHRUNK * usual * np.median(both[keep] / own[keep])) / (own + _SHRUNK * usual)
    typical = _usual(gain[keep])
    steep = np.hypot(*np.gradient(gain)) * _WINDOW * longest > _STEEP * np.abs(gain)
    level = mean_i - gain * mean_t
    return Contrast(gain, level, keep & (gain > _FAINT * typical) & ~steep & (n > 0.05))


def _usual(gain: Floats) -> float:
    """Return the contrast of the crystal, however much vacuum there is beside it."""
    energy = gain**2
    return float((energy * gain).sum() / energy.sum()) if gain.size and energy.any() else 1.0


def misfit(rest: Floats, keep: NDArray[np.bool_], longest: float) -> NDArray[np.bool_]:
    """Return where the image does not follow the template: defects, borders, other crystals.

    Parameters
    ----------
    rest
        ``(y, x)`` residual in units of its noise.
    keep
        Pixels that count; those without one say nothing.
    longest
        The longer lattice vector in px.
    """
    width = max(_MISFIT_WINDOW * longest, 1.0)
    share = np.asarray(gaussian_filter(keep.astype(np.float64), width, mode="constant"))
    square = np.asarray(gaussian_filter(np.where(keep, rest**2, 0.0), width, mode="constant"))
    local = np.divide(square, share, out=np.zeros_like(square), where=share > 0.1)
    inside = local[keep]
    if not inside.size:
        return ~keep
    middle = float(np.median(inside))
    scatter = 1.4826 * float(np.median(np.abs(inside - middle)))
    return np.asarray(local > max(middle + _STANDS_OUT * scatter, _AT_LEAST * middle))


def as_reference(tile: Floats, contrast: Contrast) -> Reference:
    """Return the tiled template as a reference that rows can be compared with."""
    image = contrast.level + contrast.gain * tile
    return Reference(np.asarray(spline_filter(image, 3, mode="mirror")), np.where(contrast.keep, _SURE, 0.0))
