"""Make inputs, run one method on them and judge what it returns, each step in processes of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .harness import worker


@dataclass(frozen=True)
class Method:
    """One way to register or to denoise.

    Parameters
    ----------
    label
        Its name in the tables.
    name
        The worker that runs it.
    how
        What the worker is told.
    is_peer
        True for what runs in the environment of the peers.
    """

    label: str
    name: str
    how: tuple[str, ...] = ()
    is_peer: bool = False


def make_inputs(maker: str, folder: Path, protocol: str, peak: float, seeds: Iterable[int]) -> list[Path]:
    """Let the worker `maker` make the inputs that aren't there yet, one a seed; return their files."""
    files = {seed: folder / f"{protocol.replace(':', '-')}-{peak:g}-{seed}.npz" for seed in seeds}
    lacking = [str(part) for seed, path in files.items() if not path.exists() for part in (seed, path)]
    if lacking:
        worker(maker, protocol, str(peak), *lacking)
    return list(files.values())


def judged(method: Method, judge: str, inputs: Sequence[Path], peers_python: Path) -> list[dict[str, Any]]:
    """Run one method on the inputs and return what the worker `judge` says of each; its outputs are not kept."""
    found = [path.with_name(f"{method.name}-{'-'.join(method.how)}-{path.name}") for path in inputs]
    pairs = [part for pair in zip(inputs, found, strict=True) for part in pair]
    options = {"python": peers_python} if method.is_peer else {}
    worker(method.name, *method.how, *pairs, **options)
    table = found[0].with_suffix(".json")
    worker(judge, table, *pairs)
    for path in found:
        path.unlink()
    scores: list[dict[str, Any]] = json.loads(table.read_text())
    return scores
