"""Getting the one series that a verb works on out of one file or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairstem.cli.inputs import load_image, refuse_colour, title_of
from fairstem.errors import DataError

__all__ = ["load_series", "title_of_series"]


def load_series(
    files: Sequence[Path],
    *,
    reader: str | None = None,
    dataset: str | int | None = None,
    pixel_size_nm: float | tuple[float, float] | None = None,
    units: str | None = None,
    lazy: bool = False,
) -> Any:
    """Load a series: one file with a frame axis, or several files with one frame each.

    Parameters
    ----------
    files
        One file, or several in the order in which they were recorded.
    reader, dataset, pixel_size_nm, units, lazy
        As in `fairstem.load`; the same for every file.

    Returns
    -------
    hyperspy signal
        ``(frame | y, x)``.

    Raises
    ------
    DataError
        If it is not clear which series is meant, there is none, or frames do not fit together.
    """
    options: dict[str, Any] = {
        "reader": reader,
        "dataset": dataset,
        "pixel_size_nm": pixel_size_nm,
        "units": units,
        "lazy": lazy,
    }
    if len(files) == 1:
        return _one_file(files[0], options)
    from fairstem.signals import stack

    frames = [load_image(file, **options) for file in files]
    try:
        return stack(frames, name="the series")
    except DataError as error:
        names = ", ".join(f"{k} {file.name}" for k, file in enumerate(files[:8]))
        rest = f" and {len(files) - 8} more" if len(files) > 8 else ""
        given = f"{error.given} (frames: {names}{rest})"
        raise DataError(given, error.needed, error.todo) from None


def _one_file(file: Path, options: dict[str, Any]) -> Any:
    from fairstem.signals import describe, load

    loaded = load(file, **options)
    signals = loaded if isinstance(loaded, list) else [loaded]
    series = [s for s in signals if s.data.ndim == 3 and s.axes_manager.navigation_dimension == 1]
    if len(series) == 1 and not series[0].data.dtype.names:
        if series[0].data.shape[0] < 2:
            raise _single(file, series[0].data.shape[1:])
        return series[0]
    if len(signals) > 1:
        listed = ", ".join(f"{i} {title_of(s, file)!r} {s.data.shape}" for i, s in enumerate(signals))
        raise DataError(
            f"{file.name} holds {len(signals)} signals, {len(series)} of them image series",
            needed="one image series",
            todo=f"give one of --dataset {listed}",
        )
    signal = signals[0]
    refuse_colour(signal, file)
    if signal.data.ndim == 2:
        raise _single(file, signal.data.shape)
    shape = " × ".join(map(str, signal.data.shape))
    raise DataError(
        f"{file.name} holds a {describe(signal.as_lazy())['kind']}, {shape}",
        needed="an image series (frame, y, x)",
        todo="register the images that were recorded with it, then apply that to it in Python: "
        "fairstem.register.apply",
    )


def _single(file: Path, shape: Sequence[int]) -> DataError:
    return DataError(
        f"{file.name} holds one image, {' × '.join(map(str, shape))} px",
        needed="two frames or more of the same area",
        todo="give a file with a frame axis, or all files of the series; "
        "a single image is measured by fairstem atoms",
    )


def title_of_series(signal: Any, files: Sequence[Path]) -> str:
    """Return what a series is called: its title, or its file, or the first and the last of them.

    Parameters
    ----------
    signal
        HyperSpy signal.
    files
        Where it is from.

    Returns
    -------
    str
        Never empty.
    """
    if len(files) == 1:
        return title_of(signal, files[0])
    return f"{files[0].stem} to {files[-1].stem}"
