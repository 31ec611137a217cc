"""The pictures of a denoising report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem import plot
from fairstem.cli.denoised import LIKELY, Denoised
from fairstem.plot.numbers import significant
from fairstem.plot.report import Picture

__all__ = ["before_after_png", "figures"]

WIDTH = 6.4
_CROP = 112  # px


def _height(denoised: Denoised, wide: float) -> float:
    ny, nx = denoised.image.shape
    size = denoised.pixel_size_nm or (1.0, 1.0)
    return float(np.clip(wide * ny * size[0] / (nx * size[1]), 1.5, 9.0))


def _canvas(denoised: Denoised, wide: float = WIDTH - 0.9, room: float = 0.9) -> Any:
    """Return axes as high as the image needs, with room for a colour bar or a legend."""
    return plot.figure(wide + room, _height(denoised, wide)).subplots()


def before_after_png(denoised: Denoised, dpi: float = 150, colours: int | None = None) -> bytes:
    """Draw the whole image as recorded and denoised, on one grey scale.

    Parameters
    ----------
    denoised
        What was denoised.
    dpi
        Dots per inch.
    colours
        Reduce to a palette of so many colours.

    Returns
    -------
    bytes
        PNG.
    """
    fig = plot.figure(9.2, _height(denoised, 4.5) + 0.3)
    left, right = fig.subplots(1, 2)
    after = plot.image(denoised.clean, ax=right, pixel_size_nm=denoised.pixel_size_nm)
    before = plot.image(denoised.image, ax=left, pixel_size_nm=denoised.pixel_size_nm)
    before.image.set_clim(*after.image.get_clim())
    for ax, words in ((left, "as recorded"), (right, "denoised")):
        ax.set_title(words, fontsize=10, loc="left")
    return plot.to_png(fig, dpi, colours)


def figures(denoised: Denoised) -> list[Picture]:
    """Draw what can be drawn of a denoised image.

    Parameters
    ----------
    denoised
        What was denoised.

    Returns
    -------
    list of Picture
        Before and after first; what needs a crystal only where there is one.
    """
    return list(_figures(denoised))


def _figures(denoised: Denoised) -> Iterator[Picture]:
    text = f"{denoised.title}: as recorded, and denoised, on one grey scale."
    yield Picture(before_after_png(denoised, 110, colours=256), text, text, wide=True)
    yield _crop(denoised)
    if len(denoised.found.lattices):
        yield _deviations(denoised)
        yield _share(denoised)
        if denoised.found.crystal is not None:
            yield _put_back(denoised, denoised.found.crystal)
    yield _residual(denoised)
    yield _structure(denoised)
    if len(denoised.found.retention):
        yield _kept(denoised)


def _part(denoised: Denoised) -> tuple[tuple[int, int, int], str]:
    """Return the part that is shown in detail, and why this one: the surest deviation is in its middle."""
    side = min(_CROP, *denoised.image.shape)
    if not len(denoised.likely):
        return plot.contrast_part(denoised.clean, side), "the part with most contrast"
    first = denoised.likely.iloc[0]
    corner = [
        int(np.clip(round(float(first[axis])) - side // 2, 0, size - side))
        for axis, size in zip("yx", denoised.image.shape, strict=True)
    ]
    return (corner[0], corner[1], side), "the part about the most certain deviation"


def _crop(denoised: Denoised) -> Picture:
    (y, x, side), why = _part(denoised)
    crystal = denoised.found.crystal
    fig = plot.figure(9.6 if crystal is not None else 6.6, 3.4)
    names = ("as recorded", "denoised", "its crystal alone")
    shown = [denoised.image, denoised.clean] + ([] if crystal is None else [crystal])
    cut = [np.asarray(s, dtype=np.float64)[y : y + side, x : x + side] for s in shown]
    plot.before_after(
        cut[-2],
        cut[-1],
        frame=cut[0] if len(cut) == 3 else None,
        ax=fig.subplots(1, len(cut)),
        pixel_size_nm=denoised.pixel_size_nm,
        crop=(0, 0, side),
        labels=names[: len(cut)],
    )
    words = f"In detail, pixel by pixel, {why}: {side} × {side} px at row {y}, column {x}"
    more = ". What the second picture has and the third has not is what deviates from the crystal"
    return Picture(
        plot.to_png(fig, 110, colours=256),
        f"{words}{more if crystal is not None else ''}.",
        f"{words}: {', '.join(names[: len(cut)])}",
        wide=True,
    )


def _deviations(denoised: Denoised) -> Picture:
    ax = _canvas(denoised, 7.4, room=1.9)
    plot.image(denoised.clean, ax=ax, pixel_size_nm=denoised.pixel_size_nm, dim=0.3)
    drawn = plot.deviations(denoised.deviations, ax=ax, likely=LIKELY)
    number, likely = len(denoised.deviations), len(denoised.likely)
    if not number:
        words = "Nothing deviates from the crystal"
    else:
        words = f"What deviates from the crystal: {number} columns and spots, {likely} more likely than not"
    caption = f"{words}."
    if drawn.arrows is not None:
        caption += (
            f" Arrows start where the crystal has its column and are {drawn.magnified:g} × the displacement."
        )
    if number and denoised.deviations["site"].lt(0).any():
        caption += " Interstitial and missing: more and less than the crystal has, off its columns."
    if likely < number:
        caption += f" Small, hollow: probability below {LIKELY:g}, mostly chance."
    return Picture(
        plot.to_png(ax.get_figure(root=True), 110), caption, f"Map of deviations. {words}", wide=True
    )


def _share(denoised: Denoised) -> Picture:
    ax = _canvas(denoised)
    plot.crystal_share(denoised.found.share, ax=ax, pixel_size_nm=denoised.pixel_size_nm)
    share = 100 * float(denoised.found.share.mean())
    words = f"Where the denoised image stands on the crystal: {significant(share, 3)} % of it"
    rest = "The rest is denoised by matching blocks" if share < 99.95 else "No part needed matching of blocks"
    return Picture(plot.to_png(ax.get_figure(root=True), 110, colours=256), f"{words}. {rest}.", words)


def _put_back(denoised: Denoised, crystal: NDArray[np.float64]) -> Picture:
    ax = _canvas(denoised)
    plot.put_back(denoised.clean, crystal, ax=ax, pixel_size_nm=denoised.pixel_size_nm)
    words = "What the denoised image has beyond its crystal"
    caption = f"{words}: a displaced column is a pair of opposite colours, a dim or bright one a spot."
    if float(denoised.found.share.mean()) < 0.9:
        caption += " Where it does not stand on the crystal, this is what blocks found to repeat."
    return Picture(plot.to_png(ax.get_figure(root=True), 110, colours=256), caption, words)


def _residual(denoised: Denoised) -> Picture:
    ax = _canvas(denoised)
    left = denoised.found.residual
    plot.residual(left, np.zeros_like(left), np.ones_like(left), ax=ax, pixel_size_nm=denoised.pixel_size_nm)
    words = "What was removed, in standard deviations of the noise"
    return Picture(
        plot.to_png(ax.get_figure(root=True), 110, colours=256), f"{words}. It should show nothing.", words
    )


def _structure(denoised: Denoised) -> Picture:
    ax = _canvas(denoised)
    plot.structure_left(denoised.found.whiteness, ax=ax, pixel_size_nm=denoised.pixel_size_nm)
    flagged = 100 * float((denoised.found.whiteness > 4.5).mean())
    words = "Structure in what was removed: excess power of smooth patterns round each place"
    outside = (
        f"{significant(flagged, 2)} % of the area lies beyond 4.5" if flagged else "No place is beyond 4.5"
    )
    return Picture(
        plot.to_png(ax.get_figure(root=True), 110, colours=256),
        f"{words}, in standard deviations of white noise. {outside}.",
        f"Map. {words}. {outside}",
    )


def _kept(denoised: Denoised) -> Picture:
    fig = plot.figure(8.4, 3.4)
    plot.kept(denoised.found.retention, ax=fig.subplots(1, 2), unit=denoised.unit)
    words = (
        "What is kept of a displacement, and of a loss of intensity, of a single column, by size; expected at "
        f"this dose with strength {denoised.strength:g}"
    )
    return Picture(
        plot.to_png(fig, 110),
        f"{words}. Dashed: 90 %. What lies far to the left of where a curve rises is erased: a denoised image "
        "that looks perfect there says nothing.",
        words,
        wide=True,
    )
