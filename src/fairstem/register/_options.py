"""What `align` is asked for: checked, and brought to one form."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError, DataTypeError

__all__ = ["Average", "Model", "check_choices", "check_dense", "checked_angles", "checked_reference"]

Floats = NDArray[np.float64]
Model = Literal["rowwise", "dense", "rigid"]
Average = Literal["mean", "median", "likelihood"]


def check_choices(model: object, combine: object, slow: object, max_shift: object) -> None:
    """Refuse an unknown model, average or slow field, and a largest shift that leaves none."""
    for name, value, choices in (("model", model, get_args(Model)), ("combine", combine, get_args(Average))):
        if not isinstance(value, str) or value not in choices:
            *most, last = map(repr, choices)
            raise DataError(f"{name}={value!r}", needed=f"{', '.join(most)} or {last}")
    if not isinstance(slow, bool | np.bool_) and not (isinstance(slow, str) and slow == "auto"):
        raise DataError(f"slow={slow!r}", needed="True, False or 'auto'")
    if slow is not False and model != "rowwise" and slow != "auto":
        raise DataError(f"slow={slow!r} with model={model!r}", needed="model='rowwise'")
    if max_shift is None:
        return
    if isinstance(max_shift, bool) or not isinstance(max_shift, int | float | np.integer | np.floating):
        raise DataTypeError(f"max_shift={max_shift!r}", needed="a number of px, or None")
    if not (math.isfinite(max_shift) and max_shift >= 1):
        raise DataError(
            f"max_shift={max_shift!r}",
            needed="a finite number of px, at least 1",
            todo="leave it out where it is not known",
        )


def checked_reference(reference: object, n: int) -> int | None:
    """Return the number of the frame in whose place the average lies, or None."""
    if reference is None:
        return None
    if isinstance(reference, bool) or not isinstance(reference, int | np.integer):
        raise DataTypeError(f"reference={reference!r}", needed="the number of a frame, or None")
    if not 0 <= reference < n:
        raise DataError(f"reference={reference}", needed=f"a frame from 0 to {n - 1}")
    return int(reference)


def checked_angles(angles: Sequence[float] | Floats | None, n: int, model: str, *, lattice: bool) -> Floats:
    """Return the angle of each frame in degrees."""
    turns = np.zeros(n)
    if angles is not None:
        try:
            turns = np.asarray(angles, dtype=np.float64)
        except (TypeError, ValueError):
            raise DataTypeError(f"angles={angles!r}", needed=f"{n} angles in degrees, one a frame") from None
    if turns.shape != (n,) or not np.isfinite(turns).all():
        shown = turns.tolist() if turns.size <= 20 else f"an array of shape {turns.shape}"
        raise DataError(f"angles={shown}", needed=f"{n} finite angles in degrees, one a frame")
    if turns.any() and model == "dense":
        raise DataError("angles with model='dense'", needed="the row-wise or the rigid model")
    if lattice and (model != "rowwise" or len(np.unique(np.round(turns % 180, 2))) > 1):
        raise DataError(
            f"lattice=True with model={model!r} and angles={turns.tolist()}",
            needed="the row-wise model and scans in one direction",
            todo="leave lattice out: scans in several directions need no lattice",
        )
    return turns


def check_dense(dense: object, model: str) -> None:
    """Refuse options that the dense model does not have, and those of another model."""
    if dense is None:
        return
    if not isinstance(dense, Mapping):
        raise DataTypeError(f"dense={dense!r}", needed="a dict of options of the dense model, or None")
    if model != "dense":
        raise DataError(f"dense={dict(dense)!r} with model={model!r}", needed="model='dense'")
    from fairstem.register._dense.dense import register_dense

    parameters: list[Any] = list(inspect.signature(register_dense).parameters.values())
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    unknown = [str(name) for name in dense if name not in known]
    if unknown:
        raise DataError(f"dense has no option {', '.join(unknown)}", needed=f"of {', '.join(known)}")
