"""Backgrounds as functions of object coordinates: ramps, steps, amorphous films."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from fairstem.errors import DataError

__all__ = ["AmorphousBackground", "RampBackground", "StepBackground"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RampBackground:
    """A plane: `level` at `centre`, rising by `slope_y`, `slope_x` per px; never below zero.

    Examples
    --------
    >>> import numpy as np
    >>> RampBackground(2.0, 0.0, 0.1, (0.0, 0.0))(np.zeros(2), np.array([0.0, 10.0])).tolist()
    [2.0, 3.0]
    """

    level: float
    slope_y: float = 0.0
    slope_x: float = 0.0
    centre: tuple[float, float] = (0.0, 0.0)

    def __call__(self, y: Floats, x: Floats) -> Floats:
        """Return the background at object coordinates in px."""
        plane = self.level + self.slope_y * (y - self.centre[0]) + self.slope_x * (x - self.centre[1])
        return np.asarray(np.maximum(plane, 0.0))


@dataclass(frozen=True)
class StepBackground:
    """Two levels on the two sides of a straight line, with a smooth edge `blur` px wide.

    The line and its sides are those of `fairstem.simulate.join_grains`.

    Examples
    --------
    >>> import numpy as np
    >>> StepBackground(1.0, 3.0, (0.0, 5.0))(np.zeros(2), np.array([-50.0, 50.0])).round(6).tolist()
    [1.0, 3.0]
    """

    first: float
    second: float
    point: tuple[float, float]
    angle: float = math.pi / 2
    blur: float = 1.0

    def __call__(self, y: Floats, x: Floats) -> Floats:
        """Return the background at object coordinates in px."""
        distance = math.sin(self.angle) * (x - self.point[1]) - math.cos(self.angle) * (y - self.point[0])
        step = expit(distance / self.blur) if self.blur > 0 else (distance >= 0).astype(np.float64)
        return np.asarray(self.first + (self.second - self.first) * step)


@dataclass(frozen=True)
class AmorphousBackground:
    """The speckle of an amorphous film: a sum of random plane waves, clipped at zero.

    Prior: a thin amorphous film looks like a Gaussian random field with one correlation length.
    A sum of waves is exact at any coordinate, so that a distorted scan sees the same film.

    Parameters
    ----------
    level
        Mean value.
    contrast
        Standard deviation over mean.
    correlation
        Correlation length (sigma of the autocorrelation) in px.
    seed
        Seed of the film.
    waves
        Number of plane waves; cost is ``O(waves)`` per pixel.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:200, :200].astype(float)
    >>> film = AmorphousBackground(10.0, 0.1, 3.0, seed=4)(y, x)
    >>> abs(film.std() / film.mean() - 0.1) < 0.02
    np.True_
    """

    level: float
    contrast: float = 0.1
    correlation: float = 3.0
    seed: int = 0
    waves: int = 96

    def __post_init__(self) -> None:
        if not (self.level >= 0 and self.contrast >= 0 and self.correlation > 0 and self.waves > 0):
            raise DataError(f"{self}", needed="level, contrast >= 0; correlation, waves > 0")

    def __call__(self, y: Floats, x: Floats) -> Floats:
        """Return the background at object coordinates in px."""
        rng = np.random.default_rng(self.seed)
        k_y, k_x = rng.normal(0.0, 1.0 / self.correlation, (2, self.waves))
        phase = rng.uniform(0, 2 * math.pi, self.waves)
        field = np.zeros(np.broadcast_shapes(np.shape(y), np.shape(x)))
        for n in range(self.waves):
            field += np.cos(k_y[n] * y + k_x[n] * x + phase[n])
        return np.asarray(
            np.maximum(self.level * (1 + self.contrast * math.sqrt(2 / self.waves) * field), 0.0)
        )
