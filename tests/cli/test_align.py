import json
import warnings

import numpy as np
import pandas as pd
import pytest
import tifffile

FILES = sorted(
    [
        "alignment.h5",
        "average.hspy",
        "average.png",
        "average.tif",
        "report.html",
        "result.json",
        "rows.csv",
    ]
)
SHAPE, FRAMES = (128, 112), 6


@pytest.fixture(scope="module")
def phantom():
    """A small distorted series of a particle; the displacement of every row is known."""
    from fairstem import simulate

    return simulate.phantom("pt-nanoparticle", seed=3, shape=SHAPE, frames=FRAMES, peak=100, distortion="row")


@pytest.fixture(scope="module")
def series_file(phantom, tmp_path_factory):
    """The series with its pixel size."""
    from fairstem.signals import make_signal, save

    path = tmp_path_factory.mktemp("series") / "series.hspy"
    save(make_signal(phantom.data, pixel_size_nm=(0.015, 0.015), title="six frames"), path)
    return path


@pytest.fixture(scope="module")
def registered(tmp_path_factory, series_file):
    """One run of the verb, pictures included, whose folder several tests look at."""
    from typer.testing import CliRunner

    from fairstem.cli.app import app

    out = tmp_path_factory.mktemp("align") / "out"
    done = CliRunner().invoke(app, ["align", str(series_file), "-o", str(out), "--json", "--aligned"])
    assert done.exit_code == 0, done.output
    return out, json.loads(done.stdout)


def test_the_folder_holds_what_is_promised(registered):
    out, facts = registered
    assert sorted(p.name for p in out.iterdir()) == sorted([*FILES, "aligned.hspy"]) == facts["written"]


def test_the_average_has_pixel_size_and_provenance(registered):
    from fairstem.signals import load, open_data, steps_of

    out, _ = registered
    for name in ("average.hspy", "average.tif"):
        average = load(out / name, warn=False)
        assert average.data.shape == SHAPE
        assert open_data(average).pixel_size_nm == pytest.approx((0.015, 0.015), rel=1e-4)
    assert steps_of(load(out / "average.hspy", warn=False))[-1]["function"] == "fairstem.register.align"
    assert load(out / "aligned.hspy", warn=False).data.shape == (FRAMES, *SHAPE)


def test_the_table_holds_the_displacement_of_every_row(registered, phantom):
    out, facts = registered
    table = pd.read_csv(out / "rows.csv")
    assert list(table) == ["frame", "row", "dy", "dx", "sd_dy", "sd_dx"]
    assert len(table) == FRAMES * SHAPE[0]
    rows = table[["dy", "dx"]].to_numpy().reshape(FRAMES, SHAPE[0], 2).transpose(0, 2, 1)
    # the error, up to what all frames share and to where the average lies
    off = rows - phantom.displacement[..., 0]
    off -= off.mean(axis=0)
    assert np.sqrt((off[:, :, 8:-8] ** 2).mean()) < 0.1
    assert (table[["sd_dy", "sd_dx"]] > 0).all(axis=None)
    assert facts["shifts_px"] == pytest.approx(rows.mean(axis=-1), abs=1e-4)


def test_the_numbers_say_floor_unit_and_frames(registered, phantom):
    out, facts = registered
    stored = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert facts["model"] == "rowwise"
    assert stored["floor"] == facts["floor"] == stored["floor_pm"]
    assert facts["unit"] == "pm"
    assert facts["floor"] == pytest.approx(15 * facts["floor_px"])
    assert facts["frames_used"] == list(range(FRAMES))
    # a column averages over rows, so that the floor is lower for it than for a row
    assert 0 < facts["budget"]["common-mode floor"] < facts["floor"]
    assert facts["column_width_px"] == pytest.approx(phantom.truth["width"].median(), rel=0.15)


def test_the_stored_alignment_is_the_one_of_the_table(registered):
    from fairstem.register import load

    out, facts = registered
    alignment = load(out / "alignment.h5")
    assert alignment.floor.pm == pytest.approx(facts["floor"])
    table = pd.read_csv(out / "rows.csv")
    rows = table[["dy", "dx"]].to_numpy().reshape(FRAMES, SHAPE[0], 2).transpose(0, 2, 1)
    assert np.allclose(alignment.motion.rows, rows, atol=1e-3)


