"""Two reciprocal vectors that index reflections, and the odds that chance would do as well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import gammaln

from fairstem.denoise._crystal.spectrum import Reflections, Spectrum
from fairstem.denoise._crystal.superstructure import finer_lattice

__all__ = ["Indexed", "index_reflections", "reduced"]

Floats = NDArray[np.float64]

# lengths here are in resolution elements
_OFF = 0.4  # a reflection this far from where it should be is still indexed,
_PLACED = 0.15  # error of a place, slow deformation included
_STRETCH = 0.012  # and this share of its frequency further: strained crystals
_SHORTEST = 1.25  # reciprocal vector: about three cells in view
_LONG = 10.0  # ratio of the two vectors
_BASES = 14  # reflections that are tried in pairs
_COMBINED = 7  # of which sums and differences are tried too
_COMPARABLE = 0.25  # of the height of the weaker of the two
_LENGTHS = 10  # independent choices of how many reflections are looked at
_TRIED = 24  # bases that are fitted


@dataclass(frozen=True)
class Indexed:
    """A basis and how well it indexes.

    Parameters
    ----------
    reciprocal
        ``(2, 2)`` vectors as rows, (y, x) cycles per px, Gauss-reduced.
    odds
        Decimal logarithm of the odds that reflections fall on a lattice as these do not by chance.
    weaker
        Height over background of the weaker of the two strongest independent reflections.
    share
        Share that is indexed of all reflections about as high as that, or higher.
    covariance
        ``(2, 2)`` of the vectors, the same for y and x, (cycles per px)².
    """

    reciprocal: Floats
    odds: float
    weaker: float
    share: float
    covariance: Floats


def reduced(vectors: NDArray[np.floating[Any]]) -> Floats:
    """Return the two shortest vectors that span the same lattice (Gauss), the shorter first."""
    a, b = np.asarray(vectors, dtype=np.float64)
    for _ in range(64):
        if a @ a > b @ b:
            a, b = b, a
        times = round(float(a @ b / (a @ a)))
        if times == 0:
            break
        b = b - times * a
    return np.stack([a, b])


def index_reflections(found: Reflections, spectrum: Spectrum) -> Indexed | None:
    """Return the basis that indexes most, with the largest reciprocal cell.

    Each indexed reflection counts with the logarithm of what chance would index, so that a cell that is
    larger than needed, which has more places for reflections, counts less.

    Parameters
    ----------
    found
        Reflections, the highest first.
    spectrum
        Where they were found.

    Returns
    -------
    Indexed or None
        None without two independent reflections.

    Notes
    -----
    Cost: ``O(candidates² * reflections)``, about 5 ms.
    """
    element = spectrum.element
    place = found.place / element
    strength = 1.0 + np.log(found.height / spectrum.threshold)
    if len(place) < 2:
        return None
    bases = _bases(place)
    if not len(bases):
        return None
    score = np.array([_score(g, place, strength) for g in bases])
    best, basis = -math.inf, bases[0]
    for n in np.argsort(-score, kind="stable")[:_TRIED]:
        fitted = _fit(bases[n], place, strength)
        value = _score(fitted, place, strength)
        if value > best + 1e-9:
            best, basis = value, fitted
    basis = _with_superstructure(basis, spectrum, place, strength)
    weaker = _weaker(basis, place, found.height)
    # in the order of the reduced vectors; the fit above may have left them unreduced
    vectors = reduced(basis * element)
    index, hit, _ = _match(vectors / element, place)
    normal = index[hit].T @ index[hit]
    sure = np.linalg.matrix_rank(normal) == 2
    covariance = (_PLACED * element.max()) ** 2 * (np.linalg.inv(normal) if sure else np.eye(2))
    high = found.height >= _COMPARABLE * weaker
    share = float(_match(basis, place)[1][high].mean())
    return Indexed(vectors, _log_odds(basis, place), weaker, share, covariance)


def _bases(place: Floats) -> Floats:
    """Return ``(n, 2, 2)`` reduced bases from pairs of reflections, their sums and differences."""
    first = place[:_BASES]
    some = place[:_COMBINED]
    i, j = np.triu_indices(len(some), 1)
    vectors = np.concatenate([first, some[i] + some[j], some[i] - some[j]])
    i, j = np.triu_indices(len(vectors), 1)
    keep = i < len(first)
    a, b = vectors[i[keep]], vectors[j[keep]]
    cross = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    # the area of the cell is the same in any basis: only what may be a cell is reduced
    usable = cross > _SHORTEST**2 * 0.86
    out = [reduced(np.stack(pair)) for pair in zip(a[usable], b[usable], strict=True)]
    kept = [g for g in out if _sound(g)]
    return np.array(kept).reshape(-1, 2, 2)


def _sound(g: Floats) -> bool:
    short, long = np.hypot(*g.T)
    return bool(short >= _SHORTEST and long <= _LONG * short)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _match(g: Floats, place: Floats) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Return indices of each reflection, whether it is indexed, and the chance that it would be."""
    det = g[0, 0] * g[1, 1] - g[0, 1] * g[1, 0]
    n = len(place)
    index, hit, chance = np.zeros((n, 2)), np.zeros(n, dtype=np.bool_), np.ones(n)
    for k in range(n):
        y, x = place[k, 0], place[k, 1]
        h = np.rint((y * g[1, 1] - x * g[1, 0]) / det)
        m = np.rint((x * g[0, 0] - y * g[0, 1]) / det)
        dy = y - h * g[0, 0] - m * g[1, 0]
        dx = x - h * g[0, 1] - m * g[1, 1]
        off = _OFF + _STRETCH * math.sqrt(y * y + x * x)
        index[k, 0], index[k, 1] = h, m
        hit[k] = dy * dy + dx * dx <= off * off and (h != 0 or m != 0)
        chance[k] = min(math.pi * off * off / abs(det), 1.0)
    return index, hit, chance


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _score(g: Floats, place: Floats, strength: Floats) -> float:
    hit, chance = _match(g, place)[1:]
    total = 0.0
    for k in range(len(place)):
        if hit[k]:
            total -= strength[k] * math.log(chance[k])
    return total


