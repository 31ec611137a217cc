"""One series from many images of equal size."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from fairstem.errors import DataError, DataTypeError
from fairstem.signals.axes import Axis
from fairstem.signals.door import Opened, open_data
from fairstem.signals.provenance import Step

__all__ = ["stack"]

_SAME = 1e-3  # relative: files round the pixel size, another magnification changes it by far more


def stack(frames: Sequence[Any], *, name: str = "series") -> Any:
    """Stack images of equal size and pixel size into a series ``(frame, y, x)``.

    Prior: the images were recorded with the same settings, so that they share one grid.

    Parameters
    ----------
    frames
        Images ``(y, x)``, one kind: HyperSpy signals, or numpy/dask arrays.
    name
        How messages call the series.

    Returns
    -------
    hyperspy.signals.Signal2D, numpy.ndarray or dask.array.Array
        HyperSpy: axes and metadata of the first image, and a navigation axis "frame". Lazy when one of
        the frames is. Masked arrays stay masked.

    Raises
    ------
    DataTypeError
        No sequence, or something in it that is no array, or signals mixed with arrays.
    DataError
        No frames, or frames of different size, pixel size or type; the message says which.

    Notes
    -----
    Cost: one copy of the frames in memory, none for lazy ones.

    Examples
    --------
    >>> import numpy as np
    >>> stack([np.zeros((4, 6)), np.ones((4, 6))]).shape
    (2, 4, 6)
    """
    if isinstance(frames, str | bytes) or not isinstance(frames, Sequence):
        raise DataTypeError(f"{name} is a {type(frames).__name__}", needed="a list of images")
    if not frames:
        raise DataError(f"{name} is an empty list", needed="at least one image (y, x)")
    opened = [open_data(frame, name=f"frame {k} of {name}", ndim=2) for k, frame in enumerate(frames)]
    _check_images(opened, name)
    _check_equal(opened, name, "image sizes", lambda o: tuple(map(int, o.array.shape)), str)
    _check_equal(opened, name, "types", lambda o: np.dtype(o.array.dtype), str)
    _check_pixel_sizes(opened, name)
    array = _stacked(opened)
    first = opened[0]
    if first.kind != "hyperspy":
        return array
    step = Step("fairstem.signals.stack", {"frames": len(opened)})
    return first.rewrap(array, step, axes=(Axis("frame", len(opened), navigate=True), 0, 1))


def _stacked(opened: Sequence[Opened]) -> Any:
    if any(o.lazy for o in opened):
        # numpy's protocol hands this over to dask without importing it here
        parts = [o.array if o.lazy else np.asarray(o.array) for o in opened]
        lazy = next(o.array for o in opened if o.lazy)
        return np.stack([p if hasattr(p, "compute") else np.asarray(p, like=lazy) for p in parts])
    if any(isinstance(o.array, np.ma.MaskedArray) for o in opened):
        return np.ma.stack([o.array for o in opened])  # type: ignore[no-untyped-call, unused-ignore]
    return np.stack([np.asarray(o.array) for o in opened])


def _check_images(opened: Sequence[Opened], name: str) -> None:
    signals = [o.kind == "hyperspy" for o in opened]
    if any(signals) and not all(signals):
        _refuse(
            signals, name, "kinds of data", lambda s: "a HyperSpy signal" if s else "an array", DataTypeError
        )
    for k, frame in enumerate(opened):
        if any(axis.navigate for axis in frame.axes):
            raise DataTypeError(
                f"frame {k} of {name} has navigation axes",
                needed="an image, both of whose axes are signal axes",
                todo="frame.transpose(signal_axes=2)",
            )


def _check_pixel_sizes(opened: Sequence[Opened], name: str) -> None:
    known: list[tuple[float, float]] = []

    def same_as(o: Opened) -> Hashable:
        size = o.pixel_size_nm
        if size is None:
            return None
        for other in known:
            if np.allclose(size, other, rtol=_SAME, atol=0.0):
                return other
        known.append(size)
        return size

    def worded(size: Any) -> str:
        return "not calibrated" if size is None else f"{size[0]:.6g} x {size[1]:.6g} nm a pixel"

    _check_equal(opened, name, "pixel sizes", same_as, worded)


def _check_equal(
    opened: Sequence[Opened],
    name: str,
    what: str,
    value_of: Callable[[Opened], Hashable],
    worded: Callable[[Any], str],
) -> None:
    values = [value_of(o) for o in opened]
    if len(set(values)) > 1:
        _refuse(values, name, what, worded, DataError)


def _refuse(
    values: Sequence[Hashable],
    name: str,
    what: str,
    worded: Callable[[Any], str],
    error: type[DataError] | type[DataTypeError],
) -> None:
    groups: dict[Hashable, list[int]] = {}
    for k, value in enumerate(values):
        groups.setdefault(value, []).append(k)
    texts = []
    for value, members in groups.items():
        verb = "frame {} is {}" if len(members) == 1 else "frames {} are {}"
        texts.append(verb.format(_runs(members), worded(value)))
    raise error(
        f"{name} has frames of different {what}: {', '.join(texts[:4])}"
        + (f" and {len(texts) - 4} more" if len(texts) > 4 else ""),
        needed="images recorded with the same settings",
        todo="leave out the odd ones, or crop, rebin or convert them first",
    )


def _runs(numbers: Sequence[int], most: int = 4) -> str:
    """Write 0, 1, 2, 5 as "0-2, 5"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in runs]
    return ", ".join(texts) if len(texts) <= most else f"{', '.join(texts[:most])} and others"
