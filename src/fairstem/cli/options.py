"""Options that several verbs share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from fairstem.errors import DataError

__all__ = [
    "Dataset",
    "Debug",
    "File",
    "Json",
    "Overwrite",
    "PixelSize",
    "Quiet",
    "Reader",
    "Units",
    "as_options",
    "numbers",
    "one_frame",
    "pixel_size",
    "positive",
    "signal_number",
]

File = Annotated[Path, typer.Argument(help="File in any format that HyperSpy reads.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Write a machine-readable summary to standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
Dataset = Annotated[
    str | None,
    typer.Option("--dataset", help="Which signal of a file with several: its number, title or path."),
]
Reader = Annotated[
    str | None, typer.Option("--reader", help="Name of the reader, when the file's is ambiguous.")
]
PixelSize = Annotated[
    str | None,
    typer.Option(
        "--pixel-size-nm", metavar="NM", help="Pixel size in nm, or PY,PX, when the file's is missing."
    ),
]
Units = Annotated[
    str | None,
    typer.Option("--units", help="Unit of the file's pixel size when only that was lost, such as nm."),
]


_ARGUMENT = re.compile(
    r"\b(dataset|reader|pixel_size_nm|units|gain|offset|readout|frame|overwrite|scan_shape|flyback|center|noise|"
    r"semiangle_mrad|energy_kev|mrad_per_px|shift_px|operations|lattice_nm)=(True\b)?"
)


def as_options(text: str) -> str:
    """Turn the names of Python arguments in a message into those of options.

    Parameters
    ----------
    text
        A message written for Python.

    Returns
    -------
    str
        The same for the command line.

    Examples
    --------
    >>> as_options("give it with pixel_size_nm=")
    'give it with --pixel-size-nm'
    >>> as_options("pass one of dataset=0 'HAADF'")
    "pass one of --dataset 0 'HAADF'"
    >>> as_options("pass the raw counts, or noise=None to correct nothing")
    'pass the raw counts, or --noise none to correct nothing'
    >>> as_options("export it to .hspy")
    'export it to .hspy'
    """
    named = _ARGUMENT.sub(lambda m: f"--{m[1].replace('_', '-')} ", text)
    for written, typed in (("--noise None", "--noise none"), ("--scan-shape (ny, nx)", "--scan-shape NY,NX")):
        named = named.replace(written, typed)
    named = named.replace("  ", " ")
    return re.sub(r" +(?=[;,:)]|\.(?:\s|$)|$)", "", named)


def numbers(text: str, name: str, count: tuple[int, ...] = (1, 2)) -> tuple[float, ...]:
    """Read one or several numbers from an option.

    Parameters
    ----------
    text
        Numbers separated by commas or ×.
    name
        Name of the option, for errors.
    count
        How many there may be.

    Returns
    -------
    tuple of float
        The numbers.

    Raises
    ------
    typer.BadParameter
        If the text is something else.

    Examples
    --------
    >>> numbers("0.01,0.02", "--pixel-size-nm")
    (0.01, 0.02)
    """
    try:
        values = tuple(float(part) for part in text.replace("×", ",").replace("x", ",").split(","))
    except ValueError:
        values = ()
    if len(values) not in count:
        needed = " or ".join(map(str, count))
        raise typer.BadParameter(f"{text!r} is not {needed} number(s) separated by commas", param_hint=name)
    return values


def positive(text: str, name: str, count: tuple[int, ...] = (1, 2)) -> tuple[float, ...]:
    """Read one or several positive numbers from an option.

    Parameters
    ----------
    text, name, count
        As for `numbers`.

    Returns
    -------
    tuple of float
        The numbers.

    Raises
    ------
    typer.BadParameter
        If the text is something else.

    Examples
    --------
    >>> positive("0.276,0.3905", "--reference-nm")
    (0.276, 0.3905)
    """
    values = numbers(text, name, count)
    if not all(0 < v < float("inf") for v in values):
        raise typer.BadParameter(f"{text!r} is not positive", param_hint=name)
    return values


def pixel_size(text: str | None) -> float | tuple[float, float] | None:
    """Read the option ``--pixel-size-nm``.

    Parameters
    ----------
    text
        As given; None when it was not.

    Returns
    -------
    float, tuple or None
        In nm.

    Raises
    ------
    typer.BadParameter
        If it is not one or two positive numbers.

    Examples
    --------
    >>> pixel_size("0.01")
    0.01
    """
    if text is None:
        return None
    values = positive(text, "--pixel-size-nm")
    return values[0] if len(values) == 1 else (values[0], values[1])


def signal_number(text: str | None) -> str | int | None:
    """Read the option ``--dataset``: a number, or a name.

    Parameters
    ----------
    text
        As given.

    Returns
    -------
    str, int or None
        A whole number as int.

    Examples
    --------
    >>> signal_number("1"), signal_number("HAADF")
    (1, 'HAADF')
    """
    if text is None:
        return None
    return int(text) if text.lstrip("-").isdigit() else text


def one_frame(count: int, frame: int) -> int:
    """Check a frame number.

    Parameters
    ----------
    count
        How many frames there are.
    frame
        Which one; negative counts from the end.

    Returns
    -------
    int
        From 0.

    Raises
    ------
    DataError
        If there is no such frame.

    Examples
    --------
    >>> one_frame(5, -1)
    4
    """
    if not -count <= frame < count:
        raise DataError(f"frame {frame} of {count}", needed=f"a number from 0 to {count - 1}")
    return frame % count
