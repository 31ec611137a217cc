"""Fit a crystal to an image: one cell repeated, with slow displacement, gain and background."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fairstem.denoise._contracts import Crystal, Estimate, FoundLattice
from fairstem.denoise._crystal import kernels
from fairstem.denoise._crystal.cells import list_sites
from fairstem.denoise._crystal.fields import Smoothed, box_grid, smooth_displacement, smooth_intensity
from fairstem.denoise._crystal.growing import grow_displacement
from fairstem.denoise._crystal.scan import Scan, fit_rows, fit_waves, still
from fairstem.denoise._crystal.template import Template, fit_template, table_shape
from fairstem.errors import DataError

__all__ = ["fit_crystal"]

Floats = NDArray[np.float64]
_ROUNDS = 5
_GAIN = 2.0  # in log-likelihood: less is not worth a round
_LOWEST_GAIN = 0.02
_EMPTY = 0.15  # of the mean: the smallest variance that a pixel is weighted by
_FLOOR = 0.02  # of the mean: expected counts are positive


@dataclass(frozen=True)
class _Data:
    """Counts, their weights, and the lattice."""

    k: Floats
    weight: Floats
    vectors: Floats
    inverse: Floats
    size: tuple[int, int]
    floor: float


@dataclass(frozen=True)
class _State:
    """Template and fields of one round; `displacement` and `intensity` on boxes, the rest on pixels."""

    displacement: Floats
    intensity: Floats
    scan: Scan
    u: Floats
    levels: Floats
    template: Template | None = None
    moved: Smoothed | None = None
    levelled: Smoothed | None = None


_Sums = tuple[Floats, Floats, Floats, Floats, float]
_Step = Callable[[_Data, _State, _Sums], _State | None]


def fit_crystal(
    k: Floats,
    lattice: FoundLattice,
    weight: Floats | None = None,
    *,
    excluded: NDArray[np.bool_] | Floats | None = None,
    start: Crystal | None = None,
) -> Crystal:
    """Fit one cell, repeated over a slowly deformed lattice, to kernel counts.

    Prior: the crystal repeats itself; its displacement, gain and background are smooth over a few
    cells. How smooth is chosen by predicting each place from the others, and a field that does not
    predict better than none is left out.

    Parameters
    ----------
    k
        ``(y, x)`` kernel counts: variance equals mean.
    lattice
        The lattice of this crystal.
    weight
        ``(y, x)`` in 0..1: where this crystal is. Default: everywhere.
    excluded
        ``(y, x)`` in 0..1 or bool: pixels that must not influence the fit.
    start
        An earlier fit of the same image to continue from.

    Returns
    -------
    Crystal
        With expected counts > 0 everywhere; outside `weight` they are extrapolated. Around a
        dislocation the displacement jumps by a lattice vector along a line, which the image does
        not show.

    Raises
    ------
    DataError
        Shapes differ, values are not finite, or no pixel is left.

    Notes
    -----
    Cost: about 200 operations a pixel and round, 2 to 6 rounds; 0.2 to 1 s for 512².

    Examples
    --------
    >>> import numpy as np
    >>> from fairstem.priors import PriorCheck
    >>> y, x = np.mgrid[:64, :64]
    >>> clean = 4 + 3 * np.cos(2 * np.pi * y / 8) * np.cos(2 * np.pi * x / 8)
    >>> k = np.random.default_rng(0).poisson(clean).astype(float)
    >>> known = PriorCheck("periodic", "repeats itself", 9.0, 5.0, ">=", "z", "")
    >>> crystal = fit_crystal(k, FoundLattice(np.diag([8.0, 8.0]), 1e-4, known))
    >>> bool(np.abs(crystal.estimate.mean - clean).max() < 0.5)
    True
    """
    data = _checked(k, lattice, weight, excluded)
    state = _started(data, start)
    state, sums = _rounds(data, state, _ROUNDS if start is None else 2)
    state, sums = _simplest(data, state, sums)
    return _crystal(data, lattice, state, sums[0])


def _checked(
    k: Floats, lattice: FoundLattice, weight: Floats | None, excluded: NDArray[np.bool_] | Floats | None
) -> _Data:
    k = np.ascontiguousarray(k, dtype=np.float64)
    if k.ndim != 2 or k.size == 0 or not np.isfinite(k).all():
        raise DataError(f"counts have shape {k.shape}", needed="a finite 2-D array (y, x)")
    used: Floats = np.ones(k.shape) if weight is None else np.array(weight, dtype=np.float64)
    if excluded is not None:
        left_out = np.asarray(excluded, dtype=np.float64)
        if left_out.shape != k.shape:
            raise DataError(f"excluded has shape {left_out.shape}", needed=f"that of the counts, {k.shape}")
        used = used * (1.0 - left_out)
    if used.shape != k.shape or not np.isfinite(used).all() or used.min() < 0:
        raise DataError(f"weight has shape {used.shape}", needed=f"{k.shape}, between 0 and 1")
    vectors = np.ascontiguousarray(lattice.vectors, dtype=np.float64)
    mean = float((used * k).sum() / max(used.sum(), 1e-300))
    if not mean > 0:
        raise DataError(
            f"the mean count of the crystal is {mean:g}", needed="counts in the region of the crystal",
            todo="check weight, excluded and the noise model",
        )  # fmt: skip
    size = box_grid(k.shape, vectors)
    inverse = np.asarray(np.linalg.inv(vectors), dtype=np.float64)
    return _Data(k, used, vectors, inverse, size, _FLOOR * mean)


def _started(data: _Data, start: Crystal | None) -> _State:
    """State before the first round, from an earlier fit, or a grown displacement where it explains more."""
    plain, (by, bx) = _undeformed(data), data.size
    if start is not None:
        return _templated(data, _continued(data, plain, start))
    state = _templated(data, plain)
    grown = grow_displacement(data.k, data.weight, data.size, data.vectors)
    if grown is None:
        return state
    other = _templated(data, replace(plain, displacement=grown))
    # the grown field is smooth over one box: that many parameters it could have fitted to noise
    spent = 2 * by * bx / (4 * math.pi) + _GAIN
    return other if _sums(data, other)[4] - _sums(data, state)[4] > spent else state


def _undeformed(data: _Data) -> _State:
    intensity, none = np.zeros((*data.size, 2)), np.empty(0)
    intensity[..., 0] = 1.0
    return _State(np.zeros((*data.size, 2)), intensity, still(data.k.shape[0]), none, none)


def _templated(data: _Data, state: _State) -> _State:
    # once with uniform weights, once with those of the cell's image
    return _with_template(data, _with_template(data, _on_pixels(data, state)))


def _continued(data: _Data, state: _State, start: Crystal) -> _State:
    """Fields of an earlier fit, at the centres of the boxes."""
    if start.gain.shape != data.k.shape:
        raise DataError(f"start has shape {start.gain.shape}", needed=f"that of the counts, {data.k.shape}")
    (ny, nx), (by, bx) = data.k.shape, data.size
    y = np.clip(np.rint((np.arange(by) + 0.5) * ny / by - 0.5), 0, ny - 1).astype(int)
    x = np.clip(np.rint((np.arange(bx) + 0.5) * nx / bx - 0.5), 0, nx - 1).astype(int)
    at = np.ix_(y, x)
    displacement = np.stack([start.displacement[0][at], start.displacement[1][at]], axis=-1)
    intensity = np.stack([start.gain[at], start.background[at]], axis=-1)
    return replace(state, displacement=displacement, intensity=intensity)


def _on_pixels(data: _Data, state: _State) -> _State:
    """Interpolate fields from boxes to pixels."""
    displacement, intensity = state.displacement, state.intensity
    shape = (data.k.shape[0], data.k.shape[1])
    jumps = any(bool((np.abs(np.diff(displacement, axis=a) @ data.inverse) > 0.4).any()) for a in (0, 1))
    u = _spread(displacement, shape, data, jumps)
    if state.scan.freedom > 0:
        u = u + state.scan.displacement(shape)
    levels = _spread(intensity, shape, data, False)
    levels[0] = np.maximum(levels[0], _LOWEST_GAIN)
    return replace(state, u=u, levels=levels)


def _spread(field: Floats, shape: tuple[int, int], data: _Data, jumps: bool) -> Floats:
    if (field == field[:1, :1]).all():
        out = np.empty((2, *shape))
        out[:] = field[0, 0][:, None, None]
        return out
    return np.asarray(kernels.interpolate(field, shape, data.vectors, data.inverse, jumps))


def _with_template(data: _Data, state: _State) -> _State:
    """Refit the cell's image with the present fields and the present expectation as variance."""
    gain, background = state.levels
    shape = table_shape(data.vectors)
    if state.template is None:
        mean = np.maximum(background + data.floor / _FLOOR, data.floor)
    else:
        cell = kernels.unfold(state.template.table, state.u, data.inverse)
        # pixels that happen to look empty must not rule the fit
        mean = np.maximum(gain * cell + background, data.floor * (_EMPTY / _FLOOR))
    share = data.weight * gain / mean
    sums = kernels.fold(share * gain, share * (data.k - background), state.u, data.inverse, *shape)
    return replace(state, template=fit_template(sums, data.vectors, state.template))


