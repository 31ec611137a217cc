"""``fairstem info FILE``: what is in a file, and what is the matter with it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fairstem.cli import options as opt
from fairstem.errors import DataTypeError

__all__ = ["info"]

ScanShape = Annotated[
    str | None,
    typer.Option(
        "--scan-shape", metavar="NY,NX", help="Positions (y,x) of a 4D scan whose file doesn't say them."
    ),
]
Flyback = Annotated[int, typer.Option("--flyback", help="Patterns at the end of each scan row to leave out.")]
Missing = Annotated[
    str,
    typer.Option("--missing", help="crop: keep the complete rows of an interrupted scan. Default: refuse."),
]


def info(
    file: opt.File,
    dataset: opt.Dataset = None,
    reader: opt.Reader = None,
    scan_shape: ScanShape = None,
    flyback: Flyback = 0,
    missing: Missing = "refuse",
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,  # noqa: ARG001
) -> None:
    """Say what is in a file: shape, units, type, dose, memory, and what the checks found."""
    from fairstem.cli.console import emit, print_json, session
    from fairstem.cli.info_scan import with_angles
    from fairstem.signals import describe
    from fairstem.signals.opening import load_to_look

    with session(quiet):
        asked: dict[str, Any] = {"scan_shape": _shape(scan_shape), "flyback": flyback, "missing": missing}
        signals = load_to_look(file, reader=reader, dataset=opt.signal_number(dataset), warn=False, **asked)
        summaries = [with_angles(describe(signal, sample=True)) for signal in signals]
    if json:
        print_json({"file": str(file), "signals": summaries})
        return
    for number, summary in enumerate(summaries):
        if number:
            emit("")
        emit(_lines(summary, number if len(summaries) > 1 else None))


def _shape(text: str | None) -> tuple[int, ...] | None:
    """Return the scan shape from ``64,64`` or ``64x64``."""
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise DataTypeError(f"--scan-shape {text}", needed="rows and positions in a row, such as 64,128")
    return tuple(int(part) for part in parts)


def _lines(summary: dict[str, Any], number: int | None) -> list[str]:
    from fairstem.cli.info_scan import scan_rows
    from fairstem.compute import format_bytes

    title = summary.get("title") or summary.get("file") or "untitled"
    shape = " × ".join(map(str, summary["shape"]))
    dtype = "colour (RGB)" if summary["dtype"].startswith("[") else summary["dtype"]
    rows = [
        ("kind", f"{summary['kind']}, {shape} {dtype}, {format_bytes(summary['bytes'])}{_memory(summary)}"),
        *[(f"axis {axis['name']}" if axis["name"] else "axis", _axis(axis)) for axis in summary["axes"]],
        ("pixel size", _pixel(summary["pixel_size_nm"])),
        ("values", _values(summary)),
        *scan_rows(summary),
    ]
    if summary.get("beam_energy_kev"):
        rows.append(("beam energy", f"{summary['beam_energy_kev']:g} keV"))
    if summary.get("reader"):
        rows.append(("reader", str(summary["reader"])))
    rows += [("step", f"{step['function']} ({step['version']})") for step in summary.get("steps") or []]
    width = max(len(name) for name, _ in rows) + 2
    head = title if number is None else f"[{number}] {title}"
    findings = [
        f"  {_mark(f['severity'])} {opt.as_options(f['message'])}" for f in summary.get("findings") or []
    ]
    checks = findings or ["  nothing found"]
    return [head, *[f"  {name:<{width}}{text}" for name, text in rows], "checks", *checks]


def _memory(summary: dict[str, Any]) -> str:
    """Say how much memory a lazy signal takes when it is read, and in which pieces it can be."""
    from fairstem.compute import format_bytes

    if not summary["lazy"]:
        return " in memory"
    chunks = summary["chunks"]
    return f" when dense; lazy in {chunks['number']} blocks of {format_bytes(chunks['largest_bytes'])}"


def _mark(severity: str) -> str:
    return "!" if severity == "warning" else "·"


def _axis(axis: dict[str, Any]) -> str:
    units = axis.get("units") or ""
    scale = f"step {axis['scale']:.5g} {units}".rstrip() if units else f"step {axis['scale']:.5g}, no unit"
    return f"{axis['size']} × {scale}" + (" (navigation)" if axis.get("navigate") else "")


def _pixel(pair: list[float] | None) -> str:
    if pair is None:
        return "unknown; give it with --pixel-size-nm"
    y, x = pair
    return f"{y:.5g} nm" if abs(y - x) < 1e-9 * x else f"{y:.5g} × {x:.5g} nm (y × x)"


def _values(summary: dict[str, Any]) -> str:
    values = summary.get("values")
    if values is None:
        return "not read"
    text = f"{values['min']:.5g} to {values['max']:.5g}, mean {values['mean']:.5g}"
    if summary.get("sampled"):
        text += " in a sample"
    codes = {f["code"] for f in summary.get("findings") or []}
    if codes & {"eight-bit-picture", "eight-bit-patterns"}:
        return f"{text}; grey levels"
    if "offset" in codes and summary.get("counts"):
        return f"{text}; whole numbers on an offset"
    counts = {True: "; counts", False: "; no counts"}.get(summary.get("counts"), "")  # type: ignore[arg-type]
    dose = summary.get("counts_per_position")
    return text + counts + (f", {dose:.4g} per position" if dose is not None else "")
