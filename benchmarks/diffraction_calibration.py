"""Centre, descan, angle per pixel and ellipse of a distorted detector with known truth, beside other packages."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from .diffraction_symmetry import PEERS_PYTHON, TARGET_DOSE
from .harness import have_peers
from .methods import Method, judged, make_inputs
from .tables import Table, verdict

DOSES, SEEDS = (118_000.0, 11_800.0, 1_180.0), 5
FAIRSTEM = Method("fairstem `calibrate`", "calibrate_fairstem")
PEERS = (
    Method("py4DSTEM 0.14.18", "calibrate_py4dstem", is_peer=True),
    Method("pyxem 0.21.0", "calibrate_pyxem", is_peer=True),
)
ABOUT = (
    "SrTiO3 [100], a thin phase object, 20 mrad, 24 x 24 positions, 65² px of 1 mrad; the centre up to 2 px from "
    "the middle, descan up to 2 px over the scan along each axis, an ellipse of 1.02 : 1, drawn anew for each "
    "seed. Root mean squares over the seeds. Ellipse: long over short axis of what is a circle, less 1, after the "
    "found ellipse is made round; 2 % when none is found. In standard errors: 1 for error bars that hold. "
    "py4DSTEM: `get_probe_size`, `get_origin`, `fit_origin` (its ellipses are fitted to rings, of which there are "
    "none). pyxem: `get_direct_beam_position` by centre of mass, `get_linear_plane` (no disc radius). "
)
KEYS = {
    "center_px": "centre, px",
    "center_errors": "in standard errors",
    "descan_px": "descan over the scan, px",
    "mrad_percent": "mrad per px, %",
    "mrad_errors": "in standard errors",
    "ellipse_percent": "ellipse left, %",
}
COLUMNS = {"dose": "e⁻ per pattern", "method": "method", "seeds": "seeds"} | KEYS | {"cpu_s": "CPU s"}
LIMITS = {"center_px": (0.1, " px"), "mrad_percent": (0.5, " %"), "ellipse_percent": (0.5, " %")}


def calibration(
    folder: Path, protocol: str = "distorted", doses: tuple[float, ...] = DOSES, seeds: int = SEEDS
) -> Table:
    """Return the errors of what is found."""
    table = Table("Calibration with known truth", f"{ABOUT}Seeds 0-{seeds - 1}.", dict(COLUMNS))
    for dose in doses:
        scans = make_inputs("make_distorted", folder, protocol, dose, range(seeds))
        for method in (FAIRSTEM, *(PEERS if have_peers(PEERS_PYTHON) else ())):
            scores = judged(method, "score_calibration", scans, PEERS_PYTHON)
            row = summary(scores)
            table.rows.append({"dose": f"{dose:g}", "method": method.label, "seeds": len(scores)} | row)
            if method is FAIRSTEM and dose == TARGET_DOSE:
                table.targets = targets(dose, row)
        for path in scans:
            path.unlink()
    return table


def summary(scores: list[dict[str, float]]) -> dict[str, Any]:
    """Return root mean squares over the seeds, and the mean CPU seconds."""
    row: dict[str, Any] = {}
    for key in KEYS:
        values = [own[key] for own in scores if key in own]
        row[key] = fmean(v**2 for v in values) ** 0.5 if values else None
    return row | {"cpu_s": fmean(own["cpu_s"] for own in scores)}


def targets(dose: float, row: dict[str, Any]) -> list[str]:
    """Return the verdicts at one dose."""
    at = f"calibration at {dose:g} e⁻ per pattern: error of "
    return [
        verdict(f"{at}{KEYS[key].split(',')[0]}", row[key], limit, unit)
        for key, (limit, unit) in LIMITS.items()
    ]
