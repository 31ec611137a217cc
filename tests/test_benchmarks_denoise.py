"""The benchmark of denoising: its images and regions, what the peers are given, its judge."""

import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import denoise, denoising, workers

from fairstem import simulate

sys.path.insert(0, str(Path(workers.__file__).parent))  # workers run as scripts and import each other so

import counted
import denoise_gaussian
import make_noisy
import real_positions
import scene_regions
import score_denoised

SMALL = {"shape": (256, 256)}


@pytest.fixture(scope="module")
def p2():
    return make_noisy.make("p2", 20.0, 0, shape=(320, 320), shifted=5, halved=5)


def judged(data, mean):
    return score_denoised.judge(data, {"mean": mean, "cpu_s": 0.0})


def test_truth_keeps_all_and_has_no_error(p2):
    scores = judged(p2, p2["clean"])
    assert scores["kept"] == pytest.approx(1.0, abs=0.02)
    assert scores["height"] == pytest.approx(0.5, abs=0.01)
    assert scores["across_px"] < 0.02
    assert scores["ssim"] == pytest.approx(1.0)
    assert all(value == pytest.approx(200) for value in scores["regions"].values())


def test_crystal_without_what_was_planted_keeps_nothing(p2):
    perfect = simulate.phantom("p2", seed=0, peak=20.0, shape=(320, 320)).clean
    scores = judged(p2, perfect)
    assert scores["kept"] == pytest.approx(0.0, abs=0.02)
    assert scores["height"] == pytest.approx(1.0, abs=0.02)
    regions = scores["regions"]
    assert regions["crystal"] > regions["near defects"] + 20


def test_counts_keep_all_but_their_noise(p2):
    scores = judged(p2, p2["noisy"].astype(float))
    assert scores["kept"] == pytest.approx(1.0, abs=0.15)
    assert scores["psnr"] == pytest.approx(21, abs=0.5)


def test_peers_get_stabilised_counts_and_an_inverse_without_bias():
    rng = np.random.default_rng(0)
    for mean in (0.5, 2.0, 10.0, 100.0):
        flat = counted.stabilise(rng.poisson(mean, 200_000))
        assert counted.unbiased(flat.mean()) == pytest.approx(mean, rel=0.02)
    assert counted.unbiased(np.array([0.0, 1.0])) == pytest.approx([0.0, 0.0], abs=0.02)


def test_best_filter_is_better_than_the_counts(p2):
    mean, _ = denoise_gaussian.best(p2["noisy"].astype(float), p2["clean"])
    assert judged(p2, mean)["psnr"] > judged(p2, p2["noisy"])["psnr"] + 8


@pytest.mark.parametrize("scene", list(make_noisy.SCENES))
def test_regions_part_the_image(scene):
    name, options = make_noisy.SCENES[scene]
    few = {"vacancies": 3, "interstitials": 2} if scene == "vacancies" else {}
    few |= {"shifted": 2, "halved": 2} if scene == "p2" else {}
    few |= {"count": 30} if scene == "single-atoms" else {}
    few |= {"diameter_nm": 2.0} if scene == "pt-nanoparticle" else {}
    # pixels twice as large: the same view in a quarter of the pixels
    made = simulate.phantom(name, **{**options, **few, "shape": (256, 256), "pixel_size_nm": 0.02})
    masks = scene_regions.regions(made)
    assert set(masks) <= set(denoise.REGION_NAMES)
    assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
    assert {"p2": "near defects", "vacuum-edge": "vacuum", "dislocation": "boundary"}.get(
        scene, "border"
    ) in masks


def test_regions_are_where_they_say():
    edge = simulate.phantom("vacuum-edge", **SMALL)
    masks = scene_regions.regions(edge)
    assert edge.clean[masks["vacuum"]].max() < 0.1 * edge.clean.max()
    assert edge.clean[masks["crystal"]].max() > 0.9 * edge.clean.max()
    particle = simulate.phantom("pt-nanoparticle", **SMALL)
    masks = scene_regions.regions(particle)
    columns = np.rint(particle.truth[["y", "x"]].to_numpy()).astype(int)
    assert not masks["amorphous"][columns[:, 0], columns[:, 1]].any()
    assert masks["crystal"].sum() > 2000
    holes = simulate.phantom("vacancies", **SMALL, seed=3)
    near = scene_regions.regions(holes)
    gone = np.rint(holes.truth.attrs["vacancies"]).astype(int)
    assert (near["near defects"] | near["border"])[gone[:, 0], gone[:, 1]].all()


def test_positions_on_the_truth_are_an_error_bar_away_from_those_on_counts():
    p = simulate.phantom("srtio3", peak=100.0, seed=1, shape=(128, 128))
    table = p.truth[((p.truth[["y", "x"]] > 12) & (p.truth[["y", "x"]] < 115)).all(axis=1)].assign(
        background=6.0
    )
    columns = table[["y", "x", "height", "width", "background"]].to_numpy()
    found = real_positions.positions(p.data.astype(float), p.clean, columns)
    assert found["away_px"] == pytest.approx(found["bar_px"], rel=0.3)
    white = real_positions.whiteness(p.data, p.clean)
    assert white["variance"] == pytest.approx(1, abs=0.05)
    assert abs(white["neighbour_x"]) < 0.03


def test_gains_compare_the_images_that_both_have():
    ours = [{"psnr": 30.0 + n, "regions": {"crystal": 30.0 + n, "border": 25.0}} for n in range(3)]
    theirs = [{"psnr": 28.0, "regions": {"crystal": 29.0, "border": 26.0}}]
    assert denoising.gains(ours, theirs) == {"crystal": 1.0, "border": -1.0}
    assert denoising.gains_whole(ours, theirs) == 2.0
    assert denoising.region_of(ours, "vacuum") is None
    assert denoising.mean_of(ours, "kept") is None


def test_row_of_the_table():
    own = [{"psnr": 30.0, "ssim": 0.9, "kept": 0.9, "height": 0.52, "cpu_s": 4.0}]
    ours = [{"cpu_s": 2.0}]
    row = denoise.row(own, ours)
    assert row["times"] == 2.0
    assert row["seeds"] == 1
    lines = denoise.targets_p2(5.0, {denoise.FAIRSTEM.label: own})
    assert sum("NOT met" in line for line in lines) == 2
