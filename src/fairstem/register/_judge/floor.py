"""The common-mode floor: what all frames of a series share can't be seen by any registration."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fairstem.errors import DataError
from fairstem.register._judge.covariance import (
    autocovariance,
    detrended,
    facing_one_way,
    scatter_of_mean,
    seen_by_others,
)

__all__ = ["Floor", "common_mode_floor", "make_floor"]

Floats = NDArray[np.float64]
_REACH = 6.0  # widths beyond which the weights of two columns no longer overlap


@dataclass(frozen=True, eq=False)
class Floor:
    """How far positions in the average are off because all frames are distorted alike by chance.

    Prior: the displacements of the frames are independent draws with zero mean. Registration finds
    each frame's displacement except for the mean over all K frames, which stays in the average; its
    variance is that of one frame's displacement divided by K, and that is measured from the scatter
    between frames. What is *the same* in every frame (a static scan error, a transient at the start
    of each row, a drift that never changes) leaves no scatter and is not in this number; scans at
    several angles see it.

    Parameters
    ----------
    px
        Root mean square per axis, px, ``sqrt((y² + x²) / 2)``, of the error of one row's position in
        the average; shift, scale and shear of the whole field (the affine part) removed.
    pm
        The same in pm; None without calibration.
    y_px, x_px
        The two axes of the average, px.
    covariance
        ``(2, lag)`` px²: autocovariance of the common mode, along the slow and the fast axis of the
        scan, of rows `lag` apart. For a dense field: along y and x, of points `lag` px apart.
    frames
        Number of frames behind the average (their effective number when they are weighted).
    pixel_size_nm
        (py, px), None without calibration.
    slope
        ``(2,)`` standard deviation of the trend that was removed, px per row of the (slow, fast)
        displacement: the error of scale and shear of the average, from drift within the frames.
    directions_deg, shares
        Angles of the scans against the average, and what share of the covariance has that direction.
    radial
        True when `covariance` depends on the distance of two points, not on the rows between them.

    Notes
    -----
    The two axes of the scan are taken to be uncorrelated. `position_sd`, `pair_covariance` and
    `difference_sd` say what the floor means for atom columns, which average the rows they cover.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(1).normal(0, 0.2, (10, 2, 256))  # independent in each row
    >>> floor = common_mode_floor(rows, np.zeros_like(rows), pixel_size_nm=0.02)
    >>> abs(floor.px - 0.2 / 10**0.5) < 0.002, abs(floor.pm - floor.px * 20) < 1e-9
    (True, True)
    >>> sd_y, sd_x = floor.position_sd(2.5)   # a column averages over the rows that it covers
    >>> bool(sd_y < 0.4 * floor.px and sd_x < 0.4 * floor.px)
    True
    """

    px: float
    pm: float | None
    y_px: float
    x_px: float
    covariance: Floats = field(repr=False)
    frames: float
    pixel_size_nm: tuple[float, float] | None = None
    slope: tuple[float, float] = (0.0, 0.0)
    directions_deg: tuple[float, ...] = (0.0,)
    shares: tuple[float, ...] = (1.0,)
    radial: bool = False

    def position_sd(self, width_px: float) -> tuple[float, float]:
        """Return (sd_y, sd_x) px of the position of a Gaussian column of sigma `width_px`.

        A column's position averages the rows that it covers, along x with the weight
        ``exp(-y² / 2 width²)``, along y with that times y² (as `simulate.recorded_positions`), so that
        jitter from row to row counts less than slow waves.
        """
        own = self.pair_covariance(0.0, width_px)
        return math.sqrt(own[0, 0]), math.sqrt(own[1, 1])

    def pair_covariance(self, dy: ArrayLike, width_px: ArrayLike, dx: ArrayLike = 0.0) -> Floats:
        """Return ``(..., 2, 2)`` px², order (y, x): covariance of the positions of two columns.

        Parameters
        ----------
        dy, dx
            From the first to the second column, px; numbers or arrays. `dx` matters only when the
            scan is turned against the average, or for a dense field.
        width_px
            Gaussian sigma of the columns, px; one number or one a pair.

        Raises
        ------
        DataError
            A width that isn't positive, or a distance that isn't finite.
        """
        dy, dx, width = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (dy, dx, width_px)))
        if not (np.isfinite(dy).all() and np.isfinite(dx).all()):
            raise DataError("distances of columns are not finite", todo="drop those columns")
        if not (np.isfinite(width).all() and (width > 0).all()):
            raise DataError("a width of columns is not positive", needed="their Gaussian sigma in px")
        shape, out = dy.shape, np.zeros((dy.size, 2, 2))
        dy, dx, width = dy.ravel(), dx.ravel(), width.ravel()
        for angle, share in zip(self.directions_deg, self.shares, strict=True):
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            slow, fast = share * self._smoothed(dy * cos - dx * sin, np.hypot(dy, dx), width)
            out[:, 0, 0] += cos * cos * slow + sin * sin * fast
            out[:, 1, 1] += sin * sin * slow + cos * cos * fast
            out[:, 0, 1] += cos * sin * (fast - slow)
        out[:, 1, 0] = out[:, 0, 1]
        return out.reshape(*shape, 2, 2)

    def difference_sd(self, dy: ArrayLike, width_px: ArrayLike, dx: ArrayLike = 0.0) -> tuple[Floats, Floats]:
        """Return (sd_y, sd_x) px of the difference of the positions of two columns: of a bond.

        Arguments as in `pair_covariance`. Neighbours move together in slow waves, so this is
        smaller than ``sqrt(2)`` times `position_sd`.
        """
        own = np.diagonal(self.pair_covariance(np.zeros_like(dy, dtype=float), width_px), axis1=-2, axis2=-1)
        pair = np.diagonal(self.pair_covariance(dy, width_px, dx), axis1=-2, axis2=-1)
        sd = np.sqrt(np.maximum(2 * (own - pair), 0.0))
        return sd[..., 0], sd[..., 1]

    def widen(self, columns: pd.DataFrame) -> pd.DataFrame:
        """Return a copy of a column table whose error bars include the floor.

        Parameters
        ----------
        columns
            Table with `width`, `sd_y` and `sd_x` (px), as of `fairstem.atoms.refine`; `cov_yx`,
            `sd_y_pm` and `sd_x_pm` are brought up to date where they are there.

        Raises
        ------
        DataError
            `width`, `sd_y` or `sd_x` is not in the table.
        """
        _require(columns, ("width", "sd_y", "sd_x"))
        out = columns.copy()
        extra = self.pair_covariance(np.zeros(len(out)), out["width"].to_numpy(np.float64))
        for axis, name in enumerate(("sd_y", "sd_x")):
            before = out[name].to_numpy(np.float64)
            out[name] = np.sqrt(before**2 + extra[:, axis, axis])
            if f"{name}_pm" in out and self.pixel_size_nm is not None:
                out[f"{name}_pm"] = out[name] * self.pixel_size_nm[axis] * 1000
        if "cov_yx" in out:
            out["cov_yx"] = out["cov_yx"].to_numpy(np.float64) + extra[:, 0, 1]
        return out

    def bond_covariance(self, columns: pd.DataFrame, first: ArrayLike, second: ArrayLike) -> pd.DataFrame:
        """Return how the positions of pairs of columns vary together, as `fairstem.atoms.bonds` takes it.

        Use it with error bars that include the floor: ``bonds(floor.widen(columns),
        covariance=floor.bond_covariance(columns, first, second))``.

        Parameters
        ----------
        columns
            Table with `y`, `x` and `width` (px).
        first, second
            Row labels of the columns of each pair.

        Returns
        -------
        pandas.DataFrame
            ``first, second, cov_y_y, cov_y_x, cov_x_y, cov_x_x`` (px²).

        Raises
        ------
        DataError
            `y`, `x` or `width` is not in the table, or a label isn't.
        """
        _require(columns, ("y", "x", "width"))
        labels = pd.Index(np.asarray(first)), pd.Index(np.asarray(second))
        places = [columns.index.get_indexer(label) for label in labels]
        if len(labels[0]) != len(labels[1]) or any((p < 0).any() for p in places):
            raise DataError("pairs of columns that are not in the table", needed="row labels of `columns`")
        one, two = (columns[["y", "x", "width"]].to_numpy(np.float64)[p] for p in places)
        width = np.sqrt((one[:, 2] ** 2 + two[:, 2] ** 2) / 2)
        joint = self.pair_covariance(two[:, 0] - one[:, 0], width, two[:, 1] - one[:, 1])
        table = {"first": labels[0], "second": labels[1]}
        names = ("cov_y_y", "cov_y_x", "cov_x_y", "cov_x_x")
        return pd.DataFrame(table | dict(zip(names, joint.reshape(-1, 4).T, strict=True)))

    def _smoothed(self, rows: Floats, distance: Floats, width: Floats) -> Floats:
        """Return (2, n) px²: covariance along the scan's axes, averaged over the rows of both columns."""
        lags = self.covariance.shape[1]
        if self.radial:
            return np.stack([np.interp(distance, np.arange(lags), c) for c in self.covariance])
        reach = math.ceil(_REACH * width.max(initial=1.0)) + 1
        lag = np.rint(rows)[:, None] + np.arange(-reach, reach + 1)
        s2 = ((lag - rows[:, None]) / width[:, None]) ** 2
        at = np.minimum(np.abs(lag), lags - 1).astype(np.intp)
        # the autocorrelations of the two weights of a column
        fast = np.exp(-s2 / 4)
        weights = fast * (0.75 - s2 / 4 + s2**2 / 16), fast
        return np.stack([
            (c[at] * w).sum(axis=1) / w.sum(axis=1) for c, w in zip(self.covariance, weights, strict=True)
        ])  # fmt: skip


