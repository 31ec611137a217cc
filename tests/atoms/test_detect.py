"""Peaks of the scale space: where they are, how wide, and how many in pure noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import fairstem as fs
from fairstem.atoms._detect import detect_columns, detect_residual
from fairstem.errors import DataError


def columns(rng, spacing, width, height, shape=(200, 200)):
    axes = [np.arange(spacing, n - spacing, spacing) for n in shape]
    y, x = (a.ravel() for a in np.meshgrid(*axes, indexing="ij"))
    y, x = y + rng.uniform(-0.5, 0.5, y.size), x + rng.uniform(-0.5, 0.5, y.size)
    return pd.DataFrame({"y": y, "x": x, "height": height, "width": width})


def scores(found, truth, tolerance, shape=(200, 200)):
    return fs.metrics.match_positions(np.column_stack([found.y, found.x]), truth, tolerance, shape=shape)


@pytest.mark.parametrize("width", [1.2, 2.0, 3.5, 6.0, 12.0])
def test_columns_of_any_width_are_found_near_their_place_and_width(width):
    rng = np.random.default_rng(1)
    shape = (200, 200) if width < 10 else (320, 320)
    truth = columns(rng, 6 * width, width, 60.0, shape)
    image = rng.poisson(fs.simulate.render_columns(truth, shape, background=5.0)).astype(float)
    found = detect_columns(image)
    match = scores(found, truth, max(1.0, 0.5 * width), shape)
    assert match.recall == 1
    assert match.precision == 1
    assert match.rms < 0.25 * max(width, 1.5)
    assert width / 1.6 < found.scale < 1.6 * width


@pytest.mark.parametrize("background", [0.0, 0.3, 50.0])
def test_the_background_is_no_column(background):
    rng = np.random.default_rng(2)
    truth = columns(rng, 22, 3.0, 40.0)
    image = rng.poisson(fs.simulate.render_columns(truth, (200, 200), background=background)).astype(float)
    match = scores(detect_columns(image), truth, 2.0)
    assert match.recall == 1
    assert match.precision == 1


@pytest.mark.parametrize("slope", [0.02, 0.25])
def test_a_ramp_of_the_background_is_no_column(slope):
    ramp = np.tile(1 + slope * np.arange(256), (256, 1))
    for seed in range(3):
        assert detect_columns(np.random.default_rng(seed).poisson(ramp).astype(float)).y.size == 0


@pytest.mark.parametrize("level", [0.05, 3.0, 100.0, 1e6])
def test_white_noise_keeps_to_the_threshold_at_any_dose(level):
    # 400,000 pixels and some 15 scales: at 5 standard deviations far less than one false peak is to be expected
    found = [
        detect_columns(np.random.default_rng(seed).poisson(level, (200, 200)).astype(float))
        for seed in range(10)
    ]
    assert sum(f.y.size for f in found) <= 1, [(f.y, f.x, f.score) for f in found if f.y.size]


def test_a_large_constant_under_the_image_makes_no_peaks():
    # what a detector with readout noise but few electrons looks like in counts
    noise = np.random.default_rng(0).normal(1e6, 1e3, (256, 256))
    assert detect_columns(noise).y.size == 0


def test_a_lower_threshold_finds_what_a_higher_one_finds_and_more():
    rng = np.random.default_rng(0)
    truth = columns(rng, 22, 3.0, 2.0)
    image = rng.poisson(fs.simulate.render_columns(truth, (200, 200), background=2.0)).astype(float)
    low, high = (detect_columns(image, width=3.0, threshold=t) for t in (3.0, 6.0))
    assert high.y.size < low.y.size
    assert set(zip(high.y, high.x, strict=True)) <= set(zip(low.y, low.x, strict=True))
    assert high.score.min() > 6


def test_scores_say_how_far_columns_stand_out_and_heights_how_high():
    rng = np.random.default_rng(0)
    truth = columns(rng, 30, 3.0, 30.0)
    image = rng.poisson(fs.simulate.render_columns(truth, (200, 200), background=10.0)).astype(float)
    found = detect_columns(image, width=3.0)
    # a Gaussian seen through the kernel of its own width
    assert np.median(found.height) == pytest.approx(30, rel=0.15)
    noisier = detect_columns(image + rng.poisson(image.mean(), image.shape), width=3.0)
    assert np.median(noisier.score) < 0.9 * np.median(found.score)


def test_masked_pixels_make_no_columns_and_hide_none_beside_them():
    rng = np.random.default_rng(4)
    truth = columns(rng, 22, 3.0, 40.0)
    image = rng.poisson(fs.simulate.render_columns(truth, (200, 200), background=3.0)).astype(float)
    mask = np.ones(image.shape, bool)
    mask[:, 86:92] = False
    spoiled = np.where(mask, image, 1e4)
    found = detect_columns(spoiled, mask)
    rows, cols = np.rint(found.y).astype(int), np.rint(found.x).astype(int)
    assert mask[rows, cols].all()
    visible = truth[(truth["x"] < 82) | (truth["x"] > 96)]
    match = scores(found, visible, 2.0)
    assert match.recall == 1


def test_a_plateau_is_one_peak():
    rng = np.random.default_rng(0)
    truth = columns(rng, 30, 3.0, 100.0)
    clean = fs.simulate.render_columns(truth, (200, 200), background=5.0)
    found = detect_columns(np.minimum(clean, 50.0))
    assert scores(found, truth, 2.0).precision == 1
    assert found.y.size == len(truth)


@pytest.mark.parametrize("width", [0.4, 0.0, -3.0, 51.0, np.nan, np.inf])
def test_widths_that_cannot_be_are_refused(width):
    with pytest.raises(DataError, match="width") as caught:
        detect_columns(np.random.default_rng(0).poisson(5.0, (200, 200)).astype(float), width=width)
    assert caught.value.todo


def test_the_residual_shows_a_column_that_the_model_lacks():
    rng = np.random.default_rng(5)
    truth = columns(rng, 22, 3.0, 40.0)
    clean = fs.simulate.render_columns(truth, (200, 200), background=4.0)
    without = fs.simulate.render_columns(truth.drop(index=20), (200, 200), background=4.0)
    image = rng.poisson(clean).astype(float)
    everywhere = np.ones(image.shape, bool)
    assert detect_residual(image, clean, everywhere, 3.0).y.size == 0
    left = detect_residual(image, without, everywhere, 3.0)
    assert left.y.size == 1
    assert np.hypot(left.y[0] - truth["y"][20], left.x[0] - truth["x"][20]) < 1
    # and nothing where there is no model
    assert detect_residual(image, np.full(image.shape, np.nan), everywhere, 3.0).y.size == 0
