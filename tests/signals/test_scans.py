"""Scans are laid out as asked, lazily as eagerly, and what does not fit is said with a way out."""

from __future__ import annotations

import dask.array as da
import hyperspy.api as hs
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

from fairstem.errors import DataError, DataTypeError, FileFormatError
from fairstem.signals import load
from fairstem.signals.scans import factorizations, scan_from_frames

HEADER = {"Frames in Acquisition (Number)": 12, "Frames per Trigger (Number)": 4}


def frames(number, size=(5, 6)):
    return np.random.default_rng(0).poisson(3.0, (number, *size)).astype("u2")


def codes(signal):
    return {f["code"] for f in signal.metadata.fairstem.reading.findings}


@pytest.mark.parametrize("flyback", [0, 2])
@pytest.mark.parametrize("chunks", [None, (1, 5, 6), (7, 3, 2), (-1, 5, 6)])
def test_rows_follow_each_other(chunks, flyback):
    stack = frames(3 * (4 + flyback))
    truth = stack.reshape(3, 4 + flyback, 5, 6)[:, :4]
    data = stack if chunks is None else da.from_array(stack, chunks=chunks)
    scan = scan_from_frames(data, (3, 4), flyback=flyback)
    assert isinstance(scan, type(data))
    assert scan.dtype == stack.dtype
    if chunks is not None:
        assert scan.chunks[1:] == ((4,), (5,), (6,))
    assert np.array_equal(np.asarray(scan), truth)


def test_in_memory_nothing_is_copied():
    stack = frames(12)
    assert np.shares_memory(scan_from_frames(stack, (3, 4)), stack)
    assert np.shares_memory(scan_from_frames(stack, (3, 3), flyback=1), stack)


def test_lazy_scan_reads_nothing():
    def explode(block):
        raise AssertionError("computed")

    lazy = da.zeros((64, 8, 8), chunks=(5, 4, 8)).map_blocks(
        explode, dtype="f4", meta=np.empty((0, 0, 0), "f4")
    )
    assert scan_from_frames(lazy, (8, 7), flyback=1).shape == (8, 7, 8, 8)


def test_flyback_of_the_last_row_may_be_absent():
    stack = frames(3 * 5 - 1)
    scan = scan_from_frames(stack, (3, 4), flyback=1)
    assert np.array_equal(scan[2], stack[10:14])
    lazy = scan_from_frames(da.from_array(stack, chunks=(4, 5, 6)), (3, 4), flyback=1)
    assert np.array_equal(lazy.compute(), scan)


def test_interrupted_scan_keeps_whole_rows():
    stack = frames(3 * 5 + 2)
    with pytest.raises(
        DataError, match=r"17 patterns; needed: 20 for .*missing='crop' to keep the 3 complete"
    ):
        scan_from_frames(stack, (4, 5))
    scan = scan_from_frames(stack, (4, 5), missing="crop")
    assert np.array_equal(scan, stack[:15].reshape(3, 5, 5, 6))
    with pytest.raises(DataError, match="needed: 20"):
        scan_from_frames(stack[:3], (4, 5), missing="crop")


def test_signal_keeps_the_detector_and_loses_the_time():
    signal = signal_of(asymmetric_scan(), detector=(0.5, "mrad"))
    flat = hs.signals.Signal2D(signal.data.reshape(12, 16, 12))
    for axis, known in zip(flat.axes_manager._axes[1:], signal.axes_manager._axes[2:], strict=True):
        axis.name, axis.scale, axis.units, axis.offset = known.name, known.scale, known.units, -4.0
    scan = scan_from_frames(flat, (3, 4))
    assert scan.axes_manager.navigation_shape == (4, 3)
    assert [a.name for a in scan.axes_manager._axes] == ["y", "x", "k_y", "k_x"]
    assert scan.axes_manager["k_x"].scale == 0.5
    assert scan.axes_manager["k_x"].offset == -4.0
    assert np.array_equal(scan.data, signal.data)
    assert scan_from_frames(scan, (3, 4)) is scan


