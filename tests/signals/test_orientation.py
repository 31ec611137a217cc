"""Every reader of scans shows an asymmetric pattern the right way round, at the right position, calibrated."""

from __future__ import annotations

import sys
import types
import zipfile

import h5py
import numpy as np
import pytest
from tests.signals.scan_files import (
    SCAN,
    asymmetric_scan,
    signal_of,
    write_blockfile,
    write_empad,
    write_merlin,
    write_mrc,
)

from fairstem.errors import DataTypeError, FileFormatError
from fairstem.signals import load, reading

HEADER = {"Frames in Acquisition (Number)": 12, "Frames per Trigger (Number)": 4}
SQUARE = {"xml": (128, 128), "blo": (16, 16), "rosettasciio.blo": (16, 16)}
TYPES = {"xml": "f4", "blo": "u1", "rosettasciio.blo": "u1", "hspy": ">u2"}
# reader, file, options, scan step in nm, detector step, what the reader has to be said to have done
CASES = [
    ("blo", "a.blo", {}, (0.2, 0.1), (0.00625, "cm"), {"detector-lengths", "eight-bit-patterns"}),
    ("rosettasciio.blo", "b.blo", {}, (0.2, 0.1), (0.00625, "cm"), {"detector-lengths"}),
    ("mib", "a.mib", {}, None, None, {"orientation", "diffraction-uncalibrated"}),
    ("hspy", "a.hspy", {}, (0.2, 0.1), (0.5, "mrad"), {"optic-axis-unset"}),
    ("nxs", "a.nxs", {"dataset": 0}, (0.2, 0.1), (0.5, "mrad"), {"optic-axis-unset"}),
    ("emd", "a.emd", {}, (0.2, 0.1), (0.5, "mrad"), {"axes-assumed"}),
    ("xml", "a.xml", {}, (0.2, 0.1), (0.25, "1/nm"), {"analogue-detector"}),
    ("mrc", "a.mrc", {"scan_shape": SCAN}, None, None, {"scan-shape", "placeholder-removed"}),
    ("tvips", "a_000.tvips", {"scan_shape": SCAN}, None, (2.0, "1/nm"), {"scan-shape"}),
    ("npy", "a.npy", {}, None, None, {"axes-assumed"}),
    ("fpd", "a.hdf5", {}, None, None, {"diffraction-uncalibrated"}),
    ("dectris", "a_master.h5", {"scan_shape": SCAN}, None, None, {"scan-shape"}),
]


def write(kind, folder, data):
    """Write a scan in a format, by RosettaSciIO or from the format's description."""
    path = folder / f"a.{kind}"
    if kind in ("hspy", "emd", "nxs"):
        signal_of(data).save(path)
    elif kind == "tvips":
        # the writer takes the step of the first axis for the detector's
        signal_of(data, (2.0, 2.0), (2.0, "1/nm")).save(path)
    elif kind == "blo":
        write_blockfile(path, data)
    elif kind == "rosettasciio.blo":
        signal_of(data, detector=(0.00625, "cm")).save(folder / "b.blo")
    elif kind == "mib":
        write_merlin(path, data, HEADER)
    elif kind == "xml":
        write_empad(path, data)
    elif kind == "mrc":
        write_mrc(path, data)
    elif kind == "npy":
        np.save(path, data)
    elif kind == "fpd":
        with h5py.File(folder / "a.hdf5", "w") as file:
            file["fpd_expt/fpd_data/data"] = data[:, :, None]
    else:
        write_dectris(folder, data)


def write_dectris(folder, data):
    """A master file that links to two files of frames."""
    frames = data.reshape(-1, *data.shape[2:])
    with h5py.File(folder / "a_master.h5", "w") as master:
        for number, part in enumerate((frames[:7], frames[7:]), 1):
            with h5py.File(folder / f"a_data_{number:06d}.h5", "w") as file:
                file["entry/data/data"] = part
            link = h5py.ExternalLink(f"a_data_{number:06d}.h5", "/entry/data/data")
            master[f"entry/data/data_{number:06d}"] = link


