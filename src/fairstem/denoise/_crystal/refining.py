"""Lattice vectors to a small fraction of a pixel: the sum of power at all harmonics is maximised."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Refined", "refine_reciprocal"]

Floats = NDArray[np.float64]

_BLOCKS = 24  # along the longer side, inside which phases turn by little
_MOST = 40  # harmonics
_VISIBLE = 9.0  # power of a harmonic over the noise that tells something
_SURE = 0.2  # cycles across the region: error of a harmonic that may be used
_HIGHEST = 0.45  # cycles per px
_STEPS = 12
_NEAR = 0.6  # cycles across the region: a harmonic has a maximum of its own that close


@dataclass(frozen=True)
class Refined:
    """Refined vectors.

    Parameters
    ----------
    reciprocal
        ``(2, 2)`` vectors as rows, (y, x) cycles per px.
    covariance
        ``(4, 4)`` of its values, row by row.
    """

    reciprocal: Floats
    covariance: Floats


def refine_reciprocal(
    rest: NDArray[np.float32], noise: float, g: Floats, covariance: Floats | None = None
) -> Refined:
    """Maximise the power at ``h g1 + k g2``, harmonics of higher orders joining as they become sure.

    Prior: the crystal repeats itself across the region up to a slow deformation; amplitudes and phases of
    the harmonics are free, and the noise is white, which makes the sum of powers the logarithm of the likelihood.

    Parameters
    ----------
    rest
        Windowed region without its background.
    noise
        Expected power of the noise at any frequency.
    g
        ``(2, 2)`` start.
    covariance
        ``(2, 2)`` of the start, the same for y and x. None: a fifth of a cycle across the region.

    Returns
    -------
    Refined
        The covariance comes from how parts of the region disagree, deformation included.

    Notes
    -----
    Cost: ``O(pixels * harmonics)`` three times, as matrix products.
    """
    size = float(max(rest.shape))
    start = g.copy()
    start_error = np.eye(2) * (0.15 / size) ** 2 if covariance is None else covariance
    known = spread = np.asarray(np.kron(start_error, np.eye(2)), dtype=np.float64)
    for _ in range(4):
        index = _harmonics(g, known, size)
        blocks, at, inside = _demodulate(rest, index @ g)
        total = np.abs(blocks.sum(axis=(1, 2))) ** 2
        use = np.flatnonzero((total > _VISIBLE * noise) & _single(blocks, at, size))
        # the strongest say most, and high orders more than low ones
        worth = total * (index**2).sum(axis=1)
        use = use[np.argsort(-worth[use], kind="stable")][:_MOST]
        if np.linalg.matrix_rank(index[use]) < 2 if len(use) else True:
            use = np.argsort(-total, kind="stable")[: max(4, len(use))]
        step, spread = _ascend(blocks[use], index[use], at, inside[:, use], size)
        g = g + step
        known = spread if np.trace(spread) < np.trace(known) else known
        if math.sqrt(float((step**2).max())) * size < 1e-4 and len(index) < 200:
            break
    if float(np.abs(g - start).max()) * size > 1.5:  # ran away: what was found coarsely is surer
        g = start
    return Refined(g, spread)


def _harmonics(g: Floats, covariance: Floats, size: float) -> Floats:
    """Return ``(n, 2)`` orders, a half plane, whose frequency is known well enough."""
    reach = [min(int(_HIGHEST * np.hypot(*row)) + 1, 12) for row in np.linalg.inv(g).T]
    h, k = np.meshgrid(np.arange(0, reach[0] + 1), np.arange(-reach[1], reach[1] + 1), indexing="ij")
    index = np.stack([h.ravel(), k.ravel()], axis=1)
    index = index[(index[:, 0] > 0) | (index[:, 1] > 0)].astype(np.float64)
    lever = np.einsum("ni,nj,iajb->nab", index, index, covariance.reshape(2, 2, 2, 2))
    error = np.sqrt(np.maximum(np.trace(lever, axis1=1, axis2=2), 0)) * size
    inside = np.abs(index @ g).max(axis=1) < _HIGHEST
    low = np.abs(index).sum(axis=1) <= 1
    index = index[inside & (low | (error < _SURE))]
    return np.asarray(index[np.argsort((index**2).sum(axis=1), kind="stable")][:80])


def _demodulate(
    rest: NDArray[np.float32], frequency: Floats
) -> tuple[NDArray[np.complex128], tuple[Floats, Floats], NDArray[np.complex128]]:
    """Return ``(n, by, bx)`` sums of each block times each wave, the places of the blocks from the middle, and moments.

    The moments ``(2, n)`` along y and x are those about the middles of the blocks: what a block holds is not
    centred in it, and the lattice would be off by a thousandth without them.
    """
    ny, nx = rest.shape
    side = max(1, math.ceil(max(ny, nx) / _BLOCKS))
    y, x = np.arange(ny) - (ny - 1) / 2, np.arange(nx) - (nx - 1) / 2
    wave_y = np.exp(-2j * np.pi * np.outer(frequency[:, 0], y)).astype(np.complex64)
    wave_x = np.exp(-2j * np.pi * np.outer(frequency[:, 1], x)).astype(np.complex64)
    starts_y, starts_x = np.arange(0, ny, side), np.arange(0, nx, side)
    out = np.empty((len(frequency), len(starts_y), len(starts_x)), dtype=np.complex128)
    moment = np.zeros((2, len(frequency)), dtype=np.complex128)
    for b, i in enumerate(starts_x):
        wave = wave_x[:, i : i + side]
        part = np.ascontiguousarray(rest[:, i : i + side])
        lines = (part @ wave.real.T + 1j * (part @ wave.imag.T)).T * wave_y
        out[:, :, b] = np.add.reduceat(lines, starts_y, axis=1)
        moment[0] += lines @ y
        levered = wave * (x[i : i + side]).astype(np.float32)
        moment[1] += ((part @ levered.real.T + 1j * (part @ levered.imag.T)).T * wave_y).sum(axis=1)
    places = [
        np.array([line[i : i + side].mean() for i in starts])
        for line, starts in ((y, starts_y), (x, starts_x))
    ]
    moment[0] -= out.sum(axis=2) @ places[0]
    moment[1] -= out.sum(axis=1) @ places[1]
    return out, (places[0], places[1]), moment


def _single(blocks: NDArray[np.complex128], at: tuple[Floats, Floats], size: float) -> NDArray[np.bool_]:
    """Return which harmonics have a maximum of their own close by.

    Where another crystal or a border shines over there is a slope instead, which would pull the lattice away.
    """
    s = blocks.sum(axis=(1, 2))
    rows, columns = blocks.sum(axis=2), blocks.sum(axis=1)
    lever = -2j * np.pi
    first = lever * np.stack([rows @ at[0], columns @ at[1]])
    mixed = np.einsum("nyx,y,x->n", blocks, at[0], at[1], optimize=True)
    second = lever**2 * np.array([[rows @ at[0] ** 2, mixed], [mixed, columns @ at[1] ** 2]])
    slope = 2 * (s.conj() * first).real.T
    bend = 2 * (first.conj()[:, None] * first[None] + s.conj() * second).real.transpose(2, 0, 1)
    values, axes = np.linalg.eigh(bend)
    hollow = values.max(axis=1) >= -1e-12 * np.abs(values).max(axis=1)
    safe = np.where(hollow[:, None], -np.inf, values)
    move = np.einsum("nij,nj->ni", axes, np.einsum("nij,ni->nj", axes, slope) / -safe)
    return np.asarray(~hollow & (np.hypot(*move.T) * size < _NEAR))


def _ascend(
    blocks: NDArray[np.complex128],
    index: Floats,
    at: tuple[Floats, Floats],
    inside: NDArray[np.complex128],
    size: float,
) -> tuple[Floats, Floats]:
    """Return the step ``(2, 2)`` to the maximum of the sum of powers, and its covariance ``(4, 4)``."""
    step = np.zeros((2, 2))
    best, slope, bend, _ = _derivatives(blocks, index, at, inside, step)
    damping = 1e-6
    for _ in range(_STEPS):
        curve = -bend
        values, axes = np.linalg.eigh(curve)
        # away from the maximum the curvature may have the wrong sign: still uphill, never far
        sound = np.maximum(np.abs(values), 1e-9 * float(np.abs(values).max()) + 1e-300) * (1 + damping)
        move = (axes @ ((axes.T @ slope) / sound)).reshape(2, 2)
        move *= min(1.0, 0.3 / size / max(float(np.abs(move).max()), 1e-300))
        trial = step + move
        value, new_slope, new_bend, _ = _derivatives(blocks, index, at, inside, trial)
        if value < best:
            damping = max(10 * damping, 1.0)
            if damping > 1e4:
                break
            continue
        step, best, slope, bend, damping = trial, value, new_slope, new_bend, damping / 10
        if float(np.abs(move).max()) * size < 1e-6:
            break
    _, _, bend, parts = _derivatives(blocks, index, at, inside, step)
    inverse = np.linalg.pinv(-bend, rcond=1e-9, hermitian=True)
    return step, inverse @ (parts.T @ parts) @ inverse


def _derivatives(
    blocks: NDArray[np.complex128],
    index: Floats,
    at: tuple[Floats, Floats],
    inside: NDArray[np.complex128],
    step: Floats,
) -> tuple[float, Floats, Floats, Floats]:
    """Return the sum of powers, its gradient (4), Hessian (4, 4), and the gradient's parts ``(n, 4)`` of regions."""
    move = index @ step
    turn_y = np.exp(-2j * np.pi * np.outer(move[:, 0], at[0]))
    turn_x = np.exp(-2j * np.pi * np.outer(move[:, 1], at[1]))
    turned = blocks * turn_y[:, :, None] * turn_x[:, None, :]
    lever = -2j * np.pi
    s = turned.sum(axis=(1, 2)) + lever * (move.T * inside).sum(axis=0)
    rows, columns = turned.sum(axis=2), turned.sum(axis=1)
    first = lever * (np.stack([rows @ at[0], columns @ at[1]]) + inside)  # (axis, harmonic)
    mixed = np.einsum("nyx,y,x->n", turned, at[0], at[1], optimize=True)
    second = lever**2 * np.array([[rows @ at[0] ** 2, mixed], [mixed, columns @ at[1] ** 2]])
    slope = np.einsum("ni,an->ia", index, 2 * (s.conj() * first).real)
    inner = 2 * (first.conj()[:, None] * first[None] + s.conj() * second).real
    bend = np.einsum("ni,nj,abn->iajb", index, index, inner, optimize=True)
    # each part of the region pulls on the maximum; where all agree the pulls are noise
    pull = 2 * (s.conj()[:, None, None] * lever * turned).real
    pulls = []
    for axis, line in enumerate((at[0][:, None], at[1][None, :])):
        centred = (
            pull * line
            - 2
            * ((s.conj() * first[axis]).real / (np.abs(s) ** 2 + 1e-300))[:, None, None]
            * (s.conj()[:, None, None] * turned).real
        )
        pulls.append(np.einsum("ni,nyx->iyx", index, centred))
    parts = np.stack(pulls, axis=1)  # (vector, axis, y, x)
    parts = np.add.reduceat(
        np.add.reduceat(parts, np.arange(0, parts.shape[2], 3), 2), np.arange(0, parts.shape[3], 3), 3
    )
    return float((np.abs(s) ** 2).sum()), slope.ravel(), bend.reshape(4, 4), parts.reshape(4, -1).T
