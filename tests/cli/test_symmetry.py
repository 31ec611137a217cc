import errno
import json
from pathlib import Path

import numpy as np
import pytest

FILES = [
    "pacbed.hspy",
    "report.html",
    "result.json",
    "standard_error.hspy",
    "symmetry.hspy",
    "symmetry.png",
    "virtual.hspy",
]
DOSE = 3000


@pytest.fixture(scope="session")
def thin():
    """One cell of SrTiO3 as a thin phase object: the truth."""
    from fairstem.simulate import thin_scan

    return thin_scan("SrTiO3", (8, 8), detector=(25, 25), mrad_per_px=2.4)


@pytest.fixture(scope="session")
def scan_file(thin, tmp_path_factory):
    """12 × 14 counted patterns of it."""
    from fairstem.signals.making import save

    path = tmp_path_factory.mktemp("scan") / "scan.hspy"
    save(thin.signal(thin.counts(DOSE, 1, shape=(12, 14))), path)
    return path


@pytest.fixture(scope="session")
def done(scan_file, tmp_path_factory):
    """One run of the verb, pictures included, whose folder several tests look at."""
    from typer.testing import CliRunner

    from fairstem.cli.app import app

    out = tmp_path_factory.mktemp("symmetry") / "out"
    run = CliRunner().invoke(app, ["symmetry", str(scan_file), "-o", str(out), "--json", "--quiet"])
    assert run.exit_code == 0, run.output
    return out, json.loads(run.stdout)


def write_scan(path, data, signal=None, **axes):
    """Write any array as a HyperSpy file."""
    import hyperspy.api as hs

    from fairstem.signals.making import save

    save(hs.signals.Signal2D(data) if signal is None else signal(data), path)
    return path


