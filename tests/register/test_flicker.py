"""Rows whose brightness varies: found where it does, and not read as motion."""

from __future__ import annotations

import numpy as np
import pytest

import fairstem.register._rows.rowwise as rowwise
from fairstem import metrics, register, simulate
from fairstem.register._rows.flicker import STEADY, estimate_flicker
from fairstem.register._rows.measure import NoiseLaw, Segments, compare
from fairstem.register._rows.reference import Canvas, Reference
from fairstem.register._series.frames import Frame

BLUR = 7 / 6


def shares(sd, noise=0.02, frames=6, rows=200, seed=0, shared=0.1):
    """What rows say of their brightness: flicker, noise, and a wave along the average that all share."""
    rng = np.random.default_rng(seed)
    variance = noise**2 * rng.uniform(0.3, 3, (frames, rows))
    at = (
        np.arange(rows)
        + np.cumsum(rng.normal(0, 0.02, (frames, rows)), axis=1)
        + rng.normal(0, 3, (frames, 1))
    )
    known = shared * np.sin(at / 8) + rng.normal(0, sd, at.shape) + rng.normal(0, np.sqrt(variance))
    return known, variance, at


@pytest.mark.parametrize("sd", [0.02, 0.03, 0.3])
def test_the_variance_of_the_brightness_is_found(sd):
    share, variance, at = shares(sd)
    found = estimate_flicker(share, variance, at, [0] * 6, blur=BLUR, others=np.inf)
    assert found.sd == pytest.approx(sd, rel=0.12)
    inner = np.arange(20.0, 180.0)
    # a line through evenly spread points has at its knots √3 times the variance of a mean
    expected = np.sqrt(np.sqrt(3) * (sd**2 + variance.mean()) / 6)
    assert np.std(found.expected(inner, 0) - 0.1 * np.sin(inner / 8)) < 1.15 * expected
    # and is not led astray where hardly any row lies
    assert np.abs(found.expected(np.arange(-9.0, 209.0), 0)).max() < 0.15 + 5 * sd


@pytest.mark.parametrize("seed", range(10))
def test_noise_is_no_flicker(seed):
    share, variance, at = shares(0.0, seed=seed)
    found = estimate_flicker(share, variance, at, [0] * 6, blur=BLUR, others=np.inf)
    assert found.sd == 0
    assert not found.expected(at[0], 0).any()


def test_rows_that_lost_their_way_or_say_nothing_do_not_count():
    share, variance, at = shares(0.03)
    rng = np.random.default_rng(1)
    share[rng.random(share.shape) < 0.02] = 5.0
    share[3, 20:90], variance[3, 20:90] = 77.0, np.inf
    found = estimate_flicker(share, variance, at, [0] * 6, blur=BLUR, others=np.inf)
    assert found.sd == pytest.approx(0.03, rel=0.15)


def test_each_direction_has_what_its_own_frames_share():
    share, variance, at = shares(0.03)
    share[3:] += 0.5 * np.cos(at[3:] / 5)
    found = estimate_flicker(share, variance, at, [0, 0, 0, 1, 1, 1], blur=BLUR, others=np.inf)
    assert found.sd == pytest.approx(0.03, rel=0.15)
    assert np.ptp(found.expected(np.arange(20.0, 180.0), 1)) > 0.9


def test_one_frame_of_a_direction_tells_flicker_from_nothing():
    share, variance, at = shares(0.1, frames=2)
    assert estimate_flicker(share, variance, at, [0, 1], blur=BLUR, others=np.inf) is STEADY
    nothing = np.full_like(variance, np.inf)
    assert estimate_flicker(share, nothing, at, [0, 0], blur=BLUR, others=np.inf) is STEADY


# ---- equations ----


def slope_and_texture(shape=(64, 60)):
    rng = np.random.default_rng(2)
    y, x = np.indices(shape)
    texture = sum(
        2 * np.cos(a * y + b * x + c) for a, b, c in rng.uniform((0.1, -0.5, 0), (0.5, 0.5, 6), (6, 3))
    )
    return Reference(60.0 + 1.5 * y + texture, np.full(shape, 1e9))


def compared(factor, angle=0.0, shape=(24, 24)):
    """Equations of a frame that lies where it is taken to lie, its rows brighter by factors."""
    reference, canvas = slope_and_texture(), Canvas((-20, -18), (64, 60))
    at, law = canvas.positions(np.zeros((2, *shape))), NoiseLaw(1.0, 0.0, 0.1)
    from fairstem.register._rows.measure import compare_values

    fitted, _ = compare_values(Frame(np.zeros(shape)), at, reference)
    return compare(Frame(fitted * (1 + np.reshape(factor, (-1, 1)))), at, reference, law, angle_deg=angle)