def test_the_report_shows_every_part(registered):
    out, _ = registered
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in (
        "What came in",
        "Before and after",
        "Displacement in time",
        "What changed",
        "common-mode floor",
        "Assumptions of the method",
        "How this was made",
        "10.1186/s40679-015-0008-4",
    ):
        assert text in page
    assert page.count("<img ") == page.count('src="data:image/png;base64,') >= 6


def test_it_says_the_same_to_a_reader(fairstem, series_file, tmp_path, without_pictures):
    done = fairstem("align", series_file, "-o", tmp_path / "out", "--quiet")
    assert done.exit_code == 0, done.stderr
    assert "common-mode floor: " in done.stdout
    assert f"at {FRAMES} frames" in done.stdout
    assert done.stderr == ""
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == FILES


def write_frames(folder, frames):
    paths = []
    for k, frame in enumerate(frames):
        paths.append(folder / f"frame_{k}.tif")
        tifffile.imwrite(paths[-1], frame)
    return paths


def test_several_files_are_the_frames_in_the_order_given(fairstem, phantom, tmp_path, without_pictures):
    from fairstem.signals import load

    (tmp_path / "in").mkdir()
    paths = write_frames(tmp_path / "in", phantom.data)
    done = fairstem(
        "align", *paths, "-o", tmp_path / "out", "--json", "--pixel-size-nm", "0.015", "--aligned"
    )
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["frames"] == FRAMES
    assert facts["pixel_size_nm"] == [0.015, 0.015]
    assert facts["files"] == [str(p) for p in paths]
    assert load(tmp_path / "out" / "aligned.hspy", warn=False).data.shape == (FRAMES, *SHAPE)


