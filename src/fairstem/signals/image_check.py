"""Checks that every method for one image makes before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError, DataTypeError
from fairstem.signals.door import open_data
from fairstem.signals.findings import Finding, warn_findings

__all__ = ["ImageCheck", "find_saturation", "validate_image"]

_FEWEST_SATURATED = 8  # equal maxima below this number happen by chance
_PILE_UP = 3.0  # the top level of a smooth histogram holds fewer pixels than the one below it


@dataclass(frozen=True)
class ImageCheck:
    """An image that passed its checks.

    Parameters
    ----------
    array
        The image (y, x), float64, without NaN: masked pixels hold the value of the nearest good one.
    mask
        True where the pixel was measured, False where it was NaN (y, x).
    findings
        What was noticed, as `Finding`.
    """

    array: NDArray[np.float64]
    mask: NDArray[np.bool_]
    findings: tuple[Finding, ...] = ()

    @property
    def complete(self) -> bool:
        """True when every pixel was measured."""
        return bool(self.mask.all())

    def has(self, code: str) -> bool:
        """Return whether a finding of this code was made."""
        return any(f.code == code for f in self.findings)


def validate_image(
    image: Any, name: str = "image", *, min_size: int = 8, counts: bool = False, warn: bool = True
) -> ImageCheck:
    """Check that `image` is one image that can be measured.

    Parameters
    ----------
    image
        HyperSpy signal, numpy array (masked arrays too) or dask array, (y, x). A lazy one is computed.
    name
        How messages call the image.
    min_size
        Fewest pixels along each side.
    counts
        The method needs counts (electrons or proportional): negative values are an error then,
        otherwise a finding.
    warn
        Whether findings of severity ``"warning"`` are also given as `DataWarning`.

    Returns
    -------
    ImageCheck
        ``.array`` (float64), ``.mask`` and ``.findings`` with the codes ``nan``, ``saturated``,
        ``negative``, ``eight-bit``.

    Raises
    ------
    DataTypeError
        Complex, boolean or object values, or no array at all.
    DataError
        Not two-dimensional, a colour picture, empty, too small, all NaN, infinite values, constant,
        or negative values where counts are needed.

    Notes
    -----
    Cost: a few passes over the image, one copy when it is not float64 already.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> image = rng.poisson(20.0, (32, 32)).astype(float)
    >>> check = validate_image(image)
    >>> check.complete, check.findings
    (True, ())
    """
    opened = open_data(image, name=name)
    _check_shape(opened.array, name, min_size)
    _check_dtype(opened.array.dtype, name)
    dtype = np.dtype(opened.array.dtype)
    masked = np.ma.getmaskarray(opened.array) if isinstance(opened.array, np.ma.MaskedArray) else None
    given = np.ma.getdata(opened.array) if masked is not None else np.asarray(opened.array)
    array = np.asarray(given, dtype=np.float64)
    mask = ~np.isnan(array) if masked is None else ~(np.isnan(array) | masked)
    _check_values(array, mask, name)
    findings = _findings(array[mask], dtype, name)
    bad = int(mask.size - mask.sum())
    if bad:
        array = _fill(array, mask)
        message = f"{bad} of {mask.size} pixels of {name} ({100 * bad / mask.size:.2g} %) are NaN or masked"
        findings.insert(0, Finding("nan", "warning", message, assumed="they are left out of the measurement"))
    negative = next((f for f in findings if f.code == "negative"), None)
    if counts and negative is not None:
        raise DataError(
            negative.message,
            needed="counts, which are not negative",
            todo="add the offset that was subtracted, or give it to the method as offset=",
        )
    if warn:
        warn_findings(findings)
    return ImageCheck(array, mask, tuple(findings))


def _check_shape(array: Any, name: str, min_size: int) -> None:
    shape = tuple(int(n) for n in array.shape)
    names = np.dtype(array.dtype).names
    colour = names is not None and {"R", "G", "B"} <= set(names)
    if colour or (len(shape) == 3 and shape[-1] in (3, 4)):
        raise DataError(
            f"{name} is a colour (RGB) picture of shape {shape}",
            needed="one grey image (y, x) with measured intensities",
            todo="export the data from the microscope's own file, or average the channels yourself",
        )
    if len(shape) == 1:
        raise DataError(
            f"{name} is one-dimensional, shape {shape}",
            needed="a 2-D array (y, x)",
            todo="reshape it to the size of the scan, for instance data.reshape(ny, nx)",
        )
    if len(shape) != 2:
        raise DataError(
            f"{name} has {len(shape)} dimensions, shape {shape}",
            needed="a 2-D array (y, x)",
            todo="pass one frame, for instance s.inav[0] of a HyperSpy signal or data[0] of an array",
        )
    if min(shape) < min_size:
        raise DataError(
            f"{name} has only {shape[0]} x {shape[1]} pixels", needed=f"at least {min_size} per side"
        )


def _check_dtype(dtype: Any, name: str) -> None:
    kind = np.dtype(dtype).kind
    if kind in "iuf":
        return
    todo = {
        "c": "take its real part, magnitude or phase first: numpy.abs(image), numpy.angle(image)",
        "b": "pass the image itself; a mask goes where the method has a parameter for it",
        "O": "convert it to numbers: image.astype(float)",
    }.get(kind, "convert it to numbers: image.astype(float)")
    what = {"c": "complex", "b": "boolean", "O": "Python objects"}.get(kind, str(dtype))
    raise DataTypeError(f"{name} is {what} (dtype {dtype})", needed="an integer or float image", todo=todo)


def _check_values(array: NDArray[np.float64], mask: NDArray[np.bool_], name: str) -> None:
    if not mask.any():
        raise DataError(f"all {mask.size} pixels of {name} are NaN or masked", needed="measured pixels")
    values = array[mask]
    infinite = int(np.isinf(values).sum())
    if infinite:
        raise DataError(
            f"{name} has {infinite} infinite values",
            needed="finite values",
            todo="find the division or logarithm that made them, or set them to NaN to leave them out",
        )
    if values.min() == values.max():
        raise DataError(
            f"{name} is constant: every pixel is {values[0]:g}",
            needed="an image with contrast",
            todo="check that the right detector or frame was loaded",
        )


def _findings(values: NDArray[np.float64], dtype: np.dtype[Any], name: str) -> list[Finding]:
    findings = []
    top = find_saturation(values, dtype)
    if top is not None:
        fraction, level = top
        message = (
            f"{100 * fraction:.2g} % of the pixels of {name} pile up at the maximum {level:g}: the detector "
            "or the conversion was saturated, heights and widths there are wrong"
        )
        findings.append(Finding("saturated", "warning", message, given=f"maximum {level:g}"))
    negative = int((values < 0).sum())
    if negative:
        message = (
            f"{negative} of {values.size} pixels of {name} are negative (minimum {values.min():g}): "
            "an offset was subtracted, or these are no counts"
        )
        findings.append(Finding("negative", "warning", message, given=f"minimum {values.min():g}"))
    if dtype == np.uint8:
        message = f"{name} has 8 bits: if it comes from a picture, its contrast was probably stretched"
        findings.append(Finding("eight-bit", "info", message, given="dtype uint8"))
    return findings


def find_saturation(values: NDArray[Any], dtype: np.dtype[Any] | None = None) -> tuple[float, float] | None:
    """Find a pile-up of pixels at the maximum.

    Parameters
    ----------
    values
        Finite values, any shape.
    dtype
        The type in which they were recorded, when it is not that of `values`.

    Returns
    -------
    tuple of float, or None
        Fraction of the pixels at the maximum, and the maximum; None when there is no pile-up.

    Notes
    -----
    The top level of a histogram that simply ends holds fewer pixels than the level below it. At least
    8 pixels and 10⁻⁴ of all, and three times as many as on the next level, are called saturated; the
    largest value of an integer type only needs to hold 8 pixels and more than the next level. Fewer than
    4 levels are not judged: so few counts have no tail to compare with. Cost: 3 passes.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> image = rng.poisson(100.0, 10_000)
    >>> find_saturation(image), find_saturation(np.minimum(image, 110))[1]
    (None, 110.0)
    """
    top = values.max()
    at_top = int((values == top).sum())
    if at_top < _FEWEST_SATURATED:
        return None
    below = values[values < top]
    if below.size == 0:
        return None
    second = below.max()
    lower = below[below < second]
    if lower.size == 0 or lower.min() == lower.max():
        return None
    at_second = int((below == second).sum())
    recorded = np.dtype(dtype if dtype is not None else values.dtype)
    limit = recorded.kind in "iu" and top == np.iinfo(recorded).max
    pile_up = at_top >= 1e-4 * values.size and at_top > _PILE_UP * at_second
    if pile_up or (limit and at_top > at_second):
        return at_top / values.size, float(top)
    return None


def _fill(array: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Put the nearest measured value into the pixels that were not measured."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return np.asarray(array[rows, columns], dtype=np.float64)
