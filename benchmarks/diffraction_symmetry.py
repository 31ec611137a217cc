"""Symmetry STEM on simulated patterns of SrTiO3: without noise, then counted, beside pyxem."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from .harness import ROOT, have_peers
from .methods import Method, judged, make_inputs
from .tables import Table, verdict

PEERS_PYTHON = ROOT / ".venv-peers-diffraction" / "bin" / "python"
DOSES, TARGET_DOSE = (118_000.0, 11_800.0, 1_180.0), 11_800.0
SEEDS, PEER_SEEDS = 3, 1
CORRECTED = Method("fairstem `symmetry`, the default", "symmetry_fairstem", ("poisson",))
PLAIN = Method("the plain correlation", "symmetry_fairstem", ("none",))
PYXEM = Method("pyxem 0.21.0", "symmetry_pyxem", is_peer=True)
DATA = "SrTiO3 [100], 200 kV, 13.6 mrad, 20 nm, by multislice (abTEM): 22 x 22 positions of a cell, detector of 127². "
PEER = (
    "pyxem: patterns over radius and azimuth about the same centre, Pearson's correlation over the azimuth, "
    "symmetry coefficients of order 2 and 4; it has no mirrors and no correction of noise, and a different weight "
    "of the radii. "
)
CLEAN = {
    "operation": "operation",
    "worst": "γ on sites, largest distance from 1",
    "worst_peer": "the same, pyxem",
    "least": "least γ in the cell",
    "least_peer": "the same, pyxem",
}
NOISY = {
    "dose": "e⁻ per pattern",
    "operation": "operation",
    "bias": "bias",
    "rmse": "RMSE",
    "error": "standard error, rms",
    "within": "within one error, %",
    "plain_bias": "bias, plain correlation",
    "plain_rmse": "RMSE, plain",
    "pyxem_bias": "bias, pyxem",
    "pyxem_rmse": "RMSE, pyxem",
    "sites": "read on sites (1.000)",
    "plain_sites": "plain",
    "pyxem_sites": "pyxem",
}

Scores = list[dict[str, Any]]


def symmetry(
    folder: Path, protocol: str = "cell", doses: tuple[float, ...] = DOSES, seeds: int = SEEDS
) -> list[Table]:
    """Return the tables without and with noise."""
    noisy = Table("Symmetry of counted patterns", about(seeds), dict(NOISY))
    first: dict[str, Scores] = {}
    for dose in doses:
        scans = make_inputs("make_crystal_scan", folder, protocol, dose, range(seeds))
        given = {CORRECTED: scans, PLAIN: scans}
        if have_peers(PEERS_PYTHON):
            given[PYXEM] = scans[:PEER_SEEDS]
        scores = {m.label: judged(m, "score_symmetry", own, PEERS_PYTHON) for m, own in given.items()}
        first = first or scores
        noisy.rows += rows(f"{dose:g}", scores)
        noisy.targets += targets(dose, scores)
        for path in scans:
            path.unlink()
    return [without_noise(first), noisy]


def about(seeds: int) -> str:
    """Return the protocol of the counted patterns."""
    return (
        DATA
        + f"Poisson counts, seeds 0-{seeds - 1} (pyxem: seed 0). Bias and RMSE over all positions, against the same "
        "method's map of the patterns without noise. Within one error: share of positions, 68 % for normal errors. On "
        "sites: mean over the positions where the operation is a symmetry of the crystal; C3 is none. " + PEER
    )


def without_noise(scores: Mapping[str, Scores]) -> Table:
    """Return how exact the maps are without noise."""
    text = (
        "Expected patterns, `symmetry(scan, operations, noise=None)`. Sites: positions where the operation is a "
        "symmetry of the crystal. "
    )
    table = Table("Symmetry without noise", DATA + text + PEER, dict(CLEAN))
    theirs = scores.get(PYXEM.label, [{"operations": {}}])[0]["operations"]
    for name, own in scores[CORRECTED.label][0]["operations"].items():
        peer = theirs.get(name, {})
        row = {"operation": name, "worst": own.get("worst"), "least": own["least"]}
        table.rows.append(row | {"worst_peer": peer.get("worst"), "least_peer": peer.get("least")})
    worst = max(row["worst"] for row in table.rows if row["worst"] is not None)
    table.targets = [verdict("without noise, largest |γ - 1| on symmetry sites", worst, 5e-4)]
    return table


def mean_of(scores: Scores, operation: str, key: str) -> float | None:
    """Return the mean over the seeds, None for what wasn't measured; of squares for what is a root mean square."""
    values = [own["operations"].get(operation, {}).get(key) for own in scores]
    known = [value for value in values if value is not None]
    if not known:
        return None
    rms = key in ("rmse", "error")
    return fmean(v**2 for v in known) ** 0.5 if rms else fmean(known)


def rows(dose: str, scores: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Return a row an operation."""
    out = []
    own, plain, peer = (scores.get(m.label, []) for m in (CORRECTED, PLAIN, PYXEM))
    for name in own[0]["operations"]:
        row: dict[str, Any] = {"dose": dose, "operation": name}
        row |= {key: mean_of(own, name, key) for key in ("bias", "rmse", "error", "sites")}
        within = mean_of(own, name, "within")
        row["within"] = None if within is None else 100 * within
        for label, other in (("plain", plain), ("pyxem", peer)):
            row |= {f"{label}_{key}": mean_of(other, name, key) for key in ("bias", "rmse", "sites")}
        out.append(row)
    return out


def targets(dose: float, scores: Mapping[str, Scores]) -> list[str]:
    """Return how the default stands beside the targets at one dose; the worst operation counts."""
    made = rows("", scores)
    at = f"symmetry at {dose:g} e⁻ per pattern: "
    off = max(abs(row["within"] - 68.3) for row in made)
    out = [verdict(f"{at}coverage of the standard error off 68 by, worst operation", off, 5.0, " %")]
    if dose == TARGET_DOSE:
        out.insert(0, verdict(f"{at}largest |bias|", max(abs(row["bias"]) for row in made), 2e-3))
        out.insert(1, verdict(f"{at}largest RMSE", max(row["rmse"] for row in made), 0.015))
    return out
