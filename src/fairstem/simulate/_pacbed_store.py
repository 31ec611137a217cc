"""PACBED tables on disk: one file each, and a cache of them by the hash of their parameters."""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fairstem.compute import staged_output
from fairstem.errors import DataWarning, FileFormatError, OutputError
from fairstem.simulate._pacbed_table import PacbedTable
from fairstem.simulate.plane_waves import Directions, PlaneWaves
from fairstem.simulate.structures import Structure

if TYPE_CHECKING:
    from fairstem.simulate.pacbed import _Plan

__all__ = ["load", "save", "through_cache"]

_FORMAT = "fairstem.pacbed_table 1"  # raise the number when the physics or the layout changes


def save(table: PacbedTable, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a table as ``.npz``."""
    target = Path(path)
    arrays: dict[str, Any] = {"format": np.array(_FORMAT)}
    for prefix, part in (
        ("structure", table.structure),
        ("directions", table.waves.directions),
        ("waves", table.waves),
    ):
        for field in fields(part):
            if field.name != "directions" or prefix == "structure":
                arrays[f"{prefix}.{field.name}"] = np.asarray(getattr(part, field.name))
    for name in (
        "energy_kev",
        "max_angle_mrad",
        "max_tilt_mrad",
        "max_thickness_nm",
        "mrad_per_px",
        "thermal",
    ):
        arrays[name] = np.asarray(getattr(table, name))
    with staged_output(target, overwrite=overwrite) as staged, staged.open("wb") as file:
        np.savez(file, **arrays)
    return target


def load(path: str | Path) -> PacbedTable:
    """Read a table that `save` wrote."""
    try:
        # opened here: NumPy leaves a damaged file open
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if str(arrays["format"]) != _FORMAT:
            raise ValueError(f"its format is {arrays['format']}")
        parts: dict[str, dict[str, Any]] = {"structure": {}, "directions": {}, "waves": {}}
        plain: dict[str, Any] = {}
        for name, value in arrays.items():
            first, _, rest = name.partition(".")
            if rest:
                parts[first][rest] = value
            elif name != "format":
                plain[name] = value.item()
        shape = parts["structure"]
        shape["name"], shape["strain"] = str(shape["name"]), float(shape["strain"])
        grid: dict[str, Any] = {
            k: tuple(v.tolist()) if v.ndim == 1 else v for k, v in parts["directions"].items()
        }
        waves = PlaneWaves(Directions(**grid), **parts["waves"])
        return PacbedTable(structure=Structure(**shape), waves=waves, **plain)
    except FileNotFoundError:
        raise FileFormatError(
            f"{path} does not exist", needed="a table that PacbedTable.save wrote"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise FileFormatError(
            f"{path} can't be read: {error}", needed="a table that PacbedTable.save wrote"
        ) from error


def through_cache(plan: _Plan, cache: str | Path) -> PacbedTable:
    """Return the table of a plan from the cache, or make it and keep it there."""
    import pooch

    folder = Path(pooch.os_cache("fairstem")) if cache == "user" else Path(cache).expanduser()
    path = folder / "pacbed" / f"{_hash(plan)}.npz"
    if path.exists():
        try:
            return load(path)
        except FileFormatError as error:
            warnings.warn(f"the cached table is damaged and is made anew: {error}", DataWarning, stacklevel=3)
    table = plan.build()
    try:
        save(table, path, overwrite=True)
    except OutputError as error:
        warnings.warn(f"the table is not cached: {error}", DataWarning, stacklevel=3)
    return table


def _hash(plan: _Plan) -> str:
    cell = plan.structure
    text = json.dumps(
        [
            _FORMAT,
            cell.numbers.tolist(),
            np.round(cell.fractional, 9).tolist(),
            cell.cell_nm,
            np.round(cell.b_iso_nm2, 9).tolist(),
            sorted(plan.numbers.items()),
            plan.thermal,
            plan.gpts,
        ]
    )
    return hashlib.sha256(text.encode()).hexdigest()
