import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairstem.compute import memory
from fairstem.errors import DataError, DataTypeError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256 MB", 256e6),
        ("1KiB", 1024),
        (" 2 gib ", 2**31),
        ("1.5kB", 1500),
        ("7", 7),
        ("1e3 B", 1000),
        (12, 12),
        (3.9, 3),
    ],
)
def test_sizes(text, size):
    assert memory.parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "lots", "12 parsecs", "256 MX", "-1 MB", "0", 0, -5, float("nan"), float("inf"), "5 iB"]
)
def test_bad_sizes_are_refused(text):
    with pytest.raises(DataError):
        memory.parse_bytes(text)


@pytest.mark.parametrize("size", [None, True, [1]])
def test_bad_types_are_refused(size):
    with pytest.raises(DataTypeError):
        memory.parse_bytes(size)


@given(st.integers(1, 10**17))
def test_what_is_formatted_parses_back_to_three_digits(size):
    assert memory.parse_bytes(memory.format_bytes(size)) == pytest.approx(size, rel=6e-3)


def test_this_machine_answers_or_says_nothing():
    for answer in (memory.available_bytes(), memory.peak_process_bytes()):
        assert answer is None or answer > 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
def test_peak_is_that_of_the_process_and_not_of_its_parent():
    held = np.ones(40_000_000)  # 320 MB here
    code = "from fairstem.compute.memory import peak_process_bytes; print(peak_process_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert held.nbytes > 2 * int(done.stdout)
