import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

pytestmark = pytest.mark.usefixtures("without_pictures")
FILES = ["bonds.csv", "columns.csv", "image.hspy", "lattice.json", "overlay.png", "report.html"]


def write_tiff(path, data, **options):
    tifffile.imwrite(path, data, **options)
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory, phantom_file):
    """One run of the verb, pictures included, whose folder several tests look at."""
    from typer.testing import CliRunner

    from fairstem.cli.app import app

    out = tmp_path_factory.mktemp("atoms") / "out"
    done = CliRunner().invoke(
        app, ["atoms", str(phantom_file), "-o", str(out), "--json", "--reference-nm", "0.3905"]
    )
    assert done.exit_code == 0, done.output
    return out, json.loads(done.stdout)


def test_the_folder_holds_what_is_promised(measured):
    out, facts = measured
    assert sorted(p.name for p in out.iterdir()) == FILES == facts["written"]


def test_the_columns_are_the_phantoms(measured, phantom_file):
    from fairstem.metrics import match_positions

    out, facts = measured
    truth = pd.read_csv(phantom_file.with_suffix(".truth.csv"))
    table = pd.read_csv(out / "columns.csv")
    match = match_positions(table, truth, pixel_size_nm=0.018, shape=(96, 96))
    assert match.recall == 1
    assert match.precision == 1
    assert facts["columns"] == len(table)
    # the lattice of the phantom is 390.5 pm, known to within its own error bars
    lattice = json.loads((out / "lattice.json").read_text())
    for name in "ab":
        assert abs(lattice[name] - 0.3905) < 5 * lattice[f"sd_{name}"]
    assert lattice["completeness"] == 1
    bonds = pd.read_csv(out / "bonds.csv")
    assert bonds["length_nm"].mean() == pytest.approx(0.3905 / 2**0.5, rel=0.01)


def test_the_image_is_kept_with_its_provenance(measured, phantom_file):
    from fairstem.signals import load, sha256, steps_of

    out, _ = measured
    stored, given = load(out / "image.hspy", warn=False), load(phantom_file, warn=False)
    assert np.array_equal(stored.data, given.data)
    steps = steps_of(stored)
    assert [s["function"] for s in steps] == ["fairstem.simulate.phantom", "fairstem.atoms.find"]
    assert steps[1]["input_sha256"] == sha256(given.data)
    assert steps[1]["priors"]


def test_the_report_shows_numbers_figures_and_checks(measured):
    out, _ = measured
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in ("lattice vector a", "sites with a column", "Assumptions of the method", "How this was made"):
        assert text in page
    assert page.count("<img ") == page.count('src="data:image/png;base64,') >= 4


