"""Look inside a file before it is read: which program wrote it, and is all of it there."""

from __future__ import annotations

import struct
from pathlib import Path

from fairstem.errors import FileFormatError

__all__ = ["check_complete", "sniff"]

_MRC_MODES = {0, 1, 2, 3, 4, 6, 7, 12, 16, 101}


def sniff(path: Path) -> tuple[str, str] | None:
    """Find the reader of a file whose extension several programs use.

    Parameters
    ----------
    path
        The file: ``.h5``, ``.hdf5``, ``.mrc``, ``.img`` or ``.xml``; others are not looked at.

    Returns
    -------
    tuple of str, or None
        The reader's name and what in the file told it; None when the extension says it all.

    Raises
    ------
    FileFormatError
        The content fits none of the readers.
    """
    extension = path.suffix.lower()
    if extension in (".h5", ".hdf5"):
        return _sniff_hdf5(path)
    if extension not in (".mrc", ".img", ".xml"):
        return None
    with path.open("rb") as file:
        header = file.read(2048)
    if extension == ".mrc" and len(header) >= 16:
        # MRCZ adds 1000 times the number of its compression to the MRC mode
        mode = struct.unpack_from("<i", header, 12)[0]
        compressed = mode >= 1000
        if mode % 1000 not in _MRC_MODES or not 0 <= mode < 10_000:
            raise FileFormatError(
                f"{path.name} has the MRC mode {mode}, so it is no MRC file",
                needed="a file whose content is what its extension says",
                todo="give it back its extension, or name the reader with reader=",
            )
        return ("MRCZ", "its mode is compressed") if compressed else ("MRC", "its mode is not compressed")
    if extension == ".img" and len(header) >= 4:
        jeol = struct.unpack_from("<I", header)[0] == 52
        return ("JEOL", "it starts with JEOL's number 52") if jeol else ("Hamamatsu", "it is no JEOL image")
    if extension == ".xml":
        if b"LSX" in header:
            return "JobinYvon", "it has LSX elements"
        return "EMPAD", "it has no LSX elements"
    raise FileFormatError(
        f"{path.name} has only {len(header)} bytes", todo="copy it again from the microscope"
    )


def _sniff_hdf5(path: Path) -> tuple[str, str]:
    """Look at the groups of an HDF5 file."""
    import h5py

    try:
        with h5py.File(path) as file:
            attributes, groups = dict(file.attrs), set(file)
    except OSError as error:
        raise FileFormatError(
            f"{path.name} can't be opened as HDF5: {error}",
            needed="a complete HDF5 file",
            todo="compare its size with the original; it may be truncated or have the wrong extension",
        ) from error
    if str(attributes.get("file_format", "")).lower() == "hyperspy" or "Experiments" in groups:
        return "HSPY", "it has HyperSpy's 'Experiments' group"
    if "fpd_version" in attributes or "fpd_expt" in groups:
        return "fpd", "it has fpd's 'fpd_expt' group"
    if "image_data0" in groups and any(g.endswith("sublattice") for g in groups):
        return "Atomap", "it has Atomap's 'image_data0' and sublattice groups"
    if "Acquisition0" in groups:
        return "Delmic", "it has Delmic's 'Acquisition0' group"
    if any(g.startswith("Measurement_") for g in groups):
        return "USID", "it has USID's 'Measurement_' groups"
    if "FullSpectra" in groups:
        return "Tofwerk", "it has Tofwerk's 'FullSpectra' group"
    if "entry" in groups:
        return "Dectris", "it has the 'entry' group of a Dectris detector"
    raise FileFormatError(
        f"{path.name} is an HDF5 file of unknown layout (groups: {', '.join(sorted(groups)[:8]) or 'none'})",
        needed="HyperSpy, fpd, Atomap, Delmic, USID, Tofwerk or Dectris HDF5",
        todo="name the reader with reader=, or read the data set with h5py and wrap it as a HyperSpy signal",
    )


def check_complete(path: Path) -> None:
    """Compare a file's size with what its header promises, where a lazy reader would notice only later.

    Parameters
    ----------
    path
        The file; formats other than Bruker's ``.bcf`` and JEOL's ``.pts`` are left to their readers.

    Raises
    ------
    FileFormatError
        The file is shorter than its header says.
    """
    extension, size = path.suffix.lower(), path.stat().st_size
    if extension not in (".bcf", ".pts"):
        return
    with path.open("rb") as file:
        header = file.read(0x150)
    needed = 0x150
    if size >= needed and extension == ".bcf" and header.startswith(b"AAMVHFSS"):
        # a container of equal chunks behind a header of 0x118 bytes
        (chunk,), (_, _, number) = (
            struct.unpack_from("<I", header, 0x128),
            struct.unpack_from("<III", header, 0x140),
        )
        needed = 0x118 + chunk * number
    elif size >= needed and extension == ".pts":
        needed = sum(struct.unpack_from("<II", header, 28))  # where the events start, and their length
    if size < needed:
        raise FileFormatError(
            f"{path.name} is truncated: {size} bytes",
            needed=f"the {needed} bytes that its header promises",
            todo="copy it again from the microscope",
        )
