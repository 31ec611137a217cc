"""Denoising: what cannot be denoised is named, with what to do; what is unusual still gives an answer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import fairstem as fs
from fairstem.denoise import nonlocal_means, separate
from fairstem.errors import DataError, DataTypeError, DataWarning

RNG = np.random.default_rng(0)
IMAGE = RNG.poisson(9.0, (64, 64)).astype(float)


def holes(value, image=IMAGE):
    out = image.copy()
    out[5, 7] = value
    return out


@pytest.mark.parametrize(
    ("image", "error", "given"),
    [
        (np.full((64, 64), np.nan), DataError, "all 4096 pixels"),
        (holes(np.inf), DataError, "1 infinite"),
        (holes(-np.inf), DataError, "1 infinite"),
        (IMAGE.astype(complex), DataTypeError, "complex"),
        (IMAGE > 9, DataTypeError, "boolean"),
        (IMAGE.astype(object), DataTypeError, "objects"),
        (IMAGE[0], DataError, "1 dimension"),
        (np.array(3.0), DataError, "0 dimension"),
        (np.ones((2, 2, 32, 32)), DataError, "4 dimension.*tensor SVD"),
        (np.stack([IMAGE] * 3, -1), DataError, "colour"),
        (np.stack([IMAGE] * 4, -1).astype(np.uint8), DataError, "colour"),
        (np.zeros((32, 32), [("R", "u1"), ("G", "u1"), ("B", "u1")]), DataError, "colour"),
        (IMAGE[:8, :8], DataError, "8 x 8 pixels"),
        (np.full((15, 40), 2.0), DataError, "15 x 40 pixels"),
        (np.zeros((0, 64)), DataError, "empty"),
        (IMAGE.tolist(), DataTypeError, "list"),
        ("image.tif", DataTypeError, "str"),
        (None, DataTypeError, "NoneType"),
        (IMAGE - 12, DataError, "below zero electrons.*poisson-gauss.*gaussian"),
        (np.stack([IMAGE, np.full_like(IMAGE, np.nan)]), DataError, "frame 1"),
    ],
    ids=[
        "all NaN", "inf", "-inf", "complex", "boolean", "objects", "1-D", "0-D", "4-D", "RGB", "RGBA", "RGB records",
        "8 px", "15 px", "empty", "list", "path", "None", "negative", "frame of NaN",
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_by_name(image, error, given):
    with pytest.raises(error, match=given):
        nonlocal_means(image)


@pytest.mark.parametrize(
    "image", [IMAGE[None], np.ones((2, 2, 32, 32)), IMAGE[0]], ids=["stack", "4-D", "1-D"]
)
def test_one_image_is_taken_apart_at_a_time(image):
    with pytest.raises(DataError, match=r"needed: an image \(y, x\); what to do: pass"):
        separate(image)


@pytest.mark.parametrize(
    "strength", [0, -1, 2, 1.0001, "a", True, None, float("nan"), [0.05], 0.05j], ids=str
)
def test_strength_is_a_probability(strength):
    with pytest.raises(DataError, match=r"probability in \(0, 1\]"):
        nonlocal_means(IMAGE, strength=strength)


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ({"noise": "x"}, "noise='x'.*'poisson-gauss'"),
        ({"noise": None}, "noise=None"),
        ({"noise": ["poisson"]}, "noise="),
        ({"search": "x"}, "search='x'.*'periodic'"),
        ({"search": None}, "search=None"),
        ({"search": ["local"]}, "search="),
        ({"gain": 0.0}, "gain=0.0.*> 0"),
        ({"gain": -1}, "gain=-1"),
        ({"gain": "a"}, "gain='a'"),
        ({"gain": True}, "gain=True"),
        ({"gain": np.nan}, "gain=nan"),
        ({"offset": np.inf}, "offset=inf"),
        ({"readout": -2.0}, "readout=-2.0.*>= 0"),
        ({"noise": "poisson", "gain": 0}, "gain=0"),
        ({"noise": "poisson", "readout": 2.0}, "no readout noise.*poisson-gauss"),
        ({"noise": "gaussian", "gain": 2.0}, "gaussian.*gain=2.0"),
        ({"noise": "gaussian", "offset": 1.0}, "gaussian.*offset=1.0"),
        ({"noise": "gaussian", "readout": 0.0}, "gaussian.*readout=0"),
        ({"gain": 1.0, "offset": 50.0}, "below zero electrons"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be(arguments, given):
    with pytest.raises(DataError, match=given) as caught:
        nonlocal_means(IMAGE, **arguments)
    assert caught.value.needed


@pytest.mark.parametrize("shape", [(16, 16), (20, 25), (40, 63), (63, 200)], ids=str)
def test_images_too_small_for_a_lattice_are_matched_block_by_block(shape):
    # p2 has cells of 32.5 px: the first two are smaller than one
    p = fs.simulate.phantom("p2", peak=20, seed=2, shape=shape)
    found = separate(p.data)
    assert found.image.shape == shape
    assert len(found.lattices) == 0
    assert not found.share.any()
    periodic = {check.name: check for check in found.priors}["periodic"]
    assert periodic.holds is None
    assert "larger image" in periodic.advice
    assert fs.metrics.psnr(found.image, p.clean) > fs.metrics.psnr(p.data, p.clean) + 5


@pytest.mark.parametrize("shape", [(32, 32), (64, 64)], ids=str)
def test_a_lattice_that_must_be_found_but_is_not(shape):
    with pytest.raises(DataError, match=r"no lattice was found.*search='auto'"):
        nonlocal_means(IMAGE[: shape[0], : shape[1]], search="periodic")


def test_texture_that_does_not_repeat_is_no_crystal():
    smooth = ndimage.gaussian_filter(RNG.standard_normal((128, 96)), 3.0)
    clean = 20 * (1 + 0.5 * smooth / smooth.std()).clip(0.05)
    found = separate(RNG.poisson(clean))
    assert len(found.lattices) == 0
    periodic = {check.name: check for check in found.priors}["periodic"]
    assert periodic.holds is False
    assert periodic.advice
    error = np.sqrt(np.mean((found.image - clean) ** 2))
    assert error < 0.35 * np.sqrt(clean.mean())


def test_amorphous_film_with_few_electrons_is_no_crystal():
    found = separate(RNG.poisson(0.02, (96, 96)))
    assert len(found.lattices) == 0
    assert np.isfinite(found.image).all()
    assert found.image.mean() == pytest.approx(0.02, rel=0.2)


def test_values_that_are_no_counts_are_said_to_be_none():
    p = fs.simulate.phantom("srtio3", peak=20, seed=2, shape=(64, 64), gain=30.0)
    with pytest.warns(DataWarning, match=r"noise has .* times the variance.*poisson-gauss"):
        nonlocal_means(p.data, search="local")


def test_small_contrast_on_a_huge_offset_is_not_denoised_silently():
    p = fs.simulate.phantom("srtio3", peak=20, seed=2, shape=(64, 64), offset=14000.0)
    with pytest.warns(DataWarning, match="returned unchanged"):
        result = nonlocal_means(p.data)
    assert np.array_equal(result, p.data)


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_denoised_data_are_said_to_hold_no_counting_noise(sigma):
    p = fs.simulate.phantom("srtio3", peak=20, seed=2, shape=(96, 96), dtype="float64")
    with pytest.warns(DataWarning, match="taken to count electrons"):
        found = separate(ndimage.gaussian_filter(p.data, sigma), search="local")
    checks = {check.name: check for check in found.priors}
    assert checks["noise-level"].holds is False
    assert checks["white-noise"].holds is False
    assert checks["noise-level"].advice


def test_twice_denoised_is_the_same_as_once():
    p = fs.simulate.phantom("srtio3", peak=20, seed=2, shape=(96, 96), dtype="float64")
    once = nonlocal_means(p.data)
    with pytest.warns(DataWarning, match="returned unchanged"):
        assert np.array_equal(nonlocal_means(once), once)
