"""4D-STEM of a crystal by multislice: what abTEM computes, with the optic axis exactly on a pixel."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from fairstem.compute.progress import track
from fairstem.errors import DataError, MissingDependencyError
from fairstem.simulate import _scan_cache
from fairstem.simulate._scan4d import SimulatedScan
from fairstem.simulate._scan_plan import ScanPlan, interpolation, plan_scan, slice_shift
from fairstem.simulate._scan_request import Request, ScanOptions, read_request
from fairstem.simulate.structures import Structure, crystal

__all__ = ["multislice_scan"]

_ALGORITHM = 1  # raised whenever the same parameters give other numbers: stored scans are then made anew
_BATCH_BYTES = 64 * 2**20  # waves propagated at a time
_ANGSTROM = 10.0  # abTEM's unit, per nm


def multislice_scan(
    structure: Any,
    *,
    thickness_nm: float,
    semiangle_mrad: float,
    energy_kev: float = 200.0,
    scan_px: int | tuple[int, int] | None = None,
    detector: int | tuple[int, int] = 65,
    max_angle_mrad: float | None = None,
    frozen_phonons: int = 0,
    cache: Literal["default"] | str | Path | None = "default",
    **options: Unpack[ScanOptions],
) -> SimulatedScan:
    """Simulate the diffraction patterns of a scan over one cell of a crystal.

    Stands on the prior of multislice physics: independent atoms (Lobato's scattering factors), elastic scattering,
    a coherent probe with a hard aperture, a periodic crystal. Thermal motion is left out unless `frozen_phonons` is
    given; then atoms move independently of each other (Einstein), as their B factors say. Needs abTEM
    (``pip install "fairstem[simulate]"``).

    Nothing is made symmetric by hand. Where the crystal has a symmetry, the patterns have it up to the rounding of
    single precision: the detector has odd sides with the optic axis on the pixel in the middle, its pixels are
    points of the simulated pattern (or sums of an odd number of them), atoms lie in the middle of slices, and
    with an even number of positions per cell the origin and the middle of the cell are positions.

    Parameters
    ----------
    structure
        `Structure`, built-in name, CIF file or ASE Atoms; see `crystal`. A supercell with a defect is a cell too.
    thickness_nm
        Thickness in nm; rounded to whole slices (see `SimulatedScan.thickness_nm`).
    semiangle_mrad
        Convergence semi-angle in mrad.
    energy_kev
        Beam energy in keV.
    scan_px
        Positions (y, x) per cell, or one number for both. The default resolves the probe and is even.
    detector
        Pixels (k_y, k_x) of the detector, odd, or one number for both.
    max_angle_mrad
        Angle of the detector's outermost pixel in mrad along y and x, by default 2.2 semi-angles. Rounded, so that
        whole cells fit side by side; `SimulatedScan.mrad_per_px` says what it became.
    frozen_phonons
        Number of configurations of displaced atoms to average; 0 leaves the atoms at rest.
    cache
        Folder that keeps scans by the hash of all that decides them; None keeps nothing. The default is
        ``multislice`` in the cache folder of fairstem.
    **options
        ``pixel_size_nm`` (None): step of the scan in nm at most, in place of `scan_px`;
        ``source_fwhm_nm`` (0): width of the source, as `SimulatedScan.blurred`;
        ``defocus_nm`` (0): positive for a crossover below the entrance surface;
        ``tilt_mrad`` ((0, 0)): direction (y, x) of the beam against the zone axis, the pattern stays centred on
        the beam;
        ``seed`` (0): of the displacements;
        ``sampling_nm`` (None): step of the potential, by default 0.0125 nm or what the angles need;
        ``slice_nm`` (0.2): thickness of a slice, rounded so that a whole number of slices makes a cell;
        ``every_position`` (False): propagate every position, see Notes.

    Returns
    -------
    SimulatedScan
        Patterns as fractions of the beam, one cell.

    Raises
    ------
    MissingDependencyError
        abTEM isn't installed.
    DataError
        A number out of its range, an even detector, no positions, angles that the potential can't hold, phonons
        without thermal factors, or as `crystal`.
    DataTypeError
        An unknown option.

    Notes
    -----
    As a function of the position, a pixel's intensity holds only differences of two frequencies of the aperture: at
    rest it is a trigonometric polynomial over the cell. Only as many positions are propagated as determine it, the
    others follow without loss (9 × 9 instead of 22 × 22 for SrTiO3 at 13.6 mrad and 200 kV). Thermal
    displacements aren't periodic over the cell, so with phonons every position is propagated.

    Cost: ``positions · slices · configurations · n log n``, n the points of the simulated area, which has ``cells =
    wavelength / (cell · mrad_per_px)`` cells along each axis: halving the detector's step takes four times as long.
    Memory: the result, 64 MB of waves several times, and with phonons ``4 n · slices`` bytes.
    The parameter that matters most is `frozen_phonons`. Atoms at rest keep the symmetry exact, which truth for symmetry
    maps needs, but channel too well: of the beam on a Sr column of 20 nm SrTiO3, half leaves a detector of 29 mrad,
    with thermal motion three tenths do. Noise between configurations falls as one over the root of their number.

    References
    ----------
    J. Madsen, T. Susi, Open Research Europe 1 (2021) 24, https://doi.org/10.12688/openreseurope.13015.2

    Examples
    --------
    >>> scan = multislice_scan("SrTiO3", thickness_nm=20, semiangle_mrad=13.6, scan_px=22)  # doctest: +SKIP
    >>> counts = scan.counts(11_800, rng=0, shape=(114, 114))  # doctest: +SKIP
    """
    given: dict[str, Any] = dict(options)
    atoms = crystal(structure)
    fwhm = float(given.pop("source_fwhm_nm", 0.0))
    if not (math.isfinite(fwhm) and fwhm >= 0):
        raise DataError(f"source_fwhm_nm={fwhm}", needed="a width in nm of 0 or more")
    request = read_request(
        given,
        thickness_nm=thickness_nm,
        semiangle_mrad=semiangle_mrad,
        energy_kev=energy_kev,
        scan_px=scan_px,
        detector=detector,
        max_angle_mrad=2.2 * semiangle_mrad if max_angle_mrad is None else max_angle_mrad,
        frozen_phonons=frozen_phonons,
    )
    if request.frozen_phonons and not atoms.b_iso_nm2.any():
        raise DataError(
            f"frozen_phonons={frozen_phonons} with thermal factors that are all 0",
            needed="how far the atoms move",
            todo="pass crystal(..., b_iso={'Sr': 0.0062, ...}), in nm²",
        )
    plan = plan_scan(atoms, request)
    parameters = {"structure": atoms.name or atoms.formula, **request.to_dict()}
    scan = SimulatedScan(
        _kept(atoms, request, plan, cache),
        plan.pixel_size_nm,
        plan.mrad_per_px,
        request.energy_kev,
        request.semiangle_mrad,
        plan.thickness_nm,
        parameters=parameters,
    )
    return scan.blurred(fwhm)


def _kept(
    atoms: Structure, request: Request, plan: ScanPlan, cache: str | Path | None
) -> NDArray[np.float32]:
    """Return the patterns from the cache, or compute and keep them."""
    version = _version()
    if cache is None:
        return _simulate(atoms, request, plan)
    folder = _scan_cache.default_folder() if cache == "default" else Path(cache)
    versions = {"abtem": version, "algorithm": _ALGORITHM}
    key = _scan_cache.fingerprint(atoms, request.to_dict(), versions)
    kept = _scan_cache.load(folder, key, (*plan.scan, *plan.detector))
    if kept is None:
        kept = _simulate(atoms, request, plan)
        _scan_cache.store(folder, key, kept)
    return kept


def _missing() -> MissingDependencyError:
    return MissingDependencyError(
        "abTEM isn't installed",
        needed="it for multislice simulations",
        todo='pip install "fairstem[simulate]"',
    )


def _version() -> str:
    """Return abTEM's version without importing it, which takes 10 s."""
    try:
        return importlib.metadata.version("abtem")
    except importlib.metadata.PackageNotFoundError:
        raise _missing() from None


@contextmanager
def _abtem() -> Iterator[Any]:
    """Import abTEM and set it up for the duration of a ``with`` block."""
    try:
        with warnings.catch_warnings():
            # abTEM's own dependencies announce what they will change; none of it is the user's doing
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            abtem = importlib.import_module("abtem")
    except ImportError as error:
        raise _missing() from error
    settings = {
        "device": "cpu",
        "precision": "float32",
        "dask.lazy": False,
        "diagnostics.progress_bar": False,
        # plans chosen by timing would give other roundings at every run
        "fftw.planning_effort": "FFTW_ESTIMATE",
    }
    with abtem.config.set(settings):
        yield abtem


def _simulate(atoms: Structure, request: Request, plan: ScanPlan) -> NDArray[np.float32]:
    """Return the patterns ``(scan_y, scan_x, k_y, k_x)``."""
    a, b, _ = atoms.cell_nm
    positions = plan.positions_nm((b, a))
    patterns = np.zeros((len(positions), *plan.detector), np.float32)
    points = plan.grid[0] * plan.grid[1]
    batch = max(1, min(32, _BATCH_BYTES // (8 * points)))
    starts = range(0, len(positions), batch)
    repeats = max(1, request.frozen_phonons)
    rng = np.random.default_rng(request.seed)
    with _abtem() as abtem:
        probe = _probe(abtem, request, plan, (b, a))
        potentials: list[Any] = []
        steps = [(n, first) for n in range(repeats) for first in starts]
        for _, first in track(steps, label="simulating"):
            if first == 0:
                potentials = _potentials(abtem, atoms, request, plan, rng)
            part = slice(first, first + batch)
            patterns[part] += _patterns(abtem, probe, positions[part], potentials, plan) / np.float32(repeats)
    return _interpolated(patterns, plan)


def _probe(abtem: Any, request: Request, plan: ScanPlan, edges: tuple[float, float]) -> Any:
    y, x = (plan.cells[i] * edges[i] * _ANGSTROM for i in range(2))
    tilt_y, tilt_x = request.tilt_mrad
    return abtem.Probe(
        energy=1e3 * request.energy_kev,
        semiangle_cutoff=request.semiangle_mrad,
        defocus=request.defocus_nm * _ANGSTROM,
        extent=(x, y),
        gpts=(plan.grid[1], plan.grid[0]),
        tilt=(tilt_x, tilt_y),
        soft=False,
    )


def _potentials(
    abtem: Any, atoms: Structure, request: Request, plan: ScanPlan, rng: np.random.Generator
) -> list[Any]:
    """Return the potentials to pass one after the other: whole cells, then the slices that are left."""
    cells_y, cells_x = plan.cells
    whole, left = divmod(plan.total_slices, plan.slices)
    shifted = atoms.shifted(z=slice_shift(atoms, plan.slices))
    if request.frozen_phonons:
        repeats = whole + (left > 0)
        crystal_atoms = shifted.repeat((cells_x, cells_y, repeats))
        moved = crystal_atoms.to_ase()
        # across the beam only: an atom that moves along it would change its slice, not the projection
        width = crystal_atoms.rms_nm[:, None] * _ANGSTROM
        moved.positions[:, :2] += rng.standard_normal((len(moved), 2)) * width
        moved.positions[:, :2] %= moved.cell.lengths()[:2]
        built = _build(abtem, moved, (plan.grid[1], plan.grid[0]), repeats * plan.slices)
        return [built if not left else built[: plan.total_slices]]
    unit = _build(abtem, shifted.to_ase(), (plan.points[1], plan.points[0]), plan.slices)
    parts = [abtem.CrystalPotential(unit, (cells_x, cells_y, whole))] if whole else []
    if left:
        parts.append(unit[:left].tile((cells_x, cells_y)))
    return parts


def _build(abtem: Any, atoms: Any, points: tuple[int, int], slices: int) -> Any:
    thickness = (float(atoms.cell.lengths()[2]) / slices,) * slices
    return abtem.Potential(atoms, gpts=points, slice_thickness=thickness).build(lazy=False)


def _patterns(
    abtem: Any, probe: Any, positions: NDArray[np.float64], potentials: list[Any], plan: ScanPlan
) -> NDArray[np.float32]:
    """Return the patterns of a batch of positions, ``(n, k_y, k_x)``, as fractions of the beam."""
    at = np.ascontiguousarray(positions[:, ::-1]) * _ANGSTROM  # abTEM's first axis is x
    waves = probe.build(scan=abtem.CustomScan(at), lazy=False)
    shape = (len(at), plan.grid[1], plan.grid[0])
    entering = np.sum(np.abs(waves.array.reshape(shape), dtype=np.float64) ** 2, axis=(1, 2))
    for potential in potentials:
        waves = waves.multislice(potential)
    diffracted = fft.fft2(waves.array.reshape(shape))
    picked = [
        np.arange(-(n * b // 2), n * b // 2 + 1) for n, b in zip(plan.detector, plan.binning, strict=True)
    ]
    seen = diffracted[:, picked[1]][:, :, picked[0]].transpose(0, 2, 1)
    intensity = np.abs(seen).astype(np.float64) ** 2
    intensity /= (entering * plan.grid[0] * plan.grid[1])[:, None, None]
    (ny, nx), (by, bx) = plan.detector, plan.binning
    return np.asarray(intensity.reshape(-1, ny, by, nx, bx).sum(axis=(2, 4)), dtype=np.float32)


def _interpolated(patterns: NDArray[np.float32], plan: ScanPlan) -> NDArray[np.float32]:
    """Take the propagated positions to those of the scan."""
    known = patterns.reshape(*plan.simulated, *plan.detector)
    if plan.simulated == plan.scan:
        return known
    y, x = (interpolation(m, n) for m, n in zip(plan.simulated, plan.scan, strict=True))
    out = np.empty((*plan.scan, *plan.detector), np.float32)
    for row in range(plan.detector[0]):  # one row of the detector at a time keeps memory low
        seen = np.einsum("ip,jq,pqk->ijk", y, x, known[:, :, row].astype(np.float64), optimize=True)
        out[:, :, row] = np.maximum(seen, 0)  # rounding may leave zeros just below zero
    return out
