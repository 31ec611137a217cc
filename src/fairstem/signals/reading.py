"""Read a file: HyperSpy's load, with clear errors and with calibration checks that are written down."""

from __future__ import annotations

import difflib
import gc
import logging
import traceback
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from fairstem._version import __version__
from fairstem.errors import DataTypeError, FairstemError, FileFormatError, MissingDependencyError
from fairstem.signals.axes import axes_of_signal, image_axes
from fairstem.signals.calibration import check_signal, repair
from fairstem.signals.conventions import settle_conventions
from fairstem.signals.findings import Finding, warn_findings
from fairstem.signals.formats import known_extensions, own_readers
from fairstem.signals.placing import placing_of
from fairstem.signals.scans import Missing
from fairstem.signals.sniffing import check_complete, sniff

__all__ = ["load"]

_PICTURES = {"png", "jpg", "jpeg", "jpe", "bmp", "gif", "dib"}
_FOLDER_FORMATS = {"zspy", "zarr"}
# what HyperSpy says although nothing is wrong, or although the error that follows says it better
_CHATTER = (
    *("not understood", "Unable to infer file type", "If this file format is supported"),
    "file couldn't be found",
)
_CHATTERING = ("hyperspy.io", "rsciio.quantumdetector._api")
_HARMLESS = ("Loading old file version", "unclosed file")


def load(
    path: str | Path,
    lazy: bool = False,
    *,
    reader: str | None = None,
    dataset: str | int | None = None,
    pixel_size_nm: float | tuple[float, float] | None = None,
    units: str | None = None,
    scan_shape: tuple[int, int] | Literal["auto"] | None = None,
    flyback: int = 0,
    missing: Missing = "refuse",
    warn: bool = True,
    **options: Any,
) -> Any:
    """Read a file as HyperSpy does, check its calibration, and write down what was found.

    Parameters
    ----------
    path
        One file in a format of RosettaSciIO, or a StatSTEM ``.mat``, ``.npz``, Atomap or fpd file.
    lazy
        True leaves the data on disk until they are needed. Values are not checked then.
    reader
        Name of the reader, such as ``"HSPY"``; by default chosen by extension and content.
    dataset
        Which one, when the file holds several: number or title of a signal; the name of the variable
        in ``.mat`` and ``.npz`` files; the path in Atomap and fpd files.
    pixel_size_nm
        Pixel size in nm, one number or (py, px), when the file's is missing or wrong.
    units
        Unit of the pixel size when only that was lost, such as ``"nm"``.
    scan_shape
        Positions (y, x) of a 4D scan whose file does not say them, or says them wrong; ``"auto"`` lets the reader
        of ``.tvips`` find them.
    flyback
        Patterns at the end of each row of a scan that are left out.
    missing
        ``"crop"`` keeps the complete rows of an interrupted scan; by default it is refused.
    warn
        False silences the warnings; the findings are in the metadata all the same.
    **options
        For ``hyperspy.api.load``.

    Returns
    -------
    hyperspy signal, or list of them
        A list when the file holds several, exactly as HyperSpy does. Each has
        ``metadata.fairstem.reading`` with the file's name, the reader, the version and the findings:
        code, severity, message, what was given, what was assumed.

    Raises
    ------
    FileFormatError
        The file does not exist, is empty, truncated, damaged, unreadable or of an unknown format.
    DataTypeError
        `path` is no path.
    CalibrationError
        A repair is impossible.
    DataError
        The number of patterns does not fit `scan_shape`; the message says which shapes would.
    MissingDependencyError
        The reader needs a package that is not installed.

    Warns
    -----
    CalibrationWarning
        Pixel size missing, absurd or without unit; pixels not square; energy axis without unit.
    DataWarning
        Averages instead of counts, a gain or an offset, saturation, NaN, 8-bit pictures.

    Notes
    -----
    Nothing is repaired without being asked: a lost unit is suggested, not applied; only numbers that a reader
    made up are taken back. The parameter that matters is
    `pixel_size_nm`: take it from the microscope's own file or from a known lattice parameter.
    Cost: that of HyperSpy's reader, plus a few passes over the data when they are in memory.

    Examples
    --------
    >>> import fairstem
    >>> s = fairstem.load(fairstem.data.fetch("16_STOimage_1.ser"))  # doctest: +SKIP
    >>> s.metadata.fairstem.reading.findings  # doctest: +SKIP
    """
    file = _existing(path)
    extension = file.suffix.lower().lstrip(".")
    findings: list[Finding] = []
    if reader is None:
        reader, findings = _choose(file, extension)
    check_complete(file)
    if scan_shape == "auto" and extension == "tvips":
        options["scan_shape"], scan_shape = "auto", None
    placing = placing_of(file, reader, scan_shape, flyback, missing)
    name, loaded, noticed = _read(file, lazy or placing.by_layout, reader, dataset, options)
    single = not isinstance(loaded, list)
    signals = [loaded] if single else _select(loaded, dataset, file)
    if not signals:
        raise _nothing(file)
    settled = [settle_conventions(signal, name) for signal in signals]
    with _quiet():
        signals, placed = (list(part) for part in zip(*placing.place(signals, lazy), strict=True))
    mended = _mend(signals, pixel_size_nm, units)
    for signal, *early in zip(signals, settled, placed, mended, strict=True):
        checked = check_signal(signal, picture=extension in _PICTURES)
        found = [*findings, *noticed, *_class_finding(signal), *chain(*early), *checked]
        reading = {"file": file.name, "reader": name, "version": __version__}
        signal.metadata.set_item("fairstem.reading", reading | {"findings": [f.to_dict() for f in found]})
        if warn:
            title = signal.metadata.get_item("General.title", default="")
            prefix = file.name if len(signals) == 1 or not title else f"{file.name} ({title})"
            warn_findings(found, prefix, stacklevel=3)
    return signals[0] if single or dataset is not None else signals


