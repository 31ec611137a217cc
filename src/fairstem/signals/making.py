"""Signals from plain arrays, and files from signals: calibration and provenance on board."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fairstem.errors import DataError, OutputError
from fairstem.signals.provenance import Step

__all__ = ["make_signal", "save"]


def make_signal(
    array: NDArray[Any],
    *,
    pixel_size_nm: tuple[float, float] | None = None,
    noise: tuple[float, float, float] | None = None,
    title: str = "",
    steps: Sequence[Step] = (),
) -> Any:
    """Make a HyperSpy image, or image series, from an array.

    Parameters
    ----------
    array
        (y, x) or (frame, y, x).
    pixel_size_nm
        Pixel size (py, px) in nm; None leaves the axes without calibration.
    noise
        The detector's gain (raw units per electron), offset and read-out noise (raw units), where they are
        known; written as HyperSpy's ``Noise_properties.Variance_linear_model``.
    title
        Title of the signal.
    steps
        Written to ``metadata.fairstem.steps``.

    Returns
    -------
    hyperspy.signals.Signal2D
        The array is not copied.

    Raises
    ------
    DataError
        If the array has another number of dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> make_signal(np.zeros((4, 6)), pixel_size_nm=(0.01, 0.01)).axes_manager["x"].units
    'nm'
    """
    import hyperspy.api as hs

    if array.ndim not in (2, 3):
        raise DataError(f"an array of shape {array.shape}", needed="(y, x) or (frame, y, x)")
    names = ("frame", "y", "x")[-array.ndim :]
    axes: list[dict[str, Any]] = [
        {"name": name, "size": size} for name, size in zip(names, array.shape, strict=True)
    ]
    if pixel_size_nm is not None:
        for axis, scale in zip(axes[-2:], pixel_size_nm, strict=True):
            axis.update(scale=float(scale), units="nm")
    for axis in axes:
        axis["navigate"] = axis["name"] == "frame"
    signal = hs.signals.Signal2D(array, axes=axes)
    signal.metadata.General.title = title
    if noise is not None:
        gain, offset, readout = (float(v) for v in noise)
        # variance = gain · expected value + gain_offset
        model = {"gain_factor": gain, "gain_offset": readout**2 - gain * offset, "correlation_factor": 1.0}
        signal.metadata.set_item("Signal.Noise_properties.Variance_linear_model", model)
    if steps:
        signal.metadata.set_item("fairstem.steps", [step.to_dict() for step in steps])
    return signal


def save(signal: Any, path: str | Path) -> None:
    """Write a signal as HyperSpy's HDF5 file.

    Parameters
    ----------
    signal
        HyperSpy signal.
    path
        File ending in ``.hspy``. An existing file is replaced; write through
        `fairstem.compute.staged_output` where it must be whole or absent.

    Raises
    ------
    OutputError
        If the name does not end in ``.hspy``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as place:
    ...     file = pathlib.Path(place) / "a.hspy"
    ...     save(make_signal(np.zeros((4, 6))), file)
    ...     file.stat().st_size > 0
    True
    """
    target = Path(path)
    if target.suffix.lower() != ".hspy":
        raise OutputError(f"{target.name} does not end in .hspy", todo="name it .hspy (HDF5)")
    with warnings.catch_warnings():
        # HyperSpy's writer warns of its own dependencies' changes; none concerns the file
        warnings.simplefilter("ignore")
        # dask's own bar goes to standard output, which belongs to results
        signal.save(str(target), overwrite=True, show_progressbar=False)
