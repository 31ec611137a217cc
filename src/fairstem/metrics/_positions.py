"""One-to-one matching of found and true column positions, and the scores that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from fairstem.errors import DataError

__all__ = ["PositionMatch", "match_positions"]

Floats = npt.NDArray[np.float64]
Positions = pd.DataFrame | npt.ArrayLike

_LARGEST_TOLERANCE_NM = 0.07
_BORDER_PX, _BORDER_NM = 5.0, 0.06


@dataclass(frozen=True)
class PositionMatch:
    """Scores of found positions against the truth.

    Parameters
    ----------
    recall
        Matched true columns over true columns, outside the border band. 1 when there are none.
    precision
        Matched over claimed columns, outside the border band. 1 when nothing is claimed.
    f1
        Harmonic mean of the two: ``2 TP / (2 TP + FP + FN)``. 1 when there is nothing at all.
    mean, rms, median
        Distance of the scored pairs in px. NaN when there is no scored pair.
    mean_pm, rms_pm, median_pm
        The same in pm. NaN without a scored pair, None without a pixel size.
    pairs
        ``(n, 2)`` integers: row of `found`, row of `truth`. Also those in the border band.
    delta
        ``(n, 2)`` found minus true position of each pair in px, order (dy, dx).
    scored
        ``(n,)`` whether the pair's true column lies outside the border band.
    false_negatives, false_positives
        Rows of `truth` that were missed, rows of `found` that match nothing, outside the band.
    tolerance
        Largest distance in px that was allowed for a pair.
    border
        Width of the border band in px.
    """

    recall: float
    precision: float
    f1: float
    mean: float
    rms: float
    median: float
    mean_pm: float | None
    rms_pm: float | None
    median_pm: float | None
    pairs: npt.NDArray[np.int64]
    delta: Floats
    scored: npt.NDArray[np.bool_]
    false_negatives: npt.NDArray[np.int64]
    false_positives: npt.NDArray[np.int64]
    tolerance: float
    border: float

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as a JSON-ready dictionary, NaN as None."""
        names = ("recall", "precision", "f1", "mean", "rms", "median", "mean_pm", "rms_pm", "median_pm")
        out: dict[str, Any] = {}
        for name in (*names, "tolerance", "border"):
            value = getattr(self, name)
            out[name] = None if value is None or not math.isfinite(value) else float(value)
        out["matched"] = int(self.scored.sum())
        out["false_negatives"] = len(self.false_negatives)
        out["false_positives"] = len(self.false_positives)
        return out


