"""Import time: what a user waits for before the first line of work."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from .harness import ONE_THREAD, ROOT, median_cost
from .tables import Table, verdict

TITLE = "Import and start-up time"
PACKAGES = ("fairstem", "numpy", "hyperspy", "typer")
REPEATS = 7
HELP = "import sys; sys.argv = ['fairstem', '--help']; from fairstem.cli import main; main()"
CASES = {
    "an empty interpreter": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import fairstem": ["-c", "import fairstem"],
    "import numpy, fairstem": ["-c", "import numpy, fairstem"],
    "import hyperspy.api": ["-W", "ignore", "-c", "import hyperspy.api"],
    "fairstem --help": ["-c", HELP],
}


def run() -> list[Table]:
    """Time each import in fresh processes."""
    table = Table(
        "Import time",
        f"Median of {REPEATS} fresh processes each, after one that fills the file caches. "
        "'Above' is the CPU time above that of an empty interpreter.",
        {"what": "what", "cpu_s": "CPU s", "wall_s": "wall s", "above_s": "above, s", "peak_mb": "peak MB"},
    )
    empty = 0.0
    for what, arguments in CASES.items():
        cost = median_cost(arguments, REPEATS)
        empty = empty or cost.cpu_s
        row = {"what": what, "cpu_s": cost.cpu_s, "wall_s": cost.wall_s, "above_s": cost.cpu_s - empty}
        table.rows.append(row | {"peak_mb": cost.peak_mb})
    cpu = {row["what"]: row["cpu_s"] for row in table.rows}
    added = max(cpu["import numpy, fairstem"] - cpu["import numpy"], 0.0)
    table.targets = [
        verdict("`import fairstem` beside `import numpy`", added, 0.2, " s"),
        verdict(
            "`import fairstem` alone, above an empty interpreter", cpu["import fairstem"] - empty, 0.2, " s"
        ),
    ]
    return [table, slowest()]


def slowest(count: int = 5) -> Table:
    """Return the modules that cost most of ``import fairstem``, by ``python -X importtime``."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import fairstem"],
        cwd=ROOT,
        env=os.environ | ONE_THREAD,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"import time:\s+(\d+) \|\s+(\d+) \|\s+(\S+)", done.stderr)
    names = {name for *_, name in found}
    heavy = sorted(names & {"numpy", "scipy", "pandas", "hyperspy", "dask", "matplotlib", "numba", "torch"})
    rows = sorted(
        ({"module": n, "own_ms": int(own) / 1000, "all_ms": int(both) / 1000} for own, both, n in found),
        key=lambda row: -row["own_ms"],
    )
    return Table(
        "Where the time of `import fairstem` goes",
        f"The {count} modules with the largest own time, from `python -X importtime`.",
        {"module": "module", "own_ms": "own ms", "all_ms": "with what it imports, ms"},
        rows[:count],
        [f"heavy packages that `import fairstem` loads: {', '.join(heavy) or 'none'}"],
    )
