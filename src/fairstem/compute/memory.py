"""Sizes in bytes: reading and writing them, what this machine has, what this process took."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

from fairstem.errors import DataError, DataTypeError

__all__ = ["available_bytes", "format_bytes", "parse_bytes", "peak_process_bytes"]

_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([kmgtp]?)(i?)(b?)\s*", re.IGNORECASE)


def parse_bytes(size: int | float | str) -> int:
    """Turn a size such as ``"256 MB"`` into bytes.

    Parameters
    ----------
    size
        A number of bytes, or a number with a unit: B, kB, MB, GB, TB, PB (powers of 1000) or KiB,
        MiB, GiB, TiB, PiB (powers of 1024). Case and spaces don't matter.

    Returns
    -------
    int
        Bytes, rounded down.

    Raises
    ------
    DataError
        If the unit is unknown, or the size is not positive and finite.
    DataTypeError
        If `size` is neither a number nor a string.

    Examples
    --------
    >>> parse_bytes("256 MB"), parse_bytes("1.5GiB"), parse_bytes(1000)
    (256000000, 1610612736, 1000)
    """
    if isinstance(size, bool) or not isinstance(size, int | float | str):
        raise DataTypeError(
            f"a size of type {type(size).__name__}", needed="bytes, as a number or such as '256 MB'"
        )
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        if match is None or (match[3] and not match[2]):
            raise DataError(
                f"size {size!r}",
                needed="a number with B, kB, MB, GB, TB, MiB, GiB or TiB",
                todo="write '256 MB'",
            )
        number, prefix = float(match[1]), match[2].lower()
        value = number * (_BINARY[prefix] if match[3] else _DECIMAL[prefix])
    else:
        value = size
    if not math.isfinite(value) or value < 1:
        raise DataError(f"size {size!r}", needed="at least one byte, and finite")
    return int(value)


def format_bytes(size: int | float) -> str:
    """Write a number of bytes for a reader, in powers of 1000.

    Parameters
    ----------
    size
        Bytes.

    Returns
    -------
    str
        Three significant digits and a unit.

    Examples
    --------
    >>> format_bytes(268_435_456), format_bytes(12), format_bytes(999_999)
    ('268 MB', '12 B', '1 MB')
    """
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        # 999.5 rounds to 1e+03 in three digits, so it belongs to the next unit
        if abs(value) < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} PB"


def available_bytes() -> int | None:
    """Return the memory this process can still take, in bytes.

    Returns
    -------
    int or None
        The smaller of the machine's available memory and what the control group (container, batch
        job) leaves; None where the system does not say.

    Examples
    --------
    >>> free = available_bytes()
    >>> free is None or free > 0
    True
    """
    found: list[int] = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
            found.append(max(int(limit) - used, 0))
    except (OSError, ValueError):
        pass
    return min(found) if found else None


def peak_process_bytes() -> int | None:
    """Return the largest resident memory this process has had so far, in bytes.

    Returns
    -------
    int or None
        None on systems without `resource` (Windows).

    Examples
    --------
    >>> peak = peak_process_bytes()
    >>> peak is None or peak > 1_000_000
    True
    """
    try:
        # the kernel's own mark: `getrusage` keeps what the parent held when it started this process
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
