"""Non-local means: invariants, every kind of input, every choice of noise and search."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fairstem as fs
from fairstem.denoise import nonlocal_means, separate
from fairstem.errors import DataWarning

SIDE, CELL = 96, 16  # px


def scene(seed=1, peak=20.0, shape=(SIDE, SIDE), **options):
    options = {"pixel_size_nm": 0.3905 / CELL, "rotation": 0.0, "dtype": "float64"} | options
    return fs.simulate.phantom("srtio3", peak=peak, seed=seed, shape=shape, **options)


@pytest.fixture(scope="module")
def crystal():
    return scene()


@pytest.fixture(scope="module")
def denoised(crystal):
    return nonlocal_means(crystal.data)


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def noise_of_pixels(p):
    return float(np.sqrt(p.clean.mean()))


@pytest.mark.parametrize("value", [0.0, 7.25, -3.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constant_stays_constant(value, dtype):
    image = np.full((48, 40), value, dtype)
    result = nonlocal_means(image)
    assert result.dtype == dtype
    assert np.array_equal(result, image)


def test_constant_with_holes_is_constant():
    image = np.full((32, 32), 5.0)
    image[3:9, 4] = np.nan
    assert np.array_equal(nonlocal_means(image), np.full((32, 32), 5.0))


@pytest.mark.parametrize("peak", [5.0, 100.0])
def test_image_without_noise_is_returned_unchanged_and_says_so(peak):
    clean = scene(peak=peak).clean
    with pytest.warns(DataWarning, match="returned unchanged"):
        found = separate(clean)
    assert np.array_equal(found.image, clean)
    check = {c.name: c for c in found.priors}["noise-present"]
    assert check.holds is False
    assert check.advice
    assert not found.residual.any()


def test_smooth_ramp_without_noise_is_returned_unchanged():
    ramp = np.tile(np.linspace(10, 30, 64), (64, 1))
    with pytest.warns(DataWarning, match="returned unchanged"):
        assert np.array_equal(nonlocal_means(ramp), ramp)
    # nothing to estimate a detector from is no error: there is nothing to remove either
    assert np.array_equal(nonlocal_means(ramp, noise="poisson-gauss"), ramp)


@pytest.mark.parametrize(
    ("gain", "offset", "noise"),
    [(0.01, 0.0, "auto"), (37.5, 1000.0, "poisson"), (3.0, 50.0, "poisson-gauss")],
)
def test_gain_and_offset_of_the_detector_scale_the_result(crystal, denoised, gain, offset, noise):
    result = nonlocal_means(gain * crystal.data + offset, noise=noise, gain=gain, offset=offset)
    np.testing.assert_allclose((result - offset) / gain, denoised, rtol=1e-6)


def test_crop_shifted_by_a_lattice_vector_gives_the_shifted_result():
    step = 3 * CELL
    p = scene(shape=(SIDE + step, SIDE))
    first, second = nonlocal_means(p.data[:SIDE]), nonlocal_means(p.data[step:])
    inside = np.s_[CELL:-CELL, CELL:-CELL]
    difference = (first[step:] - second[:-step])[inside]
    # the cells that each averages over are not the same: 36, half of them in common
    assert rms(difference) < noise_of_pixels(p) / np.sqrt(36)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("float32", "float32"),
        ("float64", "float64"),
        (">f4", ">f4"),
        ("float16", "float32"),
        ("uint8", "float32"),
        ("uint16", "float32"),
        ("int64", "float32"),
    ],
)
def test_type_of_the_result(crystal, denoised, given, expected):
    part = crystal.data[:64, :64]
    result = nonlocal_means(part.astype(given), search="local")
    assert result.dtype == np.dtype(expected)
    reference = nonlocal_means(part, search="local")
    np.testing.assert_allclose(result, reference, rtol=1e-5)


def test_input_is_not_changed(crystal):
    before = crystal.data.copy()
    nonlocal_means(crystal.data, search="local")
    assert np.array_equal(crystal.data, before)


def test_result_is_the_same_bit_by_bit_the_second_time(crystal, denoised):
    assert np.array_equal(nonlocal_means(crystal.data), denoised)


def test_searches(crystal, denoised):
    psnr = {"auto": fs.metrics.psnr(denoised, crystal.clean)}
    for search in ("periodic", "local"):
        psnr[search] = fs.metrics.psnr(nonlocal_means(crystal.data, search=search), crystal.clean)
    raw = fs.metrics.psnr(crystal.data, crystal.clean)
    assert psnr["local"] > raw + 10
    assert min(psnr["auto"], psnr["periodic"]) > psnr["local"] + 1


@pytest.mark.parametrize(
    ("detector", "arguments"),
    [
        ({"gain": 12.0, "offset": 300.0, "readout": 15.0}, {"noise": "poisson-gauss"}),
        (
            {"gain": 12.0, "offset": 300.0, "readout": 15.0},
            {"noise": "poisson-gauss", "gain": 12.0, "offset": 300.0, "readout": 15.0},
        ),
        ({"gain": 1.0, "offset": 14000.0}, {"noise": "poisson-gauss"}),
    ],
    ids=["estimated", "given", "huge offset"],
)
def test_choices_of_noise(detector, arguments):
    p = scene(**detector)
    gain, offset = detector.get("gain", 1.0), detector.get("offset", 0.0)
    result = (nonlocal_means(p.data, **arguments) - offset) / gain
    raw = (p.data - offset) / gain
    assert fs.metrics.psnr(result, p.clean) > fs.metrics.psnr(raw, p.clean) + 16


@pytest.mark.parametrize("arguments", [{}, {"readout": 2.0}], ids=["estimated", "given"])
def test_noise_of_one_size_everywhere(arguments):
    p = scene()
    image = p.clean - 10.0 + np.random.default_rng(5).normal(0, 2.0, p.clean.shape)
    with pytest.warns(DataWarning, match="negative"):
        found = separate(image, noise="gaussian", **arguments)
    assert found.noise.readout == pytest.approx(2.0, rel=0.03)
    assert not found.noise.poisson
    assert rms(found.image + 10.0 - p.clean) < 0.15 * 2.0


def test_stack_gives_what_its_frames_give_and_lazy_gives_the_same():
    import dask.array as da

    frames = np.stack([scene(seed, shape=(64, 80)).data for seed in (1, 2)])
    stacked = nonlocal_means(frames)
    assert stacked.shape == frames.shape
    assert stacked.dtype == frames.dtype
    for frame, result in zip(frames, stacked, strict=True):
        assert np.array_equal(nonlocal_means(frame), result)
    lazy = nonlocal_means(da.from_array(frames, chunks=(2, 50, 80)))
    assert isinstance(lazy, da.Array)
    assert lazy.dtype == frames.dtype
    assert np.array_equal(lazy.compute(), stacked)


def test_lazy_image_gives_a_lazy_image(crystal):
    import dask.array as da

    part = crystal.data[:64, :64]
    lazy = nonlocal_means(da.from_array(part, chunks=40), search="local")
    assert isinstance(lazy, da.Array)
    assert np.array_equal(lazy.compute(), nonlocal_means(part, search="local"))


def test_frames_without_noise_do_not_decide_for_the_others(crystal):
    part = crystal.data[:64, :64]
    stack = np.stack([np.zeros_like(part), part])
    result = nonlocal_means(stack, search="local")
    assert not result[0].any()
    assert np.array_equal(result[1], nonlocal_means(part, search="local"))


def test_detector_of_a_stack_is_estimated_once():
    p = scene(shape=(64, 64), gain=7.0, offset=100.0, frames=2)
    result = nonlocal_means(p.data, noise="poisson-gauss", search="local")
    model = separate(p.data[0], noise="poisson-gauss", search="local").noise
    detector = {"gain": model.gain, "offset": model.offset, "readout": 1e-6}
    second = nonlocal_means(p.data[1], search="local", **detector)
    np.testing.assert_allclose(result[1], second, rtol=1e-5)


def test_masked_and_missing_pixels_are_predicted(crystal, denoised):
    missing = np.random.default_rng(3).random(crystal.data.shape) < 0.02
    missing[60:66, 40:46] = True
    spoiled = np.where(missing, 1e6, crystal.data)
    with pytest.warns(DataWarning, match="NaN or masked"):
        masked = nonlocal_means(np.ma.array(spoiled, mask=missing))
    part = np.s_[:64, :64]
    with pytest.warns(DataWarning, match="NaN or masked"):
        hidden = nonlocal_means(np.ma.array(spoiled, mask=missing)[part], search="local")
    with pytest.warns(DataWarning, match="NaN or masked"):
        holes = nonlocal_means(np.where(missing, np.nan, crystal.data)[part], search="local")
    assert np.array_equal(hidden, holes)
    assert np.isfinite(masked).all()
    error = masked - crystal.clean
    assert rms(error) < 1.5 * rms(denoised - crystal.clean)
    assert rms(error[missing]) < 0.3 * noise_of_pixels(crystal)


def signal_of(data):
    import hyperspy.api as hs

    signal = hs.signals.Signal2D(data)
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = 0.3905 / CELL, "nm"
    return signal


def test_signal_keeps_axes_and_says_what_was_done(crystal, denoised, tmp_path):
    import hyperspy.api as hs

    signal = signal_of(crystal.data)
    result = nonlocal_means(signal)
    np.testing.assert_allclose(result.data, denoised, rtol=1e-6)
    assert [a.scale for a in result.axes_manager.signal_axes] == [0.3905 / CELL] * 2
    file = tmp_path / "denoised.hspy"
    result.save(file)
    loaded = hs.load(file)
    step = loaded.metadata.fairstem.as_dictionary()["steps"][-1]
    # HyperSpy reads numbers back as those of numpy
    json.dumps(step, allow_nan=False, default=lambda number: number.item())
    json.dumps(result.metadata.fairstem.as_dictionary(), allow_nan=False)
    assert step["function"] == "fairstem.denoise.nonlocal_means"
    assert {"periodic", "residual-is-noise", "few-deviate"} <= {check["name"] for check in step["priors"]}
    asked = step["parameters"]
    assert (asked["noise"], asked["search"], asked["strength"]) == ("auto", "auto", 0.05)
    shifts = [row for row in asked["expected retention"] if row["quantity"] == "shift"]
    assert all(0 <= row["kept"] <= 1.1 for row in shifts)
    # larger changes are kept better
    largest = max(row["kept"] for row in shifts if row["amount"] == 40)
    assert largest > 0.9 > max(row["kept"] for row in shifts if row["amount"] == 1)


@pytest.mark.parametrize("lazy", [False, True])
def test_series_as_a_signal(lazy):
    data = np.stack([scene(seed, shape=(64, 64)).data for seed in (1, 2)])
    signal = signal_of(data)
    result = nonlocal_means(signal.as_lazy() if lazy else signal, search="local")
    assert result._lazy is lazy
    if lazy:
        result.compute()
    np.testing.assert_allclose(result.data, nonlocal_means(data, search="local"), rtol=1e-6)
    step = result.metadata.fairstem.as_dictionary()["steps"][-1]
    json.dumps(step, allow_nan=False)
    assert step["parameters"]["detector"]["source"] == "counts"
    # what needs every frame is known only where they were computed
    assert ("periodic" in {check["name"] for check in step["priors"]}) is not lazy
    assert ("expected retention" in step["parameters"]) is not lazy
