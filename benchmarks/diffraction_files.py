"""Scans that are never in memory: one of 1 GB in an HDF5 file, and real files of several detectors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from .harness import worker
from .real import have
from .tables import Table, verdict

SCAN, DETECTOR, NEEDS_GB = 182, 128, 3.0
OPERATIONS = {
    "symmetry": "`symmetry`: C2, C4, mx, my",
    "virtual": "`virtual_images`: BF and ADF",
    "com": "`com` with standard errors",
    "pacbed": "`pacbed`",
    "calibrate": "`calibrate`",
}
LAZY = {
    "what": "what",
    "peak_mb": "peak MB",
    "above_mb": "above the imports, MB",
    "cpu_s": "CPU s",
    "wall_s": "wall s",
}
REAL = {
    "what": "what",
    "file": "file",
    "shape": "shape",
    "dtype": "type",
    "axes": "axes: name, step, unit",
    "lazy": "lazy",
    "dense_mb": "dense, MB",
    "peak_mb": "peak MB",
    "cpu_s": "CPU s",
}
PTS = "View000_0000006.pts"
FILES = {
    "Merlin_navigation4x2_ROI.zip/001_4x2_6bit.mib": "Merlin, 6 bit",
    "Merlin_navigation4x2_ROI.zip/002_4x2_6bit_roi128.mib": "Merlin, 6 bit, region of the sensor",
    "fpd_file_test.hdf5": "Merlin, fpd file",
    PTS: "JEOL event map (EDS)",
}


def lazily(
    folder: Path, scan: int = SCAN, detector: int = DETECTOR, names: tuple[str, ...] = tuple(OPERATIONS)
) -> Table:
    """Return the memory of every operation on a scan in a file."""
    about = (
        f"{scan} x {scan} positions, {detector}² px, uint16 ({scan**2 * detector**2 * 2 / 1e9:.2f} GB) in an HDF5 "
        "file of chunks of 4 x 32 patterns, passed as an h5py data set; a process for each. The peak holds "
        "Python, the imports and compiled code."
    )
    table = Table("A scan in a file", about, dict(LAZY))
    free = shutil.disk_usage(folder).free / 1e9
    if free < NEEDS_GB:
        table.about += f" Not measured: {free:.1f} GB of disk are free, {NEEDS_GB:g} GB are needed."
        return table
    data, found = folder / "scan.h5", folder / "lazy.json"
    worker("make_scan", data, str(scan), str(detector))
    nothing = worker("lazy_scan", "nothing", data, found).peak_mb
    for name in names:
        used = worker("lazy_scan", name, data, found)
        row: dict[str, Any] = {"what": OPERATIONS[name], "peak_mb": used.peak_mb}
        table.rows.append(
            row | {"above_mb": max(0.0, used.peak_mb - nothing)} | json.loads(found.read_text())
        )
    data.unlink()
    worst = max(row["peak_mb"] for row in table.rows)
    size = f"{scan**2 * detector**2 * 2 / 1e9:.1f} GB"
    table.targets = [
        verdict(f"a scan of {size} in a file: peak memory, worst operation", worst, 1000.0, " MB")
    ]
    return table


def real_files(folder: Path, files: dict[str, str] | None = None) -> Table:
    """Return what every real file holds, opened lazily, and the memory that opening takes."""
    about = (
        "`load(file, lazy=True)`, nothing else: shape and axes in the order of the array. Dense: all values in memory. "
        "The peak holds Python, HyperSpy and the reader."
    )
    table = Table("Real files", about, dict(REAL))
    found = folder / "real.json"
    for name, what in (FILES if files is None else files).items():
        row: dict[str, Any] = {"what": what, "file": name.rpartition("/")[2]}
        if not have(f"{name.partition('.zip/')[0]}.zip" if ".zip/" in name else name):
            table.rows.append(row | {"shape": "file not at hand"})
            continue
        used = worker("real_scan", name, found)
        table.rows.append(row | {"peak_mb": used.peak_mb} | json.loads(found.read_text()))
        if name == PTS:
            table.targets.append(
                verdict("opening the .pts map lazily: peak memory", used.peak_mb, 500.0, " MB")
            )
    return table
