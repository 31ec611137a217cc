"""Outputs that are whole or absent: written beside their place, moved there at the end.

An interrupted run, a full disk or a crash leaves what was there before, and nothing else.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from fairstem.errors import OutputError

__all__ = ["staged_output", "write_text"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {
    errno.EEXIST,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.EIO,
}


def _explain(error: OSError, path: Path, *, begun: bool) -> OutputError | None:
    """Turn an OSError of writing into one that says what to do; None if it is about something else."""
    text = str(error)
    # HDF5 hides the number of the error in its message
    if error.errno in _FULL or "No space left on device" in text or f"errno = {errno.ENOSPC}" in text:
        return OutputError(
            f"{path}: no space left on the disk",
            todo="free some space, or write somewhere else; nothing was left behind",
        )
    if error.errno in _REFUSED or not begun:  # before the work begins it can only be the place
        reason = error.strerror or text
        return OutputError(
            f"{path} can't be written: {reason}",
            needed="a folder you may write in",
            todo="choose another output",
        )
    return None


@contextmanager
def _terminate_as_exception() -> Generator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that temporary files are removed."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows can't open folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems can't sync; they can still store
            raise
    finally:
        os.close(descriptor)


def _missing_parents(path: Path) -> list[Path]:
    return [p for p in path.parents if not p.exists()]


def _move_into(staged: Path, target: Path) -> None:
    """Move every file of `staged` into the existing folder `target`, or none of them."""
    keep = Path(tempfile.mkdtemp(prefix=".replaced-", dir=staged.parent))
    done: list[tuple[Path, Path | None]] = []
    try:
        for number, source in enumerate(sorted(p for p in staged.rglob("*") if p.is_file())):
            place = target / source.relative_to(staged)
            place.parent.mkdir(parents=True, exist_ok=True)
            old = keep / str(number) if place.exists() else None
            if old is not None:
                place.replace(old)
            done.append((place, old))
            source.replace(place)
    except BaseException:
        for place, old in reversed(done):
            with suppress(OSError):
                place.unlink(missing_ok=True)
                if old is not None:
                    old.replace(place)
        raise
    finally:
        shutil.rmtree(keep, ignore_errors=True)


def _check_target(path: Path, folder: bool, overwrite: bool) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if folder != path.is_dir():
        kind = "a file" if folder else "a folder"
        raise OutputError(
            f"{path} is {kind}", needed="a folder" if folder else "a file name", todo="choose another output"
        )
    if not overwrite and not (folder and not any(path.iterdir())):
        raise OutputError(
            f"{path} exists already" + (" and is not empty" if folder else ""),
            todo="choose another output, or allow overwriting with overwrite=True",
        )


def _commit(staged: Path, target: Path, folder: bool) -> None:
    files = [p for p in staged.rglob("*") if p.is_file()] if folder else [staged]
    for file in files:
        _sync(file)
    if folder and target.is_dir():
        _move_into(staged, target)
        _sync(target)
    else:
        staged.replace(target)
        _sync(target.parent)


@contextmanager
def staged_output(path: str | Path, *, folder: bool = False, overwrite: bool = False) -> Generator[Path]:
    """Write a file or a folder so that it is either whole or absent.

    The body writes to a temporary place on the same disk. When it ends well everything is synced
    and moved into place; when it ends with any exception, Ctrl-C or SIGTERM included, it is removed.

    Parameters
    ----------
    path
        Where the output shall be. Missing parent folders are made, and removed again on failure.
    folder
        Whether the output is a folder of files. An existing folder keeps its other files: only
        those of the same names are replaced.
    overwrite
        Allow replacing what exists. An empty folder may always be filled.

    Yields
    ------
    pathlib.Path
        Where to write: the temporary file (with the suffix of `path`; not made yet) or the
        temporary folder.

    Raises
    ------
    OutputError
        If the place is taken, can't be written, or the disk is full; it says what to do.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with staged_output(pathlib.Path(place) / "a.csv") as staged:
    ...         n = staged.write_text("y,x")
    ...     [p.name for p in pathlib.Path(place).iterdir()]
    ['a.csv']
    """
    target = Path(path).expanduser().absolute()
    _check_target(target, folder, overwrite)
    made = _missing_parents(target)
    stage: Path | None = None
    try:
        with _terminate_as_exception():
            target.parent.mkdir(parents=True, exist_ok=True)
            # inside an existing folder: its parent need not be writable
            beside = target if target.is_dir() else target.parent
            stage = Path(tempfile.mkdtemp(prefix=".fairstem-partial-", dir=beside))
            staged = stage / target.name
            if folder:
                staged.mkdir()
            yield staged
            if not staged.exists():
                raise OutputError(f"{target}: nothing was written")
            _commit(staged, target, folder)
            made = []
    except OSError as error:
        explained = (
            None if isinstance(error, OutputError) else _explain(error, target, begun=stage is not None)
        )
        if explained is None:
            raise
        raise explained from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()


def write_text(path: str | Path, text: str, *, overwrite: bool = False) -> Path:
    """Write a text file (UTF-8) that is either whole or absent.

    Parameters
    ----------
    path
        Where to write.
    text
        What to write.
    overwrite
        Allow replacing an existing file.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    OutputError
        As `staged_output`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     write_text(pathlib.Path(place) / "note.txt", "done").read_text()
    'done'
    """
    target = Path(path).expanduser().absolute()
    with staged_output(target, overwrite=overwrite) as staged:
        staged.write_text(text, encoding="utf-8")
    return target
