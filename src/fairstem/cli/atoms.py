"""``fairstem atoms FILE -o OUT``: every atom column of an image, with its error bar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fairstem.cli import options as opt

__all__ = ["atoms"]


def atoms(
    file: opt.File,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write.")] = None,
    pixel_size_nm: opt.PixelSize = None,
    units: opt.Units = None,
    gain: Annotated[
        str | None,
        typer.Option("--gain", metavar="NUMBER|estimate", help="Detector: grey levels per electron."),
    ] = None,
    offset: Annotated[
        float | None, typer.Option("--offset", help="Detector: grey level without beam.")
    ] = None,
    readout: Annotated[
        float | None, typer.Option("--readout", help="Detector: standard deviation of read-out, grey levels.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="How columns are detected.")] = "classical",
    reference_nm: Annotated[
        str | None,
        typer.Option(
            "--reference-nm", metavar="NM", help="Expected length of a and b in nm, or A,B, to compare with."
        ),
    ] = None,
    dataset: opt.Dataset = None,
    frame: Annotated[int | None, typer.Option("--frame", help="Which frame of a series.")] = None,
    reader: opt.Reader = None,
    overwrite: opt.Overwrite = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Shapes, units, plan and memory; no output.")
    ] = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,  # noqa: ARG001
) -> None:
    """Find every atom column, with error bars; write table, image, overlay and a report to a folder."""
    if output is None and not dry_run:
        raise typer.BadParameter("give an output folder: -o OUT (or --dry-run)", param_hint="--output")
    source: dict[str, Any] = {
        "reader": reader,
        "dataset": opt.signal_number(dataset),
        "frame": frame,
        "pixel_size_nm": opt.pixel_size(pixel_size_nm),
        "units": units,
    }
    detector = {"gain": _gain(gain), "offset": offset, "readout": readout}
    find = {"model": model, **{k: v for k, v in detector.items() if v is not None}}
    reference = None if reference_nm is None else opt.positive(reference_nm, "--reference-nm")
    from fairstem.cli.console import print_json, session

    with session(quiet) as warnings:
        if dry_run or output is None:
            plan = _plan(file, source)
            _say_plan(plan, json)
            return
        facts = _run(file, output, source, find, reference, overwrite, warnings)
    if json:
        print_json(facts)
    else:
        _say(facts, output)


def _gain(text: str | None) -> float | str | None:
    if text is None or text == "estimate":
        return text
    return opt.numbers(text, "--gain", (1,))[0]


def _run(
    file: Path,
    output: Path,
    source: dict[str, Any],
    find: dict[str, Any],
    reference_nm: tuple[float, ...] | None,
    overwrite: bool,
    warnings: list[str],
) -> dict[str, Any]:
    from fairstem.cli.inputs import load_image, title_of
    from fairstem.compute import staged_output

    # the place is taken before the work, so that a wrong output is known at once
    with staged_output(output, folder=True, overwrite=overwrite) as staged:
        signal = load_image(file, **source)
        from fairstem.cli.atoms_files import write
        from fairstem.cli.atoms_measure import measure
        from fairstem.cli.atoms_page import summary

        measured = measure(signal, title_of(signal, file), find, warnings, reference_nm)
        write(measured, signal, staged, source=file.name)
        facts = summary(measured)
        written = sorted(path.name for path in staged.iterdir())
    return facts | {"file": str(file), "output": str(output), "written": written}


def _plan(file: Path, source: dict[str, Any]) -> dict[str, Any]:
    from fairstem.cli.atoms_measure import LIBRARY_BYTES, PEAK_BYTES_PER_PIXEL
    from fairstem.cli.dry_run import what_comes_in, what_it_takes
    from fairstem.cli.inputs import load_image
    from fairstem.compute import plan
    from fairstem.signals import describe, open_data

    signal = load_image(file, lazy=True, **source)
    opened = open_data(signal, ndim=2)
    facts = describe(signal)
    pixels = opened.array.shape[0] * opened.array.shape[1]
    peak = LIBRARY_BYTES + pixels * PEAK_BYTES_PER_PIXEL
    blocks = plan(opened.array, budget=peak, keep_axes=(0, 1), working=0)
    return {
        "file": str(file),
        **what_comes_in(facts),
        **what_it_takes(blocks, peak),
    }


def _say_plan(facts: dict[str, Any], json: bool) -> None:
    from fairstem.cli.dry_run import say_plan

    say_plan(facts, json, f"{facts['file']}: {' × '.join(map(str, facts['shape']))} {facts['dtype']}")


def _say(facts: dict[str, Any], output: Path) -> None:
    from fairstem.cli.console import emit
    from fairstem.plot.numbers import significant, with_error

    lines = [f"{facts['columns']} atom columns, {facts['columns_at_the_border']} of them at the border"]
    if facts["columns"]:
        error = facts["median_error_bar"]
        lines.append(
            f"error bar of a position (median): {significant(error['y'], 2)} {error['unit']} in y, "
            f"{significant(error['x'], 2)} {error['unit']} in x"
        )
    lattice = facts["lattice"]
    if lattice is not None:
        for name in "ab":
            value = " ± ".join(filter(None, with_error(lattice[name], lattice[f"sd_{name}"])))
            lines.append(f"lattice vector {name}: {value} {lattice['unit']}")
        lines.append(
            f"sites with a column: {lattice['found']} of {lattice['expected']} inside the image "
            f"({100 * lattice['completeness']:.2f} %)"
        )
    elif facts["no_lattice"]:
        lines.append(f"no lattice: {facts['no_lattice']}")
    emit([*lines, f"report: {output / 'report.html'}"])
