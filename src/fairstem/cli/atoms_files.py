"""The files of ``fairstem atoms``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fairstem.cli.atoms_figures import overlay_png
from fairstem.cli.atoms_page import page
from fairstem.cli.measured import Measured

__all__ = ["write"]


def write(measured: Measured, signal: Any, folder: Path, *, source: str = "") -> None:
    """Write tables, lattice, image, overlay and report to a folder.

    Parameters
    ----------
    measured
        What was measured.
    signal
        The image as HyperSpy signal; a copy with the provenance of the measurement is written.
    folder
        An existing folder; hand in one that `fairstem.compute.staged_output` made.
    source
        Name of the file.
    """
    from fairstem.signals import Step, open_data
    from fairstem.signals.making import save
    from fairstem.signals.provenance import jsonable

    measured.columns.to_csv(folder / "columns.csv", index_label="column")
    measured.bonds.to_csv(folder / "bonds.csv", index_label="bond")
    lattice: dict[str, Any] = {"lattice_found": False, "why": measured.no_lattice}
    if measured.lattice is not None:
        lattice = {"lattice_found": True, **measured.lattice.to_dict()}
    text = json.dumps(jsonable(lattice), indent=2, allow_nan=False)
    (folder / "lattice.json").write_text(text + "\n", encoding="utf-8")
    opened = open_data(signal, ndim=2)
    stored = opened.array
    for entry in measured.steps:
        step = Step(
            **{k: entry[k] for k in ("function", "parameters", "input_sha256", "priors", "version", "at")}
        )
        signal = opened.rewrap(stored, step)
        opened = open_data(signal, ndim=2)
    save(signal, folder / "image.hspy")
    # at least one dot a pixel, so that the picture shows what was measured
    dpi = min(max(150.0, measured.image.shape[1] / 5), 800.0)
    (folder / "overlay.png").write_bytes(overlay_png(measured, dpi))
    html = page(measured, source=source).to_html()
    (folder / "report.html").write_text(html, encoding="utf-8")
