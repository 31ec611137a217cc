"""PSNR and SSIM: definitions and invariants."""

import math

import numpy as np
import pytest

from fairstem.errors import DataError
from fairstem.metrics import psnr, ssim
from fairstem.simulate import phantom


@pytest.mark.parametrize(("peak", "published"), [(1, 8.1), (5, 15.1), (20, 21.0)])
def test_noisy_p2_has_the_published_psnr(peak, published):
    p = phantom("p2", peak=peak, seed=2)
    assert psnr(p.data, p.clean) == pytest.approx(published, abs=0.2)
    # Poisson noise: mean squared error is the mean count
    theory = 10 * math.log10(p.clean.max() ** 2 / p.clean.mean())
    assert psnr(p.data, p.clean) == pytest.approx(theory, abs=0.05)


def test_per_pattern_uses_each_patterns_own_maximum():
    clean = np.ones((2, 3, 8, 8))
    clean[0] *= 100
    estimate = clean + 1
    assert psnr(estimate, clean) == pytest.approx(40.0)
    assert psnr(estimate, clean, per="pattern") == pytest.approx(20.0)


def test_given_peak_and_equal_data():
    clean = np.ones((4, 4))
    assert psnr(clean + 1, clean, peak=10.0) == pytest.approx(20.0)
    assert psnr(clean, clean) == math.inf


def test_ssim_is_one_for_equal_symmetric_bounded_and_falls_with_noise():
    clean = phantom("srtio3", shape=(64, 64)).clean
    rng = np.random.default_rng(0)
    little, much = clean + rng.normal(0, 1, clean.shape), clean + rng.normal(0, 8, clean.shape)
    assert ssim(clean, clean) == pytest.approx(1.0)
    assert 1 > ssim(little, clean) > ssim(much, clean) > -1
    assert ssim(little, clean, data_range=30) == pytest.approx(ssim(clean, little, data_range=30))
    # contrast inverted about the local mean: negative structure
    checker = (np.indices((64, 64)).sum(axis=0) % 2).astype(float)
    assert ssim(1 - checker, checker) < 0


def test_ssim_is_the_formula_of_one_window():
    rng = np.random.default_rng(3)
    a, b = rng.random((11, 11)), rng.random((11, 11))
    g = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    w = np.outer(g, g) / g.sum() ** 2
    ma, mb = (w * a).sum(), (w * b).sum()
    va, vb, cov = (w * a * a).sum() - ma**2, (w * b * b).sum() - mb**2, (w * a * b).sum() - ma * mb
    expected = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    assert ssim(a, b, data_range=1.0) == pytest.approx(expected)


def test_ssim_agrees_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    rng = np.random.default_rng(1)
    a, b = rng.random((40, 50)), rng.random((40, 50))
    theirs = metrics.structural_similarity(
        a, b, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(a, b, data_range=1.0) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: psnr(np.ones(3), np.ones(4)), "shapes"),
        (lambda: psnr([], []), "shapes"),
        (lambda: psnr([np.nan], [1.0]), "not finite"),
        (lambda: psnr([0.0], [0.0]), "peak"),
        (lambda: psnr(np.ones((4, 4)), np.ones((4, 4)), per="pattern"), "3 axes"),
        (lambda: psnr([1.0], [1.0], per="row"), "per is"),
        (lambda: ssim(np.ones((8, 8)), np.ones((8, 8))), "11 px"),
        (lambda: ssim(np.ones((16, 16)), np.ones((16, 16))), "data_range"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call()
