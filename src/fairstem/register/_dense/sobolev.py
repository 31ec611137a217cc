"""Regularisers of a displacement field as weights of its cosine modes, and the Sobolev-preconditioned solver.

On nodes that are evenly spread over a frame the regulariser λ·½∫|Du|² (free edges) is diagonal in the
cosine transform: mode (m, n) costs λ k² with k its angular frequency. Its inverse, shifted by the mean
curvature of the data term, is the Sobolev gradient of Berkels et al.; here it is the preconditioner of
conjugate gradients, which then need about ten steps whatever the size of the frame.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from fairstem.register._dense.kernels import Lines, apply_stencil

__all__ = ["Spectrum", "dirichlet_precision", "from_modes", "solve", "to_modes"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_START_DENSITY = 2.0  # px², times 1/k²: a third of a pixel rms in each octave
_LEAST_EVIDENCE = 1.0  # modes' worth of trust in what was believed before
_STRIDE = 8.0
_LEAST_SHARE = 1e-4
_FALL = 4.0  # of the density from an octave that was seen to the next that was not


def to_modes(field: Floats) -> Floats:
    """Cosine transform of node values (2, my, mx), orthonormal."""
    return np.asarray(dctn(field, type=2, norm="ortho", axes=(1, 2)))


def from_modes(modes: Floats) -> Floats:
    """Node values from their cosine transform."""
    return np.asarray(idctn(modes, type=2, norm="ortho", axes=(1, 2)))


def dirichlet_precision(weight: float, rows: Lines, cols: Lines) -> Floats:
    """Return ``(2, my, mx)``: q such that ½ Σ q û² = weight · ½ Σ_pixels |Du|²."""
    parts = [
        (2 - 2 * np.cos(math.pi * np.arange(axis.n_nodes) / axis.n_nodes)) / axis.spacing**2
        for axis in (rows, cols)
    ]
    squared = parts[0][:, None] + parts[1][None]
    return np.broadcast_to(
        weight * rows.spacing * cols.spacing * squared, (2, rows.n_nodes, cols.n_nodes)
    ).copy()


def solve(stencil: Floats, precision: Floats, force: Floats, tolerance: float, most: int) -> Floats:
    """Solve (H + Q) x = force for the modes x (2, my, mx) by preconditioned conjugate gradients."""
    node_count = precision[0].size
    whole = stencil.sum(axis=(2, 3))
    # row sums: smooth fields see the couplings as well
    mean = (whole[0] + 2 * whole[1:].sum(axis=0))[[0, 2]]
    mean = np.maximum(mean / node_count, 1e-12 * max(float(mean.max()), 1e-300))
    inverse = 1.0 / (precision + mean[:, None, None])
    x = np.zeros_like(force)
    residual = force.copy()
    z = inverse * residual
    direction = z.copy()
    rz = float((residual * z).sum())
    stop = tolerance**2 * rz
    applied = np.empty_like(force)
    count = 0
    while count < most and rz > stop and rz > 0:
        apply_stencil(stencil, from_modes(direction), applied)
        along = to_modes(applied) + precision * direction
        step = rz / float((direction * along).sum())
        x += step * direction
        residual -= step * along
        z = inverse * residual
        rz, last = float((residual * z).sum()), rz
        direction = z + rz / last * direction
        count += 1
    return x


def _octave(count: int) -> Ints:
    """Band of each mode: 0 the mean, then octaves 1, 2-3, 4-7, ..."""
    mode = np.arange(count)
    return np.where(mode == 0, 0, 1 + np.floor(np.log2(np.maximum(mode, 1)))).astype(np.int64)


class Spectrum:
    """How large the displacements are, by octaves of frequency along y and along x, learned from the frames.

    Prior: a displacement is a Gaussian field whose spectral density is constant within an octave of both
    frequencies; the densities are those that make the recorded frames most likely (the evidence
    updates of MacKay, pooled over frames). A drift or a jitter that is constant along rows shows as
    density in the modes without variation along x, a smooth warp in the low octaves of both.

    Parameters
    ----------
    shape
        Frame in px.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.bands = tuple(int(_octave(n)[-1]) + 1 for n in shape)
        lowest = [np.array([0.0] + [1.5 * 2.0 ** (b - 1) for b in range(1, n)]) for n in self.bands]
        k2_y, k2_x = ((math.pi * m / n) ** 2 for m, n in zip(lowest, shape, strict=True))
        k2 = k2_y[:, None] + k2_x[None]
        k2[0, 0] = 1.0  # the mean is free; the number is never read
        self.modes = np.full(self.bands, 1)  # behind the densities
        self.density: Floats = np.broadcast_to(_START_DENSITY / k2, (2, *self.bands)).copy()

    def _bands_of(self, rows: Lines, cols: Lines) -> tuple[Ints, Ints]:
        by, bx = _octave(rows.n_nodes), _octave(cols.n_nodes)
        return np.minimum(by, self.bands[0] - 1), np.minimum(bx, self.bands[1] - 1)

    def precision(self, rows: Lines, cols: Lines, binning: int) -> Floats:
        """Return ``(2, my, mx)``: the inverse prior variance of each mode on a grid in binned pixels."""
        by, bx = self._bands_of(rows, cols)
        density = self.density[:, by[:, None], bx[None]] / binning**4
        q = rows.spacing * cols.spacing / density
        q[:, 0, 0] = 0.0
        return np.asarray(q)

    def learn(
        self, fields: list[Floats], curvature: list[Floats], rows: Lines, cols: Lines, binning: int
    ) -> None:
        """Update the densities from the estimated modes of all frames and what the data say of each.

        Parameters
        ----------
        fields
            Modes ``(2, my, mx)`` of each frame.
        curvature
            ``(2, n)`` for each frame: curvature of the data term per node, at n typical places.
        rows, cols, binning
            Grid.
        """
        by, bx = self._bands_of(rows, cols)
        q = self.precision(rows, cols, binning)
        n = len(fields)
        # the gauge takes the displacement of one frame away
        power = np.sum([f**2 for f in fields], axis=0) * (n / max(n - 1, 1))
        known = np.zeros_like(q)
        for places in curvature:
            for h in places.T:
                known += h[:, None, None] / (h[:, None, None] + q + 1e-300) / places.shape[1]
        band = by[:, None] * self.bands[1] + bx[None]
        area = rows.spacing * cols.spacing * binning**4
        for c in range(2):
            size = self.bands[0] * self.bands[1]
            found: Floats = np.asarray(
                np.bincount(band.ravel(), power[c].ravel() * area, size).reshape(self.bands), dtype=np.float64
            )
            known_here: Floats = np.asarray(
                np.bincount(band.ravel(), known[c].ravel(), size).reshape(self.bands), dtype=np.float64
            )
            modes = n * np.bincount(band.ravel(), minlength=size).reshape(self.bands)
            self.density[c] = _evidence_step(self.density[c], found, known_here, modes)
            self.modes = modes
        self._extend(int(by[-1]), int(bx[-1]))

    def _extend(self, last_y: int, last_x: int) -> None:
        """Octaves that the grid does not resolve: as the last that it does, falling."""
        for b in range(last_y + 1, self.bands[0]):
            self.density[:, b] = self.density[:, b - 1] / _FALL
        for b in range(last_x + 1, self.bands[1]):
            self.density[:, :, b] = self.density[:, :, b - 1] / _FALL

    def finest(self, information: Floats, lost: float = 0.05) -> tuple[float, float]:
        """Return the shortest wavelengths (y, x) in px that are worth resolving.

        `information` is the curvature of the data term per pixel and component. Without the octaves left out,
        at most the fraction `lost` of what the data say of the fields is lost, along each axis.
        """
        ratio = self.density * information[:, None, None]
        ratio[:, 0, 0] = 0.0
        said = (self.modes * ratio / (1 + ratio)).sum()
        gain = (self.modes * ratio**2 / (1 + ratio)).sum(axis=0)
        wave = []
        for axis in range(2):
            tail = np.cumsum(gain.sum(axis=1 - axis)[::-1])[::-1]
            wanted = np.flatnonzero(tail > lost * said)
            top = int(wanted[-1]) if wanted.size else 1
            wave.append(2 * self.shape[axis] / 2.0**top)
        return wave[0], wave[1]


def _evidence_step(
    density: Floats, found: NDArray[np.floating], known: NDArray[np.floating], modes: Ints
) -> Floats:
    """Return the most likely densities of the bands.

    Where a share γ = known / modes of a band is determined by the data, the estimated modes have the mean
    square γ ((1 - γ) S + γ S0) with S the density they were estimated with and S0 the true one.
    """
    share = known / np.maximum(modes, 1)
    new = (found / np.maximum(known, 1e-12) - (1 - share) * density) / np.maximum(share, 1e-12)
    # far from the solution the relation is only a direction
    new = np.clip(new, density / _STRIDE, density * _STRIDE)
    new = np.where(share > _LEAST_SHARE, new, density)
    return np.asarray((modes * new + _LEAST_EVIDENCE * density) / (modes + _LEAST_EVIDENCE))
