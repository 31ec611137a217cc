"""What ``fairstem denoise --dry-run`` says: shapes, units, plan and memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["LIBRARY_BYTES", "PEAK_BYTES_PER_PIXEL", "plan_denoising", "say_plan"]

# measured with phantoms of 512² and 1024² px, report included: 439 and 605 MB
PEAK_BYTES_PER_PIXEL = 230
LIBRARY_BYTES = 390_000_000


def plan_denoising(file: Path, source: Mapping[str, Any], method: Mapping[str, Any]) -> dict[str, Any]:
    """Say what would be denoised, how, and how much memory that takes.

    Parameters
    ----------
    file, source
        As for `fairstem.cli.denoise_measure.load_frames`.
    method
        Arguments of `fairstem.denoise.nonlocal_means`.

    Returns
    -------
    dict
        JSON-ready.

    Raises
    ------
    DataError
        If the file holds no image.
    """
    from fairstem.cli.denoise_measure import load_frames
    from fairstem.cli.dry_run import what_comes_in, what_it_takes
    from fairstem.compute import plan
    from fairstem.signals import describe, open_data

    signal = load_frames(file, **{**source, "lazy": True})
    opened = open_data(signal, ndim=(2, 3))
    facts = describe(signal)
    shape, dtype = tuple(opened.array.shape), opened.array.dtype
    *frames, ny, nx = shape
    # by shape: how the file is cut does not matter to the frames
    blocks = plan(shape, dtype, budget=ny * nx * dtype.itemsize, keep_axes=(-2, -1), working=0)
    peak = LIBRARY_BYTES + ny * nx * PEAK_BYTES_PER_PIXEL
    if frames and source.get("lazy"):
        peak += 2 * (facts["chunks"]["largest_bytes"] if facts["chunks"] else 0)
    elif frames:
        # the stack as it came in and as it goes out
        peak += frames[0] * ny * nx * (dtype.itemsize + 4)
    return {
        "file": str(file),
        "frames": frames[0] if frames else None,
        **what_comes_in(facts),
        "parameters": dict(method),
        "lazy": bool(source.get("lazy")),
        **what_it_takes(blocks, peak),
    }


def say_plan(facts: Mapping[str, Any], json: bool) -> None:
    """Write a plan to standard output.

    Parameters
    ----------
    facts
        Of `plan_denoising`.
    json
        For a program, not for a reader.
    """
    from fairstem.cli import dry_run

    asked = ", ".join(f"{name} {value}" for name, value in facts["parameters"].items())
    stack = "" if facts["frames"] is None else f", {facts['frames']} frames, each by itself"
    what = f"{facts['file']}: {' × '.join(map(str, facts['shape']))} {facts['dtype']}{stack}"
    dry_run.say_plan(facts, json, what, f"method: non-local means, {asked}")