def match_positions(
    found: Positions,
    truth: Positions,
    tolerance: float | None = None,
    *,
    pixel_size_nm: float | tuple[float, float] | None = None,
    shape: tuple[int, int] | None = None,
    border: float | None = None,
) -> PositionMatch:
    """Match found columns with true columns one to one, and score them.

    Prior: a found column stands for at most one true column. Among all assignments within the
    tolerance, the one with most pairs is taken, and of those the one with the least sum of
    squared distances (Hungarian method on the sparse graph of possible pairs).

    Parameters
    ----------
    found, truth
        Tables with `y`, `x` in px, or arrays ``(n, 2)`` in px, order (y, x).
    tolerance
        Largest distance of a pair in px. Default, for each true column: half the distance to its
        nearest true neighbour, at most 0.07 nm when the pixel size is known.
    pixel_size_nm
        Pixel size in nm, a number or (py, px). Default: ``truth.attrs`` or ``found.attrs``. With
        unequal sizes, px means the geometric mean of the two.
    shape
        ``(ny, nx)`` of the image, for the border band. Default: the same attrs. Without it there
        is no band.
    border
        Width of the border band in px; true columns there may be matched, but are not scored.
        Default: the larger of 5 px and 0.06 nm.

    Returns
    -------
    PositionMatch
        Recall, precision, distances, pairs.

    Raises
    ------
    DataError
        Wrong shapes, positions that are not finite, a tolerance that is not positive, or no way
        to choose one (a single true column and no pixel size).

    Notes
    -----
    Nothing to find and nothing found is perfect: recall 1, precision 1. Nothing found where there
    is something: recall 0, precision 1, f1 0. Something found where there is nothing: recall 1,
    precision 0, f1 0. Cost: ``O(n log n)`` while the tolerance is below half the column distance;
    10^4 columns take 0.1 s.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[10.0, 10.0], [10.0, 20.0], [20.0, 15.0]])
    >>> found = np.array([[10.1, 10.0], [20.0, 15.3], [2.0, 40.0]])
    >>> m = match_positions(found, truth)
    >>> round(m.recall, 3), round(m.precision, 3), round(m.mean, 3), m.pairs.tolist()
    (0.667, 0.667, 0.2, [[0, 0], [1, 2]])
    """
    f, t = _as_positions(found, "found"), _as_positions(truth, "truth")
    pixel = _pixel_size(
        pixel_size_nm if pixel_size_nm is not None else _attribute("pixel_size_nm", truth, found)
    )
    size = shape if shape is not None else _attribute("shape", truth, found)
    stretch = np.ones(2) if pixel is None else pixel / math.sqrt(pixel[0] * pixel[1])
    limits = _tolerances(t * stretch, tolerance, pixel)
    pairs = _assign(f * stretch, t * stretch, limits)
    band = _border_width(border, pixel) if size is not None else 0.0
    inside_t, inside_f = _inside(t, size, band), _inside(f, size, band)
    scored = inside_t[pairs[:, 1]]
    missed = np.flatnonzero(inside_t & ~np.isin(np.arange(len(t)), pairs[:, 1]))
    false = np.flatnonzero(inside_f & ~np.isin(np.arange(len(f)), pairs[:, 0]))
    delta = f[pairs[:, 0]] - t[pairs[:, 1]]
    hits = int(scored.sum())
    px = _distances((delta * stretch)[scored])
    pm = (None, None, None) if pixel is None else _distances((delta * pixel * 1000)[scored])
    return PositionMatch(
        recall=_ratio(hits, hits + len(missed)),
        precision=_ratio(hits, hits + len(false)),
        f1=_ratio(2 * hits, 2 * hits + len(missed) + len(false)),
        mean=px[0], rms=px[1], median=px[2], mean_pm=pm[0], rms_pm=pm[1], median_pm=pm[2],
        pairs=pairs, delta=delta, scored=scored, false_negatives=missed, false_positives=false,
        tolerance=float(limits.max()) if len(limits) else 0.0, border=band,
    )  # fmt: skip


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _distances(delta: Floats) -> tuple[float, float, float]:
    if not len(delta):
        return math.nan, math.nan, math.nan
    d = np.hypot(delta[:, 0], delta[:, 1])
    return float(d.mean()), float(np.sqrt((d**2).mean())), float(np.median(d))


def _as_positions(positions: Positions, name: str) -> Floats:
    if isinstance(positions, pd.DataFrame):
        if "y" not in positions or "x" not in positions:
            raise DataError(f"{name} has columns {list(positions.columns)[:8]}", needed="y and x in px")
        array = positions[["y", "x"]].to_numpy(np.float64)
    else:
        array = np.asarray(positions, dtype=np.float64)
        array = array.reshape(0, 2) if array.size == 0 else array
    if array.ndim != 2 or array.shape[1] != 2:
        raise DataError(
            f"{name} has shape {array.shape}", needed="(n, 2), order (y, x)", todo="stack y and x"
        )
    if not np.isfinite(array).all():
        raise DataError(
            f"{name} has positions that are not finite", todo="drop them and count them as missed"
        )
    return array


def _attribute(key: str, *tables: Positions) -> Any:
    for table in tables:
        if isinstance(table, pd.DataFrame) and table.attrs.get(key) is not None:
            return table.attrs[key]
    return None


def _pixel_size(pixel_size_nm: float | tuple[float, float] | None) -> Floats | None:
    if pixel_size_nm is None:
        return None
    size = np.broadcast_to(np.asarray(pixel_size_nm, dtype=np.float64), 2)
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise DataError(f"pixel_size_nm is {pixel_size_nm}", needed="a positive number or (py, px) in nm")
    return size


