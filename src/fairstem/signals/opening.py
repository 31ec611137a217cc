"""Open a file to look at it: lazily where it would fill the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairstem.signals.reading import load

__all__ = ["load_to_look"]

_LARGE = 2**26  # bytes: what is read whole without a second thought
# formats that hold much more than their bytes say (compressed, or lists of events), and can be read lazily
_DENSER = {"pts", "asw", "bcf", "hspy", "hdf5", "h5", "nxs", "emd", "mrcz"}


def load_to_look(path: str | Path, **options: Any) -> list[Any]:
    """Load all signals of a file, lazily those of large files.

    Parameters
    ----------
    path
        The file.
    **options
        For `fairstem.load`; not ``lazy``.

    Returns
    -------
    list of hyperspy signal
        Lazy ones when the file, or what it holds when unpacked, is larger than 64 MiB.

    Notes
    -----
    Memory: that of the lazy reader. A JEOL ``.pts`` of 512 × 512 × 4096 values is 2 GiB when dense and 0.3 GB here.
    """
    file = Path(path)
    known = file.is_file()
    if known and file.suffix.lower().lstrip(".") not in _DENSER and _bytes_of(file) <= _LARGE:
        return _listed(load(path, **options))
    lazy = _listed(load(path, lazy=True, **options))
    if sum(signal.data.nbytes for signal in lazy) > _LARGE:
        return lazy
    del lazy
    return _listed(load(path, **options))


def _bytes_of(file: Path) -> int:
    """Return the size of a file with the data files that belong to it."""
    beside = file.parent.glob("*.raw") if file.suffix.lower() == ".xml" else ()
    return file.stat().st_size + sum(raw.stat().st_size for raw in beside)


def _listed(loaded: Any) -> list[Any]:
    return loaded if isinstance(loaded, list) else [loaded]
