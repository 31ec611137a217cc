"""``fairstem simulate PHANTOM -o OUT``: an image whose every column is known."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated, Any

import typer

from fairstem.cli import options as opt

__all__ = ["simulate"]


def simulate(
    phantom: Annotated[
        str | None, typer.Argument(help="Name of the phantom; see --list.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, ending in .hspy.")
    ] = None,
    peak: Annotated[
        float | None, typer.Option("--peak", help="Electrons at the top of the brightest column.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    pixel_size_nm: opt.PixelSize = None,
    shape: Annotated[str | None, typer.Option("--shape", metavar="NY,NX", help="Size in px.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other option; repeatable.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the phantoms and their options.")] = False,
    overwrite: opt.Overwrite = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made; write nothing.")
    ] = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,  # noqa: ARG001
) -> None:
    """Simulate an image with its truth: OUT.hspy, OUT.truth.csv and OUT.png."""
    if list_:
        _list(json)
        return
    if phantom is None or (output is None and not dry_run):
        raise typer.BadParameter(
            "give a phantom and an output: fairstem simulate NAME -o OUT.hspy (see --list)"
        )
    target = _target(output)
    given: dict[str, Any] = _settings(set_ or [])
    if peak is not None:
        given["peak"] = peak
    if pixel_size_nm is not None:
        given["pixel_size_nm"] = opt.numbers(pixel_size_nm, "--pixel-size-nm", (1,))[0]
    if shape is not None:
        given["shape"] = tuple(int(n) for n in opt.numbers(shape, "--shape", (2,)))
    _make(phantom, seed, given, target, overwrite=overwrite, dry_run=dry_run, json=json, quiet=quiet)


def _target(output: Path | None) -> Path | None:
    if output is None or output.suffix.lower() == ".hspy":
        return output
    if output.suffix:
        raise typer.BadParameter(f"{output} does not end in .hspy", param_hint="--output")
    return output.with_name(output.name + ".hspy")


def _list(json: bool) -> None:
    from fairstem.cli.console import emit, print_json
    from fairstem.simulate import phantoms

    table = phantoms()
    if json:
        print_json({"phantoms": table.to_dict("records")})
        return
    width = max(len(name) for name in table["name"]) + 2
    for _, row in table.iterrows():
        emit(f"{row['name']:<{width}}{row['line']}")
        if row["options"]:
            emit(f"{'':<{width}}options: {row['options']}")


def _settings(pairs: list[str]) -> dict[str, Any]:
    """Read KEY=VALUE pairs: numbers, tuples and None as in Python, anything else as text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--set")
        try:
            found[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[key] = text
    return found


def _make(
    name: str,
    seed: int,
    given: dict[str, Any],
    target: Path | None,
    *,
    overwrite: bool,
    dry_run: bool,
    json: bool,
    quiet: bool,
) -> None:
    from fairstem.cli.console import emit, note, print_json, session

    with session(quiet):
        from fairstem.simulate import phantom as make

        if dry_run or target is None:
            made = make(name, seed=seed, **given)
            summary = _summary(made) | {"written": []}
        else:
            written = [target, target.with_suffix(".truth.csv"), target.with_suffix(".png")]
            with _staged(written, overwrite) as staged:
                made = make(name, seed=seed, **given)
                _write(made, staged)
            summary = _summary(made) | {"written": [str(path) for path in written]}
    if json:
        print_json(summary)
        return
    emit(f"{name}: {' × '.join(map(str, summary['shape']))} px of {summary['pixel_size_nm']:g} nm")
    emit(f"{summary['columns']} columns known, {summary['columns_inside']} of them inside the image")
    for path in summary["written"]:
        note(f"wrote {path}", quiet)


def _staged(paths: list[Path], overwrite: bool) -> Any:
    from contextlib import ExitStack, contextmanager

    from fairstem.compute import staged_output

    @contextmanager
    def all_of_them() -> Any:
        with ExitStack() as stack:
            yield [stack.enter_context(staged_output(path, overwrite=overwrite)) for path in paths]

    return all_of_them()


def _summary(made: Any) -> dict[str, Any]:
    shape = made.data.shape
    inside = (
        made.truth["y"].between(-0.5, shape[-2] - 0.5) & made.truth["x"].between(-0.5, shape[-1] - 0.5)
    ).sum()
    return {
        "phantom": made.name,
        "shape": list(shape),
        "dtype": str(made.data.dtype),
        "pixel_size_nm": made.pixel_size_nm,
        "columns": len(made.truth),
        "columns_inside": int(inside),
        "mean": float(made.data.mean()),
        "parameters": made.parameters,
    }


def _write(made: Any, staged: list[Path]) -> None:
    from fairstem import plot
    from fairstem.signals import Step
    from fairstem.signals.making import make_signal, save

    step = Step("fairstem.simulate.phantom", {"name": made.name, **made.parameters})
    size = (made.pixel_size_nm, made.pixel_size_nm)
    gain, offset, readout = (float(made.parameters[key]) for key in ("gain", "offset", "readout"))
    signal = make_signal(
        made.data,
        pixel_size_nm=size,
        noise=(gain, offset, readout),
        title=f"phantom {made.name}",
        steps=[step],
    )
    save(signal, staged[0])
    made.truth.to_csv(staged[1], index=False)
    frame = made.data if made.data.ndim == 2 else made.data[0]
    fig = plot.figure(6, 6 * frame.shape[0] / frame.shape[1])
    plot.image(frame, ax=fig.subplots(), pixel_size_nm=made.pixel_size_nm)
    staged[2].write_bytes(plot.to_png(fig))
