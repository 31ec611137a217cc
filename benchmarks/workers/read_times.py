"""Worker: write the seconds that an operation took as JSON. Arguments: RESULT.npz OUT.json."""

import json
import sys
from pathlib import Path

import numpy as np


def main(given, wanted):
    """Read and write."""
    with np.load(given) as data:
        Path(wanted).write_text(json.dumps({key: float(data[key]) for key in ("cpu_s", "wall_s")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