def _require(columns: pd.DataFrame, names: tuple[str, ...]) -> None:
    lacking = [name for name in names if name not in columns]
    if lacking:
        raise DataError(f"the table lacks {', '.join(lacking)}", needed="a table of fairstem.atoms.refine")


def common_mode_floor(
    rows: ArrayLike,
    variance: ArrayLike,
    *,
    shrunk: bool = True,
    pixel_size_nm: float | tuple[float, float] | None = None,
    weights: ArrayLike | None = None,
    angles_deg: ArrayLike | None = None,
    row_length: int | None = None,
) -> Floor:
    """Compute the common-mode floor from the estimated displacement of each row.

    Prior: see `Floor`. Mean and linear trend of each frame are removed (they are affine in the
    average), then the mean over frames; the autocovariance of what is left, divided by K - 1, is
    that of the common mode.

    Parameters
    ----------
    rows
        ``(frame, 2, y)`` px, estimated displacement along the slow and fast axis of the scan.
    variance
        The same shape, its error variance, px²; infinite or NaN where a row is undetermined, which
        is left out.
    shrunk
        True: `rows` are posterior means (smoothed), which scatter less than the truth by their
        posterior variance: `variance` is added. False: measured rows with independent errors, which
        scatter more: it is subtracted, and clipped at zero. Both at lag 0 only: errors are taken to
        be independent from row to row.
    pixel_size_nm
        Pixel size in nm, a number or (py, px).
    weights
        ``(frame,)`` weights of the frames in the average; default equal.
    angles_deg
        ``(frame,)`` rotation of the scans, solved jointly. With more than one direction, a common
        mode of the frames of one direction is seen by the others, as far as it differs from its mean
        over the rows that one of their rows crosses: what is left is the mode averaged over
        ``row_length * |sin(angle between)|`` rows, with the error of the rows added. That bound is
        conservative: solved to convergence, less is left.
    row_length
        Length of a row, px; default the number of rows.

    Returns
    -------
    Floor

    Raises
    ------
    DataError
        Shapes do not fit, fewer than 2 frames, or fewer than 8 rows that at least 2 frames determine.

    Notes
    -----
    Cost: ``O(frames * rows * log(rows))``. The relative error of the floor is about
    ``1 / sqrt(2 (K - 1) n)`` with n the number of waves of the distortion in a frame.

    Examples
    --------
    >>> import numpy as np
    >>> phase = np.random.default_rng(0).uniform(0, 6.28, (20, 2, 1))
    >>> rows = 0.5 * np.sin(np.arange(200) * 0.1 + phase)
    >>> floor = common_mode_floor(rows, np.zeros_like(rows))
    >>> bool(floor.difference_sd(5.0, 2.5)[1] < 0.7 * floor.position_sd(2.5)[1])  # neighbours move together
    True
    """
    u, v, good, share = _checked_rows(rows, variance, weights)
    turns = np.zeros(len(u)) if angles_deg is None else np.asarray(angles_deg, dtype=np.float64)
    if turns.shape != (len(u),) or not np.isfinite(turns).all():
        raise DataError(
            f"angles_deg has shape {turns.shape}", needed=f"one finite angle a frame, ({len(u)},)"
        )
    u, v, good, turns = facing_one_way(u, v, good, turns)
    flat, slopes = detrended(u, good)
    directions = np.unique(turns)
    effective = float(share.sum() ** 2 / (share**2).sum())
    if len(directions) == 1:
        covariance = scatter_of_mean(flat, good, share) if len(u) > 1 else np.zeros((2, u.shape[2]))
        sign = 1.0 if shrunk else -1.0
    else:
        averaged = seen_by_others(flat, turns, row_length or u.shape[2])
        covariance = autocovariance(averaged, good, share) / effective
        sign = 1.0  # here the errors of the rows are the errors of the common mode
    covariance[:, 0] += (
        sign
        * np.einsum("k,kay->a", share, np.where(good[:, None], v, 0.0))
        / (max(float(share @ good.sum(axis=1)), 1.0) * effective)
    )
    covariance[:, 0] = np.maximum(covariance[:, 0], 0.0)
    covariance = np.clip(covariance, -covariance[:, :1], covariance[:, :1])
    scatter = np.einsum("k,ka->a", share, (slopes - share @ slopes) ** 2) / max(effective - 1, 1.0)
    shares = tuple(float(share[turns == angle].sum()) for angle in directions)
    slope = float(np.sqrt(scatter[0])), float(np.sqrt(scatter[1]))
    return make_floor(covariance, effective, pixel_size_nm, slope, tuple(map(float, directions)), shares)


