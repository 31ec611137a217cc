"""The fitted lattice over its image: vectors, unit cell, sites without a column, doubles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairstem.errors import DataError
from fairstem.plot._columns import marker_points
from fairstem.plot.style import CATEGORIES, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["lattice"]


def _points(values: ArrayLike | None, name: str) -> NDArray[np.float64]:
    array = np.empty((0, 2)) if values is None else np.asarray(values, dtype=float)
    if array.size == 0:
        return np.empty((0, 2))
    if array.ndim != 2 or array.shape[1] != 2:
        raise DataError(f"{name} of shape {array.shape}", needed="shape (n, 2): y, x in px")
    return array


def lattice(
    vectors: ArrayLike,
    origin: ArrayLike,
    *,
    ax: Axes | None = None,
    missing: ArrayLike | None = None,
    duplicates: ArrayLike | None = None,
    labels: tuple[str, str] = ("a", "b"),
    legend: bool = True,
) -> dict[str, Any]:
    """Draw lattice vectors, the unit cell, and the sites that the count found wrong.

    Parameters
    ----------
    vectors
        (2, 2) lattice vectors, one a row, (dy, dx) in px.
    origin
        (y, x) in px, where the cell is drawn; choose a lattice point near the centre.
    ax
        Axes with the image; new ones by default.
    missing
        (n, 2) predicted positions (y, x) without a column.
    duplicates
        (n, 2) positions (y, x) of columns that share a site with another.
    labels
        Names of the two vectors.
    legend
        Explain the marks if there are any.

    Returns
    -------
    dict
        Artists by name: ``"cell"``, ``"a"``, ``"b"``, ``"missing"``, ``"duplicates"``.

    Raises
    ------
    DataError
        If shapes are wrong or the vectors are parallel.

    Examples
    --------
    >>> drawn = lattice([[10, 0], [0, 10]], (20, 20), missing=[[30, 30]])
    >>> sorted(drawn)
    ['a', 'b', 'cell', 'missing']
    """
    from matplotlib.patches import Polygon

    ax = axes(ax)
    base, start = np.asarray(vectors, dtype=float), np.asarray(origin, dtype=float)
    if base.shape != (2, 2) or start.shape != (2,) or not np.isfinite([*base.ravel(), *start]).all():
        raise DataError(
            f"vectors of shape {base.shape} and origin of shape {start.shape}",
            needed="finite (2, 2) and (2,)",
        )
    area = abs(float(np.linalg.det(base)))
    if area <= 1e-6 * float((base**2).sum()):
        raise DataError("lattice vectors that are parallel or zero", needed="two independent vectors")
    corners = np.array([start, start + base[0], start + base.sum(0), start + base[1]])
    cell = Polygon(
        corners[:, ::-1], closed=True, fill=False, edgecolor="white", linewidth=1.0, linestyle="--", zorder=4
    )
    drawn: dict[str, Any] = {"cell": ax.add_patch(cell)}
    for number, (name, vector) in enumerate(zip(labels, base, strict=True)):
        drawn["ab"[number]] = _vector(ax, start, vector, base[1 - number], name, CATEGORIES[(5, 1)[number]])
    size = marker_points(ax, float(np.sqrt(area)), 0.5)
    for key, values, marker, hue in (
        ("missing", missing, "x", CATEGORIES[5]),
        ("duplicates", duplicates, "s", CATEGORIES[4]),
    ):
        found = _points(values, key)
        if len(found):
            drawn[key] = ax.scatter(
                found[:, 1],
                found[:, 0],
                marker=marker,
                s=size**2,
                color=hue if marker == "x" else None,
                facecolors=None if marker == "x" else "none",
                edgecolors=None if marker == "x" else hue,
                linewidths=1.5,
                label=f"{key} ({len(found)})",
                zorder=5,
            )
    if legend and {"missing", "duplicates"} & drawn.keys():
        ax.legend(loc="upper left", fontsize=8, framealpha=0.85).set_zorder(11)
    return drawn


def _vector(
    ax: Axes,
    start: NDArray[np.float64],
    vector: NDArray[np.float64],
    other: NDArray[np.float64],
    name: str,
    colour: str,
) -> Any:
    from matplotlib.patheffects import withStroke

    tip = start + vector
    arrow = ax.annotate(
        "",
        xy=(tip[1], tip[0]),
        xytext=(start[1], start[0]),
        arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 0, "shrinkB": 0},
        zorder=6,
    )
    # the name stands outside the cell, beside the middle of its arrow
    outward = -other / np.linalg.norm(other)
    middle = start + 0.5 * vector
    ax.annotate(
        name,
        xy=(middle[1], middle[0]),
        xytext=(outward[1] * 10, -outward[0] * 10),
        textcoords="offset points",
        color=colour,
        fontweight="bold",
        ha="center",
        va="center",
        zorder=7,
        path_effects=[withStroke(linewidth=2.5, foreground="black")],
    )
    return arrow
