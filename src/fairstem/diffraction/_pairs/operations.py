"""The symmetry operations of a diffraction pattern, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError, DataTypeError

__all__ = ["Operation", "Placed", "parse_operations", "turn"]

_FOLDS = (2, 3, 4, 6)
_QUARTERS = tuple(
    np.array(m, dtype=np.int64)
    for m in ([[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]])
)


def turn(degrees: float) -> NDArray[np.float64]:
    """Return the matrix that turns offsets (y, x) by an angle from x towards y."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, s], [-s, c]])


@dataclass(frozen=True)
class Placed:
    """Where an image of the pattern is sampled: ``turn(angle) @ exact @ q``, with `exact` a map of the grid."""

    angle: float
    exact: NDArray[np.int64]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The whole map from grid offsets to offsets on the detector."""
        return turn(self.angle) @ self.exact if self.angle else self.exact.astype(float)


@dataclass(frozen=True)
class Operation:
    """A rotation (`fold` > 0) or a mirror (`fold` = 0) whose line lies at `angle` degrees from k_x."""

    name: str
    fold: int
    angle: float = 0.0

    @property
    def involution(self) -> bool:
        """True when doing it twice changes nothing."""
        return self.fold in (0, 2)

    @property
    def needs_square_grid(self) -> bool:
        """True unless rows stay rows: only then may the centre lie on a pixel in y and between two in x."""
        return not (self.fold == 2 or (self.fold == 0 and self.angle % 90 == 0))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The operation itself, as a map of offsets (y, x)."""
        if self.fold:
            return turn(360.0 / self.fold)
        twice = math.radians(2 * self.angle)
        c, s = math.cos(twice), math.sin(twice)
        return np.array([[-c, s], [s, c]])

    def pair(self, on_grid: bool) -> tuple[Placed, Placed]:
        """Return the two images that are compared; both are interpolated alike, so that noise is alike.

        A rotation of 60° compares the pattern turned by +30° with the pattern turned by -30°; a mirror at 22.5°
        compares the pattern turned onto the grid with its exact mirror image. So do C4 and m45 where the centre
        is not `on_grid`: there, all samples of an image are smoothed along the same direction, which another image
        would turn.
        """
        if self.fold == 0:
            return self._mirrored(on_grid)
        if self.fold == 2 or (self.fold == 4 and on_grid):
            return _rotated(0.0), _rotated(360.0 / self.fold)
        half = 180.0 / self.fold
        return _rotated(half), _rotated(-half)

    def orbit(self, on_grid: bool) -> list[NDArray[np.float64]]:
        """Return the maps of a grid point to all the places that the operation ties together."""
        first, second = self.pair(on_grid)
        if self.fold == 0:
            return [first.matrix, second.matrix]
        return [turn(k * 360.0 / self.fold) @ first.matrix for k in range(self.fold)]

    def _mirrored(self, on_grid: bool) -> tuple[Placed, Placed]:
        if self.angle % 90 == 0 or (self.angle % 45 == 0 and on_grid):  # a mirror of the grid itself
            return _rotated(0.0), Placed(0.0, np.rint(self.matrix).astype(np.int64))
        exact = np.diag([-1, 1]) if self.angle < 90 else np.diag([1, -1])
        angle = self.angle % 90
        return Placed(angle, _QUARTERS[0]), Placed(angle, exact)


def _rotated(degrees: float) -> Placed:
    """Split an angle into quarter turns, which are exact, and the rest."""
    quarters, rest = divmod(degrees % 360.0, 90.0)
    return Placed(rest, _QUARTERS[int(quarters)])


def parse_operations(operations: Any) -> tuple[Operation, ...]:
    """Read the names of operations.

    Parameters
    ----------
    operations
        One name or several: ``"C2"``, ``"C3"``, ``"C4"``, ``"C6"``, ``"m<angle>"``, ``"mx"`` (m0), ``"my"`` (m90).

    Raises
    ------
    DataTypeError
        No names.
    DataError
        None, an unknown one, or the same operation twice.
    """
    if isinstance(operations, str):
        operations = (operations,)
    if not isinstance(operations, Iterable):
        raise DataTypeError(f"operations={operations!r}", needed='names, such as ("C2", "mx")')
    names = list(operations)
    if not names:
        raise DataError(
            "operations is empty", needed="at least one operation", todo='pass ("C2", "C4", "mx", "my")'
        )
    parsed = tuple(_parse(name) for name in names)
    for i, one in enumerate(parsed):
        for other in parsed[:i]:
            if (one.fold, one.angle) == (other.fold, other.angle):
                raise DataError(
                    f"operations has {other.name} and {one.name}, which are the same",
                    needed="every operation once",
                    todo=f"leave {one.name} out",
                )
    return parsed


def _parse(name: Any) -> Operation:
    if not isinstance(name, str):
        raise DataTypeError(f"operation {name!r}", needed='a name, such as "C2" or "m45"')
    kind, rest = name[:1], name[1:]
    if kind == "C" and rest in map(str, _FOLDS):
        return Operation(name, int(rest))
    if kind == "m":
        angle = {"x": 0.0, "y": 90.0}.get(rest)
        try:
            angle = float(rest) if angle is None else angle
        except ValueError:
            angle = math.nan
        if 0 <= angle < 180:
            return Operation(name, 0, angle)
    raise DataError(
        f"operation {name!r}",
        needed="C2, C3, C4, C6, mx, my, or m with the angle of the mirror line from k_x (0 to below 180 degrees)",
        todo="write m45 for the diagonal; other rotations are no symmetries of a crystal",
    )
