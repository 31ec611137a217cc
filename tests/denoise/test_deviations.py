"""Deviations of a crystal's columns: found at the promised rate, put back, described."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from fairstem import simulate
from fairstem.denoise._crystal.certainty import fit_certainty
from fairstem.denoise._crystal.describe import describe_deviations
from fairstem.denoise._crystal.deviations import find_deviations
from fairstem.denoise._crystal.retention import expected_retention, site_information
from fairstem.denoise._crystal.sites import combined_tail, group_statistics, model_tails
from fairstem.errors import DataError
from fairstem.metrics import psnr

PIXEL_NM = 0.012


def crystal(peak=5.0, seed=0, shape=(256, 256), **planted):
    """Counts, expected counts, the crystal without defects, its sites, and the truth."""
    perfect = simulate.phantom("p2", seed=seed, peak=peak, shape=shape)
    image = simulate.phantom("p2", seed=seed, peak=peak, shape=shape, **planted)
    sites = perfect.truth[["y", "x", "width", "site", "height"]].to_numpy(float)
    return image.data.astype(float), image.clean, perfect.clean, sites, image.truth


def along(found, sites, truth):
    """Fitted shift along the planted one, as its share."""
    rows = np.flatnonzero(truth["planted"] == "shift")
    planted = truth[["shift_y", "shift_x"]].to_numpy(float)[rows]
    beta = found.coefficients[rows]
    fitted = sites[rows, 2:3] * beta[:, 1:3] / (1 + beta[:, :1])
    return (fitted * planted).sum(1) / (planted**2).sum(1)


def test_the_smallest_of_four_tails_becomes_an_exact_tail():
    z = np.random.default_rng(1).normal(size=(40_000, 6))
    tail = combined_tail(model_tails(group_statistics(z)).min(1))
    for level in (0.5, 0.05, 0.005):
        assert abs((tail < level).mean() - level) < 4 * np.sqrt(level * (1 - level) / len(tail))


@pytest.mark.parametrize("peak", [1.0, 20.0])
def test_a_perfect_crystal_is_active_at_the_rate_strength(peak):
    active = tested = 0
    for seed in range(4):
        k, _, mean, sites, _ = crystal(peak, seed, (384, 384))
        found = find_deviations(k, mean, sites, strength=0.05, blobs=False)
        active, tested = active + found.active.sum(), tested + np.isfinite(found.statistic).sum()
    # 4 sd; at one count a pixel, 35 in a column, the normal score is good to a fifth of the rate
    slack = 0.01 if peak < 5 else 0.0
    assert abs(active / tested - 0.05) < slack + 4 * np.sqrt(0.05 * 0.95 / tested)


def test_what_was_planted_is_kept_and_the_rest_is_clean():
    k, clean, mean, sites, truth = crystal(5.0, 2, (384, 384), shifted=10, halved=10)
    found = find_deviations(k, mean, sites, strength=0.05)
    planted = (truth["planted"] != "none").to_numpy()
    assert found.active[planted].all()
    assert abs(along(found, sites, truth).mean() - 1) < 0.1
    half = (truth["planted"] == "half").to_numpy()
    assert abs(found.coefficients[half, 0].mean() + 0.5) < 0.06
    # the retained share is in the image, not only in the coefficients
    # (one to two parameters of noise out of a statistic of about 45 a column, and as much again by chance)
    before = ((mean - clean) ** 2).sum()
    assert ((found.estimate.mean - clean) ** 2).sum() < 0.1 * before
    assert psnr(found.estimate.mean, clean) > 43
    assert found.estimate.mean.min() > 0


def test_strength_one_puts_every_site_back_in_full():
    k, _, mean, sites, truth = crystal(5.0, 3, shifted=8, shift_pm=5.0)
    found = find_deviations(k, mean, sites, strength=1.0, blobs=False)
    tested = np.isfinite(found.statistic)
    assert (found.active == tested).all()
    # 5 pm is 1 sd of a column: only the mean over many says that nothing is erased
    shares = [along(found, sites, truth)]
    for seed in range(4, 10):
        k, _, mean, sites, truth = crystal(20.0, seed, shifted=8, shift_pm=5.0)
        found = find_deviations(k, mean, sites, strength=1.0, blobs=False)
        shares.append(along(found, sites, truth))
    pooled = np.concatenate(shares[1:])
    assert abs(pooled.mean() - 1) < 4 * pooled.std() / np.sqrt(pooled.size) < 0.25


def test_larger_strength_keeps_more_and_smooths_less():
    k, _, mean, sites, _ = crystal(2.0, 5, shifted=6, halved=6)
    results = [find_deviations(k, mean, sites, strength=p) for p in (0.001, 0.05, 0.5, 1.0)]
    counts = [r.active.sum() for r in results]
    kept = [r.estimate.leverage.sum() for r in results]
    assert counts == sorted(counts)
    assert kept == sorted(kept)


def test_leverage_is_the_derivative_of_the_estimate():
    k, _, mean, sites, _ = crystal(20.0, 1, (128, 128), shifted=2, halved=2)
    rng = np.random.default_rng(0)
    for strength in (0.05, 1.0):
        found = find_deviations(k, mean, sites, strength=strength)
        leverage = found.estimate.leverage
        assert leverage.min() >= 0
        assert leverage.max() <= 1
        traces = []
        for _ in range(20):
            sign = rng.choice([-1.0, 1.0], k.shape)
            up, down = (find_deviations(k + e * sign, mean, sites, strength=strength) for e in (0.01, -0.01))
            traces.append((sign * (up.estimate.mean - down.estimate.mean)).sum() / 0.02)
        error = np.std(traces) / np.sqrt(len(traces))
        assert abs(leverage.sum() - np.mean(traces)) < 4 * error + 0.1 * leverage.sum()


def test_trace_of_the_leverage_is_the_number_of_fitted_parameters():
    k, _, mean, sites, _ = crystal(20.0, 1)
    found = find_deviations(k, mean, sites, strength=1.0, blobs=False)
    inside = (sites[:, :2] > 12).all(1) & (sites[:, :2] < 243).all(1)
    parameters = (np.einsum("nii->ni", found.covariance) > 0).sum()
    assert (np.einsum("nii->ni", found.covariance)[inside] > 0).all()
    assert abs(found.estimate.leverage.sum() / parameters - 1) < 0.02


def test_vacancies_and_interstitials():
    perfect = simulate.phantom("vacancies", seed=1, peak=5.0, vacancies=0, interstitials=0)
    image = simulate.phantom("vacancies", seed=1, peak=5.0)
    sites = perfect.truth.assign(site=0)[["y", "x", "width", "site", "height"]].to_numpy(float)
    left = image.truth[["y", "x"]].to_numpy(float)
    gone = np.array([np.hypot(*(left - s[:2]).T).min() > 1e-6 for s in sites])
    found = find_deviations(image.data.astype(float), perfect.clean, sites, strength=0.005)
    assert found.active[gone].all()
    assert np.allclose(found.coefficients[gone, 0], -1, atol=0.25)
    extra = image.truth.loc[image.truth["planted"] == "interstitial", ["y", "x", "height"]].to_numpy(float)
    assert len(found.blobs) == len(extra)
    for y, x, height in extra:
        near = found.blobs[np.hypot(found.blobs[:, 0] - y, found.blobs[:, 1] - x).argmin()]
        assert np.hypot(near[0] - y, near[1] - x) < 1.2
        assert abs(near[3] / height - 1) < 0.35
    table = describe_deviations(found, sites, 0.018)
    assert (table["kind"] == "interstitial").sum() == len(extra)
    assert (table["kind"] == "vacancy").sum() == gone.sum()
    assert psnr(found.estimate.mean, image.clean) > 38


def test_nothing_is_claimed_off_the_sites_of_a_perfect_crystal():
    for seed in range(3):
        k, _, mean, sites, _ = crystal(1.0, seed)
        assert len(find_deviations(k, mean, sites, strength=1e-6).blobs) == 0


def test_masked_pixels_change_nothing():
    k, _, mean, sites, _ = crystal(20.0, 4, halved=6)
    weight = np.ones_like(k)
    weight[100:140, 90:150] = 0.0
    broken = np.where(weight > 0, k, np.nan)
    found = find_deviations(broken, mean, sites, weight=weight)
    again = find_deviations(np.where(weight > 0, k, 1e4), mean, sites, weight=weight)
    assert np.array_equal(found.estimate.mean, again.estimate.mean)
    assert np.isfinite(found.estimate.mean).all()
    hidden = (abs(sites[:, 0] - 120) < 12) & (abs(sites[:, 1] - 120) < 22)
    assert hidden.any()
    assert not found.active[hidden].any()
    assert np.isnan(found.statistic[hidden]).all()
    assert found.notes


def test_overlapping_columns_are_fitted_jointly():
    # two columns 1.6 widths apart, one of them at half its height: the other must not pay for it
    y, x = np.mgrid[:64, :64]
    sites = np.array([[31.5, 27.0, 4.0, 0, 60.0], [31.5, 33.4, 4.0, 1, 60.0]])

    def image(heights):
        return 3.0 + sum(
            h * np.exp(-((y - s[0]) ** 2 + (x - s[1]) ** 2) / 2 / s[2] ** 2)
            for h, s in zip(heights, sites, strict=True)
        )

    k = np.random.default_rng(0).poisson(image((60.0, 30.0))).astype(float)
    found = find_deviations(k, image((60.0, 60.0)), sites, strength=0.01, blobs=False)
    assert abs(found.coefficients[1, 0] + 0.5) < 0.1
    assert abs(found.coefficients[0, 0]) < 0.1
    everything = find_deviations(k, image((60.0, 60.0)), sites, strength=1.0, blobs=False)
    # twelve parameters, less what the ridge holds of two columns that can hardly be told apart
    assert 11 < everything.estimate.leverage.sum() < 12


def test_empty_lists_and_vacuum():
    k, _, mean, _, _ = crystal(5.0, 0, (64, 64))
    found = find_deviations(k, mean, np.zeros((0, 5)))
    assert np.array_equal(found.estimate.mean, mean)
    assert found.blobs.shape == (0, 5)
    y, x = np.mgrid[:64, :64]
    site = np.array([[32.0, 32.0, 3.0, 0.0, 10.0]])
    lonely = 1e-9 + 10 * np.exp(-((y - 32.0) ** 2 + (x - 32.0) ** 2) / 18)
    counts = np.random.default_rng(0).poisson(lonely).astype(float)
    found = find_deviations(counts, lonely, site, strength=1.0)
    assert np.isfinite(found.estimate.mean).all()
    assert found.estimate.mean.min() > 0
    assert abs(found.coefficients[0, 0]) < 0.2


def test_expected_retention_agrees_with_what_is_kept():
    kept, expected = [], []
    for seed in range(6):
        k, _, mean, sites, truth = crystal(5.0, seed, shifted=10, shift_pm=8.0)
        found = find_deviations(k, mean, sites, strength=0.05, blobs=False)
        certainty = fit_certainty(special.chdtrc(6, found.statistic), 0.05)
        rows = np.flatnonzero(truth["planted"] == "shift")
        share = certainty.share(special.chdtrc(6, found.statistic[rows])) * found.active[rows]
        kept.append(along(found, sites, truth) * share)
        table = expected_retention(
            site_information(mean, sites),
            sites,
            0.05,
            pixel_size_nm=PIXEL_NM,
            certainty=certainty,
            shifts_pm=[8.0],
        )
        expected.append(table.loc[(table["site"] == 0) & (table["quantity"] == "shift"), "kept"].iloc[0])
    pooled = np.concatenate(kept)
    assert abs(pooled.mean() - np.mean(expected)) < 4 * pooled.std() / np.sqrt(pooled.size)


def test_expected_retention_grows_with_amount_and_strength():
    _, _, mean, sites, _ = crystal(5.0)
    info = site_information(mean, sites)
    weak, strong = (expected_retention(info, sites, p, pixel_size_nm=PIXEL_NM) for p in (0.001, 0.2))
    assert (strong["kept"] >= weak["kept"] - 0.02).all()
    shift = weak[(weak["site"] == 0) & (weak["quantity"] == "shift")]
    assert (np.diff(shift["kept"]) > -0.01).all()
    assert 5 < shift["amount_90"].iloc[0] < 25
    everything = expected_retention(info, sites, 1.0, pixel_size_nm=PIXEL_NM)
    assert (everything["found"] == 1).all()
    assert np.allclose(everything["kept"], 1, atol=0.35)


def test_certainty_counts_how_many_deviate():
    rng = np.random.default_rng(0)
    chance, real = rng.uniform(size=500), 10.0 ** rng.uniform(-6, -2, 500)
    rare = fit_certainty(np.concatenate([chance, real[:5]]), 0.0)
    common = fit_certainty(np.concatenate([chance, real]), 0.0)
    at = np.array([0.01])
    assert rare.share(at)[0] < 0.5 < common.share(at)[0]
    assert np.allclose(fit_certainty(chance, 1.0).share(chance), 1.0)
    step = 1e-4
    numeric = -(common.share(at * np.exp(step)) - common.share(at * np.exp(-step))) / (2 * step)
    assert np.allclose(numeric, common.slope(at), rtol=1e-4)


def test_table_says_what_how_much_and_how_sure():
    k, _, mean, sites, truth = crystal(20.0, 6, shifted=6, halved=6)
    table = describe_deviations(find_deviations(k, mean, sites, strength=0.001), sites, PIXEL_NM)
    table["planted"] = truth["planted"].to_numpy()[table["row"]]
    table["true_y"], table["true_x"] = (
        truth["shift_y"].to_numpy()[table["row"]],
        truth["shift_x"].to_numpy()[table["row"]],
    )
    moved = table[table["planted"] == "shift"]
    assert len(moved) == 6
    assert (moved["kind"] == "shift").all()
    for axis in ("y", "x"):
        pull = (moved[f"shift_{axis}"] - moved[f"true_{axis}"]) / moved[f"sd_shift_{axis}"]
        assert (abs(pull) < 4).all()
        assert np.allclose(moved[f"shift_{axis}_pm"], moved[f"shift_{axis}"] * 12)
    dimmed = table[table["planted"] == "half"]
    assert (dimmed["kind"] == "intensity").all()
    assert (abs(dimmed["relative_intensity"] - 0.5) < 4 * dimmed["sd_relative_intensity"]).all()
    assert (dimmed["probability"] > 0.99).all()
    with pytest.raises(DataError, match="needed: the"):
        describe_deviations(find_deviations(k, mean, sites), sites[:-1])
    with pytest.raises(DataError, match="pixel_size_nm"):
        describe_deviations(find_deviations(k, mean, sites), sites, -1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": np.ones((4, 5))}, "one shape"),
        ({"sites": np.ones((3, 4))}, "sites of shape"),
        ({"sites": np.array([[5.0, 5, -1, 0, 1]])}, "width > 0"),
        ({"strength": 0.0}, "probability above 0"),
        ({"strength": 1.5}, "probability above 0"),
        ({"weight": np.full((32, 32), 2.0)}, "weight outside"),
        ({"k": np.full((32, 32), np.nan)}, "not finite"),
        ({"crystal_mean": np.zeros((32, 32))}, "not positive"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {
        "k": np.ones((32, 32)),
        "crystal_mean": np.ones((32, 32)),
        "sites": np.array([[16.0, 16, 3, 0, 1]]),
    }
    given |= change
    with pytest.raises(DataError, match=message):
        find_deviations(given.pop("k"), given.pop("crystal_mean"), given.pop("sites"), **given)
