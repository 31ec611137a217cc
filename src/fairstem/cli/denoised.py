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

__all__ = ["LIKELY", "UNCLEAR", "Denoised"]

LIKELY = 0.5  # probability from which on a deviation is more likely real than chance
UNCLEAR = "several"  # a kind: the column deviates, but by no single one of intensity, shift and shape


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
    def priors(self) -> list[dict[str, Any]]:
        """The checks: of a stack, each as in its worst frame where all frames are known."""
        stored = self.steps[-1].get("priors") if self.steps else None
        if stored:
            return [dict(check) for check in stored]
        return [check.to_dict() for check in self.found.priors]

    @property
    def untouched(self) -> bool:
        """Whether there was no noise to remove, so that the image is as it came in."""
        return any(check.name == "noise-present" and check.holds is False for check in self.found.priors)

    @property
    def inflation(self) -> float:
        """How far all columns deviate beyond counting noise, as variance: 1 where only few deviate."""
        return max([1.0, *map(float, self.found.deviations.attrs.get("inflation", ()))])

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
        """For each kind of column the displacement and the change of intensity that is kept to 90 %.

        `amount_90` is NaN where no size that was tried is; where it is the `smallest` tried it may be less.
        """
        table = self.found.retention
        if not len(table):
            return []
        first = table.sort_values("amount", kind="stable").drop_duplicates(["crystal", "site", "quantity"])
        first = first.assign(smallest=first["amount"]).sort_index()
        names = ["crystal", "site", "quantity", "amount_90", "smallest"]
        units = {"shift": self.unit, "intensity": "share"}
        return [
            {str(name): value for name, value in row.items()} | {"unit": units[str(row["quantity"])]}
            for row in first[names].to_dict("records")
        ]
