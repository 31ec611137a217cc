import json

import pytest

from fairstem.cli.tour_denoise import DENOISED
from fairstem.cli.tour_diffraction import SCANS
from fairstem.cli.tour_samples import SAMPLES
from fairstem.cli.tour_series import SERIES


def test_samples_exist_in_the_registries():
    from fairstem import data
    from fairstem.simulate import phantoms

    known = set(phantoms()["name"])
    for sample in SAMPLES:
        assert data.record(sample.file).name == sample.file
        assert sample.phantom in known
    for series in SERIES:
        assert all(data.record(name).name == name for name in series.files)
        assert series.phantom in known
    for image in DENOISED:
        assert not image.file or data.record(image.file).name == image.file
        assert image.phantom in known
    every = (*SAMPLES, *SERIES, *DENOISED, *SCANS)
    assert len({s.name for s in every}) == len(every)
    assert all(any(s.quick for s in group) for group in (SAMPLES, SERIES, DENOISED, SCANS))


@pytest.fixture
def small(monkeypatch):
    """Samples that take a second: the same phantoms, smaller."""
    import dataclasses

    from fairstem.cli import tour_denoise, tour_diffraction, tour_samples, tour_series

    two = [
        dataclasses.replace(s, options={**s.options, "shape": (96, 96)})
        for s in SAMPLES
        if s.name in ("srtio3", "si110")
    ]
    monkeypatch.setattr(tour_samples, "SAMPLES", tuple(two))
    options = {"seed": 1, "frames": 5, "shape": (128, 112), "distortion": "row"}
    one = dataclasses.replace(SERIES[0], phantom="pt-nanoparticle", options=options)
    monkeypatch.setattr(tour_series, "SERIES", (one,))
    options = {**DENOISED[0].options, "shape": (160, 160), "shifted": 2, "halved": 2, "peak": 20.0}
    monkeypatch.setattr(tour_denoise, "DENOISED", (dataclasses.replace(DENOISED[0], options=options),))
    options = {**SCANS[0].options, "scan": (24, 24), "detector": (25, 25), "mrad_per_px": 2.4}
    monkeypatch.setattr(tour_diffraction, "SCANS", (dataclasses.replace(SCANS[0], options=options),))


def test_the_tour_on_phantoms_finds_every_column(fairstem, small, tmp_path, without_pictures):
    done = fairstem("tour", "-o", tmp_path / "demo", "--phantoms", "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    page = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    for sample in facts["samples"]:
        assert sample["real"] is False
        assert sample["comparison"]["recall"] == 1
        assert sample["comparison"]["precision"] == 1
        assert sample["name"] in page
    assert "Simulated" in page
    (series,) = facts["series"]
    assert series["real"] is False
    assert series["frames_used"] == [0, 1, 2, 3, 4]
    # far below what was simulated, 0.5 px of waves and 0.25 px of jitter
    assert series["comparison"]["error"] < 0.15 * 15
    assert "error against the true displacement" in page
    (image,) = facts["denoised"]
    assert image["real"] is False
    scores = image["comparison"]
    assert scores["psnr"] > scores["psnr_before"] + 10
    for planted in ("shift", "half"):
        assert scores[planted]["planted"] == scores[planted]["listed"] == 2
        assert abs(scores[planted]["kept"] - 1) < 0.25
    assert "of the planted displacements kept" in page
    (scan,) = facts["scans"]
    scores = scan["comparison"]
    assert scores["rms"] < 0.3 * scores["rms_before"]
    assert abs(scores["bias"]) < 5e-3
    assert 0.63 < scores["within"] < 0.73
    moved = scores["column"]
    assert moved["position"] == [12, 12]
    assert abs(moved["gamma"] - moved["true"]) < 3 * moved["sd"]
    assert moved["gamma"] < 1 - 3 * moved["sd"]
    assert "C2 at the moved column" in page


def test_a_series_that_does_not_fit_is_named_and_the_tour_goes_on(fairstem, small, tmp_path, monkeypatch):
    from fairstem import register
    from fairstem.errors import DataError

    def refuse(*_, **__):
        raise DataError("no two frames show the same object")

    monkeypatch.setattr(register, "align", refuse)
    done = fairstem("tour", "-o", tmp_path / "demo", "--only", "series", "--json")
    assert done.exit_code == 0, done.stderr
    (facts,) = json.loads(done.stdout)["series"]
    assert "no two frames" in facts["error"]
    assert "no two frames" in (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")


def test_a_scan_that_does_not_fit_is_named_and_the_tour_goes_on(fairstem, small, tmp_path, monkeypatch):
    from fairstem import diffraction
    from fairstem.errors import DataError

    def refuse(*_, **__):
        raise DataError("patterns of another world")

    monkeypatch.setattr(diffraction, "calibrate", refuse)
    done = fairstem("tour", "-o", tmp_path / "demo", "--only", "symmetry", "--json")
    assert done.exit_code == 0, done.stderr
    (facts,) = json.loads(done.stdout)["scans"]
    assert "another world" in facts["error"]
    assert "could not be mapped" in (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")


def test_a_second_tour_replaces_the_first_but_nothing_else(fairstem, small, tmp_path, without_pictures):
    out = tmp_path / "demo"
    arguments = ("tour", "-o", out, "--phantoms", "--only", "srtio3", "--quiet")
    assert fairstem(*arguments).exit_code == 0
    assert fairstem(*arguments).exit_code == 0
    (out / "index.html").write_text("<html>mine</html>")
    assert fairstem(*arguments).exit_code == 5
    assert (out / "index.html").read_text() == "<html>mine</html>"


def test_an_unknown_sample_is_wrong_usage(fairstem, tmp_path):
    done = fairstem("tour", "-o", tmp_path / "demo", "--only", "moon-rock")
    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_real_image_is_taken_when_it_is_at_hand(fairstem, tmp_path, without_pictures):
    from fairstem import data

    if not data.available("Example3.mat"):
        pytest.skip("Example3.mat is not at hand (fairstem.data.fetch gets it)")
    done = fairstem("tour", "-o", tmp_path / "demo", "--only", "cspbbr3", "--json")
    assert done.exit_code == 0, done.stderr
    (facts,) = json.loads(done.stdout)["samples"]
    assert facts["real"] is True
    assert facts["comparison"]["known_from"] == "StatSTEM"
    assert facts["comparison"]["recall"] > 0.9
