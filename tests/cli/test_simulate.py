import errno
import json

import numpy as np
import pandas as pd
import pytest


def test_list_names_every_phantom(fairstem):
    from fairstem.simulate import phantoms

    done = fairstem("simulate", "--list")
    assert done.exit_code == 0
    assert all(name in done.stdout for name in phantoms()["name"])
    listed = json.loads(fairstem("simulate", "--list", "--json").stdout)
    assert {p["name"] for p in listed["phantoms"]} == set(phantoms()["name"])


def test_image_truth_and_preview_agree_with_the_phantom(fairstem, tmp_path):
    import fairstem.simulate as sim
    from fairstem.signals import load, open_data

    out = tmp_path / "new" / "a"
    done = fairstem(
        "simulate",
        "displaced",
        "-o",
        out,
        "--shape",
        "64,80",
        "--seed",
        7,
        "--set",
        "shifted=2",
        "--peak",
        40,
        "--json",
    )
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert sorted(p.name for p in out.parent.iterdir()) == ["a.hspy", "a.png", "a.truth.csv"]
    known = sim.phantom("displaced", seed=7, shape=(64, 80), shifted=2, peak=40.0)
    opened = open_data(load(out.with_suffix(".hspy"), warn=False))
    assert np.array_equal(opened.array, known.data)
    assert opened.pixel_size_nm == pytest.approx((known.pixel_size_nm,) * 2)
    truth = pd.read_csv(out.with_suffix(".truth.csv"))
    assert np.allclose(truth[["y", "x"]], known.truth[["y", "x"]])
    assert summary["columns"] == len(truth)
    assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_file_knows_its_noise(fairstem, tmp_path):
    from fairstem.signals import load

    arguments = ("--set", "gain=4", "--set", "offset=100", "--set", "readout=20", "--set", "background=0.5")
    done = fairstem("simulate", "empty", "-o", tmp_path / "a.hspy", "--peak", 200, *arguments)
    assert done.exit_code == 0, done.stderr
    signal = load(tmp_path / "a.hspy", warn=False)
    model = signal.metadata.Signal.Noise_properties.Variance_linear_model
    predicted = model.gain_factor * signal.data.mean() + model.gain_offset
    assert signal.data.var() == pytest.approx(predicted, rel=0.03)


def test_a_series_is_written_with_its_frames(fairstem, tmp_path):
    from fairstem.signals import load, open_data

    done = fairstem("simulate", "p1", "-o", tmp_path / "s.hspy", "--shape", "32,32", "--set", "frames=3")
    assert done.exit_code == 0, done.stderr
    opened = open_data(load(tmp_path / "s.hspy", warn=False))
    assert opened.array.shape == (3, 32, 32)
    assert [a.navigate for a in opened.axes] == [True, False, False]


def test_dry_run_writes_nothing(fairstem, tmp_path):
    done = fairstem("simulate", "empty", "-o", tmp_path / "a", "--dry-run", "--shape", "32,32")
    assert done.exit_code == 0, done.stderr
    assert "32 × 32" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_kept_unless_told(fairstem, tmp_path):
    (tmp_path / "a.png").write_text("mine")
    arguments = ("simulate", "square", "-o", tmp_path / "a", "--shape", "32,32")
    done = fairstem(*arguments)
    assert done.exit_code == 5
    assert "--overwrite" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert fairstem(*arguments, "--overwrite").exit_code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("square", "--set", "colour=red"),
        ("square", "--peak", "-3"),
        ("square", "--shape", "2,2"),
    ],
)
def test_wrong_options_say_what_exists(fairstem, tmp_path, arguments):
    done = fairstem("simulate", *arguments, "-o", tmp_path / "a")
    assert done.exit_code == 4
    assert "needed: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(fairstem, tmp_path, monkeypatch):
    from fairstem.signals import making

    def full(signal, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(making, "save", full)
    done = fairstem("simulate", "square", "-o", tmp_path / "a", "--shape", "32,32")
    assert done.exit_code == 5
    assert "free some space" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_output_below_a_file_cannot_be_written(fairstem, tmp_path):
    (tmp_path / "f").write_text("")
    done = fairstem("simulate", "square", "-o", tmp_path / "f" / "a", "--shape", "32,32")
    assert done.exit_code == 5
    assert "choose another output" in done.stderr