def _checked_rows(
    rows: ArrayLike, variance: ArrayLike, weights: ArrayLike | None
) -> tuple[Floats, Floats, NDArray[np.bool_], Floats]:
    """Return rows and variances (k, 2, y), which are determined (k, y), and weights that sum to 1."""
    u, v = np.array(rows, dtype=np.float64), np.array(variance, dtype=np.float64)
    if u.shape != v.shape or u.ndim != 3 or u.shape[1] != 2 or len(u) < 2:
        raise DataError(
            f"rows {u.shape} and variance {v.shape}", needed="twice (frame, 2, y), 2 frames or more"
        )
    share = np.ones(len(u)) if weights is None else np.asarray(weights, dtype=np.float64)
    if share.shape != (len(u),) or not (np.isfinite(share).all() and (share >= 0).all() and share.any()):
        raise DataError(f"weights {share.shape}", needed=f"one weight >= 0 a frame, ({len(u)},)")
    keep = share > 0
    u, v, share = u[keep], v[keep], share[keep] / share.sum()
    good = np.asarray((np.isfinite(u) & np.isfinite(v)).all(axis=1))
    if (v[np.isfinite(v)] < 0).any():
        raise DataError("variance has negative values", needed="variances in px²")
    if (good.sum(axis=0) >= 2).sum() < 8:
        raise DataError(
            "fewer than 8 rows are determined in two frames", todo="crop to where there is a specimen"
        )
    u[~np.broadcast_to(good[:, None], u.shape)] = 0.0
    return u, v, good, share


def make_floor(
    covariance: Floats,
    frames: float,
    pixel_size_nm: float | tuple[float, float] | None,
    slope: tuple[float, float],
    directions: tuple[float, ...] = (0.0,),
    shares: tuple[float, ...] = (1.0,),
    *,
    radial: bool = False,
) -> Floor:
    """Return the floor that an autocovariance ``(2, lag)`` px² makes; arguments as the fields of `Floor`."""
    size = None
    if pixel_size_nm is not None:
        py, px = np.broadcast_to(np.asarray(pixel_size_nm, dtype=np.float64), 2)
        size = float(py), float(px)
    turn = np.radians(directions)
    part = np.asarray(shares)
    cos2, sin2 = float(part @ np.cos(turn) ** 2), float(part @ np.sin(turn) ** 2)
    slow, fast = covariance[:, 0]
    y, x = math.sqrt(cos2 * slow + sin2 * fast), math.sqrt(sin2 * slow + cos2 * fast)
    pm = None if size is None else 1000 * math.hypot(y * size[0], x * size[1]) / math.sqrt(2)
    total = math.hypot(y, x) / math.sqrt(2)
    return Floor(total, pm, y, x, covariance, frames, size, slope, directions, shares, radial)
