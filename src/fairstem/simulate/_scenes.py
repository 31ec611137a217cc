"""The scenes of the named phantoms: columns with relative heights, and the shape of the background."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairstem.errors import DataError
from fairstem.simulate import lattices
from fairstem.simulate.backgrounds import AmorphousBackground, RampBackground, StepBackground
from fairstem.simulate.defects import (
    add_interstitials,
    displace_columns,
    remove_columns,
    scale_columns,
)
from fairstem.simulate.deformations import dislocate, join_grains, strain_columns
from fairstem.simulate.nanoparticle import fcc_particle, nanoparticle_columns

__all__ = ["SCENES", "Scene", "View", "register_scene"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """The field of view, and the generator of what is planted in it."""

    shape: tuple[int, int]
    pixel_size_nm: float
    rng: np.random.Generator

    def px(self, pm: float) -> float:
        """Return a length in px."""
        return pm * 1e-3 / self.pixel_size_nm

    @property
    def middle(self) -> tuple[float, float]:
        """The middle of the image, (y, x) in px."""
        return (self.shape[0] - 1) / 2, (self.shape[1] - 1) / 2

    def fill(
        self, cell: lattices.ProjectedCell, rotation: float = 0.0, margin_nm: float = 2.0
    ) -> pd.DataFrame:
        """Fill the view with a crystal at a random offset, beyond its edge: drift moves the view."""
        offset = self.rng.uniform(-0.5, 0.5, 2) @ np.asarray(cell.vectors_nm) / self.pixel_size_nm
        return cell.columns(
            self.shape,
            self.pixel_size_nm,
            rotation=rotation,
            offset=(offset[0], offset[1]),
            margin_nm=margin_nm,
        )


@dataclass(frozen=True)
class Scene:
    """What is in view: columns, the background in units of its level (None: flat), and the displacement
    ``(2, y, x)`` px at which it is sampled (None: undistorted).
    """

    columns: pd.DataFrame
    background: Callable[[Floats, Floats], Floats] | None = None
    displacement: Floats | None = None


@dataclass(frozen=True)
class Entry:
    """A registered phantom."""

    line: str
    build: Callable[..., Scene]
    defaults: dict[str, Any] = field(default_factory=dict)


SCENES: dict[str, Entry] = {}


def register_scene(
    name: str, line: str, **defaults: Any
) -> Callable[[Callable[..., Scene]], Callable[..., Scene]]:
    """Register the decorated builder under `name`, with its line for the list and its own common options."""

    def add(build: Callable[..., Scene]) -> Callable[..., Scene]:
        SCENES[name] = Entry(line, build, defaults)
        return build

    return add


@register_scene(
    "p2", "SrTiO3-like crystal, cell 32.5 px, sigma 3.5 px; with shifted and half columns",
    shape=(512, 512), pixel_size_nm=0.012, peak=20.0,
)  # fmt: skip
def _p2(
    view: View,
    shifted: int = 0,
    shift_pm: float = 20.0,
    halved: int = 0,
    factor: float = 0.5,
    rotation: float = 0.0,
) -> Scene:
    # lengths of this protocol are in px, whatever the pixel size
    nm = view.pixel_size_nm
    table = view.fill(lattices.srtio3(32.5 * nm, ratio=0.45, width_nm=3.5 * nm), rotation)
    table = displace_columns(
        table, shifted, view.px(shift_pm), view.rng, shape=view.shape, species="Sr", border=25
    )
    return Scene(scale_columns(table, halved, factor, view.rng, shape=view.shape, species="Ti", border=25))


@register_scene(
    "p1", "SrTiO3-like crystal, series of frames with row-wise distortion",
    frames=10, distortion="row",
)  # fmt: skip
def _p1(view: View, rotation: float = 0.06, width_nm: float = 0.05, ratio: float = 0.45) -> Scene:
    table = view.fill(lattices.srtio3(ratio=ratio, width_nm=width_nm), rotation)
    return Scene(table)


@register_scene("srtio3", "SrTiO3 [100]: Sr and Ti columns")
def _srtio3(view: View, rotation: float = 0.05, ratio: float = 0.45, width_nm: float = 0.05) -> Scene:
    return Scene(view.fill(lattices.srtio3(ratio=ratio, width_nm=width_nm), rotation))


@register_scene("si110", "Si [110]: dumbbells 136 pm apart", pixel_size_nm=0.012)
def _si110(view: View, rotation: float = 0.05, width_nm: float = 0.035) -> Scene:
    return Scene(view.fill(lattices.silicon110(width_nm=width_nm), rotation))


@register_scene("graphene", "graphene: honeycomb", pixel_size_nm=0.01)
def _graphene(view: View, rotation: float = 0.1, width_nm: float = 0.035) -> Scene:
    return Scene(view.fill(lattices.graphene(width_nm=width_nm), rotation))


@register_scene("ws2", "WS2 monolayer: honeycomb of bright W and dim S2", pixel_size_nm=0.012)
def _ws2(view: View, rotation: float = 0.1, ratio: float = 0.12, width_nm: float = 0.04) -> Scene:
    return Scene(view.fill(lattices.ws2(ratio=ratio, width_nm=width_nm), rotation))


@register_scene("fcc111", "fcc Pt [111]: hexagonal, 160 pm apart", pixel_size_nm=0.012)
def _fcc111(view: View, rotation: float = 0.1, width_nm: float = 0.03) -> Scene:
    return Scene(view.fill(lattices.fcc111(width_nm=width_nm), rotation))


@register_scene("fcc110", "fcc Pt [110]: centred rectangle", pixel_size_nm=0.012)
def _fcc110(view: View, rotation: float = 0.1, width_nm: float = 0.04) -> Scene:
    return Scene(view.fill(lattices.fcc110(width_nm=width_nm), rotation))


@register_scene("cspbbr3", "CsPbBr3-like perovskite [100]: Pb, Cs and Br columns", pixel_size_nm=0.025)
def _cspbbr3(view: View, rotation: float = 0.05, width_nm: float = 0.06) -> Scene:
    return Scene(view.fill(lattices.cspbbr3(width_nm=width_nm), rotation))


@register_scene("square", "one column a square cell")
def _square(view: View, a_nm: float = 0.39, rotation: float = 0.0, width_nm: float = 0.05) -> Scene:
    return Scene(view.fill(lattices.square(a_nm, width_nm=width_nm), rotation))


@register_scene("grain-boundary", "two SrTiO3 grains turned against each other, split by a line")
def _grain_boundary(
    view: View,
    misorientation: float = 0.4,
    angle: float = 1.4,
    width_nm: float = 0.05,
    closest_nm: float = 0.2,
) -> Scene:
    cell = lattices.srtio3(width_nm=width_nm)
    first, second = view.fill(cell, -misorientation / 2), view.fill(cell, misorientation / 2)
    closest = closest_nm / view.pixel_size_nm
    return Scene(join_grains(first, second, view.middle, angle, closest=closest))


_CELLS: dict[str, Callable[..., lattices.ProjectedCell]] = {
    "srtio3": lattices.srtio3,
    "si110": lattices.silicon110,
    "graphene": lattices.graphene,
    "ws2": lattices.ws2,
    "fcc111": lattices.fcc111,
    "fcc110": lattices.fcc110,
    "cspbbr3": lattices.cspbbr3,
    "square": lattices.square,
}


@register_scene("interface", "two crystals, the second dim; background steps down with it")
def _interface(
    view: View,
    second: str = "srtio3",
    dim: float = 0.1,
    background_ratio: float = 0.5,
    angle: float = math.pi / 2,
    closest_nm: float = 0.13,
) -> Scene:
    if second not in _CELLS:
        raise DataError(f"second is {second!r}", needed=f"one of {', '.join(_CELLS)}")
    first = view.fill(lattices.srtio3(), 0.03)
    # the same crystal goes through without a misfit: only heights step
    other = first if second == "srtio3" else view.fill(_CELLS[second](), 0.03)
    table = join_grains(first, other, view.middle, angle, closest=closest_nm / view.pixel_size_nm)
    table["height"] *= np.where(table["grain"] == 1, dim, 1.0)
    return Scene(table, StepBackground(1.0, background_ratio, view.middle, angle, blur=2.0))


@register_scene("vacancies", "SrTiO3 with vacancies and interstitials")
def _vacancies(
    view: View, vacancies: int = 5, interstitials: int = 3, rotation: float = 0.05, width_nm: float = 0.05
) -> Scene:
    table = view.fill(lattices.srtio3(width_nm=width_nm), rotation)
    table = remove_columns(table, vacancies, view.rng, shape=view.shape)
    return Scene(add_interstitials(table, interstitials, view.rng, shape=view.shape))


@register_scene("displaced", "SrTiO3 with shifted and half-intensity columns")
def _displaced(
    view: View,
    shifted: int = 8,
    shift_pm: float = 20.0,
    halved: int = 8,
    rotation: float = 0.05,
    width_nm: float = 0.05,
) -> Scene:
    table = view.fill(lattices.srtio3(width_nm=width_nm), rotation)
    table = displace_columns(table, shifted, view.px(shift_pm), view.rng, shape=view.shape)
    return Scene(scale_columns(table, halved, 0.5, view.rng, shape=view.shape))


@register_scene("strained", "SrTiO3 with homogeneous strain")
def _strained(
    view: View, strain_yy: float = 0.01, strain_xx: float = -0.005, shear: float = 0.0, width_nm: float = 0.05
) -> Scene:
    table = view.fill(lattices.srtio3(width_nm=width_nm), 0.05)
    return Scene(strain_columns(table, [[strain_yy, shear], [shear, strain_xx]], view.middle))


@register_scene("dislocation", "edge dislocation in a square crystal")
def _dislocation(view: View, a_nm: float = 0.39, width_nm: float = 0.05, poisson_ratio: float = 0.3) -> Scene:
    a = a_nm / view.pixel_size_nm
    table = lattices.square(a_nm, width_nm=width_nm).columns(
        view.shape, view.pixel_size_nm, margin_nm=4 * a_nm
    )
    # the core lies in the middle of a cell, between two rows along the Burgers vector
    core = (view.middle[0] + a / 2, view.middle[1] + a / 2)
    return Scene(dislocate(table, core, (0.0, a), poisson_ratio=poisson_ratio))


@register_scene(
    "pt-nanoparticle", "Pt nanoparticle on amorphous support, rim columns contracted by 4-44 pm",
    pixel_size_nm=0.015, peak=100.0, background=0.15,
)  # fmt: skip
def _pt_nanoparticle(
    view: View,
    diameter_nm: float = 3.0,
    particle: Literal["truncated-octahedron", "cuboctahedron"] = "truncated-octahedron",
    zone: Literal["110", "100"] = "110",
    rotation: float = 0.1,
    contraction_pm: tuple[float, float] = (4.0, 44.0),
    texture: float = 0.1,
) -> Scene:
    atoms = fcc_particle(diameter_nm, shape=particle)
    table = nanoparticle_columns(
        atoms, view.pixel_size_nm, view.middle, zone=zone, rotation=rotation,
        contraction_pm=contraction_pm, seed=view.rng,
    )  # fmt: skip
    table["planted"] = np.where(table["contraction_pm"] > 0, "shift", "none").astype(object)
    return Scene(table, _film(view, texture))


@register_scene(
    "single-atoms", "single heavy atoms on an amorphous support",
    pixel_size_nm=0.03, peak=12.0, background=0.3,
)  # fmt: skip
def _single_atoms(
    view: View,
    count: int = 50,
    closest_nm: float = 0.25,
    spread: float = 0.1,
    texture: float = 0.15,
    width_nm: float = 0.06,
) -> Scene:
    positions = _apart(view, count, closest_nm / view.pixel_size_nm)
    table = pd.DataFrame(positions, columns=["y", "x"])
    table["height"] = np.clip(view.rng.normal(1.0, spread, len(table)), 0.3, None)
    table["width"], table["species"] = width_nm / view.pixel_size_nm, "Pt"
    return Scene(table, _film(view, texture))


@register_scene(
    "background-ramp", "SrTiO3 on a background that rises 3 to 1 across the image", background=0.3
)
def _background_ramp(view: View, ratio: float = 3.0, rotation: float = 0.05, width_nm: float = 0.05) -> Scene:
    table = view.fill(lattices.srtio3(width_nm=width_nm), rotation)
    slope = 2 * (ratio - 1) / (ratio + 1) / view.shape[1]
    return Scene(table, RampBackground(1.0, 0.0, slope, view.middle))


@register_scene("empty", "no columns: a flat or amorphous background", background=0.3)
def _empty(view: View, texture: float = 0.0) -> Scene:
    names = {"y": float, "x": float, "height": float, "width": float, "species": object}
    table = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in names.items()})
    return Scene(table, _film(view, texture) if texture > 0 else None)


@register_scene("drifted", "SrTiO3 recorded with realistic scan distortion", distortion="scan")
def _drifted(view: View, rotation: float = 0.05, width_nm: float = 0.05) -> Scene:
    return Scene(view.fill(lattices.srtio3(width_nm=width_nm), rotation))


def _film(view: View, texture: float) -> AmorphousBackground:
    return AmorphousBackground(1.0, texture, 0.05 / view.pixel_size_nm, int(view.rng.integers(2**31)))


def _apart(view: View, count: int, distance: float) -> Floats:
    """Return up to `count` random positions at least `distance` px from each other."""
    kept: list[Floats] = []
    for _ in range(200 * count):
        if len(kept) == count:
            break
        p = view.rng.uniform(0, np.asarray(view.shape) - 1.0)
        if all(math.hypot(*(p - q)) >= distance for q in kept):
            kept.append(p)
    return np.array(kept).reshape(-1, 2)
