"""Make, register and judge series of frames, each step in processes of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

from .harness import ROOT, have_peers
from .methods import Method, judged, make_inputs

PEERS_PYTHON = ROOT / ".venv-peers-register" / "bin" / "python"
FAIRSTEM = "register_fairstem"

Scores = list[dict[str, float]]


ROWWISE = Method("fairstem `rowwise`, the default", FAIRSTEM, ("rowwise",))
ANGLES = Method("fairstem, the scans' angles given", FAIRSTEM, ("angles",))
DENSE = Method("fairstem `dense`", FAIRSTEM, ("dense",))
RIGID = Method("fairstem `rigid`", FAIRSTEM, ("rigid",))
DENSE_TOLD = Method("fairstem `dense`, told `max_shift` as the peers are", FAIRSTEM, ("dense+reach",))
ROWWISE_TOLD = Method("fairstem `rowwise`, told `max_shift` as the peers are", FAIRSTEM, ("rowwise+reach",))
LATTICE = Method("fairstem, `lattice=True`", FAIRSTEM, ("lattice",))
ORACLE = Method("the true displacement", FAIRSTEM, ("truth",))
QUANTEM = Method("quantem 0.1.10 DriftCorrection", "register_quantem", is_peer=True)


def dense_peers(setting: str) -> list[Method]:
    """Return the peers for distortions of any kind, with settings that suit "rows" or a "field"."""
    return [
        Method("SimpleITK 2.5.7 B-spline", "register_simpleitk", ("bspline", setting), is_peer=True),
        Method(
            "SimpleITK 2.5.7 fast symmetric demons", "register_simpleitk", ("demons", setting), is_peer=True
        ),
        Method("scikit-image 0.26.0 TV-L1", "register_tvl1", (setting,), is_peer=True),
    ]


def make(folder: Path, protocol: str, peak: float, seeds: Iterable[int]) -> list[Path]:
    """Make the series that aren't there yet; return their files."""
    return make_inputs("make_series", folder, protocol, peak, seeds)


def results(method: Method, series: Sequence[Path]) -> Scores:
    """Register the series with one method and return the scores of each; what was registered is not kept."""
    return judged(method, "score_series", series, PEERS_PYTHON)


def compare(
    ours: Sequence[tuple[Method, Sequence[Path]]], peers: Sequence[tuple[Method, Sequence[Path]]]
) -> dict[str, Scores]:
    """Return the scores of every method: ours one by one, then the peers, as many at a time as there are cores."""
    scores = {method.label: results(method, series) for method, series in ours}
    if peers and have_peers(PEERS_PYTHON):
        with ThreadPoolExecutor(max(1, min(2, os.cpu_count() or 1))) as pool:
            found = pool.map(lambda pair: results(*pair), peers)
            scores |= {method.label: own for (method, _), own in zip(peers, found, strict=True)}
    return scores


def mean_of(scores: Scores, key: str) -> float:
    """Return the mean over the seeds."""
    return fmean(own[key] for own in scores)


def spread(scores: Scores, key: str) -> dict[str, float]:
    """Return mean, least and most over the seeds."""
    values = [own[key] for own in scores]
    return {key: fmean(values), f"{key}_least": min(values), f"{key}_most": max(values)}


def row(scores: Scores, against: Scores) -> dict[str, Any]:
    """Return what tables show of a method, and its cost and error beside `against`, on the seeds both have."""
    shared = against[: len(scores)]
    out: dict[str, Any] = {
        "seeds": len(scores),
        "width": mean_of(scores, "width"),
        "lost": int(sum(own["lost"] for own in scores)),
    }
    for key in ("rmse_px", "column_pm"):
        out |= spread(scores, key)
    cpu, ours = mean_of(scores, "cpu_s"), mean_of(against, "cpu_s")
    if cpu > 0:
        out |= {"cpu_s": cpu, "times": cpu / ours}
        mine = mean_of(shared, "rmse_px")
        out["error_times"] = mean_of(scores[: len(shared)], "rmse_px") / mine
    return out
