"""The table of plane waves behind PACBED patterns, against probes of abTEM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .harness import worker
from .tables import Table, verdict

THICKNESSES_NM, TILTS_MRAD = (20.0, 40.0, 60.0), (0.0, 2.4)
MAX_ANGLE_MRAD, DETECTOR = 30.0, 33
POINTS = (32, 48)  # of abTEM's potential along the cell
COLUMNS = {
    "thickness_nm": "thickness, nm",
    "tilt_mrad": "tilt, mrad",
    "same": f"relative L2 to abTEM, {POINTS[0]} points",
    "finer": f"relative L2 to abTEM, {POINTS[1]} points",
    "abtem_cpu_s": "CPU s, abTEM",
    "abtem_fine_cpu_s": "CPU s, abTEM, finer",
    "table_cpu_s": "CPU s, whole table",
    "pattern_ms": "CPU ms, a pattern",
}


def plane_waves(
    folder: Path,
    thicknesses: tuple[float, ...] = THICKNESSES_NM,
    tilts: tuple[float, ...] = TILTS_MRAD,
    max_angle_mrad: float = MAX_ANGLE_MRAD,
    detector: int = DETECTOR,
) -> Table:
    """Return distance and cost of the patterns of one table."""
    about = (
        "SrTiO3 [100], 200 kV, 13.6 mrad. One `simulate.pacbed_table` for semi-angle and tilt of together "
        f"{max_angle_mrad:g} mrad, {max(thicknesses):g} nm; compared at rest, as abTEM's probes over one cell are ("
        "hard aperture, tilt along y, the positions that determine the mean), over the table's field of view, with the "
        f"same points along the cell: {POINTS[0]}, the default, and {POINTS[1]} (`gpts={POINTS[1]}`). At rest the "
        "potential has no natural limit, and patterns of 60 nm change by per cents with the grid in either program. "
        "CPU of abTEM: for one pattern; of the table: "
        "with thermal motion, as it is used, for all thicknesses, semi-angles and tilts; of a pattern: the median of "
        "20 taken from it."
    )
    table = Table("PACBED from plane waves", about, dict(COLUMNS))
    references = []
    for thickness in thicknesses:
        for tilt in tilts:
            for points in POINTS:
                path = folder / f"abtem-{thickness:g}-{tilt:g}-{points}.npz"
                worker("pacbed_abtem", path, str(thickness), str(tilt), str(points), str(detector))
                references.append(path)
    found = folder / "pacbed.json"
    worker("pacbed_tables", found, str(max_angle_mrad), str(max(thicknesses) + 0.5), *references)
    made: dict[str, Any] = json.loads(found.read_text())
    shared = {"table_cpu_s": made["cpu_s"], "pattern_ms": made["pattern_ms"]}
    table.rows = [{key: (row | shared).get(key) for key in COLUMNS} for row in made["rows"]]
    largest = f"{max(thicknesses):g} nm"
    table.targets = [
        verdict(
            f"plane waves to {largest}, with tilt, against abTEM: largest relative L2, {what}", worst, 5e-3
        )
        for what, worst in (
            (f"{POINTS[0]} points, the default", max(row["same"] for row in table.rows)),
            (f"{POINTS[1]} points", max(row["finer"] for row in table.rows)),
        )
    ]
    table.targets += [
        verdict(f"table of {max_angle_mrad:g} mrad, {largest}: CPU", made["cpu_s"], 15.0, " s"),
    ]
    return table
