"""Reading: every real format opens with its findings; every broken file gives a clear error."""

from __future__ import annotations

import logging
import struct
import warnings
import zipfile

import h5py
import hyperspy.api as hs
import numpy as np
import pytest

from fairstem.errors import (
    CalibrationWarning,
    DataTypeError,
    DataWarning,
    FileFormatError,
    MissingDependencyError,
)
from fairstem.signals import load, open_data, reading
from fairstem.signals.sniffing import sniff

PT = "021_HAADF_15nm_Sample_PtNC_21Oct20.tif"
BSSN = "data_scan70_id2154_electronsdrift_corr_DPC_processdate_20230102_hp_reg_0.01_lp_reg100.tif"
# name, options, shape, pixel size in nm, codes of the findings
REAL = [
    (PT, {}, (512, 512), 0.029297, set()),
    ("bpy_crop19.tif", {}, (512, 512), None, {"pixel-size-missing", "gain", "saturated"}),
    ("SI_data.npz", {"dataset": "X"}, (24, 22, 138), None, {"pixel-size-missing", "energy-unit-missing"}),
    ("mn3o4_f2.mat", {"dataset": "datar"}, (24, 22, 138), None, {"pixel-size-missing", "averages"}),
    ("DMReader_SI-HAADF.dm3", {}, (1568, 192), None, {"units-lost", "averages"}),
    ("DMReader_SpectrumImage_SI-EELS.dm3", {}, (49, 6, 1024), None, {"signal-type", "pixel-size-missing"}),
    ("EELS_STO.dm3", {}, (2048,), None, {"signal-type"}),
    ("03_afterimage_8nm_crp.png", {}, (730, 730), None, {"pixel-size-missing", "eight-bit-picture"}),
    (
        "01-on_zone_50-51nm.jpg",
        {},
        (1024, 1024),
        None,
        {"pixel-size-missing", "eight-bit-picture", "saturated"},
    ),
    ("STO_ADF.hdf5", {}, (999, 1012), None, {"format-resolved", "units-lost", "averages"}),
    ("STO_ADF.hdf5", {"units": "nm"}, (999, 1012), 0.0093263, {"repaired-units", "averages"}),
    ("STO_ADF.hdf5", {"pixel_size_nm": 0.01}, (999, 1012), 0.01, {"repaired-pixel-size"}),
    ("example_detector_image.hspy", {}, (512, 512), 31.036, set()),
    ("Au_NP_Atom_Lattice.hdf5", {}, (479, 504), None, {"format-resolved", "pixel-size-missing"}),
    ("Example3.mat", {}, (241, 246), 0.03109, {"offset"}),
    (BSSN, {}, (1364, 1368), None, {"pixel-size-missing"}),
    ("16_STOimage_1.ser", {}, (1024, 1024), 0.0100127, {"offset"}),
    ("16_STOimage.emi", {}, (1024, 1024), 0.0100127, {"offset"}),
    ("derived_01_Si110_frame.tif", {}, (1024, 1024), None, {"pixel-size-missing"}),
    ("0.bcf", {"lazy": True, "dataset": 0}, (256, 256), 13.0814, {"values-not-checked"}),
    ("0.bcf", {"lazy": True, "dataset": "EDX"}, (256, 256, 2048), 13.0814, {"signal-type"}),
    ("fpd_file_test.hdf5", {}, (2, 2, 256, 256), None, {"format-resolved", "diffraction-uncalibrated"}),
    ("core_shell.hspy", {}, (64, 64, 992), 0.5, {"signal-type"}),
    ("SiO2 HAADF Image.hspy", {}, (128, 128), 8.5524, {"averages"}),
]


@pytest.fixture
def saved(tmp_path):
    """A small image as .hspy."""
    signal = hs.signals.Signal2D(np.random.default_rng(0).poisson(20.0, (32, 32)).astype("u2"))
    for axis in signal.axes_manager._axes:
        axis.scale, axis.units = 0.02, "nm"
    signal.save(tmp_path / "small.hspy")
    return tmp_path / "small.hspy"


