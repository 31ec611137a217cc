"""Offsets of frames from the correlation peaks of pairs: consistent, and with the significance of each choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from fairstem.register._start.cell import Cell
from fairstem.register._start.pairs import LEAST_OVERLAP, PairPeaks

__all__ = [
    "Content",
    "Network",
    "build_network",
    "content_margin",
    "least_squares",
    "likely_steps",
    "place_frames",
    "plan_pairs",
    "weigh_by_scatter",
]

Floats = NDArray[np.float64]
_EQUAL = 3.0  # standard deviations: peaks nearer in height are equal, and the smaller shift is taken
_BETTER = 5.0  # standard deviations: a frame moves; of some hundred places the best is 3 by chance
# of the height: less may come from deformation, which a small overlap shows less of, however little the noise
_TELLING = 0.04
_PASSES = 6
_TRIED = 100  # peaks of a pair
_COMMON = 0.4  # of a frame: steps leave that much
_SURE = 99.0  # standard deviations: said where there is no other place at all


def plan_pairs(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pairs to correlate: neighbours, next neighbours, and some far ones: 3 a frame at most."""
    n = len(frames)
    pairs = {(i, i + step) for step in (1, 2) for i in range(n - step)}
    far = max(3, n // 2)
    pairs |= {(i, i + far) for i in range(0, n - far, max(1, far // 5))}
    return [(frames[i], frames[j]) for i, j in sorted(pairs)]


@dataclass(frozen=True)
class Network:
    """All measured pairs: the peaks of pair p are ``start[p]:start[p + 1]``.

    Parameters
    ----------
    ends
        ``(p, 2)`` positions, in the list of frames, of the two frames of each pair.
    start
        ``(p + 1,)``.
    move, height, error, noise
        Peaks of all pairs: ``(n, 2)`` px, then ``(n,)``; `noise` is the part of `error` that is white noise.
    near
        px: a peak nearer than this to where it is looked for is the one.
    field
        Height and width of a frame, and the largest shifts that were measured, px.
    """

    ends: NDArray[np.int64]
    start: NDArray[np.int64]
    move: Floats
    height: Floats
    error: Floats
    noise: Floats
    near: float
    field: tuple[float, float, float, float]

    def peaks(self, pair: int | np.intp) -> slice:
        """Return the peaks of a pair as a slice."""
        return slice(int(self.start[pair]), int(self.start[pair + 1]))


def build_network(
    pairs: Sequence[PairPeaks],
    frames: Sequence[int],
    cell: Cell | None,
    shape: tuple[int, int],
    reach: tuple[int, int],
) -> Network:
    """Put the peaks of all pairs between `frames` into one table.

    On a lattice the heights of equivalent peaks scatter by more than noise (distortion, borders). This
    scatter, about a smooth surface, is added to the error of each height.
    """
    number = {k: i for i, k in enumerate(frames)}
    use = [p for p in pairs if p.first in number and p.second in number and len(p.height)]
    near = 3.0 if cell is None else max(0.3 * cell.shortest, 1.5)
    errors = [np.hypot(p.error, 0.01 * p.height) if cell is None else _with_scatter(p, cell) for p in use]
    field = (float(shape[0]), float(shape[1]), float(reach[0]), float(reach[1]))
    ends = np.array([(number[p.first], number[p.second]) for p in use], dtype=np.int64).reshape(-1, 2)
    start = np.concatenate([[0], np.cumsum([len(p.height) for p in use])]).astype(np.int64)
    if not use:
        return Network(ends, start, np.empty((0, 2)), *(np.empty(0),) * 3, near, field)
    move, height = np.concatenate([p.move for p in use]), np.concatenate([p.height for p in use])
    noise = np.concatenate([p.error for p in use])
    return Network(ends, start, move, height, np.concatenate(errors), noise, near, field)


def _with_scatter(pair: PairPeaks, cell: Cell) -> Floats:
    """Error of each height: noise, and the scatter of the heights at lattice vectors round the highest."""
    off = pair.move - pair.move[0]
    index = off @ np.linalg.inv(cell.direct)
    whole = np.rint(index)
    on = (np.abs(index - whole).max(axis=1) < 0.2) & (np.abs(whole).max(axis=1) <= 2)
    on[0] = False  # were it special, it should not hide in its own scatter
    scatter = 0.01 * float(pair.height[0])
    if on.sum() >= 10:
        y, x = off[on].T / cell.shortest
        design = np.stack([np.ones_like(y), y, x, y * y, x * x, x * y], axis=1)
        rest = pair.height[on] - design @ np.linalg.lstsq(design, pair.height[on], rcond=None)[0]
        scatter = max(scatter, float(np.sqrt((rest**2).sum() / (on.sum() - 6))))
    return np.hypot(pair.error, scatter)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _support(network, field, offsets, group, steps, gain, variance, known):  # type: ignore[no-untyped-def]
    """Sum, for each step of the frames in `group`, how much higher the peaks are that agree with it.

    Step 0 is where they are. Pairs that would not overlap, now or after the step, say nothing.
    """
    ends, start, move, height, error, near = network
    ny, nx, reach_y, reach_x = field
    for p in range(ends.shape[0]):
        i, j = ends[p]
        if group[i] == group[j]:
            continue
        sign = 1.0 if group[j] else -1.0
        base_y, base_x = offsets[j, 0] - offsets[i, 0], offsets[j, 1] - offsets[i, 1]
        here, here_error = 0.0, 0.0
        for s in range(steps.shape[0]):
            y, x = base_y + sign * steps[s, 0], base_x + sign * steps[s, 1]
            overlap = max(ny - abs(y), 0.0) * max(nx - abs(x), 0.0)
            measured = abs(y) < reach_y and abs(x) < reach_x and overlap > LEAST_OVERLAP * ny * nx
            if not measured:
                if s == 0:
                    break
                continue
            best, spread = 0.0, error[start[p]]
            for n in range(start[p], start[p + 1]):
                if (move[n, 0] - y) ** 2 + (move[n, 1] - x) ** 2 <= near * near:
                    best, spread = height[n], error[n]
                    break  # peaks are sorted, highest first
            if s == 0:
                here, here_error = best, spread
            gain[s] += best - here
            variance[s] += spread * spread + here_error * here_error
            known[s] += 1


def _gain(
    network: Network, offsets: Floats, group: NDArray[np.bool_], steps: Floats
) -> tuple[Floats, Floats]:
    """Return how much more correlation each step has than no step: standard deviations, and mean height."""
    gain, variance, known = np.zeros(len(steps)), np.zeros(len(steps)), np.zeros(len(steps))
    table = (network.ends, network.start, network.move, network.height, network.error, network.near)
    _support(table, network.field, offsets, group, steps, gain, variance, known)
    # one pair of many that is left says little
    enough = known >= 0.5 * known[0]
    height = gain / np.maximum(known, 1)
    return np.where(enough, gain / np.sqrt(np.maximum(variance, 1e-12)), -np.inf), height


def _steps(network: Network, offsets: Floats, group: NDArray[np.bool_], most: int = 24) -> Floats:
    """Return the steps of a group that bring one pair onto one of its peaks, no step first."""
    steps = [np.zeros((1, 2))]
    for p in np.flatnonzero(group[network.ends[:, 0]] != group[network.ends[:, 1]]):
        i, j = network.ends[p]
        sign = 1.0 if group[j] else -1.0
        steps.append(sign * (network.move[network.peaks(p)][:most] - (offsets[j] - offsets[i])))
    return np.concatenate(steps)


def likely_steps(network: Network, offsets: Floats, group: NDArray[np.bool_], most: int) -> Floats:
    """Return no step, and up to `most` steps of a group to other places, the likeliest first.

    A correlation says more the larger the overlap; steps that leave too little of it are left out.
    """
    steps = _steps(network, offsets, group, _TRIED)
    share = np.prod(np.clip(1 - np.abs(steps) / np.array(network.field[:2]), 0, 1), axis=1)
    steps, share = steps[share >= _COMMON], share[share >= _COMMON]
    gain, height = _gain(network, offsets, group, steps)
    # heights are told as differences from the one here, which is about that of the highest peaks
    likely = share * (float(np.median(network.height[network.start[:-1]])) + height)
    left = np.flatnonzero(np.isfinite(gain) & (np.hypot(*steps.T) > network.near))
    left = left[np.argsort(-likely[left], kind="stable")]
    out = [np.zeros(2)]
    while len(left) and len(out) <= most:
        # of the pairs that see the same place, the one that sees it best
        out.append(steps[left[0]])
        left = left[np.hypot(*(steps[left] - steps[left[0]]).T) > network.near]
    return np.array(out)


def place_frames(network: Network, n: int, telling: float = _TELLING, *, settled: bool = True) -> Floats:
    """Return offsets (n, 2) px: a tree of the clearest pairs, then each frame to where most pairs want it.

    `telling` is the share of the height that a peak may lack to be equal to the highest; of equal peaks
    the smallest shift is taken. Unless `settled`, frames stay where the tree puts them.
    """
    choice = [_preferred(network, p, telling) for p in range(len(network.ends))]
    clear = [network.height[c] / network.error[c] for c in choice]
    offsets, placed = np.zeros((n, 2)), {0}
    while len(placed) < n:
        open_pairs = [p for p, (i, j) in enumerate(network.ends) if (i in placed) != (j in placed)]
        if not open_pairs:
            break
        p = max(open_pairs, key=lambda q: clear[q])
        i, j = network.ends[p]
        move = network.move[choice[p]]
        if i in placed:
            offsets[j] = offsets[i] + move
        else:
            offsets[i] = offsets[j] - move
        placed |= {int(i), int(j)}
    return _settle(network, offsets) if settled else least_squares(network, offsets)


def _settle(network: Network, offsets: Floats) -> Floats:
    """Move frames, and all frames after one, to where significantly more pairs agree; then least squares."""
    offsets = offsets.copy()
    for _ in range(_PASSES):
        moved = False
        for group in _frame_groups(len(offsets)):
            step = _best_step(network, offsets, group)
            if step is not None:
                offsets[group] += step
                moved = True
        if not moved:
            break
    return least_squares(network, offsets)


def weigh_by_scatter(network: Network, offsets: Floats, cell: Cell) -> Network:
    """Return the network with the errors of the heights round the true shifts taken from how pairs differ.

    All pairs show the same object: the height one or two lattice vectors away from the true shift, over
    that at the true shift, should be the same for all. How much it is not tells what distortion, borders
    and noise do. Peaks further off keep their errors.
    """
    inverse = np.linalg.inv(cell.direct)
    ratio = np.full((len(network.ends), 5, 5), np.nan)
    near = np.zeros(len(network.height), dtype=bool)
    for p, (i, j) in enumerate(network.ends):
        at = network.peaks(p)
        index = (network.move[at] - (offsets[j] - offsets[i])) @ inverse
        whole = np.rint(index).astype(int)
        near[at] = (np.abs(index - whole).max(axis=1) < 0.3) & (np.abs(whole).max(axis=1) <= 2)
        # lowest first, so that the highest stays
        for n in np.flatnonzero(near[at])[::-1]:
            ratio[(p, *(whole[n] + 2))] = network.height[at][n]
    good = np.isfinite(ratio[:, 2, 2])
    if good.sum() < 4:
        return network
    ratio = (ratio[good] / ratio[good][:, 2:3, 2:3]).reshape(good.sum(), 25)
    known = (np.isfinite(ratio).sum(axis=0) >= max(4, 0.6 * len(ratio))) & (np.arange(25) != 12)
    if not known.any():
        return network
    centre = np.nanmedian(ratio[:, known], axis=0)
    # a difference of two heights scatters by the root of two more than one of them
    scatter = 1.4826 * float(np.nanmedian(np.abs(ratio[:, known] - centre))) / math.sqrt(2)
    count = np.diff(network.start)
    highest = np.repeat(np.maximum.reduceat(network.height, network.start[:-1]), count)
    error = np.where(near, np.hypot(scatter * highest, network.noise), network.error)
    return replace(network, error=np.minimum(error, network.error))


def _frame_groups(n: int) -> list[NDArray[np.bool_]]:
    """Return what may have hopped together: single frames, and all frames after one."""
    number = np.arange(n)
    single = [number == k for k in range(n)]
    return single + [number >= k for k in range(2, n - 1)]


def _preferred(network: Network, pair: int, telling: float) -> int:
    """Return the smallest shift among the peaks that are as high as the highest."""
    at = network.peaks(pair)
    height, error = network.height[at], network.error[at]
    equal = height >= height[0] - np.maximum(_EQUAL * np.hypot(error, error[0]), telling * height[0])
    length = np.hypot(*network.move[at].T)
    return int(at.start + np.argmin(np.where(equal, length, np.inf)))


def _best_step(network: Network, offsets: Floats, group: NDArray[np.bool_]) -> Floats | None:
    """Return the step of a group to where significantly more pairs agree, None when it lies well."""
    steps = _steps(network, offsets, group)
    gain, height = _gain(network, offsets, group, steps)
    gain[height < _TELLING * network.height.max()] = -np.inf
    best = int(np.argmax(gain))
    return steps[best] if gain[best] > _BETTER else None


def least_squares(network: Network, offsets: Floats) -> Floats:
    """Return the offsets that fit best the peaks next to them, weighing down what does not close."""
    n = len(offsets)
    rows, moves, weights = [], [], []
    for p, (i, j) in enumerate(network.ends):
        at = network.peaks(p)
        off = np.hypot(*(network.move[at] - (offsets[j] - offsets[i])).T)
        best = int(np.argmin(off))
        if off[best] <= network.near:
            row = np.zeros(n)
            row[i], row[j] = -1, 1
            rows.append(row)
            moves.append(network.move[at][best])
            weights.append(network.height[at][best])
    if not rows:
        return offsets
    design, aim, weight = np.array(rows), np.array(moves), np.array(weights)
    solution = offsets
    for _ in range(4):
        rest = np.hypot(*(aim - design @ solution).T)
        scale = max(float(np.median(rest)), 0.05)
        robust = np.sqrt(weight / (1 + (rest / (3 * scale)) ** 2))[:, None]
        # frames that no pair reaches stay where they are
        step = np.linalg.lstsq(robust * design, robust * (aim - design @ solution), rcond=1e-9)[0]
        solution = solution + step
    return np.asarray(solution)


@dataclass(frozen=True)
class Content:
    """How clearly the content of the frames decides where they lie.

    Parameters
    ----------
    margin
        Least advantage, over all frames and all cuts of the series, of the place taken over the next
        best, standard deviations.
    weakest
        The frame, or the first frame after the cut, that is least certain.
    """

    margin: float
    weakest: int


def content_margin(network: Network, offsets: Floats) -> Content:
    """Compare the place of each frame, and of all frames after each, with the next best place."""
    least, weakest = np.inf, 0
    for group in _frame_groups(len(offsets)):
        steps = _steps(network, offsets, group)
        steps = steps[np.hypot(*steps.T) > 2 * network.near]
        steps = np.concatenate([np.zeros((1, 2)), steps])
        margin = -float(_gain(network, offsets, group, steps)[0][1:].max(initial=-_SURE))
        if margin < least:
            least, weakest = margin, int(np.flatnonzero(group)[0])
    return Content(float(least), weakest)