@pytest.fixture(scope="module")
def rectangular():
    """A table of columns on a lattice of 276 pm by 390.5 pm, stretched by 1 % in x and 3 % in y."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.mgrid[0:12, 0:16], -1).reshape(-1, 2) * [39.05 * 1.03, 27.6 * 1.01] + 15
    table = pd.DataFrame(grid + rng.normal(0, 0.05, grid.shape), columns=["y", "x"])
    table.attrs = {"pixel_size_nm": (0.01, 0.01), "shape": (490, 470)}
    return table


@pytest.mark.parametrize("reference", [(0.276, 0.3905), (0.3905, 0.276)])
def test_two_expected_lengths_go_to_the_vectors_they_fit(rectangular, reference):
    from fairstem.cli.atoms_measure import _lattice, _summarise

    found = _summarise(_lattice(rectangular, reference), rectangular)
    assert found.is_reference
    assert found.calibration["x_percent"] == pytest.approx(1, abs=0.05)
    assert found.calibration["y_percent"] == pytest.approx(3, abs=0.05)


def test_another_length_than_expected_is_no_error_of_the_scan(rectangular):
    from fairstem.cli.atoms_measure import _lattice, _summarise
    from fairstem.cli.atoms_page import _lattice_numbers, _scan_sentence

    found = _summarise(_lattice(rectangular, (0.3905,)), rectangular)
    assert not found.is_reference
    assert not any("along x" in number.label for number in _lattice_numbers(found, "expected"))
    assert "another length" in _scan_sentence(found)


def test_the_page_names_the_assumptions_that_do_not_hold():
    from fairstem.cli.pages import failed_sentence

    checks = [{"assumption": "noise is white", "holds": True}, {"assumption": "one crystal", "holds": False}]
    assert "“one crystal”" in failed_sentence(checks)
    assert "white" not in failed_sentence(checks)
    assert failed_sentence(checks[:1]) == ""


def test_a_reference_that_is_no_length_is_wrong_usage(fairstem, phantom_file, tmp_path):
    for text in ("-1", "a", "0.1,0.2,0.3"):
        assert fairstem("atoms", phantom_file, "-o", tmp_path / "out", "--reference-nm", text).exit_code == 2


def test_it_says_the_same_to_a_reader(fairstem, phantom_file, tmp_path):
    done = fairstem("atoms", phantom_file, "-o", tmp_path / "out", "--quiet")
    assert done.exit_code == 0, done.stderr
    assert "lattice vector a: " in done.stdout
    assert "report.html" in done.stdout
    assert done.stderr == ""


def test_dry_run_plans_and_writes_nothing(fairstem, phantom_file, tmp_path):
    done = fairstem("atoms", phantom_file, "-o", tmp_path / "out", "--dry-run")
    assert done.exit_code == 0, done.stderr
    for text in ("96 × 96", "0.018", "peak memory", "nothing was written"):
        assert text in done.stdout
    assert list(tmp_path.iterdir()) == []
    plan = json.loads(fairstem("atoms", phantom_file, "--dry-run", "--json").stdout)
    assert plan["peak_bytes"] > 96 * 96 * 8


def test_without_calibration_it_works_in_pixels_and_says_so(fairstem, phantom_file, tmp_path):
    from fairstem.signals import load

    data = load(phantom_file, warn=False).data.astype(np.uint16)
    path = write_tiff(tmp_path / "bare.tif", data)
    done = fairstem("atoms", path, "-o", tmp_path / "px", "--json", "--reference-nm", "0.3905")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["lattice"]["unit"] == "px"
    assert facts["lattice"]["a"] == pytest.approx(390.5 / 18, rel=0.01)
    assert any("pixel size" in w for w in facts["warnings"])
    assert any("compared with the expected length" in w for w in facts["warnings"])
    done = fairstem("atoms", path, "-o", tmp_path / "nm", "--json", "--pixel-size-nm", "0.018")
    assert json.loads(done.stdout)["lattice"]["a"] == pytest.approx(0.3905, rel=0.01)


def test_zero_atoms_are_an_empty_table(fairstem, tmp_path):
    path = tmp_path / "empty.hspy"
    assert fairstem("simulate", "empty", "-o", path, "--shape", "64,64").exit_code == 0
    done = fairstem("atoms", path, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["columns"] == 0
    assert json.loads(done.stdout)["no_lattice"] == "no atom column was found"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == FILES
    table = pd.read_csv(tmp_path / "out" / "columns.csv")
    assert len(table) == 0
    assert {"y", "x", "sd_y", "sd_x"} <= set(table.columns)
    assert "the table is empty" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_columns_without_a_lattice_are_measured_all_the_same(fairstem, tmp_path):
    path = tmp_path / "few.hspy"
    arguments = ("--shape", "96,96", "--peak", 200, "--set", "count=5", "--set", "texture=0.0")
    assert fairstem("simulate", "single-atoms", "-o", path, *arguments).exit_code == 0
    done = fairstem("atoms", path, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["columns"] >= 1
    assert facts["lattice"] is None
    assert facts["no_lattice"]
    assert json.loads((tmp_path / "out" / "lattice.json").read_text())["lattice_found"] is False
    assert "No lattice" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_one_frame_of_a_series(fairstem, tmp_path):
    path = tmp_path / "series.hspy"
    assert fairstem("simulate", "square", "-o", path, "--shape", "64,64", "--set", "frames=2").exit_code == 0
    done = fairstem("atoms", path, "-o", tmp_path / "out")
    assert done.exit_code == 4
    assert "--frame 0 to 1" in done.stderr
    assert fairstem("atoms", path, "-o", tmp_path / "out", "--frame", 5).exit_code == 4
    done = fairstem("atoms", path, "-o", tmp_path / "out", "--frame", -1, "--quiet")
    assert done.exit_code == 0, done.stderr


RNG = np.random.default_rng(0)
BAD = {
    "constant": np.full((64, 64), 7, np.uint16),
    "all-nan": np.full((64, 64), np.nan, np.float32),
    "rgb": RNG.integers(0, 255, (64, 64, 3)).astype(np.uint8),
}


@pytest.mark.parametrize("name", BAD)
def test_images_that_do_not_fit_are_refused(fairstem, tmp_path, name):
    options = {"photometric": "rgb"} if name == "rgb" else {}
    path = write_tiff(tmp_path / "bad.tif", BAD[name], **options)
    done = fairstem("atoms", path, "-o", tmp_path / "out", "--quiet")
    assert done.exit_code == 4, (done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_negative_values_are_a_detectors_offset_and_the_report_says_so(fairstem, phantom_file, tmp_path):
    from fairstem.signals import load

    data = load(phantom_file, warn=False).data.astype(np.float32) - 30
    path = write_tiff(tmp_path / "dark.tif", data)
    done = fairstem("atoms", path, "-o", tmp_path / "out", "--json", "--pixel-size-nm", "0.018")
    assert done.exit_code == 0, done.stderr
    noise = json.loads(done.stdout)["noise"]
    assert noise["source"] == "estimated"
    assert noise["offset"] < -20
    assert "estimated from the image itself" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_spectrum_is_refused(fairstem, tmp_path):
    import hyperspy.api as hs

    from fairstem.signals.making import save

    save(hs.signals.Signal1D(np.arange(50.0)), tmp_path / "line.hspy")
    done = fairstem("atoms", tmp_path / "line.hspy", "-o", tmp_path / "out")
    assert done.exit_code == 4
    assert "holds a spectrum, 50" in done.stderr
    assert not (tmp_path / "out").exists()


def test_some_nan_are_left_out_and_reported(fairstem, phantom_file, tmp_path):
    from fairstem.signals import load

    data = load(phantom_file, warn=False).data.astype(np.float32)
    data[40:44, 40:60] = np.nan
    path = write_tiff(tmp_path / "holes.tif", data)
    done = fairstem("atoms", path, "-o", tmp_path / "out", "--json", "--pixel-size-nm", "0.018")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["columns"] > 20
    assert any("NaN" in w for w in facts["warnings"])


def test_saturated_and_eight_bit_pictures_are_measured_with_a_warning(fairstem, phantom_file, tmp_path):
    import imageio.v3 as iio

    from fairstem.signals import load

    data = load(phantom_file, warn=False).data
    picture = np.clip(data / np.percentile(data, 97) * 255, 0, 255).astype(np.uint8)
    iio.imwrite(tmp_path / "screen.jpg", picture, quality=95)
    done = fairstem("atoms", tmp_path / "screen.jpg", "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.stderr
    warnings = " ".join(json.loads(done.stdout)["warnings"])
    assert "8-bit" in warnings
    assert "grey levels" in fairstem("info", tmp_path / "screen.jpg").stdout
    assert fairstem("atoms", tmp_path / "screen.jpg", "--dry-run").exit_code == 0
    iio.imwrite(tmp_path / "colour.png", BAD["rgb"])
    assert fairstem("atoms", tmp_path / "colour.png", "--dry-run").exit_code == 4
    path = write_tiff(tmp_path / "cut.tif", np.minimum(data, 60).astype(np.uint16))
    done = fairstem("atoms", path, "-o", tmp_path / "out2", "--json")
    assert done.exit_code == 0, done.stderr
    assert "saturat" in " ".join(json.loads(done.stdout)["warnings"])


@pytest.mark.parametrize("name", ["missing.hspy", "truncated.hspy", "strange.xyz"])
def test_files_that_cannot_be_read(fairstem, phantom_file, tmp_path, name):
    path = tmp_path / name
    if name.startswith("truncated"):
        path.write_bytes(phantom_file.read_bytes()[:3000])
    elif name.startswith("strange"):
        path.write_text("what is this")
    done = fairstem("atoms", path, "-o", tmp_path / "out")
    assert done.exit_code == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [("--pixel-size-nm", "tiny"), ("--pixel-size-nm", "-1"), ("--frame", "x"), ("--nonsense",)]
)
def test_wrong_usage(fairstem, phantom_file, tmp_path, arguments):
    assert fairstem("atoms", phantom_file, "-o", tmp_path / "out", *arguments).exit_code == 2
    assert fairstem("atoms", phantom_file).exit_code == 2


def test_existing_output_is_kept_unless_told(fairstem, phantom_file, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    done = fairstem("atoms", phantom_file, "-o", out)
    assert done.exit_code == 5
    assert "--overwrite" in done.stderr
    assert fairstem("atoms", phantom_file, "-o", out, "--overwrite").exit_code == 0
    assert sorted(p.name for p in out.iterdir()) == sorted([*FILES, "notes.txt"])


def test_output_that_cannot_be_written(fairstem, phantom_file, tmp_path):
    (tmp_path / "f").write_text("")
    for out in (tmp_path / "f", tmp_path / "f" / "below"):
        done = fairstem("atoms", phantom_file, "-o", out)
        assert done.exit_code == 5
        assert "choose another output" in done.stderr


def test_a_full_disk_leaves_nothing(fairstem, phantom_file, tmp_path, monkeypatch):
    from fairstem.signals import making

    def full(signal, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(making, "save", full)
    done = fairstem("atoms", phantom_file, "-o", tmp_path / "out")
    assert done.exit_code == 5
    assert "free some space" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bug_in_the_method_is_code_1_and_leaves_nothing(fairstem, phantom_file, tmp_path, monkeypatch):
    from fairstem.cli import atoms_measure

    def broken(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(atoms_measure, "measure", broken)
    done = fairstem("atoms", phantom_file, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "this is a bug" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing(phantom_file, tmp_path, number, code):
    # the measurement is replaced by a long sleep, so that the signal comes in the middle of the run
    script = (
        "import time, fairstem.cli.atoms_measure as m\n"
        "def slow(*_):\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "m.measure = slow\nfrom fairstem.cli import main\nmain()"
    )
    command = [sys.executable, "-c", script, "atoms", str(phantom_file), "-o", str(tmp_path / "out")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout.readline().strip() == "ready"
    assert list(tmp_path.iterdir()) != []
    time.sleep(0.05)
    run.send_signal(number)
    _, errors = run.communicate(timeout=20)
    assert run.returncode == code
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