def _existing(path: object) -> Path:
    """Return the path when it is one readable, non-empty file; say what is wrong otherwise."""
    if not isinstance(path, str | Path):
        todo = "load files one by one" if isinstance(path, list | tuple) else "pass a file name"
        raise DataTypeError(f"path is a {type(path).__name__}", needed="the path of one file", todo=todo)
    file = Path(path).expanduser()
    if not file.exists():
        siblings = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
        near = difflib.get_close_matches(file.name, siblings, n=2)
        todo = f"check the name; the folder is {file.parent.resolve()}"
        if near:
            todo = f"perhaps {' or '.join(near)} was meant"
        raise FileFormatError(f"{file} does not exist", needed="an existing file", todo=todo)
    if file.is_dir():
        if file.suffix.lower().lstrip(".") in _FOLDER_FORMATS:
            return file
        raise FileFormatError(f"{file} is a folder", needed="one file", todo="load its files one by one")
    try:
        with file.open("rb") as handle:
            first = handle.read(1)
    except OSError as error:
        raise FileFormatError(
            f"{file} can't be opened: {error.strerror or error}",
            needed="permission to read it",
            todo="change its permissions, or copy it to a folder of your own",
        ) from error
    if not first:
        raise FileFormatError(f"{file} is empty (0 bytes)", todo="copy it again from the microscope")
    return file


def _choose(file: Path, extension: str) -> tuple[str | None, list[Finding]]:
    """Choose the reader where the extension alone does not."""
    if extension == "zip":
        raise _zipped(file)
    sniffed = sniff(file)
    if sniffed is not None:
        reader, why = sniffed
        message = f".{extension} is used by several programs; read with {reader}, because {why}"
        return reader, [Finding("format-resolved", "info", message, assumed=reader, topic="file")]
    known = known_extensions()
    readers = known.get(extension, [])
    own = [r for r in readers if r in own_readers()]
    if own:
        return own[0], []
    if len(readers) > 1:
        listed, todo = " or ".join(readers), "name it with reader="
        if extension == "csv":
            todo += "; a table of positions is read with pandas.read_csv"
        raise FileFormatError(f"{file.name}: .{extension} has several readers", needed=listed, todo=todo)
    if not readers and extension not in _FOLDER_FORMATS:
        given = (
            f"{file.name}: .{extension} is no known format" if extension else f"{file.name} has no extension"
        )
        todo = "export it to .hspy, .dm4, .emd, .ser or .tif, or name the reader with reader="
        raise FileFormatError(given, needed=f"one of {', '.join(sorted(known))}", todo=todo)
    return None, []


def _zipped(file: Path) -> FileFormatError:
    try:
        with zipfile.ZipFile(file) as archive:
            inside = [n for n in archive.namelist() if not n.endswith("/")]
    except zipfile.BadZipFile:
        return FileFormatError(f"{file.name} is a damaged .zip archive", todo="copy it again, then unpack it")
    listed = ", ".join(inside[:4]) + (" ..." if len(inside) > 4 else "")
    return FileFormatError(
        f"{file.name} is a .zip archive of {len(inside)} files ({listed})",
        needed="an unpacked file",
        todo=f"unpack it first: python -m zipfile -e '{file}' '{file.stem}', then load a file in {file.stem}",
    )


@contextmanager
def _quiet() -> Iterator[list[Finding]]:
    """Drop HyperSpy's known chatter; collect the warnings of its readers as findings."""

    def keep(record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in _CHATTER)

    found: list[Finding] = []
    loggers = [logging.getLogger(name) for name in _CHATTERING]
    for logger in loggers:
        logger.addFilter(keep)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", ResourceWarning)
            yield found
    finally:
        for logger in loggers:
            logger.removeFilter(keep)
    texts = [t for t in dict.fromkeys(str(w.message) for w in caught) if not any(h in t for h in _HARMLESS)]
    found += [Finding("reader-warning", "warning", f"the reader warns: {t}", topic="file") for t in texts]