def _sums(data: _Data, state: _State) -> _Sums:
    model = kernels.measure(_template(state).table, state.u, data.inverse)
    gain, background = state.levels
    boxes, rows, anchor, likelihood = kernels.box_sums(
        data.k, model, gain, background, data.weight, data.size, data.floor
    )
    return model, boxes, rows, anchor, likelihood


def _template(state: _State) -> Template:
    if state.template is None:
        raise DataError("the cell has not been fitted yet")
    return state.template


def _rounds(data: _Data, state: _State, rounds: int) -> tuple[_State, _Sums]:
    """Improve fields and template in turn until the likelihood gains nothing."""
    sums = _sums(data, state)
    order = _order(data, state, sums)
    for number in range(rounds):
        before, measured, changed = state, sums, False
        for step in order:
            if step is _row and number == 0 and changed:
                continue  # rows would take what the smooth field has not yet followed
            moved = step(data, state, measured)
            if moved is not None:
                # a new mean of the field is the cell's own: what follows must not see it
                state, changed = _with_template(data, moved), True
                measured = _sums(data, state)
        if not changed:
            break
        gained = measured[4] - sums[4]
        if gained < 0 and number > 0:
            state = before
            break
        sums = measured
        if gained < _GAIN and number > 0:
            break
    return state, sums


