"""fairstem's own small readers, and the checks before reading, on files made here."""

from __future__ import annotations

import struct

import h5py
import hyperspy.api as hs
import imageio.v3 as iio
import numpy as np
import pytest
import scipy.io
import tifffile

from fairstem.errors import FileFormatError
from fairstem.signals import load, open_data
from fairstem.signals.formats import known_extensions
from fairstem.signals.sniffing import check_complete


@pytest.fixture
def counts():
    return np.random.default_rng(0).poisson(30.0, (20, 24)).astype("u2")


def codes(signal):
    return [f["code"] for f in signal.metadata.fairstem.reading.findings]


def test_statstem(tmp_path, counts):
    y, x = np.array([3.0, 10.5]), np.array([4.25, 20.0])
    given = {
        "obs": counts,
        "dx": 0.25,
        "coordinates": np.stack([x, y, [2, 1]], 1),
        "types": np.array(["Pb", "Cs"], dtype=object),
    }
    fitted = {
        "coordinates": np.stack([(x + 1) * 0.25, (y + 1) * 0.25], 1),
        "eta": [5.0, 6.0],
        "rho": [0.5, 0.75],
        "volumes": [2 * np.pi * 5.0 * 0.5**2, 2 * np.pi * 6.0 * 0.75**2],
    }
    scipy.io.savemat(tmp_path / "a.mat", {"input": given, "output": fitted})
    signal = load(tmp_path / "a.mat")
    assert np.array_equal(signal.data, counts)
    assert open_data(signal).pixel_size_nm == pytest.approx((0.025, 0.025))
    kept = signal.original_metadata.fitted
    assert kept.y == pytest.approx(y)
    assert kept.x == pytest.approx(x)
    assert kept.height == pytest.approx([5, 6])
    assert kept.width == pytest.approx([2, 3])
    assert kept.volume == pytest.approx(2 * np.pi * np.array([5, 6]) * np.array([2, 3]) ** 2)
    assert [kept.species[i] for i in kept.species_index] == ["Cs", "Pb"]
    assert load(tmp_path / "a.mat", lazy=True)._lazy
    signal.save(tmp_path / "a.hspy")
    assert load(tmp_path / "a.hspy").original_metadata.fitted.x == pytest.approx(x)


def test_statstem_without_fit_or_pixel_size(tmp_path, counts):
    scipy.io.savemat(tmp_path / "a.mat", {"input": {"obs": counts}})
    signal = load(tmp_path / "a.mat", warn=False)
    assert codes(signal) == ["pixel-size-missing"]
    assert not signal.original_metadata.has_item("fitted")


def test_matlab_hdf5_is_refused(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(500))
    with pytest.raises(FileFormatError, match=r"7\.3"):
        load(tmp_path / "a.mat")


def test_atomap(tmp_path, counts):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["image_data0"] = counts
        for i, name in enumerate(("A_sublattice", "B_sublattice")):
            file.create_group(name)["atom_positions"] = [[1.0 + i, 2.0], [3.0, 4.0]]
            file[name].attrs["pixel_size"] = 0.011
    signal = load(tmp_path / "a.hdf5", units="nm")
    assert codes(signal) == ["format-resolved", "repaired-units"]
    assert open_data(signal).pixel_size_nm == (0.011, 0.011)
    fitted = signal.original_metadata.fitted
    assert fitted.x.tolist() == [1, 3, 2, 3]
    assert fitted.y.tolist() == [2, 4, 2, 4]
    assert fitted.sublattice.tolist() == [0, 0, 1, 1]
    with pytest.raises(FileFormatError, match="it has: A_sublattice"):
        load(tmp_path / "a.hdf5", dataset="other")


@pytest.mark.parametrize("chunks", [None, (2, 1, 1, 4, 4), (3, 3, 1, 6, 6)])
def test_fpd_lazy_equals_eager(tmp_path, chunks):
    scan = np.random.default_rng(0).poisson(2.0, (5, 4, 1, 6, 6)).astype(">u2")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("fpd_expt/fpd_data/data", data=scan, chunks=chunks)
    eager = load(tmp_path / "a.hdf5", warn=False)
    lazy = load(tmp_path / "a.hdf5", lazy=True, warn=False)
    assert eager.axes_manager.navigation_shape == lazy.axes_manager.navigation_shape == (4, 5)
    assert np.array_equal(eager.data, scan[:, :, 0])
    assert np.array_equal(lazy.data.compute(), scan[:, :, 0])
    assert lazy.data.dtype == eager.data.dtype
    assert np.array_equal(lazy.inav[1:3, 2].data.compute(), scan[2, 1:3, 0])


def test_fpd_with_colours_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["fpd_expt/fpd_data/data"] = np.zeros((2, 2, 3, 4, 4))
    with pytest.raises(FileFormatError, match=r"needed: \(y, x, 1, k_y, k_x\)"):
        load(tmp_path / "a.hdf5")


@pytest.mark.parametrize(("extension", "code"), [("png", "eight-bit-picture"), ("jpg", "eight-bit-picture")])
def test_eight_bit_pictures(tmp_path, counts, extension, code):
    iio.imwrite(tmp_path / f"a.{extension}", counts.astype(np.uint8))
    picture = load(tmp_path / f"a.{extension}", warn=False)
    assert code in codes(picture)
    lazy = load(tmp_path / f"a.{extension}", warn=False, lazy=True)
    assert lazy._lazy
    assert np.array_equal(lazy.data.compute(), picture.data)


def test_colour_picture(tmp_path, counts):
    iio.imwrite(tmp_path / "a.png", np.stack([counts, counts + 9, counts], -1).astype(np.uint8))
    assert "colour-picture" in codes(load(tmp_path / "a.png", warn=False))


@pytest.mark.parametrize("extension", ["tif", "hspy", "png", "npy"])
def test_truncated(tmp_path, counts, extension):
    path = tmp_path / f"a.{extension}"
    if extension == "tif":
        tifffile.imwrite(path, counts)
    elif extension == "hspy":
        hs.signals.Signal2D(counts).save(path)
    elif extension == "npy":
        np.save(path, counts)
    else:
        iio.imwrite(path, counts.astype(np.uint8))
    load(path, warn=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(FileFormatError, match="may be truncated"):
        load(path)


@pytest.mark.parametrize("extension", ["bcf", "pts"])
def test_size_that_the_header_promises(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    header = bytearray(0x150)
    if extension == "bcf":
        header[:8] = b"AAMVHFSS"
        struct.pack_into("<I", header, 0x128, 512)
        struct.pack_into("<III", header, 0x140, 1, 1, 4)
        size = 0x118 + 4 * 512
    else:
        struct.pack_into("<II", header, 28, 1024, 1000)
        size = 2024
    path.write_bytes(bytes(header).ljust(size, b"\0"))
    check_complete(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileFormatError, match=f"truncated: {size - 1} bytes; needed: the {size} bytes"):
        check_complete(path)
    path.write_bytes(b"AAMVHFSS")
    with pytest.raises(FileFormatError, match="truncated"):
        check_complete(path)


def test_extensions_name_our_own_readers():
    known = known_extensions()
    assert known["mat"] == ["StatSTEM"]
    assert {"HSPY", "fpd", "Atomap"} <= set(known["hdf5"])
    assert {"ser", "dm4", "emd", "mib", "hspy"} <= set(known)
