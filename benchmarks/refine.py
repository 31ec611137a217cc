"""Refinement of column positions: against the Cramér-Rao bound, and beside Atomap and least squares."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from .harness import PEERS_PYTHON, have_peers, worker
from .tables import Table, verdict

TITLE = "Refining column positions"
PACKAGES = ("fairstem", "numpy", "scipy", "numba")
PIXEL_PM = 12.0
LOST_PM = 70.0
PEAKS = (5, 20, 100)
SEEDS = 12  # of 512² images with 481 scored columns each
PEER_SEEDS = 3

P2 = (
    "512² px of 12 pm; square cell of 32.5 px, columns A (corner) and B (middle) with heights 1 : 0.45, "
    "width (sigma) 3.5 px, background 0.06 of the peak; Poisson counts. Every method starts from the true "
    "positions plus Gaussian errors of 0.5 px. Columns nearer than 0.06 nm to the border are not scored. "
    "The bound is that of a fit of position, height, width and background, for each column of its own."
)
ABOUT_PRECISION = (
    f"{P2} Seeds: fairstem 0-{SEEDS - 1}, the others 0-{PEER_SEEDS - 1}; ± is one standard error. "
    "Coverage: how often the truth lies within one reported standard deviation (0.683 if the error bars "
    "are right). Lost: no fit, or farther than 0.07 nm from the truth."
)
ABOUT_DETECTION = (
    f"`atoms.find` on the same images, seeds 0-{PEER_SEEDS - 1}: nothing is told of where the columns are. "
    "Rms is the distance of matched columns from the truth; refinement must not make it larger."
)
ABOUT_COST = (
    "One image of 5,000 columns with the cell, widths and heights of P2 turned by 7°, peak count 20. "
    "CPU seconds of the refinement alone, from the same start positions. The first call of a process also "
    "loads compiled code from the disk (or compiles it, the first time of all): given apart."
)
PRECISION = {
    "peak": "peak counts",
    "method": "method",
    "n": "columns",
    "ratio_y": "rms / bound, y",
    "ratio_x": "rms / bound, x",
    "ratio_se": "±",
    "bias_y_pm": "bias y, pm",
    "bias_x_pm": "bias x, pm",
    "bias_se_pm": "±",
    "coverage_y": "coverage y",
    "coverage_x": "coverage x",
    "rms_pm": "rms, pm per axis",
    "lost": "lost",
}
DETECTION = {
    "peak": "peak counts",
    "step": "step",
    "recall": "recall",
    "precision": "precision",
    "rms_pm": "rms distance, pm",
    "cpu_s": "CPU s an image",
}
COST = {
    "method": "method",
    "n": "columns scored",
    "cpu_s": "CPU s",
    "per_column_ms": "ms a column",
    "times": "times fairstem",
    "error_bars": "error bars",
    "ratio_y": "rms / bound, y",
    "ratio_x": "rms / bound, x",
    "first_s": "first call, CPU s",
    "peak_mb": "peak MB",
}


def run() -> list[Table]:
    """Measure precision, bias and coverage, then the cost."""
    with tempfile.TemporaryDirectory() as folder:
        return [precision(Path(folder)), detection(Path(folder)), cost(Path(folder))]


def methods(with_peers: bool = True) -> dict[str, dict[str, Any]]:
    """Return the methods to compare: name, worker and the Python that runs it."""
    found: dict[str, dict[str, Any]] = {"fairstem": {"name": "refine_fairstem"}}
    if with_peers:
        found["least squares (scipy)"] = {"name": "refine_scipy"}
        if have_peers():
            found["Atomap 0.4.2"] = {"name": "refine_atomap", "python": PEERS_PYTHON}
    return found


def make(folder: Path, name: str, peak: float, clean: bool, seeds: int) -> Path:
    """Make images of protocol P2 and return their file."""
    path = folder / f"{name}.npz"
    worker("make_p2", path, str(peak), str(int(clean)), str(seeds))
    return path


def precision(folder: Path) -> Table:
    """Return errors over bound, bias and coverage at each peak count, and without noise."""
    table = Table(
        "Precision: protocol P2",
        ABOUT_PRECISION,
        dict(PRECISION),
    )
    for peak in PEAKS:
        many, few = (
            make(folder, f"p{peak}", peak, False, SEEDS),
            make(folder, f"q{peak}", peak, False, PEER_SEEDS),
        )
        for method, how in methods().items():
            given = many if method == "fairstem" else few
            worker(how["name"], given, folder / "out.npz", **_python(how))
            table.rows.append({"peak": str(peak), "method": method} | scores(given, folder / "out.npz"))
    given = make(folder, "clean", 20, True, 0)
    for method, how in methods(with_peers=False).items():
        worker(how["name"], given, folder / "out.npz", **_python(how))
        row = scores(given, folder / "out.npz")
        table.rows.append(
            {"peak": "no noise"} | {"method": method} | {k: row[k] for k in ("n", "rms_pm", "lost")}
        )
    table.targets = _targets(table)
    return table


def _python(how: dict[str, Any]) -> dict[str, Any]:
    return {"python": how["python"]} if "python" in how else {}


def scores(given: Path, found: Path) -> dict[str, Any]:
    """Compare found with true positions, in units of the bound and in pm."""
    import numpy as np

    truth, out = np.load(given), np.load(found)
    error = (np.column_stack([out["y"], out["x"]]) - truth["truth"])[truth["scored"]]
    near = np.hypot(*error.T) * PIXEL_PM <= LOST_PM  # False for NaN as well
    error, bound = error[near], truth["bound"][truth["scored"]][near]
    ratio = np.sqrt(np.mean((error / bound) ** 2, axis=0))
    bias, n = error.mean(axis=0) * PIXEL_PM, len(error)
    row = {
        "n": n,
        "lost": int((~near).sum()),
        "ratio_y": float(ratio[0]),
        "ratio_x": float(ratio[1]),
        "ratio_se": float(ratio.mean() / np.sqrt(2 * n)),
        "bias_y_pm": float(bias[0]),
        "bias_x_pm": float(bias[1]),
        "bias_se_pm": float(error.std() * PIXEL_PM / np.sqrt(n)),
        "rms_pm": float(np.sqrt(np.mean(error**2)) * PIXEL_PM),
    }
    if "sd_y" in out:
        sd = np.column_stack([out["sd_y"], out["sd_x"]])[truth["scored"]][near]
        inside = np.mean(np.abs(error) <= sd, axis=0)
        row |= {"coverage_y": float(inside[0]), "coverage_x": float(inside[1])}
    return row


def _targets(table: Table) -> list[str]:
    """Return the verdicts on fairstem's rows."""
    mine = [row for row in table.rows if row["method"] == "fairstem"]
    noisy = [row for row in mine if row["peak"] != "no noise"]
    worst = max(row[f"ratio_{axis}"] for row in noisy for axis in "yx")
    bias = max(abs(row[f"bias_{axis}_pm"]) for row in noisy for axis in "yx")
    off = max(abs(row[f"coverage_{axis}"] - 0.683) for row in noisy for axis in "yx")
    return [
        verdict("largest rms / bound", worst, 1.05),
        verdict("largest bias", bias, 0.3, " pm"),
        verdict("largest deviation of the coverage from 0.683", off, 0.05),
        verdict("rms without noise", mine[-1]["rms_pm"], 0.5, " pm"),
    ]