def test_wrong_shape_lists_what_would_fit():
    with pytest.raises(DataError, match=r"has 48 patterns; needed: 50.*48 patterns fill 4 × 12, 6 × 8"):
        scan_from_frames(frames(48), (5, 10))
    with pytest.raises(DataError, match=r"pass flyback=1: 24 = 4 × \(5 \+ 1\)"):
        scan_from_frames(frames(24), (4, 5))
    with pytest.raises(DataError, match=r"pass scan_shape=\(5, 4\) if more rows"):
        scan_from_frames(frames(20), (3, 4))
    with pytest.raises(DataError, match="the shape \\(y, x\\) that the microscope's scan had"):
        scan_from_frames(frames(13), (2, 6))


@pytest.mark.parametrize(
    ("shape", "options", "error"),
    [
        ("64", {}, DataTypeError),
        (64, {}, DataTypeError),
        ((2, 3, 4), {}, DataTypeError),
        ((2.5, 4), {}, DataTypeError),
        ((0, 4), {}, DataError),
        ((3, 4), {"flyback": -1}, DataError),
        ((3, 4), {"flyback": 1.5}, DataTypeError),
        ((3, 4), {"missing": "zeros"}, DataError),
    ],
)
def test_impossible_requests(shape, options, error):
    with pytest.raises(error, match="needed"):
        scan_from_frames(frames(12), shape, **options)


def test_time_series_spectra_and_images_are_no_stack():
    with pytest.raises(DataError, match="pick one scan"):
        scan_from_frames(np.ones((2, 3, 4, 5, 5)), (3, 4))
    with pytest.raises(DataError, match="needed: a stack of patterns"):
        scan_from_frames(np.ones((12, 5)), (3, 4))
    spectra = hs.signals.Signal1D(np.ones((3, 4, 8)))
    spectra.axes_manager[-1].units = "eV"
    with pytest.raises(DataError, match="needed: a stack of patterns"):
        scan_from_frames(spectra, (3, 4))


def test_factorizations_are_right_and_nearest_first():
    for number in range(2, 200):
        assert all(y * x == number for y, x in factorizations(number))
    assert factorizations(4096)[0] == (64, 64)
    assert factorizations(24, near=(2, 11))[0] == (2, 12)
    assert factorizations(13) == []


@pytest.fixture(params=["blo", "mib", "xml", "mrc"])
def raw(request, tmp_path):
    """A file of raw frames, the file with its bytes, its patterns, and the bytes of one of them."""
    square = (128, 128) if request.param == "xml" else (16, 16)
    data = asymmetric_scan(detector=square, dtype="f4" if request.param == "xml" else "u1")
    path = tmp_path / f"scan.{request.param}"
    bytes_in = path
    if request.param == "blo":
        write_blockfile(path, data)
        one = 16 * 16 + 6
    elif request.param == "mib":
        write_merlin(path, data, HEADER)
        one = 16 * 16 + 384
    elif request.param == "xml":
        write_empad(path, data)
        bytes_in, one = tmp_path / "scan_x4_y3.raw", 130 * 128 * 4
    else:
        write_mrc(path, data)
        one = 16 * 16
    return path, bytes_in, data, one


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("lost", [0.5, 2.0, 5.5])
def test_missing_frames(raw, lost, lazy):
    path, bytes_in, data, one = raw
    content = bytes_in.read_bytes()
    bytes_in.write_bytes(content[: len(content) - int(lost * one)])
    with pytest.raises(FileFormatError, match=r"holds \d+ patterns.*needed: the 12 that its header.*'crop'"):
        load(path, lazy=lazy)
    rows = int(12 - lost) // 4
    shape = {} if path.suffix != ".mrc" else {"scan_shape": SCAN}
    scan = load(path, lazy=lazy, missing="crop", warn=False, **shape)
    assert scan._lazy == lazy
    assert np.array_equal(np.asarray(scan.data), data[:rows])
    assert "rows-missing" in codes(scan)
    if rows * 4 == 12 - lost:
        assert np.array_equal(np.asarray(load(path, scan_shape=(rows, 4), warn=False).data), data[:rows])


def test_one_row_is_not_even_complete(raw):
    path, bytes_in, _, one = raw
    content = bytes_in.read_bytes()
    bytes_in.write_bytes(content[: len(content) - 10 * one])
    with pytest.raises((FileFormatError, DataError), match="needed"):
        load(path, missing="crop")


