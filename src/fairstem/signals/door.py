"""The one door: a HyperSpy signal, numpy array or dask array in, the same kind out.

Every public function opens its input with `open_data`, works on the plain array, and gives its
result back through `Opened.rewrap`, which keeps axes, units and metadata and writes down what was
done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fairstem.errors import DataError, DataTypeError
from fairstem.priors import PriorCheck
from fairstem.signals.axes import Axis, axes_of_array, axes_of_signal, image_pixel_size_nm
from fairstem.signals.provenance import Step, sha256

__all__ = ["Opened", "open_data"]

Kind = Literal["numpy", "dask", "hyperspy"]
_HASH_LIMIT = 2**30  # a lazy input larger than this is not read a second time only to be hashed


def is_dask(data: object) -> bool:
    """Return whether `data` is a dask array, without importing dask."""
    return type(data).__module__.startswith("dask.")


def is_signal(data: object) -> bool:
    """Return whether `data` is a HyperSpy signal, without importing HyperSpy."""
    return hasattr(data, "axes_manager") and hasattr(data, "metadata") and hasattr(data, "data")


@dataclass(frozen=True)
class Opened:
    """Data that came through the door; made by `open_data`.

    Parameters
    ----------
    array
        The plain array, numpy or dask as given; nothing is computed or copied.
    kind
        What came in: ``"numpy"``, ``"dask"`` or ``"hyperspy"``.
    lazy
        True when `array` is a dask array.
    axes
        One `Axis` per array dimension, in the order of the array.
    pixel_size_nm
        Pixel size (py, px) in nm of the two image axes, None when the data do not say it.
    name
        How messages call the data.
    source
        The object that was given.
    """

    array: Any
    kind: Kind
    lazy: bool
    axes: tuple[Axis, ...]
    pixel_size_nm: tuple[float, float] | None
    name: str = "image"
    source: Any = field(default=None, repr=False, compare=False)

    def step(
        self,
        function: str,
        parameters: Mapping[str, Any] | None = None,
        priors: Sequence[PriorCheck | Mapping[str, Any]] = (),
        *,
        hash_input: bool | None = None,
    ) -> Step:
        """Describe a processing step that started from these data.

        Parameters
        ----------
        function
            Full name of the function, such as ``"fairstem.denoise.tensor_svd"``.
        parameters
            The arguments that were used.
        priors
            The prior checks that were made.
        hash_input
            Whether to hash the input. Default: yes where someone will see it (a HyperSpy signal), but
            not for lazy data above 1 GiB, which would be read twice.

        Returns
        -------
        Step
            For `rewrap`.
        """
        if hash_input is None:
            hash_input = self.kind == "hyperspy" and (not self.lazy or self.array.nbytes <= _HASH_LIMIT)
        digest = sha256(self.array) if hash_input else None
        return Step(function, parameters=dict(parameters or {}), input_sha256=digest, priors=tuple(priors))

    def rewrap(
        self,
        array: Any,
        step: Step | None = None,
        *,
        axes: Sequence[int | Axis | None] | None = None,
    ) -> Any:
        """Return `array` as the kind of object that came in.

        Parameters
        ----------
        array
            The result, numpy or dask.
        step
            What was done; appended to ``metadata.fairstem.steps`` of a HyperSpy signal. Plain arrays
            have no place for it.
        axes
            For each axis of the result: the index of the input axis that it continues, an `Axis` with
            a calibration of its own (after binning, say), or None for an axis without calibration.
            The default is enough where it is unambiguous: the same number of axes (a changed size
            means cropped or padded at the end, the step between samples is kept), or some axes gone.

        Returns
        -------
        numpy.ndarray, dask.array.Array or hyperspy signal
            HyperSpy: class, axes, metadata and original metadata are kept; lazy stays lazy.

        Raises
        ------
        DataError
            It is not clear which axes of the input the result continues.
        """
        if self.kind == "numpy":
            return np.asarray(array)
        if self.kind == "dask":
            # the protocol of NEP 35 makes a dask array without importing dask here
            return array if is_dask(array) else np.asarray(array, like=self.array)
        from fairstem.signals._hyperspy import rewrap_signal

        return rewrap_signal(self, array, step, axes)


def open_data(data: Any, *, name: str = "image", ndim: int | Sequence[int] | None = None) -> Opened:
    """Open a HyperSpy signal, numpy array or dask array for processing.

    Parameters
    ----------
    data
        The data. h5py datasets and memory maps are taken as they are (numpy kind).
    name
        How error messages call the data, usually the name of the caller's argument.
    ndim
        Number(s) of dimensions that are needed; None takes any.

    Returns
    -------
    Opened
        ``.array``, ``.kind``, ``.lazy``, ``.axes``, ``.pixel_size_nm`` and ``.rewrap(array, step)``.

    Raises
    ------
    DataTypeError
        `data` is a list, a path, or anything else that is no array.
    DataError
        `data` is empty or has another number of dimensions than needed.

    Notes
    -----
    Cost: none; nothing is copied, computed or read.

    Examples
    --------
    >>> import numpy as np
    >>> opened = open_data(np.ones((8, 8)), ndim=2)
    >>> opened.kind, opened.pixel_size_nm
    ('numpy', None)
    >>> opened.rewrap(opened.array * 2).sum()
    np.float64(128.0)
    """
    array, kind = _array_and_kind(data, name)
    if not all(isinstance(n, int | np.integer) for n in array.shape):
        raise DataError(
            f"{name} has the unknown shape {tuple(array.shape)}",
            needed="a lazy array that knows its shape",
            todo="call .compute_chunk_sizes() on it first",
        )
    if math.prod(array.shape) == 0:
        raise DataError(f"{name} is empty: shape {tuple(array.shape)}", needed="at least one sample")
    if ndim is not None:
        _check_ndim(array, name, (ndim,) if isinstance(ndim, int) else tuple(ndim))
    axes = axes_of_signal(data) if kind == "hyperspy" else axes_of_array(array.shape)
    return Opened(array, kind, is_dask(array), axes, image_pixel_size_nm(axes), name, data)


def _array_and_kind(data: Any, name: str) -> tuple[Any, Kind]:
    if is_signal(data):
        return data.data, "hyperspy"
    if is_dask(data) and hasattr(data, "shape") and hasattr(data, "dtype"):
        return data, "dask"
    if isinstance(data, np.ndarray):
        return data, "numpy"
    if all(hasattr(data, a) for a in ("shape", "dtype", "ndim", "__getitem__")) and hasattr(
        data, "__array__"
    ):
        if type(data).__module__.startswith("pandas"):
            raise _wrong_type(data, name, "pass its .to_numpy()")
        return data, "numpy"
    if isinstance(data, list | tuple):
        todo = "stack equal frames with numpy.stack(...), or pass one of them"
        raise _wrong_type(data, name, todo)
    if isinstance(data, str) or hasattr(data, "__fspath__"):
        raise _wrong_type(data, name, "load the file first: fairstem.load(path)")
    raise _wrong_type(data, name, "convert it with numpy.asarray(...)")


def _wrong_type(data: object, name: str, todo: str) -> DataTypeError:
    given = f"{name} is a {type(data).__name__}"
    if isinstance(data, list | tuple):
        given += f" of {len(data)} items"
    return DataTypeError(given, needed="a HyperSpy signal, numpy array or dask array", todo=todo)


def _check_ndim(array: Any, name: str, needed: tuple[int, ...]) -> None:
    if array.ndim in needed:
        return
    text = " or ".join(f"{n}-D" for n in needed)
    todo = ""
    if array.ndim > max(needed):
        todo = "pass one frame, for instance s.inav[0] of a HyperSpy signal or data[0] of an array"
        if array.ndim == 3 and array.shape[-1] in (3, 4):
            todo = (
                "a colour picture is no measurement: convert it to grey, for instance data[..., :3].mean(-1)"
            )
    raise DataError(
        f"{name} has {array.ndim} dimension(s), shape {tuple(array.shape)}", needed=f"{text} data", todo=todo
    )
