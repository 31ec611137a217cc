"""Measure child processes: CPU seconds, wall seconds and peak memory.

Everything that is measured runs in a process of its own, so that one measurement can't warm up,
or hold memory for, the next. This module stays light (standard library only): on Linux the peak
memory of a child counts what its parent held when it was started.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"

# One thread each, so that CPU seconds and wall seconds of every method mean the same
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA")
ONE_THREAD = dict.fromkeys([f"{library}_NUM_THREADS" for library in THREADS], "1")


class WorkerError(RuntimeError):
    """A measured process failed; the message holds the end of what it wrote."""


@dataclass(frozen=True)
class Cost:
    """What one process cost: CPU and wall time in seconds, peak resident memory in MB (10⁶ bytes)."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def measure(arguments: Sequence[str], python: Path | str = sys.executable) -> Cost:
    """Run ``python *arguments`` from the root of the project and return what it cost."""
    environment = os.environ | ONE_THREAD | {"MPLBACKEND": "Agg"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(python), *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdout:
        process.stdout.close()
    if process.returncode:
        tail = "\n".join(output.decode(errors="replace").splitlines()[-15:])
        raise WorkerError(f"{' '.join(arguments)} ended with {process.returncode}:\n{tail}")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, KiB elsewhere
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * unit / 1e6)


def median_cost(arguments: Sequence[str], repeats: int, python: Path | str = sys.executable) -> Cost:
    """Return the medians over `repeats` runs, after one unmeasured run that fills the file caches."""
    measure(arguments, python)
    costs = [measure(arguments, python) for _ in range(repeats)]
    return Cost(
        *(statistics.median(getattr(c, name) for c in costs) for name in ("cpu_s", "wall_s", "peak_mb"))
    )


def worker(name: str, *arguments: str | Path, python: Path | str = sys.executable) -> Cost:
    """Run ``workers/<name>.py`` with `arguments` and return what it cost."""
    path = Path(__file__).parent / "workers" / f"{name}.py"
    return measure([str(path), *map(str, arguments)], python)


def have_peers() -> bool:
    """Return whether ``make peers`` has been run."""
    return PEERS_PYTHON.exists()
