"""Particles: numbers of atoms of the known clusters, and the planted contraction."""

import numpy as np
import pytest

from fairstem.errors import DataError
from fairstem.simulate import fcc_particle, nanoparticle_columns

A = 0.3924


@pytest.mark.parametrize(("cells", "number"), [(1, 13), (2, 55), (3, 147), (4, 309)])
def test_cuboctahedra_have_the_magic_numbers(cells, number):
    assert len(fcc_particle(cells * A, A, shape="cuboctahedron")) == number


@pytest.mark.parametrize(("cells", "number"), [(4, 201), (8, 1289)])
def test_regular_truncated_octahedra_have_the_magic_numbers(cells, number):
    atoms = fcc_particle(cells * A, A)
    assert len(atoms) == number
    # cubic symmetry
    as_set = {tuple(a) for a in np.round(atoms, 6)}
    assert as_set == {(y, z, x) for x, y, z in as_set}
    assert as_set == {(y, x, -z) for x, y, z in as_set}


@pytest.mark.parametrize("zone", ["110", "100"])
def test_projection_keeps_every_atom_and_the_bond_lengths(zone):
    atoms = fcc_particle(3.0)
    table = nanoparticle_columns(
        atoms, 0.01, (150.0, 160.0), zone=zone, rotation=0.4, contraction_pm=(0.0, 0.0)
    )
    assert table["atoms"].sum() == len(atoms)
    assert table["height"].max() == 1.0
    np.testing.assert_allclose(table[["y", "x"]].mean(), [150.0, 160.0], atol=1e-9)
    bond = A * (np.sqrt(3 / 8) if zone == "110" else 1 / 2)
    where = table[["y", "x"]].to_numpy()
    distance = np.hypot(*(where[:, None] - where[None]).transpose(2, 0, 1))
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_allclose(distance.min(axis=1) * 0.01, bond, rtol=1e-6)


def test_rim_columns_are_contracted_inwards_by_the_planted_amount():
    atoms = fcc_particle(3.0)
    options = {"pixel_size_nm": 0.01, "centre": (150.0, 150.0), "rotation": 0.3}
    ideal = nanoparticle_columns(atoms, contraction_pm=(0.0, 0.0), **options)
    real = nanoparticle_columns(atoms, contraction_pm=(4.0, 44.0), seed=3, **options)
    moved = real[["y", "x"]].to_numpy() - ideal[["y", "x"]].to_numpy()
    np.testing.assert_allclose(moved, real[["shift_y", "shift_x"]], atol=1e-9)
    np.testing.assert_allclose(np.hypot(*moved.T) * 10, real["contraction_pm"], atol=1e-6)
    where = dict(list(real.groupby("place")["contraction_pm"]))
    assert (where["bulk"] == 0).all()
    assert where["edge"].between(4, 24).all()
    assert where["corner"].between(24, 44).all()
    outward = ((ideal[["y", "x"]].to_numpy() - 150.0) * moved).sum(axis=1)
    assert (outward[real["place"] != "bulk"] < 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fcc_particle(0.1), "diameter_nm"),
        (lambda: fcc_particle(2.0, shape="sphere"), "'sphere'"),
        (lambda: nanoparticle_columns(fcc_particle(1.0), 0.01, (0, 0), zone="123"), "zone"),
        (
            lambda: nanoparticle_columns(fcc_particle(1.0), 0.01, (0, 0), contraction_pm=(5, 1)),
            "contraction_pm",
        ),
        (lambda: nanoparticle_columns(np.zeros((0, 3)), 0.01, (0, 0)), "atoms"),
        (lambda: nanoparticle_columns(fcc_particle(1.0), 0.0, (0, 0)), "pixel_size_nm"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call()
