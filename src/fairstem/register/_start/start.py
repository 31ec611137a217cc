"""Where the frames of a series lie, before any fine registration: safe against hops by a unit cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.register._series.frames import Frames
from fairstem.register._series.motion import RowMotion, turn_matrix
from fairstem.register._start.blocks import prefer_places
from fairstem.register._start.cell import Cell
from fairstem.register._start.copies import Copies, make_copies
from fairstem.register._start.drift import Drift, follow_drift
from fairstem.register._start.pairs import PairPeaks, SmallFrame, correlate_pair
from fairstem.register._start.polish import polish
from fairstem.register._start.solve import (
    Content,
    build_network,
    content_margin,
    least_squares,
    place_frames,
    plan_pairs,
    weigh_by_scatter,
)

__all__ = ["Start", "find_start"]

Floats = NDArray[np.float64]
_CLEAR = 5.0  # standard deviations: the content of the frames decides
_DEFORMED = 0.5  # of the height of a peak: what deformation of a frame may cost
_EXCLUDED = 4.0  # standard deviations: hops are excluded
_CHANCE = 1e-5  # of finding a peak as high between two frames that have nothing in common
_STEADY = 0.9  # share of rows with known phase: rows are given
_RELATED = 0.3  # correlation: lower is no evidence, where there are too few independent values to test
_FAR_BELOW = 0.5  # of the others' score


@dataclass(frozen=True)
class Start:
    """Where each frame lies, to a fraction of a pixel or so.

    Parameters
    ----------
    offsets
        ``(K, 2)`` px along the axes of the scan: pixel (y, x) of frame k shows the common scene at
        ``(y, x) + offsets[k] + ramps[k] * (y - (ny - 1) / 2) / ny``, which is then turned with the frame
        about its middle (`RowMotion`). Their mean over the frames in use is zero; 0 for the others.
    ramps
        ``(K, 2)`` px per frame height; their mean over the frames in use is zero where a lattice gave them.
    rows
        ``(K, 2, ny)`` px, the whole displacement of each row, offset and ramp included, smooth over half
        a unit cell; None where no lattice gives it.
    scores
        ``(K,)`` normalised correlation of each frame with the mean of the others; NaN for blank frames.
    strangers
        Numbers of the frames that don't show the same object.
    cell
        The lattice in px, None without.
    hop
        Are hops by a unit cell excluded, and by what?
    """

    offsets: Floats
    ramps: Floats
    rows: Floats | None
    scores: Floats
    strangers: tuple[int, ...]
    cell: Cell | None
    hop: PriorCheck

    def displacement(self, ny: int) -> Floats:
        """Return ``(K, 2, ny)`` px: the displacement of each row, as `RowMotion` takes it."""
        if self.rows is not None:
            return self.rows
        y = (np.arange(ny) - (ny - 1) / 2) / ny
        return self.offsets[:, :, None] + self.ramps[:, :, None] * y


def find_start(frames: Frames, *, angles_deg: Floats | None = None, max_shift: float | None = None) -> Start:
    """Find where the frames of a series lie, without hopping by a unit cell.

    Prior: the frames show one object. Where it is a lattice, correlations of frames have many nearly
    equal peaks. If one is significantly higher, the content decides. If not, drift does: frames follow
    one another, so that the specimen drifts on between frames as it does within them, and drift within
    a frame deforms it; the mean drift is the smallest that fits. If neither decides, the smallest shifts
    are taken, and `Start.hop` says so.

    Parameters
    ----------
    frames
        The series.
    angles_deg
        ``(K,)`` rotation of each scan, turning +x towards +y. Default: none.
    max_shift
        Largest shift between two frames in px. Default: 0.7 of the field. Set it when you know it: the
        fewer places a frame may have, the surer the choice.

    Returns
    -------
    Start
        Offsets, ramps, rows, and what they stand on.

    Raises
    ------
    DataError
        No two frames show the same object, or angles don't fit the series.

    Notes
    -----
    Masked normalised cross-correlation (D. Padfield, DOI 10.1109/TIP.2011.2181402) of some three pairs a
    frame, on copies averaged in blocks as long as no signal is lost. Cost: one transform a frame and one
    a pair; memory: the copies, at most 512 px a side.

    Examples
    --------
    >>> from fairstem import simulate
    >>> from fairstem.register._series.frames import open_series
    >>> p = simulate.phantom("p1", seed=1, frames=4)
    >>> start = find_start(open_series(p.data))
    >>> start.offsets.shape, start.hop.holds
    ((4, 2), True)
    """
    angles = _checked_angles(angles_deg, frames.n)
    copies = make_copies(frames, angles, max_shift)
    pairs = _correlate(copies, plan_pairs(range(len(copies.numbers))))
    members, pairs = _members(copies, pairs)
    offsets, hop = _choose(copies, pairs, members, upright=not angles.any())
    return _finish(frames, copies, angles, members, offsets, hop)


def _checked_angles(angles_deg: Floats | None, n: int) -> Floats:
    angles = np.zeros(n) if angles_deg is None else np.asarray(angles_deg, dtype=np.float64)
    if angles.shape != (n,) or not np.isfinite(angles).all():
        raise DataError(f"angles of shape {angles.shape} for {n} frames", needed="one finite angle a frame")
    return angles


def _correlate(copies: Copies, plan: Sequence[tuple[int, int]]) -> list[PairPeaks]:
    return [correlate_pair((copies.frames[i], copies.frames[j]), (i, j), copies.reach) for i, j in plan]


def _members(copies: Copies, pairs: list[PairPeaks]) -> tuple[list[int], list[PairPeaks]]:
    """Return the positions of the frames that show the same object, and all pairs measured."""
    n = len(copies.numbers)
    locked = copies.present
    link = np.outer(locked, locked)
    spectra = [_mean_power(f) for f in copies.frames]
    for p in pairs:
        link[p.first, p.second] |= _related(p, copies, spectra)
    main = _largest(link | link.T)
    if len(main) < n:
        # a stranger between them may have cut the series: try the others with more of the main part
        extra = [(min(i, j), max(i, j)) for i in range(n) if i not in main for j in _spread(main, i, 4)]
        known = {(p.first, p.second) for p in pairs}
        more = _correlate(copies, sorted(set(extra) - known))
        for p in more:
            link[p.first, p.second] |= _related(p, copies, spectra)
        pairs, main = pairs + more, _largest(link | link.T)
    best = np.array([max((p.height[0] for p in pairs if k in (p.first, p.second) and len(p.height)), default=0.0)
                     for k in range(n)])  # fmt: skip
    if len(main) < 2:
        if np.median(best) < _RELATED:
            raise DataError(
                f"no two of {n} frames show the same object (highest correlation {best.max():.2f})",
                needed="frames of one object that overlap",
                todo="check the order of the axes, (frame, y, x), and that the frames belong together",
            )
        return list(range(n)), pairs
    # broad blobs give few independent values: not significant alone, but no worse than the rest
    usual = float(np.median(best[main]))
    return [k for k in range(n) if k in main or best[k] >= max(_FAR_BELOW * usual, _RELATED)], pairs


def _spread(main: Sequence[int], around: int, most: int) -> list[int]:
    return sorted(main, key=lambda k: abs(k - around))[:most]


def _mean_power(frame: SmallFrame) -> Floats:
    """Power spectrum whose sum is 1, both halves counted."""
    power = np.abs(frame.spectrum).astype(np.float64) ** 2
    power[:, 1:] *= 2
    return np.asarray(power / max(float(power.sum()), np.finfo(np.float64).tiny))


def _related(pair: PairPeaks, copies: Copies, spectra: list[Floats]) -> bool:
    """Is the highest peak higher than two unrelated frames with these spectra would give?

    Bartlett: the correlation of independent images has variance sum(rho_a rho_b) / pixels.
    """
    if not len(pair.height):
        return False
    a, b = spectra[pair.first], spectra[pair.second]
    half = np.full(a.shape[1], 2.0)
    half[0] = 1.0
    both = copies.frames[pair.first].padded
    variance = float((a * b / half).sum()) * both[0] * both[1] / copies.frames[0].values.size
    if variance <= 0:
        return False  # one of the two has no content
    # fewer pixels in the overlap: the error of the height says how many
    pixels = ((1 - pair.height**2) / pair.error) ** 2
    share = np.clip(pixels / copies.frames[0].values.size, 0.01, 1.0)
    z = float((pair.height * np.sqrt(share / variance)).max())
    places = max(4.0 / variance, 1.0)
    return bool(places * np.exp(-0.5 * z * z) / 2 < _CHANCE)


def _largest(link: NDArray[np.bool_]) -> list[int]:
    """Return the largest connected set of frames, sorted."""
    best: list[int] = []
    left = set(range(len(link)))
    while left:
        part: set[int] = set()
        edge = {min(left)}
        while edge:
            k = edge.pop()
            part.add(k)
            edge |= {int(j) for j in np.flatnonzero(link[k])} - part
        left -= part
        if len(part) > len(best):
            best = sorted(part)
    return best


def _choose(
    copies: Copies, pairs: list[PairPeaks], members: list[int], *, upright: bool
) -> tuple[Floats, PriorCheck]:
    """Return offsets of the members, px of the copies along the axes of the object, and the hop test."""
    cell = None if copies.cell is None else copies.cell.scaled(1 / copies.block)
    network = build_network(pairs, members, cell, copies.frames[0].values.shape, copies.reach)
    n = len(members)
    if not len(network.height):
        raise DataError(
            "no two frames of the series have enough measured pixels in common to be compared",
            needed="frames that overlap by a tenth or more",
            todo="check max_shift, and whether most pixels are NaN",
        )
    offsets = place_frames(network, n)
    content = content_margin(network, offsets)
    if content.margin >= _CLEAR or cell is None:
        return offsets, _hop_check(copies, members, content, None)
    drift = None
    if copies.locks is not None and copies.present[members].all() and upright:
        ramps = np.array([copies.locks[m].ramp for m in members]) / copies.block
        numbers = np.array([copies.numbers[m] for m in members])
        drift = follow_drift(offsets, ramps, numbers, cell)
        drift = None if np.isnan(drift.margin) else drift
    if drift is not None:
        first = least_squares(network, drift.offsets)
    else:
        first = place_frames(network, n, _DEFORMED, settled=False)
        content = content_margin(weigh_by_scatter(network, first, cell), first)
    # a frame that jumped follows no drift: what it shows says where it is
    found = prefer_places([copies.frames[m] for m in members], network, first, cell)
    prior = content.margin if drift is None else drift.margin
    # what did not move stands on the prior; what moved, on its content
    moved = np.where(found.moved, found.margins, np.inf)
    weakest = int(np.argmin(moved))
    if moved[weakest] < prior:
        content, drift = Content(float(moved[weakest]), weakest), None
    return found.offsets, _hop_check(copies, members, content, drift)


def _hop_check(copies: Copies, members: list[int], content: Content, drift: Drift | None) -> PriorCheck:
    name, assumption = "unit-cell-hops", "no frame is placed a lattice vector away from where it belongs"
    if copies.cell is None:
        assumption = "each frame has one place only"
    if drift is not None:
        frame = copies.numbers[members[drift.weakest]]
        meaning = (
            "distance of the next best lattice vector from what the drift within the frames predicts, "
            "standard deviations"
        )
        advice = (
            f"the shift after frame {frame} or the mean drift may be wrong by a unit cell: give max_shift, "
            "record faster frames, or a field with an edge or a defect"
        )
        return PriorCheck(name, assumption, drift.margin, _EXCLUDED, ">=", meaning, advice)
    meaning = (
        "advantage of the place taken over the next best, from the content of the frames, standard deviations"
    )
    frame = copies.numbers[members[content.weakest]]
    advice = (
        f"frame {frame} fits elsewhere as well, the smallest shift was taken: give max_shift, "
        "or record more frames one after another, or a field with an edge or a defect"
    )
    return PriorCheck(name, assumption, content.margin, _EXCLUDED, ">=", meaning, advice)


def _finish(
    frames: Frames,
    copies: Copies,
    angles: Floats,
    members: list[int],
    placed: Floats,
    hop: PriorCheck,
) -> Start:
    """Bring offsets to the axes of the scans and px of the frames; measure ramps and scores."""
    n, ny = frames.n, frames.shape[0]
    offsets, ramps, scores = np.zeros((n, 2)), np.zeros((n, 2)), np.full(n, np.nan)
    numbers = np.array([copies.numbers[m] for m in members])
    for m, place in zip(numbers, placed * copies.block, strict=True):
        offsets[m] = np.linalg.inv(turn_matrix(angles[m])) @ place
    rows = None
    if copies.locks is not None and copies.present[members].all():
        for m in members:
            ramps[copies.numbers[m]] = copies.locks[m].ramp
        if all(copies.locks[m].steady >= _STEADY for m in members):
            rows = np.zeros((n, 2, ny))
            for m in members:
                rows[copies.numbers[m]] = copies.locks[m].rows
    start = RowMotion(_whole(offsets, ramps, rows, ny), frames.shape, angles)
    change, scores[list(copies.numbers)] = polish(copies, start, members, free=rows is None)
    offsets[numbers] += change[numbers, 0]
    ramps[numbers] += change[numbers, 1]
    if not angles.any():
        offsets[numbers] -= offsets[numbers].mean(axis=0)
    whole = None if rows is None else _whole(offsets, ramps, rows, ny)
    strangers = tuple(k for i, k in enumerate(copies.numbers) if i not in members)
    return Start(offsets, ramps, whole, scores, strangers, copies.cell, hop)


def _whole(offsets: Floats, ramps: Floats, rows: Floats | None, ny: int) -> Floats:
    if rows is not None:
        return rows + offsets[:, :, None]
    y = (np.arange(ny) - (ny - 1) / 2) / ny
    return offsets[:, :, None] + ramps[:, :, None] * y
