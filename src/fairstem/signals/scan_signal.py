"""A HyperSpy signal from the patterns of a scan: axes in nm and mrad, zero at the optic axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.signals.provenance import Step

__all__ = ["make_scan"]


def make_scan(
    array: NDArray[Any],
    *,
    pixel_size_nm: tuple[float, float],
    mrad_per_px: tuple[float, float],
    center: tuple[float, float] | None = None,
    energy_kev: float | None = None,
    semiangle_mrad: float | None = None,
    title: str = "",
    steps: Sequence[Step] = (),
) -> Any:
    """Make a HyperSpy signal of diffraction patterns over scan positions.

    Parameters
    ----------
    array
        (scan_y, scan_x, k_y, k_x), not copied.
    pixel_size_nm
        Step (y, x) of the scan in nm.
    mrad_per_px
        Step (y, x) of the detector in mrad.
    center
        Position (y, x) of the optic axis on the detector in px, where the detector's axes have their zero; by
        default the centre of the array.
    energy_kev
        Beam energy in keV, for the metadata.
    semiangle_mrad
        Convergence semi-angle in mrad, for the metadata.
    title
        Title of the signal.
    steps
        Written to ``metadata.fairstem.steps``.

    Returns
    -------
    hyperspy.signals.Signal2D
        Scan positions as navigation axes ``y, x``, the detector as signal axes ``k_y, k_x``.

    Raises
    ------
    DataError
        If the array has another number of dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> scan = make_scan(np.zeros((2, 3, 5, 5)), pixel_size_nm=(0.1, 0.1), mrad_per_px=(2.0, 2.0))
    >>> scan.axes_manager["k_x"].axis
    array([-4., -2.,  0.,  2.,  4.])
    """
    import hyperspy.api as hs

    if array.ndim != 4:
        raise DataError(f"an array of shape {array.shape}", needed="(scan_y, scan_x, k_y, k_x)")
    at = center if center is not None else tuple((n - 1) / 2 for n in array.shape[2:])
    scales = (*pixel_size_nm, *mrad_per_px)
    offsets = (0.0, 0.0, -at[0] * mrad_per_px[0], -at[1] * mrad_per_px[1])
    axes = [
        {
            "name": name,
            "size": array.shape[i],
            "scale": float(scales[i]),
            "offset": float(offsets[i]),
            "units": "nm" if i < 2 else "mrad",
            "navigate": i < 2,
        }
        for i, name in enumerate(("y", "x", "k_y", "k_x"))
    ]
    signal = hs.signals.Signal2D(array, axes=axes)
    signal.metadata.General.title = title
    if energy_kev is not None:
        signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", float(energy_kev))
    if semiangle_mrad is not None:
        signal.metadata.set_item("Acquisition_instrument.TEM.convergence_angle", float(semiangle_mrad))
    if steps:
        signal.metadata.set_item("fairstem.steps", [step.to_dict() for step in steps])
    return signal