@pytest.fixture
def without_skimage(monkeypatch):
    """RosettaSciIO's writer of blockfiles imports scikit-image, but needs it only to scale values."""
    if "skimage" not in sys.modules:
        monkeypatch.setitem(sys.modules, "skimage", types.ModuleType("skimage"))


@pytest.mark.usefixtures("without_skimage")
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("kind", "name", "options", "scan_nm", "step", "codes"), CASES, ids=[f"{c[0]}-{len(c[2])}" for c in CASES]
)
def test_letter_and_positions(tmp_path, kind, name, options, scan_nm, step, codes, lazy):
    data = asymmetric_scan(detector=SQUARE.get(kind, (16, 12)), dtype=TYPES.get(kind, "u2"))
    write(kind, tmp_path, data)
    scan = load(tmp_path / name, lazy=lazy, warn=False, **options)
    assert scan._lazy == lazy
    shown = np.asarray(scan.data)
    assert np.array_equal(shown[:, :, 0, 0], data[:, :, 0, 0])  # rows from the first, left to right
    assert np.array_equal(shown, data)
    assert shown.dtype == data.dtype.newbyteorder("=")
    assert shown.dtype.isnative
    axes = scan.axes_manager._axes
    assert [a.navigate for a in axes] == [True, True, False, False]
    if lazy:
        assert scan.data.chunks[2:] == ((data.shape[2],), (data.shape[3],))
    factor = {"pm": 1e-3, "nm": 1.0}
    if scan_nm is None:
        assert all(str(a.units) in ("", "<undefined>") and a.scale == 1 for a in axes[:2])
    else:
        assert [a.scale * factor[str(a.units)] for a in axes[:2]] == pytest.approx(scan_nm)
    if step is None:
        assert all(str(a.units) in ("", "<undefined>") and a.scale == 1 for a in axes[2:])
    else:
        assert [a.scale for a in axes[2:]] == pytest.approx([step[0]] * 2)
        assert {str(a.units) for a in axes[2:]} == {step[1]}
    found = {f["code"] for f in scan.metadata.fairstem.reading.findings}
    assert codes <= found


def test_one_row_of_a_blockfile_stays_a_scan(tmp_path):
    data = asymmetric_scan((1, 5), (16, 16))
    write_blockfile(tmp_path / "a.blo", data)
    for lazy in (False, True):
        assert np.array_equal(np.asarray(load(tmp_path / "a.blo", lazy=lazy, warn=False).data), data)


def test_empad_shape_from_the_name_of_its_data(tmp_path):
    data = asymmetric_scan(detector=(128, 128), dtype="f4")
    write_empad(tmp_path / "a.xml", data, named=True)
    scan = load(tmp_path / "a.xml", warn=False)
    assert np.array_equal(scan.data, data)
    zero = [-a.offset / a.scale for a in scan.axes_manager._axes[2:]]
    assert zero == [64, 64]


def test_merlin_files_of_a_microscope(sample, tmp_path):
    with zipfile.ZipFile(sample("Merlin_navigation4x2_ROI.zip")) as archive:
        archive.extractall(tmp_path)
    for name, shape in (("001_4x2_6bit", (256, 256)), ("002_4x2_6bit_roi128", (128, 256))):
        path = tmp_path / f"{name}.mib"
        frame = np.dtype([("head", "V384"), ("data", "u1", shape)])
        raw = np.fromfile(path, frame)["data"].reshape(2, 4, *shape)
        lazy = load(path, lazy=True, warn=False)
        assert lazy._lazy
        assert np.array_equal(lazy.data.compute(), raw[:, :, ::-1])
        assert np.array_equal(load(path, scan_shape=(2, 4), warn=False).data, raw[:, :, ::-1])


def test_fpd_file_of_a_microscope(sample):
    path = sample("fpd_file_test.hdf5")
    with h5py.File(path) as file:
        raw = file["fpd_expt/fpd_data/data"][:, :, 0]
        total = file["fpd_expt/fpd_sum_im/data"][:, :, 0]
    scan = load(path, lazy=True, warn=False)
    assert np.array_equal(scan.data.compute(), raw)
    assert np.array_equal(scan.data.sum((2, 3)).compute(), total)


