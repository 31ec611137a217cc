"""Which of several places of a frame its content prefers, compared block by block and whatever deforms it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fairstem.register._start.cell import Cell
from fairstem.register._start.pairs import SmallFrame
from fairstem.register._start.solve import Network, least_squares, likely_steps

__all__ = ["Preference", "prefer_places"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
_SIZE = 1.25  # cells, side of a block: about one column of each kind
_SMOOTH = 0.1  # cells: columns survive it, white noise does not
_LOOSE = (0.1, 0.1, 0.07)  # contrast, gain, cells: how far a block may differ in offset, gain and place
_FARTHEST = 0.15  # cells: more is another place
_EXTREME = 8  # of the blocks, one in so many at either end shows features, if there are any
_FEWEST = 12  # blocks in common: fewer are not compared
_COMMON = 0.4  # of the blocks compared where the frame lies: less is a corner
# standard deviation, on perfect crystals whose frames are deformed as scans are, of the mean logarithm of
# residuals between the extreme blocks: deformation favours a place, but evenly
_CRYSTAL = 0.15
_CLEAR = 5.0  # standard deviations: taken; residuals of the blocks that tell are halved, about
_MOST = 8  # places that are tried
_NEAR = -4.0  # standard deviations: looked at again when others have moved
_PASSES = 6
_STEPS = 3  # of Gauss and Newton
_UNCOVERED = 0.5  # frames


@dataclass(frozen=True)
class Preference:
    """Where the content of the blocks places the frames.

    Parameters
    ----------
    offsets
        ``(K, 2)`` px.
    margins
        For each frame: advantage of its place over the next best, standard deviations; negative when
        another place is better, but not clearly.
    moved
        For each frame: has the content moved it?
    """

    offsets: Floats
    margins: Floats
    moved: NDArray[np.bool_]


def prefer_places(frames: Sequence[SmallFrame], network: Network, offsets: Floats, cell: Cell) -> Preference:
    """Move single frames to where their content is clearly better matched.

    Prior: frames show one object, locally deformed. On a crystal, places a lattice vector apart differ
    little, and deformation evenly favours one or the other. A wrong place shows where there is more than
    the lattice, at an edge, a corner or a core: in few blocks, but there by much. Only single frames are
    moved: against a place of theirs that content contradicts stand two steps of the drift, but only one
    against a cut of the series, and slow deformation can make a cut look as clear (7 standard deviations).

    Parameters
    ----------
    frames
        Small copies.
    network
        Peaks of the pairs: the places to try.
    offsets
        ``(K, 2)`` px of the copies: where the frames lie, up to a lattice vector.
    cell
        The lattice in px of the copies.

    Notes
    -----
    A block of n independent pixels that leaves residuals S0 at one place and S1 at another, each the least
    for any small shift, gain and offset, has a likelihood ratio ``n/2 ln(S0/S1)``. Taken is what the sum
    over all blocks favours by more than their scatter, and the blocks that differ most by more than they
    do on a crystal. Cost: ``O(pixels)`` a place, some ten places for each frame and each cut.
    """
    sigma = _SMOOTH * cell.shortest
    images = [_smooth(frame, sigma) for frame in frames]
    groups = list(np.eye(len(offsets), dtype=bool))
    moved = np.zeros(len(groups), dtype=bool)
    found = _compare(images, network, offsets, cell, groups)
    for _ in range(_PASSES):
        best = int(np.argmax([gain for gain, _ in found]))
        if found[best][0] < _CLEAR:
            break
        offsets = offsets + np.where(groups[best][:, None], found[best][1], 0.0)
        offsets = least_squares(network, offsets)
        moved[best] = True
        again = [n for n, (gain, _) in enumerate(found) if gain > _NEAR or n == best]
        for n, one in zip(
            again, _compare(images, network, offsets, cell, [groups[n] for n in again]), strict=True
        ):
            found[n] = one
    margins = -np.array([gain for gain, _ in found])
    return Preference(offsets, margins, moved)


def _smooth(frame: SmallFrame, sigma: float) -> tuple[Singles, Singles]:
    """Return smooth values, and 1 where they stand on measured pixels."""
    if frame.mask is None:
        return gaussian_filter(frame.values, sigma), np.ones(frame.values.shape, dtype=np.float32)
    weight = gaussian_filter(frame.mask.astype(np.float32), sigma)
    good = frame.mask & (weight > _UNCOVERED)
    values = np.where(good, gaussian_filter(frame.values, sigma) / np.maximum(weight, _UNCOVERED), 0.0)
    return values.astype(np.float32), good.astype(np.float32)


def _compare(
    images: list[tuple[Singles, Singles]],
    network: Network,
    offsets: Floats,
    cell: Cell,
    groups: list[NDArray[np.bool_]],
) -> list[tuple[float, Floats]]:
    """Return, for each group, the advantage of the best other place, and the step there."""
    low = np.floor(offsets.min(axis=0))
    size = np.ceil(offsets.max(axis=0) - low).astype(int) + images[0][0].shape + 1
    placed = np.zeros((len(images), 2, *size), dtype=np.float32)
    for image, place, own in zip(images, offsets, placed, strict=True):
        _lay(*image, place - low, own)
    total = placed.sum(axis=0)
    out = []
    for group in groups:
        part = placed[group].sum(axis=0)
        steps = likely_steps(network, offsets, group, _MOST)
        if len(steps) < 2:
            out.append((0.0, np.zeros(2)))
            continue
        gains = _advantages(_mean(part), _mean(total - part), steps, cell.shortest)
        best = int(np.argmax(gains))
        # no place could be compared: nothing is known
        out.append((float(gains[best]), steps[best + 1]) if np.isfinite(gains[best]) else (0.0, np.zeros(2)))
    return out


def _mean(summed: Singles) -> tuple[Singles, Singles]:
    return summed[0] / np.maximum(summed[1], 1), summed[1]


def _advantages(
    own: tuple[Singles, Singles], other: tuple[Singles, Singles], steps: Floats, period: float
) -> Floats:
    """Return the advantage of each step over the first, standard deviations; -inf where not compared."""
    sigma = _SMOOTH * period
    stride = max(1, int(1.8 * sigma))
    some = (slice(None, None, stride),) * 2  # smooth: the others say no more
    both = (own[1][some] > 0) & (other[1][some] > 0)
    out = np.full(len(steps) - 1, -np.inf)
    if both.sum() * stride**2 < _FEWEST * period**2:
        return out
    a, b = own[0][some][both].astype(np.float64), other[0][some][both].astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    gain = float(a @ b / (b @ b)) if b.any() else 0.0
    spread = float(np.mean((a - gain * b) ** 2))
    if gain <= 0 or spread <= 0:
        return out
    size = max(4, round(_SIZE * period))
    contrast, gains, place = _LOOSE
    loose = spread / np.array([(contrast * gain) ** 2 * float(b.var()), gains**2, (place * period) ** 2])
    blocks = (own[0].shape[0] // size) * (own[0].shape[1] // size)
    residual = np.full((len(steps), blocks), np.nan)
    _residuals(own, other, steps, size, stride, (gain, loose, _FARTHEST * period), residual)
    independent = max(size**2 / (4 * math.pi * sigma**2), 1.0)
    here = np.isfinite(residual[0]).sum()
    for s in range(1, len(steps)):
        ratio = np.log(residual[0] / residual[s])
        ratio = np.sort(ratio[np.isfinite(ratio)])
        if len(ratio) >= max(_FEWEST, _COMMON * here):
            out[s - 1] = _advantage(ratio, independent)
    return out


def _advantage(ratio: Floats, independent: float) -> float:
    """Return the lesser of two significances, of sorted logarithms of residuals; 0 when they disagree."""
    n = len(ratio)
    scatter = 1.4826 * float(np.median(np.abs(ratio - np.median(ratio))))
    # a block of so many pixels can't tell more than this
    scatter = max(scatter, 1 / math.sqrt(independent * n))
    whole = float(ratio.sum()) / (scatter * math.sqrt(n))
    ends = max(n // _EXTREME, 1)
    extreme = float(ratio[:ends].mean() + ratio[-ends:].mean()) / 2 / _CRYSTAL
    if whole * extreme <= 0:
        return 0.0
    return math.copysign(min(abs(whole), abs(extreme)), whole)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _lay(image: Singles, good: Singles, at: Floats, out: Singles) -> None:
    """Lay an image (bilinear) on a canvas, and count where it was measured."""
    ny, nx = image.shape
    top, left = int(np.ceil(at[0])), int(np.ceil(at[1]))
    fy, fx = np.float32(top - at[0]), np.float32(left - at[1])
    for i in range(ny - 1):
        for j in range(nx - 1):
            if good[i, j] and good[i, j + 1] and good[i + 1, j] and good[i + 1, j + 1]:
                upper = (1 - fx) * image[i, j] + fx * image[i, j + 1]
                lower = (1 - fx) * image[i + 1, j] + fx * image[i + 1, j + 1]
                out[0, top + i, left + j] = (1 - fy) * upper + fy * lower
                out[1, top + i, left + j] = 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _residuals(own, other, steps, size, stride, law, out):  # type: ignore[no-untyped-def]
    """Fill (steps, blocks) with least residuals over their expected share of noise; NaN if not covered.

    `own` and `other` are (values, frames behind each); `law` is that of `_least`.
    """
    own_n = own[1]
    across = own_n.shape[1] // size
    for block in range(out.shape[1]):
        top, left = block // across * size, block % across * size
        noise = 0.0
        for y in range(top, top + size):
            for x in range(left, left + size):
                noise += 1 / own_n[y, x] if own_n[y, x] else np.inf
        if noise == np.inf:
            continue
        for s in range(len(steps)):
            step = (steps[s, 0], steps[s, 1])
            least, more = _least(own[0], other, (top, left), step, size, stride, law)
            if least < 0:
                if s == 0:
                    break
                continue
            out[s, block] = least / (noise / size**2 + more)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _solve(lower: Floats, right: Floats) -> None:
    """Solve a positive definite system in place, from the lower triangle of its matrix."""
    n = len(right)
    for i in range(n):
        for j in range(i + 1):
            for k in range(j):
                lower[i, j] -= lower[i, k] * lower[j, k]
            lower[i, j] = np.sqrt(lower[i, i]) if i == j else lower[i, j] / lower[j, j]
    for i in range(n):
        for k in range(i):
            right[i] -= lower[i, k] * right[k]
        right[i] /= lower[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            right[i] -= lower[k, i] * right[k]
        right[i] /= lower[i, i]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _least(own, placed, corner, step, size, stride, law):  # type: ignore[no-untyped-def]
    """Return the least residual over small shifts, gains and offsets, and the mean of 1 / frames.

    Gauss-Newton, with offset, gain and shift held by springs; -1 where a pixel is not covered. `placed` is
    (values, frames behind each); `law` is (gain to start from, springs of offset, gain and shift, farthest shift).
    """
    other, other_n = placed
    (top, left), (step_y, step_x) = corner, step
    gain, loose, far = law
    ny, nx = other.shape
    dy, dx, best, share = 0.0, 0.0, np.inf, 0.0
    lower, change = np.zeros((4, 4)), np.zeros(4)
    for _ in range(_STEPS):
        iy, ix = int(np.floor(step_y + dy)), int(np.floor(step_x + dx))
        fy, fx = step_y + dy - iy, step_x + dx - ix
        if top + iy < 0 or left + ix < 0 or top + iy + size >= ny or left + ix + size >= nx:
            return -1.0, 0.0
        m01 = m02 = m03 = m11 = m12 = m13 = m22 = m23 = m33 = r0 = r1 = r2 = r3 = 0.0
        squares, inverse, count = 0.0, 0.0, 0
        for i in range(top, top + size, stride):
            for j in range(left, left + size, stride):
                y, x = i + iy, j + ix
                if not (other_n[y, x] and other_n[y + 1, x] and other_n[y, x + 1] and other_n[y + 1, x + 1]):
                    return -1.0, 0.0
                a, b, c, d = other[y, x], other[y, x + 1], other[y + 1, x], other[y + 1, x + 1]
                u = gain * ((1 - fy) * ((1 - fx) * a + fx * b) + fy * ((1 - fx) * c + fx * d))
                v = gain * ((1 - fx) * (c - a) + fx * (d - b))
                w = gain * ((1 - fy) * (b - a) + fy * (d - c))
                rest = own[i, j] - u
                squares += rest * rest
                inverse += 1 / other_n[y, x]
                count += 1
                r0, r1, r2, r3 = r0 + rest, r1 + u * rest, r2 + v * rest, r3 + w * rest
                m01, m02, m03 = m01 + u, m02 + v, m03 + w
                m11, m12, m13 = m11 + u * u, m12 + u * v, m13 + u * w
                m22, m23, m33 = m22 + v * v, m23 + v * w, m33 + w * w
        r2, r3 = r2 - loose[2] * dy, r3 - loose[2] * dx
        lower[0, 0], lower[1, 0], lower[1, 1] = count + loose[0], m01, m11 + loose[1]
        lower[2, 0], lower[2, 1], lower[2, 2] = m02, m12, m22 + loose[2]
        lower[3, 0], lower[3, 1], lower[3, 2], lower[3, 3] = m03, m13, m23, m33 + loose[2]
        change[0], change[1], change[2], change[3] = r0, r1, r2, r3
        _solve(lower, change)
        fitted = r0 * change[0] + r1 * change[1] + r2 * change[2] + r3 * change[3]
        cost = (squares + loose[2] * (dy * dy + dx * dx) - fitted) / count
        if cost < best:
            best, share = max(cost, 1e-30), inverse / count
        dy = min(max(dy + change[2], -far), far)
        dx = min(max(dx + change[3], -far), far)
    return best, share
