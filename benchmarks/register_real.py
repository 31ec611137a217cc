"""Real series: whether frames agree after registration, and hand labels of the same atoms with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from .harness import worker
from .tables import Table

SERIES = {
    "single Pt atoms, 047/048/051": [
        f"{n}_HAADF_15nm_Sample_PtNC_21Oct20.tif" for n in ("047", "048", "051")
    ],
    "single Pt atoms, 025/027": [f"{n}_HAADF_15nm_Sample_PtNC_21Oct20.tif" for n in ("025", "027")],
    "HAADF of an EDS tilt series": [f"{n}.bcf" for n in (-35, -25, -15, -5, 0, 5, 15, 25)],
}
MODELS = ("rigid", "rowwise", "dense")
ABOUT = (
    "HAADF frames of single Pt atoms on carbon (HPAI-BSC/AtomDetection_ACSTEM, MIT), with hand labels of "
    "atoms in each frame, and the HAADF frames of an EDS tilt series (openNCEM), which do not show the same "
    "projection. Correlation: of each frame with the mean of the others, smoothed by 2 px, over the field "
    "that all frames share, as recorded and registered. Labels: pairs in different frames that are each "
    "other's nearest and less than 4 px apart after registration, how many there would be by chance, and the "
    "rms of their distance; atoms move between frames, and each frame was labelled by itself. Half-split: "
    "difference of the averages of odd and even frames, against what floor and counting predict."
)
COLUMNS = {
    "series": "series",
    "model": "model",
    "frames": "frames",
    "used": "in use",
    "before": "correlation as recorded",
    "after": "registered",
    "label_pairs": "label pairs",
    "label_chance": "by chance",
    "label_rms_px": "rms, px",
    "floor_px": "floor, px",
    "split_px": "half-split, px",
    "split_expected_px": "expected, px",
    "failed": "checks that fail",
    "cpu_s": "CPU s",
}


def available(names: list[str]) -> bool:
    """Return whether all sample files are at hand."""
    ask = f"import sys, fairstem.data as d; sys.exit(not all(map(d.available, {names!r})))"
    return subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0


def real_series(folder: Path) -> Table:
    """Return the table of the real series that are at hand."""
    table = Table("Real series", ABOUT, dict(COLUMNS))
    for title, files in SERIES.items():
        if not available(files):
            table.rows.append({"series": f"{title}: files not at hand"})
            continue
        for model in MODELS:
            out = folder / "real.json"
            worker("real_series", model, out, *files)
            table.rows.append({"series": title, "model": model} | json.loads(out.read_text()))
    return table
