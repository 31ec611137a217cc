import errno
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

FILES = ["before_after.png", "denoised.hspy", "deviations.csv", "report.html", "retention.csv"]


def write_tiff(path, data, **options):
    tifffile.imwrite(path, data, **options)
    return path


@pytest.fixture(scope="module")
def defects_file(tmp_path_factory):
    """A crystal of 160 px at 20 electrons with two shifted and two half columns, its truth beside it."""
    from typer.testing import CliRunner

    from fairstem.cli.app import app

    path = tmp_path_factory.mktemp("p2") / "p2.hspy"
    planted = ("--set", "shifted=2", "--set", "halved=2")
    done = CliRunner().invoke(
        app, ["simulate", "p2", "-o", str(path), "--shape", "160,160", "--seed", "1", *planted, "--quiet"]
    )
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture(scope="module")
def denoised(tmp_path_factory, defects_file):
    """One run of the verb, pictures included, whose folder several tests look at."""
    from typer.testing import CliRunner

    from fairstem.cli.app import app

    out = tmp_path_factory.mktemp("denoise") / "out"
    done = CliRunner().invoke(app, ["denoise", str(defects_file), "-o", str(out), "--json"])
    assert done.exit_code == 0, done.output
    return out, json.loads(done.stdout)


def test_the_folder_holds_what_is_promised(denoised):
    out, facts = denoised
    assert sorted(p.name for p in out.iterdir()) == FILES == facts["written"]
    assert (out / "before_after.png").read_bytes().startswith(b"\x89PNG")


def test_the_image_is_that_of_the_library_with_its_provenance(denoised, defects_file):
    from fairstem.denoise import nonlocal_means
    from fairstem.signals import load, open_data, sha256, steps_of

    out, facts = denoised
    stored, given = load(out / "denoised.hspy", warn=False), load(defects_file, warn=False)
    assert stored.data.dtype == np.float32
    assert np.array_equal(stored.data, nonlocal_means(given).data.astype(np.float32))
    assert open_data(stored).pixel_size_nm == open_data(given).pixel_size_nm
    steps = steps_of(stored)
    assert [s["function"] for s in steps] == ["fairstem.simulate.phantom", "fairstem.denoise.nonlocal_means"]
    assert steps[1]["input_sha256"] == sha256(given.data)
    assert steps[1]["parameters"]["strength"] == 0.05
    assert {p["name"] for p in steps[1]["priors"]} == {p["name"] for p in facts["priors"]}
    assert "residual-is-noise" in {p["name"] for p in facts["priors"]}


def test_planted_defects_are_in_the_table_with_their_errors(denoised, defects_file):
    out, facts = denoised
    truth = pd.read_csv(defects_file.with_suffix(".truth.csv"))
    table = pd.read_csv(out / "deviations.csv")
    assert len(table) == facts["deviations"]["number"]
    for column in truth[truth["planted"] != "none"].itertuples():
        near = table[np.hypot(table["y"] - column.y, table["x"] - column.x) < 4]
        assert len(near) == 1
        (row,) = near.itertuples()
        assert row.probability > 0.9
        if column.planted == "shift":
            for axis in "yx":
                off = getattr(row, f"shift_{axis}") - getattr(column, f"shift_{axis}")
                assert abs(off) < 4 * getattr(row, f"sd_shift_{axis}")
        else:
            assert abs(row.relative_intensity - 0.5) < 4 * row.sd_relative_intensity


def test_what_is_kept_is_tabled_by_size(denoised):
    out, facts = denoised
    table = pd.read_csv(out / "retention.csv")
    assert set(table["quantity"]) == {"shift", "intensity"}
    assert set(table.loc[table["quantity"] == "shift", "unit"]) == {"pm"}
    assert table["kept"].between(-0.1, 1.1).all()
    for limit in facts["kept_to_90_percent"]:
        own = table[(table["site"] == limit["site"]) & (table["quantity"] == limit["quantity"])]
        assert own.loc[own["amount"] > limit["amount_90"], "kept"].min() >= 0.9


def test_the_report_shows_pictures_deviations_checks_and_how_to_cite(denoised):
    out, _ = denoised
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in (
        "Measure positions on the raw counts",
        "What deviates from the crystal",
        "Where the denoised image stands on the crystal",
        "What was removed, in standard deviations",
        "Structure in what was removed",
        "What is kept of a displacement",
        "The most certain deviations",
        "Assumptions of the method",
        "How this was made",
        "10.1186/s40679-015-0004-8",
    ):
        assert text in page
    assert page.count("<img ") == page.count('src="data:image/png;base64,') == 8