@pytest.mark.parametrize(
    ("name", "options", "shape", "pixel", "codes"), REAL, ids=[f"{r[0][:24]}-{r[1]}" for r in REAL]
)
def test_real_files(sample, name, options, shape, pixel, codes):
    path = sample(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        signal = load(path, **options)
    assert all(issubclass(w.category, CalibrationWarning | DataWarning) for w in caught)
    reading_notes = signal.metadata.fairstem.reading
    findings = {f["code"]: f for f in reading_notes.findings}
    assert codes <= set(findings)
    assert len(caught) == sum(f["severity"] == "warning" for f in findings.values())
    assert reading_notes.file == name
    assert reading_notes.reader
    opened = open_data(signal)
    assert opened.array.shape == shape
    assert opened.pixel_size_nm == (None if pixel is None else pytest.approx((pixel, pixel), rel=1e-4))


def test_several_signals_come_as_a_list(sample):
    both = load(sample("0.bcf"), lazy=True)
    assert [s.metadata.General.title for s in both] == ["HAADF", "EDX"]
    with pytest.raises(FileFormatError, match="1 'EDX'"):
        load(sample("0.bcf"), lazy=True, dataset="EELS")


def test_fitted_positions_are_bright(sample):
    for name, count in (("Example3.mat", 415), ("Au_NP_Atom_Lattice.hdf5", 141)):
        signal = load(sample(name), warn=False)
        fitted = signal.original_metadata.fitted
        y, x = np.round(fitted.y).astype(int), np.round(fitted.x).astype(int)
        assert len(y) == count
        ny, nx = signal.data.shape
        inside = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
        at = signal.data[y[inside], x[inside]]
        assert at.mean() > signal.data.mean() + 0.5 * signal.data.std()


def test_fpd_lazy_equals_eager(sample):
    path = sample("fpd_file_test.hdf5")
    lazy = load(path, lazy=True, warn=False)
    assert lazy._lazy
    assert np.array_equal(lazy.data.compute(), load(path, warn=False).data)


def test_merlin_from_the_unpacked_archive(sample, tmp_path):
    path = sample("Merlin_navigation4x2_ROI.zip")
    with pytest.raises(FileFormatError, match=r"unpack it first: python -m zipfile"):
        load(path)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    scan = load(tmp_path / "001_4x2_6bit.mib", warn=False)
    assert scan.data.shape == (2, 4, 256, 256)


def test_header_without_data(sample):
    with pytest.raises(
        FileFormatError, match=r"header without data; needed: its data files 01_Si110_5images_1.ser"
    ):
        load(sample("01_Si110_5images.emi"))


@pytest.mark.parametrize(
    "name",
    [
        *("16_STOimage_1.ser", "EELS_STO.dm3", "derived_01_Si110_frame.tif", "core_shell.hspy", "0.bcf"),
        *("Si110_5nmX25us_03_none_none.png", "01-on_zone_50-51nm.jpg", "View000_0000006.pts", "Example3.mat"),
        *("fpd_file_test.hdf5", "SI_data.npz", "Merlin_navigation4x2_ROI.zip"),
    ],
)
@pytest.mark.parametrize("fraction", [0.001, 0.7])
def test_truncated(sample, tmp_path, name, fraction):
    content = sample(name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(FileFormatError, match="what to do"):
        load(tmp_path / name, lazy=name.endswith(("bcf", "pts")))


def test_missing_file_names_the_similar_one(saved):
    with pytest.raises(FileFormatError, match=r"does not exist.*perhaps small.hspy was meant"):
        load(saved.with_name("smal.hspy"))
    with pytest.raises(FileFormatError, match="check the name"):
        load(saved.parent / "nowhere" / "x.hspy")


def test_folder_empty_file_and_wrong_types(tmp_path):
    with pytest.raises(FileFormatError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "empty.dm4").touch()
    with pytest.raises(FileFormatError, match="is empty"):
        load(tmp_path / "empty.dm4")
    for wrong in ([tmp_path], None, 3):
        with pytest.raises(DataTypeError, match="path of one file"):
            load(wrong)


def test_unreadable(saved, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(FileFormatError, match="can't be opened: Permission denied"):
        load(saved)


@pytest.mark.parametrize("name", ["a.xyz", "noextension"])
def test_unknown_format(tmp_path, name):
    (tmp_path / name).write_text("hello")
    with pytest.raises(FileFormatError, match=r"needed: one of .*dm4.*hspy.*mat.*tif"):
        load(tmp_path / name)


def test_damaged_zip_and_wrong_content(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK??")
    (tmp_path / "a.dm3").write_bytes(b"x" * 500)
    (tmp_path / "a.hdf5").write_bytes(b"x" * 500)
    for name in ("a.zip", "a.dm3", "a.hdf5"):
        with pytest.raises(FileFormatError, match=name):
            load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "reader"),
    [
        ("a.mrc", struct.pack("<4i", 8, 8, 1, 2).ljust(1024, b"\0"), "MRC"),
        ("a.mrc", struct.pack("<4i", 8, 8, 1, 1002).ljust(1024, b"\0"), "MRCZ"),
        ("a.img", struct.pack("<I", 52).ljust(64, b"\0"), "JEOL"),
        ("a.img", b"IM".ljust(64, b"\0"), "Hamamatsu"),
        ("a.xml", b"<?xml version='1.0'?><LSX_Data></LSX_Data>", "JobinYvon"),
        ("a.xml", b"<?xml version='1.0'?><root></root>", "EMPAD"),
    ],
)
def test_extension_of_several_programs(tmp_path, name, content, reader):
    (tmp_path / name).write_bytes(content)
    assert sniff(tmp_path / name)[0] == reader


def test_mrc_is_read(tmp_path):
    data = np.random.default_rng(0).poisson(20.0, (16, 12)).astype("<f4")
    header = struct.pack("<10i", 12, 16, 1, 2, 0, 0, 0, 12, 16, 1) + struct.pack("<3f", 12.0, 16.0, 1.0)
    (tmp_path / "a.mrc").write_bytes(header.ljust(1024, b"\0") + data.tobytes())
    signal = load(tmp_path / "a.mrc", warn=False)
    assert np.array_equal(np.squeeze(signal.data), data)


def test_table_is_no_image(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(FileFormatError, match=r"several readers.*pandas.read_csv"):
        load(tmp_path / "a.csv")


def test_hdf5_of_unknown_layout(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["mine"] = [1, 2]
    with pytest.raises(FileFormatError, match=r"unknown layout.*mine"):
        load(tmp_path / "a.h5")


def test_bare_arrays_need_a_name(tmp_path):
    np.savez(tmp_path / "a.npz", stack=np.ones((4, 5)), text=np.array("x"))
    with pytest.raises(FileFormatError, match=r"pass dataset=; there are: stack \(4, 5\)"):
        load(tmp_path / "a.npz")
    assert load(tmp_path / "a.npz", dataset="stack", warn=False, lazy=True).data.shape == (4, 5)
    with pytest.raises(DataTypeError, match="needed: a name"):
        load(tmp_path / "a.npz", dataset=2)


def test_missing_package_and_memory(saved, monkeypatch):
    def fail(error):
        def reader(*args):
            raise error

        return reader

    monkeypatch.setattr(reading, "_hyperspy_load", fail(ImportError("No module named 'mrcz'", name="mrcz")))
    with pytest.raises(MissingDependencyError, match="pip install mrcz"):
        load(saved)
    monkeypatch.setattr(reading, "_hyperspy_load", fail(MemoryError()))
    with pytest.raises(FileFormatError, match="lazy=True"):
        load(saved)


def test_findings_survive_saving_and_reloading(saved, tmp_path):
    signal = load(saved, pixel_size_nm=0.03)
    signal.save(tmp_path / "again.hspy")
    kept = hs.load(tmp_path / "again.hspy").metadata.fairstem.reading
    assert [f["code"] for f in kept.findings] == ["repaired-pixel-size"]
    assert load(tmp_path / "again.hspy").metadata.fairstem.reading.findings == []


def test_reader_by_name_and_brackets_in_the_name(saved, tmp_path):
    odd = tmp_path / "scan[1] (2).hspy"
    odd.write_bytes(saved.read_bytes())
    assert load(odd, reader="HSPY").data.shape == (32, 32)
    with pytest.raises(FileFormatError, match="name the reader"):
        load(odd, reader="NoSuchReader")


def test_chatter_is_quiet_but_errors_are_heard(saved, caplog):
    logger = logging.getLogger("hyperspy.io")
    logger.addHandler(caplog.handler)
    try:
        with reading._quiet() as noticed:
            logger.warning("`signal_type='EELS'` not understood. See ...")
            logger.error("the disk is on fire")
            warnings.warn("the header contradicts itself", UserWarning, stacklevel=1)
    finally:
        logger.removeHandler(caplog.handler)
    assert {r.getMessage() for r in caplog.records} == {"the disk is on fire"}
    assert [f.code for f in noticed] == ["reader-warning"]
    assert not logger.filters
