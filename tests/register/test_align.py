"""Registration as a whole: simulated truth, invariants, every option, every bad input by its name."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

import fairstem as fs
from fairstem import metrics, register, simulate
from fairstem.errors import DataError, DataTypeError, DataWarning
from fairstem.register._series.motion import RowMotion
from fairstem.signals import make_signal, open_data, steps_of

SMALL = (96, 96)


def rmse(alignment, truth):
    return metrics.displacement_error(alignment.displacement, truth).rmse


def column_fits(average, scene, margin=14):
    """Fitted columns of an image, their truth, and the bright ones among them."""
    truth, (ny, nx) = scene.truth, average.shape
    inside = truth["y"].between(margin, ny - margin) & truth["x"].between(margin, nx - margin)
    truth = truth[inside].reset_index(drop=True)
    return fs.atoms.refine(average, truth[["y", "x"]].assign(width=2.78)), truth, truth["species"] == "Sr"


def render(scene, fields, peak=30.0, seed=0):
    """Frames of a scene with these displacements (frame, 2, y, x) px."""
    level = scene.parameters["background"] * peak
    clean = [
        simulate.render_columns(scene.truth, f.shape[1:], background=level, displacement=f) for f in fields
    ]
    return np.random.default_rng(seed).poisson(clean).astype(np.float32)


@pytest.fixture(scope="module")
def crystal():
    """A small series of a crystal."""
    return simulate.phantom("p1", seed=1, shape=SMALL, frames=4)


@pytest.fixture(scope="module")
def crystal_aligned(crystal):
    return register.align(crystal.data)


@pytest.fixture(scope="module")
def particle():
    """A series of a particle: where each frame lies follows from its content alone."""
    return simulate.phantom(
        "pt-nanoparticle", seed=3, shape=(112, 128), frames=6, peak=60, distortion="row", pixel_size_nm=0.015
    )


@pytest.fixture(scope="module")
def particle_aligned(particle):
    return register.align(particle.data)


# ---- protocol P1 ----


@pytest.mark.parametrize(("seed", "peak", "bound"), [(0, 30.0, 0.075), (1, 30.0, 0.075), (0, 3.0, 0.155)])
def test_p1_within_its_targets(seed, peak, bound):
    p = simulate.phantom("p1", seed=seed, peak=peak)
    found = register.align(p.data)
    assert rmse(found, p.displacement) <= bound
    assert [check.name for check in found.priors if not check.holds] == []
    assert found.used == tuple(range(10))
    assert found.floor_pm is None
    if peak == 30:
        fits, truth, bright = column_fits(found.average, p)
        assert fits["width"][bright].median() == pytest.approx(truth["width"][bright].median(), rel=0.01)
        # what noise does not explain is the floor: a column averages over rows, and is better than a row
        off = metrics.affine_rms(fits[["y", "x"]], truth[["y", "x"]])
        assert 0.5 * found.floor_px < off.rms < 1.5 * found.floor_px


def test_scans_at_0_and_90_degrees_see_what_each_has_to_itself():
    shape, rows = (256, 256), simulate.RowDistortion().series((256, 256), 2, rng=0)[..., 0]
    scene = simulate.phantom("p1", seed=0, shape=shape, peak=100.0, distortion=None, frames=None)
    errors = {}
    for angles in ((0.0, 90.0), (0.0, 0.0)):
        motion = RowMotion(rows, shape, np.array(angles))
        data = render(scene, [motion.forward(k) for k in range(2)], peak=100.0)
        found = register.align(data, angles=angles)
        fits, truth, _ = column_fits(found.average, scene)
        errors[angles] = metrics.affine_rms(
            fits[["y", "x"]], truth[["y", "x"]], pixel_size_nm=scene.pixel_size_nm
        ).rms_pm
    assert errors[0.0, 90.0] < 1.0
    assert errors[0.0, 90.0] < 0.25 * errors[0.0, 0.0]


# ---- what the numbers mean ----


def test_the_frame_at_the_displacement_shows_the_average(particle, particle_aligned):
    # without noise: frame k at (y + dy, x + dx) is the average at (y, x)
    grid = np.mgrid[:112, :128].astype(float)
    for k in (0, 5):
        at = grid + particle_aligned.displacement[k]
        inside = ((at > 4) & (at < np.reshape([107, 123], (2, 1, 1)))).all(axis=0)
        average = np.asarray(particle_aligned.average)[inside]
        moved = map_coordinates(particle.clean[k], at, order=3)[inside]
        still = particle.clean[k][inside]
        wrong = map_coordinates(particle.clean[k], grid - particle_aligned.displacement[k], order=3)[inside]
        error = [np.sqrt(np.mean((image - average) ** 2)) for image in (moved, still, wrong)]
        assert error[0] < 0.5 * min(error[1:])
        np.testing.assert_allclose(particle_aligned.motion.backward(k), particle_aligned.displacement[k])


def test_aligned_frames_agree_with_the_average(particle, particle_aligned):
    aligned = particle_aligned.aligned
    assert aligned.shape == particle.data.shape
    inside = particle_aligned.samples == 6
    mean = aligned.mean(axis=0)
    np.testing.assert_allclose(mean[inside], particle_aligned.average[inside], atol=1e-3)
    assert aligned.std(axis=0)[inside].mean() < 0.9 * particle.data.std(axis=0)[inside].mean()


def test_frames_that_are_not_square(particle, particle_aligned):
    assert particle_aligned.average.shape == (112, 128)
    assert particle_aligned.displacement.shape == (6, 2, 112, 128)
    assert rmse(particle_aligned, particle.displacement) < 0.1


def test_the_gauge_is_the_mean_of_all_frames(particle_aligned):
    found = particle_aligned
    offsets = found.displacement.mean(axis=(2, 3), keepdims=True)
    assert np.abs(offsets.mean(axis=0)).max() < 0.05
    bent = (found.displacement - offsets).mean(axis=0)
    assert np.sqrt(np.mean(bent[:, 12:-12, 12:-12] ** 2)) < 0.05


@pytest.mark.parametrize("model", ["rowwise", "rigid"])
def test_the_average_lies_in_the_place_of_the_reference(particle, model):
    means = []
    for k in (0, 4):  # of the rows, which is where the frame lies
        found = register.align(particle.data, model=model, reference=k)
        np.testing.assert_allclose(found.motion.rows[k].mean(axis=1), 0, atol=1e-9)
        assert found.parameters["asked"]["reference"] == k
        means.append(found)
    apart = particle.displacement[4].mean(axis=(1, 2)) - particle.displacement[0].mean(axis=(1, 2))
    moved = means[1].motion.rows.mean(axis=2) - means[0].motion.rows.mean(axis=2)
    np.testing.assert_allclose(moved, np.tile(-apart, (6, 1)), atol=0.1)


def test_the_order_of_frames_does_not_matter_where_their_content_decides(particle, particle_aligned):
    order = np.array([3, 0, 5, 1, 4, 2])
    # rows are laid on the others one frame after another: what is left is how far the rounds went
    mixed = register.align(particle.data[order])
    assert np.abs(mixed.displacement - particle_aligned.displacement[order]).max() < 0.02
    rigid = [
        register.align(data, model="rigid").displacement for data in (particle.data, particle.data[order])
    ]
    assert np.abs(rigid[1] - rigid[0][order]).max() < 1e-3


@pytest.mark.parametrize(("gain", "offset"), [(1e-12, 0.0), (1e9, 0.0), (3.7, -150.0)])
def test_gain_and_offset_of_the_detector_do_not_matter(particle, particle_aligned, gain, offset):
    found = register.align(particle.data.astype(float) * gain + offset)
    change = found.displacement - particle_aligned.displacement
    # rounding decides which of two nearly equal answers a search ends at, when values are shifted
    assert np.sqrt(np.mean(change**2)) < (5e-3 if offset else 1e-9)
    np.testing.assert_allclose(
        found.average.mean(), particle_aligned.average.mean() * gain + offset, rtol=1e-4
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">i2", "float64"])
def test_types_of_numbers_do_not_matter(crystal, crystal_aligned, dtype):
    found = register.align(crystal.data.astype(dtype))
    np.testing.assert_allclose(found.displacement, crystal_aligned.displacement, atol=1e-6)
    assert found.average.dtype == np.float64


def test_lazy_is_eager(crystal, crystal_aligned):
    found = register.align(da.from_array(crystal.data, chunks=(2, 50, 96)))
    np.testing.assert_array_equal(found.displacement, crystal_aligned.displacement)
    assert isinstance(found.average, da.Array)
    np.testing.assert_array_equal(found.average.compute(), crystal_aligned.average)
    assert isinstance(found.aligned, da.Array)


@pytest.mark.parametrize("kind", ["list", "fortran", "masked"])
def test_other_kinds_of_series(crystal, crystal_aligned, kind):
    data = {
        "list": list(crystal.data),
        "fortran": np.asfortranarray(crystal.data),
        "masked": np.ma.array(crystal.data, mask=np.zeros(crystal.data.shape, bool)),
    }[kind]
    np.testing.assert_array_equal(register.align(data).displacement, crystal_aligned.displacement)


def test_what_came_in_is_left_as_it_was(crystal):
    data = crystal.data.copy()
    data.setflags(write=False)
    first, second = register.align(data), register.align(data)
    np.testing.assert_array_equal(first.average, second.average)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_signal_stays_a_signal(particle, particle_aligned, lazy):
    signal = make_signal(particle.data, pixel_size_nm=(0.015, 0.015), title="six frames")
    found = register.align(signal.as_lazy() if lazy else signal)
    average = found.average
    assert average.data.shape == (112, 128)
    assert average.axes_manager.navigation_dimension == 0
    assert open_data(average).pixel_size_nm == pytest.approx((0.015, 0.015))
    np.testing.assert_allclose(np.asarray(average.data), particle_aligned.average)
    assert found.floor_pm == pytest.approx(15 * found.floor_px)
    aligned = found.aligned
    assert aligned.data.shape == particle.data.shape
    assert aligned.axes_manager.navigation_shape == (6,)
    assert open_data(aligned).pixel_size_nm == pytest.approx((0.015, 0.015))
    step = steps_of(average)[-1]
    assert step["function"] == "fairstem.register.align"
    assert step["parameters"]["model"] == "rowwise"
    assert [p["name"] for p in step["priors"]] == [check.name for check in found.priors]
    assert all(p["assumption"] for p in step["priors"])


def test_without_calibration_the_floor_has_no_pm(particle_aligned):
    assert particle_aligned.floor_pm is None
    assert particle_aligned.floor_px > 0


def test_averages_differ_but_lie_in_one_place(particle, particle_aligned):
    for how in ("median", "likelihood"):
        found = register.align(particle.data, combine=how)
        np.testing.assert_array_equal(found.displacement, particle_aligned.displacement)
        assert not np.array_equal(found.average, particle_aligned.average)
        assert np.corrcoef(found.average.ravel(), particle_aligned.average.ravel())[0, 1] > 0.95


# ---- what is on top of rows ----


def wavy(shape, frames, rms, seed):
    """A displacement in two dimensions, new in each frame: one wave a direction, px."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / np.reshape(shape, (2, 1, 1))
    fields = np.empty((frames, 2, *shape))
    for field in fields.reshape(-1, *shape):
        (ky, kx), (a, b) = rng.uniform(0.6, 1.4, 2), rng.uniform(0, 2 * np.pi, 2)
        field[:] = 2 * rms * np.sin(2 * np.pi * ky * y + a) * np.sin(2 * np.pi * kx * x + b)
    return fields


