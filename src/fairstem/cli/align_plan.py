"""What a registration will read and how much memory it will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairstem.errors import DataError

__all__ = ["choose_lazy", "plan_series", "say_plan"]

# measured on series of 1024² px, report included: 360 bytes a pixel of one frame (canvases of the reference,
# maps, pictures) on top of 410 MB of libraries and of the series itself
LIBRARY_BYTES = 420_000_000
BYTES_PER_PIXEL = {"rowwise": 400, "rigid": 400, "dense": 500}
FIELD_BYTES_PER_PIXEL = 16  # a dense displacement, float64, in each frame


def plan_series(
    files: Sequence[Path],
    source: Mapping[str, Any],
    method: Mapping[str, Any],
    *,
    lazy: bool = False,
    memory: str | None = None,
) -> dict[str, Any]:
    """Say what would be read, in which blocks, and how much memory it would take.

    Parameters
    ----------
    files, source
        As for `fairstem.cli.series.load_series`.
    method
        Arguments of `fairstem.register.align`.
    lazy
        Read frames from disk when they are needed.
    memory
        Memory to stay within; frames are read lazily where they would not fit otherwise.

    Returns
    -------
    dict
        JSON-ready.

    Raises
    ------
    DataError
        If it does not fit into `memory`, or the files hold no series.
    """
    from fairstem.cli.dry_run import what_comes_in, what_it_takes
    from fairstem.cli.series import load_series
    from fairstem.compute import parse_bytes, plan
    from fairstem.signals import describe, open_data

    signal = load_series(files, **{**source, "lazy": True})
    opened = open_data(signal, name="the series")
    facts = describe(signal)
    limit = None if memory is None else parse_bytes(memory)
    whole, streamed = _peaks(facts, str(method.get("model", "rowwise")))
    lazily = lazy or (limit is not None and whole > limit)
    peak = streamed if lazily else whole
    if limit is not None and peak > limit:
        raise _too_little(facts, peak, limit)
    n, ny, nx = facts["shape"]
    one_frame = ny * nx * opened.array.dtype.itemsize
    blocks = plan((n, ny, nx), opened.array.dtype, budget=one_frame, keep_axes=(-2, -1), working=0)
    return {
        "files": [str(file) for file in files],
        "frames": n,
        **what_comes_in(facts),
        "model": method.get("model", "rowwise"),
        "lazy": lazily,
        "chunks": facts["chunks"],
        **what_it_takes(blocks, peak),
    }


def _peaks(facts: Mapping[str, Any], model: str) -> tuple[int, int]:
    """Return the peak memory with the series in memory, and with its frames read one by one."""
    n, ny, nx = facts["shape"]
    work = LIBRARY_BYTES + ny * nx * BYTES_PER_PIXEL[model]
    if model == "dense":
        work += n * ny * nx * FIELD_BYTES_PER_PIXEL
    chunk = facts["chunks"]["largest_bytes"] if facts["chunks"] else facts["bytes"]
    return work + facts["bytes"], work + 2 * chunk


def _too_little(facts: Mapping[str, Any], peak: int, limit: int) -> DataError:
    from fairstem.compute import format_bytes

    shape = " × ".join(map(str, facts["shape"]))
    return DataError(
        f"a memory budget of {format_bytes(limit)} for {shape} {facts['dtype']}",
        needed=f"about {format_bytes(peak)}, with the frames read one by one",
        todo="raise --memory, or crop or bin the frames",
    )


def choose_lazy(
    files: Sequence[Path],
    source: Mapping[str, Any],
    method: Mapping[str, Any],
    *,
    lazy: bool = False,
    memory: str | None = None,
) -> bool:
    """Say whether frames are to be read from disk when they are needed.

    Parameters
    ----------
    files, source, method, lazy, memory
        As for `plan_series`.

    Returns
    -------
    bool
        As asked, or where the series does not fit the memory otherwise.

    Raises
    ------
    DataError
        If it does not fit into `memory` either way.
    """
    if lazy and memory is None:
        return True
    if memory is None:
        return False
    return bool(plan_series(files, source, method, lazy=lazy, memory=memory)["lazy"])


def say_plan(facts: Mapping[str, Any], json: bool) -> None:
    """Write a plan to standard output.

    Parameters
    ----------
    facts
        Of `plan_series`.
    json
        For a program, not for a reader.
    """
    from fairstem.cli import dry_run

    shape = " × ".join(map(str, facts["shape"][1:]))
    what = f"{_named(facts['files'])}: {facts['frames']} frames of {shape}, {facts['dtype']}"
    read = "read from disk one by one" if facts["lazy"] else "in memory"
    dry_run.say_plan(facts, json, what, f"model: {facts['model']}; frames are {read}")


def _named(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
