"""``fairstem align SERIES... -o OUT``: a distorted image series becomes one image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fairstem.cli import options as opt

__all__ = ["align"]

MODELS = ("rowwise", "dense", "rigid")
BENDS = ("auto", "yes", "no")
AVERAGES = ("mean", "median", "likelihood")


def align(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="SERIES...",
            help="One file with a frame axis, or several with one frame each, in the order of recording.",
            show_default=False,
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write.")] = None,
    model: Annotated[
        str, typer.Option("--model", metavar="|".join(MODELS), help="How frames are distorted.")
    ] = "rowwise",
    angles: Annotated[
        str | None,
        typer.Option("--angles", metavar="DEG,DEG,...", help="Rotation of the scan, one a frame, degrees."),
    ] = None,
    lattice: Annotated[
        bool, typer.Option("--lattice", help="Go below the common-mode floor where the object is a crystal.")
    ] = False,
    reference: Annotated[
        int | None, typer.Option("--reference", help="Frame whose position is kept; default the mean of all.")
    ] = None,
    slow: Annotated[
        str,
        typer.Option("--slow", metavar="|".join(BENDS), help="Whether rows may bend: a smooth field on top."),
    ] = "auto",
    max_shift: Annotated[
        float | None,
        typer.Option(
            "--max-shift", metavar="PX", help="Largest shift between two frames, where it is known."
        ),
    ] = None,
    average: Annotated[
        str, typer.Option("--average", metavar="|".join(AVERAGES), help="How frames are averaged.")
    ] = "mean",
    aligned: Annotated[bool, typer.Option("--aligned", help="Also write the aligned frames.")] = False,
    pixel_size_nm: opt.PixelSize = None,
    units: opt.Units = None,
    dataset: opt.Dataset = None,
    reader: opt.Reader = None,
    lazy: Annotated[bool, typer.Option("--lazy", help="Read frames from disk when they are needed.")] = False,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Memory to stay within, such as 2GB.")
    ] = None,
    overwrite: opt.Overwrite = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Shapes, units, plan and memory; no output.")
    ] = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,  # noqa: ARG001
) -> None:
    """Register an image series; write average, displacement with error bars, and a report to a folder."""
    if output is None and not dry_run:
        raise typer.BadParameter("give an output folder: -o OUT (or --dry-run)", param_hint="--output")
    source: dict[str, Any] = {
        "reader": reader,
        "dataset": opt.signal_number(dataset),
        "pixel_size_nm": opt.pixel_size(pixel_size_nm),
        "units": units,
    }
    method = _method(model, angles, lattice, reference, average) | _limits(slow, max_shift)
    from fairstem.cli.align_plan import choose_lazy, plan_series, say_plan
    from fairstem.cli.console import print_json, session

    with session(quiet) as warnings:
        if dry_run or output is None:
            say_plan(plan_series(files, source, method, lazy=lazy, memory=memory), json)
            return
        source["lazy"] = choose_lazy(files, source, method, lazy=lazy, memory=memory)
        facts = _run(files, output, source, method, warnings, overwrite=overwrite, aligned=aligned)
    if json:
        print_json(facts)
    else:
        _say(facts, output)


def _method(
    model: str, angles: str | None, lattice: bool, reference: int | None, average: str
) -> dict[str, Any]:
    """Return the arguments of `fairstem.register.align`: those that were given."""
    for name, value, known in (("--model", model, MODELS), ("--average", average, AVERAGES)):
        if value not in known:
            raise typer.BadParameter(f"{value!r} is none of {', '.join(known)}", param_hint=name)
    given: dict[str, Any] = {"model": model}
    if average != "mean":
        given["combine"] = average
    if angles is not None:
        count = angles.count(",") + 1
        given["angles"] = opt.numbers(angles, "--angles", (count,))
    if lattice:
        given["lattice"] = True
    if reference is not None:
        given["reference"] = reference
    return given


def _limits(slow: str, max_shift: float | None) -> dict[str, Any]:
    if slow not in BENDS:
        raise typer.BadParameter(f"{slow!r} is none of {', '.join(BENDS)}", param_hint="--slow")
    given: dict[str, Any] = {} if slow == "auto" else {"slow": slow == "yes"}
    return given if max_shift is None else {**given, "max_shift": max_shift}


def _run(
    files: list[Path],
    output: Path,
    source: dict[str, Any],
    method: dict[str, Any],
    warnings: list[str],
    *,
    overwrite: bool,
    aligned: bool,
) -> dict[str, Any]:
    from fairstem.cli.series import load_series, title_of_series
    from fairstem.compute import staged_output

    # the place is taken before the work, so that a wrong output is known at once
    with staged_output(output, folder=True, overwrite=overwrite) as staged:
        signal = load_series(files, **source)
        from fairstem.cli.align_files import write
        from fairstem.cli.align_measure import register_series

        title = title_of_series(signal, files)
        alignment, registered = register_series(signal, title, method, warnings)
        names = ", ".join(file.name for file in files)
        facts = write(registered, alignment, staged, source=names, aligned=aligned)
        written = sorted(path.name for path in staged.iterdir())
    return facts | {"files": [str(file) for file in files], "output": str(output), "written": written}


def _say(facts: dict[str, Any], output: Path) -> None:
    from fairstem.cli.console import emit
    from fairstem.plot.numbers import significant

    unit, used = facts["unit"], len(facts["frames_used"])
    lines = [f"{used} of {facts['frames']} frames registered, model {facts['model']}"]
    if facts["within_frames"] is not None:
        lines.append(
            f"displacement within the frames: {significant(facts['within_frames'], 3)} {unit} rms per axis"
        )
    if facts["row_error"] is not None:
        lines.append(f"error bar of a row's displacement: {significant(facts['row_error'], 2)} {unit}")
    lines.append(f"common-mode floor: {significant(facts['floor'], 2)} {unit} at {used} frames")
    failed = [check["assumption"] for check in facts["priors"] if check["holds"] is False]
    lines += [f"does not hold: {text}" for text in failed]
    emit([*lines, f"report: {output / 'report.html'}"])
