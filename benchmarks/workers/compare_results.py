"""Worker: results of packages beside the exact ones, those of NumPy. Arguments: OUT.json PACKAGE RESULT.npz [...]."""

import json
import sys
from pathlib import Path

import numpy as np

QUANTITIES = ("bright", "dark", "com_y", "com_x", "pacbed")


def compared(found):
    """Return the largest difference of every quantity and package, a row each."""
    out = []
    for quantity in QUANTITIES:
        if ("numpy", quantity) not in found:
            continue
        exact = found["numpy", quantity]
        for package in dict.fromkeys(name for name, _ in found):
            if package != "numpy" and (package, quantity) in found:
                off = float(np.abs(found[package, quantity] - exact).max())
                row = {"quantity": quantity, "package": package, "difference": off}
                out.append(row | {"scale": float(np.abs(exact).max())})
    return out


def main(wanted, *pairs):
    """Compare and write."""
    found = {}
    for package, path in zip(pairs[::2], pairs[1::2], strict=True):
        with np.load(path) as data:
            found |= {(package, key): data[key] for key in QUANTITIES if key in data}
    Path(wanted).write_text(json.dumps(compared(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
