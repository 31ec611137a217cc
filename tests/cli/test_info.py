import json

import numpy as np
import pytest


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
