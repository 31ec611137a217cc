"""``fairstem tour``: what fairstem does, shown on real images, as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairstem.cli import options as opt

if TYPE_CHECKING:
    from fairstem.cli.tour_denoise import DenoisedSample
    from fairstem.cli.tour_diffraction import ScanSample
    from fairstem.cli.tour_samples import Sample
    from fairstem.cli.tour_series import SeriesSample

__all__ = ["tour"]

KINDS = ("samples", "series", "denoised", "scans")
INTRO = (
    "Every method of microscopy works because of something known about the data beforehand. fairstem says "
    "what that is, measures whether the data at hand support it, and gives each number an error bar. This "
    "page shows what exists so far: every atom column of an image, its position in picometres, and the "
    "lattice they make; series of distorted scans that become one image; images of few electrons, denoised with "
    "their defects kept; and diffraction patterns of few electrons that tell how symmetric a crystal is at each "
    "place. Where the authors of a file "
    "published fitted positions, or where the input is simulated, the results are compared with what is known."
)


def tour(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("demo"),
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Only this sample; repeatable.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few samples only.")] = False,
    phantoms: Annotated[
        bool, typer.Option("--phantoms", help="Simulated images only, even where real ones are at hand.")
    ] = False,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,  # noqa: ARG001
) -> None:
    """Measure, register and denoise samples and map their symmetry, real ones where there are; write one report."""
    from fairstem.cli.console import emit, note, print_json, session
    from fairstem.compute import staged_output, track

    chosen: tuple[Sequence[Any], ...] = _chosen(only, quick)
    parts: list[list[Any]] = [[] for _ in KINDS]
    facts: list[list[dict[str, Any]]] = [[] for _ in KINDS]
    stops = [(kind, sample) for kind, samples in enumerate(chosen) for sample in samples]
    with (
        session(quiet),
        staged_output(output, folder=True, overwrite=overwrite or _is_ours(output)) as staged,
    ):
        for kind, sample in track(stops, label="samples"):
            note(f"{sample.name}: {sample.title}", quiet)
            part, summary, said = _stop(kind, sample, phantoms)
            parts[kind].append(part)
            facts[kind].append(summary)
            note(f"  {said}", quiet)
        (staged / "index.html").write_text(_page(parts, facts), encoding="utf-8")
    where = output / "index.html"
    if json:
        print_json({"report": str(where), **dict(zip(KINDS, facts, strict=True))})
    else:
        emit(f"report: {where}")


def _chosen(
    only: list[str] | None, quick: bool
) -> tuple[list[Sample], list[SeriesSample], list[DenoisedSample], list[ScanSample]]:
    """Return what was asked for: images, series, images to denoise, 4D scans."""
    from fairstem.cli.tour_denoise import DENOISED
    from fairstem.cli.tour_diffraction import SCANS
    from fairstem.cli.tour_samples import SAMPLES
    from fairstem.cli.tour_series import SERIES

    known = [s.name for s in (*SAMPLES, *SERIES, *DENOISED, *SCANS)]
    unknown = sorted(set(only or []) - set(known))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}; there are {', '.join(known)}", param_hint="--only")

    def wanted(sample: Sample | SeriesSample | DenoisedSample | ScanSample) -> bool:
        return sample.name in only if only else (sample.quick or not quick)

    return (
        [s for s in SAMPLES if wanted(s)],
        [s for s in SERIES if wanted(s)],
        [s for s in DENOISED if wanted(s)],
        [s for s in SCANS if wanted(s)],
    )


def _stop(kind: int, sample: Any, simulated: bool) -> tuple[Any, dict[str, Any], str]:
    """Return a part of the page, its numbers, and a line for the terminal."""
    from fairstem.cli import tour_denoise, tour_diffraction, tour_series
    from fairstem.cli.tour_stops import line_of

    if kind == 0:
        part, summary = _visit(sample, simulated)
        return part, summary, line_of(summary, "image", "measured", _found_in)
    if kind == 1:
        part, summary = tour_series.visit_series(sample, simulated)
        return part, summary, line_of(summary, "series", "registered", tour_series.found_in)
    if kind == 3:
        part, summary = tour_diffraction.visit_scan(sample, simulated)
        return part, summary, line_of(summary, "scan", "mapped", tour_diffraction.found_in)
    part, summary = tour_denoise.visit_denoised(sample, simulated)
    return part, summary, line_of(summary, "image", "denoised", tour_denoise.found_in)


def _is_ours(output: Path) -> bool:
    """Whether the folder holds an earlier tour, which a new one may replace."""
    page = output / "index.html"
    try:
        with page.open(encoding="utf-8") as file:
            return 'content="fairstem tour"' in file.read(2000)
    except (OSError, UnicodeDecodeError):
        return False


def _visit(sample: Sample, simulated: bool) -> tuple[Any, dict[str, Any]]:
    from fairstem.cli.atoms_measure import measure
    from fairstem.cli.atoms_page import section, summary
    from fairstem.cli.console import heard
    from fairstem.cli.tour_inputs import compare, open_sample

    with heard(quiet=True) as warnings:
        opened = open_sample(sample, simulated)
        measured = measure(
            opened.signal, opened.title, dict(sample.find), warnings, sample.reference_nm or None
        )
        comparison, scores = compare(measured, opened)
    about = f"{sample.about}\n\n{opened.origin}"
    reference = sample.reference if opened.real else f"{sample.reference}, as simulated"
    part = section(
        measured,
        about=about,
        reference=reference,
        comparison=comparison,
        title=sample.title,
    )
    return part, {"name": sample.name, "real": opened.real, "comparison": scores, **summary(measured)}


def _found_in(facts: Mapping[str, Any]) -> str:
    text = f"{facts['columns']} columns"
    if facts["lattice"] is not None:
        text += f", {100 * facts['lattice']['completeness']:.1f} % of the sites"
    if facts["comparison"]:
        text += f", {100 * facts['comparison']['recall']:.1f} % of the known columns"
    return text


def _page(parts: list[list[Any]], facts: list[list[dict[str, Any]]]) -> str:
    from fairstem import __version__
    from fairstem.cli import (
        align_page,
        atoms_page,
        denoise_page,
        symmetry_page,
        tour_denoise,
        tour_diffraction,
        tour_series,
    )
    from fairstem.cli.pages import citations
    from fairstem.cli.tour_stops import row_of
    from fairstem.plot.report import Citation, Prose, Report, Section, Table

    simulated = [f["name"] for group in facts for f in group if not f["real"]]
    note = f"\n\nSimulated: {', '.join(simulated)}." if simulated else ""
    blocks: list[Any] = [Prose(INTRO + note)]
    tables = (
        (HEADS, _cells),
        (tour_series.HEADS, tour_series.cells_of),
        (tour_denoise.HEADS, tour_denoise.cells_of),
        (tour_diffraction.HEADS, tour_diffraction.cells_of),
    )
    for (heads, cells), own, numbers in zip(tables, parts, facts, strict=True):
        if own:
            rows = [row_of(p.title, f, heads, cells) for p, f in zip(own, numbers, strict=True)]
            blocks.append(Table(heads, rows))
    entries = [
        *atoms_page.CITE,
        *[align_page.ROWS] * bool(parts[1]),
        *denoise_page.CITE * bool(parts[2]),
        *symmetry_page.CITE * bool(parts[3]),
    ]
    shown = [part for own in parts for part in own]
    page = Report(
        "fairstem, a tour",
        [Section("Overview", blocks), *shown, Section("How to cite", [Citation(citations(*entries))])],
        subtitle="Numbers with error bars, from images and from series of them",
        footer=f"fairstem {__version__}",
        generator="fairstem tour",
    )
    return page.to_html()


HEADS = (
    "sample",
    "input",
    "columns",
    "error bar, y / x (median)",
    "sites with a column",
    "known columns found",
    "time (s)",
)


def _cells(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    from fairstem.plot.numbers import significant

    error, lattice, known = facts["median_error_bar"], facts["lattice"], facts["comparison"]
    both = f"{significant(error['y'], 2)} / {significant(error['x'], 2)} {error['unit']}"
    sites = "no lattice" if lattice is None else f"{lattice['found']} of {lattice['expected']}"
    agreed = f"{known['matched']} of {known['known']}" if known else ""
    return facts["columns"], both, sites, agreed
