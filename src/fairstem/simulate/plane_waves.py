"""Multislice of one cell for many incident plane waves: the beams' intensities at every thickness."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.linalg
from numpy.typing import NDArray

from fairstem.compute import track
from fairstem.errors import DataError
from fairstem.signals.electrons import wavelength_nm
from fairstem.simulate.potentials import Layer, complex_phase, layers, sampled_phase
from fairstem.simulate.structures import Structure

__all__ = ["Directions", "PlaneWaves", "band_limit_mrad", "beams", "directions", "plane_waves"]


@dataclass(frozen=True)
class Directions:
    """Incident directions on a grid, and which of them are independent by symmetry.

    Parameters
    ----------
    steps
        Number of steps (y, x) between neighbouring reflections.
    step_mrad
        The step (y, x) in mrad.
    half
        The grid runs from -half to +half steps (y, x).
    unique
        Independent directions (y, x) in steps, ``(n, 2)``.
    which
        ``(k_y, k_x)``: the independent direction that stands for each point of the grid; -1 outside the circle.
    operation
        ``(k_y, k_x)``: the operation that takes the independent direction there.
    operations
        The operations' matrices for (y, x), ``(m, 2, 2)``.
    """

    steps: tuple[int, int]
    step_mrad: tuple[float, float]
    half: tuple[int, int]
    unique: NDArray[np.int64]
    which: NDArray[np.int32]
    operation: NDArray[np.int8]
    operations: NDArray[np.int64]


@dataclass(frozen=True)
class PlaneWaves:
    """Beams' intensities for every independent direction and thickness.

    Parameters
    ----------
    directions
        The incident directions.
    reflections
        Indices (y, x) of the beams, ``(g, 2)``.
    slot
        ``(n, g)``: where the beam's values lie; -1 where they aren't kept.
    thickness_nm
        Thicknesses in nm, ``(t,)``, rising from 0.
    amplitude
        ``(t, slots)``: the beam's amplitude times 65535.
    elastic
        ``(t, n)``: the fraction of the beam that is still elastic and inside the largest angle of multislice.
    """

    directions: Directions
    reflections: NDArray[np.int64]
    slot: NDArray[np.int32]
    thickness_nm: NDArray[np.float64]
    amplitude: NDArray[np.uint16]
    elastic: NDArray[np.float32]


def directions(structure: Structure, energy_kev: float, max_mrad: float, step_mrad: float) -> Directions:
    """Return the incident directions up to `max_mrad`, a whole number of steps between reflections.

    Parameters
    ----------
    structure
        The crystal; its point group across the beam says which directions are independent.
    energy_kev
        Energy in keV.
    max_mrad
        Largest angle from the zone axis in mrad.
    step_mrad
        Step wanted, in mrad; the nearest that divides the reflections' distance is taken, along y and x.
    """
    a, b, _ = structure.cell_nm
    apart = np.array([1e3 * wavelength_nm(energy_kev) / edge for edge in (b, a)])
    steps = np.maximum(1, np.rint(apart / step_mrad)).astype(int)
    step = apart / steps
    half = np.ceil(max_mrad / step).astype(int)
    # (x, y) matrices to (y, x); the diagonal ones need the same step along both
    group = np.array([m[::-1, ::-1] for m in structure.point_group() if steps[0] == steps[1] or m[0, 0] != 0])
    iy, ix = np.mgrid[-half[0] : half[0] + 1, -half[1] : half[1] + 1]
    inside = np.hypot(iy * step[0], ix * step[1]) <= max_mrad + 1e-9
    points = np.stack([iy[inside], ix[inside]], axis=1)
    images = points @ np.swapaxes(group, 1, 2)  # (m, n, 2)
    # of equivalent ones that whose place between the reflections comes last: few places are left then, and all
    # directions of one place are propagated by the same matrix
    size = 2 * int(half.max()) + 1
    within = (images + steps // 2) % steps
    own = (images[..., 0] + half.max()) * size + images[..., 1] + half.max()
    codes = (within[..., 0] * steps[1] + within[..., 1]) * size**2 + own
    first = np.argmax(codes, axis=0)  # the operation that takes each point to its representative
    representatives, which = np.unique(codes.max(axis=0), return_inverse=True)
    representatives %= size**2
    unique = np.stack([representatives // size, representatives % size], axis=1) - half.max()
    inverse = np.array([np.flatnonzero((group @ m == np.eye(2)).all(axis=(1, 2)))[0] for m in group])
    grids = np.full(inside.shape, -1, dtype=np.int32), np.zeros(inside.shape, dtype=np.int8)
    grids[0][inside], grids[1][inside] = which, inverse[first]
    return Directions(
        (int(steps[0]), int(steps[1])),
        (float(step[0]), float(step[1])),
        (int(half[0]), int(half[1])),
        unique,
        grids[0],
        grids[1],
        group,
    )


def beams(structure: Structure, energy_kev: float, max_mrad: float) -> NDArray[np.int64]:
    """Return the indices (y, x) of all reflections up to `max_mrad`, ``(g, 2)``, closed under the symmetry."""
    a, b, _ = structure.cell_nm
    apart = np.array([1e3 * wavelength_nm(energy_kev) / edge for edge in (b, a)])
    half = np.floor(max_mrad / apart + 1e-9).astype(int)
    gy, gx = np.mgrid[-half[0] : half[0] + 1, -half[1] : half[1] + 1]
    inside = np.hypot(gy * apart[0], gx * apart[1]) <= max_mrad + 1e-9
    return np.stack([gy[inside], gx[inside]], axis=1).astype(np.int64)


def plane_waves(
    structure: Structure,
    energy_kev: float,
    incident: Directions,
    *,
    max_thickness_nm: float,
    thickness_step_nm: float,
    keep_mrad: float,
    scatter_mrad: float,
    thermal: bool = True,
    max_extent_nm: float = 0.1,
    gpts: tuple[int, int] | None = None,
) -> PlaneWaves:
    """Propagate a plane wave for every independent direction through one cell, again and again.

    The wave holds the beams within `scatter_mrad`. A layer mixes them by the exponential of the matrix of its phase
    between them, so that no electrons are lost to beams that are left out; free flight is paraxial (Fresnel).
    Directions that differ by a reflection share the matrix of a cell.

    Parameters
    ----------
    structure, energy_kev
        The crystal and the energy in keV.
    incident
        From `directions`.
    max_thickness_nm, thickness_step_nm
        Thicknesses are kept at whole cells (or layers, for long cells) about this far apart, from 0 to past the
        largest.
    keep_mrad
        Beams up to this angle from the zone axis are kept.
    scatter_mrad
        Beams up to this angle are propagated.
    thermal
        The thermal mean; False is the lattice at rest.
    max_extent_nm
        See `potentials.layers`.
    gpts
        Points (y, x) along the cell: the potential is sampled there, and transmission and wave are limited to 2/3 of
        what they can hold, as FFT multislice does. For the lattice at rest; `scatter_mrad` is then unused.

    Notes
    -----
    Cost, with n beams: 8 n³ (layers + 5) operations for each direction between the reflections, and about 4 n² for each
    direction and recorded thickness.
    """
    step = np.array(incident.step_mrad)
    places = incident.unique * step
    reflections = beams(structure, energy_kev, keep_mrad + float(np.hypot(*places.T).max()))
    kept = (
        np.hypot(*np.moveaxis(places[:, None] + reflections[None] * (step * incident.steps), 2, 0))
        <= keep_mrad
    )
    slot = np.full(kept.shape, -1, dtype=np.int32)
    slot[kept] = np.arange(kept.sum(), dtype=np.int32)
    stack = layers(structure, max_extent_nm)
    if gpts is None:
        active = beams(structure, energy_kev, scatter_mrad)
        mixing = [_mixing(complex_phase(structure, layer, energy_kev, thermal), active) for layer in stack]
        limit = None
    else:
        limit = _BandLimit(band_limit_mrad(structure, energy_kev, gpts))
        active = beams(structure, energy_kev, limit.cutoff + float(np.hypot(*(step * incident.steps))))
        mixing = [_sampled(structure, layer, energy_kev, thermal, gpts, limit, active) for layer in stack]
    gaps = tuple(layer.gap_nm for layer in stack)
    schedule = _schedule(structure, gaps, max_thickness_nm, thickness_step_nm)
    amplitude = np.zeros((schedule.thickness_nm.size, int(kept.sum())), dtype=np.uint16)
    elastic = np.zeros((schedule.thickness_nm.size, len(places)), dtype=np.float32)
    engine = _Engine(active, mixing, gaps, 1e3 * wavelength_nm(energy_kev), step * incident.steps, limit)
    groups = list(_groups(incident))
    for group, inside, orders in track(groups, len(groups), "propagating"):
        seen = kept[group].any(axis=0)
        # beam G of the direction inside + order is the beam order + G of the cell
        numbers = engine.numbers(orders[:, None] + reflections[seen][None])
        numbers[~kept[group][:, seen]] = -1
        rows, columns = np.nonzero(numbers >= 0)
        targets = slot[group][:, seen][rows, columns]
        outgoing, position = np.unique(numbers[rows, columns], return_inverse=True)
        waves = engine.run(inside * step, engine.numbers(orders), outgoing, schedule)
        for at, (values, total) in enumerate(waves):
            amplitude[at, targets] = values[rows, position]
            elastic[at, group] = total
    return PlaneWaves(incident, reflections, slot, schedule.thickness_nm, amplitude, elastic)


@dataclass(frozen=True)
class _Schedule:
    """When beams are kept: after the layers `inner` of every cell, or the last one of every `every` cells."""

    thickness_nm: NDArray[np.float64]
    inner: tuple[int, ...]
    every: int


def _schedule(structure: Structure, gaps: tuple[float, ...], largest: float, step: float) -> _Schedule:
    depth, ends = structure.cell_nm[2], np.cumsum(gaps)
    parts = max(1, round(depth / step))
    inner = sorted({int(np.argmin(np.abs(ends - depth * k / parts))) for k in range(1, parts + 1)})
    every = max(1, round(step / depth))
    count = max(5, int(np.ceil(largest / (every * depth) - 1e-9)) + 1)
    starts = depth * every * np.arange(count)[:, None] + depth * (every - 1)
    thickness = np.concatenate([[0.0], (starts + ends[inner][None]).ravel()])
    return _Schedule(thickness, tuple(inner), every)


def _groups(
    incident: Directions,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the directions that differ by reflections: their indices, their common place, their orders."""
    steps = np.array(incident.steps)
    inside = (incident.unique + steps // 2) % steps - steps // 2
    orders = (incident.unique - inside) // steps
    places, number = np.unique(inside, axis=0, return_inverse=True)
    number = number.ravel()
    for i, place in enumerate(places):
        group = np.flatnonzero(number == i)
        yield group, place, orders[group]


def _mixing(phase: NDArray[np.complex128], active: NDArray[np.int64]) -> NDArray[np.complex64]:
    """Return the matrix of a layer that a row of beams is multiplied with: (from, to) depends on to - from."""
    coefficients = scipy.fft.fft2(phase) / phase.size
    gap = active[None] - active[:, None]
    return np.asarray(scipy.linalg.expm(1j * coefficients[gap[..., 0], gap[..., 1]]), dtype=np.complex64)


def band_limit_mrad(structure: Structure, energy_kev: float, gpts: tuple[int, int]) -> float:
    """Return the largest angle in mrad that a grid of `gpts` points (y, x) over the cell holds along both axes."""
    per_nm = min(n / (2 * edge) for n, edge in zip(gpts, structure.cell_nm[1::-1], strict=True))
    return 1e3 * wavelength_nm(energy_kev) * per_nm


@dataclass(frozen=True)
class _BandLimit:
    """The aperture of FFT multislice: 2/3 of the largest angle, with a soft border."""

    largest_mrad: float

    @property
    def cutoff(self) -> float:
        return self.largest_mrad * 2 / 3

    def __call__(self, squares: NDArray[np.float64]) -> NDArray[np.float64]:
        taper = 0.02 * self.largest_mrad
        inner = np.clip((np.sqrt(squares) - self.cutoff + taper) / taper, 0, 1)
        return np.asarray(0.5 * (1 + np.cos(np.pi * inner)))


def _sampled(
    structure: Structure,
    layer: Layer,
    energy_kev: float,
    thermal: bool,
    gpts: tuple[int, int],
    limit: _BandLimit,
    active: NDArray[np.int64],
) -> NDArray[np.complex64]:
    """As `_mixing` for a potential on a coarse grid, whose transmission is limited."""
    if thermal:
        raise DataError(
            "gpts with thermal=True", needed="thermal=False, the lattice at rest, to compare grids"
        )
    coefficients = scipy.fft.fft2(np.exp(1j * sampled_phase(structure, layer, energy_kev, gpts)))
    coefficients /= coefficients.size
    gap = active[None] - active[:, None]
    apart = np.array([1e3 * wavelength_nm(energy_kev) / edge for edge in structure.cell_nm[1::-1]])
    inside = limit(((gap * apart) ** 2).sum(axis=2))
    return np.asarray(coefficients[gap[..., 0] % gpts[0], gap[..., 1] % gpts[1]] * inside, dtype=np.complex64)


class _Engine:
    """Propagates all directions of one place between the reflections."""

    def __init__(
        self,
        active: NDArray[np.int64],
        mixing: list[NDArray[np.complex64]],
        gaps: tuple[float, ...],
        wavelength: float,
        apart: NDArray[np.float64],
        limit: _BandLimit | None,
    ) -> None:
        self.active, self.mixing, self.gaps, self.wavelength = active, mixing, gaps, wavelength
        self.apart, self.limit = apart, limit
        self.reach = int(np.abs(active).max())
        self.table = np.full((2 * self.reach + 3,) * 2, -1)  # a border of -1 around the beams
        self.table[tuple((active + self.reach + 1).T)] = np.arange(len(active))

    def numbers(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the beams ``(..., 2)``; -1 for those that aren't propagated."""
        place = np.clip(indices + self.reach + 1, 0, 2 * self.reach + 2)
        return np.asarray(self.table[place[..., 0], place[..., 1]])

    def run(
        self,
        place: NDArray[np.float64],
        incoming: NDArray[np.int64],
        outgoing: NDArray[np.int64],
        schedule: _Schedule,
    ) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.float32]]]:
        """Yield (65535 amplitudes of the outgoing beams, elastic fraction) of every thickness."""
        squares = ((place + self.active * self.apart) ** 2).sum(axis=1)
        cell, parts = np.eye(len(self.active), dtype=np.complex64), []
        for layer, (matrix, gap) in enumerate(zip(self.mixing, self.gaps, strict=True)):
            flight = np.exp(-1j * np.pi * gap / self.wavelength * squares * 1e-3)
            flight = (flight if self.limit is None else flight * self.limit(squares)).astype(np.complex64)
            cell = (cell @ matrix if layer else matrix) * flight
            if layer in schedule.inner:
                parts.append(cell)
        wave = np.zeros((len(incoming), len(self.active)), dtype=np.complex64)
        wave[np.arange(len(incoming)), incoming] = 1
        yield _measured(wave[:, outgoing], wave)
        before = np.linalg.matrix_power(cell, schedule.every - 1)
        advance = before @ cell
        block = _block(len(self.active), len(outgoing) * len(parts))
        # the outgoing beams after 1, 2, ... records, from the wave at the start of the block
        first = np.concatenate([(before @ part)[:, outgoing] for part in parts], axis=1)
        records = [first]
        for _ in range(block - 1):
            records.append(advance @ records[-1])
        sight = np.concatenate(records, axis=1)
        jump = np.linalg.matrix_power(advance, block)
        count = (schedule.thickness_nm.size - 1) // len(parts)
        for start in range(0, count, block):
            seen = (wave @ sight).reshape(len(wave), -1, len(outgoing))
            following = wave @ jump
            loss = _norms(wave), _norms(following)
            for i in range(min(block, count - start) * len(parts)):
                mix = (i + 1) / (block * len(parts))
                yield _encoded(seen[:, i]), loss[0] ** (1 - mix) * loss[1] ** mix
            wave = following


def _block(beams: int, kept: int) -> int:
    """Return how many records share one full step: a power of two, fewer when the kept beams are many."""
    return 8 if 8 * kept < 3 * beams else 4


def _norms(wave: NDArray[np.complex64]) -> NDArray[np.float32]:
    return np.asarray((wave.real**2 + wave.imag**2).sum(axis=1))


def _encoded(wave: NDArray[np.complex64]) -> NDArray[np.uint16]:
    return np.asarray(np.rint(np.minimum(np.abs(wave), 1) * 65535), dtype=np.uint16)


def _measured(
    seen: NDArray[np.complex64], wave: NDArray[np.complex64]
) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    return _encoded(seen), _norms(wave)
