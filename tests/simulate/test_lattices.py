"""Lattices: counts per area, neighbour distances, complete filling at any rotation."""

import math

import numpy as np
import pytest
from scipy.spatial import cKDTree

from fairstem.errors import DataError
from fairstem.simulate import (
    ProjectedCell,
    Site,
    bravais_cell,
    cspbbr3,
    fcc110,
    fcc111,
    graphene,
    silicon110,
    square,
    srtio3,
    ws2,
)

PIXEL = 0.02
CELLS = [srtio3(), cspbbr3(), silicon110(), graphene(), ws2(), fcc111(), fcc110(), square()] + [
    bravais_cell(kind) for kind in ("square", "rectangular", "centred-rectangular", "hexagonal", "oblique")
]


def positions(table):
    return table[["y", "x"]].to_numpy()


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)
@pytest.mark.parametrize("rotation", [0.0, 0.7, math.pi / 2, -2.0])
def test_any_rotation_fills_the_view_without_holes_or_doubles(cell, rotation):
    shape = (120, 180)
    table = cell.columns(shape, PIXEL, rotation=rotation, offset=(13.0, -400.0), margin_nm=1.0)
    area = abs(np.linalg.det(cell.vectors_nm)) / PIXEL**2
    padded = (shape[0] - 1 + 100) * (shape[1] - 1 + 100)
    # counts differ from area density by the boundary only
    assert len(table) == pytest.approx(padded / area * len(cell.sites), rel=0.06)
    assert not table.duplicated(["i", "j", "site"]).any()
    index = (
        np.stack([table["i"], table["j"]], axis=1) + np.array([[s.y, s.x] for s in cell.sites])[table["site"]]
    )
    cos, sin = math.cos(rotation), math.sin(rotation)
    vectors = np.array(cell.vectors_nm) / PIXEL
    turned = np.stack(
        [vectors[:, 0] * cos + vectors[:, 1] * sin, vectors[:, 1] * cos - vectors[:, 0] * sin], axis=1
    )
    np.testing.assert_allclose(
        positions(table), np.array([59.5 + 13, 89.5 - 400]) + index @ turned, atol=1e-9
    )


@pytest.mark.parametrize(
    ("cell", "distance_nm", "number"),
    [
        (srtio3(), 0.3905 / math.sqrt(2), 4),
        (silicon110(), 0.5431 / 4, 1),
        (graphene(), 0.246 / math.sqrt(3), 3),
        (ws2(), 0.315 / math.sqrt(3), 3),
        (fcc111(), 0.3924 / math.sqrt(6), 6),
        (fcc110(), 0.3924 * math.sqrt(3 / 8), 4),
        (cspbbr3(), 0.587 / 2, 4),
        (bravais_cell("hexagonal", 0.3), 0.3, 6),
        (bravais_cell("oblique", 0.3, 0.4, 80), 0.3, 2),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_nearest_neighbours_have_the_crystals_distance_and_number(cell, distance_nm, number):
    table = cell.columns((200, 200), PIXEL, rotation=0.3, margin_nm=1.0)
    where = positions(table)
    inside = ((where > 0) & (where < 199)).all(axis=1)
    near = cKDTree(where).query(where[inside], k=number + 2)[0][:, 1:] * PIXEL
    np.testing.assert_allclose(near[:, :number], distance_nm, rtol=1e-9)
    assert (near[:, number] > distance_nm * 1.01).all()


def test_heights_widths_and_rotation_sense():
    table = srtio3(ratio=0.3, width_nm=0.04).columns((64, 64), PIXEL)
    assert table.groupby("species")["height"].first().to_dict() == {"Sr": 1.0, "Ti": 0.3}
    np.testing.assert_allclose(table["width"], 2.0)
    # +x turns towards +y
    line = ProjectedCell("row", ((100.0, 0.0), (0.0, 0.5)), (Site(0, 0, "A"),))
    turned = line.columns((64, 64), PIXEL, rotation=math.pi / 6)
    assert np.polyfit(turned["x"], turned["y"], 1)[0] == pytest.approx(math.tan(math.pi / 6))
    assert square().with_width(0.1).sites[0].width_nm == 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ProjectedCell("flat", ((0, 1), (0, 2)), (Site(0, 0, "A"),)), "vectors_nm"),
        (lambda: ProjectedCell("void", ((0, 1), (1, 0)), ()), "no sites"),
        (lambda: srtio3().columns((8, 8), 0.0), "pixel_size_nm"),
        (lambda: srtio3().columns((8, 8), 0.1, margin_nm=-1), "margin"),
        (lambda: bravais_cell("cubic"), "'cubic'"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call()
