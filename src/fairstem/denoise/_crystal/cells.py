"""The sites of a cell: columns in the cell's image, and where they are in the picture."""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, maximum_filter
from scipy.optimize import least_squares

from fairstem.denoise._crystal.template import Template

__all__ = ["cell_sites", "list_sites"]

Floats = NDArray[np.float64]
_MOST_FITTED = 16  # sites that are fitted together; the curvature of each is enough for more
_PROMINENT = 5.0  # standard errors that a column must stand above the path to any higher one


def cell_sites(template: Template, vectors: Floats) -> Floats:
    """Return ``(n, 5)``: fractional y, x in the cell, width (px), height (counts), base (counts), by height."""
    image = _cell_image(template, template.table.shape)
    peaks = _maxima(image)
    error = math.sqrt(template.variance)
    values = image[peaks[:, 0], peaks[:, 1]]
    order = np.argsort(-values, kind="stable")
    peaks, values = peaks[order], values[order]
    fractions = peaks / np.array(image.shape)
    low = float(image.min())
    kept: list[int] = []
    for i in range(len(peaks)):
        depth = min(
            [float(values[i]) - low, *(_depth(image, fractions[i], fractions[j], vectors) for j in kept)]
        )
        if depth > _PROMINENT * error and values[i] - low > 0.02 * (values[0] - low):
            kept.append(i)
    if not kept:
        return np.empty((0, 5))
    return _fitted(image, fractions[kept], values[kept], vectors)


def _cell_image(template: Template, shape: tuple[int, ...]) -> Floats:
    grid = np.zeros(shape, dtype=np.complex128)
    grid[template.orders[:, 0], template.orders[:, 1]] = template.coefficients
    return np.asarray(scipy.fft.ifft2(grid).real * grid.size)


def _maxima(image: Floats) -> NDArray[np.int64]:
    top = (image == maximum_filter(image, 3, mode="wrap")) & (image > image.mean() * 0.0 + image.min())
    return np.argwhere(top)


def _depth(image: Floats, here: Floats, there: Floats, vectors: Floats) -> float:
    """How far the straight way from one maximum to another falls below the first."""
    best = math.inf
    n = np.array(image.shape)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            away = there - here + (i, j)
            if np.hypot(*(away @ vectors)) > 1.2 * np.hypot(*vectors.T).max():
                continue
            way = (here + np.linspace(0, 1, 65)[:, None] * away) * n
            values = map_coordinates(image, way.T, order=1, mode="grid-wrap")
            best = min(best, float(values[0] - values.min()))
    return best


def _fitted(image: Floats, fractions: Floats, values: Floats, vectors: Floats) -> Floats:
    """Fit one Gaussian a site, all sites of the cell together on one base."""
    n = len(fractions)
    base = float(image.min())
    height = np.maximum(values - base, 1e-12)
    width = np.array(
        [_curved_width(image, f, v - base, vectors) for f, v in zip(fractions, values, strict=True)]
    )
    if n > _MOST_FITTED:
        return np.column_stack([fractions, width, height, np.full(n, base)])
    shape = [min(m, max(8, round(m / 4))) for m in image.shape]
    spots = np.stack(np.meshgrid(*(np.arange(m) / m for m in shape), indexing="ij"), axis=-1).reshape(-1, 2)
    target = map_coordinates(image, (spots * image.shape).T, order=3, mode="grid-wrap")
    shifts = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)], dtype=np.float64)

    def model(p: Floats) -> Floats:
        out = np.full(len(spots), p[-1])
        for y, x, logw, h in p[:-1].reshape(n, 4):
            away = spots - (y, x)
            away -= np.rint(away)
            r = (away[:, None] + shifts) @ vectors
            out += h * np.exp(-0.5 * (r**2).sum(axis=-1) * math.exp(-2 * logw)).sum(axis=1)
        return out

    first = np.concatenate([np.column_stack([fractions, np.log(width), height]).ravel(), [base]])
    fit = least_squares(lambda p: model(p) - target, first, method="lm", xtol=1e-6, ftol=1e-8)
    found = fit.x[:-1].reshape(n, 4)
    moved = found[:, :2] - fractions
    far = np.hypot(*(moved @ vectors).T) > 0.7 * width
    odd = far | (found[:, 3] <= 0) | (np.abs(found[:, 2] - np.log(width)) > 0.7)
    found[odd] = first[:-1].reshape(n, 4)[odd]
    out = np.column_stack([found[:, :2], np.exp(found[:, 2]), found[:, 3], np.full(n, fit.x[-1])])
    return np.asarray(out)


def _curved_width(image: Floats, fraction: Floats, height: float, vectors: Floats) -> float:
    """Gaussian sigma from the curvature of the top."""
    steps = np.array([(0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)])
    spots = (fraction + steps @ np.linalg.inv(vectors)) * np.array(image.shape)
    v = map_coordinates(image, spots.T, order=3, mode="grid-wrap")
    curvature = (4 * v[0] - v[1:].sum()) / 2
    return float(
        np.clip(math.sqrt(height / max(curvature, 1e-6 * height)), 0.7, 0.5 * np.hypot(*vectors.T).max())
    )


def list_sites(template: Template, vectors: Floats, u: Floats, levels: tuple[Floats, Floats]) -> Floats:
    """List all columns in the image and within one cell of its border, where they appear."""
    cell = cell_sites(template, vectors)
    ny, nx = u.shape[1:]
    margin = float(np.hypot(vectors[:, 0], vectors[:, 1]).max())
    reach = margin + float(np.abs(u).max())
    corners = np.array([[y, x] for y in (-reach, ny - 1 + reach) for x in (-reach, nx - 1 + reach)])
    fractions = corners @ np.linalg.inv(vectors)
    low, high = np.floor(fractions.min(axis=0)) - 1, np.ceil(fractions.max(axis=0)) + 1
    i, j = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij")
    cells = np.stack([i.ravel(), j.ravel()], axis=1)
    rows = []
    for number, (fy, fx, width, height, _) in enumerate(cell):
        here = (cells + np.array([fy, fx])) @ vectors
        seen = here.copy()
        for _ in range(8):
            seen = here + _sampled(u, seen)
        gain = _sampled(levels[0][None], seen)[:, 0]
        inside = ((seen >= -margin) & (seen <= np.array([ny, nx]) - 1 + margin)).all(axis=1)
        # where the displacement jumps, a lattice point can have no place in the image
        inside &= (np.abs(here + _sampled(u, seen) - seen) < 0.5).all(axis=1)
        table = np.column_stack(
            [seen, np.full(len(seen), width), np.full(len(seen), float(number)), height * gain]
        )
        rows.append(table[inside])
    return np.concatenate(rows) if rows else np.empty((0, 5))


def _sampled(fields: Floats, at: Floats) -> Floats:
    """Fields (c, y, x) at positions (n, 2), the nearest edge outside: (n, c)."""
    return np.stack([map_coordinates(f, at.T, order=1, mode="nearest") for f in fields], axis=1)
