"""The pictures of a symmetry report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from fairstem import plot
from fairstem.cli.scanned import Scanned
from fairstem.plot.numbers import significant
from fairstem.plot.report import Picture

__all__ = ["figures", "maps_png"]

_ABREAST = 4  # maps side by side
_WIDE = 2.6  # inches of one map


def _aspect(scanned: Scanned) -> float:
    """Return how much higher than wide the scan is."""
    y, x = scanned.pixel_size_nm or (1.0, 1.0)
    ny, nx = scanned.shape[:2]
    return float(np.clip(ny * y / (nx * x), 0.2, 3.0))


def _panels(count: int, scanned: Scanned) -> list[Any]:
    """Return axes for so many maps, four abreast."""
    columns = min(count, _ABREAST)
    rows = -(-count // columns)
    made = plot.figure(_WIDE * columns + 0.8, (_WIDE * _aspect(scanned) + 0.35) * rows)
    grid = made.subplots(rows, columns, squeeze=False).ravel()
    for empty in grid[count:]:
        empty.remove()
    return list(grid[:count])


def _maps(scanned: Scanned, what: Literal["gamma", "standard_error"]) -> Any:
    where = _panels(len(scanned.maps.operations), scanned)
    plot.symmetry_maps(scanned.maps, ax=where, what=what, pixel_size_nm=scanned.pixel_size_nm)
    return where[0].get_figure(root=True)


def maps_png(scanned: Scanned, dpi: float = 150) -> bytes:
    """Draw the map of each operation on one colour scale.

    Parameters
    ----------
    scanned
        What is known of the scan.
    dpi
        Dots per inch.

    Returns
    -------
    bytes
        PNG.
    """
    return plot.to_png(_maps(scanned, "gamma"), dpi)


def figures(scanned: Scanned) -> list[Picture]:
    """Draw what is known of a scan.

    Parameters
    ----------
    scanned
        What is known of the scan.

    Returns
    -------
    list of Picture
        Symmetry maps first.
    """
    return list(_figures(scanned))


def _figures(scanned: Scanned) -> Iterator[Picture]:
    yield _symmetry(scanned)
    if scanned.maps.standard_error is not None:
        yield _errors(scanned)
    if scanned.raw is not None:
        yield _corrected(scanned, scanned.raw)
    yield _pattern(scanned)
    yield _images(scanned)


def _symmetry(scanned: Scanned) -> Picture:
    words = f"{scanned.title}: symmetry of the patterns under {', '.join(scanned.maps.operations)}"
    caption = (
        f"{words}, on one colour scale. γ is 1 where a pattern equals its own image under the operation."
    )
    if not scanned.valid.all():
        caption += " Blue-grey: no value."
    return Picture(plot.to_png(_maps(scanned, "gamma"), 110, colours=256), caption, words, wide=True)


def _errors(scanned: Scanned) -> Picture:
    words = "Standard errors of the maps from counting noise"
    shown = plot.to_png(_maps(scanned, "standard_error"), 110, colours=256)
    return Picture(shown, f"{words}, position by position.", words, wide=True)


def _corrected(scanned: Scanned, raw: Any) -> Picture:
    names = scanned.maps.operations[:2]
    known = {} if scanned.truth is None else {"truth": scanned.truth}
    columns = {**known, "as recorded": raw, "corrected": scanned.maps}
    made = plot.figure(2.9 * len(columns) + 0.9, (2.9 * _aspect(scanned)) * len(names) + 0.4)
    plot.symmetry_comparison(
        columns,
        ax=made.subplots(len(names), len(columns), squeeze=False),
        operations=names,
        limits=plot.symmetry_limits(list(columns.values())),
        pixel_size_nm=scanned.pixel_size_nm,
    )
    before, after = (float(np.median(m.gamma[:2][scanned.valid[:2]])) for m in (raw, scanned.maps))
    words = "What counting noise takes from the symmetry, and the same maps corrected for it"
    medians = f"{significant(before, 3)} as recorded and {significant(after, 3)} corrected"
    caption = f"{words}: the median of these maps is {medians}."
    return Picture(plot.to_png(made, 110, colours=256), caption, words, wide=bool(known))


def _pattern(scanned: Scanned) -> Picture:
    made = plot.figure(8.2, 4.0)
    left, right = made.subplots(1, 2)
    found = scanned.calibration
    options: dict[str, Any] = {
        "mrad_per_px": found.mrad_per_px,
        "center": scanned.center,
        "radius_px": found.radius_px,
        "ellipse": found.ellipse,
    }
    plot.pattern(scanned.pattern, ax=left, **options)
    plot.pattern(scanned.pattern, ax=right, scale="log", **options)
    for ax, text in ((left, "square root of intensity"), (right, "logarithm")):
        ax.set_title(text, fontsize=10, loc="left")
    words = "Mean pattern of the scan (PACBED) with the centre"
    words += " and the edge of the bright-field disc" if found.radius_px is not None else ""
    return Picture(plot.to_png(made, 110, colours=256), f"{words} as measured.", words, wide=True)


def _images(scanned: Scanned) -> Picture:
    count = len(scanned.images)
    where = _panels(count, scanned)
    for ax, (name, values) in zip(where, scanned.images.items(), strict=True):
        plot.image(values, ax=ax, pixel_size_nm=scanned.pixel_size_nm, bar=ax is where[0])
        ax.set_title(name, fontsize=10, loc="left")
    several = count > 1
    words = f"Virtual image{'s' if several else ''}: {', '.join(scanned.images)}"
    return Picture(
        plot.to_png(where[0].get_figure(root=True), 110, colours=256),
        f"{words}, each on its own grey scale." if several else f"{words}.",
        words,
        wide=True,
    )
