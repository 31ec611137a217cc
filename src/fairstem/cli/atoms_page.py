"""The sections of an atoms report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairstem.cli import pages
from fairstem.cli.atoms_figures import figures
from fairstem.cli.measured import LatticeSummary, Measured
from fairstem.cli.options import as_options
from fairstem.plot.numbers import significant, with_error
from fairstem.plot.report import (
    Checks,
    Number,
    Numbers,
    Prose,
    Provenance,
    Report,
    Section,
    Table,
    Warnings,
)

__all__ = ["headline", "page", "section", "summary"]

CITE = (
    "The error bars are Cramér-Rao bounds of a Poisson maximum-likelihood fit: A. J. den Dekker et al., "
    "Ultramicroscopy 104 (2005) 83, doi:10.1016/j.ultramic.2005.03.001.",
)


def summary(measured: Measured) -> dict[str, Any]:
    """Return the numbers of a measurement, JSON-ready.

    Parameters
    ----------
    measured
        What was measured.

    Returns
    -------
    dict
        Lengths in the units their names say.
    """
    n, inner = len(measured.columns), measured.inner
    unit = "pm" if "sd_y_pm" in measured.columns else "px"
    suffix = "_pm" if unit == "pm" else ""
    errors = {
        axis: float(inner[f"sd_{axis}{suffix}"].median()) if len(inner) else float("nan") for axis in "yx"
    }
    spread, sd_spread, typical = measured.pooled_spread
    return {
        "columns": n,
        "columns_at_the_border": n - len(inner),
        "pixel_size_nm": measured.pixel_size_nm,
        "median_error_bar": errors | {"unit": unit},
        "lattice": None if measured.lattice is None else measured.lattice.to_dict(),
        "no_lattice": measured.no_lattice,
        "bonds": {
            "number": len(measured.bonds),
            "unit": measured.unit,
            "spread": spread,
            "sd_spread": sd_spread,
            "error_bar": typical,
            "classes": measured.spread.to_dict("records"),
        },
        "noise": dict(measured.noise),
        "priors": list(measured.priors),
        "warnings": list(measured.warnings),
        "seconds": measured.seconds,
    }


def headline(measured: Measured, reference: str = "") -> list[Number]:
    """Return the numbers that head the page.

    Parameters
    ----------
    measured
        What was measured.
    reference
        What the length is that the lattice is compared with.

    Returns
    -------
    list of Number
        Columns, error bar, lattice, completeness, distances; what could not be measured is left out.
    """
    facts = summary(measured)
    border = facts["columns_at_the_border"]
    shown = [
        Number(
            "atom columns",
            str(facts["columns"]),
            note=f"{border} of them cut by the border" if border else "",
        )
    ]
    if not facts["columns"]:
        return shown
    error = facts["median_error_bar"]
    both = f"{significant(error['y'], 2)} / {significant(error['x'], 2)}"
    shown.append(
        Number("error bar of a position, y / x", both, unit=error["unit"], note=_what_errors_count(measured))
    )
    if measured.lattice is not None:
        shown += _lattice_numbers(measured.lattice, reference)
    bonds = facts["bonds"]
    if np.isfinite(bonds["spread"]):
        pair = with_error(bonds["spread"], bonds["sd_spread"])
        note = f"within kind and direction, {len(measured.inner_bonds)} bonds away from the border"
        if np.isfinite(bonds["error_bar"]):
            note += f"; error bars alone give {significant(bonds['error_bar'], 2)} {bonds['unit']}"
        shown.append(Number("spread of bond lengths", *pair, bonds["unit"], note))
    return shown


def _what_errors_count(measured: Measured) -> str:
    """Say what the error bars are, and what they leave out where the fits leave more than noise."""
    note = "median, one standard deviation"
    for check in measured.priors:
        if check.get("name") == "gaussian-columns" and check.get("holds") is False:
            chi2 = significant(float(check["statistic"]), 3)
            note += f"; counts the noise only: the fits leave more (χ² = {chi2}), such as scan jitter"
    return note


def _lattice_numbers(found: LatticeSummary, reference: str) -> list[Number]:
    shown = []
    scale, unit = (1000.0, "pm") if found.unit == "nm" else (1.0, "px")
    expected = (found.calibration or {}).get("reference_nm", (None, None))
    for name, length, error, known in zip("ab", found.lengths, found.length_errors, expected, strict=True):
        note = ""
        if known is not None:
            ratio = with_error(100 * (length / known - 1), 100 * error / known)
            note = f"{' ± '.join(filter(None, ratio))} % from {1000 * known:.5g} pm ({reference})"
        shown.append(Number(f"lattice vector {name}", *with_error(length * scale, error * scale), unit, note))
    shown.append(Number("angle between a and b", *with_error(found.angle, found.angle_error), "°"))
    wrong = f"{len(found.missing)} missing, {len(found.duplicates)} double, {found.outside} off the lattice"
    share = f"{100 * found.completeness:.2f}".rstrip("0").rstrip(".")
    shown.append(
        Number(
            "sites with a column",
            f"{share} %",
            note=f"{found.found} of {found.expected} inside the image{_by_site(found)}; {wrong}",
        )
    )
    shown.append(
        Number(
            "scatter about the lattice",
            significant(found.scatter, 2),
            unit=found.scatter_unit,
            note="one column about its surroundings, per direction",
        )
    )
    known = found.calibration if found.is_reference else None
    for axis, direction in (("x", "fast scan direction"), ("y", "slow scan direction")):
        if known and known.get(f"{axis}_percent") is not None:
            percent, percent_error = with_error(known[f"{axis}_percent"], known[f"sd_{axis}_percent"])
            signed = percent if percent.startswith("−") else f"+{percent}"
            note = f"{direction}; + is recorded too long"
            shown.append(Number(f"error of lengths along {axis}", signed, percent_error, "%", note))
    return shown


def _by_site(found: LatticeSummary) -> str:
    """Count the sites of each sub-lattice, where there are several."""
    if len(found.sites) < 2:
        return ""
    counts = (f"{s['site']} {s['found']} of {int(s['found']) + int(s['missing'])}" for s in found.sites)
    return f" ({', '.join(counts)})"


def _scan_sentence(found: LatticeSummary) -> str:
    """Say how to read the comparison with the expected lengths."""
    if not found.is_reference:
        return (
            "The lattice differs by more than a tenth from the expected length, so it is another length: "
            "expected are those of the vectors a and b above (two, such as --reference-nm 0.2761,0.3905, where "
            "they differ), or the pixel size is wrong."
        )
    return (
        "Lengths in a single scan, as recorded, are usually 0.4 to 1.2 % too long along the fast direction and "
        "2.7 to 3.6 % along the slow one. What both directions share is the calibration of the "
        "magnification; what they differ by, and an angle other than expected, is drift and distortion of the scan."
    )


def section(
    measured: Measured,
    *,
    about: str = "",
    reference: str = "",
    comparison: Sequence[Number] = (),
    title: str = "",
) -> Section:
    """Return the part of a page that shows one image.

    Parameters
    ----------
    measured
        What was measured.
    about
        What the image is.
    reference
        What the length is that the lattice is compared with.
    comparison
        More numbers: how the columns agree with known positions.
    title
        Heading; the image's by default.

    Returns
    -------
    Section
        With figures.
    """
    blocks: list[Any] = [Prose(about)] if about else []
    blocks.append(Numbers([*headline(measured, reference), *comparison]))
    if len(measured.columns) == 0:
        blocks.append(Prose("No atom column stands out of the noise. That is an answer: the table is empty."))
    elif measured.no_lattice:
        blocks.append(Prose(f"No lattice: {measured.no_lattice} The columns are measured all the same."))
    blocks += pages.failed(measured.priors)
    if measured.lattice is not None and measured.lattice.calibration is not None:
        blocks.append(Prose(_scan_sentence(measured.lattice)))
    if measured.noise:
        constant = "; it does not grow with the signal"
        blocks.append(Prose(pages.noise_sentence(measured.noise, constant)))
    blocks += [
        Warnings([as_options(w) for w in measured.warnings]),
        *figures(measured),
        Checks(measured.priors),
    ]
    if measured.lattice is not None:
        blocks.append(_site_table(measured.lattice, str(measured.columns.attrs.get("height_unit", ""))))
    if len(measured.spread):
        blocks.append(_bond_table(measured))
    blocks.append(Provenance(measured.steps))
    found = f"{len(measured.columns)} columns"
    if measured.lattice is not None:
        found += f", {100 * measured.lattice.completeness:.1f} % of the sites"
    return Section(title or measured.title, blocks, found)


def _site_table(found: LatticeSummary, unit: str) -> Table:
    height_head = f"height ({unit})" if unit else "height"
    heads = (
        "site of the cell",
        "along a",
        "along b",
        height_head,
        "columns",
        "sites inside",
        "with a column",
    )
    rows = []
    for site in found.sites:
        along = [f"{site[key]:.4f} ± {site['sd_' + key]:.4f}" if site["sd_" + key] else "0" for key in "uv"]
        height = " ± ".join(
            filter(None, with_error(site.get("height", np.nan), site.get("sd_height", np.nan)))
        )
        inside = int(site["found"]) + int(site["missing"])
        rows.append((site["site"], *along, height, int(site["n"]), inside, int(site["found"])))
    return Table(heads, rows, "Sites of the unit cell; coordinates in fractions of a and b")


def _bond_table(measured: Measured) -> Table:
    tail, scale = ("_pm", 1000.0) if measured.unit == "pm" else ("", 1.0)
    mean_name = "mean_nm" if measured.unit == "pm" else "mean"
    rows = []
    for bond in measured.spread.to_dict("records"):
        pairs = [
            with_error(scale * bond[mean_name], bond[f"sd_mean{tail}"]),
            with_error(bond[f"spread{tail}"], bond[f"sd_spread{tail}"]),
            with_error(bond.get(f"intrinsic{tail}", np.nan), bond.get(f"sd_intrinsic{tail}", np.nan)),
        ]
        shown = [" ± ".join(filter(None, pair)) for pair in pairs]
        error = significant(bond.get(f"error{tail}", np.nan), 2)
        rows.append(
            (bond["kind"] or "–", f"{bond['angle_deg']:.1f}°", int(bond["n"]), *shown[:2], error, shown[2])
        )
    heads = ("bond", "direction", "number", "mean", "spread", "of it error bars", "and intrinsic")
    caption = f"Bond lengths by kind and direction ({measured.unit}; border left out)"
    return Table(heads, rows, caption)


def page(measured: Measured, *, source: str = "") -> Report:
    """Return the whole page of ``fairstem atoms``.

    Parameters
    ----------
    measured
        What was measured.
    source
        Name of the file.

    Returns
    -------
    Report
        Ready for `to_html`.
    """
    shown = section(measured, reference="expected", title="Columns and lattice")
    return pages.page_of_image(measured, "Atom columns of", shown, CITE, source)
