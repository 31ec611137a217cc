"""A registration written and read again: nothing changes; what is no registration is named."""

from __future__ import annotations

from dataclasses import fields, replace

import h5py
import numpy as np
import pytest

from fairstem import signals
from fairstem.errors import DataError, FileFormatError, OutputError
from fairstem.priors import PriorCheck
from fairstem.register import _store
from fairstem.register._alignment import Alignment
from fairstem.register._apply import apply
from fairstem.register._judge.floor import common_mode_floor
from fairstem.register._series.motion import DenseMotion, RowMotion
from fairstem.register._store import load, save

SHAPE, N = (24, 20), 3


def motion(kind):
    rng = np.random.default_rng(0)
    if kind == "dense":
        return DenseMotion(rng.normal(0, 1, (N, 2, *SHAPE)).astype("float32"))
    rows = rng.normal(0, 1, (N, 2, SHAPE[0]))
    slow = rng.normal(0, 0.2, (N, 2, 5, 5)) if kind == "slow" else None
    return RowMotion(rows, SHAPE, np.array([0.0, 90.0, 12.5]) if kind == "slow" else np.zeros(N), slow)


def alignment(kind="rows", average=None):
    rng = np.random.default_rng(1)
    image, samples, variance, chi2 = rng.random((4, *SHAPE))
    floor = common_mode_floor(
        rng.normal(0, 0.2, (N, 2, SHAPE[0])), np.zeros((N, 2, SHAPE[0])), pixel_size_nm=0.02
    )
    priors = (
        PriorCheck("smooth", "rows move smoothly", 0.3, 1.0, "<=", "ratio", "more frames"),
        PriorCheck("unknown", "nothing is known", float("nan"), 1.0, ">=", "ratio", "look"),
    )
    parameters = {
        "asked": {"model": "rowwise", "angles": None},
        "found": {"q": 1e-9, "curve": np.arange(100.0), "hops": (1, 2)},
    }
    return Alignment(
        image if average is None else average, motion(kind), samples, variance, chi2, floor,
        None if kind == "dense" else rng.random((N, 2, SHAPE[0])), (0, 2), priors, parameters,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["rows", "slow", "dense"])
def test_nothing_changes(tmp_path, kind):
    before = alignment(kind)
    assert save(before, tmp_path / "a.h5") == tmp_path / "a.h5"
    after = load(tmp_path / "a.h5")
    for name in ("average", "samples", "variance", "chi2", "displacement"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert (after.row_error is None) == (kind == "dense")
    assert type(after.motion) is type(before.motion)
    np.testing.assert_array_equal(after.motion.forward(1), before.motion.forward(1))
    for f in fields(before.floor):
        a, b = getattr(after.floor, f.name), getattr(before.floor, f.name)
        assert type(a) is type(b)
        assert np.array_equal(a, b)
    assert after.used == (0, 2)
    assert after.priors[0] == before.priors[0]
    assert after.priors[1].holds is None
    found = after.parameters["found"]
    np.testing.assert_array_equal(found.pop("curve"), np.arange(100.0))
    assert found == {"q": 1e-9, "hops": (1, 2)}
    assert after.parameters["asked"] == {"model": "rowwise", "angles": None}


def test_it_can_be_applied_but_has_no_frames(tmp_path):
    before = alignment()
    save(before, tmp_path / "a.h5")
    after = load(tmp_path / "a.h5")
    data = np.random.default_rng(2).poisson(1, (N, *SHAPE, 4))
    np.testing.assert_array_equal(apply(after, data), apply(before, data))
    with pytest.raises(DataError, match="read from a file"):
        _ = after.aligned


def test_a_signal_stays_a_signal(tmp_path):
    signal = signals.make_signal(
        np.random.default_rng(0).random(SHAPE),
        pixel_size_nm=(0.02, 0.03),
        title="Pt",
        steps=[signals.Step("fairstem.register.align")],
    )
    signal.axes_manager["x"].offset = 4.5
    save(alignment(average=signal), tmp_path / "a.h5")
    after = load(tmp_path / "a.h5").average
    np.testing.assert_array_equal(after.data, signal.data)
    for name in ("y", "x"):
        old, new = signal.axes_manager[name], after.axes_manager[name]
        assert (old.scale, old.offset, old.units) == (new.scale, new.offset, new.units)
    assert after.metadata.General.title == "Pt"
    assert signals.steps_of(after)[0]["function"] == "fairstem.register.align"


def test_a_lazy_average_is_computed(tmp_path):
    da = pytest.importorskip("dask.array")
    image = np.random.default_rng(0).random(SHAPE)
    save(alignment(average=da.from_array(image)), tmp_path / "a.h5")
    np.testing.assert_array_equal(load(tmp_path / "a.h5").average, image)


def test_large_dense_fields_stay_in_the_file(tmp_path, monkeypatch):
    before = alignment("dense")
    save(before, tmp_path / "a.h5")
    monkeypatch.setattr(_store, "_IN_MEMORY", 0)
    after = load(tmp_path / "a.h5")
    assert not isinstance(after.motion.fields, np.ndarray)
    assert (after.motion.n, after.motion.shape) == (N, SHAPE)
    np.testing.assert_array_equal(after.displacement, before.displacement)
    save(after, tmp_path / "b.h5")
    np.testing.assert_array_equal(load(tmp_path / "b.h5").displacement, before.displacement)


def test_an_existing_file_is_kept_unless_told(tmp_path):
    save(alignment(), tmp_path / "a.h5")
    with pytest.raises(OutputError, match="exists already"):
        save(alignment("dense"), tmp_path / "a.h5")
    save(alignment("dense"), tmp_path / "a.h5", overwrite=True)
    assert isinstance(load(tmp_path / "a.h5").motion, DenseMotion)


def test_nothing_half_written_stays(tmp_path):
    class Other:
        n, shape = N, SHAPE

    with pytest.raises(DataError, match="motion of type Other"):
        save(replace(alignment(), motion=Other()), tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_what_is_no_registration_is_named(tmp_path):
    with pytest.raises(FileFormatError, match="does not exist"):
        load(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("y,x")
    with pytest.raises(FileFormatError, match=r"text.h5 can't be read as a registration"):
        load(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = 1
    with pytest.raises(FileFormatError, match="no registration"):
        load(tmp_path / "other.h5")


def test_damaged_and_later_files_are_named(tmp_path):
    save(alignment(), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["variance"]
    with pytest.raises(FileFormatError, match="damaged"):
        load(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(FileFormatError, match="format version 99"):
        load(tmp_path / "a.h5")
    save(alignment(), tmp_path / "b.h5")
    whole = (tmp_path / "b.h5").read_bytes()
    (tmp_path / "b.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="damaged"):
        load(tmp_path / "b.h5")
