"""``fairstem symmetry SCAN -o OUT``: how symmetric the diffraction pattern of every scan position is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fairstem.cli import options as opt

__all__ = ["symmetry"]

NOISES = ("poisson", "none")


def symmetry(
    file: opt.File,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write.")] = None,
    operations: Annotated[
        str,
        typer.Option("--operations", metavar="NAMES", help="C2, C3, C4, C6, mx, my, or m and an angle: m45."),
    ] = "C2,C4,mx,my",
    noise: Annotated[
        str,
        typer.Option("--noise", metavar="|".join(NOISES), help="Correct counting noise, or nothing."),
    ] = NOISES[0],
    gain: Annotated[
        float | None, typer.Option("--gain", help="Detector units per electron, where it does not count.")
    ] = None,
    center: Annotated[
        str | None, typer.Option("--center", metavar="Y,X", help="Optic axis in px, instead of measuring it.")
    ] = None,
    semiangle_mrad: Annotated[
        float | None, typer.Option("--semiangle-mrad", help="Convergence semi-angle: the size of the disc.")
    ] = None,
    lattice_nm: Annotated[
        float | None,
        typer.Option("--lattice-nm", help="Spacing of the planes of the discs next to the centre."),
    ] = None,
    energy_kev: Annotated[
        float | None, typer.Option("--energy-kev", help="Beam energy, when the file's is missing.")
    ] = None,
    mrad_per_px: Annotated[
        float | None, typer.Option("--mrad-per-px", help="Angle per pixel of the detector.")
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option("--mask", metavar="INNER,OUTER", help="Compare only what lies between, in mrad."),
    ] = None,
    shift_px: Annotated[
        float, typer.Option("--shift-px", help="Look for the best centre of each pattern this far away.")
    ] = 0.0,
    region: Annotated[
        str | None,
        typer.Option("--region", metavar="Y0,Y1,X0,X1", help="Only these rows and columns of the scan."),
    ] = None,
    scan_shape: Annotated[
        str | None,
        typer.Option(
            "--scan-shape", metavar="NY,NX", help="Positions of the scan, when the file's are wrong."
        ),
    ] = None,
    flyback: Annotated[
        int, typer.Option("--flyback", help="Patterns at the end of each row to leave out.")
    ] = 0,
    pixel_size_nm: opt.PixelSize = None,
    units: opt.Units = None,
    dataset: opt.Dataset = None,
    reader: opt.Reader = None,
    memory: Annotated[
        str, typer.Option("--memory", help="Memory for patterns at a time, such as 1GB.")
    ] = "256MB",
    overwrite: opt.Overwrite = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Shapes, units, plan and memory; no output.")
    ] = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,  # noqa: ARG001
) -> None:
    """Map the symmetry of the patterns of a 4D scan, with error bars; write maps and a report to a folder."""
    if output is None and not dry_run:
        raise typer.BadParameter("give an output folder: -o OUT (or --dry-run)", param_hint="--output")
    angles = {
        "semiangle_mrad": semiangle_mrad,
        "lattice_nm": lattice_nm,
        "energy_kev": energy_kev,
        "mrad_per_px": mrad_per_px,
    }
    asked = _asked(operations, noise, gain, memory) | _geometry(center, mask, shift_px, angles)
    source = {
        "reader": reader,
        "dataset": opt.signal_number(dataset),
        "pixel_size_nm": opt.pixel_size(pixel_size_nm),
        "units": units,
        "region": _whole(region, "--region", 4),
        **_layout(scan_shape, flyback),
    }
    from fairstem.cli.console import print_json, session

    with session(quiet) as warnings:
        if dry_run or output is None:
            from fairstem.cli.symmetry_plan import plan_symmetry, say_plan

            say_plan(plan_symmetry(file, source, asked), json)
            return
        facts = _run(file, output, source, asked, warnings, overwrite=overwrite)
    if json:
        print_json(facts)
    else:
        _say(facts, output)


def _asked(operations: str, noise: str, gain: float | None, memory: str) -> dict[str, Any]:
    """Return what is asked of `fairstem.diffraction.symmetry`, checked as far as that needs no data."""
    if noise not in NOISES:
        raise typer.BadParameter(f"{noise!r} is none of {', '.join(NOISES)}", param_hint="--noise")
    names = [name.strip() for name in operations.split(",") if name.strip()]
    if not names:
        raise typer.BadParameter("no operation", param_hint="--operations")
    from fairstem.compute import parse_bytes
    from fairstem.errors import FairstemError

    try:
        budget = parse_bytes(memory)
    except FairstemError as error:
        raise typer.BadParameter(str(error), param_hint="--memory") from None
    asked = {"operations": names, "noise": noise, "budget": budget}
    return asked if gain is None else asked | {"gain": gain}


def _geometry(
    center: str | None, mask: str | None, shift_px: float, angles: dict[str, float | None]
) -> dict[str, Any]:
    """Return what was said of the geometry."""
    given: dict[str, Any] = {name: value for name, value in angles.items() if value is not None}
    for name, value in given.items():
        if not 0 < value < float("inf"):
            raise typer.BadParameter(f"{value} is not positive", param_hint=f"--{name.replace('_', '-')}")
    if not 0 <= shift_px < float("inf"):
        raise typer.BadParameter(f"{shift_px} is no distance", param_hint="--shift-px")
    if shift_px:
        given["shift_px"] = shift_px
    if center is not None:
        given["center"] = opt.numbers(center, "--center", (2,))
    if mask is not None:
        inner, outer = opt.numbers(mask, "--mask", (2,))
        if not 0 <= inner < outer:
            raise typer.BadParameter(f"{mask!r} is not INNER,OUTER with INNER < OUTER", param_hint="--mask")
        given["mask"] = (inner, outer)
    return given


def _layout(scan_shape: str | None, flyback: int) -> dict[str, Any]:
    """Return how the patterns are laid out over the scan, where that was said."""
    shape = _whole(scan_shape, "--scan-shape", 2)
    if flyback < 0:
        raise typer.BadParameter(f"{flyback} patterns", param_hint="--flyback")
    if shape is None:
        if flyback:
            raise typer.BadParameter("give --scan-shape too", param_hint="--flyback")
        return {}
    return {"scan_shape": shape, "flyback": flyback}


def _whole(text: str | None, name: str, count: int) -> tuple[int, ...] | None:
    if text is None:
        return None
    values = opt.numbers(text, name, (count,))
    if not all(value >= 0 and value == int(value) for value in values):
        raise typer.BadParameter(f"{text!r} are not {count} whole numbers", param_hint=name)
    return tuple(int(value) for value in values)


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
        from fairstem.cli.inputs import title_of
        from fairstem.cli.scans import load_scan
        from fairstem.cli.symmetry_files import write
        from fairstem.cli.symmetry_measure import measure

        signal = load_scan(file, **source)
        scanned, results = measure(signal, title_of(signal, file), asked, warnings)
        facts = write(scanned, results, staged, source=file.name)
        written = sorted(path.name for path in staged.iterdir())
    return facts | {"file": str(file), "output": str(output), "written": written}


def _say(facts: dict[str, Any], output: Path) -> None:
    from fairstem.cli.console import emit
    from fairstem.plot.numbers import significant

    ny, nx, _, _ = facts["shape"]
    dose = facts["electrons_per_pattern"]
    lines = [
        f"{ny} × {nx} patterns" + ("" if dose is None else f" of {significant(dose, 3)} electrons each"),
        f"centre {facts['center_px'][0]:.2f}, {facts['center_px'][1]:.2f} px (y, x)",
    ]
    for found in facts["operations"]:
        if found["median"] is None:
            lines.append(f"{found['operation']}: no position has a value")
            continue
        text = f"{found['operation']}: γ from {significant(found['smallest'], 3)} to {significant(found['largest'], 3)}"
        text += f", median {significant(found['median'], 3)}"
        if found["standard_error"] is not None:
            text += (
                f" ± {significant(found['standard_error'], 2)} each; "
                f"{100 * found['symmetric']:.0f} % of the positions are symmetric within two standard errors"
            )
        lines.append(text)
    failed = [check["assumption"] for check in facts["priors"] if check["holds"] is False]
    lines += [f"does not hold: {text}" for text in failed]
    emit([*lines, f"report: {output / 'report.html'}"])
