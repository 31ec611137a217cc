"""Where the patterns lie in files of raw frames: how many are there, how many the header promises.

The readers of these formats pad with zeros, drop rows without a word, or fail when the data are needed, as soon as a
scan was interrupted. Here the file is measured before it is read.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from fairstem.errors import FileFormatError

__all__ = ["Layout", "layout_of", "merlin_header_file"]

_MIB_TYPES = {"U08": ">u1", "U16": ">u2", "U32": ">u4"}
_MRC_TYPES = {0: "u1", 1: "<i2", 2: "<f4", 6: "<u2", 12: "<f2"}
_EMPAD = (128, 128, 2)  # detector rows, columns, and rows of a footer


@dataclass(frozen=True)
class Layout:
    """Patterns in a raw file.

    Parameters
    ----------
    path
        The file that holds the patterns.
    offset
        Bytes before the first record.
    record
        The structured type of one record; its field ``data`` is the pattern.
    promised
        Number of patterns that the header promises; None when there is no header.
    shape
        Shape of the scan (y, x) that the header says; None when it does not.
    flipped
        True when the file's first row is the lowest one of the detector.
    """

    path: Path
    offset: int
    record: np.dtype[Any]
    promised: int | None = None
    shape: tuple[int, int] | None = None
    flipped: bool = False

    @property
    def found(self) -> int:
        """Number of complete patterns in the file."""
        return max(0, self.path.stat().st_size - self.offset) // self.record.itemsize

    @property
    def torn(self) -> bool:
        """True when the file ends inside a pattern."""
        return (self.path.stat().st_size - self.offset) % self.record.itemsize != 0

    @property
    def complete(self) -> bool:
        """True when the file holds what its header promises, or has no header and whole patterns."""
        if self.promised is None:
            return self.found > 0 and not self.torn
        return self.found >= self.promised > 0

    def frames(self, number: int) -> Any:
        """Return the first patterns, (frame, k_y, k_x), as a dask array in chunks of whole patterns."""
        from rsciio.utils.file import memmap_distributed

        data = memmap_distributed(
            str(self.path), self.record, offset=self.offset, shape=(number,), key="data"
        )
        if not data.dtype.isnative:
            data = data.astype(data.dtype.newbyteorder("="))
        return data[:, ::-1] if self.flipped else data

    def missing(self, name: str) -> FileFormatError:
        """Say that patterns are missing, and what can be done."""
        size = self.path.stat().st_size
        if self.promised is None:
            return FileFormatError(
                f"{name} ends inside a pattern ({size} bytes, {self.found} complete patterns)",
                needed="complete patterns",
                todo="copy it again; or pass scan_shape=(ny, nx) and missing='crop' to keep the complete rows",
            )
        todo = "compare its size with the original (the copy may be truncated)"
        if self.shape is None:
            todo += "; if the scan was interrupted, pass scan_shape=(ny, nx) and missing='crop'"
        elif self.found >= self.shape[1]:
            rows = self.found // self.shape[1]
            todo += f"; if the scan was interrupted, pass missing='crop' to keep the {rows} complete rows"
        return FileFormatError(
            f"{name} is truncated or was interrupted: it holds {self.found} patterns ({size} bytes)",
            needed=f"the {self.promised} that its header promises",
            todo=todo,
        )


def layout_of(path: Path, reader: str | None = None) -> Layout | None:
    """Measure a file of raw frames.

    Parameters
    ----------
    path
        A Merlin ``.mib``, a blockfile ``.blo``, an EMPAD ``.xml``, or an uncompressed ``.mrc``.
    reader
        The reader, where the extension does not say it (``"EMPAD"``, ``"MRC"``).

    Returns
    -------
    Layout or None
        None for other files, and where the header is not understood: the reader says why.

    Notes
    -----
    Cost: reads the header.
    """
    extension = path.suffix.lower()
    with path.open("rb") as file:
        header = file.read(1024)
    if extension == ".mib":
        return _merlin(path, header)
    if extension == ".blo":
        return _blockfile(path, header)
    if extension == ".mrc" and reader == "MRC":
        return _mrc(path, header)
    if extension == ".xml" and reader == "EMPAD":
        return _empad(path)
    return None


def _record(pattern: str, shape: tuple[int, int], before: int = 0, after: int = 0) -> np.dtype[Any]:
    fields: list[Any] = [("data", pattern, shape)]
    if before:
        fields.insert(0, ("before", f"V{before}"))
    if after:
        fields.append(("after", f"V{after}"))
    return np.dtype(fields)


def _merlin(path: Path, header: bytes) -> Layout | None:
    words = header.decode("latin1").split(",")
    try:
        length, width, height, pattern = int(words[2]), int(words[4]), int(words[5]), _MIB_TYPES[words[6]]
    except (IndexError, ValueError, KeyError):
        return None  # no Merlin header, or raw counters
    promised, shape = _merlin_header(path)
    return Layout(path, 0, _record(pattern, (height, width), length), promised, shape, flipped=True)


def _merlin_header(path: Path) -> tuple[int | None, tuple[int, int] | None]:
    """Return the number of frames and the scan's shape from the ``.hdr`` file beside the data."""
    beside = merlin_header_file(path)
    if beside is None:
        return None, None
    pairs = re.findall(r"^([^:\n]+):\s*(\d+)\s*$", beside.read_text("latin1"), re.MULTILINE)
    # "Frames in Acquisition (Number)" and the like: the bracket explains the value
    numbers = {key.partition("(")[0].strip(): int(value) for key, value in pairs}
    frames = numbers.get("Frames in Acquisition", 0)
    nx, ny = numbers.get("ScanX", 0), numbers.get("ScanY", 0)
    if nx and ny:  # written since version 1.5 of the acquisition software
        return frames or nx * ny, (ny, nx)
    row = numbers.get("Frames per Trigger", 0)
    shape = (frames // row, row) if row > 1 and frames and frames % row == 0 else None
    return frames or None, shape


def merlin_header_file(path: Path) -> Path | None:
    """Return the ``.hdr`` file that belongs to a ``.mib``, None when it is not there."""
    for extension in (".hdr", ".HDR"):
        beside = path.with_suffix(extension)
        if beside.is_file():
            return beside
    return None


def _blockfile(path: Path, header: bytes) -> Layout | None:
    if len(header) < 30 or not header.startswith(b"IMGBLO"):
        return None
    (first,) = struct.unpack_from("<I", header, 12)
    size, _, nx, ny = struct.unpack_from("<4H", header, 20)
    if not (size and nx and ny):
        return None
    # each pattern follows a mark of two bytes and its number
    return Layout(path, first, _record("u1", (size, size), 6), nx * ny, (ny, nx))


def _mrc(path: Path, header: bytes) -> Layout | None:
    if len(header) < 1024:
        return None
    nx, ny, nz, mode = struct.unpack_from("<4i", header)
    (extended,) = struct.unpack_from("<i", header, 92)
    if mode not in _MRC_TYPES or min(nx, ny, nz) < 1 or extended < 0:
        return None
    return Layout(path, 1024 + extended, _record(_MRC_TYPES[mode], (ny, nx)), nz)


def _empad(path: Path) -> Layout | None:
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError:
        return None
    named = root.find("raw_file")
    name = "" if named is None else str(named.get("filename") or named.text or "")
    raw = path.parent / Path(name.replace("\\", "/")).name
    shape = _empad_shape(root, name)
    if not name or shape is None:
        return None
    if not raw.is_file():
        raise FileFormatError(
            f"{path.name} is a header without data",
            needed=f"{raw.name} beside it, as the header says",
            todo="copy it too, or give it back its name",
        )
    height, width, footer = _EMPAD
    record = _record("<f4", (height, width), after=4 * footer * width)
    return Layout(raw, 0, record, math.prod(shape), shape)


def _empad_shape(root: ElementTree.Element, raw_name: str) -> tuple[int, int] | None:
    nx, ny = root.findtext("pix_x"), root.findtext("pix_y")
    if nx and ny:
        return int(ny), int(nx)
    named = re.search(r"_x(\d+)_y(\d+)\.", raw_name)
    return (int(named[2]), int(named[1])) if named else None
