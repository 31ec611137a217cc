"""The lattice of a virtual image: peaks of its power spectrum, and the basis that explains them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, special

from fairstem.errors import DataError
from fairstem.priors import PriorCheck

__all__ = ["ScanLattice", "find_lattice"]

_SIGNIFICANT = 25.0  # power over the mean of white noise: chance of one in 10^5 in a spectrum of 10^6
_RELATIVE = 2e-3  # of the strongest peak: above the side lobes of the window
_MOST_PEAKS = 24
_PERIODS = 2.5  # fewer periods over the scan are no lattice
_EXPLAINED = 0.9
_FOOT = 3.5  # half width of a peak down to where it vanishes, in periods over the scan
_CHANCE = 1e-5  # of noise that passes for peaks at half orders


@dataclass(frozen=True)
class ScanLattice:
    """Lattice vectors of an image, rows (y, x) in px, with standard errors."""

    vectors: NDArray[np.float64]
    vectors_sd: NDArray[np.float64]
    strength: float  # power of the weaker of two independent peaks over that of noise
    prior: PriorCheck


def find_lattice(image: NDArray[np.float64]) -> ScanLattice:
    """Find the primitive, reduced lattice vectors of a periodic image.

    Raises
    ------
    DataError
        Fewer than two independent peaks stand out of the noise: the image isn't periodic, too noisy, or too small.
    """
    shape = np.array(image.shape)
    windowed = _windowed(image)
    peaks, power, noise = _peaks(windowed)
    basis = _basis(peaks, power, shape) if len(peaks) > 1 else None
    if basis is None:
        raise DataError(
            f"a virtual image of {image.shape} in which {len(peaks)} period(s) stand out of the noise",
            needed="a crystal whose lattice shows in two directions, at least 3 cells each way",
            todo="pass mask= instead of unit_cells=, or cells found in a better image (diffraction.find_unit_cells)",
        )
    basis = _coarser(basis, windowed, noise)
    sharp = np.array([_sharpened(windowed, g) for g in peaks])
    hk = np.round(sharp @ np.linalg.inv(basis))
    off = (sharp - hk @ basis) * shape
    explained = (np.hypot(*off.T) < 1.0) & hk.any(axis=1)
    reciprocal, sd = _fitted(sharp[explained], hk[explained], power[explained] / noise, shape)
    vectors = _reduced(np.asarray(np.linalg.inv(reciprocal).T, dtype=np.float64))
    # errors of the reciprocal vectors, carried over to first order: dA = -A dG A for A = inv(G).T
    size = np.abs(vectors)
    vectors_sd = np.sqrt((size**2) @ (sd.T**2) @ (size**2))
    share = float(power[explained].sum() / power.sum())
    prior = PriorCheck(
        "scan-periodic",
        "the specimen repeats itself over the region",
        share,
        _EXPLAINED,
        ">=",
        "share of the power of significant peaks that one lattice explains",
        "choose a region of one crystal with mask=, or average over a mask instead of unit cells",
    )
    return ScanLattice(vectors, vectors_sd, _second(sharp, power, noise), prior)


def _windowed(image: NDArray[np.float64]) -> NDArray[np.float64]:
    y, x = np.indices(image.shape).reshape(2, -1)
    plane = np.stack([np.ones(y.size), y, x], axis=1)
    flat = image.ravel() - plane @ np.linalg.lstsq(plane, image.ravel(), rcond=None)[0]
    window = np.hanning(image.shape[0] + 2)[1:-1, None] * np.hanning(image.shape[1] + 2)[None, 1:-1]
    out = flat.reshape(image.shape) * window
    scale = float(np.abs(out).max())
    # what is left of a constant image is rounding
    return out / scale if scale > 1e-9 * float(np.abs(image).max()) else np.zeros_like(out)


def _peaks(windowed: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return frequencies (y, x) in 1/px of significant peaks in one half of the plane, their power, the noise."""
    shape = windowed.shape
    padded = (2 * shape[0], 2 * shape[1])
    power = np.abs(fft.fft2(windowed, padded)) ** 2
    fy, fx = np.meshgrid(fft.fftfreq(padded[0]), fft.fftfreq(padded[1]), indexing="ij")
    noise = max(float(np.median(power)) / np.log(2), 1e-12 * float(power.max()), 1e-300)
    top = power == ndimage.maximum_filter(power, size=9, mode="wrap")
    low = np.hypot(fy * shape[0], fx * shape[1]) < _PERIODS
    half = (fx > 0) | ((fx == 0) & (fy > 0))
    threshold = max(_SIGNIFICANT * noise, _RELATIVE * float(np.where(low, 0.0, power).max()))
    found = np.argwhere(top & half & ~low & (power > threshold))
    order = np.argsort(-power[tuple(found.T)], kind="stable")[:_MOST_PEAKS]
    at = tuple(found[order].T)
    return np.stack([fy[at], fx[at]], axis=1), power[at], noise


