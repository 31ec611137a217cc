"""Where each frame's pixels lie in the average, and back: rows, rotations, slow fields, dense fields."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

__all__ = ["DenseMotion", "Motion", "RowMotion", "turn_matrix"]

Floats = NDArray[np.float64]
_FIXED_POINT_STEPS = 12
_SETTLED = 1e-4  # px: a smooth field gets there in 3 or 4 steps
_BLOCK = 128  # rows inverted at a time, so that little memory is in use besides the result


def turn_matrix(angle_deg: float) -> Floats:
    """Return the matrix that turns (y, x) from the axes of the scan to those of the object."""
    angle = math.radians(angle_deg)
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


class Motion(Protocol):
    """The geometry of a series: one map per frame, in both directions."""

    @property
    def n(self) -> int:
        """Number of frames."""

    @property
    def shape(self) -> tuple[int, int]:
        """Size (ny, nx) of the frames and of the average."""

    def forward(self, k: int) -> Floats:
        """Return ``(2, y, x)`` px: pixel (y, x) of frame k shows the average at (y + dy, x + dx)."""

    def backward(self, k: int) -> Floats:
        """Return ``(2, y, x)`` px: frame k at (y + dy, x + dx) shows the average at (y, x)."""


@dataclass(frozen=True)
class RowMotion:
    """Displacement as a function of time: one vector a row, turned with the scan, plus a slow field.

    Parameters
    ----------
    rows
        ``(frame, 2, y)`` px along the scan's own slow and fast axis: before it is turned, pixel (y, x)
        of frame k lies at ``(y + rows[k, 0, y], x + rows[k, 1, y])``.
    shape
        ``(ny, nx)`` of the frames.
    angles_deg
        ``(frame,)`` rotation of the scan about the middle of the frame, turning +x towards +y.
    slow
        ``(frame, 2, gy, gx)`` px, coefficients of a bicubic B-spline whose knots are spread evenly over
        the frame; added to `rows`. None without.
    """

    rows: Floats
    shape: tuple[int, int]
    angles_deg: Floats
    slow: Floats | None = None

    @property
    def n(self) -> int:
        """Number of frames."""
        return len(self.rows)

    @property
    def upright(self) -> bool:
        """True when no frame is turned."""
        return not self.angles_deg.any()

    def forward(self, k: int) -> Floats:
        """Return ``(2, y, x)`` px: pixel (y, x) of frame k shows the average at (y + dy, x + dx).

        A read-only view of the rows where the frame is neither turned nor has a slow field.
        """
        if not self.angles_deg[k] and self.slow is None:
            return np.broadcast_to(self.rows[k][:, :, None], (2, *self.shape))
        own = self._own(k)
        if not self.angles_deg[k]:
            return own
        middle, y, x = self._grid()
        cos, sin = self._turn(k)
        off_y, off_x = y + own[0] - middle[0], x + own[1] - middle[1]
        own[0] = off_y * cos + off_x * sin + middle[0] - y
        own[1] = off_x * cos - off_y * sin + middle[1] - x
        return own

    def backward(self, k: int) -> Floats:
        """Return ``(2, y, x)`` px: frame k at (y + dy, x + dx) shows the average at (y, x).

        Rows that were recorded out of order are sorted by where they lie.
        """
        middle, y, x = self._grid()
        if not self.angles_deg[k] and self.slow is None:
            rows = self._inverse_rows(k, np.arange(self.shape[0], dtype=np.float64))
            return np.broadcast_to(rows[:, :, None], (2, *self.shape))
        cos, sin = self._turn(k)
        off_y, off_x = y - middle[0], x - middle[1]
        scan_y, scan_x = off_y * cos - off_x * sin + middle[0], off_x * cos + off_y * sin + middle[1]
        at = np.stack(np.broadcast_arrays(scan_y, scan_x))
        at = at + self._inverse_rows(k, at[0]) if self.slow is None else self._invert(k, at, self.slow[k])
        at[0] -= y
        at[1] -= x
        return at

    def _grid(self) -> tuple[Floats, Floats, Floats]:
        ny, nx = self.shape
        y, x = np.arange(ny, dtype=np.float64)[:, None], np.arange(nx, dtype=np.float64)[None]
        return (np.array(self.shape) - 1) / 2, y, x

    def _turn(self, k: int) -> tuple[float, float]:
        angle = math.radians(self.angles_deg[k])
        return math.cos(angle), math.sin(angle)

    def _own(self, k: int) -> Floats:
        own = np.broadcast_to(self.rows[k][:, :, None], (2, *self.shape))
        return own.copy() if self.slow is None else own + evaluate_grid(self.slow[k], self.shape)

    def _inverse_rows(self, k: int, at: Floats) -> Floats:
        """Return (2, ...) px from scan positions `at` along the slow axis back to recorded rows."""
        number = np.arange(self.shape[0], dtype=np.float64)
        lies = number + self.rows[k, 0]
        order = np.argsort(lies, kind="stable")
        row = _row_at(at, lies[order], number[order])
        fast = np.interp(row, number, self.rows[k, 1])
        return np.stack([row - at, -fast])

    def _invert(self, k: int, target: Floats, slow: Floats) -> Floats:
        """Return (2, y, x) the q for which q plus its row's and its slow displacement is `target`."""
        field = evaluate_grid(slow, self.shape)
        at = np.empty_like(target)
        for start in range(0, self.shape[0], _BLOCK):
            block = slice(start, start + _BLOCK)
            at[:, block] = self._settle(k, target[:, block], field)
        return at

    def _settle(self, k: int, target: Floats, field: Floats) -> Floats:
        """Fixed point: q = target - slow(q), then the rows undone."""
        at = target + self._inverse_rows(k, target[0])
        for _ in range(_FIXED_POINT_STEPS):
            aim = target - _interpolated(field, at)
            last, at = at, aim + self._inverse_rows(k, aim[0])
            if np.abs(at - last).max() < _SETTLED:
                break
        return at


