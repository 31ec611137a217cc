"""Simulated scans on disk, found by the hash of everything that decides them."""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.compute.outputs import staged_output
from fairstem.errors import DataWarning, OutputError
from fairstem.simulate.structures import Structure

__all__ = ["default_folder", "fingerprint", "load", "store"]


def default_folder() -> Path:
    """Return where scans are kept unless told otherwise."""
    import pooch

    return Path(pooch.os_cache("fairstem")) / "multislice"


def fingerprint(structure: Structure, parameters: Mapping[str, Any], versions: Mapping[str, Any]) -> str:
    """Return the sha256 of the atoms, the parameters and the versions of the programs."""
    digest = hashlib.sha256()
    # the names of a crystal and how it was cut don't change its scan
    for array in (structure.numbers, structure.fractional, np.array(structure.cell_nm), structure.b_iso_nm2):
        plain = np.ascontiguousarray(array)
        digest.update(f"{plain.dtype.str}{plain.shape}".encode())
        digest.update(plain.tobytes())
    digest.update(json.dumps({**parameters, **versions}, sort_keys=True).encode())
    return digest.hexdigest()


def _file(folder: Path, key: str) -> Path:
    return folder / f"{key}.npz"


def load(folder: Path, key: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """Return the stored patterns, or None where there are none.

    A file that can't be read, or isn't what it says, is as good as none: a `DataWarning` says so.
    """
    path = _file(folder, key)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            array, kept = stored["intensities"], str(stored["key"])
        if kept != key or array.shape != shape or array.dtype != np.float32:
            raise ValueError(f"it holds {array.dtype} {array.shape} of {kept[:8]}")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        warnings.warn(
            f"the stored scan {path} is damaged and is made anew ({error})", DataWarning, stacklevel=4
        )
        return None
    return np.asarray(array, dtype=np.float32)


def store(folder: Path, key: str, intensities: NDArray[np.float32]) -> None:
    """Write the patterns; when that fails, a `DataWarning` says so and the result isn't lost."""
    try:
        # a zip file carries a checksum of each array, which loading compares
        with staged_output(_file(folder, key), overwrite=True) as staged:
            np.savez(staged, intensities=intensities, key=np.array(key))
    except OutputError as error:
        warnings.warn(f"the simulated scan isn't kept on disk: {error}", DataWarning, stacklevel=4)
