"""Counts, counts times a gain, averages."""

from __future__ import annotations

import numpy as np
import pytest

from fairstem.signals import judge_counts


@pytest.fixture
def counts():
    return np.random.default_rng(0).poisson(30.0, (64, 64))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", ">u2", "f4", "f8"])
def test_integers_are_counts_in_any_dtype(counts, dtype):
    assert judge_counts(counts.astype(dtype)).kind == "counts"


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("step", [0.25, 1 / 3, 0.1, 1.7, 36.6])
def test_gain_is_found(counts, step, dtype):
    found = judge_counts((counts * step).astype(dtype))
    assert found.kind == "multiples"
    assert found.step == pytest.approx(step, rel=1e-4)


@pytest.mark.parametrize("offset", [0, 5, 1000.5])
def test_gain_is_found_with_an_offset(counts, offset):
    assert judge_counts(counts * 12.5 + offset).step == pytest.approx(12.5)


def test_integer_multiples(counts):
    assert judge_counts((counts * 16 + 3).astype("u2")).step == 16


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_continuous(dtype):
    values = np.random.default_rng(1).normal(100, 3, (64, 64)).astype(dtype)
    assert judge_counts(values).kind == "continuous"
    assert judge_counts(np.round(values, 3).astype(dtype)).kind in ("continuous", "multiples")


def test_nan_is_left_out(counts):
    values = counts.astype(float)
    values[0] = np.nan
    assert judge_counts(values).kind == "counts"
    assert judge_counts(values * np.nan).kind == "continuous"
