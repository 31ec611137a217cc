"""Worker: open one real file lazily. Arguments: FILE OUT.json; FILE may be ARCHIVE.zip/MEMBER."""

import json
import sys
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np

from fairstem import data, signals


def opened(name, folder):
    """Return the signal of a file, unpacked where it is in an archive; of many the one with most values."""
    archive, _, member = name.partition(".zip/")
    path = data.fetch(f"{archive}.zip" if member else name)
    if member:
        with zipfile.ZipFile(path) as packed:
            stem = member.rpartition(".")[0]
            packed.extractall(folder, [own for own in packed.namelist() if own.rpartition(".")[0] == stem])
        path = Path(folder) / member
    found = signals.load(path, lazy=True, warn=False)
    return max(found, key=lambda s: s.data.size) if isinstance(found, list) else found


def described(signal):
    """Return shape, type and axes of a signal, in the order of the array."""
    array = signal.data
    axes = signal.axes_manager._axes
    units = ["-" if str(axis.units) in ("", "None", "<undefined>") else str(axis.units) for axis in axes]
    named = [f"{axis.name} {axis.scale:.4g} {unit}" for axis, unit in zip(axes, units, strict=True)]
    return {
        "shape": " x ".join(map(str, array.shape)),
        "dtype": str(array.dtype),
        "dense_mb": array.size * np.dtype(array.dtype).itemsize / 1e6,
        "lazy": "yes" if type(array).__module__.startswith("dask.") else "no",
        "axes": ", ".join(named),
    }


def main(name, wanted):
    """Open the file and write what it holds."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        signal = opened(name, folder)
        out = described(signal) | {"cpu_s": time.process_time() - began}
        del signal  # closes the file in the folder
    Path(wanted).write_text(json.dumps(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