def detection(folder: Path) -> Table:
    """Return what `find` gives with and without refinement."""
    import numpy as np

    table = Table(
        "Detection, then refinement",
        ABOUT_DETECTION,
        dict(DETECTION),
    )
    worse = 0
    for peak in PEAKS:
        worker("find_fairstem", folder / f"q{peak}.npz", folder / "found.npz")
        out = np.load(folder / "found.npz")
        for step in ("detected", "refined"):
            row = {key: float(out[f"{step}_{key}"]) for key in ("recall", "precision", "rms_pm")}
            cpu = float(out[f"{step}_cpu_s"]) / PEER_SEEDS
            table.rows.append({"peak": str(peak), "step": step} | row | {"cpu_s": cpu})
        worse += table.rows[-1]["rms_pm"] > table.rows[-2]["rms_pm"]
    table.targets = [verdict("peak counts at which refinement makes positions worse", worse, 0)]
    return table


def cost(folder: Path) -> Table:
    """Return what 5,000 columns cost in one image."""
    import numpy as np

    table = Table(
        "Cost of 5,000 columns",
        ABOUT_COST,
        dict(COST),
    )
    given = make(folder, "large", 20, False, 0)
    for method, how in methods().items():
        used = worker(how["name"], given, folder / "out.npz", **_python(how))
        out = np.load(folder / "out.npz")
        row = scores(given, folder / "out.npz")
        cpu = float(out["cpu_s"])
        table.rows.append(
            {
                "method": method,
                "cpu_s": cpu,
                "per_column_ms": cpu / len(out["y"]) * 1000,
                "peak_mb": used.peak_mb,
            }
            | {"times": cpu / table.rows[0]["cpu_s"] if table.rows else 1.0, "n": row["n"]}
            | {
                "error_bars": "yes" if "sd_y" in out else "no",
                "ratio_y": row["ratio_y"],
                "ratio_x": row["ratio_x"],
            }
            | ({"first_s": float(out["first_s"])} if "first_s" in out else {})
        )
    table.targets = [verdict("5,000 columns with error bars", table.rows[0]["cpu_s"], 3.0, " CPU s")]
    for row in table.rows[1:]:
        if row["method"].startswith("Atomap"):
            table.targets.append(verdict("times faster than Atomap", row["times"], 20.0, at_least=True))
    return table