def test_a_slow_warp_is_found_and_rows_alone_say_that_they_are_not_enough():
    shape = (128, 128)
    scene = simulate.phantom("p1", seed=1, shape=shape, distortion=None, frames=None)
    truth = simulate.RowDistortion().series(shape, 5, rng=1) + wavy(shape, 5, 1.0, 1)
    data = render(scene, truth, seed=1)
    found = register.align(data)
    assert found.parameters["found"]["slow"] is not None
    assert rmse(found, truth) < 0.2
    checks = {check.name: check.holds for check in found.priors}
    assert checks["rows-move-as-one"]
    rows = register.align(data, slow=False)
    checks = {check.name: check.holds for check in rows.priors}
    assert not checks["rows-move-as-one"]
    assert rmse(rows, truth) > 0.6


def test_no_warp_is_made_up(crystal_aligned, particle_aligned):
    for found in (crystal_aligned, particle_aligned):
        assert found.parameters["found"]["slow"] is None
        assert found.motion.slow is None


# ---- frames that differ ----


def test_frames_of_other_brightness_are_matched_and_named(crystal, crystal_aligned):
    gain, offset = np.array([1.0, 1.5, 1.0, 1.0]), np.array([0.0, 0.0, 40.0, 0.0])
    data = crystal.data * gain[:, None, None] + offset[:, None, None]
    with pytest.warns(DataWarning, match=r"contrast or brightness.*1 \(1\.\d+ times.*2 \(.*\+\d+") as given:
        found = register.align(data)
    assert len(given) == 1
    assert np.abs(found.displacement - crystal_aligned.displacement).max() < 0.2
    assert rmse(found, crystal.displacement) < 0.12
    np.testing.assert_allclose(found.average.mean(), crystal_aligned.average.mean(), rtol=0.1)


