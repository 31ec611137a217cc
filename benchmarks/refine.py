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
SEEDS = 12  # of 512² images with 481 scored columns each: rms / bound within 0.01 for each axis and each site
PEER_SEEDS = 3
REPEATS = 3

P2 = (
    "512² px of 12 pm; square cell of 32.5 px, columns A (corner) and B (middle) with heights 1 : 0.45, "
    "width (sigma) 3.5 px, background 0.06 of the peak; Poisson counts. Every method starts from the same "
    "positions: the true ones plus Gaussian errors of 0.5 px. fairstem's table has a column `width` as well, "
    "the scale at which detection sees the columns; the least-squares fit is told the true width. "
    "Columns nearer than 0.06 nm to the border are not scored. "
    "The bound is that of a fit of position, height, width and background, for each column of its own."
)
ABOUT_PRECISION = (
    f"{P2} Seeds: fairstem 0-{SEEDS - 1}, the others 0-{PEER_SEEDS - 1}; each ± is one standard error. "
    "Rms / bound pools both axes and both sites, then shows each by itself. "
    "Coverage: how often the truth lies within one reported standard deviation (0.683 if the error bars "
    "are right). Lost: no fit, or farther than 0.07 nm from the truth."
)
ABOUT_DETECTION = (
    f"`atoms.find` on the same images, seeds 0-{PEER_SEEDS - 1}: nothing is told of where the columns are. "
    "Rms is the distance of matched columns from the truth; refinement must not make it larger."
)
ABOUT_COST = (
    "One image of 5,000 columns (1630² px) with the cell, widths and heights of P2 turned by 7°, peak count 20. "
    "All that refine start from the same positions; `find` gets the image alone, and its rms is that of the "
    f"matched columns. CPU seconds, one thread; for fairstem the median of {REPEATS} calls after a warm-up."
)
ABOUT_COMPILATION = (
    "CPU seconds of the first `find` of a process, on a corner of 128² px, above those of the second. "
    "Compiled code is kept on the disk."
)
PRECISION = {
    "peak": "peak counts",
    "method": "method",
    "n": "columns",
    "ratio": "rms / bound",
    "ratio_se": "±",
    "ratio_y": "y",
    "ratio_x": "x",
    "ratio_A": "A",
    "ratio_B": "B",
    "bias_y_pm": "bias y, pm",
    "bias_x_pm": "bias x, pm",
    "bias_se_pm": "±",
    "coverage": "coverage",
    "coverage_se": "±",
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
    "lost": "lost",
    "cpu_s": "CPU s",
    "per_column_ms": "ms a column",
    "times": "times the first row",
    "error_bars": "error bars",
    "ratio": "rms / bound",
    "ratio_se": "±",
    "peak_mb": "peak MB",
}


