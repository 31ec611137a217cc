"""Measure child processes: CPU seconds, wall seconds and peak memory.

Everything that is measured runs in a process of its own, so that one measurement can't warm up,
or hold memory for, the next. A bare interpreter starts the process and reads its accounts: on Linux the
peak memory of a child counts what its parent held when it was started.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
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


LAUNCHER = """
import json, os, sys, time
began = time.perf_counter()
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(pid, 0)
wall = time.perf_counter() - began
unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
record = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, wall, used.ru_maxrss * unit / 1e6]
with open(sys.argv[1], "w") as out:
    json.dump(record, out)
"""


def measure(
    arguments: Sequence[str], python: Path | str = sys.executable, variables: Mapping[str, str] | None = None
) -> Cost:
    """Run ``python *arguments`` from the root of the project, with extra environment `variables`; return its cost."""
    with tempfile.TemporaryDirectory() as folder:
        accounts = Path(folder) / "accounts.json"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, str(accounts), str(python), *arguments],
            cwd=ROOT,
            env=os.environ | ONE_THREAD | {"MPLBACKEND": "Agg"} | dict(variables or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        code, cpu, wall, peak = json.loads(accounts.read_text()) if accounts.exists() else (1, 0.0, 0.0, 0.0)
    if code:
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-15:])
        raise WorkerError(f"{' '.join(arguments)} ended with {code}:\n{tail}")
    return Cost(cpu, wall, peak)


def median_cost(arguments: Sequence[str], repeats: int, python: Path | str = sys.executable) -> Cost:
    """Return the medians over `repeats` runs, after one unmeasured run that fills the file caches."""
    measure(arguments, python)
    costs = [measure(arguments, python) for _ in range(repeats)]
    return Cost(
        *(statistics.median(getattr(c, name) for c in costs) for name in ("cpu_s", "wall_s", "peak_mb"))
    )


def worker(
    name: str,
    *arguments: str | Path,
    python: Path | str = sys.executable,
    variables: Mapping[str, str] | None = None,
) -> Cost:
    """Run ``workers/<name>.py`` with `arguments` and return what it cost."""
    path = Path(__file__).parent / "workers" / f"{name}.py"
    return measure([str(path), *map(str, arguments)], python, variables)


def have_peers(python: Path = PEERS_PYTHON) -> bool:
    """Return whether ``make peers`` has made the environment of `python`."""
    return python.exists()
