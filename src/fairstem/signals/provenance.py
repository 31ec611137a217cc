"""Provenance: what was done to the data, with which version, on which input."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import numpy as np

from fairstem._version import __version__
from fairstem.errors import DataTypeError
from fairstem.priors import PriorCheck

__all__ = ["Step", "sha256", "steps_of"]

_BUDGET = 64 * 2**20  # bytes in memory at a time while hashing
_SHORT = 64  # arrays of parameters up to this size are written out, longer ones by their hash


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Step:
    """One processing step, as it is written to ``metadata.fairstem.steps``.

    Parameters
    ----------
    function
        Full name, such as ``"fairstem.atoms.refine"``.
    parameters
        The arguments that were used; anything that is not JSON is turned into text, long arrays into
        their shape, dtype and sha256.
    input_sha256
        Hash of the input array (see `sha256`), None when it was not computed.
    priors
        The prior checks of the step.
    version
        Version of fairstem.
    at
        Time in UTC, ISO 8601.

    Examples
    --------
    >>> step = Step("fairstem.atoms.find", parameters={"model": "classical"}, at="2026-01-01T00:00:00+00:00")
    >>> step.to_dict()["parameters"]
    {'model': 'classical'}
    """

    function: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    input_sha256: str | None = None
    priors: Sequence[PriorCheck | Mapping[str, Any]] = ()
    version: str = __version__
    at: str = field(default_factory=_utc_now)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        priors = [p.to_dict() if isinstance(p, PriorCheck) else jsonable(p) for p in self.priors]
        return {
            "function": self.function,
            "version": self.version,
            "parameters": jsonable(dict(self.parameters)),
            "input_sha256": self.input_sha256,
            "priors": priors,
            "at": self.at,
        }


def jsonable(value: Any) -> Any:
    """Turn any value into what JSON can hold; NaN and infinities become None."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.ndarray):
        if value.size <= _SHORT and value.dtype != object:
            return jsonable(value.tolist())
        digest = None if value.dtype == object else sha256(value)
        return {"shape": list(value.shape), "dtype": str(value.dtype), "sha256": digest}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(v) for v in value]
    if (
        hasattr(value, "to_dict")
        and not isinstance(value, type)
        and type(value).__module__.startswith("fairstem")
    ):
        return jsonable(value.to_dict())
    shape = getattr(value, "shape", None)
    if shape is not None:  # a lazy array, a data frame: its text could be huge or trigger a computation
        return {"type": type(value).__name__, "shape": [int(n) for n in shape]}
    return str(value)


def _blocks(array: Any) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the array in C order, at most about `_BUDGET` bytes at a time."""
    itemsize = np.dtype(array.dtype).itemsize
    row = itemsize * math.prod(array.shape[1:])
    if array.ndim == 0 or row * array.shape[0] <= _BUDGET:
        yield np.asarray(array[()] if array.ndim == 0 else array[:])
        return
    if row > _BUDGET:
        for i in range(array.shape[0]):
            yield from _blocks(array[i])
        return
    step = max(1, _BUDGET // row)
    stops = list(range(step, array.shape[0], step))
    chunks = getattr(array, "chunks", None)
    if chunks and isinstance(chunks[0], tuple) and max(chunks[0]) * row <= 4 * _BUDGET:
        stops = np.cumsum(chunks[0])[:-1].tolist()  # whole chunks, so that none is computed twice
    for start, stop in zip([0, *stops], [*stops, array.shape[0]], strict=True):
        yield np.asarray(array[start:stop])


def sha256(array: Any) -> str:
    """Return the SHA-256 of an array's dtype, shape and values, streamed block by block.

    The hash depends neither on the chunks of a lazy array, nor on the memory layout, nor on the byte
    order: the same data give the same hash as numpy, memmap, h5py dataset or dask array.

    Parameters
    ----------
    array
        Anything with ``shape``, ``dtype`` and slicing; a HyperSpy signal gives the hash of its data.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    DataTypeError
        `array` is no array, or holds Python objects, whose bytes have no fixed meaning.

    Notes
    -----
    Cost: one pass over the data (≈ 1.5 GB/s in memory), about 64 MB of memory (more when single chunks
    are larger).

    Examples
    --------
    >>> import numpy as np
    >>> a = np.arange(6.0).reshape(2, 3)
    >>> sha256(a) == sha256(np.asfortranarray(a)) == sha256(a.astype(">f8"))
    True
    >>> sha256(a) == sha256(a.ravel())
    False
    """
    if hasattr(array, "axes_manager"):
        array = array.data
    if not (hasattr(array, "dtype") and hasattr(array, "shape")):
        raise DataTypeError(f"sha256 got {type(array).__name__}", needed="an array with dtype and shape")
    dtype = np.dtype(array.dtype)
    if dtype.hasobject:
        raise DataTypeError(f"sha256 got an array of dtype {dtype}", needed="a numeric dtype")
    little = dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{little.descr}{tuple(int(n) for n in array.shape)}".encode())
    if math.prod(array.shape) == 0:
        return digest.hexdigest()
    for block in _blocks(array):
        digest.update(np.ascontiguousarray(block, dtype=little).view(np.uint8).data)
    return digest.hexdigest()


def steps_of(signal: Any) -> list[dict[str, Any]]:
    """Return the steps recorded in a HyperSpy signal's ``metadata.fairstem.steps`` (a copy)."""
    steps = signal.metadata.get_item("fairstem.steps", default=[])
    return [dict(s.as_dictionary() if hasattr(s, "as_dictionary") else s) for s in steps]