def test_a_frame_of_another_object_is_left_out_and_named():
    p = simulate.phantom("p1", seed=2, frames=5, shape=(128, 128))
    data = p.data.copy()
    data[3] = simulate.phantom("p1", seed=5, frames=2, rotation=0.4, shape=(128, 128)).data[0]
    with pytest.warns(DataWarning, match="frame 3 does not show the same object"):
        found = register.align(data)
    assert found.used == (0, 1, 2, 4)
    assert found.parameters["found"]["strangers"] == [3]
    assert (
        metrics.displacement_error(found.displacement[[0, 1, 2, 4]], p.displacement[[0, 1, 2, 4]]).rmse < 0.12
    )
    assert found.samples.max() == 4


@pytest.mark.parametrize(
    ("model", "value"), [("rowwise", 0.0), ("rowwise", np.nan), ("rigid", 7.0), ("dense", np.nan)]
)
def test_a_blank_frame_is_left_out_and_named(crystal, model, value):
    data = crystal.data.copy()
    data[2] = value
    with pytest.warns(DataWarning, match="frame 2 of series holds no image"):
        found = register.align(data, model=model)
    assert found.used == (0, 1, 3)
    assert found.parameters["found"]["blank"] == [2]
    assert np.isfinite(found.average).all()
    assert np.isfinite(found.displacement).all()


