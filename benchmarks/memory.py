"""Peak memory of an import, and of finding the columns of one image."""

from __future__ import annotations

from .harness import measure
from .tables import Table, verdict

TITLE = "Peak memory"
PACKAGES = ("fairstem", "numpy", "scipy", "numba", "pandas")
SIZES = (512, 1024, 2048)
FIND = """
import warnings; warnings.simplefilter("ignore")
import numpy as np
from fairstem import atoms, simulate
import pandas as pd
n = {n}
step = np.arange(20, n - 20, 23.0)
y, x = (a.ravel() for a in np.meshgrid(step, step, indexing="ij"))
columns = pd.DataFrame({{"y": y, "x": x, "height": 40.0, "width": 3.5}})
image = simulate.add_noise(simulate.render_columns(columns, (n, n), background=2.0), 0)
{call}
"""


def run() -> list[Table]:
    """Measure processes that import, make an image, and find its columns."""
    table = Table(
        "Peak memory",
        "Peak resident memory of a fresh process. Images are float32 with one column every 23 px, "
        "40 electrons at the peak. 'Image alone' makes the image but does not search it; 'above' is what "
        "the search adds to it.",
        {
            "what": "what",
            "image_mb": "image, MB",
            "peak_mb": "peak MB",
            "above_mb": "above, MB",
            "cpu_s": "CPU s",
        },
    )
    for what in ("import numpy", "import fairstem", "from fairstem import atoms"):
        cost = measure(["-c", what])
        table.rows.append({"what": what, "peak_mb": cost.peak_mb, "cpu_s": cost.cpu_s})
    for n in SIZES:
        alone = measure(["-c", FIND.format(n=n, call="")])
        found = measure(["-c", FIND.format(n=n, call="atoms.find(image)")])
        row = {"what": f"image alone, {n}²", "image_mb": n * n * 4 / 1e6}
        table.rows.append(row | {"peak_mb": alone.peak_mb, "cpu_s": alone.cpu_s})
        row["what"] = f"`atoms.find`, {n}²"
        above = found.peak_mb - alone.peak_mb
        table.rows.append(row | {"peak_mb": found.peak_mb, "above_mb": above, "cpu_s": found.cpu_s})
    images = table.rows[-1]["above_mb"] / table.rows[-1]["image_mb"]
    table.targets = [verdict(f"memory that the search of {SIZES[-1]}² adds, in float32 images", images, 40.0)]
    return [table]
