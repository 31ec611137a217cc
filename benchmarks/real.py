"""Real images: what is found, and whether the crystal agrees."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .harness import ROOT, worker
from .tables import Table, verdict

TITLE = "Real images"
PACKAGES = ("fairstem", "numpy", "hyperspy", "rosettasciio")
SAMPLES = {  # file: what it is, the unit it has lost, known lengths of a and b in nm
    "16_STOimage_1.ser": ("SrTiO3 [100], 80 kV", "-", (0.3905, 0.3905)),
    "STO_ADF.hdf5": ("SrTiO3 [110], ADF", "nm", (0.3905 / 2**0.5, 0.3905)),
    "derived_01_Si110_frame.tif": ("Si [110]", "-", None),
    "Si110_5nmX25us_03_none_none.png": ("Si [110], 8-bit picture", "-", None),
    "03_afterimage_8nm_crp.png": ("dumbbell lattice, 8-bit picture", "-", None),
    "Example3.mat": ("CsPbBr3", "-", None),
    "Au_NP_Atom_Lattice.hdf5": ("Au nanoparticle", "-", None),
}
COUNT = {
    "sample": "sample",
    "columns": "columns",
    "interior": "interior",
    "holes": "holes",
    "completeness": "complete",
    "sites": "sites of the cell",
    "indexed": "least complete site by its index",
    "duplicates": "twice",
    "strays": "strays",
    "a_text": "a",
    "b_text": "b",
    "chi2": "median chi²",
    "cpu_s": "CPU s",
}
LENGTHS = {
    "sample": "sample",
    "a": "a, nm",
    "b": "b, nm",
    "sd_a": "± a",
    "sd_b": "± b",
    "known": "known a × b, nm",
    "off_a": "a off by, %",
    "off_b": "b off by, %",
    "nn_pm": "nearest distance, pm",
    "nn_sd_pm": "its spread, pm",
    "nn_sd_error_pm": "±",
    "pairs": "pairs",
    "sd_pm": "mean error bar of a position, pm",
}
REFERENCE = {
    "sample": "sample",
    "reference": "fitted by others",
    "reference_found": "of these found",
    "not_in_reference": "found besides",
    "median_px": "median distance, px",
}
ABOUT_COUNT = (
    "`atoms.find(image)` without any option. Holes, columns found twice and strays are counted from the"
    " positions and the two lattice vectors alone. A hole: three of four lattice neighbours say a "
    "column should be there, and none is within 0.4 of the nearest distance. Twice: nearer than half "
    "the usual nearest distance. Stray: no neighbour at any lattice vector. Interior: not at the border"
    " of the image or of the particle."
)
ABOUT_LENGTHS = (
    "From the file's own calibration, nothing corrected. The spread of nearest distances holds "
    "everything: counting noise, scan distortion, the crystal; the error bar of a position holds "
    "counting noise only."
)
ABOUT_REFERENCE = (
    "Columns that other programs fitted and the authors stored with the image (StatSTEM for CsPbBr3, "
    "Atomap for the particle): fitted, not labelled by hand, and the particle's are whole pixels."
)


def run() -> list[Table]:
    """Find and check the columns of every sample that can be had."""
    found, lacking = {}, []
    for name, (what, units, _) in SAMPLES.items():
        if not have(name):
            lacking.append(name)
            continue
        with tempfile.TemporaryDirectory() as folder:
            worker("real_fairstem", name, units, Path(folder) / "out.json")
            found[name] = {"sample": what} | json.loads((Path(folder) / "out.json").read_text())
    tables = [counts(found), lengths(found), references(found)]
    if lacking:
        tables[0].about += f" Not measured, because the files are not here: {', '.join(lacking)}."
    return tables


def have(name: str) -> bool:
    """Return whether the sample is on this machine."""
    ask = f"import sys, fairstem.data as d; sys.exit(not d.available({name!r}))"
    return subprocess.run([sys.executable, "-c", ask], cwd=ROOT, check=False).returncode == 0


def counts(found: dict[str, dict[str, Any]]) -> Table:
    """Return what was found, missed, made up."""
    table = Table("Columns of real images", ABOUT_COUNT, dict(COUNT))
    for row in found.values():
        text = {f"{k}_text": f"{row[k]:.4g} {row['unit']}" for k in ("a", "b")}
        table.rows.append({key: (row | text).get(key) for key in COUNT})
    for name in ("16_STOimage_1.ser", "STO_ADF.hdf5", "derived_01_Si110_frame.tif"):
        if name in found:
            share = float(found[name]["completeness"])
            table.targets.append(verdict(f"interior columns of {name}", share, 0.98, at_least=True))
    table.targets.append(
        verdict("columns found twice, all samples", sum(r["duplicates"] for r in found.values()), 0)
    )
    return table


def lengths(found: dict[str, dict[str, Any]]) -> Table:
    """Return lattice parameters and distances of the calibrated images."""
    table = Table("Lengths", ABOUT_LENGTHS, dict(LENGTHS))
    for name, row in found.items():
        known = SAMPLES[name][2]
        if row["unit"] != "nm":
            continue
        more = {f"off_{k}": 100 * (row[k] / length - 1) for k, length in zip("ab", known or (), strict=False)}
        text = " × ".join(f"{length:.4f}" for length in known) if known else None
        table.rows.append({key: (row | more | {"known": text}).get(key) for key in LENGTHS})
    return table


def references(found: dict[str, dict[str, Any]]) -> Table:
    """Return the comparison with columns that others fitted."""
    table = Table("Against columns fitted by others", ABOUT_REFERENCE, dict(REFERENCE))
    table.rows = [{key: row.get(key) for key in REFERENCE} for row in found.values() if "reference" in row]
    return table
