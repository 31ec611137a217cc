"""What a failed read collects as garbage is only what the test itself made."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="session", autouse=True)
def libraries_are_no_garbage():
    """Keep the libraries out of the collections that follow each failed read: 0.1 s each otherwise."""
    import hyperspy.api as hs

    hs.signals.Signal2D([[0.0]])
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