def _fit(g: Floats, place: Floats, strength: Floats) -> Floats:
    """Fit a basis to the reflections it indexes, the low orders first."""
    for reach in (1, 2, 4, 99):
        index, hit, _ = _match(g, place)
        use = hit & (np.abs(index).max(axis=1) <= reach)
        if use.sum() < 2 or np.linalg.matrix_rank(index[use]) < 2:
            continue
        root = np.sqrt(strength[use])[:, None]
        g = np.linalg.lstsq(index[use] * root, place[use] * root, rcond=None)[0]
    return np.asarray(g)


def _with_superstructure(g: Floats, spectrum: Spectrum, place: Floats, strength: Floats) -> Floats:
    """Return the basis, finer where the spectrum shows a superstructure."""
    for _ in range(2):
        hit = _match(g, place)[1]
        cut = float(np.hypot(*(place[hit] * spectrum.element).T).max(initial=0.0))
        finer = finer_lattice(g * spectrum.element, spectrum, cut)
        if finer is None or not _sound(reduced(finer / spectrum.element)):
            break
        g = _fit(reduced(finer / spectrum.element), place, strength)
    return g


def _weaker(g: Floats, place: Floats, height: Floats) -> float:
    """Return the height of the highest indexed reflection not in line with the highest."""
    index, hit, _ = _match(g, place)
    index, height = index[hit], height[hit]
    if not len(index):
        return 0.0
    order = np.argsort(-height, kind="stable")
    first = index[order[0]]
    for n in order[1:]:
        if abs(first[0] * index[n, 1] - first[1] * index[n, 0]) > 0.5:
            return float(height[n])
    return 0.0


def _log_odds(g: Floats, place: Floats) -> float:
    """Return how unlikely chance is.

    Two reflections are always indexed by themselves, the others each by the chance of the cell's area: minus the
    logarithm of the number of random pairs that would index as many. The highest reflections are taken, as
    many as speak for the lattice most clearly: faint ones may lie on streaks.
    """
    _, hit, chance = _match(g, place)
    best = 0.0
    for n in range(3, len(place) + 1):
        m = int(hit[:n].sum())
        if m < 3:
            continue
        rate = float(np.mean(chance[:n][hit[:n]]))
        pairs = gammaln(n + 1) - gammaln(n - 1) - math.log(2)
        log_tail = float(stats.binom.logsf(m - 3, n - 2, rate))
        odds = -(pairs + log_tail) / math.log(10) - math.log10(min(len(place) - 2, _LENGTHS))
        best = max(best, odds)
    return best