def _border_width(border: float | None, pixel: Floats | None) -> float:
    if border is not None:
        return float(border)
    return _BORDER_PX if pixel is None else max(_BORDER_PX, _BORDER_NM / math.sqrt(pixel[0] * pixel[1]))


def _inside(positions: Floats, shape: Any, band: float) -> npt.NDArray[np.bool_]:
    if shape is None:
        return np.ones(len(positions), dtype=bool)
    edge = np.asarray(shape[-2:], dtype=np.float64) - 1
    return np.asarray(((positions >= band) & (positions <= edge - band)).all(axis=1))


def _tolerances(truth: Floats, tolerance: float | None, pixel: Floats | None) -> Floats:
    """Return the largest distance of a pair for each true column, in (stretched) px."""
    if tolerance is not None:
        if not (math.isfinite(tolerance) and tolerance > 0):
            raise DataError(f"tolerance is {tolerance}", needed="a positive number of px")
        return np.full(len(truth), float(tolerance))
    limits = np.full(len(truth), np.inf)
    if len(truth) > 1:
        limits = 0.5 * cKDTree(truth).query(truth, k=2)[0][:, 1]
    if pixel is not None:
        limits = np.minimum(limits, _LARGEST_TOLERANCE_NM / math.sqrt(pixel[0] * pixel[1]))
    if not np.isfinite(limits).all():
        raise DataError(
            "one true column and no pixel size: no nearest neighbour to take a tolerance from",
            needed="tolerance in px or pixel_size_nm",
            todo="pass tolerance=",
        )
    return limits


def _assign(found: Floats, truth: Floats, limits: Floats) -> npt.NDArray[np.int64]:
    """Return (n, 2) pairs: most pairs first, then least sum of squared relative distances."""
    if not len(found) or not len(truth):
        return np.zeros((0, 2), dtype=np.int64)
    near = cKDTree(found).query_ball_point(truth, limits)
    t = np.repeat(np.arange(len(truth)), [len(n) for n in near])
    f = np.array([i for n in near for i in n], dtype=np.int64)
    d2 = ((found[f] - truth[t]) ** 2).sum(axis=1) / max(float(limits.max()) ** 2, 1e-300)
    # a pair whose two ends have no other candidate needs no optimisation
    alone = (np.bincount(t, minlength=len(truth))[t] == 1) & (np.bincount(f, minlength=len(found))[f] == 1)
    pairs = [np.stack([f[alone], t[alone]], axis=1)]
    f, t, d2 = f[~alone], t[~alone], d2[~alone]
    if len(f):
        pairs.append(_sparse_hungarian(f, t, d2))
    out = np.concatenate(pairs).astype(np.int64)
    return out[np.lexsort((out[:, 1], out[:, 0]))]


def _sparse_hungarian(
    f: npt.NDArray[np.int64], t: npt.NDArray[np.int64], cost: Floats
) -> npt.NDArray[np.int64]:
    """Solve each connected group of candidate pairs; every found column may also stay unmatched."""
    rows, r = np.unique(f, return_inverse=True)
    cols, c = np.unique(t, return_inverse=True)
    links = sparse.csr_array((np.ones(len(r)), (r, c + len(rows))), shape=(len(rows) + len(cols),) * 2)
    group = connected_components(links, directed=False)[1]
    largest = int(np.bincount(group[: len(rows)]).max())
    # staying unmatched costs more than any rearrangement of the group could save
    unmatched = 2.0 * (largest + 1)
    dummy = np.arange(len(rows))
    weights = np.concatenate([cost + 1.0, np.full(len(rows), 1.0 + unmatched)])  # + 1: zeros would be dropped
    graph = sparse.csr_array(
        (weights, (np.concatenate([r, dummy]), np.concatenate([c, len(cols) + dummy]))),
        shape=(len(rows), len(cols) + len(rows)),
    )
    i, j = min_weight_full_bipartite_matching(graph)
    real = j < len(cols)
    return np.stack([rows[i[real]], cols[j[real]]], axis=1)
