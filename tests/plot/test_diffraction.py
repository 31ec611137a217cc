"""Pictures of 4D-STEM: what is drawn, where, on which scale."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from fairstem import plot
from fairstem.errors import CalibrationError, DataError, DataTypeError, DataWarning

K = np.hypot(*np.mgrid[-16:17, -16:17])
DISC = np.random.default_rng(0).poisson(40.0 * (K < 9) + 0.2)


def maps(shape=(12, 16), operations=("C2", "C4", "mx"), low=0.5, **given):
    rng = np.random.default_rng(1)
    size = (len(operations), *shape)
    fields = {
        "operations": operations,
        "gamma": rng.uniform(low, 1.0, size),
        "standard_error": rng.uniform(0.01, 0.02, size),
        "valid": np.ones(shape, bool),
    }
    return SimpleNamespace(**fields | given)


class TestPattern:
    def test_scale_bar_is_an_angle(self):
        drawn = plot.pattern(DISC, mrad_per_px=2.0)
        assert drawn.scale_bar.txt_label.get_text() == "10 mrad"
        assert plot.pattern(DISC).scale_bar.txt_label.get_text() == "5 px"
        assert drawn.center is drawn.disc is None

    def test_centre_disc_and_rings_are_where_they_are(self):
        drawn = plot.pattern(DISC, center=(15.5, 17.0), radius_px=9, rings_px=(10, 14))
        assert (drawn.center.get_ydata()[0], drawn.center.get_xdata()[0]) == (15.5, 17.0)
        for line, radius in zip((drawn.disc, *drawn.rings), (9, 10, 14), strict=True):
            x, y = line.get_data()
            np.testing.assert_allclose(np.hypot(y - 15.5, x - 17.0), radius)
        ax = drawn.image.axes
        assert ax.get_xlim() == (-0.5, 32.5)
        assert ax.get_ylim() == (32.5, -0.5)

    def test_an_ellipse_is_drawn_as_the_detector_sees_it(self):
        stretch = np.diag([1.25, 0.8])  # y offsets are made longer: the disc is flat on the detector
        x, y = plot.pattern(DISC, center=(16, 16), radius_px=10, ellipse=stretch).disc.get_data()
        assert np.ptp(y) == pytest.approx(16, rel=1e-3)
        assert np.ptp(x) == pytest.approx(25, rel=1e-3)

    @pytest.mark.parametrize("scale", [0.5, 1.0, 0.25, "log"])
    def test_scales_keep_the_values_and_show_every_one(self, scale):
        drawn = plot.pattern(DISC, scale=scale)
        assert drawn.image.get_array().max() == DISC.max()
        shown = drawn.image.norm(drawn.image.get_array())
        assert not np.ma.is_masked(shown)
        assert (shown.min(), shown.max()) == pytest.approx((0, 1))
        assert (np.diff(shown.ravel()[np.argsort(DISC.ravel())]) >= 0).all()

    @pytest.mark.parametrize("data", [np.zeros((9, 9)), np.full((9, 9), 3.0), np.eye(9) - 2, np.eye(9) > 0])
    @pytest.mark.parametrize("scale", [0.5, "log"])
    def test_flat_empty_negative_and_boolean_patterns_are_drawn(self, data, scale):
        drawn = plot.pattern(data, scale=scale)
        plot.to_png(drawn.image.figure)

    def test_missing_pixels_have_a_colour_of_their_own(self):
        data = DISC.astype(float)
        data[3, 4] = np.nan
        assert np.ma.getmaskarray(plot.pattern(data).image.get_array()).sum() == 1

    @pytest.mark.parametrize(
        ("given", "error", "word"),
        [
            ({"data": np.zeros(5)}, DataError, "2-D"),
            ({"data": np.zeros((2, 5, 5))}, DataError, "one pattern"),
            ({"data": np.full((5, 5), np.nan)}, DataError, "finite"),
            ({"data": np.zeros((5, 5), complex)}, DataError, "complex"),
            ({"scale": 0}, DataError, "power"),
            ({"scale": "sqrt"}, DataError, "sqrt"),
            ({"mrad_per_px": -1.0}, CalibrationError, "angle per pixel"),
            ({"radius_px": 4.0}, CalibrationError, "center"),
            ({"ax": [1]}, DataTypeError, "Axes"),
        ],
    )
    def test_bad_input_is_named(self, given, error, word):
        with pytest.raises(error, match=word):
            plot.pattern(**{"data": DISC} | given)


class TestMaps:
    def test_operations_share_one_scale_that_ends_at_one(self):
        drawn = plot.symmetry_maps(maps(), pixel_size_nm=0.05)
        assert [i.axes.get_title() for i in drawn.images] == ["$C_{2}$", "$C_{4}$", "$m_{x}$"]
        assert {i.get_clim() for i in drawn.images} == {drawn.limits}
        assert drawn.limits[0] == pytest.approx(0.5, abs=0.02)
        assert drawn.limits[1] == 1.0
        assert drawn.colour_bars[0].ax.get_ylabel() == "symmetry γ"

    def test_errors_begin_at_zero(self):
        drawn = plot.symmetry_maps(maps(), what="standard_error")
        assert drawn.limits[0] == 0
        assert drawn.limits[1] == pytest.approx(0.02, rel=0.02)
        assert "error" in drawn.colour_bars[0].ax.get_ylabel()

    @pytest.mark.parametrize("each", [False, True])
    def test_positions_that_are_not_valid_are_left_out(self, each):
        valid = np.ones((3, 12, 16) if each else (12, 16), bool)
        valid[..., 2, 3] = False
        found = maps(valid=valid)
        found.gamma[:, 2, 3] = -5
        drawn = plot.symmetry_maps(found)
        assert drawn.limits[0] > 0.4
        assert all(np.ma.getmaskarray(i.get_array()).sum() == 1 for i in drawn.images)

    def test_maps_without_anything_valid_are_drawn(self):
        drawn = plot.symmetry_maps(maps(valid=np.zeros((12, 16), bool)))
        plot.to_png(drawn.images[0].figure)

    def test_perfect_maps_are_drawn(self):
        drawn = plot.symmetry_maps(maps(gamma=np.ones((3, 12, 16)), standard_error=np.zeros((3, 12, 16))))
        assert drawn.limits == (0.99, 1.0)
        plot.to_png(drawn.images[0].figure)

    def test_a_comparison_has_a_row_an_operation_and_a_column_a_map(self):
        truth, noisy = maps(low=0.6), maps(low=0.1)
        drawn = plot.symmetry_comparison({"truth": truth, "1000 frames/s": noisy}, operations=["mx", "C2"])
        assert len(drawn.images) == 4
        assert {i.get_clim() for i in drawn.images} == {drawn.limits}
        assert drawn.limits[0] > 0.55  # of the first column: what noise takes is seen
        np.testing.assert_array_equal(drawn.images[0].get_array(), truth.gamma[2])
        np.testing.assert_array_equal(drawn.images[3].get_array(), noisy.gamma[0])
        assert drawn.images[1].axes.get_title() == "1000 frames/s"
        assert drawn.images[2].axes.get_ylabel() == "$C_{2}$"

    def test_bad_input_is_named(self):
        with pytest.raises(DataError, match="gamma of shape"):
            plot.symmetry_maps(maps(gamma=np.ones((12, 16))))
        with pytest.raises(DataError, match="what='se'"):
            plot.symmetry_maps(maps(), what="se")
        with pytest.raises(DataError, match="3 axes"):
            plot.symmetry_maps(maps(), ax=plot.figure().subplots(1, 2))
        with pytest.raises(DataError, match="no maps"):
            plot.symmetry_comparison({})
        with pytest.raises(DataError, match="'noisy' lack C4"):
            plot.symmetry_comparison({"truth": maps(), "noisy": maps(operations=("C2",))})
        with pytest.raises(DataError, match="3 × 1"):
            plot.symmetry_comparison({"truth": maps()}, ax=plot.figure().subplots(1, 3))


class TestField:
    def test_colour_is_direction_and_brightness_is_length(self):
        field = np.zeros((2, 4, 4))
        field[1, 0] = 1.0  # to the right
        field[0, 1] = -1.0  # up
        field[1, 2] = 0.5
        drawn = plot.com(field, full=1.0, unit="mrad", pixel_size_nm=0.1)
        shown = np.asarray(drawn.image.get_array())
        right, up, half, none = shown[:, 0]
        assert right.argmax() == 0  # hue 0 is red
        assert up.argmax() == 1  # a quarter on is green
        np.testing.assert_allclose(half, right / 2)
        assert none.max() == 0
        # the key says the same: its right rim is the colour of vectors to the right
        key = np.asarray(drawn.key.images[0].get_array())
        np.testing.assert_allclose(key[20, 40, :3], right)
        np.testing.assert_allclose(key[0, 20, :3], up)
        assert key[0, 0, 3] == 0

    def test_full_colour_is_the_99th_percentile_and_gaps_are_marked(self):
        field = np.random.default_rng(0).normal(size=(2, 20, 20))
        field[0, 3, 4] = np.nan
        drawn = plot.com(field)
        assert drawn.full == pytest.approx(np.nanpercentile(np.hypot(*field), 99))
        assert np.asarray(drawn.image.get_array())[3, 4] == pytest.approx(
            [0x4A / 255, 0x60 / 255, 0x78 / 255]
        )
        assert plot.com(np.zeros((2, 5, 5))).full == 1

    def test_a_centre_of_mass_brings_its_unit_its_scale_and_its_gaps(self):
        from fairstem.diffraction import com

        scan = np.random.default_rng(0).poisson(3.0, (4, 5, 8, 8))
        scan[1, 2] = 0
        with pytest.warns(DataWarning):
            found = com(scan, mrad_per_px=2.0)
        drawn = plot.com(found)
        assert drawn.key.get_title().endswith("mrad")
        assert np.asarray(drawn.image.get_array())[1, 2] == pytest.approx(
            [0x4A / 255, 0x60 / 255, 0x78 / 255]
        )
        assert drawn.scale_bar.txt_label.get_text() == "1 px"
        sized = dataclasses.replace(found, pixel_size_nm=(0.1, 0.1))
        assert plot.com(sized).scale_bar.txt_label.get_text() == "0.1 nm"

    @pytest.mark.parametrize("field", [np.zeros((5, 5)), np.zeros((3, 5, 5)), np.full((2, 3, 3), np.nan)])
    def test_bad_input_is_named(self, field):
        with pytest.raises(DataError, match="field"):
            plot.com(field)
