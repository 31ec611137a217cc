"""``fairstem info FILE``: what is in a file, and what is the matter with it."""

from __future__ import annotations

from typing import Any

from fairstem.cli import options as opt

__all__ = ["info"]


def info(
    file: opt.File,
    dataset: opt.Dataset = None,
    reader: opt.Reader = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,  # noqa: ARG001
) -> None:
    """Say what is in a file: shape, units, type, dose, memory, and what the checks found."""
    from fairstem.cli.console import emit, print_json, session
    from fairstem.signals import describe, load

    with session(quiet):
        loaded = load(file, reader=reader, dataset=opt.signal_number(dataset), warn=False)
        signals = loaded if isinstance(loaded, list) else [loaded]
        summaries = [describe(signal) for signal in signals]
    if json:
        print_json({"file": str(file), "signals": summaries})
        return
    for number, summary in enumerate(summaries):
        if number:
            emit("")
        emit(_lines(summary, number if len(summaries) > 1 else None))


def _lines(summary: dict[str, Any], number: int | None) -> list[str]:
    from fairstem.compute import format_bytes

    title = summary.get("title") or summary.get("file") or "untitled"
    shape = " × ".join(map(str, summary["shape"]))
    dtype = "colour (RGB)" if summary["dtype"].startswith("[") else summary["dtype"]
    rows = [
        ("kind", f"{summary['kind']}, {shape} {dtype}, {format_bytes(summary['bytes'])}"),
        *[(f"axis {axis['name']}" if axis["name"] else "axis", _axis(axis)) for axis in summary["axes"]],
        ("pixel size", _pixel(summary["pixel_size_nm"])),
        ("values", _values(summary)),
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
    codes = {f["code"] for f in summary.get("findings") or []}
    if "eight-bit-picture" in codes:
        return f"{text}; grey levels"
    if "offset" in codes and summary.get("counts"):
        return f"{text}; whole numbers on an offset"
    counts = {True: "; counts", False: "; no counts"}.get(summary.get("counts"), "")  # type: ignore[arg-type]
    dose = summary.get("counts_per_position")
    return text + counts + (f", {dose:.4g} per position" if dose is not None else "")