def test_tvips_finds_its_scan_when_asked(tmp_path, monkeypatch):
    seen = {}

    def reader(file, lazy, name, options):
        seen.update(options)
        return signal_of(asymmetric_scan())

    monkeypatch.setattr(reading, "_hyperspy_load", reader)
    (tmp_path / "a_000.tvips").write_bytes(b"x")
    load(tmp_path / "a_000.tvips", scan_shape="auto", warn=False)
    assert seen == {"scan_shape": "auto"}
    (tmp_path / "a.hspy").write_bytes(b"x")
    with pytest.raises(DataTypeError, match="needed: two positive integers"):
        load(tmp_path / "a.hspy", scan_shape="auto")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zspy_folders_are_read(tmp_path, zarr_format):
    zarr = pytest.importorskip("zarr", minversion="3")
    data = asymmetric_scan()
    root = zarr.open_group(tmp_path / "a.zspy", mode="w", zarr_format=zarr_format)
    root.attrs.update({"file_format": "ZSpy", "file_format_version": "3.3"})
    group = root.require_group("Experiments").require_group("__unnamed__")
    group.attrs.update({"package": "hyperspy", "package_version": "2.5"})
    group.create_array("data", shape=data.shape, dtype=data.dtype, chunks=(2, 2, 16, 12))[:] = data
    for i, (name, size) in enumerate(zip(("y", "x", "k_y", "k_x"), data.shape, strict=True)):
        axis = {"name": name, "offset": 0.0, "scale": 0.1, "units": "nm" if i < 2 else "1/nm", "size": size}
        axis |= {"navigate": i < 2, "_type": "UniformDataAxis", "is_binned": False}
        group.require_group(f"axis-{i}").attrs.update(axis)
    metadata = group.require_group("metadata")
    metadata.require_group("General").attrs["title"] = "scan"
    metadata.require_group("Signal").attrs["signal_type"] = ""
    for name in ("original_metadata", "learning_results", "models"):
        group.require_group(name)
    scan = load(tmp_path / "a.zspy", lazy=True, warn=False)
    assert np.array_equal(scan.data.compute(), data)
    assert scan.axes_manager.navigation_shape == (4, 3)


def test_swapped_scan_and_detector_are_said(tmp_path):
    data = asymmetric_scan()
    swapped = signal_of(data.transpose(2, 3, 0, 1))
    for axis, (scale, unit) in zip(
        swapped.axes_manager._axes, [(2.0, "1/nm")] * 2 + [(0.1, "nm")] * 2, strict=True
    ):
        axis.scale, axis.units = scale, unit
    swapped.save(tmp_path / "a.hspy")
    scan = load(tmp_path / "a.hspy", warn=False)
    message = {f["code"]: f["message"] for f in scan.metadata.fairstem.reading.findings}["axes-swapped"]
    assert "s = s.T" in message
    assert np.array_equal(scan.T.data, data)


def test_dectris_links_and_content(tmp_path):
    write_dectris(tmp_path, asymmetric_scan())
    stack = load(tmp_path / "a_master.h5", warn=False)
    assert stack.data.shape == (12, 16, 12)
    assert "scan-shape-missing" in {f["code"] for f in stack.metadata.fairstem.reading.findings}
    (tmp_path / "a_data_000002.h5").unlink()
    with pytest.raises(FileFormatError, match=r"links to a_data_000002.h5, which is not there"):
        load(tmp_path / "a_master.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["entry/data/count"] = [1, 2]
    with pytest.raises(FileFormatError, match="0 data sets of patterns"):
        load(tmp_path / "b.h5")


def test_beam_energy_in_volts(tmp_path):
    signal = signal_of(asymmetric_scan())
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200_000.0)
    signal.save(tmp_path / "a.hspy")
    scan = load(tmp_path / "a.hspy", warn=False)
    assert scan.metadata.Acquisition_instrument.TEM.beam_energy == 200
    assert "beam-energy-units" in {f["code"] for f in scan.metadata.fairstem.reading.findings}


@pytest.mark.parametrize("kind", ["dm3", "dm4"])
def test_digital_micrograph(kind):
    pytest.skip(f".{kind}: no free package writes 4D files and no openly licensed sample is known")
