"""What denoising did: deviations over their image, where the crystal holds, what is left, what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fairstem.errors import DataError
from fairstem.plot._image import ImageArtists, PixelSize, draw_image
from fairstem.plot._panels import panels
from fairstem.plot.style import CATEGORIES, DIVERGING, SEQUENTIAL, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DeviationArtists", "crystal_share", "deviations", "kept", "put_back", "structure_left"]

# marker and colour both tell the kinds apart
_KINDS = {
    "shift": ("o", CATEGORIES[1]),
    "more intensity": ("^", CATEGORIES[0]),
    "less intensity": ("v", CATEGORIES[2]),
    "shape": ("D", CATEGORIES[4]),
    "vacancy": ("X", CATEGORIES[5]),
    "interstitial": ("P", CATEGORIES[3]),
    "missing": ("s", CATEGORIES[6]),
    "none": (".", CATEGORIES[7]),
}
_LINES = ("-", "--", "-.", ":")
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_ARROW = 0.05  # of the width of the view: length of a typical arrow


class DeviationArtists(NamedTuple):
    """What `deviations` draws: marks by kind, arrows (None without shifts), how much longer than the shifts."""

    marks: dict[str, Any]
    arrows: Any
    magnified: float


def deviations(
    table: pd.DataFrame,
    *,
    ax: Axes | None = None,
    likely: float = 0.5,
    magnify: float | None = None,
    size: float = 7.0,
    legend: bool = True,
) -> DeviationArtists:
    """Mark what deviates from a crystal, one marker and colour a kind, with arrows for shifts.

    Parameters
    ----------
    table
        `y`, `x` in px and `kind`, as `fairstem.denoise.separate` lists them; with `shift_y`, `shift_x` in px
        arrows are drawn, with `relative_intensity` brighter and dimmer columns are told apart.
    ax
        Axes with the image; new ones by default.
    likely
        Rows whose `probability` is below are drawn small, hollow and without arrow.
    magnify
        How much longer than the shift an arrow is; by default a round number that makes them a twentieth of
        the view.
    size
        Diameter of the marks in points.
    legend
        Draw the legend, with the number of each kind.

    Returns
    -------
    DeviationArtists
        Marks by kind, arrows and their magnification.

    Raises
    ------
    DataError
        If the table has no `y`, `x` or `kind`.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"y": [4.0, 9.0], "x": [5.0, 2.0], "kind": ["shift", "vacancy"],
    ...                       "shift_y": [0.5, 0.0], "shift_x": [0.2, 0.0]})
    >>> sorted(deviations(table).marks)
    ['shift', 'vacancy']
    """
    ax = axes(ax)
    if len(table) == 0:
        return DeviationArtists({}, None, 1.0)
    missing = [name for name in ("y", "x", "kind") if name not in table]
    if missing:
        raise DataError(
            f"a table without {', '.join(missing)}", needed="y, x and kind", todo="pass denoise.separate's"
        )
    names = _names(table)
    sure = (
        table["probability"].to_numpy(float) >= likely
        if "probability" in table
        else np.ones(len(table), bool)
    )
    position = table[["y", "x"]].to_numpy(float)
    marks: dict[str, Any] = {}
    for name in [n for n in _KINDS if (names == n).any()]:
        chosen = names == name
        _marks(ax, position[chosen & ~sure], name, 0.6 * size, False, "")
        label = f"{'several' if name == 'none' else name} ({int((chosen & sure).sum())})"
        marks[name] = _marks(
            ax, position[chosen & sure], name, size, True, label if (chosen & sure).any() else ""
        )
    arrows, magnified = _arrows(ax, table, sure & (names == "shift"), magnify)
    if legend and sure.any():
        shown = ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, borderaxespad=0.0)
        if arrows is not None:
            shown.set_title(f"arrows: shift × {magnified:g}")
            shown.get_title().set_fontsize(8)
    return DeviationArtists(marks, arrows, magnified)


def _names(table: pd.DataFrame) -> NDArray[np.str_]:
    """Return the kinds, those of intensity split into more and less."""
    names = table["kind"].to_numpy(dtype=str).astype("U32")
    if "relative_intensity" in table:
        more = np.nan_to_num(table["relative_intensity"].to_numpy(float), nan=1.0) > 1
        names = np.where((names == "intensity") & more, "more intensity", names)
    names = np.where(names == "intensity", "less intensity", names)
    return np.where(np.isin(names, list(_KINDS)), names, "none")


def _marks(ax: Axes, position: NDArray[np.float64], name: str, points: float, sure: bool, label: str) -> Any:
    from matplotlib.patheffects import withStroke

    marker, colour = _KINDS[name]
    hollow = not sure or name == "shift"
    drawn = ax.scatter(
        position[:, 1],
        position[:, 0],
        s=points**2,
        marker=marker,
        facecolors="none" if hollow else colour,
        edgecolors=colour if hollow else "#1c2024",
        linewidths=(1.4 if sure else 0.8) if hollow else 0.5,
        label=label or None,
        zorder=4 if sure else 3,
    )
    if hollow:
        # a dark rim keeps a ring apart from a bright column inside it
        drawn.set_path_effects([withStroke(linewidth=3.0 if sure else 2.0, foreground="#1c2024")])
    return drawn


def _arrows(
    ax: Axes, table: pd.DataFrame, chosen: NDArray[np.bool_], magnify: float | None
) -> tuple[Any, float]:
    if not {"shift_y", "shift_x"} <= set(table.columns) or not chosen.any():
        return None, 1.0
    shift = table.loc[chosen, ["shift_y", "shift_x"]].to_numpy(float)
    start = table.loc[chosen, ["y", "x"]].to_numpy(float) - shift
    good = np.isfinite(shift).all(axis=1) & (shift != 0).any(axis=1)
    if not good.any():
        return None, 1.0
    shift, start = shift[good], start[good]
    if magnify is None:
        left, right = ax.get_xlim()
        wanted = _ARROW * abs(right - left) / float(np.median(np.hypot(*shift.T)))
        magnify = max((s for s in _STEPS if s <= wanted), default=1)
    drawn = ax.quiver(
        start[:, 1],
        start[:, 0],
        magnify * shift[:, 1],
        magnify * shift[:, 0],
        angles="xy",
        scale_units="xy",
        scale=1,
        color=_KINDS["shift"][1],
        width=0.004,
        headwidth=3.5,
        headlength=4.0,
        headaxislength=3.5,
        minlength=0,
        zorder=5,
    )
    return drawn, float(magnify)


def crystal_share(
    share: ArrayLike, *, ax: Axes | None = None, pixel_size_nm: PixelSize = None
) -> ImageArtists:
    """Draw where a denoised image stands on its crystal, and where on blocks alone.

    Parameters
    ----------
    share
        ``(y, x)`` share of the crystal model, 0 to 1.
    ax, pixel_size_nm
        As in `fairstem.plot.image`.

    Returns
    -------
    ImageArtists
        The picture, scale bar and colour bar.

    Raises
    ------
    DataError
        If the map is not 2-D.

    Examples
    --------
    >>> import numpy as np
    >>> crystal_share(np.ones((8, 8))).colour_bar.ax.get_ylabel()
    'share of the crystal'
    """
    values = _map(share, "share")
    return draw_image(values, axes(ax), (0.0, 1.0), pixel_size_nm, SEQUENTIAL, "share of the crystal", True)


def put_back(
    image: ArrayLike, crystal: ArrayLike, *, ax: Axes | None = None, pixel_size_nm: PixelSize = None
) -> ImageArtists:
    """Draw what a denoised image has and its crystal alone has not.

    Parameters
    ----------
    image, crystal
        ``(y, x)`` denoised image, and the crystal without deviations, in the same unit.
    ax, pixel_size_nm
        As in `fairstem.plot.image`.

    Returns
    -------
    ImageArtists
        The picture, scale bar and colour bar. Pairs of opposite colours are displaced columns.

    Raises
    ------
    DataError
        If the two are not 2-D and of one shape.

    Examples
    --------
    >>> import numpy as np
    >>> put_back(np.eye(8), np.zeros((8, 8))).image.get_clim()
    (-1.0, 1.0)
    """
    shown, model = _map(image, "image"), _map(crystal, "crystal")
    if shown.shape != model.shape:
        raise DataError(
            f"image of shape {shown.shape} and crystal of shape {model.shape}", needed="equal shapes"
        )
    difference = shown - model
    size = np.abs(difference[np.isfinite(difference)])
    limit = float(np.percentile(size, 99.8)) if size.size else 0.0
    limit = limit if limit > 0 else 1.0
    label = "denoised − crystal (grey levels)"
    return draw_image(difference, axes(ax), (-limit, limit), pixel_size_nm, DIVERGING, label, True)


def structure_left(
    whiteness: ArrayLike, *, ax: Axes | None = None, pixel_size_nm: PixelSize = None, threshold: float = 4.5
) -> ImageArtists:
    """Draw how much smooth structure a residual holds, place by place; contours where it is too much.

    Parameters
    ----------
    whiteness
        ``(y, x)`` excess power of smooth structure, standard deviations of white noise.
    ax, pixel_size_nm
        As in `fairstem.plot.image`.
    threshold
        Standard deviations from which a place counts as structure; colours end at twice that.

    Returns
    -------
    ImageArtists
        The picture, scale bar and colour bar. Where what was removed is noise, there is no contour.

    Raises
    ------
    DataError
        If the map is not 2-D.

    Examples
    --------
    >>> import numpy as np
    >>> structure_left(np.zeros((8, 8))).image.get_clim()
    (0.0, 9.0)
    """
    values = _map(whiteness, "whiteness")
    ax = axes(ax)
    label = "structure in the residual (sd of white noise)"
    drawn = draw_image(values, ax, (0.0, 2 * threshold), pixel_size_nm, "magma", label, True)
    if min(values.shape) > 1 and (values > threshold).any():
        ax.contour(values, levels=[threshold], colors=[CATEGORIES[1]], linewidths=1.2)
    return drawn


def _map(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"{name} of shape {array.shape}", needed="a 2-D array (y, x)")
    return array


def kept(
    table: pd.DataFrame,
    *,
    ax: Sequence[Axes] | None = None,
    unit: str = "pm",
    level: float = 0.9,
    most: int = 6,
) -> list[Any]:
    """Draw what is kept of a displacement and of a loss of intensity of one column, by its size.

    Parameters
    ----------
    table
        `quantity` ("shift" or "intensity"), `amount`, `kept`, and where there are several `crystal` and
        `site`, as `fairstem.denoise.Separation.retention`.
    ax
        Two axes; new ones by default.
    unit
        Of displacements.
    level
        A line is drawn at this share.
    most
        Kinds of column that are drawn at most.

    Returns
    -------
    list of matplotlib.lines.Line2D
        Curves of displacements, then of intensities.

    Raises
    ------
    DataError
        If the table lacks a column, or other than two axes are given.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"quantity": ["shift", "shift", "intensity"], "amount": [5.0, 10.0, 0.5],
    ...                       "kept": [0.2, 0.9, 1.0]})
    >>> len(kept(table))
    2
    """
    missing = [name for name in ("quantity", "amount", "kept") if name not in table]
    if missing:
        raise DataError(f"a table without {', '.join(missing)}", needed="quantity, amount and kept")
    keys = [name for name in ("crystal", "site") if name in table]
    groups = list(table.groupby(keys, sort=True)) if keys else [((), table)]
    several = "crystal" in keys and table["crystal"].nunique() > 1
    drawn = []
    texts = (("shift", f"displacement ({unit})", 1.0), ("intensity", "loss of intensity (%)", 100.0))
    for where, (quantity, label, scale) in zip(panels(ax, 2, 8.4, 3.4), texts, strict=True):
        where.axhline(level, color="#5b6570", linewidth=0.8, linestyle=(0, (2, 2)))
        for number, (key, group) in enumerate(groups[:most]):
            own = group[group["quantity"] == quantity].sort_values("amount")
            if len(own):
                (line,) = where.plot(
                    scale * own["amount"].to_numpy(float),
                    own["kept"].to_numpy(float),
                    marker="o",
                    markersize=3,
                    color=CATEGORIES[(6, 5, 3, 2, 0, 1)[number % 6]],
                    linestyle=_LINES[number % len(_LINES)],
                    label=_kind(dict(zip(keys, key, strict=True)), several),
                )
                drawn.append(line)
        where.set_ylim(0, 1.05)
        where.set_xlim(left=0)
        where.set_xlabel(label)
        where.set_ylabel("share that is kept")
        where.spines[["top", "right"]].set_visible(False)
        if keys and where.get_legend_handles_labels()[0]:
            where.legend(fontsize=8, loc="lower right", frameon=False)
    return drawn


def _kind(key: dict[Any, Any], several: bool) -> str:
    parts = [f"crystal {int(key['crystal']) + 1}"] if several else []
    if "site" in key:
        parts.append(f"columns of site {int(key['site'])}")
    return ", ".join(parts)