def _sharpened(windowed: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move a frequency to the maximum of the power by parabolas through ever closer points."""
    at = start.copy()
    rows, columns = (np.arange(n) for n in windowed.shape)
    for step in (0.5, 0.2, 0.1):
        d = step / np.array(windowed.shape)
        across = np.exp(-2j * np.pi * np.outer(at[0] + d[0] * np.array([-1, 0, 1]), rows))
        along = np.exp(-2j * np.pi * np.outer(columns, at[1] + d[1] * np.array([-1, 0, 1])))
        log = np.log(np.abs(across @ windowed @ along) ** 2 + 1e-300)
        for axis, (a, b, c) in enumerate((log[:, 1], log[1])):
            bend = a - 2 * b + c
            if bend < 0:
                at[axis] += float(np.clip(0.5 * (a - c) / bend, -1, 1)) * d[axis]
    return at


def _basis(
    peaks: NDArray[np.float64], power: NDArray[np.float64], shape: NDArray[np.int_]
) -> NDArray[np.float64] | None:
    """Return the two frequencies whose sums explain most of the power with the coarsest reciprocal lattice."""
    best: list[tuple[float, float, NDArray[np.float64]]] = []
    for i in range(len(peaks)):
        for j in range(i):
            pair = peaks[[i, j]]
            area = abs(float(np.linalg.det(pair)))
            if area * float(shape.prod()) < _PERIODS**2 or area < 0.2 * np.prod(np.linalg.norm(pair, axis=1)):
                continue
            hk = peaks @ np.linalg.inv(pair)
            off = np.hypot(*(((hk - np.round(hk)) @ pair) * shape).T)
            best.append((float(power[off < 1.0].sum()), area, pair))
    if not best:
        return None
    most = max(score for score, _, _ in best)
    return max((b for b in best if b[0] >= 0.98 * most), key=lambda b: b[1])[2]


def _coarser(basis: NDArray[np.float64], windowed: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    """Halve the reciprocal basis where weak peaks lie between the strong ones: the cell is twice as large.

    At known places a peak needs to be less strong than where it could be anywhere.
    """
    finer = {
        (1, 0): np.array([[0.5, 0], [0, 1]]),
        (0, 1): np.array([[1, 0], [0, 0.5]]),
        (1, 1): np.array([[0.5, 0.5], [0.5, -0.5]]),
    }
    strongest = max(_power(windowed, g) for g in basis)
    shape = np.array(windowed.shape)
    for _ in range(2):
        best, found = 1.0, None
        for (h, k), change in finer.items():
            orders = [(i + h / 2, j + k / 2) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            places = [
                g for g in np.array(orders) @ basis if (np.abs(g) < 0.5).all() and g[0] + 1e-3 * g[1] > 0
            ]
            # closer to the strong peaks is their own foot
            apart = np.linalg.norm(
                np.array([[1, 0], [0, 1], [1, 1], [1, -1]]) @ change @ basis * shape, axis=1
            )
            if not places or apart.min() < _FOOT:
                continue
            power = sum(_power(windowed, g) for g in places)
            limit = max(
                noise * special.gammainccinv(len(places), _CHANCE), len(places) * _RELATIVE * strongest
            )
            if power / limit > best:
                best, found = power / limit, change
        if found is None:
            break
        basis = found @ basis
    return basis


def _power(windowed: NDArray[np.float64], g: NDArray[np.float64]) -> float:
    across, along = (np.exp(-2j * np.pi * f * np.arange(n)) for f, n in zip(g, windowed.shape, strict=True))
    return float(np.abs(across @ windowed @ along) ** 2)


def _fitted(
    peaks: NDArray[np.float64], hk: NDArray[np.float64], ratio: NDArray[np.float64], shape: NDArray[np.int_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the reciprocal basis by weighted least squares, and standard errors of its elements."""
    # Cramér-Rao bound of a frequency, times 1.5 for what the window throws away
    sd = 1.5 * np.sqrt(1.5 / ratio)[:, None] / (np.pi * shape)
    out, error = np.empty((2, 2)), np.empty((2, 2))
    for axis in range(2):
        weighted = hk / sd[:, axis, None]
        out[:, axis] = np.linalg.lstsq(weighted, peaks[:, axis] / sd[:, axis], rcond=None)[0]
        left = (peaks[:, axis] - hk @ out[:, axis]) / sd[:, axis]
        scatter = max(1.0, float((left**2).sum()) / max(len(peaks) - 2, 1))  # distortions add to the noise
        error[:, axis] = np.sqrt(scatter * np.diag(np.linalg.inv(weighted.T @ weighted)))
    return out, error


def _reduced(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shortest basis (Gauss), right-handed, the first vector along x where it can be."""
    a, b = vectors
    while True:
        if a @ a > b @ b:
            a, b = b, a
        turn = round(float(a @ b) / float(a @ a))
        if turn == 0:
            break
        b = b - turn * a
    if abs(a[1]) < abs(b[1]):
        a, b = b, a
    a = a if a[1] >= 0 else -a
    b = b if a[1] * b[0] - a[0] * b[1] > 0 else -b
    return np.array([a, b])


def _second(peaks: NDArray[np.float64], power: NDArray[np.float64], noise: float) -> float:
    """Return the power over noise of the strongest peak that isn't along the very strongest."""
    first = peaks[0] / np.linalg.norm(peaks[0])
    apart = np.abs(peaks @ np.array([first[1], -first[0]])) > 0.2 * np.linalg.norm(peaks, axis=1)
    return float(power[apart].max() / noise) if apart.any() else 0.0
