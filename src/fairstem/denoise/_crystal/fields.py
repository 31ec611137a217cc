"""Slow fields of a crystal: how smooth they are is chosen by predicting each box from the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fairstem.denoise._crystal.smoothing import smooth

__all__ = ["Smoothed", "box_grid", "smooth_displacement", "smooth_intensity"]

Floats = NDArray[np.float64]
Candidate = tuple[float, float, int]
Fit = Callable[[Candidate], tuple[Floats, Floats, Floats]]

_INF = math.inf
# widths along y and x in boxes, and the order of the local polynomial, from smooth to rough
_WIDE: tuple[Candidate, ...] = ((_INF, _INF, 0), (_INF, _INF, 1), (_INF, _INF, 2))
_ROUND: tuple[Candidate, ...] = (
    *((w, w, 2) for w in (8.0, 5.0, 3.5, 2.4, 1.6, 1.1)),
    *((w, w, 1) for w in (1.0, 0.6)),
)
_ROWS: tuple[Candidate, ...] = ((5.0, _INF, 2), (2.5, _INF, 2), (1.5, _INF, 1), (0.75, _INF, 1))
_NEIGHBOURS = 2.0  # boxes: over what distance the choice of a width is made
_PENALTY = 8.0  # what any field must gain over none, in twice the log-likelihood
_CELLS_A_BOX = 0.6
_SMALLEST_BOX, _MOST_BOXES = 8.0, 32


@dataclass(frozen=True)
class Smoothed:
    """A pair of fields on the boxes.

    Parameters
    ----------
    field
        ``(n, 2)``.
    covariance
        ``(n, 3)``: (00, 01, 11).
    constant
        The data support no more than a constant.
    freedom
        Number of parameters.
    gain
        Twice the log-likelihood gained over none, in prediction.
    """

    field: Floats
    covariance: Floats
    constant: bool
    freedom: float
    gain: float


def box_grid(shape: tuple[int, ...], vectors: Floats) -> tuple[int, int]:
    """Return the number of boxes along y and x: about 0.6 cells each, at least 8 px."""
    edge = max(_SMALLEST_BOX, _CELLS_A_BOX * math.sqrt(abs(float(np.linalg.det(vectors)))))
    by, bx = (int(min(max(round(n / edge), 1), _MOST_BOXES)) for n in shape)
    return by, bx


def smooth_displacement(data: Floats, field: Floats, vectors: Floats, *, rows: bool = True) -> Smoothed:
    """Smooth a displacement (dy, dx) from its score and information ``(by, bx, 5)``."""
    size = (data.shape[0], data.shape[1])
    flat, present = data.reshape(-1, 5), field.reshape(-1, 2)
    inverse: Floats = np.asarray(np.linalg.inv(vectors), dtype=np.float64)
    wrapped = _jumps(field, inverse)
    families = (_WIDE + _ROUND, _ROWS) if rows else (_WIDE + _ROUND,)
    choice = _Choice(size)
    for family in families:
        choice.run(family, lambda c: smooth(flat, size, c[:2], c[2], present, vectors, inverse, wrapped))
    return choice.result(flat)


def smooth_intensity(data: Floats, field: Floats) -> Smoothed:
    """Smooth gain and background: both, the gain alone, or the background alone."""
    size = (data.shape[0], data.shape[1])
    flat, present = data.reshape(-1, 5), field.reshape(-1, 2)
    none = np.eye(2)
    choice = _Choice(size)
    choice.run(_WIDE + _ROUND, lambda c: smooth(flat, size, c[:2], c[2], present, none, none, False))
    for alone in (0, 1):
        choice.run(_WIDE[1:] + _ROUND, _single(flat, present, size, alone))
    return choice.result(flat)


def _single(flat: Floats, present: Floats, size: tuple[int, int], alone: int) -> Fit:
    """Fit one field of a pair, the other held at its mean."""
    other, none = 1 - alone, np.eye(2)
    held = present.copy()
    weights = flat[:, 2 + 2 * other]
    held[:, other] = (weights @ present[:, other]) / max(weights.sum(), 1e-300)
    change = held[:, other] - present[:, other]
    part = np.zeros_like(flat)
    part[:, alone] = flat[:, alone] - flat[:, 3] * change
    part[:, 2 + 2 * alone] = flat[:, 2 + 2 * alone]
    # predictions are compared with what both fields would leave
    offset = weights * change**2 - 2 * flat[:, other] * change

    def fit(c: Candidate) -> tuple[Floats, Floats, Floats]:
        value, covariance, loss = smooth(part, size, c[:2], c[2], held, none, none, False)
        covariance[:, 1] = 0.0
        covariance[:, 2 * other] = 0.0
        return value, covariance, loss + offset

    return fit


def _jumps(field: Floats, inverse: Floats) -> bool:
    """Whether neighbours differ by more than 0.4 of a cell: then they are compared modulo the lattice."""
    return any(bool((np.abs(np.diff(field, axis=axis) @ inverse) > 0.4).any()) for axis in (0, 1))


class _Choice:
    """Candidates of smoothness, weighted in each neighbourhood by how well they predict."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.fields: list[Floats] = []
        self.covariances: list[Floats] = []
        self.losses: list[Floats] = []
        self.totals: list[float] = []

    def run(self, family: tuple[Candidate, ...], fit: Fit) -> None:
        """Try a family from its widest on, until two in a row gain nowhere."""
        idle = 0
        for candidate in family:
            value, covariance, loss = fit(candidate)
            if not self.losses:
                self.first = loss
            gain = (loss - self.first).reshape(self.size)
            local = gaussian_filter(gain, _NEIGHBOURS, mode="constant").ravel()
            local *= 2 * math.pi * _NEIGHBOURS**2
            self.totals.append(float(loss.sum()))
            gains = not self.losses or self.totals[-1] < min(self.totals[:-1])
            gains = gains or bool((local < np.min(self.losses, axis=0) - _PENALTY).any())
            self.fields.append(value)
            self.covariances.append(covariance)
            self.losses.append(local + (_PENALTY if self.losses else 0.0))
            idle = 0 if gains else idle + 1
            if idle == 2:
                return

    def result(self, data: Floats) -> Smoothed:
        """Mix the candidates by ``exp(-score / 2)``.

        The score is the loss in a neighbourhood, and that of the whole image up to a limit: what is seen
        everywhere counts anywhere, but a small place may differ.
        """
        totals = np.array(self.totals)
        whole = np.minimum(totals - totals.min(), 2 * _PENALTY)
        scores = np.stack(self.losses) + whole[:, None]
        # many candidates that say the same must not outvote none
        scores[1:] += 2 * math.log(max(len(scores) - 1, 1))
        weights = np.exp(-0.5 * (scores - scores.min(axis=0)))
        weights /= weights.sum(axis=0)
        field = np.einsum("cn,cni->ni", weights, np.stack(self.fields))
        covariance = np.einsum("cn,cni->ni", weights, np.stack(self.covariances))
        kept = (
            covariance[:, 0] * data[:, 2] + 2 * covariance[:, 1] * data[:, 3] + covariance[:, 2] * data[:, 4]
        )
        constant = bool((weights[0] > 0.5).all())
        return Smoothed(
            field, covariance, constant, 0.0 if constant else float(kept.sum()), -min(self.totals)
        )
