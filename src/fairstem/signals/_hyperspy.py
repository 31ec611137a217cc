"""Give a result back as a HyperSpy signal: axes, metadata and provenance kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from fairstem.errors import DataError
from fairstem.signals.axes import Axis
from fairstem.signals.provenance import Step, steps_of

if TYPE_CHECKING:
    from fairstem.signals.door import Opened


def rewrap_signal(
    opened: Opened, array: Any, step: Step | None, axes: Sequence[int | Axis | None] | None
) -> Any:
    """Return `array` as a signal like ``opened.source``; see `Opened.rewrap`."""
    source = opened.source
    lazy = type(array).__module__.startswith("dask.")
    if opened.lazy and not lazy:
        array, lazy = np.asarray(array, like=opened.array), True  # lazy stays lazy (NEP 35)
    mapping = _continued(opened.axes, tuple(int(n) for n in array.shape)) if axes is None else tuple(axes)
    if len(mapping) != array.ndim:
        raise DataError(
            f"{len(mapping)} axes were given for a result of shape {tuple(array.shape)}",
            needed="one entry per axis of the result",
        )
    out = source._deepcopy_with_new_data(array)
    if mapping != tuple(range(len(opened.axes))) or tuple(array.shape) != tuple(opened.array.shape):
        _set_axes(out, source, mapping, tuple(array.shape))
    same_signal = _signal_dimension(out) == _signal_dimension(source)
    if not same_signal:
        # a map computed from spectra is no spectrum any more
        out.metadata.set_item("Signal.signal_type", "")
    if not same_signal or lazy != opened.lazy or _is_complex(array) != _is_complex(opened.array):
        out._lazy = lazy
        out._assign_subclass()
    if step is not None:
        out.metadata.set_item("fairstem.steps", [*steps_of(source), step.to_dict()])
    return out


def _is_complex(array: Any) -> bool:
    return bool(np.issubdtype(array.dtype, np.complexfloating))


def _signal_dimension(signal: Any) -> int:
    return int(signal.axes_manager.signal_dimension)


def _continued(axes: tuple[Axis, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return, for each axis of the result, the input axis that it continues."""
    if len(shape) == len(axes):
        return tuple(range(len(axes)))
    sizes = tuple(a.size for a in axes)
    signal = tuple(i for i, a in enumerate(axes) if not a.navigate)
    navigation = tuple(i for i, a in enumerate(axes) if a.navigate)
    for group in (signal, navigation):
        if tuple(sizes[i] for i in group) == shape:
            return group
    fits = [c for c in combinations(range(len(axes)), len(shape)) if tuple(sizes[i] for i in c) == shape]
    if len(fits) == 1:
        return fits[0]
    if len(shape) == len(signal) != len(navigation):
        return signal  # a series became one image that is cropped or padded
    raise DataError(
        f"it is not clear which axes of data of shape {sizes} a result of shape {shape} continues",
        needed="the axes it continues",
        todo="pass axes= to rewrap, for instance axes=(0, 1)",
    )


def _set_axes(out: Any, source: Any, mapping: Sequence[int | Axis | None], shape: tuple[int, ...]) -> None:
    from hyperspy.axes import AxesManager

    old = source.axes_manager._axes
    specs = [_specification(entry, old, size) for entry, size in zip(mapping, shape, strict=True)]
    if all(s["navigate"] for s in specs):
        # nothing but scan positions is left: an image (or a profile) of the scan
        for s in specs[-2:]:
            s["navigate"] = False
    out.axes_manager = AxesManager(specs)


def _specification(entry: int | Axis | None, old: Any, size: int) -> dict[str, Any]:
    if entry is None:
        return {"size": size, "scale": 1.0, "offset": 0.0, "navigate": False, "is_binned": False}
    if isinstance(entry, Axis):
        if entry.size != size:
            raise DataError(
                f"axis {entry.name!r} of size {entry.size} was given for a result's axis of size {size}",
                needed="equal sizes",
            )
        spec: dict[str, Any] = {"size": size, "scale": entry.scale, "offset": entry.offset}
        spec |= {"navigate": entry.navigate}
        if entry.name:
            spec["name"] = entry.name
        if entry.units:
            spec["units"] = entry.units
        if not math.isfinite(entry.scale):
            raise DataError(f"axis {entry.name!r} has the scale {entry.scale}", needed="a finite scale")
        return spec
    axis = old[entry]
    kept = dict(axis.get_axis_dictionary())
    kept["navigate"] = bool(axis.navigate)
    if axis.size == size:
        return kept
    if "axis" in kept and size < axis.size:
        kept["axis"] = np.asarray(kept["axis"])[:size]  # coordinates one by one: the first ones are kept
    elif "axis" in kept:
        return {"name": axis.name, "units": axis.units, "size": size, "navigate": bool(axis.navigate)}
    kept["size"] = size
    return kept
