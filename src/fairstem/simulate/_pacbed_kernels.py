"""Kernels of the PACBED table: decode one thickness, unfold the symmetry, add up the beams."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["add_beams", "decode", "unfold"]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def decode(amplitude, first, weights):  # type: ignore[no-untyped-def]
    """Intensities of all slots: amplitudes squared, `weights` over the thicknesses from `first` on."""
    slots = amplitude.shape[1]
    out = np.zeros(slots, dtype=np.float32)
    for k in range(weights.size):
        if weights[k] == 0.0:
            continue
        weight = np.float32(weights[k] / 65535.0**2)
        row = amplitude[first + k]
        for i in range(slots):
            value = np.float32(row[i])
            out[i] += weight * value * value
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def unfold(intensity, which, operation, image, slot, chosen, low, first, last, out):  # type: ignore[no-untyped-def]
    """Fill ``out (beam, y, x)``: the chosen beams for a box of directions that starts at grid point `low`.

    Only points from `first` to `last` (beam, 2) of the box are looked up; `out` must be zero before.
    """
    for y in range(out.shape[1]):
        gy = low[0] + y
        if gy < 0 or gy >= which.shape[0]:
            continue
        for x in range(out.shape[2]):
            gx = low[1] + x
            if gx < 0 or gx >= which.shape[1] or which[gy, gx] < 0:
                continue
            # the values of one direction lie together: beams are the inner loop
            slots, images = slot[which[gy, gx]], image[operation[gy, gx]]
            for n in range(chosen.size):
                if first[n, 0] <= y <= last[n, 0] and first[n, 1] <= x <= last[n, 1]:
                    place = slots[images[chosen[n]]]
                    if place >= 0:
                        out[n, y, x] = intensity[place]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _quintic(position, weights):  # type: ignore[no-untyped-def]
    """Fill the weights of the 6 points around `position` (Lagrange); return the first of them."""
    base = int(np.floor(position))
    f = position - base
    if f > 1.0 - 1e-7:
        base, f = base + 1, 0.0
    for i in range(6):
        weights[i] = 0.0
    if f < 1e-7:  # on a grid point: exact
        weights[2] = 1.0
    else:
        for i in range(6):
            product = 1.0
            for j in range(6):
                if j != i:
                    product *= (f + 2 - j) / (i - j)
            weights[i] = product
    return base - 2


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _weight(squared, semiangle, edge):  # type: ignore[no-untyped-def]
    """How much of a pixel at this squared radius lies in the aperture; `edge` is the width of its border."""
    if edge == 0.0:
        return 1.0 if squared <= (semiangle + 1e-9) ** 2 else 0.0
    if squared >= (semiangle + 0.5 * edge) ** 2:
        return 0.0
    if semiangle > 0.5 * edge and squared <= (semiangle - 0.5 * edge) ** 2:
        return 1.0
    return min(1.0, max(0.0, (semiangle - np.sqrt(squared)) / edge + 0.5))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _columns(origin, step, place, px, low, high, starts, weights):  # type: ignore[no-untyped-def]
    """First points and weights of the interpolation for the pixels from `low` to `high`, the same in all rows."""
    for x in range(low, high + 1):
        starts[x - low] = _quintic(origin + (x * px - place) / step, weights[x - low])


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_beams(box, origin, step, places, px, semiangle, edge, field, out):  # type: ignore[no-untyped-def]
    """Add all beams into ``out (k_y, k_x)``; return the sum of the aperture's weights.

    box: intensities (beam, y, x) of directions; origin: the tilt's place in it, in its points; step: its step in mrad;
    places: the beams' angles in mrad; px: mrad per pixel of `out`; field: radius of the field of view in mrad.
    """
    half = out.shape[0] // 2
    reach, limit = semiangle + edge, field * field * (1 + 1e-9) / px**2
    weights_y = np.zeros(6)
    weights_x, starts = np.zeros((out.shape[1], 6)), np.zeros(out.shape[1], dtype=np.int64)
    line = np.zeros(box.shape[2], dtype=np.float32)
    for n in range(places.shape[0]):
        y_low = max(-half, int(np.ceil((places[n, 0] - reach) / px)))
        y_high = min(half, int(np.floor((places[n, 0] + reach) / px)))
        x_low = max(-half, int(np.ceil((places[n, 1] - reach) / px)))
        x_high = min(half, int(np.floor((places[n, 1] + reach) / px)))
        _columns(origin[1], step[1], places[n, 1], px, x_low, x_high, starts, weights_x)
        for y in range(y_low, y_high + 1):
            qy = y * px - places[n, 0]
            first_y = _quintic(origin[0] + qy / step[0], weights_y)
            # the pixels of this row that are in the field and in the aperture
            chord = np.sqrt(max(0.0, reach * reach - qy * qy))
            edge_x = int(np.sqrt(max(0.0, limit - y * y)))
            left = max(x_low, -edge_x, int(np.ceil((places[n, 1] - chord) / px)))
            right = min(x_high, edge_x, int(np.floor((places[n, 1] + chord) / px)))
            if y * y > limit or right < left:
                continue
            begin, end = starts[left - x_low], starts[right - x_low] + 6
            line[begin:end] = 0.0
            for k in range(6):
                if weights_y[k] != 0.0:
                    factor = np.float32(weights_y[k])
                    for i in range(begin, end):
                        line[i] += factor * box[n, first_y + k, i]
            for x in range(left, right + 1):
                qx = x * px - places[n, 1]
                w, first = weights_x[x - x_low], starts[x - x_low]
                value = w[0] * line[first] + w[1] * line[first + 1] + w[2] * line[first + 2]
                value += w[3] * line[first + 3] + w[4] * line[first + 4] + w[5] * line[first + 5]
                out[y + half, x + half] += _weight(qy * qy + qx * qx, semiangle, edge) * value
    total = 0.0
    size = int(np.ceil(reach / px))
    for y in range(-size, size + 1):
        for x in range(-size, size + 1):
            total += _weight(px * px * (y * y + x * x), semiangle, edge)
    return total
