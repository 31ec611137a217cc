"""Symmetry maps of SrTiO3 at the doses of fast cameras: the truth, as recorded, and corrected for counting noise.

    python examples/symmetry_srtio3.py --out symmetry

SrTiO3 along [100] is scanned by multislice (abTEM; --thin does with a thin phase object instead), and its patterns are
counted at 1000 and at 10,000 frames a second. Strontium and titanium-oxygen columns have all symmetries of p4mm: C2 and
C4 are 1 there. At oxygen columns C2 is 1, and C4 less by some thousandths, since the neighbours are far. Counting noise
makes both too small everywhere. The picture shows the maps without noise, as recorded and corrected; the table says how
far they are off, and how many error bars reach the truth. For a scan of your own, start at `maps_of`, or run
`fairstem symmetry SCAN -o FOLDER`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairstem import diffraction, plot, simulate
from fairstem.errors import MissingDependencyError

OPERATIONS = ("C2", "C4")
RATES = (1000, 10_000)  # frames per second
FIELD = (44, 44)  # positions that are shown: two cells


def crystal(thin: bool, **options: Any) -> simulate.SimulatedScan:
    """Return the patterns of one cell without noise."""
    if thin:
        return simulate.thin_scan("SrTiO3", options["scan_px"], semiangle_mrad=20.0)
    return simulate.multislice_scan("SrTiO3", semiangle_mrad=13.6, **options)


def maps_of(patterns: Any, noise: str | None = "poisson") -> diffraction.SymmetryMaps:
    """Return symmetry maps; the optic axis of these patterns is the centre of the array."""
    return diffraction.symmetry(patterns, OPERATIONS, noise=noise)


def measured(
    cell: simulate.SimulatedScan, current_pa: float, field: tuple[int, int], seed: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the maps by what they are, and how far they are off."""
    truth = maps_of(cell.tiled(field).intensities, noise=None)
    columns, rows = {"truth": truth}, []
    for number, rate in enumerate(RATES):
        dose = simulate.electrons_per_pattern(current_pa, frames_per_s=rate)
        counts = cell.counts(dose, np.random.default_rng([seed, number]), shape=field)
        raw, corrected = maps_of(counts, noise=None), maps_of(counts)
        name = f"{rate:,} frames/s"
        columns |= {f"{name}\nas recorded": raw, f"{name}\ncorrected": corrected}
        for k, operation in enumerate(OPERATIONS):
            valid, true = corrected.valid[k], truth.gamma[k]
            error = (corrected.gamma[k] - true)[valid]
            rows.append(
                {
                    "frames_per_s": rate,
                    "electrons": dose,
                    "operation": operation,
                    "valid": valid.mean(),
                    "rms_as_recorded": np.sqrt(((raw.gamma[k] - true) ** 2).mean()),
                    "rms_corrected": np.sqrt((error**2).mean()),
                    "bias": error.mean(),
                    "standard_error": np.sqrt((corrected.standard_error[k][valid] ** 2).mean()),
                    "within": (np.abs(error) < corrected.standard_error[k][valid]).mean(),
                }
            )
    return columns, pd.DataFrame(rows)


def report(table: pd.DataFrame, stream: Any = sys.stdout) -> None:
    """Write how far the maps are off."""
    stream.write(
        "frames/s  electrons      rms as recorded   corrected     bias   stated   within one error bar\n"
    )
    for row in table.itertuples():
        stream.write(
            f"{row.frames_per_s:8,}  {row.electrons:9.0f}  {row.operation}  {row.rms_as_recorded:15.3f}"
        )
        stream.write(f"   {row.rms_corrected:9.3f}  {row.bias:7.4f}  {row.standard_error:7.3f}")
        stream.write(f"   {100 * row.within:.0f} % of the {100 * row.valid:.0f} % with a value\n")


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("symmetry"), help="folder for the table and the picture"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--current", type=float, default=1.89, help="beam current in pA")
    parser.add_argument("--thickness", type=float, default=20.0, help="nm")
    parser.add_argument("--scan", type=int, default=22, help="positions along a cell, even")
    parser.add_argument("--detector", type=int, default=49, help="px a side, odd")
    parser.add_argument("--thin", action="store_true", help="a thin phase object, without abTEM")
    chosen = parser.parse_args(arguments)
    began = time.perf_counter()
    options = {} if chosen.thin else {"thickness_nm": chosen.thickness, "detector": chosen.detector}
    try:
        cell = crystal(chosen.thin, scan_px=(chosen.scan, chosen.scan), **options)
    except MissingDependencyError as error:
        parser.exit(3, f"{error}\nor give --thin, which needs nothing more\n")
    field = tuple(round(n * chosen.scan / 22) for n in FIELD)
    columns, table = measured(cell, chosen.current, field, chosen.seed)
    report(table)
    chosen.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(chosen.out / "symmetry_srtio3.csv", index=False, float_format="%.6g")
    drawn = plot.symmetry_comparison(columns, pixel_size_nm=cell.pixel_size_nm)
    (chosen.out / "symmetry_srtio3.png").write_bytes(plot.to_png(drawn.images[0].figure, 150))
    seconds = time.perf_counter() - began
    sys.stdout.write(f"{chosen.out}: symmetry_srtio3.csv, symmetry_srtio3.png ({seconds:.0f} s)\n")
    return table


if __name__ == "__main__":
    main()
