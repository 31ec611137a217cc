"""What operations on a whole 4D scan cost, and whether packages agree where their definitions do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .diffraction_symmetry import PEERS_PYTHON
from .harness import have_peers, worker
from .tables import Table, verdict

SCAN, DETECTOR = 114, 128
TARGET_ALL_S, TARGET_THREADS_S = 3.0, 3.0
PEER_PACKAGES = {
    "py4dstem": "py4DSTEM 0.14.18",
    "pyxem": "pyxem 0.21.0",
    "libertem": "LiberTEM 0.16.0, inline",
}
LABELS = {"fairstem": "fairstem", "numpy": "NumPy"} | PEER_PACKAGES


@dataclass(frozen=True)
class Operation:
    """One row group of the table.

    Parameters
    ----------
    label
        Its name in the table.
    ours
        The operation of fairstem's worker.
    others
        Package → the operation of its worker.
    repeats
        Calls, of which the median counts.
    """

    label: str
    ours: str
    others: tuple[tuple[str, str], ...] = ()
    repeats: int = 3


EVERYONE = ("numpy", "py4dstem", "pyxem", "libertem")
OPERATIONS = (
    Operation("symmetry: C2, C4, mx, my", "symmetry", (("numpy", "symmetry"), ("pyxem", "symmetry")), 1),
    Operation("symmetry: C2, C3, C4, C6 and four mirrors", "symmetry-all"),
    Operation("the same, Dask, two threads", "symmetry-threads"),
    Operation("virtual BF and ADF", "virtual", tuple((name, "virtual") for name in EVERYONE)),
    Operation("centre of mass, standard errors", "com"),
    Operation("centre of mass alone", "com-plain", tuple((name, "com") for name in EVERYONE)),
    Operation("PACBED", "pacbed", tuple((name, "pacbed") for name in EVERYONE)),
    Operation("calibrate", "calibrate", (("py4dstem", "calibrate"),), 1),
)
COLUMNS = {
    "operation": "operation",
    "method": "method",
    "cpu_s": "CPU s",
    "wall_s": "wall s",
    "times": "times the CPU of fairstem",
    "above_mb": "memory beside the data, MB",
}
AGREE = {
    "quantity": "quantity",
    "scale": "its largest value",
    "method": "method",
    "difference": "largest difference from the exact value",
}
ABOUT = (
    "uint16 counts in memory, synthetic discs; the optic axis in the middle of the array. Each operation in a "
    "process of its own: once on a corner, unmeasured, then the median of 3 calls (1 for symmetry and "
    "calibration). Memory: the peak of the process less that of one which only imports and loads. BF: 20.3 px "
    "around the centre, ADF: 30.3 to 60.3 px. Symmetry: NumPy does C2, C4, mx and my without any correction of "
    "noise; pyxem C2 and C4, on polar grids of 60 x 360. Calibration: fairstem measures centre, descan, radius, "
    "ellipse and bad pixels, py4DSTEM disc radius, every origin and their plane. py4DSTEM asks for NumPy below 2, "
    "so all peers run with 1.26."
)
AGREE_ABOUT = (
    "The results of the table before, beside sums in whole numbers. pyxem's detectors are HyperSpy's circles, "
    "which snap to whole pixels: other pixels near the edge, so these images don't coincide."
)
QUANTITIES = {
    "bright": "virtual BF, counts",
    "dark": "virtual ADF, counts",
    "com_y": "centre of mass y, px",
    "com_x": "centre of mass x, px",
    "pacbed": "PACBED, counts per pattern",
}


def operations(
    folder: Path, scan: int = SCAN, detector: int = DETECTOR, chosen: tuple[Operation, ...] = OPERATIONS
) -> list[Table]:
    """Return cost and agreement of all operations."""
    data = folder / "scan.npy"
    worker("make_scan", data, str(scan), str(detector))
    size = scan**2 * detector**2 * 2 / 1e6
    about = f"{scan} x {scan} positions, {detector}² px ({size:.0f} MB) of {ABOUT}"
    table = Table("Operations on a whole scan", about, dict(COLUMNS))
    loaded: dict[str, float] = {}
    found: list[tuple[str, Path]] = []
    for operation in chosen:
        own: dict[str, Any] = {}
        for package, name in (("fairstem", operation.ours), *operation.others):
            if package in PEER_PACKAGES and not have_peers(PEERS_PYTHON):
                continue
            wanted = folder / f"{package}-{name}.npz"
            row = one(package, name, data, wanted, operation.repeats, loaded)
            own = own or row
            times = row["cpu_s"] / own["cpu_s"] if own["cpu_s"] and package != "fairstem" else None
            table.rows.append({"operation": operation.label, "method": LABELS[package], "times": times} | row)
            found.append((package, wanted))
    data.unlink()
    table.targets = targets(table, scan == SCAN)
    return [table, agreement(folder, found)]


def one(
    package: str, name: str, data: Path, wanted: Path, repeats: int, loaded: dict[str, float]
) -> dict[str, Any]:
    """Run one operation of one package; return its cost, memory less what loading the data takes."""
    options = {"python": PEERS_PYTHON} if package in PEER_PACKAGES else {}
    script = f"operations_{package}"
    if package not in loaded:
        loaded[package] = worker(script, "load", data, wanted, "1", **options).peak_mb
    used = worker(script, name, data, wanted, str(repeats), **options)
    seconds = wanted.with_suffix(".json")
    worker("read_times", wanted, seconds)
    return json.loads(seconds.read_text()) | {"above_mb": max(0.0, used.peak_mb - loaded[package])}


def targets(table: Table, whole: bool) -> list[str]:
    """Return the verdicts on symmetry, on a scan of the size that they are about."""
    spent = {row["operation"]: row for row in table.rows if row["method"] == LABELS["fairstem"]}
    out = []
    if whole and OPERATIONS[1].label in spent:
        seconds = spent[OPERATIONS[1].label]["cpu_s"]
        out.append(
            verdict(
                "symmetry of 114² x 128² under all operations, one thread: CPU", seconds, TARGET_ALL_S, " s"
            )
        )
    if whole and OPERATIONS[2].label in spent:
        seconds = spent[OPERATIONS[2].label]["wall_s"]
        out.append(verdict("the same on two threads: wall", seconds, TARGET_THREADS_S, " s"))
    return out


def agreement(folder: Path, found: list[tuple[str, Path]]) -> Table:
    """Return how far every package is from the exact values."""
    table = Table("Agreement", AGREE_ABOUT, dict(AGREE))
    wanted = folder / "agreement.json"
    worker("compare_results", wanted, *(part for pair in found for part in pair))
    for row in json.loads(wanted.read_text()):
        labels = {"quantity": QUANTITIES[row["quantity"]], "method": LABELS[row["package"]]}
        table.rows.append(row | labels)
    table.rows = [{key: row.get(key) for key in AGREE} for row in table.rows]
    ours = [row["difference"] / row["scale"] for row in table.rows if row["method"] == LABELS["fairstem"]]
    if ours:
        name = "virtual images, centre of mass, PACBED: largest difference from the exact value, share of the largest"
        table.targets = [verdict(name, max(ours), 1e-9)]
    return table
