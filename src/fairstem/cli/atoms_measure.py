"""Measuring one image for a report: columns, lattice, bonds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairstem.cli.measured import LatticeSummary, Measured
from fairstem.errors import DataError

__all__ = ["LIBRARY_BYTES", "PEAK_BYTES_PER_PIXEL", "measure"]

# measured with phantoms of 512² and 1024² px, report included: 85 bytes a pixel (float64 copies of the
# image, its background, its model, maps of the detection) on top of 330 MB of libraries
PEAK_BYTES_PER_PIXEL = 110
LIBRARY_BYTES = 330_000_000


def measure(
    signal: Any,
    title: str,
    find: Mapping[str, Any],
    warnings: Sequence[str],
    reference_nm: tuple[float, ...] | None = None,
) -> Measured:
    """Find the columns of an image, fit a lattice, list the bonds.

    Parameters
    ----------
    signal
        2-D HyperSpy signal.
    title
        For captions.
    find
        Arguments of `fairstem.atoms.find`.
    warnings
        List that collects warnings while this runs; copied at the end.
    reference_nm
        Expected lattice parameter, or two of them in any order, nm.

    Returns
    -------
    Measured
        Without a lattice where there is none; that is no error.

    Raises
    ------
    DataError
        If the image does not fit the method.
    """
    from fairstem import atoms
    from fairstem.signals import open_data

    start = time.perf_counter()
    opened = open_data(signal, ndim=2)
    columns = atoms.find(signal, **find)
    size = opened.pixel_size_nm
    lattice, why = None, "" if len(columns) else "no atom column was found"
    if len(columns):
        try:
            lattice = _lattice(columns, reference_nm if size else None)
        except DataError as error:
            why = str(error)
    table = columns if lattice is None else lattice.columns
    bonds, spread = _bonds(table, lattice)
    priors = list(columns.attrs.get("priors", []))
    if lattice is not None:
        priors += [check.to_dict() for check in lattice.priors]
    step = opened.step("fairstem.atoms.find", dict(find), priors, hash_input=True)
    return Measured(
        title=title,
        image=np.asarray(opened.array),
        pixel_size_nm=size,
        columns=table,
        lattice=None if lattice is None else _summarise(lattice, columns),
        no_lattice=why,
        bonds=bonds,
        spread=spread,
        priors=priors,
        warnings=_all_warnings(warnings, columns, no_scale=reference_nm is not None and size is None),
        noise=dict(columns.attrs.get("noise", {})),
        steps=(step.to_dict(),),
        seconds=time.perf_counter() - start,
    )


def _lattice(columns: pd.DataFrame, reference_nm: tuple[float, ...] | None) -> Any:
    """Fit the lattice; two expected lengths go to the vectors that they fit better."""
    from fairstem import atoms

    lattice = atoms.lattice(columns, reference=reference_nm)
    if reference_nm is None or len(reference_nm) == 1:
        return lattice
    measured = np.log(np.array([lattice.a_nm, lattice.b_nm], dtype=float))
    straight, crossed = (np.abs(measured - np.log(pair)).max() for pair in (reference_nm, reference_nm[::-1]))
    return lattice if straight <= crossed else atoms.lattice(columns, reference=reference_nm[::-1])


def _all_warnings(heard: Sequence[str], columns: pd.DataFrame, no_scale: bool) -> tuple[str, ...]:
    """Return what was heard on the way and what the table remembers, each once."""
    if no_scale:
        heard = [*heard, "without a pixel size the lattice can't be compared with the expected length"]
    found = [f["message"] for f in columns.attrs.get("findings", []) if f["severity"] == "warning"]
    return (*heard, *(text for text in found if not any(text in known for known in heard)))


def _bonds(table: pd.DataFrame, lattice: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the bonds and their spread; both empty where there are too few columns."""
    from fairstem import atoms

    nothing = pd.DataFrame()
    if len(table) < 2:
        return nothing, nothing
    try:
        bonds = atoms.bonds(table, lattice)
    except DataError:
        return nothing, nothing
    ends = {}
    for number, end in enumerate(("first", "second")):
        for axis in "yx":
            ends[f"{axis}{number}"] = table.loc[bonds[end], axis].to_numpy(float)
    bonds = bonds.assign(**ends)
    try:
        return bonds, atoms.bond_spread(bonds)
    except DataError:
        return bonds, nothing


def _summarise(lattice: Any, columns: pd.DataFrame) -> LatticeSummary:
    calibrated = lattice.pixel_size_nm is not None
    unit = "nm" if calibrated else "px"
    sites = lattice.sites.reset_index().to_dict("records")
    missing = lattice.missing[~lattice.missing["edge"].to_numpy(bool)]
    doubled = lattice.duplicates[~lattice.duplicates["primary"].to_numpy(bool)]
    scale = 1000 * float(np.sqrt(np.prod(lattice.pixel_size_nm))) if calibrated else 1.0
    shown = lattice.position(0, 0)
    return LatticeSummary(
        vectors=lattice.cell,
        origin=np.asarray(shown, dtype=float),
        lengths=(getattr(lattice, f"a_{unit}"), getattr(lattice, f"b_{unit}")),
        length_errors=(getattr(lattice, f"sd_a_{unit}"), getattr(lattice, f"sd_b_{unit}")),
        angle=lattice.angle_deg,
        angle_error=lattice.sd_angle_deg,
        unit=unit,
        sites=sites,
        expected=int(sum(s["found"] + s["missing"] for s in sites)),
        found=int(sum(s["found"] for s in sites)),
        missing=missing[["y", "x"]].to_numpy(float),
        duplicates=columns.loc[doubled["row"], ["y", "x"]].to_numpy(float),
        outside=int((lattice.columns["site"] == "").sum()),
        scatter=lattice.scatter_px * scale,
        scatter_unit="pm" if calibrated else "px",
        calibration=None if lattice.calibration is None else lattice.calibration.to_dict(),
    )
