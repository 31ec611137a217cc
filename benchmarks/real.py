"""Real images: what is found, and whether the crystal agrees."""

from __future__ import annotations

from .tables import Table

TITLE = "Real images"
PACKAGES = ("fairstem", "numpy", "hyperspy", "rosettasciio")


def run() -> list[Table]:
    """Return no table yet."""
    return []
