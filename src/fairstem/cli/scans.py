"""Getting the one 4D scan that a verb works on out of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairstem.cli.inputs import refuse_colour, title_of
from fairstem.errors import DataError

__all__ = ["load_scan"]

Region = tuple[int, int, int, int]


def load_scan(file: Path, *, region: Region | None = None, **options: Any) -> Any:
    """Load a 4D scan, leaving its patterns on disk until they are needed.

    Parameters
    ----------
    file
        Where from.
    region
        Part of the scan: first and last row, first and last column, the last ones not included.
    **options
        Of `fairstem.load`: reader, dataset, pixel_size_nm, units, scan_shape, flyback.

    Returns
    -------
    hyperspy signal
        Lazy, ``(scan_y, scan_x | k_y, k_x)``.

    Raises
    ------
    DataError
        If it is not clear which signal is meant, it is no scan, or the region lies outside.
    """
    from fairstem.signals import load

    given = {name: value for name, value in options.items() if value is not None}
    loaded = load(file, lazy=True, **given)
    signal = _choose(loaded, file) if isinstance(loaded, list) else loaded
    _refuse_others(signal, file)
    return signal if region is None else _cut(signal, region)


def _choose(signals: Sequence[Any], file: Path) -> Any:
    fitting = [s for s in signals if s.data.ndim == 4]
    if len(fitting) != 1:
        listed = ", ".join(f"{i} {title_of(s, file)!r} {s.data.shape}" for i, s in enumerate(signals))
        raise DataError(
            f"{file.name} holds {len(signals)} signals, {len(fitting)} of them 4D scans",
            needed="one 4D scan",
            todo=f"give one of --dataset {listed}",
        )
    return fitting[0]


def _refuse_others(signal: Any, file: Path) -> None:
    """Refuse what is no 4D scan, in the words of what it is."""
    from fairstem.signals import describe

    refuse_colour(signal, file)
    ndim, shape = signal.data.ndim, " × ".join(map(str, signal.data.shape))
    if ndim == 4 and signal.axes_manager.signal_dimension == 2:
        return
    if ndim == 3:
        todo = "give the positions of the scan with --scan-shape NY,NX if these are its patterns, one by one"
    elif ndim > 4:
        todo = "a time series of scans: save one scan, or their sum over time, and take that"
    else:
        todo = "take the file with the diffraction patterns, not an image made of them"
    kind = describe(signal)["kind"]
    raise DataError(
        f"{file.name} holds {'an' if kind[0] in 'aei' else 'a'} {kind}, {shape}",
        needed="a 4D scan (scan_y, scan_x, k_y, k_x)",
        todo=todo,
    )


def _cut(signal: Any, region: Region) -> Any:
    ny, nx = signal.data.shape[:2]
    y0, y1, x0, x1 = region
    if not (0 <= y0 < y1 <= ny and 0 <= x0 < x1 <= nx):
        raise DataError(
            f"region {y0},{y1},{x0},{x1} of a scan of {ny} × {nx} positions",
            needed=f"rows from 0 to {ny} and columns from 0 to {nx}: Y0,Y1,X0,X1",
        )
    return signal.inav[x0:x1, y0:y1]