def _simplest(data: _Data, state: _State, sums: _Sums) -> tuple[_State, _Sums]:
    """The undeformed crystal where all fields together gain less than their parameters would by chance."""
    if np.ptp(state.u) == 0 and np.ptp(state.levels[0]) == 0 and np.ptp(state.levels[1]) == 0:
        return state, sums
    plain = _templated(data, _undeformed(data))
    known = _sums(data, plain)
    if sums[4] - known[4] > _freedom(state) - _freedom(plain) + _GAIN:
        return state, sums
    return plain, known


def _freedom(state: _State) -> float:
    fields = sum(f.freedom for f in (state.moved, state.levelled) if f is not None)
    return float(_template(state).freedom + fields + state.scan.freedom)


def _order(data: _Data, state: _State, sums: _Sums) -> tuple[_Step, ...]:
    """Whichever of displacement and levels explains more goes first: it disturbs the other less."""
    moved = smooth_displacement(sums[1][..., :5], state.displacement, data.vectors)
    levels = smooth_intensity(sums[1][..., 5:], state.intensity)
    pair = (_move, _level) if moved.gain > levels.gain else (_level, _move)
    return (*pair, _wave, _row)


def _move(data: _Data, state: _State, sums: _Sums) -> _State | None:
    """The displacement that the data ask for; None where it stays."""
    moved = smooth_displacement(sums[1][..., :5], state.displacement, data.vectors)
    field = np.zeros_like(state.displacement)
    if not moved.constant:
        field = moved.field.reshape(field.shape)
    return _changed(data, replace(state, displacement=field, moved=moved), state)


def _level(data: _Data, state: _State, sums: _Sums) -> _State | None:
    """Gain and background that the data ask for; None where they stay."""
    levels = smooth_intensity(sums[1][..., 5:], state.intensity)
    field = _anchored(levels, sums[1][..., 5:], state.intensity.shape)
    return _changed(data, replace(state, intensity=field, levelled=levels), state)


