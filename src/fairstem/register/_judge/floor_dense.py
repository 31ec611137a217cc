"""The common-mode floor of displacements of every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fairstem.errors import DataError
from fairstem.register._judge.covariance import radial_mean
from fairstem.register._judge.floor import Floor, make_floor

__all__ = ["dense_floor"]


def dense_floor(fields: ArrayLike, *, pixel_size_nm: float | tuple[float, float] | None = None) -> Floor:
    """Compute the common-mode floor of displacements of every pixel.

    Prior: see `Floor`; the covariance is taken to depend on the distance alone (isotropic), which is
    rough for a scan, whose rows move as one. Fields that a penalty has smoothed lack what it took
    away: then this is a lower bound.

    Parameters
    ----------
    fields
        ``(frame, 2, y, x)`` px, anything that is indexed by frame; one is held at a time.
    pixel_size_nm
        Pixel size in nm, a number or (py, px).

    Returns
    -------
    Floor
        With ``radial=True``.

    Raises
    ------
    DataError
        Shape isn't (frame, 2, y, x), fewer than 2 frames, or values that aren't finite.

    Notes
    -----
    Cost: ``O(frames * pixels * log(pixels))``; memory: a few fields.

    Examples
    --------
    >>> import numpy as np
    >>> fields = np.random.default_rng(0).normal(0, 0.3, (9, 2, 32, 32))
    >>> abs(dense_floor(fields).px - 0.1) < 0.003
    True
    """
    stack: Any = fields if hasattr(fields, "shape") else np.asarray(fields, dtype=np.float64)
    shape = tuple(stack.shape)
    if len(shape) != 4 or shape[1] != 2 or shape[0] < 2:
        raise DataError(f"fields have shape {shape}", needed="(frame, 2, y, x), 2 frames or more")
    count, (ny, nx) = shape[0], shape[2:]
    y, x = np.mgrid[:ny, :nx].astype(np.float64)
    design = np.linalg.qr(np.column_stack([np.ones(ny * nx), y.ravel(), x.ravel()]))[0]
    mean = np.zeros((2, ny * nx))
    for k in range(count):
        mean += np.asarray(stack[k], dtype=np.float64).reshape(2, -1) / count
    if not np.isfinite(mean).all():
        raise DataError("the displacements have values that are not finite", todo="fill undetermined pixels")
    power = np.zeros((2, 2 * ny, 2 * nx))
    for k in range(count):
        off = np.asarray(stack[k], dtype=np.float64).reshape(2, -1) - mean
        off -= (off @ design) @ design.T
        power += np.abs(np.fft.fft2(off.reshape(2, ny, nx), s=(2 * ny, 2 * nx))) ** 2
    covariance = radial_mean(np.fft.ifft2(power).real, ny, nx) / ((count - 1) * count)
    return make_floor(covariance, float(count), pixel_size_nm, (0.0, 0.0), radial=True)