@pytest.mark.usefixtures("without_pictures")
class TestVerb:
    def test_it_says_the_same_to_a_reader(self, fairstem, defects_file, tmp_path):
        done = fairstem("denoise", defects_file, "-o", tmp_path / "out", "--quiet")
        assert done.exit_code == 0, done.stderr
        for text in (
            "1 lattice",
            "deviate from it",
            "kept to 90 %, site 0: a displacement from",
            "report.html",
        ):
            assert text in done.stdout
        assert done.stderr == ""

    def test_without_calibration_it_works_in_pixels(self, fairstem, defects_file, tmp_path):
        from fairstem.signals import load

        path = write_tiff(tmp_path / "bare.tif", load(defects_file, warn=False).data.astype(np.uint16))
        done = fairstem("denoise", path, "-o", tmp_path / "out", "--json", "--noise", "poisson")
        assert done.exit_code == 0, done.stderr
        facts = json.loads(done.stdout)
        assert facts["lattices"][0]["unit"] == "px"
        assert facts["lattices"][0]["lengths"] == pytest.approx([32.5, 32.5], rel=0.01)
        assert facts["noise"]["source"] == "counts"
        table = pd.read_csv(tmp_path / "out" / "deviations.csv")
        assert "shift_y" in table
        assert not [name for name in table if name.endswith("_pm")]

    def test_without_a_crystal_tables_are_empty_and_the_page_says_so(self, fairstem, tmp_path):
        rng = np.random.default_rng(2)
        path = write_tiff(
            tmp_path / "ramp.tif", rng.poisson(np.linspace(5, 20, 48) * np.ones((48, 1))).astype("u2")
        )
        done = fairstem("denoise", path, "-o", tmp_path / "out", "--noise", "poisson", "--search", "local")
        assert done.exit_code == 0, done.stderr
        assert "no lattice" in done.stdout
        for name, column in (("deviations.csv", "kind"), ("retention.csv", "kept")):
            table = pd.read_csv(tmp_path / "out" / name)
            assert len(table) == 0
            assert column in table
        assert "No lattice was used" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")

    def test_a_constant_image_comes_back_as_it_was(self, fairstem, tmp_path):
        path = write_tiff(tmp_path / "flat.tif", np.full((48, 48), 7, np.uint16))
        done = fairstem("denoise", path, "-o", tmp_path / "out", "--json")
        assert done.exit_code == 0, done.stderr
        from fairstem.signals import load

        assert (load(tmp_path / "out" / "denoised.hspy", warn=False).data == 7).all()
        assert "no noise to remove" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")

    def test_dry_run_plans_and_writes_nothing(self, fairstem, defects_file, tmp_path):
        done = fairstem("denoise", defects_file, "-o", tmp_path / "out", "--dry-run")
        assert done.exit_code == 0, done.stderr
        for text in ("160 × 160", "0.012", "strength 0.05", "peak memory", "nothing was written"):
            assert text in done.stdout
        assert list(tmp_path.iterdir()) == []
        plan = json.loads(fairstem("denoise", defects_file, "--dry-run", "--json").stdout)
        assert plan["peak_bytes"] > 25 * 160 * 160 * 8
        assert plan["frames"] is None

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--method", "magic"),
            ("--noise", "salt"),
            ("--search", "everywhere"),
            ("--strength", "0"),
            ("--strength", "2"),
            ("--strength", "nan"),
            ("--gain", "much"),
            ("--pixel-size-nm", "-1"),
            ("--nonsense",),
        ],
    )
    def test_wrong_usage(self, fairstem, defects_file, tmp_path, arguments):
        assert fairstem("denoise", defects_file, "-o", tmp_path / "out", *arguments).exit_code == 2
        assert not (tmp_path / "out").exists()

    def test_no_output_is_wrong_usage(self, fairstem, defects_file):
        assert fairstem("denoise", defects_file).exit_code == 2

    def test_numbers_that_do_not_go_with_the_noise_are_refused(self, fairstem, defects_file, tmp_path):
        arguments = ("--noise", "poisson", "--readout", "3")
        done = fairstem("denoise", defects_file, "-o", tmp_path / "out", *arguments)
        assert done.exit_code == 4
        assert "poisson-gauss" in done.stderr
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("name", ["all-nan", "rgb", "tiny", "negative"])
    def test_images_that_do_not_fit_are_refused(self, fairstem, tmp_path, name):
        rng = np.random.default_rng(0)
        bad = {
            "all-nan": np.full((48, 48), np.nan, np.float32),
            "rgb": rng.integers(0, 255, (48, 48, 3)).astype(np.uint8),
            "tiny": rng.poisson(5, (6, 6)).astype(np.uint16),
            "negative": rng.poisson(5, (48, 48)).astype(np.float32) - 5,
        }[name]
        path = write_tiff(tmp_path / "bad.tif", bad, **({"photometric": "rgb"} if name == "rgb" else {}))
        done = fairstem("denoise", path, "-o", tmp_path / "out", "--quiet", "--noise", "poisson")
        assert done.exit_code == 4, (done.stdout, done.stderr)
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()

    def test_a_spectrum_is_refused(self, fairstem, tmp_path):
        import hyperspy.api as hs

        from fairstem.signals.making import save

        save(hs.signals.Signal1D(np.arange(50.0)), tmp_path / "line.hspy")
        done = fairstem("denoise", tmp_path / "line.hspy", "-o", tmp_path / "out")
        assert done.exit_code == 4
        assert "holds a spectrum, 50" in done.stderr
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("name", ["missing.hspy", "truncated.hspy", "strange.xyz"])
    def test_files_that_cannot_be_read(self, fairstem, defects_file, tmp_path, name):
        path = tmp_path / name
        if name.startswith("truncated"):
            path.write_bytes(defects_file.read_bytes()[:3000])
        elif name.startswith("strange"):
            path.write_text("what is this")
        assert fairstem("denoise", path, "-o", tmp_path / "out").exit_code == 3
        assert not (tmp_path / "out").exists()

    def test_existing_output_is_kept_unless_told(self, fairstem, stack_file, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        (out / "notes.txt").write_text("mine")
        done = fairstem("denoise", stack_file, "-o", out)
        assert done.exit_code == 5
        assert "--overwrite" in done.stderr
        assert fairstem("denoise", stack_file, "-o", out, "--frame", 0, "--overwrite").exit_code == 0
        assert sorted(p.name for p in out.iterdir()) == sorted([*FILES, "notes.txt"])

    def test_a_full_disk_leaves_nothing(self, fairstem, stack_file, tmp_path, monkeypatch):
        from fairstem.signals import making

        def full(signal, path):
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(making, "save", full)
        assert fairstem("denoise", stack_file, "-o", tmp_path / "out", "--frame", 0).exit_code == 5
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def stack_file(tmp_path_factory):
    """Three frames of 64 px: the same crystal, counted three times."""
    from fairstem.signals.making import make_signal, save
    from fairstem.simulate import phantom

    frames = [phantom("p2", shape=(64, 64), peak=20, seed=seed).data for seed in (1, 2, 3)]
    path = tmp_path_factory.mktemp("stack") / "stack.hspy"
    save(make_signal(np.stack(frames), pixel_size_nm=(0.012, 0.012), noise=(1, 0, 0), title="three"), path)
    return path


@pytest.mark.usefixtures("without_pictures")
class TestStack:
    def test_every_frame_is_denoised_lazily_or_not(self, fairstem, stack_file, tmp_path):
        from fairstem.denoise import nonlocal_means
        from fairstem.signals import load

        given = load(stack_file, warn=False)
        wanted = [nonlocal_means(frame, search="local").astype(np.float32) for frame in given.data]
        for name, lazy in (("eager", ()), ("lazy", ("--lazy",))):
            done = fairstem(
                "denoise", stack_file, "-o", tmp_path / name, "--json", "--search", "local", *lazy
            )
            assert done.exit_code == 0, done.stderr
            facts = json.loads(done.stdout)
            assert facts["frames"] == 3
            stored = load(tmp_path / name / "denoised.hspy", warn=False)
            assert stored.data.dtype == np.float32
            assert np.allclose(stored.data, wanted, rtol=1e-5)
            assert sorted(p.name for p in (tmp_path / name).iterdir()) == FILES
            assert "All 3 frames" in (tmp_path / name / "report.html").read_text(encoding="utf-8")

    def test_one_frame_gives_the_full_report_of_that_frame(self, fairstem, stack_file, tmp_path):
        from fairstem.signals import load

        done = fairstem("denoise", stack_file, "-o", tmp_path / "out", "--frame", "-1", "--json")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["frames"] is None
        assert load(tmp_path / "out" / "denoised.hspy", warn=False).data.shape == (64, 64)
        assert fairstem("denoise", stack_file, "-o", tmp_path / "no", "--frame", 3).exit_code == 4
        assert not (tmp_path / "no").exists()

    def test_dry_run_counts_the_frames(self, fairstem, stack_file):
        done = fairstem("denoise", stack_file, "--dry-run")
        assert done.exit_code == 0, done.stderr
        assert "3 frames" in done.stdout
        assert "in 3 blocks" in done.stdout
