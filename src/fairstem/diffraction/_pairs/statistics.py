"""From sums over pairs of pixels to the correlation, freed of counting noise, and its standard error.

With I_i the electrons of pixel i, m_i its expectation, and each pixel paired with another, a = I_i and b = I_S(i):
numerator N = Σ(a - µ)(b - µ) and denominator D = Σ(a - µ)² are quadratic forms of independent Poisson counts. The
counts' own noise adds Σm to Σa², and Σm / n less to both through µ. What is left, a quadratic form Σ M_ik I_i I_k with
Σ M_ii I_i taken off, is unbiased, with the exact variance 4 Σ m_i (Mm)_i² + 2 Σ M_ik² m_i m_k; to first order the ratio
γ = N / D has that of M = (P + Pᵀ) / 2 - γ, over D². All moments of m are estimated without bias from factorial moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairstem.diffraction._pairs.pairing import Pairing

__all__ = ["Correlations", "correlations"]

_SIGNIFICANT = 3.0  # standard errors that the variance of a pattern must be above zero
_ROUNDING = 1e-9  # of the mean square: less contrast than this is rounding
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Correlations:
    """Correlation, standard error, and how pixels scatter, each (pattern, operation).

    `dispersion` is 1 for Poisson counts of a symmetric pattern, with the standard error `dispersion_error`.
    """

    gamma: Floats
    standard_error: Floats
    dispersion: Floats
    dispersion_error: Floats


@dataclass(frozen=True)
class _Moments:
    """Sums over ordered pairs, in electrons: of a, a², ab, and without bias of powers of the expectation."""

    n: Floats
    a: Floats
    aa: Floats
    ab: Floats
    noise: Floats
    mm: Floats
    mmm: Floats
    m_mm: Floats
    middle: Floats


def correlations(sums: Floats, pairing: Pairing, gain: float | None) -> Correlations:
    """Finish the sums of `correlate`.

    Parameters
    ----------
    sums
        ``(pattern, operation, SUMS)``.
    pairing
        The tables the sums were made with.
    gain
        Detector units per electron; None takes the values as they are, without noise.
    """
    m = _moments(sums, pairing, 1.0 if gain is None else gain)
    n = np.maximum(m.n, 1.0)
    mean = m.a / n
    counted = 0.0 if gain is None else 1.0
    numerator = m.ab - n * mean**2 + counted * m.a / n
    denominator = m.aa - n * mean**2 - counted * (m.noise - m.a / n)
    floor = np.maximum(_ROUNDING * np.abs(m.aa), np.finfo(float).tiny)
    if gain is not None:
        spread = _variance_of_denominator(m, mean, pairing)
        floor = np.maximum(floor, _SIGNIFICANT * np.sqrt(spread))
    good = denominator > floor
    gamma = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=good)
    error = np.full(gamma.shape, np.inf)
    if gain is not None:
        square = np.where(good, denominator, 1.0) ** 2
        gamma = gamma - np.where(good, _ratio_bias(m, mean, gamma, pairing) / square, 0.0)
        error[good] = np.sqrt(_variance(m, mean, gamma, pairing, sums, gain)[good]) / denominator[good]
    else:
        error[good] = 0.0
    return Correlations(gamma, error, *_dispersion(m, pairing))


def _moments(sums: Floats, pairing: Pairing, gain: float) -> _Moments:
    s, p, s2, sp, s3, abc, weighted = np.moveaxis(sums, -1, 0)[:7]
    f = pairing.listed
    a, ab, aa = f * s / (2 * gain), f * p / gain**2, f * (s2 - 2 * p) / (2 * gain**2)
    aab, aaa = f * sp / (2 * gain**3), f * (s3 - 3 * sp) / (2 * gain**3)
    noise = np.where(pairing.noise_rows >= 0, weighted / gain, a)
    w2 = np.divide(noise, a, out=np.ones_like(a), where=a != 0)
    mm = aa - noise
    mmm = aaa - 3 * w2 * aa + (3 * w2**2 - pairing.cubed) * a
    m_mm = aab - w2 * ab
    middle = np.where(pairing.involution, m_mm, 0.5 * (m_mm + abc / gain**3))
    return _Moments(np.broadcast_to(pairing.n, a.shape), a, aa, ab, noise, mm, mmm, m_mm, middle)


def _share(pairing: Pairing) -> Floats:
    """Return Σ M_ik² between images over Σ m_i m_S(i): an operation that is its own inverse couples a pair twice."""
    return np.where(pairing.involution, 1.0, 0.5)


def _dispersion(m: _Moments, pairing: Pairing) -> tuple[Floats, Floats]:
    """Return the variance between paired pixels over their mean, and its standard error for symmetric counts.

    The counts' skewness cancels in the ratio: what is left is 2 Σ M_ik² m_i m_k with M = 1 - (P + Pᵀ) / 2. Where
    samples are interpolated, the error is up to 15 % too large: both images are smoothed, but not at the same pixels.
    """
    flat = m.a**2 / np.maximum(m.n, 1.0)
    variance = 2 * pairing.shared * (np.maximum(m.mm, flat) + _share(pairing) * np.maximum(m.ab, 0.0))
    some = m.noise > 0
    ratio = np.divide(m.aa - m.ab, m.noise, out=np.zeros_like(m.noise), where=some)
    return ratio, np.divide(np.sqrt(variance), m.noise, out=np.full_like(m.noise, np.inf), where=some)


def _variance_of_denominator(m: _Moments, mean: Floats, pairing: Pairing) -> Floats:
    linear = m.mmm - 2 * mean * m.mm + mean**2 * m.a
    # of the noise alone, should the pattern be flat: never less
    least = 2 * m.a**2 / np.maximum(m.n, 1.0)
    return np.asarray(4 * np.maximum(linear, 0.0) + 2 * np.maximum(pairing.shared * m.mm, least))


def _ratio_bias(m: _Moments, mean: Floats, gamma: Floats, pairing: Pairing) -> Floats:
    """Return γ Var D - Cov(N, D), what makes the mean of the ratio differ from the ratio of means."""
    squares = m.mmm - 2 * mean * m.mm + mean**2 * m.a
    crossed = m.m_mm - mean * (m.mm + m.ab) + mean**2 * m.a
    return np.asarray(gamma * (4 * squares + 2 * pairing.shared * m.mm) - 4 * crossed)


def _variance(
    m: _Moments, mean: Floats, gamma: Floats, pairing: Pairing, sums: Floats, gain: float
) -> Floats:
    """Return the variance of N - γ D."""
    rest = 1 - gamma
    linear = 4 * (
        m.middle
        - 2 * gamma * m.m_mm
        + gamma**2 * m.mmm
        - 2 * rest * mean * (m.ab - gamma * m.mm)
        + rest**2 * mean**2 * m.a
    )
    flat = m.a**2 / np.maximum(m.n, 1.0)
    quadratic = gamma**2 * np.maximum(m.mm, flat) + _share(pairing) * np.maximum(m.ab, 0.0)
    quadratic = 2 * pairing.shared * quadratic
    linear = np.where(pairing.noise_rows >= 0, _projected(sums, gain) / pairing.part - 2 * quadratic, linear)
    # the first term vanishes for a symmetric pattern; cutting its estimate at 0 would bias the error upwards
    return np.asarray(np.maximum(linear + quadratic, 0.5 * quadratic))


def _projected(sums: Floats, gain: float) -> Floats:
    """Return 4 Σ I_i (MI)_i² less the noise of I_i itself; the noise of MI, twice 2 Σ M_ik² m_i m_k, is still in it."""
    square, once, diagonal, gamma = np.moveaxis(sums, -1, 0)[7:]
    return np.asarray(4 * square / gain**3 + 8 * gamma * once / gain**2 + 4 * gamma**2 * diagonal / gain)
