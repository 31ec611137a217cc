"""Plant and measure: what is kept is known for methods whose answer is known."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from fairstem.errors import DataError, DataTypeError
from fairstem.metrics import Retention, retention
from fairstem.metrics._columnfit import fit_columns, fit_width
from fairstem.metrics._planting import far_apart
from fairstem.signals.noise import NoiseModel
from fairstem.simulate import phantom, render_columns

CRYSTAL = phantom("square", shape=(224, 224), a_nm=0.3, width_nm=0.045, peak=60.0, background=0.1, seed=2)
COLUMNS = CRYSTAL.truth[
    ((CRYSTAL.truth[["y", "x"]] > 0) & (CRYSTAL.truth[["y", "x"]] < 223)).all(axis=1)
].reset_index(drop=True)
COLUMNS.attrs = CRYSTAL.truth.attrs


def measure(denoise, image=CRYSTAL.data, columns=COLUMNS, **options):
    return retention(image, denoise, columns=columns, **{"seed": 5, **options})


def same(image):
    return image


def test_doing_nothing_keeps_all():
    kept = measure(same)
    assert isinstance(kept, Retention)
    assert kept.displacement == pytest.approx(1.0, abs=0.06)
    assert kept.height == pytest.approx(0.5, abs=0.02)
    assert kept.displacement == kept.raw_displacement
    assert kept.height == kept.raw_height
    assert kept.relative_displacement == 1
    assert kept.exact


def test_a_template_keeps_nothing():
    kept = measure(lambda _: CRYSTAL.clean)
    assert kept.displacement == pytest.approx(0.0, abs=1e-9)
    assert kept.height == pytest.approx(1.0, abs=1e-9)
    assert kept.raw_displacement == pytest.approx(1.0, abs=0.06)


def test_smoothing_to_a_constant_keeps_nothing():
    kept = measure(lambda image: np.full_like(image, image.mean()))
    assert kept.displacement == 0
    assert kept.height == pytest.approx(1.0)


def test_half_of_what_deviates_is_half_kept():
    kept = measure(lambda image: 0.5 * image + 0.5 * CRYSTAL.clean)
    assert kept.displacement == pytest.approx(0.5, abs=0.05)
    assert kept.height == pytest.approx(0.75, abs=0.02)


def test_a_filter_that_only_broadens_keeps_the_displacement():
    kept = measure(lambda image: gaussian_filter(image.astype(float), 1.0))
    assert kept.displacement == pytest.approx(1.0, abs=0.06)
    assert kept.height == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("peak", "allowed"), [(2.0, 4), (20.0, 4)])
def test_standard_errors_hold_at_low_dose(peak, allowed):
    p = phantom("square", **(CRYSTAL.parameters | {"peak": peak}))
    kept = measure(same, image=p.data, count=14)
    assert abs(kept.displacement - 1) < allowed * kept.displacement_sd
    assert abs(kept.height - 0.5) < allowed * kept.height_sd
    assert kept.displacement_sd < 0.15


def test_planted_counts_are_poisson_with_the_planted_expectation():
    # what the method is given: where columns were moved, its mean and variance are those of the moved truth
    seen = []

    def spy(image):
        seen.append(image.astype(float))
        return image

    chi2 = []
    for seed in range(3):
        noisy = np.random.default_rng(seed).poisson(CRYSTAL.clean).astype(np.uint16)
        kept = measure(spy, image=noisy, seed=seed, mean=CRYSTAL.clean, count=10, factor=0.0)
        images, seen = seen[1:], []
        assert all(image.min() >= 0 and (image == np.rint(image)).all() for image in images)
        for number, image in enumerate(images):
            rows = kept.columns[kept.columns["image"] == number]
            table = COLUMNS.copy()
            for _, row in rows.iterrows():
                n = np.hypot(table["y"] - row["y"], table["x"] - row["x"]).idxmin()
                step = 20e-3 / CRYSTAL.pixel_size_nm if row["kind"] == "shift" else 0.0
                table.loc[n, "y"] += step * row["direction_y"]
                table.loc[n, "x"] += step * row["direction_x"]
                table.loc[n, "height"] *= 1.0 if row["kind"] == "shift" else 0.0
            outside = CRYSTAL.clean - render_columns(COLUMNS, (224, 224), background=6.0)
            expected = render_columns(table, (224, 224), background=6.0) + outside
            near = np.zeros((224, 224), bool)
            for _, row in rows.iterrows():
                near[int(row["y"]) - 5 : int(row["y"]) + 6, int(row["x"]) - 5 : int(row["x"]) + 6] = True
            chi2.append((((image - expected) ** 2 / expected)[near].mean(), near.sum()))
    values, weights = np.array(chi2).T
    assert np.average(values, weights=weights) == pytest.approx(1.0, abs=5 * np.sqrt(2 / weights.sum()))


def test_detector_with_gain_offset_and_readout():
    model = NoiseModel(gain=40.0, offset=300.0, readout=25.0, source="given")
    raw = phantom("square", **(CRYSTAL.parameters | {"gain": 40.0, "offset": 300.0, "readout": 25.0})).data
    kept = measure(same, image=raw, noise=model)
    assert not kept.exact
    assert kept.displacement == pytest.approx(1.0, abs=0.06)
    assert kept.height == pytest.approx(0.5, abs=0.02)
    whole = measure(same, image=CRYSTAL.data * 40.0 + 300.0, noise=NoiseModel(gain=40.0, offset=300.0))
    assert whole.exact
    assert whole.displacement == pytest.approx(measure(same).displacement, abs=1e-4)


def test_type_of_the_image_reaches_the_method_and_the_image_stays():
    image = CRYSTAL.data.astype(np.uint16)
    before = image.copy()

    def in_place(given):
        assert given.dtype == np.uint16
        given[:] = 7
        return given

    assert measure(in_place, image=image).displacement == 0
    np.testing.assert_array_equal(image, before)


def test_seed_repeats_and_result_is_readable():
    kept, again = measure(same, count=5), measure(same, count=5)
    pd.testing.assert_frame_equal(kept.columns, again.columns)
    assert measure(same, count=5, seed=6).displacement != kept.displacement
    assert kept.columns["kind"].value_counts().to_dict() == {"shift": 5, "scale": 5}
    json.dumps(kept.to_dict())
    assert "20 pm" in str(kept)
    assert "exact" in str(kept)
    assert kept.height_error == kept.height - 0.5
    assert set(kept.columns["image"]) == set(range(kept.images))


def test_unequal_pixels_move_columns_by_the_length_asked_for():
    kept = measure(same, pixel_size_nm=(0.018, 0.009), shift_pm=15.0)
    assert kept.displacement == pytest.approx(1.0, abs=0.08)


def test_planted_columns_are_apart():
    points = np.random.default_rng(0).uniform(0, 100, (60, 2))
    groups = far_apart(points, 40, 25.0, np.random.default_rng(1))
    assert len({n for group in groups for n in group}) == 40
    for group in groups:
        gap = np.linalg.norm(points[group][:, None] - points[group], axis=-1)
        assert gap[~np.eye(len(group), dtype=bool)].min(initial=np.inf) >= 25


def test_width_and_dumbbells_are_fitted():
    p = phantom("si110", seed=1, shape=(160, 160))
    inner = p.truth[((p.truth[["y", "x"]] > 16) & (p.truth[["y", "x"]] < 143)).all(axis=1)]
    where, every = inner[["y", "x"]].to_numpy(), p.truth[["y", "x"]].to_numpy()
    assert fit_width(p.clean, where) == pytest.approx(0.035 / 0.012, rel=0.03)
    fits = fit_columns(p.clean, where + 0.4, every, 0.035 / 0.012)
    assert abs(fits.position - where).max() < 0.03
    np.testing.assert_allclose(fits.height, inner["height"], rtol=0.02)
    assert measure(same, columns=COLUMNS[["y", "x"]].to_numpy(), pixel_size_nm=0.018).height == pytest.approx(
        0.5, abs=0.03
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": np.array([[10.0, 10.0], [400.0, 10.0]])}, "1 of 2 columns lie outside"),
        ({"columns": np.zeros((3, 3))}, r"shape \(3, 3\)"),
        ({"columns": np.array([[50.0, np.nan], [40.0, 10.0]])}, "not finite"),
        ({"columns": np.array([[50.0, 50.0], [50.0, 50.0]])}, "same position twice"),
        ({"columns": COLUMNS[["y", "height"]]}, "lacks x"),
        ({"columns": COLUMNS.assign(width=-1.0)}, "width of -1"),
        ({"count": 80}, "needed: 160: 80 to move and 80 to scale"),
        ({"count": 1}, "count is 1"),
        ({"factor": 1.0}, "factor is 1"),
        ({"factor": -0.5}, "factor is -0.5"),
        ({"shift_pm": 0.0}, "shift_pm is 0"),
        ({"shift_pm": 200.0}, "at most 1.5 widths"),
        ({"pixel_size_nm": -0.1}, "pixel_size_nm is -0.1"),
        ({"columns": COLUMNS[["y", "x"]].to_numpy()}, "pixel size is not known"),
        ({"mean": np.ones((3, 3))}, r"mean has shape \(3, 3\)"),
        ({"image": CRYSTAL.data - 30.0}, "negative counts"),
        ({"image": np.where(CRYSTAL.data > 70, np.nan, CRYSTAL.data)}, "NaN or masked"),
        ({"image": CRYSTAL.data[0]}, "one-dimensional"),
        ({"noise": NoiseModel(readout=3.0, poisson=False)}, "without Poisson noise"),
        ({"denoise": lambda image: image[1:]}, r"returned shape \(223, 224\)"),
        ({"denoise": lambda image: image * np.nan}, "not finite"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(DataError, match=message):
        measure(options.pop("denoise", same), **options)


def test_a_method_that_is_no_function():
    with pytest.raises(DataTypeError, match="denoise is a str"):
        measure("bm3d")


def test_too_few_counts_are_said():
    p = phantom("square", **(CRYSTAL.parameters | {"peak": 0.1, "background": 0.5}))
    with pytest.raises(DataError, match="stand out of the noise"):
        measure(same, image=p.data)
