"""The angle between detector and scan axes: an electric field has no curl."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairstem.priors import PriorCheck

__all__ = ["ScanRotation", "find_rotation"]

_TILES = 4  # along each axis, left out in turn for the error bar
_CURL = 0.2


@dataclass(frozen=True)
class ScanRotation:
    """Angle between the detector's and the scan's axes; made by `CenterOfMass.rotation`.

    Parameters
    ----------
    angle_deg
        Turn by this angle, from x towards y, brings the detector's axes to the scan's; (-180, 180].
    sd_deg
        Its standard error in degrees, by leaving out sixteenths of the scan in turn.
    flipped
        True if y changes its sign before the turn (detector or scan mirrored, or transposed).
    curl
        Share of the curl in the power of curl and divergence, after the turn, noise subtracted where known: 0 for
        an electric field.
    curl_other
        The least share that the other handedness reaches.
    priors
        The assumptions and whether the data support them.
    """

    angle_deg: float
    sd_deg: float
    flipped: bool
    curl: float
    curl_other: float
    priors: tuple[PriorCheck, ...] = ()


def find_rotation(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    step: tuple[float, float],
    noise: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> ScanRotation:
    """Find the rotation and handedness that leave the least curl."""
    tries = [_least_curl(sign * y, x, step, noise) for sign in (1.0, -1.0)]
    flipped = tries[1][2] < tries[0][2]
    angle, sd, share = tries[int(flipped)]
    other = tries[1 - int(flipped)][2]
    checks = (
        PriorCheck(
            "deflection-curl-free",
            "the deflection comes from an electric field, which has no curl",
            share,
            _CURL,
            "<=",
            "share of the curl in the power of curl and divergence, after the rotation",
            "more electrons per position, a smaller scan step, or a thinner region; give the angle if it is known",
        ),
        PriorCheck(
            "rotation-handedness",
            "one of the two handednesses of the detector has clearly less curl",
            other - share,
            0.1,
            ">=",
            "difference of the shares of curl",
            "take handedness and angle from a calibration of the microscope",
        ),
    )
    return ScanRotation(angle, sd, bool(flipped), share, other, checks)


def _least_curl(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    step: tuple[float, float],
    noise: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> tuple[float, float, float]:
    """Return the angle in degrees, its standard error, and the share of curl that is left."""
    (yy, yx), (xy, xx) = tuple(np.gradient(y, *step)), tuple(np.gradient(x, *step))
    # borders have one-sided differences, which are noisier
    divergence, curl = (yy + xx)[1:-1, 1:-1], (yx - xy)[1:-1, 1:-1]
    tiles = _tile_sums(divergence, curl)
    total = tiles.sum(axis=0)
    angle = _angle(total)
    left_out = np.array([_angle(total - tile) for tile in tiles])
    # angles are known up to half a turn: differences of doubled angles
    apart = 0.5 * np.angle(np.exp(2j * (left_out - angle)))
    n = len(tiles)
    sd = math.sqrt((n - 1) / n * float(((apart - apart.mean()) ** 2).sum())) if n > 1 else math.inf
    turned = math.cos(angle) * divergence - math.sin(angle) * curl
    if float(((turned - turned.mean()) ** 3).mean()) > 0:
        angle += math.pi  # atoms attract: the divergence has sharp minima, not maxima
    floor = 0.0 if noise is None else _noise_floor(noise, step)
    share = _share(total, angle, floor * divergence.size)
    return math.degrees(math.remainder(angle, 2 * math.pi)), math.degrees(sd), share


def _tile_sums(divergence: NDArray[np.float64], curl: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of div², curl² and div·curl over tiles, (tile, 3)."""
    products = np.stack([divergence**2, curl**2, divergence * curl])
    edges = [np.linspace(0, n, min(_TILES, n) + 1).astype(int)[:-1] for n in divergence.shape]
    rows: NDArray[np.float64] = np.add.reduceat(products, edges[0], axis=1)
    sums: NDArray[np.float64] = np.add.reduceat(rows, edges[1], axis=2)
    return sums.reshape(3, -1).T


def _angle(sums: NDArray[np.float64]) -> float:
    """Return the turn that minimises Σ(curl·cos + div·sin)², from the sums of div², curl², div·curl."""
    dd, cc, dc = (float(v) for v in sums)
    return 0.5 * math.atan2(-2 * dc, dd - cc)


def _share(sums: NDArray[np.float64], angle: float, noise: float) -> float:
    dd, cc, dc = (float(v) for v in sums)
    c, s = math.cos(angle), math.sin(angle)
    curl = c * c * cc + s * s * dd + 2 * s * c * dc - noise
    power = dd + cc - 2 * noise
    return min(max(curl / power, 0.0), 1.0) if power > 0 else math.nan


def _noise_floor(noise: tuple[NDArray[np.float64], NDArray[np.float64]], step: tuple[float, float]) -> float:
    """Return the variance that noise adds to curl and to divergence, central differences."""
    known = np.isfinite(noise[0]) & np.isfinite(noise[1])
    if not known.any():
        return 0.0
    var_y, var_x = (float((sd[known] ** 2).mean()) for sd in noise)
    # half of the mean of both: equal for curl and divergence where the step is square
    return 0.25 * (var_y + var_x) * (1 / step[0] ** 2 + 1 / step[1] ** 2)
