"""The table of plane waves behind PACBED patterns, against probes of abTEM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .harness import worker
from .tables import Table, verdict

THICKNESSES_NM, TILTS_MRAD = (20.0, 40.0, 60.0), (0.0, 2.4)
MAX_ANGLE_MRAD, DETECTOR = 30.0, 49
COLUMNS = {
    "thickness_nm": "thickness, nm",
    "tilt_mrad": "tilt, mrad",
    "difference": "relative L2 to abTEM, same grid",
    "finer": "relative L2, own grid",
    "abtem_cpu_s": "CPU s, abTEM",
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
        f"{max_angle_mrad:g} mrad (25 and 5), {max(thicknesses):g} nm; compared at rest, as abTEM's probes over "
        "one cell are (hard aperture, tilt along y, the positions that determine the mean), over the table's "
        "field of view. CPU of abTEM: for one pattern. CPU of the table: with thermal motion, as it is used, for "
        "all thicknesses, semi-angles and tilts; of a pattern: the median of 20 taken from it."
    )
    table = Table("PACBED from plane waves", about, dict(COLUMNS))
    references = []
    for thickness in thicknesses:
        for tilt in tilts:
            path = folder / f"abtem-{thickness:g}-{tilt:g}.npz"
            worker("pacbed_abtem", path, str(thickness), str(tilt), str(detector))
            references.append(path)
    found = folder / "pacbed.json"
    worker("pacbed_tables", found, str(max_angle_mrad), str(max(thicknesses) + 0.5), *references)
    made: dict[str, Any] = json.loads(found.read_text())
    shared = {"table_cpu_s": made["cpu_s"], "pattern_ms": made["pattern_ms"]}
    table.rows = [{key: (row | shared).get(key) for key in COLUMNS} for row in made["rows"]]
    worst = max(row["difference"] for row in table.rows)
    largest = f"{max(thicknesses):g} nm"
    table.targets = [
        verdict(f"plane waves against abTEM, to {largest} and with tilt: largest relative L2", worst, 5e-3),
        verdict(f"table of {max_angle_mrad:g} mrad, {largest}: CPU", made["cpu_s"], 15.0, " s"),
    ]
    return table