def test_the_folder_holds_what_is_promised(done):
    out, facts = done
    assert sorted(p.name for p in out.iterdir()) == FILES == facts["written"]
    assert (out / "symmetry.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "result.json").read_text())["operations"] == facts["operations"]


def test_maps_are_those_of_the_library_with_axes_errors_and_provenance(done, scan_file):
    from fairstem import diffraction
    from fairstem.signals import load, sha256, steps_of

    out, facts = done
    given = load(scan_file, warn=False)
    maps = diffraction.symmetry(given, calibration=diffraction.calibrate(given))
    for name, expected in (("symmetry", maps.gamma), ("standard_error", maps.standard_error)):
        stored = load(out / f"{name}.hspy", warn=False)
        np.testing.assert_allclose(stored.data, expected, rtol=1e-9)
        axes = stored.axes_manager
        assert [a.name for a in axes._axes] == ["operation", "y", "x"]
        assert axes["x"].scale == pytest.approx(0.3905 / 8)
        assert axes["x"].units == "nm"
        made, done_with = steps_of(stored)
        assert made["function"] == "fairstem.simulate.thin_scan"
        assert done_with["function"] == "fairstem.diffraction.symmetry"
        assert done_with["parameters"]["operations"] == ["C2", "C4", "mx", "my"]
        assert done_with["input_sha256"] == sha256(given.data)
        assert {p["name"] for p in done_with["priors"]} <= {p["name"] for p in facts["priors"]}


def test_the_truth_is_found_within_its_error_bars(done, thin):
    from fairstem import diffraction
    from fairstem.signals import load

    out, _ = done
    truth = diffraction.symmetry(thin.tiled((12, 14)).intensities, noise=None).gamma
    gamma, error = (load(out / f"{n}.hspy", warn=False).data for n in ("symmetry", "standard_error"))
    score = (gamma - truth) / error
    assert abs(score.mean()) < 0.2
    assert 0.85 < score.std() < 1.15


def test_numbers_say_dose_geometry_and_symmetry(done, thin):
    _, facts = done
    held = thin.intensities.sum(axis=(2, 3)).mean()
    assert facts["electrons_per_pattern"] == pytest.approx(DOSE * held, rel=0.01)
    assert facts["center_px"] == pytest.approx([12, 12], abs=0.05)
    assert facts["mrad_per_px"] == 2.4
    assert facts["semiangle_mrad"] == pytest.approx(20, rel=0.02)
    c2 = facts["operations"][0]
    assert c2["operation"] == "C2"
    assert c2["valid"] == 12 * 14
    assert 0.2 < c2["symmetric"] < 0.9


def test_virtual_images_and_the_mean_pattern_keep_their_axes(done, thin):
    from fairstem.signals import load

    out, _ = done
    images, mean = load(out / "virtual.hspy", warn=False), load(out / "pacbed.hspy", warn=False)
    assert images.data.shape == (2, 12, 14)
    assert "BF, ADF" in images.metadata.General.title
    bright, dark = images.data
    assert dark[0, 0] > 1.2 * dark[2, 2]  # strontium scatters, the hollow between the columns does not
    assert bright[0, 0] < bright[2, 2]
    assert mean.data.shape == (25, 25)
    assert mean.axes_manager["k_x"].units == "mrad"
    expected = DOSE * thin.tiled((12, 14)).intensities.mean(axis=(0, 1))
    assert mean.data.sum() == pytest.approx(expected.sum(), rel=0.01)
    assert (
        np.corrcoef(mean.data.ravel(), expected.ravel())[0, 1] > 0.99
    )  # patterns were moved onto one centre


def test_the_report_shows_pictures_numbers_checks_and_how_to_cite(done):
    out, _ = done
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in (
        "electrons per pattern",
        "Standard errors of the maps",
        "What counting noise takes",
        "Mean pattern of the scan (PACBED)",
        "Virtual images: BF, ADF",
        "symmetric within two standard errors",
        "Assumptions of the method",
        "10.1073/pnas.2006975117",
        "12 × 14 positions, 0.04881 nm apart",
    ):
        assert text in page
    assert page.count("<img ") == page.count('src="data:image/png;base64,') == 5


@pytest.mark.usefixtures("without_pictures")
class TestVerb:
    def test_it_says_the_same_to_a_reader(self, fairstem, scan_file, tmp_path):
        run = fairstem("symmetry", scan_file, "-o", tmp_path / "out", "--operations", "C2,m45")
        assert run.exit_code == 0, run.stderr
        for text in (
            "12 × 14 patterns of",
            "electrons each",
            "centre 12.0",
            "C2: γ from",
            "m45: γ",
            "report.html",
        ):
            assert text in run.stdout

    def test_options_reach_the_method(self, fairstem, scan_file, tmp_path):
        run = fairstem(
            "symmetry", scan_file, "-o", tmp_path / "out", "--json", "--operations", "C2", "--center", "12,12",
            "--mask", "0,18", "--region", "2,8,0,9", "--gain", "1", "--semiangle-mrad", "30", "--memory", "300kB",
        )  # fmt: skip
        assert run.exit_code == 0, run.stderr
        facts = json.loads(run.stdout)
        assert facts["shape"] == [6, 9, 25, 25]
        assert facts["center_px"] == [12, 12]
        assert facts["center_sd_px"] is None
        assert facts["mrad_per_px"] == pytest.approx(30 / facts["radius_px"])
        k = np.hypot(*np.mgrid[-12:13, -12:13]) * facts["mrad_per_px"]
        assert facts["operations"][0]["pixels"] == (k <= 18).sum() - 1  # the centre is its own image

    def test_without_correction_there_is_no_error_and_no_dose(self, fairstem, scan_file, tmp_path):
        run = fairstem("symmetry", scan_file, "-o", tmp_path / "out", "--json", "--noise", "none")
        assert run.exit_code == 0, run.stderr
        facts = json.loads(run.stdout)
        assert facts["electrons_per_pattern"] is None
        assert facts["operations"][0]["standard_error"] is None
        assert "standard_error.hspy" not in facts["written"]
        page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        assert "Counting noise was not corrected" in page

    def test_a_stack_of_patterns_is_laid_out_as_told(self, fairstem, thin, tmp_path):
        counts = thin.counts(DOSE, 1, shape=(6, 8)).reshape(48, 25, 25)
        path = write_scan(tmp_path / "stack.hspy", counts)
        run = fairstem("symmetry", path, "-o", tmp_path / "out", "--quiet")
        assert run.exit_code == 4
        assert "--scan-shape" in run.stderr
        asked = ("--scan-shape", "6,8", "--mrad-per-px", "2.4", "--json")
        run = fairstem("symmetry", path, "-o", tmp_path / "out", *asked)
        assert run.exit_code == 0, run.stderr
        assert json.loads(run.stdout)["shape"] == [6, 8, 25, 25]
        run = fairstem("symmetry", path, "-o", tmp_path / "no", "--scan-shape", "7,7")
        assert run.exit_code == 4
        assert "48" in run.stderr
        assert not (tmp_path / "no").exists()

    def test_dry_run_plans_and_writes_nothing(self, fairstem, scan_file, tmp_path):
        run = fairstem("symmetry", scan_file, "-o", tmp_path / "out", "--dry-run", "--memory", "300kB")
        assert run.exit_code == 0, run.stderr
        for text in ("12 × 14 × 25 × 25", "2.4 mrad", "C2, C4, mx, my", "peak memory", "nothing was written"):
            assert text in run.stdout
        assert list(tmp_path.iterdir()) == []
        plan = json.loads(fairstem("symmetry", scan_file, "--dry-run", "--json").stdout)
        assert plan["blocks"] == 1
        assert plan["peak_bytes"] > 12 * 14 * 25 * 25 * 2

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--noise", "salt"),
            ("--operations", " , "),
            ("--center", "3"),
            ("--center", "a,b"),
            ("--mask", "20,10"),
            ("--region", "0,4,0"),
            ("--region", "0,4,0,2.5"),
            ("--scan-shape", "3"),
            ("--flyback", "2"),
            ("--shift-px", "-1"),
            ("--semiangle-mrad", "0"),
            ("--energy-kev", "nan"),
            ("--memory", "much"),
            ("--nonsense",),
        ],
    )
    def test_wrong_usage(self, fairstem, scan_file, tmp_path, arguments):
        assert fairstem("symmetry", scan_file, "-o", tmp_path / "out", *arguments).exit_code == 2
        assert not (tmp_path / "out").exists()

    def test_no_output_is_wrong_usage(self, fairstem, scan_file):
        assert fairstem("symmetry", scan_file).exit_code == 2

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--operations", "C5"), ("C5", "C4")),
            (("--operations", "C2,C2"), ("C2",)),
            (("--center", "90,12"), ("outside the detector", "(25, 25)")),
            (("--region", "0,30,0,4"), ("12 × 14 positions",)),
            (("--gain", "-1"), ("gain",)),
            (("--shift-px", "40"), ("shift_px", "needed: px from 0")),
            (("--mask", "90,95"), ("mask",)),
            (("--lattice-nm", "5000"), ("lattice_nm",)),
        ],
    )
    def test_values_that_do_not_go_with_the_scan_are_refused(
        self, fairstem, scan_file, tmp_path, arguments, words
    ):
        run = fairstem("symmetry", scan_file, "-o", tmp_path / "out", *arguments, "--quiet")
        assert run.exit_code == 4, (run.stdout, run.stderr)
        for word in words:
            assert word in run.stderr
        assert "Traceback" not in run.stderr
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("image", ("an image, 25 × 25", "4D scan")),
            ("spectrum", ("a spectrum, 50",)),
            ("series", ("3 × 3 × 4 × 25 × 25", "save one scan")),
            ("averages", ("no counts", "--noise none")),
            ("means", ("multiples of 0.25", "--gain 0.25", "--noise none")),
            ("empty", ("no electrons",)),
            ("negative", ("negative",)),
            ("nan", ("finite", "NaN")),
            ("complex", ("complex",)),
        ],
    )
    def test_data_that_do_not_fit_are_refused(self, fairstem, thin, tmp_path, name, words):
        import hyperspy.api as hs

        counts = thin.counts(DOSE, 1, shape=(3, 4))
        rng = np.random.default_rng(0)
        bad = {
            "image": counts[0, 0],
            "spectrum": np.arange(50.0),
            "series": np.stack([counts] * 3),
            "averages": (counts + rng.normal(0, 0.1, counts.shape)).astype("f4").clip(0),
            "means": counts / 4,
            "empty": np.zeros_like(counts),
            "negative": counts.astype("i4") - 1,
            "nan": np.full(counts.shape, np.nan, "f4"),
            "complex": counts.astype("c8"),
        }[name]
        kind = hs.signals.Signal1D if name == "spectrum" else None
        path = write_scan(tmp_path / "bad.hspy", bad, kind)
        run = fairstem("symmetry", path, "-o", tmp_path / "out", "--quiet")
        assert run.exit_code == 4, (run.stdout, run.stderr)
        assert run.stderr.startswith("error: ")
        for word in words:
            assert word in run.stderr
        assert "Traceback" not in run.stderr
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("name", ["missing.hspy", "truncated.hspy", "strange.xyz"])
    def test_files_that_cannot_be_read(self, fairstem, scan_file, tmp_path, name):
        path = tmp_path / name
        if name.startswith("truncated"):
            path.write_bytes(scan_file.read_bytes()[:3000])
        elif name.startswith("strange"):
            path.write_text("what is this")
        assert fairstem("symmetry", path, "-o", tmp_path / "out").exit_code == 3
        assert not (tmp_path / "out").exists()

    def test_existing_output_is_kept_unless_told(self, fairstem, scan_file, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        (out / "notes.txt").write_text("mine")
        asked = ("symmetry", scan_file, "-o", out, "--operations", "C2", "--region", "0,3,0,3", "--quiet")
        run = fairstem(*asked)
        assert run.exit_code == 5
        assert "--overwrite" in run.stderr
        assert fairstem(*asked, "--overwrite").exit_code == 0
        assert sorted(p.name for p in out.iterdir()) == sorted([*FILES, "notes.txt"])

    def test_an_output_that_is_a_file_is_refused(self, fairstem, scan_file, tmp_path):
        (tmp_path / "out").write_text("mine")
        assert fairstem("symmetry", scan_file, "-o", tmp_path / "out", "--overwrite").exit_code == 5
        assert fairstem("symmetry", scan_file, "-o", tmp_path / "out" / "below").exit_code == 5
        assert (tmp_path / "out").read_text() == "mine"

    @pytest.mark.parametrize(
        ("error", "code"), [(OSError(errno.ENOSPC, "No space left on device"), 5), (KeyboardInterrupt(), 130)]
    )
    def test_a_full_disk_or_an_interruption_leaves_nothing(
        self, fairstem, scan_file, tmp_path, monkeypatch, error, code
    ):
        from fairstem.signals import making

        def stop(signal, path):
            Path(path).write_bytes(b"half")
            raise error

        monkeypatch.setattr(making, "save", stop)
        run = fairstem("symmetry", scan_file, "-o", tmp_path / "out", "--region", "0,3,0,3", "--quiet")
        assert run.exit_code == code
        assert list(tmp_path.iterdir()) == []

    def test_a_calibration_that_is_missing_is_asked_for(self, fairstem, thin, tmp_path):
        path = write_scan(tmp_path / "bare.hspy", thin.counts(DOSE, 1, shape=(4, 5)))
        run = fairstem("symmetry", path, "-o", tmp_path / "out", "--mask", "0,20", "--quiet")
        assert run.exit_code == 4
        assert "--semiangle-mrad" in run.stderr
        asked = ("--mask", "0,20", "--semiangle-mrad", "20", "--json", "--quiet")
        run = fairstem("symmetry", path, "-o", tmp_path / "out", *asked)
        assert run.exit_code == 0, run.stderr
        assert json.loads(run.stdout)["mrad_per_px"] == pytest.approx(2.4, rel=0.03)
        assert json.loads(run.stdout)["pixel_size_nm"] is None
