"""PACBED patterns of a crystal for any thickness, semi-angle and tilt, from one table of plane waves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairstem.errors import DataError
from fairstem.signals.electrons import wavelength_nm
from fairstem.simulate._pacbed_store import through_cache
from fairstem.simulate._pacbed_table import Diffuse, PacbedTable
from fairstem.simulate.plane_waves import band_limit_mrad, beams, directions, plane_waves
from fairstem.simulate.structures import Structure, crystal

__all__ = ["Diffuse", "PacbedTable", "pacbed_table"]

_MARGIN = 4  # grid points beyond the largest angle, for the interpolation
# beams to 80 mrad at 200 kV (that spatial frequency at every energy): with 120 mrad the thermal pattern of 60 nm of
# SrTiO3 changes by 1e-3 (relative L2), with 60 mrad by 8e-3
_SCATTER_MRAD_NM = 80 * 2.508e-3
# step between directions times thickness: half of it changes that pattern by 3e-3
_STEP_MRAD_NM = 32.0
_COARSEST_MRAD = 1.0
_SAMPLING_NM = 0.01221  # points of the lattice at rest: 32 over SrTiO3, as FFT multislice usually takes
_MOST_BEAMS = 6000


def pacbed_table(
    structure: Any,
    energy_kev: float = 200.0,
    max_angle_mrad: float = 30.0,
    max_thickness_nm: float = 60.0,
    *,
    max_tilt_mrad: float = 5.0,
    mrad_per_px: float | None = None,
    thickness_step_nm: float = 0.4,
    thermal: bool = True,
    gpts: int | tuple[int, int] | None = None,
    cache: str | Path | None = "user",
) -> PacbedTable:
    """Return a table that gives the PACBED pattern of a crystal for any thickness, semi-angle and tilt.

    Stands on the priors that the crystal is perfect and as thick everywhere, that the position average runs over
    whole cells, and that atoms move independently (Einstein). Then the pattern is an incoherent sum over the plane
    waves in the aperture, and multislice of one cell for every direction serves all semi-angles, tilts and thicknesses.

    Parameters
    ----------
    structure
        A `Structure` (from `crystal`, with its zone axis along the beam), or what `crystal` takes; then [001].
    energy_kev
        Energy of the beam in keV.
    max_angle_mrad
        Radius of the patterns in mrad, and the largest sum of semi-angle and tilt.
    max_thickness_nm
        Largest thickness in nm.
    max_tilt_mrad
        Largest tilt in mrad.
    mrad_per_px
        Pixel of the patterns in mrad; None takes the step between the directions.
    thickness_step_nm
        About how far the kept thicknesses lie apart in nm; in between a cubic is taken. Whole cells are exact.
    thermal
        True: the elastic wave of a crystal whose atoms move; `Diffuse` adds what they scatter.
        False: the lattice at rest, as FFT multislice gives it; for comparing with such programs.
    gpts
        Points along the cell for the lattice at rest, one number or (y, x). None takes 12.2 pm a point (32 for SrTiO3),
        more where the angles need it. At rest the potential has no natural limit: at 60 nm the pattern changes by
        several per cent with the grid, in every program. The thermal mean needs no grid.
    cache
        Folder in which tables are kept by the hash of their parameters; "user": the user's cache folder; None: nowhere.

    Returns
    -------
    PacbedTable
        With ``.pattern(thickness_nm, semiangle_mrad, tilt_mrad)`` and ``.mrad_per_px``.

    Raises
    ------
    DataError
        A number is not positive or not finite, the tilt is larger than the angle, or the beams are too many.
    MissingDependencyError
        See `crystal` and `scattering_factor`.

    Notes
    -----
    Cost: see `plane_waves`; 7 s on one core for SrTiO3 [001], 30 mrad, 60 nm, growing with the cube of the area of the
    cell. Memory: 2 bytes × thicknesses × independent directions × beams in the field; 50 MB there.
    The number that matters is `max_thickness_nm`: directions must lie the closer the thicker the crystal is
    (32 mrad nm / thickness), and the cost grows with its third power.

    References
    ----------
    Thermal mean of the transmission: Loane, Xu & Silcox, Acta Cryst. A 47 (1991) 267, doi:10.1107/S0108767391000375.
    PACBED: LeBeau, Findlay, Allen & Stemmer, Ultramicroscopy 110 (2010) 118, doi:10.1016/j.ultramic.2009.10.001.

    Examples
    --------
    >>> table = pacbed_table("SrTiO3", 200, 12, 2, max_tilt_mrad=1, cache=None)
    >>> pattern = table.pattern(1.5, semiangle_mrad=10, tilt_mrad=(0.5, 0))
    >>> pattern.shape, round(float(pattern.sum()), 2)
    ((23, 23), 0.94)
    """
    cell = structure if isinstance(structure, Structure) else crystal(structure)
    numbers = {
        "energy_kev": energy_kev,
        "max_angle_mrad": max_angle_mrad,
        "max_thickness_nm": max_thickness_nm,
        "max_tilt_mrad": max_tilt_mrad,
        "thickness_step_nm": thickness_step_nm,
    }
    if mrad_per_px is not None:
        numbers["mrad_per_px"] = mrad_per_px
    checked = _checked(numbers)
    plan = _Plan(cell, checked, bool(thermal), _points(gpts, cell, checked, bool(thermal)))
    if cache is None:
        return plan.build()
    return through_cache(plan, cache)


@dataclass(frozen=True)
class _Plan:
    """What a table is made from."""

    structure: Structure
    numbers: dict[str, float]
    thermal: bool
    gpts: tuple[int, int] | None

    def build(self) -> PacbedTable:
        n = self.numbers
        energy, angle, tilt = n["energy_kev"], n["max_angle_mrad"], n["max_tilt_mrad"]
        step = min(_COARSEST_MRAD, _STEP_MRAD_NM / n["max_thickness_nm"])
        scatter = max(_SCATTER_MRAD_NM / wavelength_nm(energy), 2 * (angle + tilt))
        count = beams(self.structure, energy, scatter).shape[0]
        if count > _MOST_BEAMS:
            raise DataError(
                f"{count} beams up to {scatter:.3g} mrad for a cell of {self.structure.cell_nm} nm",
                needed=f"up to {_MOST_BEAMS}",
                todo="choose a zone axis with a smaller cell, or a smaller max_angle_mrad",
            )
        incident = directions(self.structure, energy, angle + _MARGIN * step, step)
        waves = plane_waves(
            self.structure,
            energy,
            incident,
            max_thickness_nm=n["max_thickness_nm"],
            thickness_step_nm=n["thickness_step_nm"],
            keep_mrad=angle + tilt + _MARGIN * step,
            scatter_mrad=scatter,
            thermal=self.thermal,
            gpts=self.gpts,
        )
        px = n.get("mrad_per_px", float(np.mean(incident.step_mrad)))
        return PacbedTable(
            self.structure, energy, angle, tilt, n["max_thickness_nm"], px, self.thermal, waves
        )


def _checked(numbers: dict[str, Any]) -> dict[str, float]:
    checked = {}
    for name, value in numbers.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = np.nan
        if not (np.isfinite(number) and (number > 0 or (name == "max_tilt_mrad" and number == 0))):
            raise DataError(f"{name}={value!r}", needed="a finite, positive number")
        checked[name] = number
    wavelength_nm(checked["energy_kev"])
    if checked["max_tilt_mrad"] >= checked["max_angle_mrad"] or checked["max_angle_mrad"] > 100:
        raise DataError(
            f"max_angle_mrad={checked['max_angle_mrad']:g}, max_tilt_mrad={checked['max_tilt_mrad']:g}",
            needed="a tilt below the angle, an angle up to 100 mrad",
        )
    return checked


def _points(gpts: Any, cell: Structure, numbers: dict[str, float], thermal: bool) -> tuple[int, int] | None:
    """Return the points (y, x) of the grid for the lattice at rest; None for the thermal mean."""
    needed = "one whole number of 8 or more, or two (y, x), and thermal=False"
    if thermal:
        if gpts is not None:
            raise DataError(f"gpts={gpts!r} with thermal=True", needed=needed)
        return None
    edges = cell.cell_nm[1::-1]
    angle = numbers["max_angle_mrad"] + numbers["max_tilt_mrad"]
    if gpts is None:
        # 2/3 of the grid have to hold the pattern
        finest = min(_SAMPLING_NM, wavelength_nm(numbers["energy_kev"]) / (3e-3 * angle))
        return 2 * math.ceil(edges[0] / finest / 2 - 1e-6), 2 * math.ceil(edges[1] / finest / 2 - 1e-6)
    pair = (gpts, gpts) if isinstance(gpts, int) else gpts
    if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(n, int) and n >= 8 for n in pair)):
        raise DataError(f"gpts={gpts!r}", needed=needed)
    holds = 2 / 3 * band_limit_mrad(cell, numbers["energy_kev"], pair)
    if holds < angle:
        raise DataError(
            f"gpts={gpts!r} for angles up to {angle:.3g} mrad",
            needed=f"a finer grid: this one holds {holds:.3g} mrad",
            todo="leave gpts out, or lower max_angle_mrad",
        )
    return pair
