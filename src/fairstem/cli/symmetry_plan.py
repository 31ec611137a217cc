"""What ``fairstem symmetry --dry-run`` says: shapes, units, plan and memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["plan_symmetry", "say_plan"]

# measured with a scan of 600 MB in blocks of 60 MB, report included: 550 MB
LIBRARY_BYTES = 450_000_000
MAP_BYTES = 40  # per position and operation: γ, error, both again without correction, validity
WORKING = 0.5  # of a block, on top of it


def plan_symmetry(file: Path, source: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Say what would be read, how, and how much memory that takes.

    Parameters
    ----------
    file, source
        As for `fairstem.cli.scans.load_scan`.
    asked
        As for `fairstem.cli.symmetry_measure.measure`.

    Returns
    -------
    dict
        JSON-ready.

    Raises
    ------
    DataError
        If the file holds no scan.
    """
    from fairstem.cli.dry_run import what_comes_in, what_it_takes
    from fairstem.cli.scans import load_scan
    from fairstem.compute import plan
    from fairstem.signals import describe, open_data

    signal = load_scan(file, **source)
    opened = open_data(signal, name="the scan")
    facts = describe(signal)
    blocks = plan(opened.array, budget=asked.get("budget", "256 MB"), keep_axes=(-2, -1), working=WORKING)
    maps = math.prod(facts["shape"][:2]) * len(asked["operations"]) * MAP_BYTES
    chunk = facts["chunks"]["largest_bytes"] if facts["chunks"] else 0
    return {
        "file": str(file),
        **what_comes_in(facts),
        "parameters": dict(asked),
        "chunks": facts["chunks"],
        **what_it_takes(blocks, LIBRARY_BYTES + blocks.peak_bytes + chunk + maps),
    }


def say_plan(facts: Mapping[str, Any], json: bool) -> None:
    """Write a plan to standard output.

    Parameters
    ----------
    facts
        Of `plan_symmetry`.
    json
        For a program, not for a reader.
    """
    from fairstem.cli import dry_run

    asked = {name: value for name, value in facts["parameters"].items() if name != "operations"}
    given = ", ".join(f"{name} {value}" for name, value in asked.items())
    what = f"{facts['file']}: {' × '.join(map(str, facts['shape']))} {facts['dtype']}"
    dry_run.say_plan(
        facts,
        json,
        what,
        *[
            f"axis {axis['name']}: {axis['size']} × {axis['scale']:.5g} {axis['units'] or 'px'}"
            for axis in facts["axes"]
            if axis["scale"]
        ],
        f"operations: {', '.join(facts['parameters']['operations'])}; {given}",
    )
