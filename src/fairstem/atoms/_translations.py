"""Which two translations repeat a set of points: clusters of pair differences, scored jointly.

The differences between neighbouring columns pile up at lattice translations and at differences
between sites of the cell (a Patterson map). A translation is real when almost every column has a
partner there; a difference between two sites is found by the columns of one site only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import ConvexHull, QhullError, cKDTree

from fairstem.errors import DataError

__all__ = ["Pairs", "canonical_cell", "find_translations", "nearest_pairs"]

Float = NDArray[np.float64]

#: how far a partner may lie from the translated position, in nearest-neighbour distances
PARTNER_RADIUS = 0.35
#: a translation must reach this share of the best pair's score
SHARE_OF_BEST = 0.8
#: translations are looked for among this many columns, drawn at random from larger tables
MANY = 5000


@dataclass(frozen=True)
class Pairs:
    """The nearest columns of every column.

    Parameters
    ----------
    neighbour
        (n, k) row numbers, nearest first.
    difference
        (n, k, 2) position of the neighbour minus position of the column, px.
    distance
        (n, k) distances, px.
    spacing
        Median distance to the nearest column, px.
    """

    neighbour: NDArray[np.intp]
    difference: Float
    distance: Float
    spacing: float


def nearest_pairs(position: Float, k: int = 60) -> Pairs:
    """Return the `k` nearest columns of every column (fewer where there are fewer).

    Raises
    ------
    DataError
        Columns lie on top of each other.
    """
    k = min(k, len(position) - 1)
    distance, neighbour = cKDTree(position).query(position, k + 1)
    # a column is its own nearest; with coincident columns it need not come first
    own = neighbour == np.arange(len(position))[:, None]
    own[~own.any(axis=1), -1] = True
    neighbour = neighbour[~own].reshape(-1, k)
    distance = distance[~own].reshape(-1, k)
    spacing = float(np.median(distance[:, 0]))
    if spacing <= 0:
        raise DataError(
            "more than half of the columns lie on top of another one",
            needed="one row a column",
            todo="drop repeated rows",
        )
    return Pairs(neighbour, position[neighbour] - position[:, None, :], distance, spacing)


def find_translations(
    position: Float, pairs: Pairs, *, share_of_best: float = SHARE_OF_BEST
) -> list[tuple[Float, float]]:
    """Find the pairs of translations that repeat the columns, smallest cell first.

    Parameters
    ----------
    position
        (n, 2) positions (y, x), px.
    pairs
        Their nearest pairs.
    share_of_best
        A translation must reach this share of the best score. Lower it for several grains, where the
        coincidence lattice of two grains can score higher than the lattice of either.

    Returns
    -------
    list of (cell, score)
        cell: (2, 2), rows a and b as (dy, dx), px, canonical (`canonical_cell`). score: share of the
        columns with partners at both translations, among those where both are expected. With many
        columns the first is the answer; with few, counting error leaves more than one to be tried.

    Raises
    ------
    DataError
        No two independent translations repeat the columns.
    """
    rows = np.arange(len(position))
    if len(rows) > MANY:
        rows = np.sort(np.random.default_rng(0).choice(len(rows), MANY, replace=False))
    peaks, owner = _patterson_peaks(pairs, rows)
    if len(peaks) < 2:
        raise no_lattice("their pair differences do not pile up anywhere")
    joint, expected = _joint_scores(position, rows, pairs.spacing, peaks, owner)
    n = len(position)
    area = np.abs(peaks[:, None, 0] * peaks[None, :, 1] - peaks[:, None, 1] * peaks[None, :, 0])
    length = np.linalg.norm(peaks, axis=1)
    # the cell of a reduced pair is at least sin(60°) of its shorter vector squared; leave room for error
    usable = (expected >= max(6, 0.2 * n)) & (area > 0.5 * np.minimum(length[:, None], length[None, :]) ** 2)
    if not usable.any():
        raise no_lattice("no two independent translations have enough columns to test them")
    # few columns test long translations: compare scores within their counting error
    error = 0.7 * np.sqrt(np.clip(joint * (1 - joint), 0.05, None) / np.maximum(expected, 1))
    best = float((joint - error)[usable].max())
    good = usable & (joint + error >= share_of_best * best)
    total = length[:, None] + length[None, :]
    found: list[tuple[Float, float]] = []
    # in a small table chance makes small cells score well; the right one may stand further down
    while good.any() and len(found) < (12 if n < 600 else 6):
        least = float(area[good].min())
        group = good & (area <= 1.15 * least)
        first, second = np.unravel_index(int(np.argmin(np.where(group, total, np.inf))), total.shape)
        found.append((canonical_cell(peaks[[first, second]])[0], float(joint[first, second])))
        good &= ~group
    return found


def no_lattice(why: str) -> DataError:
    """Return the error for columns without a lattice."""
    return DataError(
        f"the columns show no lattice: {why}",
        needed="columns of one crystal, at least a few unit cells wide, most of them found",
        todo="check the columns on the image; select one grain; an amorphous area has no lattice",
    )


def _patterson_peaks(pairs: Pairs, rows: NDArray[np.intp]) -> tuple[Float, NDArray[np.intp]]:
    """Return the peaks of the map of pair differences and, for each pair, its peak (or -1)."""
    step = pairs.spacing / 8
    reach = float(np.median(pairs.distance[:, -1])) + 4 * step
    half = int(np.ceil(reach / step))
    size = 2 * half + 1
    # spacing can be tiny beside the reach when many columns are doubled; keep the map small
    if size > 1500:
        raise no_lattice("their distances span too wide a range")
    difference = pairs.difference[rows]
    cell = np.rint(difference / step).astype(np.intp) + half
    inside = ((cell >= 0) & (cell < size)).all(axis=-1)
    flat = np.where(inside, cell[..., 0] * size + cell[..., 1], 0)
    counts = np.bincount(flat[inside], minlength=size * size).reshape(size, size).astype(float)
    smooth = gaussian_filter(counts, 1.2, mode="constant")
    maxima = (smooth == maximum_filter(smooth, size=5, mode="constant")) & (smooth > 0)
    where = np.argwhere(maxima)
    order = np.argsort(-smooth[maxima], kind="stable")[:160]
    peaks = (where[order] - half) * step
    peaks = peaks[np.linalg.norm(peaks, axis=1) > 0.4 * pairs.spacing]
    if len(peaks) == 0:
        return peaks, np.full(difference.shape[:2], -1)
    grid = (np.indices((size, size)).reshape(2, -1).T - half) * step
    owner = np.full(flat.shape, -1)
    for _ in range(3):
        # the owner of a pair is looked up by map cell: exact enough, and fast for a million pairs
        nearest = cKDTree(peaks).query(grid)[1]
        owner = np.where(inside, nearest[flat], -1)
        close = np.linalg.norm(difference - peaks[owner], axis=-1) < PARTNER_RADIUS * pairs.spacing
        owner = np.where(close, owner, -1)
        kept = owner >= 0
        number = np.bincount(owner[kept], minlength=len(peaks))
        near = difference[kept]
        sums = [np.bincount(owner[kept], near[:, axis], len(peaks)) for axis in (0, 1)]
        filled = number > 0
        peaks = np.where(filled[:, None], np.column_stack(sums) / np.maximum(number, 1)[:, None], peaks)
    return np.asarray(peaks, dtype=float), np.asarray(owner, dtype=np.intp)


def _joint_scores(
    position: Float, rows: NDArray[np.intp], spacing: float, peaks: Float, owner: NDArray[np.intp]
) -> tuple[Float, Float]:
    """Return, for each two peaks, the share of columns with partners at both, and how many were expected."""
    n = len(position)
    # t and -t are the same translation: keep the first of the two
    opposite = np.linalg.norm(peaks[:, None] + peaks[None, :], axis=-1)
    first = np.argmin(opposite, axis=1)
    half = ~((first < np.arange(len(peaks))) & (opposite.min(axis=1) < PARTNER_RADIUS * spacing))
    has = np.zeros((len(rows), len(peaks) + 1), dtype=np.float32)
    has[np.arange(len(rows))[:, None], owner] = 1
    has = has[:, :-1] * half
    try:
        hull = ConvexHull(position).equations
    except QhullError as error:
        raise no_lattice("they lie on one line") from error
    margin = position[rows] @ hull[:, :2].T + hull[:, 2]
    shift = peaks @ hull[:, :2].T
    expected = np.empty_like(has)
    for number, step in enumerate(shift):
        expected[:, number] = ((margin + step) < 0.05 * spacing).all(axis=1)
    has *= expected
    both_expected = (expected.T @ expected).astype(float) * (n / len(rows))
    both_present = (has.T @ has).astype(float) * (n / len(rows))
    return both_present / np.maximum(both_expected, 1), both_expected


def canonical_cell(cell: Float, tolerance: float = 0.01) -> tuple[Float, NDArray[np.int_]]:
    """Return the Gauss-reduced, right-handed cell of the lattice, and how to get it from `cell`.

    Of all cells whose summed lengths agree within `tolerance` (a square, a rhombus and a hexagonal
    lattice have several) those with |a| ≤ |b| (within `tolerance`) are kept; of these the one with the
    widest angle up to 120°, then the one whose a points most along +x. Right-handed: turning from a to
    b goes from +x towards +y.

    Parameters
    ----------
    cell
        (2, 2): rows a and b as (dy, dx).
    tolerance
        Relative difference of lengths that counts as equal.

    Returns
    -------
    reduced
        (2, 2): rows a and b.
    matrix
        (2, 2) integers with ``reduced = matrix @ cell`` and determinant ±1.

    Examples
    --------
    >>> reduced, matrix = canonical_cell(np.array([[0.0, 1.0], [1.0, 5.0]]))
    >>> reduced.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    matrix = np.eye(2, dtype=int)
    a, b = np.asarray(cell, dtype=float)
    for _ in range(200):
        if a @ a > b @ b:
            a, b, matrix = b, a, matrix[::-1]
        shift = int(np.rint((a @ b) / (a @ a)))
        if shift == 0:
            break
        b = b - shift * a
        matrix = np.array([matrix[0], matrix[1] - shift * matrix[0]])
    reduced = np.array([a, b])
    short = np.array([[1, 0], [0, 1], [1, 1], [1, -1]])
    short = np.vstack([short, -short])
    vectors = short @ reduced
    length = np.linalg.norm(vectors, axis=1)
    choices = []
    for one in range(8):
        for two in range(8):
            turn = vectors[one, 1] * vectors[two, 0] - vectors[one, 0] * vectors[two, 1]
            determinant = short[one, 0] * short[two, 1] - short[one, 1] * short[two, 0]
            if abs(determinant) == 1 and turn > 0:
                choices.append((float(length[one] + length[two]), one, two))
    least = min(choices)[0]
    best = max(
        ((one, two) for total, one, two in choices if total <= (1 + tolerance) * least),
        key=lambda pair: _preference(vectors[pair[0]], vectors[pair[1]], tolerance),
    )
    change = short[list(best)]
    return change @ reduced, change @ matrix


def _preference(a: Float, b: Float, tolerance: float) -> tuple[int, float, float]:
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    angle = float(np.degrees(np.arccos(np.clip(a @ b / (lengths[0] * lengths[1]), -1, 1))))
    ordered = int(lengths[0] <= (1 + tolerance) * lengths[1])
    # half a tie: an angle rounded to 10° keeps noise from choosing between equivalent cells
    return ordered, float(np.rint(angle / 10)), float(a[1] / lengths[0])
