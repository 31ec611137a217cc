"""``fairstem denoise FILE -o OUT``: an image without its noise, and what in it differs from its crystal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fairstem.cli import options as opt

__all__ = ["denoise"]

METHODS = ("nonlocal-means",)
NOISES = ("auto", "poisson", "poisson-gauss", "gaussian")
SEARCHES = ("auto", "periodic", "local")


def denoise(
    file: opt.File,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write.")] = None,
    method: Annotated[
        str, typer.Option("--method", metavar="|".join(METHODS), help="How noise is told from the object.")
    ] = METHODS[0],
    noise: Annotated[
        str, typer.Option("--noise", metavar="|".join(NOISES), help="Which noise the detector makes.")
    ] = "auto",
    search: Annotated[
        str, typer.Option("--search", metavar="|".join(SEARCHES), help="Where like parts are looked for.")
    ] = "auto",
    strength: Annotated[
        float,
        typer.Option(
            "--strength",
            metavar="P",
            help="A column keeps what it has of its own if that has a smaller probability by chance; "
            "1 erases nothing at columns.",
        ),
    ] = 0.05,
    gain: Annotated[float | None, typer.Option("--gain", help="Detector: grey levels per electron.")] = None,
    offset: Annotated[
        float | None, typer.Option("--offset", help="Detector: grey level without beam.")
    ] = None,
    readout: Annotated[
        float | None, typer.Option("--readout", help="Detector: standard deviation of read-out, grey levels.")
    ] = None,
    pixel_size_nm: opt.PixelSize = None,
    units: opt.Units = None,
    dataset: opt.Dataset = None,
    frame: Annotated[
        int | None, typer.Option("--frame", help="Only this frame of a stack; default all of them.")
    ] = None,
    reader: opt.Reader = None,
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Read the frames of a stack from disk when they are needed.")
    ] = False,
    overwrite: opt.Overwrite = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Shapes, units, plan and memory; no output.")
    ] = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,  # noqa: ARG001
) -> None:
    """Denoise an image or a stack, keeping its defects; write it, what deviates, and a report to a folder."""
    if output is None and not dry_run:
        raise typer.BadParameter("give an output folder: -o OUT (or --dry-run)", param_hint="--output")
    _one_of("--method", method, METHODS)
    asked = _asked(noise, search, strength) | {
        name: value
        for name, value in (("gain", gain), ("offset", offset), ("readout", readout))
        if value is not None
    }
    source: dict[str, Any] = {
        "reader": reader,
        "dataset": opt.signal_number(dataset),
        "frame": frame,
        "pixel_size_nm": opt.pixel_size(pixel_size_nm),
        "units": units,
        "lazy": lazy,
    }
    from fairstem.cli.console import print_json, session

    with session(quiet) as warnings:
        if dry_run or output is None:
            from fairstem.cli.denoise_plan import plan_denoising, say_plan

            say_plan(plan_denoising(file, source, asked), json)
            return
        facts = _run(file, output, source, asked, warnings, overwrite=overwrite)
    if json:
        print_json(facts)
    else:
        _say(facts, output)


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(known)}", param_hint=option)


def _asked(noise: str, search: str, strength: float) -> dict[str, Any]:
    """Return the arguments of `fairstem.denoise.nonlocal_means`, checked."""
    _one_of("--noise", noise, NOISES)
    _one_of("--search", search, SEARCHES)
    if not 0 < strength <= 1:
        raise typer.BadParameter(f"{strength} is no probability in (0, 1]", param_hint="--strength")
    return {"noise": noise, "search": search, "strength": strength}


def _run(
    file: Path,
    output: Path,
    source: dict[str, Any],
    asked: dict[str, Any],
    warnings: list[str],
    *,
    overwrite: bool,
) -> dict[str, Any]:
    from fairstem.compute import staged_output

    # the place is taken before the work, so that a wrong output is known at once
    with staged_output(output, folder=True, overwrite=overwrite) as staged:
        from fairstem.cli import denoise_measure as work
        from fairstem.cli.denoise_files import write
        from fairstem.cli.denoise_page import summary
        from fairstem.cli.inputs import title_of

        signal = work.load_frames(file, **source)
        title = title_of(signal, file)
        if signal.data.ndim == 3:
            result, denoised = work.measure_stack(signal, title, asked, warnings)
        else:
            denoised = work.measure(signal, title, asked, warnings)
            result = denoised.found.image
        write(denoised, result, staged, source=file.name)
        facts = summary(denoised)
        written = sorted(path.name for path in staged.iterdir())
    return facts | {"file": str(file), "output": str(output), "written": written}


def _say(facts: dict[str, Any], output: Path) -> None:
    from fairstem.cli.console import emit
    from fairstem.cli.denoise_page import size_kept

    lines = []
    if facts["frames"] is not None:
        lines.append(
            f"{facts['frames']} frames denoised; the numbers below and the tables are those of frame 0"
        )
    lattices = len(facts["lattices"])
    if lattices:
        lines.append(
            f"{lattices} lattice{'s' * (lattices > 1)}, {100 * facts['crystal_share']:.0f} % of the image is crystal"
        )
        lines.append(
            f"{facts['deviations']['likely']} columns and spots deviate from it, more likely than not "
            f"({facts['deviations']['number']} listed)"
        )
        kept = facts["kept_to_90_percent"][:4]
        lines += [f"kept to 90 %, site {row['site']}: {_limit(row, size_kept(row))}" for row in kept]
    else:
        lines.append("no lattice: denoised by blocks alone, nothing is known of single columns")
    failed = [check["assumption"] for check in facts["priors"] if check["holds"] is False]
    lines += [f"does not hold: {text}" for text in failed]
    emit([*lines, f"report: {output / 'report.html'}"])


def _limit(row: dict[str, Any], size: str) -> str:
    what = "a displacement" if row["quantity"] == "shift" else "a loss of intensity"
    if "no " in size:
        return f"{what} of {size}"
    return f"{what} from {size} {row['unit'] if row['quantity'] == 'shift' else '%'}"
