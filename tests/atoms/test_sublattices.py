"""Classes of columns by intensity against the planted species."""

import numpy as np
import pandas as pd
import pytest

from fairstem import simulate
from fairstem.atoms._lattice import lattice
from fairstem.atoms._sublattices import sublattices
from fairstem.errors import DataError

PX = 0.02


def crystal(*, noise=0.05, slope=0.0, seed=0, ratio=0.6, side=250):
    table = simulate.srtio3(ratio=ratio).columns((side, side), PX, rotation=0.1, margin_nm=0.0)
    table = table[["y", "x", "height", "species"]]
    rng = np.random.default_rng(seed)
    table["height"] *= rng.normal(1, noise, len(table)) * (1 + slope * table.x / side)
    return table


@pytest.mark.parametrize("slope", [0.0, 2.0])
@pytest.mark.parametrize("quantity", ["height", "volume"])
def test_two_species_under_a_thickness_gradient(slope, quantity):
    table = crystal(slope=slope).assign(width=3.0)
    classes = sublattices(table, quantity=quantity)
    assert set(classes.sublattice) == {"A", "B"}
    assert ((classes.sublattice == "A") == (table.species == "Sr")).mean() > 0.99
    assert classes.posterior.between(0.5, 1).all()


def test_one_species_stays_one_class():
    for seed in range(3):
        table = crystal(ratio=1.0, noise=0.15, slope=1.0, seed=seed)
        assert sublattices(table).sublattice.nunique() == 1


def test_the_lattice_helps_where_heights_overlap():
    table = crystal(noise=0.25, seed=3)
    truth = table.species == "Sr"
    alone = sublattices(table, 2)
    helped = sublattices(lattice(table, sites=2), 2)
    right = [((labels.sublattice == "A") == truth).mean() for labels in (alone, helped)]
    assert right[1] > max(right[0], 0.95)


def test_posteriors_are_probabilities():
    right, believed = [], []
    for seed in range(6):
        table = crystal(noise=0.2, seed=seed)
        classes = sublattices(table, 2)
        right.append(((classes.sublattice == "A") == (table.species == "Sr")).mean())
        believed.append(classes.posterior.mean())
    assert np.mean(right) == pytest.approx(np.mean(believed), abs=0.04)


def test_order_of_rows_and_unit_of_heights_do_not_matter():
    table = crystal()
    one = sublattices(table)
    two = sublattices(table.assign(height=7.5 * table.height).sample(frac=1, random_state=1)).sort_index()
    pd.testing.assert_series_equal(one.sublattice, two.sublattice)


def test_bad_input_is_named():
    table = crystal()
    with pytest.raises(DataError, match="no height"):
        sublattices(table[["y", "x"]])
    with pytest.raises(DataError, match="no width"):
        sublattices(table, quantity="volume")
    with pytest.raises(DataError, match="quantity"):
        sublattices(table, quantity="mass")
    with pytest.raises(DataError, match="not positive"):
        sublattices(table.assign(height=-1.0))
    with pytest.raises(DataError, match="n is 0"):
        sublattices(table, 0)
    with pytest.raises(DataError, match="neighbours"):
        sublattices(table, neighbours=1)
