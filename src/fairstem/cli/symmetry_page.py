"""The sections of a symmetry report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairstem.cli import pages
from fairstem.cli.options import as_options
from fairstem.cli.scanned import Scanned
from fairstem.cli.symmetry_figures import figures
from fairstem.plot.numbers import significant, with_error
from fairstem.plot.report import (
    Checks,
    Citation,
    Number,
    Numbers,
    Prose,
    Provenance,
    Report,
    Section,
    Table,
    Warnings,
)

__all__ = ["CITE", "page", "section", "summary"]

CITE = ("Symmetry STEM: M. Krajnak, J. Etheridge, PNAS 117 (2020) 27805, doi:10.1073/pnas.2006975117.",)


def summary(scanned: Scanned) -> dict[str, Any]:
    """Return the numbers of a scan, JSON-ready.

    Parameters
    ----------
    scanned
        What is known of the scan.

    Returns
    -------
    dict
        Lengths and angles in the units their names say.
    """
    found = scanned.calibration
    hot = found.hot_pixels
    return {
        "shape": list(scanned.shape),
        "dtype": scanned.dtype,
        "pixel_size_nm": scanned.pixel_size_nm,
        "electrons_per_pattern": scanned.dose,
        "center_px": list(scanned.center),
        "center_sd_px": None if "center" in scanned.parameters else list(found.center_sd),
        "descan_px_per_position": np.asarray(found.descan).tolist(),
        "mrad_per_px": found.mrad_per_px,
        "radius_px": found.radius_px,
        "semiangle_mrad": found.semiangle_mrad,
        "hot_pixels": 0 if hot is None else int(np.count_nonzero(hot)),
        "operations": [scanned.of_operation(n) for n in range(len(scanned.maps.operations))],
        "parameters": dict(scanned.parameters),
        "priors": scanned.priors,
        "warnings": list(scanned.warnings),
        "seconds": scanned.seconds,
    }


def headline(scanned: Scanned) -> list[Number]:
    """Return the numbers that head the page.

    Parameters
    ----------
    scanned
        What is known of the scan.

    Returns
    -------
    list of Number
        Dose, error bar, geometry; what could not be measured is left out.
    """
    shown = []
    if scanned.dose is not None:
        note = "on the detector, mean of all positions"
        shown.append(Number("electrons per pattern", significant(scanned.dose, 3), note=note))
    errors = [f["standard_error"] for f in summary(scanned)["operations"] if f["standard_error"] is not None]
    if errors:
        both = " to ".join(dict.fromkeys(significant(e, 2) for e in (min(errors), max(errors))))
        shown.append(Number("standard error of γ", both, note="median of a map"))
    return shown + _geometry(scanned)


def _geometry(scanned: Scanned) -> list[Number]:
    found, (ny, nx) = scanned.calibration, scanned.shape[:2]
    y, x = scanned.center
    if "center" in scanned.parameters:
        where, note = f"{y:.2f}, {x:.2f}", "y, x; as given"
    else:
        error = max(found.center_sd)
        where, note = (
            f"{y:.2f}, {x:.2f}",
            f"y, x; measured to {significant(error, 2)} px" if error > 0 else "y, x",
        )
    slopes = np.asarray(found.descan)
    moved = float(np.hypot(*(slopes @ np.array([ny - 1, nx - 1]))))
    shown = [Number("centre of the patterns", where, unit="px", note=note)]
    shown.append(
        Number("descan", significant(moved, 2), unit="px", note="of the centre from corner to corner")
    )
    if found.radius_px is not None:
        angle = "" if found.semiangle_mrad is None else f"{significant(found.semiangle_mrad, 3)} mrad"
        shown.append(Number("radius of the disc", significant(found.radius_px, 3), unit="px", note=angle))
    if found.mrad_per_px is not None:
        value, bar = with_error(found.mrad_per_px, found.mrad_per_px_sd or float("nan"))
        shown.append(Number("angle per pixel", value, bar, "mrad"))
    return shown


def section(
    scanned: Scanned, *, about: str = "", comparison: Sequence[Number] = (), title: str = ""
) -> Section:
    """Return the part of a page that shows one scan.

    Parameters
    ----------
    scanned
        What is known of the scan.
    about
        What the scan is.
    comparison
        More numbers: how the result agrees with a known truth.
    title
        Heading; the scan's by default.

    Returns
    -------
    Section
        With figures.
    """
    priors = scanned.priors
    blocks: list[Any] = [Prose(about)] if about else []
    blocks += [
        Numbers([*headline(scanned), *comparison]),
        Prose(_what_was_done(scanned)),
        *pages.failed(priors),
        Warnings([as_options(w) for w in scanned.warnings]),
        *figures(scanned),
        _table(scanned),
        Checks(priors),
        Provenance(scanned.steps),
    ]
    return Section(title or scanned.title, blocks, f"symmetry under {', '.join(scanned.maps.operations)}")


def _what_was_done(scanned: Scanned) -> str:
    text = (
        "Each pattern is compared with its own image under each operation about the centre: γ is the correlation of "
        "the two, 1 where the operation is a symmetry of the crystal as seen from that position."
    )
    if scanned.raw is None:
        return f"{text} Counting noise was not corrected: with few electrons γ is too small, and it has no error bar."
    text += (
        " What counting noise takes from γ is corrected; the noise itself stays, so single values reach beyond 1, and "
        "their standard error says by how much they scatter."
    )
    if scanned.parameters.get("shift_px"):
        text += (
            f" The centre was looked for within {scanned.parameters['shift_px']:g} px at each position: the largest of "
            "many noisy values, which raises γ by one to two standard errors."
        )
    return text


def _table(scanned: Scanned) -> Table:
    rows = []
    for number in range(len(scanned.maps.operations)):
        facts = scanned.of_operation(number)
        share = "–" if facts["symmetric"] is None else f"{100 * facts['symmetric']:.1f} %"
        values = [
            "–" if facts[name] is None else significant(facts[name], 3)
            for name in ("smallest", "median", "largest")
        ]
        error = "–" if facts["standard_error"] is None else significant(facts["standard_error"], 2)
        rows.append((facts["operation"], *values, error, share, str(facts["valid"]), str(facts["pixels"])))
    heads = (
        "operation", "smallest γ", "median γ", "largest γ", "standard error (median)",
        "symmetric within two standard errors", "positions with a value", "pixels compared",
    )  # fmt: skip
    return Table(heads, rows, "The maps in numbers")


def page(scanned: Scanned, *, source: str = "") -> Report:
    """Return the whole page of ``fairstem symmetry``.

    Parameters
    ----------
    scanned
        What is known of the scan.
    source
        Name of the file.

    Returns
    -------
    Report
        Ready for `to_html`.
    """
    from fairstem import __version__

    ny, nx, ky, kx = scanned.shape
    size = "" if scanned.pixel_size_nm is None else f", {scanned.pixel_size_nm[1]:.4g} nm apart"
    shown = section(scanned, title="Symmetry maps")
    return Report(
        f"Symmetry: {scanned.title or source}",
        [shown, Section("", [Citation(pages.citations(*CITE))])],
        subtitle=f"{source}: {ny} × {nx} positions{size}, patterns of {ky} × {kx} px",
        footer=f"fairstem {__version__}, {scanned.seconds:.1f} s",
    )