@pytest.mark.parametrize("lazy", [False, True])
def test_flyback_and_wrong_shape_of_files(raw, lazy):
    path, _, data, _ = raw
    scan = load(path, lazy=lazy, scan_shape=(3, 3), flyback=1, warn=False)
    assert np.array_equal(np.asarray(scan.data), data[:, :3])
    assert {"scan-shape", "flyback-removed"} <= codes(scan)
    turned = load(path, lazy=lazy, scan_shape=(4, 3), warn=False)
    assert np.array_equal(np.asarray(turned.data), data.reshape(4, 3, *data.shape[2:]))
    with pytest.raises(DataError, match=r"12 patterns; needed: 15 .*12 patterns fill 3 × 4"):
        load(path, lazy=lazy, scan_shape=(3, 5))


def test_merlin_without_its_header(tmp_path):
    data = asymmetric_scan(dtype="u2")
    write_merlin(tmp_path / "a.mib", data)
    stack = load(tmp_path / "a.mib", warn=False)
    assert stack.data.shape == (12, 16, 12)
    assert {"header-missing", "scan-shape-missing"} <= codes(stack)
    scan = load(tmp_path / "a.mib", scan_shape=SCAN, warn=False)
    assert np.array_equal(scan.data, data)
    with (tmp_path / "a.mib").open("ab") as file:
        file.write(b"MQ1,")
    with pytest.raises(FileFormatError, match="ends inside a pattern"):
        load(tmp_path / "a.mib")


def test_scan_shape_guessed_from_time_stamps_is_said(tmp_path):
    data = asymmetric_scan()
    write_merlin(tmp_path / "a.mib", data, HEADER | {"Frames per Trigger (Number)": 1}, row=4)
    scan = load(tmp_path / "a.mib", warn=False)
    assert np.array_equal(scan.data, data)
    assert "scan-shape-guessed" in codes(scan)


def test_scan_size_of_newer_merlin_headers(tmp_path):
    data = asymmetric_scan()
    write_merlin(
        tmp_path / "a.mib", data, HEADER | {"Frames per Trigger (Number)": 1, "ScanX": 4, "ScanY": 3}
    )
    scan = load(tmp_path / "a.mib", lazy=True, warn=False)
    assert np.array_equal(scan.data.compute(), data)
    assert not codes(scan) & {"scan-shape-guessed", "header-missing"}


def test_header_that_contradicts_the_file(tmp_path):
    data = asymmetric_scan()
    write_merlin(tmp_path / "a.mib", data, HEADER | {"Frames in Acquisition (Number)": 20})
    scan = load(tmp_path / "a.mib", scan_shape=SCAN, warn=False)
    assert np.array_equal(scan.data, data)
    assert "header-contradicted" in codes(scan)


def test_flyback_needs_a_shape(tmp_path):
    np.save(tmp_path / "a.npy", frames(12))
    with pytest.raises(DataError, match="without a scan shape"):
        load(tmp_path / "a.npy", flyback=1)


def test_wrong_extension(tmp_path):
    write_blockfile(tmp_path / "a.blo", asymmetric_scan(detector=(16, 16)))
    for name in ("a.mib", "a.mrc", "a.tvips"):
        (tmp_path / name).write_bytes((tmp_path / "a.blo").read_bytes())
        with pytest.raises(FileFormatError, match=name):
            load(tmp_path / name)
    (tmp_path / "b.blo").write_bytes(b"MQ1,000001," * 50)
    with pytest.raises(FileFormatError, match="does not start as a blockfile does"):
        load(tmp_path / "b.blo")


def test_empad_without_its_data(tmp_path):
    write_empad(tmp_path / "a.xml", asymmetric_scan(detector=(128, 128), dtype="f4"))
    (tmp_path / "scan_x4_y3.raw").rename(tmp_path / "renamed.raw")
    with pytest.raises(FileFormatError, match=r"header without data; needed: scan_x4_y3.raw beside it"):
        load(tmp_path / "a.xml")


@pytest.mark.parametrize("lazy", [False, True])
def test_truncated_tvips(tmp_path, lazy):
    signal_of(asymmetric_scan(dtype="u2"), (2.0, 2.0), (2.0, "1/nm")).save(tmp_path / "a.tvips")
    content = (tmp_path / "a_000.tvips").read_bytes()
    (tmp_path / "a_000.tvips").write_bytes(content[:-100])
    with pytest.raises(FileFormatError, match="may be truncated"):
        load(tmp_path / "a_000.tvips", lazy=lazy, scan_shape=SCAN)
