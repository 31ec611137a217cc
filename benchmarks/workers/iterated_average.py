"""What the peers are given: filtered frames, a start without hops, and the iteration to a common average.

Numpy and scipy alone, so that it runs in the environment of the peers as well as in fairstem's.
Displacements are (frame, 2, y, x) px, order (dy, dx): frame k at (y + dy, x + dx) shows the average at (y, x).
"""

import time
from itertools import pairwise

import numpy as np
from scipy import fft, ndimage

ROUNDS = 2


def filtered(frames, sigma):
    """Return frames in units of their noise (Anscombe), smoothed by a Gaussian, scaled to 0 ... 1 together."""
    equal = 2 * np.sqrt(np.maximum(frames.astype(float), 0) + 0.375)
    smooth = np.stack([ndimage.gaussian_filter(f, sigma) if sigma else f for f in equal])
    low, high = np.percentile(smooth, (0.1, 99.9))
    return (smooth - low) / (high - low)


def sampled(image, displacement, order=3):
    """Return `image` at each pixel plus its displacement, NaN outside of the frame."""
    at = np.mgrid[: image.shape[0], : image.shape[1]] + displacement
    out = ndimage.map_coordinates(image, at, order=order, mode="nearest")
    high = np.reshape(image.shape, (2, 1, 1)) - 1
    out[~((at >= 0) & (at <= high)).all(axis=0)] = np.nan
    return out


def seen_at(frame, displacement, average):
    """Return a frame at its displacement; outside of the frame the average, which says nothing there."""
    values = sampled(frame, displacement)
    return np.where(np.isfinite(values), values, average)


def average(frames, displacement):
    """Return the mean of the frames where they are; the mean of all where none is."""
    total, number = np.zeros(frames.shape[1:]), np.zeros(frames.shape[1:])
    for frame, own in zip(frames, displacement, strict=True):
        values = sampled(frame, own)
        here = np.isfinite(values)
        total[here] += values[here]
        number += here
    return np.where(number > 0, total / np.maximum(number, 1), frames.mean())


def shift_between(fixed, moving, reach):
    """Return (dy, dx): `moving` at (y + dy, x + dx) shows `fixed` at (y, x); normalised over the overlap."""
    size = [fft.next_fast_len(n + int(reach) + 2, real=True) for n in fixed.shape]
    one = fft.rfft2(np.ones_like(fixed), size)
    (f, ff), (m, mm) = (
        [fft.rfft2(a, size) for a in (values, values**2)]
        for values in (fixed - fixed.mean(), moving - moving.mean())
    )

    def correlate(a, b):
        return fft.irfft2(np.conj(a) * b, size)

    count = np.maximum(correlate(one, one), 1)
    sums = correlate(f, one), correlate(one, m)
    squares = correlate(ff, one), correlate(one, mm)
    spread = [np.maximum(s - total**2 / count, 1e-9) for s, total in zip(squares, sums, strict=True)]
    score = (correlate(f, m) - sums[0] * sums[1] / count) / np.sqrt(spread[0] * spread[1])
    dy, dx = (np.fft.fftfreq(n, 1 / n) for n in size)
    score[np.hypot(dy[:, None], dx[None]) > reach] = -2
    best = np.unravel_index(score.argmax(), score.shape)
    return np.array([peak_near(score, best, axis) for axis in (0, 1)])


def peak_near(score, best, axis):
    """Return the signed position of a maximum along an axis, by a parabola through three values."""
    n = score.shape[axis]
    near = [list(best) for _ in range(3)]
    for step, at in zip((-1, 0, 1), near, strict=True):
        at[axis] = (best[axis] + step) % n
    a, b, c = (score[tuple(at)] for at in near)
    part = 0.5 * (a - c) / (a - 2 * b + c) if a - 2 * b + c < 0 and min(a, c) > -2 else 0.0
    whole = best[axis] if best[axis] < n // 2 else best[axis] - n
    return whole + part


def translations(images, reach):
    """Return the shift of each frame (k, 2): consecutive frames, composed, then each to the average of all."""
    steps = [shift_between(a, b, reach) for a, b in pairwise(images)]
    shifts = np.cumsum([np.zeros(2), *steps], axis=0)
    shifts -= np.median(shifts, axis=0)
    flat = np.broadcast_to(shifts[:, :, None, None], (len(images), 2, *images.shape[1:]))
    common = average(images, flat)
    for k, image in enumerate(images):
        shifts[k] += shift_between(common, seen_at(image, flat[k], common), 3.0)
    return shifts - shifts.mean(axis=0)


def compose(start, found):
    """Return the displacement of a frame whose image, sampled at `start`, was then displaced by `found`."""
    at = np.mgrid[: found.shape[1], : found.shape[2]] + found
    return found + np.stack([ndimage.map_coordinates(axis, at, order=1, mode="nearest") for axis in start])


def iterate(images, shifts, register, rounds=ROUNDS):
    """Register every frame to the average of all, `rounds` times; ``register(average, image, start)``.

    After each round the mean over frames is taken off, so that the average has the mean geometry.
    """
    moved = np.broadcast_to(shifts[:, :, None, None], (len(images), 2, *images.shape[1:])).copy()
    for _ in range(rounds):
        common = average(images, moved)
        moved = np.stack([register(common, image, own) for image, own in zip(images, moved, strict=True)])
        moved -= moved.mean(axis=0)
    return moved


def run(pairs, solve):
    """Read each series, time ``solve(frames, reach)`` and write displacement, average and CPU seconds."""
    for given, wanted in zip(pairs[::2], pairs[1::2], strict=True):
        data = np.load(given)
        frames, reach = data["frames"].astype(float), float(data["reach"])
        began = time.process_time()
        moved = solve(frames, reach)
        cpu = time.process_time() - began
        np.savez(wanted, displacement=moved.astype(np.float32), average=average(frames, moved), cpu_s=cpu)