def run() -> list[Table]:
    """Measure precision, bias and coverage, then the cost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [precision(folder), detection(folder), cost(folder), compilation(folder)]


def methods(ours: dict[str, str], repeats: int = 1) -> dict[str, dict[str, Any]]:
    """Return the methods to compare: `ours`, then the peers; each with worker, arguments and Python."""
    found: dict[str, dict[str, Any]] = {
        label: {"name": "refine_fairstem", "more": (how, str(repeats))} for label, how in ours.items()
    }
    found["least squares (scipy)"] = {"name": "refine_scipy"}
    if have_peers():
        found["Atomap 0.4.2"] = {"name": "refine_atomap", "python": PEERS_PYTHON}
    return found


def execute(how: dict[str, Any], given: Path, wanted: Path) -> Any:
    """Run one method on the images of `given`; return what the process cost."""
    options = {"python": how["python"]} if "python" in how else {}
    return worker(how["name"], given, wanted, *how.get("more", ()), **options)


def make(folder: Path, name: str, peak: float, clean: bool, seeds: int) -> Path:
    """Make images of protocol P2 and return their file."""
    path = folder / f"{name}.npz"
    worker("make_p2", path, str(peak), str(int(clean)), str(seeds))
    return path


def precision(folder: Path) -> Table:
    """Return errors over bound, bias and coverage at each peak count, and without noise."""
    table = Table("Precision: protocol P2", ABOUT_PRECISION, dict(PRECISION))
    found = folder / "out.npz"
    for peak in PEAKS:
        many = make(folder, f"p{peak}", peak, False, SEEDS)
        few = make(folder, f"q{peak}", peak, False, PEER_SEEDS)
        for method, how in methods({"fairstem": "width"}).items():
            given = many if method == "fairstem" else few
            execute(how, given, found)
            table.rows.append({"peak": str(peak), "method": method} | scores(given, found))
    given = make(folder, "clean", 20, True, 0)
    execute(methods({"fairstem": "width"})["fairstem"], given, found)
    row = scores(given, found)
    kept = ("n", "bias_y_pm", "bias_x_pm", "bias_se_pm", "rms_pm", "lost")
    table.rows.append({"peak": "no noise", "method": "fairstem"} | {k: row[k] for k in kept})
    table.targets = _targets(table)
    return table


def scores(given: Path, found: Path) -> dict[str, Any]:
    """Compare found with true positions, in units of the bound and in pm."""
    import numpy as np

    truth, out = np.load(given), np.load(found)
    scored = truth["scored"]
    error = (np.column_stack([out["y"], out["x"]]) - truth["truth"])[scored]
    near = np.hypot(*error.T) * PIXEL_PM <= LOST_PM  # False for NaN as well
    error, bright = error[near], truth["bright"][scored][near]
    square = (error / truth["bound"][scored][near]) ** 2
    ratio, n = float(np.sqrt(square.mean())), len(error)
    bias = error.mean(axis=0) * PIXEL_PM
    row = {
        "n": n,
        "lost": int((~near).sum()),
        "ratio": ratio,
        "ratio_se": float(square.std() / np.sqrt(square.size) / (2 * ratio)),
        "bias_y_pm": float(bias[0]),
        "bias_x_pm": float(bias[1]),
        "bias_se_pm": float(error.std() * PIXEL_PM / np.sqrt(n)),
        "rms_pm": float(np.sqrt(np.mean(error**2)) * PIXEL_PM),
    }
    parts = {"y": square[:, 0], "x": square[:, 1], "A": square[bright], "B": square[~bright]}
    row |= {f"ratio_{name}": float(np.sqrt(part.mean())) for name, part in parts.items()}
    if "sd_y" in out:
        inside = np.abs(error) <= np.column_stack([out["sd_y"], out["sd_x"]])[scored][near]
        share = float(inside.mean())
        row |= {"coverage": share, "coverage_se": float(np.sqrt(share * (1 - share) / inside.size))}
    return row


def _targets(table: Table) -> list[str]:
    """Return the verdicts on fairstem's rows."""
    mine = [row for row in table.rows if row["method"] == "fairstem"]
    noisy = [row for row in mine if row["peak"] != "no noise"]
    worst = max(row["ratio"] for row in noisy)
    bias = max(abs(row[f"bias_{axis}_pm"]) for row in noisy for axis in "yx")
    off = max(abs(row["coverage"] - 0.683) for row in noisy)
    return [
        verdict("largest rms / bound", worst, 1.05),
        verdict("its standard error", max(row["ratio_se"] for row in noisy), 0.01),
        verdict("largest bias", bias, 0.3, " pm"),
        verdict("largest deviation of the coverage from 0.683", off, 0.05),
        verdict("rms without noise", mine[-1]["rms_pm"], 0.5, " pm"),
    ]


def detection(folder: Path) -> Table:
    """Return what `find` gives with and without refinement."""
    import numpy as np

    table = Table("Detection, then refinement", ABOUT_DETECTION, dict(DETECTION))
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

    table = Table("Cost of 5,000 columns", ABOUT_COST, dict(COST))
    given, found = make(folder, "large", 20, False, 0), folder / "out.npz"
    ours = {
        "fairstem `refine`": "width",
        "fairstem `refine`, no width given": "bare",
        "fairstem `find`": "find",
    }
    for method, how in methods(ours, REPEATS).items():
        used = execute(how, given, found)
        out = np.load(found)
        row = {k: v for k, v in scores(given, found).items() if k in COST}
        cpu = float(out["cpu_s"])
        first = table.rows[0]["cpu_s"] if table.rows else cpu
        row |= {"method": method, "cpu_s": cpu, "per_column_ms": cpu / len(out["y"]) * 1000}
        row |= {"times": cpu / first, "error_bars": "yes" if "sd_y" in out else "no", "peak_mb": used.peak_mb}
        table.rows.append(row)
    table.targets = [verdict("5,000 columns with error bars", table.rows[0]["cpu_s"], 3.0, " CPU s")]
    for row in table.rows[1:]:
        if row["method"].startswith("Atomap"):
            table.targets.append(verdict("times faster than Atomap", row["times"], 20.0, at_least=True))
    return table


def compilation(folder: Path) -> Table:
    """Return what the first call costs, with and without compiled code on the disk."""
    import numpy as np

    columns = {"what": "what", "first_s": "CPU s"}
    table = Table("Compilation of the kernels", ABOUT_COMPILATION, columns)
    given, found = make(folder, "tiny", 20, False, 1), folder / "out.npz"
    variables = {"NUMBA_CACHE_DIR": str(folder / "kernels")}
    for what in (
        "nothing compiled yet: the first call of all",
        "loading compiled code: the first call of each process",
    ):
        worker("refine_fairstem", given, found, "find", "1", variables=variables)
        table.rows.append({"what": what, "first_s": float(np.load(found)["first_s"])})
    return table
