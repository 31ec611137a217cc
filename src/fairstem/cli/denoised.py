"""What ``fairstem denoise`` and the tour know of one image, in one place for figures, pages and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fairstem.denoise import Separation

__all__ = ["LIKELY", "Denoised"]

LIKELY = 0.5  # probability from which on a deviation is more likely real than chance


@dataclass(frozen=True)
class Denoised:
    """One image, taken apart.

    Parameters
    ----------
    title
        What the image is.
    image
        ``(y, x)``, as recorded.
    pixel_size_nm
        (py, px) in nm, or None.
    found
        Denoised image, crystal, deviations, maps, checks.
    warnings
        What was noted on the way.
    steps
        Provenance of the denoised image.
    seconds
        Time of the denoising.
    frames
        Number of frames of the stack that it stands for; None for a single image.
    """

    title: str
    image: NDArray[Any]
    pixel_size_nm: tuple[float, float] | None
    found: Separation
    warnings: Sequence[str]
    steps: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    seconds: float = 0.0
    frames: int | None = None

    @property
    def clean(self) -> NDArray[np.float32]:
        """``(y, x)`` the denoised image."""
        return np.asarray(getattr(self.found.image, "data", self.found.image), dtype=np.float32)

    @property
    def unit(self) -> str:
        """Unit of lengths of a column: pm, or px without calibration."""
        return "px" if self.pixel_size_nm is None else "pm"

    @property
    def deviations(self) -> pd.DataFrame:
        """What deviates from the crystal, the most certain first; without rows where there is no crystal."""
        return self.found.deviations

    @property
    def likely(self) -> pd.DataFrame:
        """Those deviations that are more likely real than chance."""
        table = self.found.deviations
        return table[table["probability"] >= LIKELY] if len(table) else table

    @property
    def strength(self) -> float:
        """The tail probability that was asked for."""
        return float(self.found.parameters["strength"])

    @property
    def lengths(self) -> list[tuple[float, float]]:
        """Lengths of the cell vectors of each lattice, in `unit`."""
        size = 1.0 if self.pixel_size_nm is None else 1000 * np.asarray(self.pixel_size_nm)
        both = np.linalg.norm(self.found.lattices * size, axis=-1)
        return [(float(a), float(b)) for a, b in both]

    @property
    def limits(self) -> list[dict[str, Any]]:
        """For each kind of column the displacement and the change of intensity that is kept to 90 %."""
        table = self.found.retention
        if not len(table):
            return []
        first = table.drop_duplicates(["crystal", "site", "quantity"])
        names = ["crystal", "site", "quantity", "amount_90"]
        units = {"shift": self.unit, "intensity": "share"}
        return [
            {str(name): value for name, value in row.items()} | {"unit": units[str(row["quantity"])]}
            for row in first[names].to_dict("records")
        ]
