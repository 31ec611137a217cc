"""Blockfiles (``.blo``) of precession systems: one 8-bit picture of the pattern for each position of a scan."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from fairstem.errors import FileFormatError
from fairstem.signals.layouts import layout_of

__all__ = ["read_blockfile"]

# what lies behind the mark of the format: name, type; lengths in nm, energy in V, angles in hundredths of a degree
_HEADER = (
    ("Data_offset_1", "I"),
    ("Data_offset_2", "I"),
    ("Flags", "I"),
    ("DP_SZ", "H"),
    ("DP_rotation", "H"),
    ("NX", "H"),
    ("NY", "H"),
    ("Scan_rotation", "H"),
    ("SX", "d"),
    ("SY", "d"),
    ("Beam_energy", "I"),
    ("SDP", "H"),  # detector pixels in 100 cm
    ("Camera_length", "I"),  # tenths of a mm
    ("Acquisition_time", "d"),
)
_MARK = 8


def read_blockfile(path: Path, lazy: bool, dataset: str | None) -> Any:  # noqa: ARG001
    """Read a blockfile.

    Parameters
    ----------
    path
        The file.
    lazy
        Leave the patterns on disk.
    dataset
        Not used: a blockfile holds one scan.

    Returns
    -------
    hyperspy.signals.Signal2D
        (y, x, k_y, k_x), uint8, in the order of the file: rows from the first, each from its first position; the
        complete rows only.

    Raises
    ------
    FileFormatError
        The header is no blockfile's, or not one row is complete.
    """
    import hyperspy.api as hs

    layout = layout_of(path)
    if layout is None or layout.shape is None:
        raise FileFormatError(f"{path.name} does not start as a blockfile does", needed="IMGBLO and a header")
    ny, nx = layout.shape
    rows = min(ny, layout.found // nx)
    if not rows:
        raise layout.missing(path.name)
    header = _header(path)
    data = layout.frames(rows * nx)
    signal = hs.signals.Signal2D(data.reshape((rows, nx, *data.shape[1:]))).as_lazy()
    steps = (header["SY"], header["SX"], 0.0, 0.0)
    for axis, name, step in zip(signal.axes_manager._axes, ("y", "x", "k_y", "k_x"), steps, strict=True):
        axis.name = name
        if step > 0:
            axis.scale, axis.units = step, "nm"
    if header["SDP"]:
        for axis in signal.axes_manager._axes[2:]:
            axis.scale, axis.units = 100.0 / header["SDP"], "cm"
    signal.metadata.General.title = path.stem
    signal.metadata.Signal.signal_type = "diffraction"
    if header["Beam_energy"]:
        signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", header["Beam_energy"] / 1e3)
    signal.original_metadata.add_dictionary({"format": "Blockfile", "blockfile_header": header})
    if not lazy:
        signal.compute(show_progressbar=False)
    return signal


def _header(path: Path) -> dict[str, Any]:
    layout = "<" + "".join(kind for _, kind in _HEADER)
    with path.open("rb") as file:
        values = struct.unpack(layout, file.read(_MARK + struct.calcsize(layout))[_MARK:])
        header = dict(zip((name for name, _ in _HEADER), values, strict=True))
        file.seek(_MARK + struct.calcsize(layout) + 22 * 8)  # centring and distortion
        note = file.read(max(0, header["Data_offset_1"] - file.tell()))
    return {**header, "Note": note.decode("latin1").strip("\0")}
