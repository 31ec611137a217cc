"""The application: its verbs and the options that all share."""

from __future__ import annotations

from typing import Annotated

import typer

from fairstem.cli.align import align
from fairstem.cli.atoms import atoms
from fairstem.cli.denoise import denoise
from fairstem.cli.info import info
from fairstem.cli.outcome import guarded
from fairstem.cli.simulate import simulate
from fairstem.cli.symmetry import symmetry
from fairstem.cli.tour import tour

__all__ = ["app"]

EPILOG = (
    "Exit codes: 0 done · 1 an error inside fairstem · 2 wrong usage · 3 the input can't be read · "
    "4 the data don't fit the method · 5 the output can't be written · 130 interrupted"
)

app = typer.Typer(
    name="fairstem",
    help="Numbers with error bars from scanning transmission electron microscopy.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from fairstem import __version__

        typer.echo(f"fairstem {__version__}")
        raise typer.Exit


@app.callback()
def _shared(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for verb in (info, align, denoise, symmetry, atoms, simulate, tour):
    app.command(verb.__name__, epilog=EPILOG)(guarded(verb))
