"""The sections of a denoising report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairstem.cli import pages
from fairstem.cli.denoise_figures import figures
from fairstem.cli.denoised import LIKELY, UNCLEAR, Denoised
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

__all__ = ["CITE", "headline", "page", "section", "size_kept", "summary"]

CITE = (
    "Non-local means of crystals, blocks searched along the lattice: N. Mevenkamp et al., Advanced Structural and "
    "Chemical Imaging 1 (2015) 3, doi:10.1186/s40679-015-0004-8.",
)
RAW_COUNTS = (
    "Use the denoised image to find and to show. Measure positions on the raw counts, as fairstem atoms does: "
    "a column that was left like its neighbours has their position, with an error bar that is not its own."
)
_LISTED = 20
_MOSTLY = 90  # % of the image: with less on the crystal, blocks decide what is kept


def summary(denoised: Denoised) -> dict[str, Any]:
    """Return the numbers of a denoised image, JSON-ready.

    Parameters
    ----------
    denoised
        What was denoised.

    Returns
    -------
    dict
        Lengths in the units their names say.
    """
    found = denoised.found
    table = denoised.deviations
    kinds = table["kind"].value_counts().to_dict() if len(table) else {}
    return {
        "frames": denoised.frames,
        "shape": list(denoised.image.shape),
        "dtype": str(denoised.image.dtype),
        "pixel_size_nm": denoised.pixel_size_nm,
        "noise": found.noise.to_dict(),
        "strength": denoised.strength,
        "lattices": [
            {"vectors_px": vectors.tolist(), "lengths": list(lengths), "unit": denoised.unit}
            for vectors, lengths in zip(found.lattices, denoised.lengths, strict=True)
        ],
        "crystal_share": float(found.share.mean()),
        "deviations": {
            "number": len(table),
            "likely": len(denoised.likely),
            "kinds": {str(kind): int(count) for kind, count in kinds.items()},
        },
        "kept_to_90_percent": denoised.limits,
        "parameters": found.parameters,
        "priors": denoised.priors,
        "warnings": list(denoised.warnings),
        "seconds": denoised.seconds,
    }


def headline(denoised: Denoised) -> list[Number]:
    """Return the numbers that head the page.

    Parameters
    ----------
    denoised
        What was denoised.

    Returns
    -------
    list of Number
        Deviations, crystal, what is kept; what could not be measured is left out.
    """
    shown = []
    if len(denoised.found.lattices):
        likely, number = len(denoised.likely), len(denoised.deviations)
        shown.append(
            Number(
                "columns and spots that deviate",
                str(likely),
                note=f"more likely than not; {number} are listed, of which "
                f"{significant(_by_chance(denoised), 2)} are expected by chance",
            )
        )
    for number, lengths in enumerate(denoised.lengths):
        name = "cell" if len(denoised.lengths) == 1 else f"cell {number + 1}"
        shown.append(Number(f"{name} found", " × ".join(significant(v) for v in lengths), unit=denoised.unit))
    share = 100 * float(denoised.found.share.mean())
    shown.append(
        Number(
            "stands on the crystal", significant(share, 3), unit="%", note="of the image; the rest on blocks"
        )
    )
    return shown + _kept_numbers(denoised)


def _by_chance(denoised: Denoised) -> float:
    """Return how many of the listed deviations are expected to be chance."""
    table = denoised.deviations
    return float((1 - table["probability"]).sum()) if len(table) else 0.0


def _kept_numbers(denoised: Denoised) -> list[Number]:
    """Return what is kept to 90 %, for the kind of column where most is."""
    shown = []
    for quantity, label in (("shift", "displacement kept"), ("intensity", "loss of intensity kept")):
        own = [row for row in denoised.limits if row["quantity"] == quantity]
        if not own:
            continue
        best, *rest = sorted(own, key=lambda row: np.nan_to_num(row["amount_90"], nan=math.inf))
        if not math.isfinite(best["amount_90"]):
            shown.append(Number(label, "none", note="of no size that was tried are 90 % kept"))
            continue
        unit = denoised.unit if quantity == "shift" else "%"
        note = "to 90 %, of one column of the best kind"
        if rest:
            worst = size_kept(rest[-1])
            note += f"; of the worst: {worst}" + f" {unit}" * math.isfinite(rest[-1]["amount_90"])
        shown.append(Number(label, f"from {size_kept(best)}", unit=unit, note=note))
    return shown


def section(
    denoised: Denoised, *, about: str = "", comparison: Sequence[Number] = (), title: str = ""
) -> Section:
    """Return the part of a page that shows one denoised image.

    Parameters
    ----------
    denoised
        What was denoised.
    about
        What the image is.
    comparison
        More numbers: how the result agrees with a known truth.
    title
        Heading; the image's by default.

    Returns
    -------
    Section
        With figures.
    """
    blocks: list[Any] = [Prose(about)] if about else []
    blocks.append(Numbers([*headline(denoised), *comparison]))
    if denoised.frames is not None:
        blocks.append(
            Prose(
                f"All {denoised.frames} frames were denoised, one by one, with the noise of the first. Pictures and "
                "tables are those of frame 0; another one is shown in full with --frame."
            )
        )
    priors = denoised.priors
    blocks += [
        Prose(_what_was_done(denoised)),
        *pages.failed(priors),
        Prose(_noise_sentence(denoised.found.noise.to_dict())),
        Warnings([RAW_COUNTS, *(as_options(w) for w in denoised.warnings)]),
        *figures(denoised),
        *_deviation_table(denoised),
        *_kept_table(denoised),
        Checks(priors),
        Provenance(denoised.steps),
    ]
    lattices = len(denoised.found.lattices)
    found = f"{len(denoised.likely)} deviations from the crystal" if lattices else "no crystal"
    return Section(title or denoised.title, blocks, found)


def _what_was_done(denoised: Denoised) -> str:
    if denoised.untouched:
        return "There is no noise to remove: the image is returned as it came in."
    if not len(denoised.found.lattices):
        return (
            "No lattice was used: the image was denoised by matching blocks. Nothing is known of what is kept of "
            "single columns."
        )
    text = (
        "The image is its crystal, averaged over all cells, with what deviates from it put back where that is more "
        f"than chance (strength {denoised.strength:g}). Every test lists some columns by chance: the probability says "
        "which are likely real, given how many of this image deviate."
    )
    if denoised.inflation > 1.5:
        text += (
            f" Here all columns scatter {significant(denoised.inflation**0.5, 2)} times as much as counting noise "
            "lets them: what is listed stands out from that, and errors are enlarged by as much."
        )
    share = 100 * float(denoised.found.share.mean())
    if share < _MOSTLY:
        text += (
            f"\n\nOnly {significant(share, 3)} % of the denoised image stands on the crystal, which does not hold to "
            "the noise here; the rest stands on blocks. What is kept is known for the crystal. For the image as it is, "
            "fairstem.metrics.retention plants changes and measures what is left of them."
        )
    return text


def _noise_sentence(noise: Mapping[str, Any]) -> str:
    counted = (noise.get("gain"), noise.get("offset"), noise.get("readout")) == (1, 0, 0)
    if counted and noise.get("poisson", True) and noise.get("source") != "counts":
        return "Noise: counted electrons (Poisson), as given."
    return pages.noise_sentence(noise)


def _deviation_table(denoised: Denoised) -> list[Table]:
    """Return the most certain deviations with their errors."""
    table = denoised.deviations
    if not len(table):
        return []
    unit = denoised.unit
    tail = "_pm" if unit == "pm" else ""
    rows = []
    for row in table.head(_LISTED).to_dict("records"):
        shifts = [_pair(row[f"shift_{axis}{tail}"], row[f"sd_shift_{axis}{tail}"]) for axis in "yx"]
        intensity = _pair(row["relative_intensity"], row["sd_relative_intensity"])
        rows.append(
            (
                UNCLEAR if row["kind"] == "none" else row["kind"],
                f"{row['y']:.1f}",
                f"{row['x']:.1f}",
                str(int(row["site"])) if row["site"] >= 0 else "off sites",
                *shifts,
                intensity,
                significant(row["height"], 3),
                _probability(row["probability"]),
                f"{row['p_value']:.1e}",
            )
        )
    heads = (
        "kind", "y (px)", "x (px)", "site", f"shift in y ({unit})", f"shift in x ({unit})",
        "intensity over the crystal's", "height (grey levels)", "probability", "by chance",
    )  # fmt: skip
    more = f"; {len(table) - _LISTED} more in deviations.csv" if len(table) > _LISTED else ""
    caption = (
        f"The most certain deviations, one standard deviation{more}. A dash: it does not stand out and was left as "
        "in the crystal"
    )
    return [Table(heads, rows, caption)]


def _pair(value: float, error: float) -> str:
    """Return a value with its error; a dash for what was not fitted."""
    return " ± ".join(with_error(value, error)) if np.isfinite(value) and np.isfinite(error) else "–"


def _probability(value: float) -> str:
    return "> 0.999" if value > 0.999 else f"{value:.3f}" if value >= LIKELY else f"{value:.2f}"


def _kept_table(denoised: Denoised) -> list[Table]:
    """Return from which size on 90 % are kept, by kind of column."""
    sites: dict[tuple[int, int], dict[str, str]] = {}
    for row in denoised.limits:
        sites.setdefault((int(row["crystal"]), int(row["site"])), {})[row["quantity"]] = size_kept(row)
    if not sites:
        return []
    rows = [
        (f"{crystal + 1}", f"{site}", own.get("shift", "–"), own.get("intensity", "–"))
        for (crystal, site), own in sites.items()
    ]
    heads = ("crystal", "site of the cell", f"displacement ({denoised.unit})", "loss of intensity (%)")
    return [Table(heads, rows, "Kept to 90 % and more from this size on, expected at this dose and strength")]


def size_kept(row: Mapping[str, Any]) -> str:
    """Return the size from which on 90 % are kept, as text.

    Parameters
    ----------
    row
        Of `Denoised.limits`.

    Returns
    -------
    str
        In pm or px for displacements, in % for intensities.
    """
    amount = float(row["amount_90"])
    if not math.isfinite(amount):
        return "no size tried"
    scale = 1.0 if row["quantity"] == "shift" else 100.0
    return ("≤ " if amount <= float(row["smallest"]) else "") + significant(scale * amount, 2)


def page(denoised: Denoised, *, source: str = "") -> Report:
    """Return the whole page of ``fairstem denoise``.

    Parameters
    ----------
    denoised
        What was denoised.
    source
        Name of the file.

    Returns
    -------
    Report
        Ready for `to_html`.
    """
    more = ", and what deviates from its crystal" if len(denoised.found.lattices) else ""
    shown = section(denoised, title=f"Denoised image{more}")
    return pages.page_of_image(denoised, "Denoised:", shown, CITE, source)
