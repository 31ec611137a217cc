"""Projected crystals: two-dimensional lattices with a basis, as tables of atom columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairstem.errors import DataError

__all__ = [
    "ProjectedCell",
    "Site",
    "bravais_cell",
    "cspbbr3",
    "fcc110",
    "fcc111",
    "graphene",
    "silicon110",
    "square",
    "srtio3",
    "ws2",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Site:
    """One column of the projected cell.

    Parameters
    ----------
    y, x
        Position as fractions of the first and the second cell vector.
    species
        Name, such as ``"Sr"``.
    height
        Peak height relative to the brightest column.
    width_nm
        Sigma of the peak in nm.
    """

    y: float
    x: float
    species: str
    height: float = 1.0
    width_nm: float = 0.045


@dataclass(frozen=True)
class ProjectedCell:
    """A two-dimensional lattice with a basis.

    Parameters
    ----------
    name
        What it is, for tables and captions.
    vectors_nm
        Two cell vectors, each (y, x), in nm.
    sites
        The columns of one cell.

    Examples
    --------
    >>> table = srtio3().columns((128, 128), 0.0195)
    >>> sorted(set(table["species"]))
    ['Sr', 'Ti']
    """

    name: str
    vectors_nm: tuple[tuple[float, float], tuple[float, float]]
    sites: tuple[Site, ...]

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors_nm, dtype=np.float64)
        if vectors.shape != (2, 2) or not np.isfinite(vectors).all() or abs(np.linalg.det(vectors)) < 1e-9:
            raise DataError(
                f"vectors_nm is {self.vectors_nm}",
                needed="two vectors (y, x) in nm that span a plane",
                todo="e.g. ((0.39, 0.0), (0.0, 0.39))",
            )
        if not self.sites:
            raise DataError("the cell has no sites", needed="at least one Site")

    def with_width(self, width_nm: float) -> ProjectedCell:
        """Return the same cell with all columns of one width, in nm."""
        return replace(self, sites=tuple(replace(site, width_nm=width_nm) for site in self.sites))

    def columns(
        self,
        shape: tuple[int, int],
        pixel_size_nm: float,
        *,
        rotation: float = 0.0,
        offset: tuple[float, float] = (0.0, 0.0),
        margin_nm: float = 0.3,
    ) -> pd.DataFrame:
        """Fill a field of view with columns.

        Parameters
        ----------
        shape
            ``(ny, nx)`` of the image.
        pixel_size_nm
            Pixel size in nm.
        rotation
            Radians, turning +x towards +y.
        offset
            Where the origin of cell (0, 0) lies, in px from the middle of the image.
        margin_nm
            Columns up to this far outside the image are kept: their tails reach into it.

        Returns
        -------
        pandas.DataFrame
            `y, x` [px], `height` (relative), `width` [px], `species`, cell indices `i, j`, `site`.

        Raises
        ------
        DataError
            Pixel size or margin out of range.

        Notes
        -----
        Cost: ``O(number of columns)``.
        """
        if not (math.isfinite(pixel_size_nm) and pixel_size_nm > 0 and margin_nm >= 0):
            raise DataError(
                f"pixel_size_nm {pixel_size_nm}, margin_nm {margin_nm}",
                needed="a positive pixel size, margin >= 0",
            )
        cos, sin = math.cos(rotation), math.sin(rotation)
        turn = np.array([[cos, sin], [-sin, cos]])  # (y, x) -> (y cos + x sin, x cos - y sin)
        vectors = np.asarray(self.vectors_nm) @ turn.T / pixel_size_nm
        basis = np.array([[site.y, site.x] for site in self.sites])
        origin = (np.asarray(shape) - 1) / 2 + np.asarray(offset, dtype=np.float64)
        margin = margin_nm / pixel_size_nm
        index = _cells_in_view(vectors, origin, shape, margin + float(np.abs(basis).sum(axis=1).max()) * 2)
        n = len(self.sites)
        cells, which = np.repeat(index, n, axis=0), np.tile(np.arange(n), len(index))
        position = origin + (cells + basis[which]) @ vectors
        high = np.asarray(shape) - 1 + margin
        keep = ((position >= -margin) & (position <= high)).all(axis=1)
        sites = [self.sites[k] for k in which[keep]]
        return pd.DataFrame(
            {
                "y": position[keep, 0],
                "x": position[keep, 1],
                "height": [site.height for site in sites],
                "width": [site.width_nm / pixel_size_nm for site in sites],
                "species": pd.Series([site.species for site in sites], dtype=object),
                "i": cells[keep, 0],
                "j": cells[keep, 1],
                "site": which[keep],
            }
        )


def _cells_in_view(
    vectors: Floats, origin: Floats, shape: tuple[int, int], margin: float
) -> npt.NDArray[np.int64]:
    """Return (n, 2) indices of all cells whose parallelogram can touch the padded view."""
    corners = np.array([[y, x] for y in (-margin, shape[0] + margin) for x in (-margin, shape[1] + margin)])
    fractions = (corners - origin) @ np.linalg.inv(vectors)
    low, high = np.floor(fractions.min(axis=0)) - 2, np.ceil(fractions.max(axis=0)) + 2
    i, j = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1), indexing="ij")
    return np.stack([i.ravel(), j.ravel()], axis=1).astype(np.int64)


def square(a_nm: float = 0.3905, *, width_nm: float = 0.05, species: str = "A") -> ProjectedCell:
    """Return a square lattice with one column a cell."""
    return ProjectedCell("square", ((a_nm, 0.0), (0.0, a_nm)), (Site(0, 0, species, 1.0, width_nm),))


def bravais_cell(
    kind: Literal["square", "rectangular", "centred-rectangular", "hexagonal", "oblique"],
    a_nm: float = 0.3,
    b_nm: float = 0.4,
    angle_deg: float = 80.0,
    *,
    width_nm: float = 0.045,
) -> ProjectedCell:
    """Return one of the five two-dimensional Bravais lattices with one column a lattice point.

    Parameters
    ----------
    kind
        Which one.
    a_nm, b_nm
        Sides of the (conventional) cell in nm, along +x and towards +y; `b_nm` is not used where
        the sides are equal.
    angle_deg
        Angle between them, for ``"oblique"``.
    width_nm
        Sigma of a column in nm.

    Returns
    -------
    ProjectedCell
        The cell.

    Raises
    ------
    DataError
        Unknown kind, or sides that span no plane.

    Examples
    --------
    >>> bravais_cell("centred-rectangular", 0.3, 0.5).sites[1].y
    0.5
    """
    angle = math.radians({"hexagonal": 60.0, "oblique": angle_deg}.get(kind, 90.0))
    sides = {"square": (a_nm, a_nm), "hexagonal": (a_nm, a_nm)}.get(kind, (a_nm, b_nm))
    if kind not in ("square", "rectangular", "centred-rectangular", "hexagonal", "oblique"):
        raise DataError(
            f"kind is {kind!r}", needed="square, rectangular, centred-rectangular, hexagonal or oblique"
        )
    vectors = ((0.0, sides[0]), (sides[1] * math.sin(angle), sides[1] * math.cos(angle)))
    sites = [Site(0, 0, "A", 1.0, width_nm)]
    if kind == "centred-rectangular":
        sites.append(Site(0.5, 0.5, "A", 1.0, width_nm))
    return ProjectedCell(kind, vectors, tuple(sites))


def srtio3(a_nm: float = 0.3905, *, ratio: float = 0.45, width_nm: float = 0.05) -> ProjectedCell:
    """Return a perovskite along [100]: A columns at the corners, B of height `ratio` in the middle."""
    sites = (Site(0, 0, "Sr", 1.0, width_nm), Site(0.5, 0.5, "Ti", ratio, width_nm))
    return ProjectedCell("SrTiO3 [100]", ((a_nm, 0.0), (0.0, a_nm)), sites)


def cspbbr3(a_nm: float = 0.587, *, width_nm: float = 0.06) -> ProjectedCell:
    """Return pseudo-cubic CsPbBr3 along [100]: Pb/Br, Cs and two pure Br columns a cell."""
    sites = (
        Site(0, 0, "Pb", 1.0, width_nm),
        Site(0.5, 0.5, "Cs", 0.55, width_nm),
        Site(0.5, 0.0, "Br", 0.35, width_nm),
        Site(0.0, 0.5, "Br", 0.35, width_nm),
    )
    return ProjectedCell("CsPbBr3 [100]", ((a_nm, 0.0), (0.0, a_nm)), sites)


def silicon110(a_nm: float = 0.5431, *, width_nm: float = 0.035) -> ProjectedCell:
    """Return diamond-type silicon along [110]: dumbbells a/4 (136 pm) apart, along [001] = +y."""
    sites = tuple(
        Site(y, x, "Si", 1.0, width_nm) for y, x in ((0.0, 0.0), (0.25, 0.0), (0.5, 0.5), (0.75, 0.5))
    )
    return ProjectedCell("Si [110]", ((a_nm, 0.0), (0.0, a_nm / math.sqrt(2))), sites)


def _honeycomb(name: str, a_nm: float, first: Site, second: Site) -> ProjectedCell:
    vectors = ((0.0, a_nm), (a_nm * math.sqrt(3) / 2, a_nm / 2))
    return ProjectedCell(name, vectors, (first, second))


def graphene(a_nm: float = 0.246, *, width_nm: float = 0.035) -> ProjectedCell:
    """Return the honeycomb of graphene."""
    third = 1 / 3
    return _honeycomb(
        "graphene", a_nm, Site(0, 0, "C", 1.0, width_nm), Site(third, third, "C", 1.0, width_nm)
    )


def ws2(a_nm: float = 0.315, *, ratio: float = 0.12, width_nm: float = 0.04) -> ProjectedCell:
    """Return monolayer WS2 from above: W columns, and S2 columns of height `ratio`."""
    third = 1 / 3
    return _honeycomb("WS2", a_nm, Site(0, 0, "W", 1.0, width_nm), Site(third, third, "S2", ratio, width_nm))


def fcc111(a_nm: float = 0.3924, *, species: str = "Pt", width_nm: float = 0.03) -> ProjectedCell:
    """Return an fcc metal along [111]: hexagonal, columns a/sqrt(6) apart (160 pm for Pt)."""
    d = a_nm / math.sqrt(6)
    vectors = ((0.0, d), (d * math.sqrt(3) / 2, d / 2))
    return ProjectedCell(f"{species} [111]", vectors, (Site(0, 0, species, 1.0, width_nm),))


def fcc110(a_nm: float = 0.3924, *, species: str = "Pt", width_nm: float = 0.04) -> ProjectedCell:
    """Return an fcc metal along [110]: centred rectangle, a along +y ([001]) and a/sqrt(2) along +x."""
    sites = (Site(0, 0, species, 1.0, width_nm), Site(0.5, 0.5, species, 1.0, width_nm))
    return ProjectedCell(f"{species} [110]", ((a_nm, 0.0), (0.0, a_nm / math.sqrt(2))), sites)
