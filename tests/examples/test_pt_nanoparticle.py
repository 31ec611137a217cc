"""The example of the Pt nanoparticle runs, and its table and error bars are right."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairstem import atoms

EXAMPLE = Path(__file__).parents[2] / "examples" / "pt_nanoparticle.py"


@pytest.fixture(scope="module")
def pt():
    spec = importlib.util.spec_from_file_location("pt_nanoparticle", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small(pt, tmp_path_factory):
    """Fewer frames of a smaller particle."""
    folder = tmp_path_factory.mktemp("pt")
    asked = ["--out", str(folder), "--frames", "6", "--peak", "120", "--diameter", "2.4", "--size", "200"]
    return folder, pt.main(asked)


def test_every_surface_atom_is_in_the_table(small):
    folder, table = small
    assert (table["atom"] >= 0).all()
    assert table["atom"].is_unique
    assert (table["place"] == table["true_place"]).all()
    written = pd.read_csv(folder / "bond_changes.csv", index_col="column")
    assert len(written) == len(table)
    np.testing.assert_allclose(written["change_pm"], table["change_pm"])
    assert (folder / "pt_nanoparticle.png").stat().st_size > 20_000


@pytest.mark.parametrize("name", ["change", "inward"])
def test_error_bars_are_honest(small, name):
    table = small[1]
    score = (table[f"{name}_pm"] - table[f"true_{name}_pm"]) / table[f"sd_{name}_pm"]
    # about thirty numbers: their rms is known to 13 %
    assert 0.6 < np.sqrt((score**2).mean()) < 1.4
    assert score.abs().max() < 4


def test_corners_are_found_contracted(small):
    table = small[1]
    corners = table[table["place"] == "corner"]
    assert corners["significant"].all()
    assert (corners["change_pm"] < 0).all()
    assert (corners["inward_pm"] > table.loc[table["place"] == "edge", "inward_pm"].mean()).all()


def test_cell_is_the_primitive_one_of_fcc_along_110(pt):
    p = pt.series(0, frames=None, distortion=None)
    truth = p.truth.assign(sd_y=1e-3, sd_x=1e-3)
    lattice = atoms.lattice(truth[truth["place"] == "bulk"], sites=1)
    acute = min(lattice.angle_deg, 180 - lattice.angle_deg)
    assert (lattice.a_nm, lattice.b_nm, acute) == pytest.approx(pt.CELL, rel=1e-3)
