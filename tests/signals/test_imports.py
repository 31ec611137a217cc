"""Importing costs nothing: HyperSpy and dask come in only when they are needed."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["fairstem.signals", "fairstem.data"])
def test_import_is_light(package):
    heavy = "('hyperspy', 'dask', 'rsciio', 'scipy', 'h5py', 'pooch', 'pandas', 'matplotlib')"
    code = (
        f"import sys, {package} as p\n"
        "[getattr(p, n) for n in p.__all__]\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_door_does_not_load_hyperspy_for_arrays():
    code = (
        "import sys, numpy as np\n"
        "from fairstem.signals import open_data, sha256, validate_image\n"
        "a = np.random.default_rng(0).normal(size=(16, 16))\n"
        "o = open_data(a); o.rewrap(a); sha256(a); validate_image(a, warn=False)\n"
        "print('hyperspy' in sys.modules, 'dask' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