MISSING = {
    "rows of one frame": ((2, slice(30, 40)), "1280 pixels in frame 2"),
    "the same columns of all": ((slice(None), slice(None), slice(30, 34)), "frame 0, 1, 2, 3"),
    "half of a frame": ((1, slice(56, None)), "7168 pixels in frame 1"),
    "a pixel that is infinite": ((1, 3, 3), "1 pixels in frame 1"),
    "every second row": ((2, slice(0, None, 2)), "7168 pixels in frame 2"),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_was_not_measured_is_left_out(particle, name):
    at, words = MISSING[name]
    data = particle.data.copy()
    data[at] = np.inf if "infinite" in name else np.nan
    with pytest.warns(DataWarning, match=words) as given:
        found = register.align(data)
    assert len(given) == 1
    for values in (found.average, found.displacement, found.variance, found.chi2, found.samples):
        assert np.isfinite(values).all()
    assert found.used == tuple(range(6))
    seen = slice(0, 45 if "half" in name else None)
    error = metrics.displacement_error(found.displacement[:, :, seen], particle.displacement[:, :, seen])
    assert error.rmse < 0.11


def test_a_wild_pixel_moves_no_frame(particle):
    data = particle.data - 100
    data[1, 40, 40] = 3000
    found = register.align(data)
    assert rmse(found, particle.displacement) < 0.12
    # it is no change of the object that rows explain, and is told
    assert not next(check for check in found.priors if check.name == "unchanged-object").holds


def test_two_frames(crystal):
    found = register.align(crystal.data[:2])
    assert found.used == (0, 1)
    assert rmse(found, crystal.displacement[:2]) < 0.15
    # two frames of a lattice can't tell a unit cell from none
    assert next(check for check in found.priors if check.name == "unit-cell-hops").holds is False


def test_the_same_frame_again_does_not_move(crystal):
    data = np.repeat(crystal.data[:1], 3, axis=0)
    rigid = register.align(data, model="rigid")
    np.testing.assert_allclose(rigid.displacement, 0, atol=1e-6)
    np.testing.assert_allclose(rigid.average, data[0], atol=1e-4)
    # rows are compared with the mean of the others, whose noise is taken to be another
    assert np.sqrt(np.mean(register.align(data).displacement ** 2)) < 0.05


@pytest.mark.parametrize("seed", [1, 2])
def test_drift_of_more_than_half_a_cell_between_two_frames_is_said_to_be_undecided(seed):
    p = simulate.phantom("p1", seed=seed, shape=(128, 128), frames=2, distortion_options={"drift_px": 14.0})
    hop = next(check for check in register.align(p.data).priors if check.name == "unit-cell-hops")
    assert hop.holds is False
    assert "max_shift" in hop.advice


def test_drift_of_more_than_half_the_field():
    shape, frames = (128, 128), 6
    truth = simulate.RowDistortion(drift_px=0).series(shape, frames, rng=0)
    truth[:, 1] += np.linspace(-40, 40, frames)[:, None, None]
    scene = simulate.phantom("single-atoms", seed=3, shape=shape, peak=100.0, distortion=None)
    found = register.align(render(scene, truth, peak=100.0))
    assert found.used == tuple(range(frames))
    off = found.motion.rows.mean(axis=2) - truth.mean(axis=(2, 3))
    off -= off.mean(axis=0)
    assert np.abs(off).max() < 0.15
    assert found.samples.min() < frames <= found.samples.max()


# ---- refused ----


SERIES = {
    "one frame": (lambda d: d[:1], DataError, ["1 frame", "2 frames or more", "single image"]),
    "one frame in a list": (lambda d: [d[0]], DataError, ["1 frame", "2 frames or more"]),
    "an empty list": (lambda d: [], DataError, ["empty"]),
    "frames of different size": (lambda d: [d[0], d[1][:90]], DataError, ["(96, 96)", "(90, 96)", "frame 1"]),
    "all but one blank": (lambda d: d * np.array([1, 0, 0, 0])[:, None, None], DataError, ["3 of them blank"]),
    "constant": (lambda d: np.full(d.shape, 3.0), DataError, ["blank", "detector"]),
    "all NaN": (lambda d: np.full(d.shape, np.nan), DataError, ["blank"]),
    "all infinite": (lambda d: np.full(d.shape, np.inf), DataError, ["blank"]),
    "one image": (lambda d: d[0], DataError, ["2 dimension", "numpy.stack"]),
    "4-D": (lambda d: d[None], DataError, ["4 dimension", "register.apply"]),
    "RGB pictures": (lambda d: np.repeat(d[..., None], 3, 3).astype("uint8"), DataError, ["4 dimension", "RGB"]),
    "a number": (lambda d: 3.0, DataTypeError, ["float"]),
    "nothing": (lambda d: None, DataTypeError, ["NoneType"]),
    "a path": (lambda d: "series.tif", DataTypeError, ["fairstem.load"]),
    "paths": (lambda d: ["a.tif", "b.tif"], DataTypeError, ["frame 0", "fairstem.load"]),
    "no frames": (lambda d: d[:0], DataError, ["empty"]),
    "no rows": (lambda d: d[:, :0], DataError, ["empty"]),
    "too small": (lambda d: d[:, :16, :16], DataError, ["16 x 16", "at least 32"]),
    "frame axis last": (lambda d: np.moveaxis(d, 0, -1), DataError, ["96 x 4", "(frame, y, x)"]),
    "complex": (lambda d: d + 0j, DataTypeError, ["complex", "numpy.abs"]),
    "boolean": (lambda d: d > 10, DataTypeError, ["bool"]),
    "objects": (lambda d: d.astype(object), DataTypeError, ["object"]),
    "text": (lambda d: d.astype(str), DataTypeError, ["astype(float)"]),
    "dates": (lambda d: d.astype("datetime64[s]"), DataTypeError, ["datetime64"]),
    "noise": (
        lambda d: np.random.default_rng(0).poisson(9.0, d.shape), DataError, ["no two of 4 frames", "same object"],
    ),
    "mostly NaN": (
        lambda d: np.where(np.random.default_rng(0).random(d.shape) < 0.5, np.nan, d), DataError,
        ["measured pixels in common"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SERIES)
def test_series_that_cannot_be_registered_are_refused(crystal, name):
    make, error, words = SERIES[name]
    with pytest.raises(error) as caught:
        register.align(make(crystal.data))
    for word in words:
        assert word in str(caught.value)
    assert caught.value.needed


def test_an_rgb_signal_is_refused(crystal):
    import hyperspy.api as hs

    signal = hs.signals.Signal1D(np.repeat(crystal.data[..., None], 3, axis=3).astype(np.uint8))
    signal.change_dtype("rgb8")
    with pytest.raises(DataTypeError, match="RGB"):
        register.align(signal)


OPTIONS = {
    "unknown model": ({"model": "elastic"}, DataError, "'rowwise', 'dense' or 'rigid'"),
    "model as a list": ({"model": ["rigid"]}, DataError, "'rowwise', 'dense' or 'rigid'"),
    "unknown average": ({"combine": "sum"}, DataError, "'mean', 'median' or 'likelihood'"),
    "unknown slow": ({"slow": "yes"}, DataError, "True, False or 'auto'"),
    "slow as an array": ({"slow": np.array([1, 2])}, DataError, "True, False or 'auto'"),
    "slow without rows": ({"slow": True, "model": "rigid"}, DataError, "rowwise"),
    "reference out of range": ({"reference": 4}, DataError, "from 0 to 3"),
    "reference below zero": ({"reference": -1}, DataError, "from 0 to 3"),
    "reference as text": ({"reference": "first"}, DataTypeError, "number of a frame"),
    "reference as a fraction": ({"reference": 1.5}, DataTypeError, "number of a frame"),
    "reference as a truth value": ({"reference": True}, DataTypeError, "number of a frame"),
    "too few angles": ({"angles": [0, 90]}, DataError, "4 finite angles"),
    "one angle": ({"angles": 90}, DataError, "4 finite angles"),
    "no angles": ({"angles": []}, DataError, "4 finite angles"),
    "angles twice": ({"angles": np.zeros((4, 2))}, DataError, "4 finite angles"),
    "angle NaN": ({"angles": [0, np.nan, 0, 0]}, DataError, "4 finite angles"),
    "angles as text": ({"angles": ["up"] * 4}, DataTypeError, "4 angles"),
    "dense with angles": ({"model": "dense", "angles": [0, 90, 0, 90]}, DataError, "row-wise or the rigid"),
    "lattice with angles": ({"lattice": True, "angles": [0, 90, 0, 90]}, DataError, "leave lattice out"),
    "lattice with dense": ({"lattice": True, "model": "dense"}, DataError, "row-wise model"),
    "lattice of a few cells": ({"lattice": True}, DataError, "unit cells"),
    "options of another model": ({"dense": {"levels": 2}}, DataError, "model='dense'"),
    "unknown dense option": ({"model": "dense", "dense": {"lambda": 2}}, DataError, "regularization"),
    "dense options as a number": ({"model": "dense", "dense": 3}, DataTypeError, "dict"),
    "dense option out of range": ({"model": "dense", "dense": {"levels": 0}}, DataError, "at least 1"),
    "max_shift zero": ({"max_shift": 0}, DataError, "at least 1"),
    "max_shift negative": ({"max_shift": -3.0}, DataError, "at least 1"),
    "max_shift NaN": ({"max_shift": np.nan}, DataError, "finite"),
    "max_shift infinite": ({"max_shift": np.inf}, DataError, "finite"),
    "max_shift as text": ({"max_shift": "far"}, DataTypeError, "number of px"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_make_no_sense_are_refused(crystal, name):
    options, error, words = OPTIONS[name]
    with pytest.raises(error) as caught:
        register.align(crystal.data, **options)
    assert words in str(caught.value)


def test_a_blank_frame_is_no_reference(crystal):
    data = crystal.data.copy()
    data[2] = 0
    with (
        pytest.warns(DataWarning, match="frame 2"),
        pytest.raises(DataError, match=r"reference=2.*not in use"),
    ):
        register.align(data, reference=2)


def test_a_memory_budget_smaller_than_a_frame(crystal, crystal_aligned):
    with pytest.raises(DataError, match="budget 10 kB"):
        register.apply(crystal_aligned, crystal.data, memory="10 kB")
    whole = register.apply(crystal_aligned, crystal.data)
    spectra = np.repeat(crystal.data[..., None], 6, axis=-1)
    parts = register.apply(crystal_aligned, spectra, memory="1 MB")
    np.testing.assert_allclose(parts[..., 5], whole, rtol=1e-5)


def test_numbers_may_be_numpy(crystal):
    found = register.align(
        crystal.data,
        reference=np.int64(1),
        angles=np.zeros(4),
        slow=np.bool_(False),
        max_shift=np.float32(20),
    )
    assert found.parameters["asked"]["reference"] == 1
    assert found.parameters["asked"]["angles"] == [0.0] * 4
