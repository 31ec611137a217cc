"""What `separate` returns: an image taken apart into crystal, deviations and noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairstem.denoise._frame import DenoisedFrame, Options
from fairstem.denoise._tables import deviations_table, no_deviations, no_retention, retention_table
from fairstem.priors import PriorCheck
from fairstem.signals import NoiseModel, Opened

__all__ = ["NAME", "Separation", "separation_of"]

NAME = "fairstem.denoise.nonlocal_means"  # in the provenance

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Separation:
    """An image taken apart: crystal, what deviates from it, and what is noise.

    Parameters
    ----------
    image
        The denoised image, the same kind of object as came in, in its unit.
    crystal
        ``(y, x)`` the crystal without deviations, in the unit of the image; None where no lattice was found.
    deviations
        One row for each column that differs from the crystal by more than the others do by chance, and for each
        spot off the columns, the most certain first. `crystal` (number of the lattice), `site` (number of the
        column in the cell, -1 for spots), `kind` ("intensity", "shift", "shape", "vacancy"; spots: "interstitial",
        "missing"), `y, x` (px), `shift_y, shift_x, sd_shift_y, sd_shift_x` (px; with ``_pm`` where the image is
        calibrated), `relative_intensity` and its sd, `height` (unit of the image), `statistic` (chi-square, 6
        degrees of freedom), `p_value`, `probability`. ``attrs["inflation"]``, a number a lattice: where it exceeds
        1 all columns differ by more than counting noise; statistics are divided by it, errors multiplied by its
        root.
    share
        ``(y, x)`` share of the crystal model in the image; the rest is local block matching.
    residual
        ``(y, x)`` what was removed, in standard deviations of the noise.
    whiteness
        ``(y, x)`` structure that is left in the residual, standard deviations of white noise.
    lattices
        ``(n, 2, 2)`` the cell vectors (y, x) in px of each lattice, strongest first.
    retention
        What is kept of a displacement or a change of intensity of a single column, by size and by kind of
        column, as expected at this dose and strength.
    noise
        The noise of the detector, as given or estimated.
    priors
        Assumptions, measured on this image.
    parameters
        What was asked, and what was found.

    Examples
    --------
    >>> import fairstem as fs
    >>> p = fs.simulate.phantom("p2", peak=20, seed=1, shape=(128, 128), halved=1)
    >>> found = fs.denoise.separate(p.data)
    >>> print(str(found).splitlines()[0].split(",")[0], "-", found.deviations["kind"][0])
    1 lattice(s) - intensity
    """

    image: Any
    crystal: Floats | None
    deviations: pd.DataFrame
    share: Floats
    residual: Floats
    whiteness: Floats
    lattices: Floats
    retention: pd.DataFrame
    noise: NoiseModel
    priors: tuple[PriorCheck, ...]
    parameters: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        area = 100 * float((self.share > 0.5).mean())
        lines = [
            f"{len(self.lattices)} lattice(s), {area:.0f} % of the image described by a crystal, "
            f"{len(self.deviations)} deviations"
        ]
        return "\n".join(lines + [str(check) for check in self.priors])


def separation_of(opened: Opened, options: Options, done: DenoisedFrame, dtype: np.dtype[Any]) -> Separation:
    """Put together what is known of one image."""
    parts = () if done.analysis is None else done.analysis.parts
    retention, deviations, crystal = no_retention(), no_deviations().drop(columns="row"), None
    if done.analysis is not None:
        size = opened.pixel_size_nm
        retention = retention_table(done.analysis, options.strength, size)
        deviations = deviations_table(done.analysis, size, done.unit, options.strength)
        crystal = done.analysis.crystal_mean()
    lattices = np.array([part.crystal.lattice.vectors for part in parts]).reshape(-1, 2, 2)
    share = np.zeros(done.values.shape) if done.analysis is None else done.analysis.share
    parameters = options.to_dict() | {
        "detector": done.model.to_dict(),
        "lattices": lattices.tolist(),
        "crystal share": float(share.mean()),
        "deviations": len(deviations),
        "inflation": deviations.attrs.get("inflation", []),
        "expected retention": retention.to_dict("records"),
    }
    step = opened.step(NAME, parameters, done.priors)
    return Separation(
        image=opened.rewrap(done.values.astype(dtype), step),
        crystal=None if crystal is None else done.raw(crystal),
        deviations=deviations,
        share=share,
        residual=done.residual,
        whiteness=done.white.map,
        lattices=lattices,
        retention=retention,
        noise=done.model,
        priors=done.priors,
        parameters=parameters,
    )
