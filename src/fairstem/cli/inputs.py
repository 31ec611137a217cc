"""Getting the one image that a verb works on out of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairstem.cli.options import one_frame
from fairstem.errors import DataError

__all__ = ["load_image", "refuse_colour", "title_of"]


def load_image(
    file: Path,
    *,
    reader: str | None = None,
    dataset: str | int | None = None,
    frame: int | None = None,
    pixel_size_nm: float | tuple[float, float] | None = None,
    units: str | None = None,
    lazy: bool = False,
) -> Any:
    """Load one 2-D image.

    Parameters
    ----------
    file, reader, dataset, pixel_size_nm, units, lazy
        As in `fairstem.load`.
    frame
        Which frame of a series; needed when the file holds one.

    Returns
    -------
    hyperspy signal
        2-D.

    Raises
    ------
    DataError
        If it is not clear which image is meant, or there is none.
    """
    from fairstem.signals import load

    loaded = load(file, lazy=lazy, reader=reader, dataset=dataset, pixel_size_nm=pixel_size_nm, units=units)
    if isinstance(loaded, list):
        images = [s for s in loaded if s.data.ndim == 2]
        if len(images) != 1:
            listed = ", ".join(f"{i} {title_of(s, file)!r} {s.data.shape}" for i, s in enumerate(loaded))
            raise DataError(
                f"{file.name} holds {len(loaded)} signals",
                needed="one image",
                todo=f"give one of --dataset {listed}",
            )
        loaded = images[0]
    if loaded.data.ndim == 3 and loaded.axes_manager.navigation_dimension == 1:
        count = loaded.data.shape[0]
        if frame is None:
            raise DataError(
                f"{file.name} is a series of {count} frames",
                needed="one image",
                todo=f"give --frame 0 to {count - 1}",
            )
        return loaded.inav[one_frame(count, frame)]
    if frame is not None:
        raise DataError(f"frame {frame} of {file.name}, which is no series", todo="leave --frame out")
    _refuse_others(loaded, file)
    return loaded


def _refuse_others(signal: Any, file: Path) -> None:
    """Refuse what is no image before anything is planned or written."""
    from fairstem.signals import describe

    refuse_colour(signal, file)
    if signal.data.ndim != 2:
        shape = " × ".join(map(str, signal.data.shape))
        raise DataError(
            f"{file.name} holds a {describe(signal.as_lazy())['kind']}, {shape}",
            needed="one image (y, x)",
            todo="make an image of it first, such as a sum over detector or energy, and save that",
        )


def refuse_colour(signal: Any, file: Path) -> None:
    """Refuse a colour picture.

    Parameters
    ----------
    signal
        HyperSpy signal.
    file
        Where it is from.

    Raises
    ------
    DataError
        If its values are colours.
    """
    if signal.data.dtype.names:
        shape = " × ".join(map(str, signal.data.shape))
        raise DataError(
            f"{file.name} is a colour picture, {shape} px",
            needed="one grey image with measured intensities",
            todo="take the microscope's own file instead of a picture of it",
        )


def title_of(signal: Any, file: Path) -> str:
    """Return the title of a signal, or the name of its file.

    Parameters
    ----------
    signal
        HyperSpy signal.
    file
        Where it is from.

    Returns
    -------
    str
        Never empty.
    """
    return str(signal.metadata.get_item("General.title", default="")) or file.stem
