"""Patterns of a file put into the shape of their scan: what the header says, what the caller says, what is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fairstem.errors import DataError
from fairstem.signals.axes import Axis, axes_of_signal
from fairstem.signals.door import open_data
from fairstem.signals.findings import Finding
from fairstem.signals.layouts import Layout, layout_of, merlin_header_file
from fairstem.signals.scans import Missing, arrange, check_request, stack_finding

__all__ = ["Placing", "placing_of"]


@dataclass(frozen=True)
class Placing:
    """How the patterns of one file are laid out.

    Parameters
    ----------
    file
        The file.
    layout
        Where the patterns lie in it; None for formats that are left to their reader.
    shape
        The scan (y, x) that the caller asked for, None to take the header's.
    flyback, missing
        As in `scan_from_frames`.
    """

    file: Path
    layout: Layout | None
    shape: tuple[int, int] | None
    flyback: int
    missing: Missing

    @property
    def by_layout(self) -> bool:
        """True when the patterns are taken from the file as it lies, the reader only says what they are."""
        return self.layout is not None and (self.shape or self.layout.shape) is not None

    def place(self, signals: list[Any], lazy: bool) -> list[tuple[Any, list[Finding]]]:
        """Lay out the signals that were read; those that are no patterns stay as they are.

        Raises
        ------
        DataError
            A shape was asked for and none of the signals fits it.
        """
        if self.by_layout:
            return [self._from_layout(signals[0], lazy)]
        if self.shape is None:
            return [_with_scan_axes(signal, self._notice(signal)) for signal in signals]
        several = len(signals) > 1
        placed = []
        for signal in signals:
            if several and not (signal.data.ndim >= 3 and signal.axes_manager.signal_dimension == 2):
                placed.append((signal, list[Finding]()))
                continue
            placed.append(arrange(signal, self.shape, self.flyback, self.missing, self.file.name))
        return placed

    def _from_layout(self, signal: Any, lazy: bool) -> tuple[Any, list[Finding]]:
        layout = self.layout
        shape = self.shape or (layout.shape if layout else None)
        if layout is None or shape is None:
            raise DataError(f"{self.file.name} has no known layout", needed="scan_shape=")
        number, found = self._number(layout, shape)
        axes = axes_of_signal(signal)
        detector = [replace(axis, navigate=False) for axis in axes[-2:]]
        frames = open_data(signal.as_lazy() if not signal._lazy else signal, name=self.file.name).rewrap(
            layout.frames(number), axes=[Axis("frame", number, navigate=True), *detector]
        )
        scan, laid = arrange(frames, shape, self.flyback, self.missing, self.file.name)
        if self.shape is None:
            laid = [f for f in laid if f.code != "scan-shape"]  # the header's own shape is nothing to report
        _calibrate_scan(scan, axes)
        if not lazy:
            scan.compute(show_progressbar=False)
        return scan, [*found, *laid, *self._header_missing()]

    def _number(self, layout: Layout, shape: tuple[int, int]) -> tuple[int, list[Finding]]:
        """Return how many patterns are taken, and whether the header says something else."""
        promised, there = layout.promised, layout.found
        needed = shape[0] * (shape[1] + self.flyback)
        if promised is None or promised == there:
            return there, []
        if there > promised and needed != there:
            return promised, []  # what follows the last pattern is none
        message = f"the header promises {promised} patterns, the file holds {there}"
        return there, [Finding("header-contradicted", "warning", message, f"{promised}", f"{there}", "file")]

    def _notice(self, signal: Any) -> list[Finding]:
        """Say what is doubtful about the shape that the reader gave."""
        axes = axes_of_signal(signal)
        scanned = [a.size for a in axes if a.navigate]
        kind = str(signal.metadata.get_item("Signal.signal_type", default=""))
        found = self._header_missing()
        if len(axes) == 3 and len(scanned) == 1 and "diffraction" in kind and scanned[0] > 1:
            return [*found, stack_finding(scanned[0])]
        merlin = self.layout is not None and self.file.suffix.lower() == ".mib"
        if not merlin or self.layout is None or len(scanned) != 2:
            return found
        shape = f"{scanned[0]} × {scanned[1]}"
        message = (
            f"the scan shape {shape} (y × x) was guessed from gaps in the time stamps, the header does not say it; "
            "pass scan_shape=(ny, nx) if it is wrong"
        )
        found.append(Finding("scan-shape-guessed", "warning", message, assumed=shape, topic="file"))
        dropped = self.layout.found - scanned[0] * scanned[1]
        if dropped:
            message = f"{dropped} of {self.layout.found} patterns do not fit that shape and were dropped"
            found.append(Finding("patterns-dropped", "warning", message, topic="file"))
        return found

    def _header_missing(self) -> list[Finding]:
        if self.file.suffix.lower() != ".mib" or merlin_header_file(self.file) is not None:
            return []
        message = (
            f"{self.file.stem}.hdr is missing, so the number of patterns and the scan shape that were asked for at the "
            "microscope are not known: copy it too, or pass scan_shape=(ny, nx)"
        )
        return [Finding("header-missing", "warning", message, topic="file")]


def placing_of(
    file: Path, reader: str | None, scan_shape: Any = None, flyback: int = 0, missing: Missing = "refuse"
) -> Placing:
    """Measure a file and check how its patterns are to be laid out.

    Parameters
    ----------
    file
        The file.
    reader
        Its reader, where the extension does not say it.
    scan_shape, flyback, missing
        As given to `fairstem.load`.

    Raises
    ------
    DataTypeError, DataError
        The arguments are wrong, or `flyback` came without a shape.
    FileFormatError
        Patterns are missing, and the caller did not say what to do about it.
    """
    layout = layout_of(file, reader) if file.is_file() else None
    known = scan_shape if scan_shape is not None else (layout.shape if layout else None)
    shape, flyback = check_request((1, 1) if known is None else known, flyback, missing)
    if flyback and known is None:
        raise DataError(
            f"flyback={flyback} without a scan shape", needed="scan_shape=(ny, nx), flyback not counted"
        )
    if scan_shape is None and layout is not None:
        row = layout.shape[1] if layout.shape else 0
        crops = missing == "crop" and 0 < row <= layout.found
        if not layout.complete and not crops:
            raise layout.missing(file.name)
    return Placing(file, layout, shape if scan_shape is not None else None, flyback, missing)


def _with_scan_axes(signal: Any, found: list[Finding]) -> tuple[Any, list[Finding]]:
    """Tell the scan from the detector where the file does not: 4 axes, none of them for navigation."""
    axes = axes_of_signal(signal)
    if len(axes) != 4 or any(a.navigate for a in axes) or signal.data.dtype.kind not in "uif":
        return signal, found
    message = "the file does not say which of its 4 axes are the scan: the order (y, x, k_y, k_x) was assumed"
    assumed = Finding("axes-assumed", "warning", message, given=str(tuple(signal.data.shape)), topic="file")
    marked = [replace(axis, navigate=i < 2) for i, axis in enumerate(axes)]
    return open_data(signal).rewrap(signal.data, axes=marked), [*found, assumed]


def _calibrate_scan(scan: Any, axes: tuple[Axis, ...]) -> None:
    """Give the scan's axes the calibration that the reader found."""
    if len(axes) != 4:
        return
    for axis, known in zip(scan.axes_manager._axes[:2], axes[:2], strict=True):
        axis.scale, axis.offset = known.scale, known.offset
        if known.units:
            axis.units = known.units
        axis.name = known.name or axis.name
