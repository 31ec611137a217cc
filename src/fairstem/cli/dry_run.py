"""What ``--dry-run`` says of every verb: what would be read, in which blocks, and in how much memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["say_plan", "what_comes_in", "what_it_takes"]


def what_comes_in(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a plan tells of a signal.

    Parameters
    ----------
    facts
        Of `fairstem.signals.describe`.

    Returns
    -------
    dict
        JSON-ready.
    """
    kept = {name: facts[name] for name in ("shape", "dtype", "pixel_size_nm", "axes")}
    return kept | {"findings": facts.get("findings", [])}


def what_it_takes(blocks: Any, peak: int) -> dict[str, Any]:
    """Return what a plan tells of the work.

    Parameters
    ----------
    blocks
        Of `fairstem.compute.plan`.
    peak
        Memory that it takes, bytes.

    Returns
    -------
    dict
        JSON-ready, with the memory that is free now.
    """
    from fairstem.compute.memory import available_bytes

    return {
        "plan": str(blocks),
        "blocks": blocks.n_blocks,
        "peak_bytes": peak,
        "available_bytes": available_bytes(),
    }


def say_plan(facts: Mapping[str, Any], json: bool, what: str, *how: str) -> None:
    """Write a plan to standard output.

    Parameters
    ----------
    facts
        Of `what_comes_in` and `what_it_takes`; ``chunks`` too, where a file is stored in chunks.
    json
        For a program, not for a reader.
    what
        First line: the input.
    *how
        More lines: what is done with it.
    """
    from fairstem.cli.console import emit, print_json
    from fairstem.compute import format_bytes

    if json:
        print_json(facts)
        return
    size, free, stored = facts["pixel_size_nm"], facts["available_bytes"], facts.get("chunks")
    scale = "unknown, so everything is in px" if size is None else f"{size[0]:.5g} × {size[1]:.5g} nm"
    lines = [what, f"pixel size: {scale}", *how, f"plan: {facts['plan']}"]
    if stored:
        chunk = " × ".join(map(str, stored["largest"]))
        lines.append(
            f"stored: {stored['number']} chunks of at most {chunk} ({format_bytes(stored['largest_bytes'])})"
        )
    room = "" if free is None or not math.isfinite(free) else f"; {format_bytes(free)} are free"
    emit([*lines, f"peak memory: about {format_bytes(facts['peak_bytes'])}{room}", "nothing was written"])
