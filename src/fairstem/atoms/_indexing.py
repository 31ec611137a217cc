"""Unit-cell indices by growing from neighbour to neighbour.

Each new column is predicted from the indexed columns around it, so slow scan distortion of several
pixels, drift and strain of some per cent do not break the count of cells, as a global fit would.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._translations import PARTNER_RADIUS, Pairs, no_lattice

__all__ = ["Indexing", "index_columns"]

Float = NDArray[np.float64]
Integer = NDArray[np.int_]

#: how many of the nearest columns predict a column
VOTERS = 24


@dataclass(frozen=True)
class Indexing:
    """Cell indices and site numbers of the columns.

    Parameters
    ----------
    cell
        (2, 2): rows a and b as (dy, dx), px.
    fraction
        (s, 2): fractional coordinates (along a, along b) of the sites.
    index
        (n, 2) cell indices (i, j); 0 where not indexed.
    site
        (n,) site numbers; -1 where not indexed.
    misfit
        (n,) distance to the position that the indexed neighbours predict, px; inf where not indexed.
    radius
        The largest misfit accepted, px.
    """

    cell: Float
    fraction: Float
    index: Integer
    site: Integer
    misfit: Float
    radius: float

    @property
    def indexed(self) -> NDArray[np.bool_]:
        """True where a column has indices."""
        return self.site >= 0

    @property
    def coordinates(self) -> Float:
        """(n, 2) ideal coordinates along a and b, in cells."""
        return self.index + self.fraction[self.site]

    @property
    def ideal(self) -> Float:
        """(n, 2) ideal positions from an arbitrary origin, px."""
        return self.coordinates @ self.cell


def index_columns(position: Float, pairs: Pairs, cell: Float, *, seeds: int = 6) -> Indexing:
    """Give every column of the largest grain its cell indices and its site.

    Parameters
    ----------
    position
        (n, 2) positions (y, x), px.
    pairs
        Their nearest pairs.
    cell
        (2, 2): rows a and b, px.
    seeds
        Number of starting points to try.

    Raises
    ------
    DataError
        No starting point grows into a region of at least eight columns.

    Notes
    -----
    Cost: O(n k) for k neighbours, in about as many numpy passes as the image is cells wide.
    """
    partners = _partners(pairs, cell)
    near = pairs.neighbour[:, : min(12, pairs.neighbour.shape[1])]
    quality = 0.5 * partners + 0.5 * partners[near].mean(axis=1)
    # among equals start at the centre, whatever the order of the rows
    away = np.linalg.norm(position - np.median(position, axis=0), axis=1)
    quality -= 1e-3 * away / max(float(away.max()), 1e-12)
    tried = np.zeros(len(position), dtype=bool)
    best: Indexing | None = None
    for _ in range(seeds):
        score = np.where(tried, -1.0, quality)
        seed = int(np.argmax(score))
        if score[seed] < 0.4 * 4:
            break
        grown = _grow(position, pairs, cell, seed, partners >= 2)
        tried[pairs.neighbour[seed, :8]] = True
        tried[seed] = True
        if grown is None:
            continue
        tried |= grown.indexed
        if best is None or grown.indexed.sum() > best.indexed.sum():
            best = grown
        if best.indexed.sum() > 0.5 * (quality >= 2).sum():
            break
    if best is None or best.indexed.sum() < 8:
        raise no_lattice("no region of eight columns follows one")
    return best


def _partners(pairs: Pairs, cell: Float) -> Float:
    """Count the partners of each column at ±a and ±b."""
    partners = np.zeros(len(pairs.neighbour))
    for vector in (cell[0], -cell[0], cell[1], -cell[1]):
        miss = (pairs.difference[..., 0] - vector[0]) ** 2 + (pairs.difference[..., 1] - vector[1]) ** 2
        partners += miss.min(axis=1) < (PARTNER_RADIUS * pairs.spacing) ** 2
    return partners


def _grow(
    position: Float, pairs: Pairs, cell: Float, seed: int, member: NDArray[np.bool_]
) -> Indexing | None:
    patch, cell = _patch(position, pairs, cell, seed)
    # columns of another grain, and false ones, have few partners: they must not make a site
    patch = patch[member[patch]] if member[patch].sum() >= 6 else patch
    relative = (position[patch] - position[seed]) @ np.linalg.inv(cell)
    fraction, radius = _sites(relative, cell, pairs.spacing)
    if len(fraction) == 0:
        return None
    index, site, misfit = _nearest_site(relative, fraction, cell)
    all_index = np.zeros((len(position), 2), dtype=int)
    all_site = np.full(len(position), -1)
    start = misfit < radius
    if start.sum() < 4:
        return None
    all_index[patch[start]], all_site[patch[start]] = index[start], site[start]
    state = Indexing(cell, fraction, all_index, all_site, np.where(all_site >= 0, 0, np.inf), radius)
    _sweep(pairs, state)
    return _revise(pairs, state)


def _patch(position: Float, pairs: Pairs, cell: Float, seed: int) -> tuple[NDArray[np.intp], Float]:
    """Return the columns within three cells of the seed, and the cell measured there."""
    distance = np.linalg.norm(position - position[seed], axis=1)
    reach = 3.2 * float(np.linalg.norm(cell, axis=1).max())
    patch = np.flatnonzero(distance < reach)
    local = []
    for vector in cell:
        difference = pairs.difference[patch].reshape(-1, 2)
        close = np.linalg.norm(difference - vector, axis=1) < PARTNER_RADIUS * pairs.spacing
        local.append(np.median(difference[close], axis=0) if close.sum() >= 5 else vector)
    return patch, np.array(local)


def _sites(relative: Float, cell: Float, spacing: float) -> tuple[Float, float]:
    """Cluster fractional coordinates on the torus: the sites, and how far a column may lie from one."""
    left = relative % 1.0
    reach = 0.4 * min(spacing, float(np.linalg.norm(cell, axis=1).min()))
    centres: list[Float] = []
    spread: list[Float] = []
    largest = 0
    while len(left):
        away = _torus_distance(left[:, None] - left[None, :], cell)
        centre = left[np.argmax((away < reach).sum(axis=1))]
        for _ in range(4):
            offset = left - centre
            offset -= np.rint(offset)
            member = np.linalg.norm(offset @ cell, axis=1) < reach
            centre = centre + np.mean(offset[member], axis=0) if member.any() else centre
        largest = max(largest, int(member.sum()))
        if member.sum() < max(2, 0.3 * largest):
            break
        centres.append(centre % 1.0)
        spread.append(np.abs((offset[member] - offset[member].mean(axis=0)) @ cell).ravel())
        left = left[np.linalg.norm(offset @ cell, axis=1) >= 1.25 * reach]
    fraction = np.array(centres).reshape(-1, 2)
    if len(fraction) == 0:
        return fraction, 0.0
    sigma = 1.4826 * float(np.median(np.concatenate(spread)))
    apart = _torus_distance(fraction[:, None] - fraction[None, :], cell)
    np.fill_diagonal(apart, np.linalg.norm(cell, axis=1).min())
    # room for noise and for strain between neighbours, never so much that two sites overlap
    room = 4 * sigma + 0.06 * float(np.linalg.norm(cell, axis=1).max())
    return fraction, float(np.clip(room, 0.2 * apart.min(), 0.42 * apart.min()))


def _torus_distance(offset: Float, cell: Float) -> Float:
    return np.asarray(np.linalg.norm((offset - np.rint(offset)) @ cell, axis=-1))


def _nearest_site(coordinates: Float, fraction: Float, cell: Float) -> tuple[Integer, Integer, Float]:
    """Return cell indices, site and distance of the site nearest to each coordinate (in cells)."""
    offset = coordinates[:, None, :] - fraction
    whole = np.rint(offset)
    distance = np.linalg.norm((offset - whole) @ cell, axis=-1)
    site = np.argmin(distance, axis=1)
    rows = np.arange(len(site))
    return whole[rows, site].astype(int), site, distance[rows, site]


def _sweep(pairs: Pairs, state: Indexing) -> None:
    """Index outwards until nothing more fits; fills `state` in place."""
    votes_needed = 3
    new = np.flatnonzero(state.indexed)
    waiting: set[int] = set()
    for _ in range(4 * len(state.site) + 10):
        frontier = np.unique(pairs.neighbour[new, :VOTERS])
        frontier = frontier[state.site[frontier] < 0]
        if len(frontier) == 0:
            if votes_needed == 1 or not waiting:
                break
            # isolated parts hang on by few neighbours: accept them last
            votes_needed -= 1
            frontier = np.array(sorted(waiting), dtype=np.intp)
            frontier = frontier[state.site[frontier] < 0]
            waiting.clear()
        coordinates, votes = predict_coordinates(pairs, state, frontier)
        index, site, misfit = _nearest_site(coordinates, state.fraction, state.cell)
        accept = (misfit < state.radius) & (votes >= votes_needed)
        waiting.update(frontier[~accept & (votes < votes_needed)].tolist())
        new = frontier[accept]
        state.index[new], state.site[new], state.misfit[new] = index[accept], site[accept], misfit[accept]


def predict_coordinates(pairs: Pairs, state: Indexing, rows: NDArray[np.intp]) -> tuple[Float, Integer]:
    """Return the coordinates of `rows`, in cells, as their indexed neighbours see them; and how many did."""
    neighbour = pairs.neighbour[rows, :VOTERS]
    distance = pairs.distance[rows, :VOTERS]
    reach = 1.6 * float(np.linalg.norm(state.cell, axis=1).max())
    near = (state.site[neighbour] >= 0) & (distance < reach)
    # a column beside nothing but its own duplicate has no say
    weight = near / np.maximum(distance, 0.5 * pairs.spacing) ** 2
    step = pairs.difference[rows, :VOTERS] @ np.linalg.inv(state.cell)
    seen = state.index[neighbour] + state.fraction[state.site[neighbour]] - step
    total = weight.sum(axis=1)
    mean = (weight[..., None] * seen).sum(axis=1) / np.maximum(total, 1e-300)[:, None]
    return mean, near.sum(axis=1)


def _revise(pairs: Pairs, state: Indexing) -> Indexing:
    """Drop columns whose neighbours now say otherwise, then let the rest grow again."""
    for _ in range(2):
        rows = np.flatnonzero(state.indexed)
        coordinates, votes = predict_coordinates(pairs, state, rows)
        index, site, misfit = _nearest_site(coordinates, state.fraction, state.cell)
        agrees = (index == state.index[rows]).all(axis=1) & (site == state.site[rows])
        agrees &= (misfit < state.radius) & (votes > 0)
        state.misfit[rows] = misfit
        wrong = rows[~agrees]
        if len(wrong) == 0:
            break
        state.site[wrong], state.index[wrong], state.misfit[wrong] = -1, 0, np.inf
        _sweep(pairs, state)
    return state