def test_without_calibration_it_works_in_pixels(fairstem, phantom, tmp_path, without_pictures):
    path = write_stack(tmp_path / "bare.hspy", phantom.data)
    done = fairstem("align", path, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["unit"] == "px"
    assert facts["floor"] == facts["floor_px"]
    assert facts["floor_pm"] is None


def write_stack(path, data, **options):
    from fairstem.signals import make_signal, save

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(make_signal(data, **options), path)
    return path


def test_frames_shifted_as_a_whole_have_no_traces(fairstem, series_file, tmp_path, without_pictures):
    done = fairstem("align", series_file, "-o", tmp_path / "out", "--json", "--model", "rigid")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["model"] == "rigid"
    assert facts["within_frames"] is None
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "no displacement within them" in page
    assert len(pd.read_csv(tmp_path / "out" / "rows.csv")) == FRAMES * SHAPE[0]


def test_options_reach_the_method(fairstem, series_file, tmp_path, without_pictures):
    arguments = ("--reference", 2, "--angles", "0,0,0,0,0,0", "--average", "median")
    done = fairstem("align", series_file, "-o", tmp_path / "out", "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    asked = facts["parameters"]["asked"]
    assert asked["reference"] == 2
    assert asked["angles"] == [0] * FRAMES
    assert asked["combine"] == "median"
    # the average lies where that frame lies
    assert facts["shifts_px"][2] == pytest.approx([0, 0], abs=0.2)
    done = fairstem("align", series_file, "-o", tmp_path / "bad", "--angles", "0,90")
    assert done.exit_code == 4
    assert not (tmp_path / "bad").exists()


def test_dry_run_plans_and_writes_nothing(fairstem, series_file, tmp_path):
    done = fairstem("align", series_file, "-o", tmp_path / "out", "--dry-run")
    assert done.exit_code == 0, done.stderr
    for text in ("6 frames of 128 × 112", "0.015", "6 blocks", "peak memory", "nothing was written"):
        assert text in done.stdout
    assert list(tmp_path.iterdir()) == []
    plan = json.loads(fairstem("align", series_file, "--dry-run", "--json").stdout)
    assert plan["frames"] == FRAMES
    assert plan["lazy"] is False
    assert plan["peak_bytes"] > FRAMES * 128 * 112 * 4


def test_a_memory_budget_reads_frames_one_by_one_or_says_what_is_needed(fairstem, tmp_path):
    import dask.array as da
    import hyperspy.api as hs

    big = hs.signals.Signal2D(da.zeros((50, 512, 512), chunks=(1, 512, 512), dtype="u2")).as_lazy()
    big.axes_manager[0].navigate = True
    path = tmp_path / "big.hspy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        big.save(path)
    whole = json.loads(fairstem("align", path, "--dry-run", "--json").stdout)
    assert whole["lazy"] is False
    limit = f"{whole['peak_bytes'] - 10_000_000}"
    tight = json.loads(fairstem("align", path, "--dry-run", "--json", "--memory", limit).stdout)
    assert tight["lazy"] is True
    assert tight["peak_bytes"] < whole["peak_bytes"]
    done = fairstem("align", path, "-o", tmp_path / "out", "--memory", "1MB")
    assert done.exit_code == 4
    assert "raise --memory" in done.stderr
    assert not (tmp_path / "out").exists()


def test_lazy_reading_gives_the_same(fairstem, series_file, registered, tmp_path, without_pictures):
    done = fairstem("align", series_file, "-o", tmp_path / "out", "--json", "--lazy", "--quiet")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["floor"] == pytest.approx(registered[1]["floor"])
    assert facts["shifts_px"] == pytest.approx(np.array(registered[1]["shifts_px"]))


def one_frame(folder, data):
    return [write_stack(folder / "one.hspy", data[:1])]


def one_image(folder, data):
    return [write_stack(folder / "one.hspy", data[0])]


def different_sizes(folder, data):
    frames = [data[0], data[1], data[2][:-4]]
    return [write_stack(folder / f"frame_{k}.hspy", frame) for k, frame in enumerate(frames)]


def spectrum_image(folder, data):
    import hyperspy.api as hs

    from fairstem.signals import save

    save(hs.signals.Signal1D(np.ones((8, 8, 30))), folder / "spectra.hspy")
    return [folder / "spectra.hspy"]


def colour(folder, data):
    import imageio.v3 as iio

    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    iio.imwrite(folder / "colour.png", picture)
    return [folder / "colour.png"]


BAD = {
    one_frame: "two frames or more",
    one_image: "two frames or more",
    different_sizes: "frame_2.hspy",
    spectrum_image: "an image series",
    colour: "colour picture",
}


@pytest.mark.parametrize("make", BAD, ids=lambda f: f.__name__)
def test_what_is_no_series_is_refused(fairstem, phantom, tmp_path, make):
    (tmp_path / "in").mkdir()
    paths = make(tmp_path / "in", phantom.data)
    for extra in ((), ("--dry-run",)):
        done = fairstem("align", *paths, "-o", tmp_path / "out", "--quiet", *extra)
        assert done.exit_code == 4, (done.stdout, done.stderr)
        assert done.stderr.startswith("error: ")
        assert BAD[make] in done.stderr
        assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_read(fairstem, phantom, tmp_path):
    paths = write_frames(tmp_path, phantom.data[:2])
    (tmp_path / "strange.xyz").write_text("what is this")
    for bad in ("missing.tif", "strange.xyz"):
        done = fairstem("align", *paths, tmp_path / bad, "-o", tmp_path / "out")
        assert done.exit_code == 3
        assert bad in done.stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [("--model", "elastic"), ("--average", "mode"), ("--angles", "0,x"), ("--nonsense",)]
)
def test_wrong_usage(fairstem, series_file, tmp_path, arguments):
    assert fairstem("align", series_file, "-o", tmp_path / "out", *arguments).exit_code == 2
    assert fairstem("align", series_file).exit_code == 2
    assert fairstem("align", "-o", tmp_path / "out").exit_code == 2


def test_existing_output_is_kept_unless_told(fairstem, series_file, tmp_path, without_pictures):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    done = fairstem("align", series_file, "-o", out)
    assert done.exit_code == 5
    assert "--overwrite" in done.stderr
    assert fairstem("align", series_file, "-o", out, "--overwrite").exit_code == 0
    assert sorted(p.name for p in out.iterdir()) == sorted([*FILES, "notes.txt"])


def test_a_bug_in_the_method_leaves_nothing(fairstem, series_file, tmp_path, monkeypatch):
    from fairstem import register

    def broken(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(register, "align", broken)
    done = fairstem("align", series_file, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "this is a bug" in done.stderr
    assert list(tmp_path.iterdir()) == []
