"""4D-STEM: symmetry maps, calibration, virtual detectors, PACBED, memory and real files, beside other packages."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .diffraction_calibration import calibration
from .diffraction_files import lazily, real_files
from .diffraction_pacbed import plane_waves
from .diffraction_speed import operations
from .diffraction_symmetry import symmetry
from .tables import Table

TITLE = "4D-STEM"
PACKAGES = ("fairstem", "numpy", "scipy", "numba", "hyperspy", "dask", "h5py", "abtem")


def run() -> list[Table]:
    """Run all tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = symmetry(folder) + operations(folder)
        return [*tables, lazily(folder), calibration(folder), plane_waves(folder), real_files(folder)]
