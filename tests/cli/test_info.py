import json

import numpy as np
import pytest
from tests.signals.scan_files import asymmetric_scan, signal_of, write_blockfile, write_merlin


def test_info_says_shape_calibration_and_dose(fairstem, phantom_file):
    done = fairstem("info", phantom_file)
    assert done.exit_code == 0, done.stderr
    for text in ("96 × 96", "0.018 nm", "counts", "nothing found"):
        assert text in done.stdout


def test_info_as_json(fairstem, phantom_file):
    summary = json.loads(fairstem("info", phantom_file, "--json").stdout)
    (signal,) = summary["signals"]
    assert signal["shape"] == [96, 96]
    assert signal["pixel_size_nm"] == pytest.approx([0.018, 0.018])
    assert signal["counts"] is True
    assert signal["steps"][0]["parameters"]["name"] == "srtio3"


def test_findings_are_listed(fairstem, tmp_path):
    import tifffile

    path = tmp_path / "bare.tif"
    tifffile.imwrite(path, np.random.default_rng(0).poisson(9, (32, 32)).astype("uint16"))
    done = fairstem("info", path)
    assert done.exit_code == 0, done.stderr
    assert "unknown; give it with --pixel-size-nm" in done.stdout
    assert "! the pixel size is missing" in done.stdout


@pytest.mark.parametrize("name", ["missing.tif", "folder.hspy", "truncated.hspy", "empty.tif", "strange.xyz"])
def test_files_that_cannot_be_read(fairstem, tmp_path, phantom_file, name):
    path = tmp_path / name
    if name.startswith("folder"):
        path.mkdir()
    elif name.startswith("truncated"):
        path.write_bytes(phantom_file.read_bytes()[:2000])
    elif name.startswith(("empty", "strange")):
        path.write_bytes(b"" if name.startswith("empty") else b"what is this")
    done = fairstem("info", path)
    assert done.exit_code == 3, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.fixture
def scan_file(tmp_path):
    """A calibrated scan of counts with the optic axis on the detector, and one empty pattern."""
    data = np.random.default_rng(0).poisson(4.0, (5, 6, 16, 18)).astype("uint16")
    data[3, 2] = 0
    signal = signal_of(data, (0.1, 0.1), (0.5, "1/nm"))
    for axis in signal.axes_manager._axes[2:]:
        axis.offset = -4.0
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    signal.save(tmp_path / "scan.hspy")
    return tmp_path / "scan.hspy"


def test_scan_is_understood(fairstem, scan_file):
    done = fairstem("info", scan_file)
    assert done.exit_code == 0, done.stderr
    for text in (
        "4D scan, 5 × 6 × 16 × 18 uint16",
        "5 × 6 (y × x) positions",
        "16 × 18 px, 0.5 1/nm a pixel",
    ):
        assert text in done.stdout
    for text in ("= 1.254 mrad", "optic axis at (8.0, 8.0) px", "counts per pattern (0 to", "1 empty"):
        assert text in done.stdout
    assert "! 1 of 30 patterns hold no counts at all" in done.stdout


def test_scan_as_json(fairstem, scan_file):
    (signal,) = json.loads(fairstem("info", scan_file, "--json").stdout)["signals"]
    scan = signal["scan"]
    assert scan["mrad_per_px"] == pytest.approx([1.254, 1.254], rel=1e-3)
    assert scan["dose_per_pattern"] == pytest.approx(4 * 16 * 18 * 29 / 30, rel=0.02)
    assert scan["values_are"] == "counts"
    assert {f["code"] for f in signal["findings"]} == {"empty-patterns"}


def test_large_scan_is_judged_from_a_sample(fairstem, scan_file, monkeypatch):
    monkeypatch.setattr("fairstem.signals.opening._LARGE", 1000)
    done = fairstem("info", scan_file)
    assert "when dense; lazy in" in done.stdout
    assert "in a sample; counts" in done.stdout


def test_averages_are_no_dose(fairstem, tmp_path):
    data = np.random.default_rng(0).poisson(4.0, (5, 6, 16, 16)).astype("f4") / 4
    signal_of(data).save(tmp_path / "scan.hspy")
    done = fairstem("info", tmp_path / "scan.hspy")
    assert "no dose: the values are not counts" in done.stdout
    assert "fatal for Poisson models" in done.stdout


def test_blockfile_levels_are_no_electrons(fairstem, tmp_path):
    write_blockfile(tmp_path / "a.blo", asymmetric_scan(detector=(16, 16)))
    done = fairstem("info", tmp_path / "a.blo")
    assert done.exit_code == 0, done.stderr
    assert "grey levels" in done.stdout
    assert "no dose" in done.stdout


def test_scan_shape_can_be_given(fairstem, tmp_path):
    write_merlin(tmp_path / "a.mib", asymmetric_scan())
    assert "pass --scan-shape" in fairstem("info", tmp_path / "a.mib").stdout
    done = fairstem("info", tmp_path / "a.mib", "--scan-shape", "3,3", "--flyback", "1")
    assert "3 × 3 (y × x) positions" in done.stdout
    assert "1 flyback pattern at the end of each row" in done.stdout
    done = fairstem("info", tmp_path / "a.mib", "--scan-shape", "5,3")
    assert done.exit_code == 4, done.stdout
    assert "12 patterns fill 4 × 3" in done.stderr
    assert "3 × 4 (y × x)" in fairstem("info", tmp_path / "a.mib", "--scan-shape", "3x4").stdout
    assert fairstem("info", tmp_path / "a.mib", "--scan-shape", "wide").exit_code != 0


def test_time_series_of_scans(fairstem, tmp_path):
    import hyperspy.api as hs

    hs.signals.Signal2D(asymmetric_scan()[None].repeat(2, 0)).save(tmp_path / "a.hspy")
    done = fairstem("info", tmp_path / "a.hspy")
    assert "4D scan series" in done.stdout
    assert "a time series of 2 scans" in done.stdout
