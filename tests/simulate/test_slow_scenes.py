"""Scenes that end in the image or change slowly across it: what they say is what is there."""

import numpy as np
import pytest

from fairstem.simulate import phantom, render_columns

VIEW = {"shape": (200, 220), "pixel_size_nm": 0.02}


def test_beyond_the_edge_there_is_vacuum():
    p = phantom("vacuum-edge", **VIEW, peak=10.0, background=0.1, seed=1)
    assert p.clean[:, -60:].max() == pytest.approx(0.2 * 0.1 * 10, rel=1e-3)
    assert p.clean[:, :60].max() > 9
    assert p.clean[:, :60].min() > 0.9
    assert p.truth["x"].max() < 135


def test_columns_and_background_grow_together():
    p = phantom("gain-ramp", **VIEW, ratio=3.0, seed=1)
    even = phantom("gain-ramp", **VIEW, ratio=1.0, seed=1)
    gain = 1 / 3 + 2 / 3 * np.arange(220) / 219
    # a column is scaled as a whole, by the gain at its middle
    assert p.clean / even.clean == pytest.approx(np.broadcast_to(gain, (200, 220)), abs=0.02)
    assert (p.truth["height"] > 0).all()


def test_strain_rises_from_the_top_to_the_bottom():
    bent, straight = (phantom("bent", **VIEW, strain=e, seed=3).truth for e in (0.02, 0.0))
    # columns near the border may leave the table: match by cell and species
    key = ["i", "j", "species"]
    both = bent.merge(straight, on=key, suffixes=("", "_0"))
    u = (both["x"] - both["x_0"]).to_numpy()
    x, y = both["x_0"].to_numpy() - 109.5, both["y_0"].to_numpy()
    np.testing.assert_allclose(u, 0.02 / 199 * x * y, atol=1e-9)
    turned = (both["y"] - both["y_0"]).to_numpy()
    np.testing.assert_allclose(turned, -0.02 / 199 * (x**2 + 0.3 * y**2) / 2, atol=1e-9)


def test_rows_drift_by_what_is_asked_and_slowly():
    p = phantom("row-drift", **VIEW, drift_px=(2.0, 4.0), seed=2)
    assert (p.displacement == p.displacement[:, :, :1]).all()
    rows = p.displacement[..., 0]
    assert np.ptp(rows, axis=1) == pytest.approx([2.0, 4.0])
    assert abs(np.diff(rows, axis=1)).max() < 0.15
    again = p.truth.assign(y=p.truth["y_object"], x=p.truth["x_object"])
    image = render_columns(again, VIEW["shape"], displacement=p.displacement, background=30 * 0.06)
    np.testing.assert_allclose(image, p.clean, atol=1e-6)


def test_drift_of_the_scene_adds_to_that_of_the_scan():
    options = {"shape": (64, 72), "seed": 2}
    own = phantom("row-drift", **options).displacement
    scan = phantom("drifted", distortion="row", **options).displacement
    both = phantom("row-drift", distortion="row", **options).displacement
    np.testing.assert_allclose(both, own + scan)
    series = phantom("row-drift", frames=2, **options)
    assert series.displacement.shape == (2, 2, 64, 72)
    np.testing.assert_array_equal(series.clean[0], series.clean[1])
