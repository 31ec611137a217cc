"""What `find` and `refine` share: the image through the door, its noise, its kernel counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.atoms._columns import check_pixel_size
from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.signals import Gain, NoiseModel, noise_of, noise_priors, open_data, validate_image

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """An image ready to be measured.

    Parameters
    ----------
    counts
        Kernel counts (y, x): variance equal to the mean.
    measured
        True where a pixel was measured (not NaN).
    mask
        True where a pixel may be fitted: measured and not saturated.
    dark, unit
        The part of the counts that isn't signal; electrons per kernel count.
    noise
        Where the numbers come from.
    pixel_size_nm
        (y, x) in nm, or None.
    findings, priors
        What the checks say, JSON-ready; what they measured.
    """

    counts: NDArray[np.float64]
    measured: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    dark: float
    unit: float
    noise: NoiseModel
    pixel_size_nm: tuple[float, float] | None
    findings: list[dict[str, Any]]
    priors: list[PriorCheck]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the image."""
        return self.counts.shape[0], self.counts.shape[1]

    def attributes(self) -> dict[str, Any]:
        """What the column table remembers of the image."""
        return {
            "noise": self.noise.to_dict(),
            "height_unit": "electrons" if self.noise.poisson else "raw units",
            "findings": self.findings,
        }


def prepare(
    image: Any,
    gain: Gain,
    offset: float | None,
    readout: float | None,
    pixel_size_nm: float | tuple[float, float] | None = None,
) -> Prepared:
    """Open, check and convert an image.

    Raises
    ------
    DataTypeError, DataError
        What `fairstem.signals.open_data` and `fairstem.signals.validate_image` refuse; negative counts.
    """
    opened = open_data(image, name="image")
    checked = validate_image(opened.source if opened.kind == "hyperspy" else opened.array, "image")
    array, mask = checked.array, checked.mask.copy()
    noise = noise_of(opened, array, mask, gain, offset, readout)
    lowest = float(array[mask].min())
    if noise.poisson and noise.source != "estimated" and noise.readout == 0 and lowest < noise.offset:
        raise DataError(
            f"image has values below zero electrons (lowest {lowest:.4g}, offset {noise.offset:.4g}, no readout noise)",
            needed="counts, or the detector's gain, offset and readout noise",
            todo="pass gain='estimate', or gain=, offset= and readout=",
        )
    if checked.has("saturated"):
        mask &= array < array[mask].max()
    counts, dark, unit = noise.kernel_counts(array)
    size = opened.pixel_size_nm if pixel_size_nm is None else check_pixel_size(pixel_size_nm)
    findings = [finding.to_dict() for finding in checked.findings]
    return Prepared(
        counts, checked.mask, mask, dark, unit, noise, size, findings, noise_priors(noise, array, mask)
    )
