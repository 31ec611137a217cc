"""Real images denoised: whether what is removed is noise, and whether columns stay where the counts have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .denoising import BM3D, FAIRSTEM, PEERS_PYTHON
from .harness import have_peers, worker
from .real import have
from .tables import Table

SAMPLES = {
    "16_STOimage_1.ser": "SrTiO3 [100], 80 kV",
    "derived_01_Si110_frame.tif": "Si [110]",
    "DMReader_SI-HAADF.dm3": "HAADF beside an EELS map, DM",
    "047_HAADF_15nm_Sample_PtNC_21Oct20.tif": "single Pt atoms on carbon",
}
ABOUT = (
    "As recorded; gain and offset estimated from the image, the same for both methods. Residual: counts less denoised, "
    "in units of the noise; its variance, 1 for noise if nothing of it is kept, and the correlation of neighbours "
    "along the slow and the fast scan direction, 0 for white noise (a detector that smears along the fast direction "
    "gives more). Structure left: share of the area where the package's own test finds structure in the residual. "
    "Columns: found on the image (`atoms.find`), measured on the counts and on the denoised image by `atoms.refine` "
    "from the same start; the robust standard deviation per axis of the difference, and the median error bar of the "
    "counts. Retention: `metrics.retention`, 8 columns shifted by 20 pm (1 px without calibration), 8 of half height."
)
COLUMNS = {
    "sample": "sample",
    "method": "method",
    "lattices": "lattices",
    "share": "crystal share",
    "deviations": "deviations",
    "variance": "residual variance",
    "neighbour_y": "neighbours, slow",
    "neighbour_x": "neighbours, fast",
    "residual-is-noise": "structure left, %",
    "measured": "columns",
    "away_median_px": "columns moved, px",
    "bar_median_px": "error bar on counts, px",
    "kept": "shift kept",
    "kept_sd": "±",
    "kept_raw": "on the counts",
    "height": "half column",
    "height_sd": "±",
    "failed": "checks that fail",
    "cpu_s": "CPU s",
}


def real_images(folder: Path) -> Table:
    """Return the table of the real images that are at hand."""
    table = Table("Real images", ABOUT, dict(COLUMNS))
    for name, what in SAMPLES.items():
        if not have(name):
            table.rows.append({"sample": f"{what}: file not at hand"})
            continue
        table.rows += rows(folder, name, what)
    return table


def rows(folder: Path, name: str, what: str) -> list[dict[str, Any]]:
    """Return the rows of one image: fairstem, and bm3d where it is."""
    counts, denoised, found = folder / "counts.npz", folder / "denoised.npz", folder / "real.json"
    worker("real_denoise", name, counts, denoised, found)
    own = json.loads(found.read_text())
    out = [{"sample": what, "method": FAIRSTEM.label} | own | positions(counts, denoised, found)]
    if have_peers(PEERS_PYTHON):
        used = worker(BM3D.name, counts, denoised, python=PEERS_PYTHON)
        measured = positions(counts, denoised, found)
        out.append({"sample": what, "method": BM3D.label, "cpu_s": used.cpu_s} | measured)
    return [{key: row.get(key) for key in COLUMNS} for row in out]


def positions(counts: Path, denoised: Path, wanted: Path) -> dict[str, Any]:
    """Return the residual's whiteness and the positions on a denoised image beside those on the counts."""
    worker("real_positions", counts, denoised, wanted)
    result: dict[str, Any] = json.loads(wanted.read_text())
    return result
