"""Named, seeded phantoms: images whose every column is known."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairstem.errors import DataError
from fairstem.simulate.lattices import srtio3
from fairstem.simulate.noise import add_noise
from fairstem.simulate.render import render_columns

__all__ = ["Phantom", "phantom", "phantoms"]


@dataclass(frozen=True)
class Phantom:
    """A simulated image with its truth.

    Parameters
    ----------
    name
        Name in the registry.
    data
        Recorded counts ``(y, x)``, or ``(frame, y, x)`` for a series; float32 unless asked otherwise.
    clean
        Expected counts, float64, same shape: `data` without noise.
    truth
        One row a column: `y, x` [px], `height` [electrons], `width` [px], `species`, and what was
        planted. ``attrs`` holds ``pixel_size_nm`` and ``shape``.
    pixel_size_nm
        Pixel size in nm.
    parameters
        All options, so that ``phantom(name, **parameters)`` is the same phantom again.
    """

    name: str
    data: npt.NDArray[np.generic]
    clean: npt.NDArray[np.float64]
    truth: pd.DataFrame
    pixel_size_nm: float
    parameters: dict[str, Any]


def phantom(name: str, seed: int = 0, **options: Any) -> Phantom:
    """Make a named phantom."""
    if name != "p2":
        raise DataError(f"phantom {name!r} is not known", needed="one of p2")
    return _p2(seed, **options)


def phantoms() -> pd.DataFrame:
    """List the phantoms."""
    return pd.DataFrame({"name": ["p2"], "options": [str(inspect.signature(_p2))]})


def _p2(
    seed: int, peak: float = 20.0, background: float = 0.06, shifted: int = 0, halved: int = 0
) -> Phantom:
    shape, pixel = (512, 512), 0.012
    cell = srtio3(32.5 * pixel, width_nm=3.5 * pixel)
    truth = cell.columns(shape, pixel)
    truth["height"] *= peak * (1 - background)
    clean = render_columns(truth, shape, background=background * peak)
    truth.attrs = {"pixel_size_nm": (pixel, pixel), "shape": shape}
    return Phantom(
        "p2",
        add_noise(clean, seed),
        clean,
        truth,
        pixel,
        {"peak": peak, "background": background, "seed": seed},
    )


_Builder = Callable[..., Phantom]
