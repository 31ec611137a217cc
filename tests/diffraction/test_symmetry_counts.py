"""Whether symmetry STEM tells counts from averages, however few they are."""

import math

import numpy as np
import pytest
from tests.diffraction.test_symmetry import discs, noisy, prior, quiet

from fairstem.diffraction import Calibration
from fairstem.diffraction._pairs.correlation import Correlator
from fairstem.diffraction._pairs.operations import parse_operations
from fairstem.diffraction._pairs.pairing import pair_pixels
from fairstem.diffraction._pairs.statistics import correlations


@pytest.mark.parametrize(
    ("size", "shape", "dose"), [(21, (4, 4), 300), (21, (4, 4), 3_000), (24, (2, 3), 60)]
)
def test_small_scans_of_counts_are_not_suspected(size, shape, dose):
    truth = discs((size, size), spacing=size / 7, radius=size / 9)
    for seed in range(50):
        scan = np.random.default_rng(seed).poisson(dose * truth, (*shape, size, size))
        found = quiet(scan, ("C2", "C4", "mx", "my"), gain=1.0)
        assert prior(found, "poisson-counts").holds is not False, seed
    assert math.isnan(prior(found, "poisson-counts").statistic) == (dose < 100)


@pytest.mark.parametrize(
    ("size", "shape", "dose"), [(21, (4, 4), 1_000), (32, (8, 8), 200), (64, (4, 4), 10_000)]
)
@pytest.mark.parametrize("search", [0.0, 0.5])
def test_averages_of_four_are_told_from_counts(size, shape, dose, search):
    truth = discs((size, size), spacing=size / 7, radius=size / 9)
    for seed in range(4):
        frames = np.random.default_rng(seed).poisson(dose * truth, (4, *shape, size, size))
        verdicts = [
            prior(quiet(s, ("C2", "mx", "my"), gain=1.0, shift_px=search), "poisson-counts").holds
            for s in (frames[0], frames.mean(0))
        ]
        assert verdicts == [True, False], seed


@pytest.mark.parametrize(
    ("operation", "above"), [("C2", 0), ("C4", 0), ("mx", 0), ("C6", 0.15), ("m20", 0.15)]
)
def test_the_scatter_of_the_dispersion_is_known(operation, above):
    y, x = np.indices((48, 48)) - 23.5
    truth = np.exp(-((np.hypot(y, x) / 16) ** 2)) + 0.02
    tables = pair_pixels(parse_operations(operation), np.ones((48, 48), bool), (23.5, 23.5))
    scan = noisy(truth / truth.sum(), 2_000, 400)
    correlator = Correlator(
        parse_operations(operation), np.ones((48, 48), bool), Calibration((23.5, 23.5)), 1.0
    )
    total = np.zeros(48 * 48)
    found = correlations(correlator._sums(scan.reshape(400, -1), tables, total), tables, 1.0)
    assert found.dispersion.mean() == pytest.approx(1, abs=0.02)
    ratio = found.dispersion_error.mean() / found.dispersion.std()
    assert -0.1 < ratio - 1 < 0.1 + above  # 0.1: three standard errors of the scatter of 400 patterns