def _wave(data: _Data, state: _State, sums: _Sums) -> _State | None:
    """The vibration that the data ask for; None where it stays."""
    model, (gain, background) = sums[0], state.levels
    mean = np.maximum(gain * model[0] + background, data.floor)
    slope = -gain * model[1:]
    share = data.weight / mean
    information = np.stack([share * slope[0] ** 2, share * slope[0] * slope[1], share * slope[1] ** 2])
    cell = math.sqrt(abs(float(np.linalg.det(data.vectors))))
    scan = fit_waves(slope * (share * (data.k - mean)), information, state.scan, cell)
    return None if scan is None else _on_pixels(data, replace(state, scan=scan))


def _row(data: _Data, state: _State, sums: _Sums) -> _State | None:
    """The shifts of rows that the data ask for; None where they stay."""
    cell = math.sqrt(abs(float(np.linalg.det(data.vectors))))
    scan = fit_rows(sums[2], state.scan, cell)
    return None if scan is None else _on_pixels(data, replace(state, scan=scan))


def _changed(data: _Data, new: _State, old: _State) -> _State | None:
    same = np.abs(new.displacement - old.displacement).max() < 1e-3
    if same and np.abs(new.intensity - old.intensity).max() < 1e-4 * (1 + np.abs(old.intensity).max()):
        return None
    return _on_pixels(data, new)


def _anchored(levels: Smoothed, boxes: Floats, shape: tuple[int, ...]) -> Floats:
    """Gain with mean 1 and background with mean 0: the cell's image carries the rest."""
    out = np.zeros(shape)
    out[..., 0] = 1.0
    if levels.constant:
        return out
    flat = boxes.reshape(-1, 5)
    field = levels.field
    gain = float(flat[:, 2] @ field[:, 0] / flat[:, 2].sum())
    background = float(flat[:, 4] @ field[:, 1] / flat[:, 4].sum())
    out[..., 0] = np.maximum(field[:, 0] / gain, _LOWEST_GAIN).reshape(shape[:2])
    out[..., 1] = (field[:, 1] - background).reshape(shape[:2])
    # where there is no crystal, nothing says how levels go on
    known = boxes[..., 4] > 0.05 * boxes[..., 4].max()
    for c in (0, 1):
        out[..., c] = np.clip(out[..., c], out[known, c].min(), out[known, c].max())
    return out


def _crystal(data: _Data, lattice: FoundLattice, state: _State, model: Floats) -> Crystal:
    gain, background = state.levels
    mean = np.maximum(gain * model[0] + background, data.floor)
    leverage = _leverage(data, state, model, mean)
    sites = list_sites(_template(state), data.vectors, state.u, (gain, background))
    return Crystal(Estimate(mean, leverage), lattice, sites, state.u, gain, background, _freedom(state))


def _leverage(data: _Data, state: _State, model: Floats, mean: Floats) -> Floats:
    """Derivative of each expectation by its own count: of the cell's parameters and of the fields."""
    gain = state.levels[0]
    kept = gain**2 * kernels.unfold(_template(state).spread, state.u, data.inverse)
    by, bx = data.size
    ny, nx = data.k.shape
    iy = np.minimum(np.arange(ny) * by // ny, by - 1)
    ix = np.minimum(np.arange(nx) * bx // nx, bx - 1)
    pairs = ((gain * model[1], gain * model[2]), (model[0], np.ones_like(mean)))
    for smoothed, (first, second) in zip((state.moved, state.levelled), pairs, strict=True):
        if smoothed is None or smoothed.constant:
            continue
        c = smoothed.covariance.reshape(by, bx, 3)[np.ix_(iy, ix)]
        kept = kept + first**2 * c[..., 0] + 2 * first * second * c[..., 1] + second**2 * c[..., 2]
    if state.scan.row_freedom > 0:
        kept = kept + (gain * model[1]) ** 2 * state.scan.variance[:, 0, None]
        kept = kept + (gain * model[2]) ** 2 * state.scan.variance[:, 1, None]
    return np.asarray(np.clip(kept * data.weight / mean, 0.0, 1.0))
