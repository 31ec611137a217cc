"""Shared fixtures: sample files by name, a figure backend without a screen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def sample() -> Callable[[str], Path]:
    """``sample(name)`` returns the path of a sample file, or skips the test with the reason."""
    from fairstem import data

    def find(name: str) -> Path:
        if not data.available(name):
            pytest.skip(f"sample file {name} is not on this machine (set FAIRSTEM_DATA to its folder)")
        return data.fetch(name)

    return find