@dataclass(frozen=True)
class DenseMotion:
    """A displacement of every pixel.

    Parameters
    ----------
    fields
        ``(frame, 2, y, x)`` px: frame k at (y + dy, x + dx) shows the average at (y, x). Anything that
        is indexed like an array: numpy, memmap, h5py.Dataset.
    """

    fields: NDArray[np.floating]

    @property
    def n(self) -> int:
        """Number of frames."""
        return int(self.fields.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Size (ny, nx) of the frames and of the average."""
        return int(self.fields.shape[2]), int(self.fields.shape[3])

    def backward(self, k: int) -> Floats:
        """Return ``(2, y, x)`` px: frame k at (y + dy, x + dx) shows the average at (y, x)."""
        return np.asarray(self.fields[k], dtype=np.float64)

    def forward(self, k: int) -> Floats:
        """Return ``(2, y, x)`` px: pixel (y, x) of frame k shows the average at (y + dy, x + dx)."""
        field = self.backward(k)
        ny, nx = self.shape
        moved = np.empty((2, ny, nx))
        for start in range(0, ny, _BLOCK):
            grid = np.mgrid[start : min(start + _BLOCK, ny), :nx].astype(np.float64)
            part = -field[:, start : start + _BLOCK]
            for _ in range(_FIXED_POINT_STEPS):
                last, part = part, -_interpolated(field, grid + part)
                if np.abs(part - last).max() < _SETTLED:
                    break
            moved[:, start : start + _BLOCK] = part
        return moved


def _interpolated(field: Floats, at: Floats) -> Floats:
    """Return (2, ...) a field (2, y, x) at positions (2, ...), linearly; beyond its edge the edge's value."""
    return np.stack([map_coordinates(f, at, order=1, mode="nearest") for f in field])


def _row_at(at: Floats, lies: Floats, number: Floats) -> Floats:
    """Return the recorded row at each position; beyond the ends rows move like the first and the last."""
    row = np.interp(at, lies, number)
    row = np.where(at < lies[0], number[0] + (at - lies[0]), row)
    return np.asarray(np.where(at > lies[-1], number[-1] + (at - lies[-1]), row))


def evaluate_grid(coefficients: Floats, shape: tuple[int, int]) -> Floats:
    """Evaluate bicubic B-splines ``(2, gy, gx)`` over the frame: ``(2, ny, nx)``."""
    basis = [spline_basis(n, g) for n, g in zip(shape, coefficients.shape[1:], strict=True)]
    return np.asarray(np.einsum("yi,aij,xj->ayx", basis[0], coefficients, basis[1], optimize=True))


def spline_basis(n: int, count: int) -> Floats:
    """Return ``(n, count)``: `count` >= 4 cubic B-splines with knots spread evenly over n samples."""
    spans = count - 3
    t = np.arange(n) / max(n - 1, 1) * spans
    span = np.minimum(t.astype(int), spans - 1)
    f = t - span
    weights = np.stack(
        [(1 - f) ** 3 / 6, (3 * f**3 - 6 * f**2 + 4) / 6, (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6, f**3 / 6],
        axis=1,
    )
    basis = np.zeros((n, count))
    for j in range(4):
        basis[np.arange(n), span + j] = weights[:, j]
    return basis