def test_a_brighter_row_has_not_moved():
    factor = np.random.default_rng(0).normal(0, 0.03, 24)
    raw = compared(factor)
    share, variance = raw.brightness()
    said = np.isfinite(variance)
    assert said.mean() > 0.7
    np.testing.assert_allclose(share[said], factor[said], atol=1e-6)
    known = raw.of_any_brightness(0.03**2, np.zeros(24))
    misread, step = raw.shifts()[0], known.shifts()[0]
    assert np.std(misread[0]) > 0.5
    assert np.std(step[0]) < 0.1 * np.std(misread[0])
    # what a shift and a brightness explain alike costs precision, of the row and of its brightness
    assert (known.shifts()[1] >= raw.shifts()[1]).all()
    assert (variance > 1 / raw.tone.sum(axis=1)[:, 0]).all()
    # and all the parts of a row follow
    assert np.std(known.score) < 0.1 * np.std(raw.score)


def test_marginalising_is_a_row_of_the_inverse_of_the_joint_equations():
    raw, prior, expected = compared(np.random.default_rng(1).normal(0, 0.02, 24), angle=33.0), 0.02**2, 0.01
    found = raw.of_any_brightness(prior, np.full(24, expected))
    for row in (0, 11, 23):
        (yy, yx, xx, _), score = raw.information[row].sum(axis=0), raw.score[row].sum(axis=0)
        own, gradient, to_y, to_x = raw.tone[row].sum(axis=0)
        joint = np.array([[yy, yx, to_y], [yx, xx, to_x], [to_y, to_x, own + 1 / prior]])
        inverse = np.linalg.inv(np.linalg.inv(joint)[:2, :2])
        left = found.information[row].sum(axis=0)[:3] - found.lost[row]
        np.testing.assert_allclose(left, [inverse[0, 0], inverse[0, 1], inverse[1, 1]], rtol=1e-8)
        solved = np.linalg.solve(joint, [*score, gradient - own * expected])[:2]
        np.testing.assert_allclose(np.linalg.solve(inverse, found.score[row].sum(axis=0)), solved, rtol=1e-8)


def test_without_flicker_the_equations_stay_as_they_are():
    raw = compared(np.zeros(24))
    assert raw.of_any_brightness(0.0, np.zeros(24)) is raw


def test_equations_without_brightness_say_so():
    bare = Segments(np.ones((9, 2, 4)), np.zeros((9, 2, 2)), np.zeros((9, 2, 2)))
    with pytest.raises(ValueError, match="nothing of brightness"):
        bare.brightness()


# ---- series ----


def flickering(sd, seed=0, shape=(128, 128), peak=300.0, frames=8):
    """Counts of P1 on a background that rises along y, the brightness of its rows varying by `sd`."""
    p = simulate.phantom("p1", seed=seed, shape=shape, peak=peak, frames=frames)
    rng = np.random.default_rng(seed + 100)
    data = []
    for u in p.displacement:
        clean = simulate.render_columns(p.truth, shape, background=0.06 * peak, displacement=u)
        clean += peak * (np.arange(shape[0])[:, None] + u[0] + 10) / shape[0]
        data.append(rng.poisson(clean * (1 + sd * rng.standard_normal((shape[0], 1)))))
    return np.stack(data).astype(float), p.displacement


def error(data, truth):
    alignment = register.align(data, slow=False)
    return metrics.displacement_error(alignment.displacement, truth).rmse, alignment.parameters["found"]


def test_flicker_on_a_gradient_is_not_read_as_motion(monkeypatch):
    steady, found = error(*flickering(0.0))
    assert found["row_brightness_sd"] == 0
    known, found = error(*flickering(0.03))
    assert found["row_brightness_sd"] == pytest.approx(0.03, rel=0.15)
    monkeypatch.setattr(rowwise, "estimate_flicker", lambda *_, **__: STEADY)
    misread, _ = error(*flickering(0.03))
    assert misread > 1.3 * steady
    assert known < 1.05 * steady


@pytest.mark.parametrize(("seed", "frames"), [(0, 10), (2, 10), (1, 2)])
def test_a_series_without_flicker_is_registered_as_if_there_were_none(monkeypatch, seed, frames):
    data = simulate.phantom("p1", seed=seed, shape=(128, 128), frames=frames).data
    alignment = register.align(data, slow=False)
    assert alignment.parameters["found"]["row_brightness_sd"] == 0
    monkeypatch.setattr(rowwise, "estimate_flicker", lambda *_, **__: STEADY)
    np.testing.assert_array_equal(alignment.displacement, register.align(data, slow=False).displacement)
