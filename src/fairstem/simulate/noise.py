"""Detector noise: electron counts, gain, offset, readout noise, saturation, rounding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fairstem.errors import DataError

__all__ = ["add_noise"]


def add_noise(
    clean: npt.ArrayLike,
    seed: int | np.random.Generator = 0,
    *,
    gain: float = 1.0,
    offset: float = 0.0,
    readout: float = 0.0,
    saturation: float | None = None,
    rounded: bool = False,
    dtype: npt.DTypeLike = np.float32,
) -> npt.NDArray[np.generic]:
    """Add counting and readout noise to expected electron counts.

    Prior: electrons arrive independently (Poisson); the detector is linear. The recorded value is
    ``gain * Poisson(clean) + readout * normal + offset``, then rounded, then clipped.

    Parameters
    ----------
    clean
        Expected electrons per pixel, any shape, >= 0.
    seed
        Seed or generator. The same seed gives the same counts.
    gain
        Grey levels per electron.
    offset
        Grey levels at zero electrons.
    readout
        Standard deviation of the readout noise, in grey levels, as in `fairstem.atoms.find`.
    saturation
        Largest grey level that can be recorded; greater values are clipped to it.
    rounded
        Round to whole grey levels, as an analogue-to-digital converter does. Always done for an
        integer `dtype`, which also clips to the range of that type.
    dtype
        Type of the returned array.

    Returns
    -------
    numpy.ndarray
        Recorded grey levels, the shape of `clean`.

    Raises
    ------
    DataError
        `clean` has negative or non-finite values, or a detector constant is out of range.

    Notes
    -----
    Cost: one Poisson draw a pixel, ~60 ns each.

    Examples
    --------
    >>> import numpy as np
    >>> counts = add_noise(np.full((200, 200), 5.0), seed=1)
    >>> round(float(counts.mean()), 1), round(float(counts.var()), 1)
    (5.0, 5.0)
    """
    expected = np.asarray(clean, dtype=np.float64)
    if expected.size and not (np.isfinite(expected).all() and expected.min() >= 0):
        raise DataError(
            "clean has negative or non-finite values",
            needed="expected electrons per pixel, >= 0",
            todo="clip the model at 0 or add a background",
        )
    if not (np.isfinite([gain, offset, readout]).all() and gain > 0 and readout >= 0):
        raise DataError(
            f"gain {gain}, offset {offset}, readout {readout}",
            needed="gain > 0 and readout >= 0, all finite",
            todo="gain in grey levels per electron, readout in grey levels",
        )
    rng = np.random.default_rng(seed)
    recorded = gain * rng.poisson(expected).astype(np.float64) + offset
    if readout > 0:
        recorded += readout * rng.standard_normal(expected.shape)
    kind = np.dtype(dtype)
    if rounded or kind.kind in "iu":
        np.rint(recorded, out=recorded)
    if saturation is not None:
        np.minimum(recorded, saturation, out=recorded)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        np.clip(recorded, limits.min, limits.max, out=recorded)
    return recorded.astype(kind)
