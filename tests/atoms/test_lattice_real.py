"""The lattice of fitted positions that come with published images."""

import h5py
import numpy as np
import pandas as pd
import scipy.io

from fairstem.atoms._bonds import bond_spread, bonds
from fairstem.atoms._lattice import lattice


def test_all_columns_of_a_perovskite_are_indexed_without_holes(sample):
    content = scipy.io.loadmat(sample("Example3.mat"), struct_as_record=False, squeeze_me=True)
    fitted, size = content["output"], float(content["input"].dx)  # Å, Å per pixel
    table = pd.DataFrame(fitted.coordinates[:, ::-1] / size, columns=["y", "x"]).assign(height=fitted.eta)
    table.attrs["shape"] = content["input"].obs.shape
    result = lattice(table, pixel_size_nm=size / 10)
    assert len(table) == 415
    assert (result.columns.site != "").all()
    assert result.columns.inlier.mean() > 0.98
    assert len(result.duplicates) == 0
    assert set(result.completeness.values()) == {1.0}
    assert len(result.sites) == 2
    spread = bond_spread(bonds(lattice=result))
    assert set(spread.kind) == {"A-B"}
    assert (spread.spread_pm < 40).all()


def test_gold_nanoparticle(sample):
    with h5py.File(sample("Au_NP_Atom_Lattice.hdf5")) as file:
        group = next(value for name, value in file.items() if "sublattice" in name)
        positions = np.asarray(group["atom_positions"])
    result = lattice(pd.DataFrame(positions[:, ::-1], columns=["y", "x"]))
    assert len(result.columns) == 141
    assert (result.columns.site != "").mean() > 0.95
    assert len(result.sites) == 1
    # a bent, blurred particle: the checks say that one rigid lattice does not describe it
    assert {check.name: check.holds for check in result.priors}["one-lattice"] is False
