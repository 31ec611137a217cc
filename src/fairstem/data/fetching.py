"""Get a sample file: from a folder of the user, from beside the checkout, from the cache, or download it."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fairstem.data.registry import Record, record
from fairstem.errors import DataError, OutputError

__all__ = ["available", "fetch"]

_LOG = logging.getLogger(__name__)
_VARIABLE = "FAIRSTEM_DATA"
# the frame in 01_Si110_5images.emi: position, size and shape; its rows are stored bottom up
_FRAME_START, _FRAME_SHAPE = 874, (1024, 1024)


def fetch(name: str) -> Path:
    """Return the path of a sample file, downloading it when it is nowhere on this machine.

    Looked up in this order: the folder that the environment variable ``FAIRSTEM_DATA`` names (flat or
    in sub-folders), ``../shared/data`` beside a source checkout, the cache, the network. The SHA-256
    is checked wherever the file comes from.

    Parameters
    ----------
    name
        Name of the file in `records`.

    Returns
    -------
    pathlib.Path
        The file. Treat it as read-only.

    Raises
    ------
    DataError
        The name is unknown; the file has the wrong hash; it is not on this machine and can't be
        downloaded; ``FAIRSTEM_DATA`` names no folder.

    Notes
    -----
    Cost: the hash of the file (≈ 1 ms per MB), and one download the first time.

    Examples
    --------
    >>> fetch("16_STOimage_1.ser")  # doctest: +SKIP
    PosixPath('.../16_STOimage_1.ser')
    """
    wanted = record(name)
    local = _find(wanted)
    if local is not None:
        return local
    if wanted.derived_from:
        return _carve(fetch(wanted.derived_from), wanted)
    return _download(wanted)


def available(name: str) -> bool:
    """Return whether `fetch` would give the file without the network.

    Parameters
    ----------
    name
        Name of the file in `records`.

    Raises
    ------
    DataError
        The name is unknown, or a file of that name on this machine has the wrong hash.
    """
    wanted = record(name)
    if _find(wanted) is not None:
        return True
    return bool(wanted.derived_from) and available(wanted.derived_from)


def cache_folder() -> Path:
    """Return the folder where downloaded files are kept."""
    import pooch

    return Path(pooch.os_cache("fairstem"))


def _folders() -> Iterator[Path]:
    given = os.environ.get(_VARIABLE)
    if given:
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise DataError(
                f"{_VARIABLE} is {given!r}, which is no folder",
                needed="the folder with the sample files",
                todo=f"correct or unset {_VARIABLE}",
            )
        yield folder
    checkout = Path(__file__).resolve().parents[3]
    beside = checkout.parent / "shared" / "data"
    if (checkout / "pyproject.toml").is_file() and beside.is_dir():
        yield beside
    yield cache_folder()


def _find(wanted: Record) -> Path | None:
    escaped = glob.escape(wanted.name)
    for folder in _folders():
        candidates = [
            p for depth in ("", "*/", "*/*/") for p in sorted(folder.glob(depth + escaped)) if p.is_file()
        ]
        if not candidates:
            continue
        for path in candidates:
            if _hash(path, wanted) == wanted.sha256:
                return path
        raise _wrong_hash(candidates[0], wanted)
    return None


def _wrong_hash(path: Path, wanted: Record) -> DataError:
    return DataError(
        f"{path} ({path.stat().st_size} bytes) is not the file of the registry: "
        f"its SHA-256 is {_hash(path, wanted)}",
        needed=f"{wanted.bytes} bytes with the SHA-256 {wanted.sha256}",
        todo=f"delete it, so that it can be fetched again from {wanted.url}",
    )


def _hash(path: Path, wanted: Record) -> str:
    if wanted.derived_from:
        import tifffile

        try:
            pixels = tifffile.imread(path)
        except Exception as error:  # whatever a damaged TIFF raises, it is not the file of the registry
            _LOG.debug("%s can't be read: %s", path, error)
            return "none: the file can't be read"
        return hashlib.sha256(np.ascontiguousarray(pixels, dtype="<u2").tobytes()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _carve(source: Path, wanted: Record) -> Path:
    """Write the frame inside the .emi header as a TIFF in the cache."""
    import tifffile

    raw = np.fromfile(source, dtype="<u2", count=_FRAME_SHAPE[0] * _FRAME_SHAPE[1], offset=_FRAME_START)
    frame = np.ascontiguousarray(raw.reshape(_FRAME_SHAPE)[::-1])
    target = cache_folder() / wanted.name
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            tifffile.imwrite(part, frame)
            if _hash(part, wanted) != wanted.sha256:
                raise _wrong_hash(part, wanted)
            part.replace(target)  # complete and checked: never half a file, never a wrong one
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target} can't be written: {error.strerror or error}",
            needed="a cache folder with 2 MB of space",
            todo=f"set {_VARIABLE} to a folder that holds {wanted.name}, or XDG_CACHE_HOME to a writable one",
        ) from error
    return target


def _download(wanted: Record) -> Path:
    import pooch

    _LOG.info("downloading %s (%.1f MB) from %s", wanted.name, wanted.bytes / 1e6, wanted.url)
    try:
        path = pooch.retrieve(
            wanted.url,
            known_hash=f"sha256:{wanted.sha256}",
            fname=wanted.name,
            path=cache_folder(),
            downloader=pooch.HTTPDownloader(timeout=30),
        )
    except ValueError as error:
        raise DataError(
            f"the download of {wanted.name} from {wanted.url} has the wrong hash",
            needed=f"{wanted.bytes} bytes with the SHA-256 {wanted.sha256}",
            todo="try again; if it stays so, a proxy may alter downloads",
        ) from error
    except OSError as error:  # requests' exceptions are OSErrors: no network, time-out, not found
        raise DataError(
            f"{wanted.name} is not on this machine and can't be downloaded ({type(error).__name__})",
            needed="network access, or the file in a local folder",
            todo=f"download {wanted.url} elsewhere and set {_VARIABLE} to the folder that holds it",
        ) from error
    return Path(path)