def _read(
    file: Path, lazy: bool, reader: str | None, dataset: str | int | None, options: dict[str, Any]
) -> tuple[str, Any, list[Finding]]:
    """Read the file with one of fairstem's readers or with HyperSpy; every failure becomes a clear error."""
    own = own_readers().get(reader or "")
    if own is not None and dataset is not None and not isinstance(dataset, str):
        raise DataTypeError(f"dataset is {dataset!r}", needed="a name, for this format")
    try:
        with _quiet() as noticed:
            if own is not None:
                loaded = own(file, lazy, dataset if isinstance(dataset, str) else None)
            else:
                # the lazy reader of pictures fails, and pictures are small
                picture = lazy and file.suffix.lower().lstrip(".") in _PICTURES
                loaded = _hyperspy_load(file, lazy and not picture, reader, options)
                loaded = loaded.as_lazy() if picture else loaded
    except FairstemError:
        raise
    except MemoryError as error:
        todo = "load it with lazy=True"
        raise FileFormatError(
            f"{file.name} does not fit into memory", needed="more memory", todo=todo
        ) from error
    except ImportError as error:
        todo = f"pip install {error.name or 'the package'}"
        given = f"reading {file.name} needs a package that is not installed: {error}"
        raise MissingDependencyError(given, todo=todo) from error
    except Exception as error:  # readers fail in every way there is; the cause stays attached
        _release(error)
        raise _unreadable(file, error) from error
    return (reader or "") if own is not None else reader or _plugin_name(loaded), loaded, noticed


def _hyperspy_load(file: Path, lazy: bool, reader: str | None, options: dict[str, Any]) -> Any:
    import hyperspy.api as hs

    # the brackets of a file name are no pattern
    return hs.load(str(file), lazy=lazy, file_format=reader, escape_square_brackets=True, **options)


def _release(error: BaseException) -> None:
    """Close the files that a failed reader left open: they hang on the local variables of its traceback."""
    with _quiet():
        cause: BaseException | None = error
        while cause is not None:
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__cause__ or cause.__context__
        gc.collect()


def _unreadable(file: Path, error: Exception) -> FileFormatError:
    size = f" ({file.stat().st_size} bytes)" if file.is_file() else ""
    return FileFormatError(
        f"{file.name}{size} can't be read: {type(error).__name__}: {str(error).strip()[:300]}",
        needed="a complete file of the format that its extension says",
        todo="compare its size with the original (it may be truncated), or name the reader with reader=",
    )


def _plugin_name(loaded: Any) -> str:
    """Return the name of the plug-in that HyperSpy noted down."""
    first = loaded[0] if isinstance(loaded, list) and loaded else loaded
    if not hasattr(first, "metadata"):
        return ""
    notes = first.metadata.get_item("General.FileIO", default=None)
    if notes is None:
        return ""
    steps = list(notes.as_dictionary().values())
    return str(steps[-1].get("io_plugin", "")).removeprefix("rsciio.") if steps else ""


def _select(signals: list[Any], dataset: str | int | None, file: Path) -> list[Any]:
    if dataset is None or not signals:
        return signals
    titles = [str(s.metadata.get_item("General.title", default="")) for s in signals]
    if isinstance(dataset, int) and -len(signals) <= dataset < len(signals):
        return [signals[dataset]]
    if dataset in titles:
        return [signals[titles.index(str(dataset))]]
    listed = ", ".join(f"{i} {t!r}" for i, t in enumerate(titles))
    raise FileFormatError(f"{file.name} has no signal {dataset!r}", todo=f"pass one of dataset={listed}")


def _nothing(file: Path) -> FileFormatError:
    if file.suffix.lower() == ".emi":
        needed = f"its data files {file.stem}_1.ser, {file.stem}_2.ser, ... beside it"
        return FileFormatError(f"{file.name} is a header without data", needed=needed, todo="copy them too")
    return FileFormatError(
        f"{file.name} holds no data that its reader understands", todo="name another reader="
    )


def _mend(
    signals: list[Any], pixel_size_nm: float | tuple[float, float] | None, units: str | None
) -> list[list[Finding]]:
    """Repair the signals that have an image; of several, lone spectra are left as they are."""
    spatial = [image_axes(axes_of_signal(s)) is not None for s in signals]
    if not any(spatial):
        spatial = [True] * len(signals)  # nothing to repair: let the repair say so
    return [repair(s, pixel_size_nm, units) if ok else [] for s, ok in zip(signals, spatial, strict=True)]


def _class_finding(signal: Any) -> list[Finding]:
    """Say when the signal's own class is missing, which HyperSpy only logs."""
    wanted = str(signal.metadata.get_item("Signal.signal_type", default=""))
    if not wanted or getattr(signal, "_signal_type", "") == wanted:
        return []
    message = (
        f"the signal type {wanted} belongs to a HyperSpy extension that is not installed; read as "
        f"{type(signal).__name__}, which all of fairstem's methods take"
    )
    return [
        Finding("signal-type", "info", message, given=wanted, assumed=type(signal).__name__, topic="file")
    ]
