"""Displacement as a function of time: a slow curve plus row jitter, by Kalman filter and smoother.

The measured displacement z of row t, with variance V, is ``z = s + j + noise``: s an integrated random
walk whose slope changes by a variance q from row to row, j white with variance r. Both variances are
found from the data, as those that make all measured rows most likely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

__all__ = ["Prior", "estimate_prior", "smooth"]

Floats = NDArray[np.float64]
# how far a frame may lie from its start: px², and px² a row for the slope, at the first row
LOOSE, LOOSE_SLOPE = 100.0, 1e-2
_LOWEST_LOG, _HIGHEST_LOG = -30.0, 3.0  # of q and r in px²: from nothing to several px from row to row


@dataclass(frozen=True)
class Prior:
    """Variances of the displacement along one axis of the scan.

    Parameters
    ----------
    walk
        q, px² a row: variance of the change of slope of the slow curve from row to row.
    jitter
        r, px²: variance of the row jitter.
    """

    walk: float
    jitter: float


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _filter(z, variance, q, r, filtered, predicted):
    """Run the filter over one curve; rows with infinite variance are not measured.

    Writes ``filtered`` and ``predicted`` (n, 5): level, slope, and their covariance (ll, ls, ss), after and
    before each row is seen. Returns the log-likelihood, without what the diffuse start costs.
    """
    level, slope, ll, ls, ss = 0.0, 0.0, LOOSE, 0.0, LOOSE_SLOPE
    log_likelihood, seen = 0.0, 0
    for t in range(z.size):
        if t > 0:
            level += slope
            ll += 2.0 * ls + ss
            ls += ss
            ss += q
        predicted[t, 0], predicted[t, 1] = level, slope
        predicted[t, 2], predicted[t, 3], predicted[t, 4] = ll, ls, ss
        if np.isfinite(variance[t]):
            total = ll + r + variance[t]
            rest = z[t] - level
            seen += 1
            if seen > 2:  # the first two rows only set the level and the slope
                log_likelihood -= 0.5 * (np.log(2.0 * np.pi * total) + rest * rest / total)
            gain_l, gain_s = ll / total, ls / total
            level += gain_l * rest
            slope += gain_s * rest
            ss -= gain_s * ls
            ls -= gain_s * ll
            ll -= gain_l * ll
        filtered[t, 0], filtered[t, 1] = level, slope
        filtered[t, 2], filtered[t, 3], filtered[t, 4] = ll, ls, ss
    return log_likelihood


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _log_likelihood(z, variance, q, r):
    """Return the log-likelihood of curves z (curve, n), all with the same prior."""
    n = z.shape[1]
    filtered, predicted = np.empty((n, 5)), np.empty((n, 5))
    total = 0.0
    for k in range(z.shape[0]):
        total += _filter(z[k], variance[k], q, r, filtered, predicted)
    return total


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _smooth(z, variance, q, r, slow, slow_variance):
    """Rauch-Tung-Striebel smoother of curves z (curve, n): level and its variance."""
    curves, n = z.shape
    filtered, predicted = np.empty((n, 5)), np.empty((n, 5))
    for k in range(curves):
        _filter(z[k], variance[k], q, r, filtered, predicted)
        level, slope = filtered[n - 1, 0], filtered[n - 1, 1]
        ll, ls, ss = filtered[n - 1, 2], filtered[n - 1, 3], filtered[n - 1, 4]
        slow[k, n - 1], slow_variance[k, n - 1] = level, ll
        for t in range(n - 2, -1, -1):
            fl, fs, f_ll, f_ls, f_ss = filtered[t]
            pl, ps, p_ll, p_ls, p_ss = predicted[t + 1]
            det = p_ll * p_ss - p_ls * p_ls
            # gain = filtered covariance · transitionᵀ · predicted covariance⁻¹
            c_ll, c_ls, c_sl, c_ss = f_ll + f_ls, f_ls, f_ls + f_ss, f_ss
            g_ll, g_ls = (c_ll * p_ss - c_ls * p_ls) / det, (c_ls * p_ll - c_ll * p_ls) / det
            g_sl, g_ss = (c_sl * p_ss - c_ss * p_ls) / det, (c_ss * p_ll - c_sl * p_ls) / det
            d_l, d_s = level - pl, slope - ps
            level, slope = fl + g_ll * d_l + g_ls * d_s, fs + g_sl * d_l + g_ss * d_s
            e_ll, e_ls, e_ss = ll - p_ll, ls - p_ls, ss - p_ss
            h_ll, h_ls = g_ll * e_ll + g_ls * e_ls, g_ll * e_ls + g_ls * e_ss
            h_sl, h_ss = g_sl * e_ll + g_ss * e_ls, g_sl * e_ls + g_ss * e_ss
            ll = f_ll + h_ll * g_ll + h_ls * g_ls
            ls = f_ls + h_ll * g_sl + h_ls * g_ss
            ss = f_ss + h_sl * g_sl + h_ss * g_ss
            slow[k, t], slow_variance[k, t] = level, max(ll, 0.0)


def smooth(z: Floats, variance: Floats, prior: Prior) -> tuple[Floats, Floats]:
    """Return the most likely displacement of each row, and its variance.

    Parameters
    ----------
    z
        ``(curve, n)`` measured displacement in px, less a guess that is right to about 10 px.
    variance
        ``(curve, n)`` its variance in px²; infinite where a row says nothing.
    prior
        Variances of the walk and of the jitter.

    Notes
    -----
    Cost: ``O(curves * n)``.
    """
    z = np.where(np.isfinite(variance), z, 0.0)
    slow, slow_variance = np.empty_like(z), np.empty_like(z)
    _smooth(z, variance, prior.walk, prior.jitter, slow, slow_variance)
    seen = np.isfinite(variance)
    finite = np.where(seen, variance, 1.0)
    # what the row itself says beyond the slow curve: jitter over jitter plus noise
    share = np.where(seen, prior.jitter / (prior.jitter + finite), 0.0)
    own = np.where(seen, prior.jitter * finite / (prior.jitter + finite), prior.jitter)
    return slow + share * (z - slow), (1 - share) ** 2 * slow_variance + own


def estimate_prior(z: Floats, variance: Floats, start: Prior) -> Prior:
    """Find the variances under which all curves together are most likely (marginal likelihood).

    Parameters
    ----------
    z, variance
        ``(curve, n)`` in px and px².
    start
        Where the search begins.

    Notes
    -----
    Cost: some 60 runs of the filter.
    """
    z = np.ascontiguousarray(np.where(np.isfinite(variance), z, 0.0))
    variance = np.ascontiguousarray(variance)

    def cost(logs: Floats) -> float:
        q, r = np.exp(np.clip(logs, _LOWEST_LOG, _HIGHEST_LOG))
        beyond = np.abs(logs - np.clip(logs, _LOWEST_LOG, _HIGHEST_LOG)).sum()
        return float(beyond - _log_likelihood(z, variance, q, r))

    logs = np.clip(np.log([start.walk, start.jitter]), _LOWEST_LOG + 1, _HIGHEST_LOG)
    simplex = np.array([logs, logs + np.array([2.0, 0.0]), logs + np.array([0.0, 1.5])])
    found = minimize(
        cost,
        logs,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 0.05, "fatol": 0.05, "maxfev": 120},
    )
    walk, jitter = np.exp(np.clip(found.x, _LOWEST_LOG, _HIGHEST_LOG))
    return Prior(float(walk), float(jitter))
