"""The noise of a detector: estimated, given, read from metadata, checked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

import fairstem as fs
from fairstem.errors import DataError, DataWarning
from fairstem.signals import NoiseModel, estimate_noise, noise_of, open_data


def recorded(seed=0, shape=(320, 320), peak=40, **detector):
    return fs.simulate.phantom("srtio3", seed=seed, peak=peak, shape=shape, dtype="float64", **detector)


@pytest.mark.parametrize("gain", [0.01, 1.0, 37.0])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_gain_is_found_within_ten_per_cent(gain, offset):
    for seed in range(3):
        p = recorded(seed, gain=gain, offset=offset * gain)
        model = estimate_noise(p.data)
        assert model.poisson
        assert model.source == "estimated"
        assert model.gain == pytest.approx(gain, rel=0.1)
        # the zero of the detector, on the scale of the image's mean
        assert abs(model.offset - offset * gain) < 0.15 * gain * p.clean.mean()


def test_readout_noise_moves_the_estimated_zero_by_the_variance_it_adds():
    # variance = gain (mean - offset) + readout²: the line meets zero at offset - readout²/gain
    shifts = []
    for seed in range(4):
        p = recorded(seed, gain=10.0, offset=300.0, readout=20.0)
        model = estimate_noise(p.data)
        assert model.gain == pytest.approx(10, rel=0.12)
        shifts.append((model.offset - 300.0) / 10.0)
    assert np.mean(shifts) == pytest.approx(-4.0, abs=1.5)


@pytest.mark.parametrize("sigma", [0.02, 3.0])
def test_noise_that_does_not_grow_with_the_signal_is_constant(sigma):
    for seed in range(3):
        p = recorded(seed)
        model = estimate_noise(p.clean * sigma + np.random.default_rng(seed).normal(0, sigma, p.clean.shape))
        assert not model.poisson
        assert model.readout == pytest.approx(sigma, rel=0.03)


def test_white_noise_is_white_and_filtered_noise_is_not():
    p = recorded()
    assert estimate_noise(p.data).whiteness == pytest.approx(1, abs=0.15)
    assert estimate_noise(ndimage.gaussian_filter(p.data, 0.7)).whiteness > 1.5


def test_masked_pixels_and_nan_are_left_out():
    p = recorded()
    mask = np.random.default_rng(0).random(p.data.shape) > 0.03
    spoiled = np.where(mask, p.data, 1e6)
    assert estimate_noise(spoiled, mask).gain == pytest.approx(1, rel=0.1)
    assert estimate_noise(np.where(mask, p.data, np.nan)).gain == pytest.approx(1, rel=0.1)


def test_rows_that_jitter_do_not_look_like_noise():
    p = recorded(peak=30, distortion="row", shape=(256, 256))
    assert estimate_noise(p.data).gain == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("image", "needed"),
    [
        (np.ones((64, 64)), "recorded data with counting noise"),
        (np.tile(np.linspace(0, 1, 64), (64, 1)), "recorded data with counting noise"),
        (np.random.default_rng(0).random((12, 12)), "at least 400 usable pixels"),
        (np.random.default_rng(0).random((200, 6)), "9 per row"),
        (np.full((64, 64), np.nan), "at least 400 usable pixels"),
        (np.random.default_rng(0).random(900), "at least 400 usable pixels"),
    ],
    ids=["constant", "noise-free ramp", "too small", "too narrow", "all NaN", "1-D"],
)
def test_images_whose_noise_cannot_be_estimated(image, needed):
    with pytest.raises(DataError, match=needed) as caught:
        estimate_noise(image)
    assert "gain=" in caught.value.todo


@pytest.mark.parametrize(
    "numbers",
    [
        {"gain": 0.0},
        {"gain": -1.0},
        {"gain": np.nan},
        {"readout": -1.0},
        {"offset": np.inf},
        {"poisson": False},
    ],
)
def test_impossible_noise_models_are_refused(numbers):
    with pytest.raises(DataError, match="noise model"):
        NoiseModel(**numbers)


@pytest.mark.parametrize(
    "model",
    [NoiseModel(), NoiseModel(3.0, 50.0, 6.0), NoiseModel(readout=2.5, poisson=False)],
    ids=["counts", "Poisson-Gauss", "constant"],
)
def test_kernel_counts_have_a_variance_equal_to_their_mean(model):
    rng = np.random.default_rng(0)
    level = 30.0
    raw = rng.poisson(level, 200_000).astype(float) if model.poisson else np.full(200_000, level)
    raw = model.gain * raw + model.offset + model.readout * rng.standard_normal(raw.size)
    counts, dark, unit = model.kernel_counts(raw)
    assert counts.var() == pytest.approx(counts.mean(), rel=0.02)
    assert (counts.mean() - dark) * unit == pytest.approx(level, rel=0.01)


def test_a_noise_model_is_json_ready():
    for model in (NoiseModel(), estimate_noise(recorded().data)):
        assert json.loads(json.dumps(model.to_dict(), allow_nan=False))["source"] == model.source


@pytest.mark.parametrize(
    "arguments",
    [
        {"gain": "estimate", "offset": 3.0},
        {"gain": "estimate", "readout": 3.0},
        {"gain": "guess"},
        {"gain": 0.0},
        {"gain": -2.0},
        {"readout": -1.0},
        {"offset": np.nan},
    ],
    ids=str,
)
@pytest.mark.parametrize("verb", ["find", "refine"])
def test_detector_numbers_that_contradict_or_cannot_be_are_refused(verb, arguments):
    p = recorded(shape=(64, 64))
    rest = (p.truth[["y", "x"]].query("0 <= y <= 63 and 0 <= x <= 63"),) if verb == "refine" else ()
    with pytest.raises(DataError, match="gain") as caught:
        getattr(fs.atoms, verb)(p.data, *rest, **arguments)
    assert caught.value.todo


@pytest.mark.parametrize(
    ("data", "arguments", "holds"),
    [
        ("counts", {}, {"noise-level": True, "white-noise": True}),
        ("grey levels", {"gain": 20.0}, {"noise-level": True, "white-noise": True}),
        ("grey levels", {}, {"noise-level": False, "white-noise": True}),
        ("grey levels", {"gain": "estimate"}, {"white-noise": True}),
        ("filtered", {}, {"noise-level": False, "white-noise": False}),
    ],
)
def test_the_checks_say_whether_the_noise_is_what_it_was_taken_for(data, arguments, holds):
    p = recorded(shape=(192, 192))
    image = {"counts": p.data, "grey levels": p.data * 20, "filtered": ndimage.gaussian_filter(p.data, 0.8)}[
        data
    ]
    start = p.truth[["y", "x"]].query("0 <= y <= 191 and 0 <= x <= 191")
    checks = {c["name"]: c for c in fs.atoms.refine(image, start, **arguments).attrs["priors"]}
    assert {name: checks[name]["holds"] for name in holds} == holds
    assert all(checks[name]["advice"] for name in holds if not holds[name])
    # a level taken from the image itself would agree with it whatever it is: no check
    assert ("noise-level" in checks) == ("noise-level" in holds)


@pytest.mark.parametrize(("gain", "source"), [(1.0, "counts"), (12.5, "estimated")])
def test_a_signal_is_counts_only_when_its_noise_says_so(gain, source):
    import hyperspy.api as hs

    p = recorded(gain=gain)
    table = fs.atoms.refine(
        hs.signals.Signal2D(p.data), p.truth[["y", "x"]].query("0 <= y <= 319 and 0 <= x <= 319")
    )
    noise = table.attrs["noise"]
    assert noise["source"] == source
    assert noise["gain"] == pytest.approx(gain, rel=0.1)
    assert table["height"].median() == pytest.approx(p.truth["height"].median(), rel=0.2)


def signal_that_says(image, **stored):
    import hyperspy.api as hs

    signal = hs.signals.Signal2D(image)
    signal.metadata.set_item("Signal.Noise_properties.Variance_linear_model", stored)
    return signal


def model_of(signal, **numbers):
    image = np.asarray(signal.data, float)
    return noise_of(open_data(signal), image, np.isfinite(image), **numbers)


@pytest.mark.parametrize("gain", [1.0, 12.5])
def test_noise_of_the_metadata_is_used_where_the_image_agrees(gain):
    stored = {"gain_factor": gain, "gain_offset": 0.0, "correlation_factor": 1.0}
    model = model_of(signal_that_says(recorded(gain=gain).data, **stored))
    assert (model.source, model.gain, model.offset) == ("given", gain, 0.0)


@pytest.mark.parametrize(
    ("gain", "stored"),
    [
        (6000.0, {"gain_factor": 1.0, "gain_offset": 0.0}),
        (0.01, {"gain_factor": 1.0, "gain_offset": 0.0}),
        (5.0, {"gain_factor": 0.0, "gain_offset": 2.0}),
    ],
    ids=["far more noise", "far less noise", "constant noise"],
)
def test_noise_of_the_metadata_that_the_image_contradicts_is_estimated_instead(gain, stored):
    signal = signal_that_says(recorded(gain=gain).data, **stored)
    with pytest.warns(DataWarning, match="metadata say.*estimated from the image") as caught:
        model = model_of(signal)
    assert len(caught) == 1
    assert model.source == "estimated"
    assert model.gain == pytest.approx(gain, rel=0.1)
    # what the caller says is never overridden
    given = model_of(signal, gain=1.0)
    assert (given.source, given.gain) == ("given", 1.0)


def test_counts_are_counts_whatever_the_metadata_say():
    signal = signal_that_says(recorded().data, gain_factor=50.0, gain_offset=0.0)
    with pytest.warns(DataWarning, match="gain 50"):
        assert model_of(signal).source == "counts"


def test_noise_of_the_metadata_is_used_where_it_cannot_be_measured():
    signal = signal_that_says(
        np.random.default_rng(0).poisson(9.0, (16, 16)), gain_factor=3.0, gain_offset=0.0
    )
    assert model_of(signal).gain == 3.0
