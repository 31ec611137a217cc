"""The files of ``fairstem symmetry``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fairstem.cli.scanned import Scanned
from fairstem.cli.symmetry_figures import maps_png
from fairstem.cli.symmetry_page import page, summary

__all__ = ["write"]


def write(scanned: Scanned, results: dict[str, Any], folder: Path, *, source: str = "") -> dict[str, Any]:
    """Write maps, their errors, virtual images, mean pattern, picture and report to a folder.

    Parameters
    ----------
    scanned
        What is known of the scan.
    results
        HyperSpy signals by the name of their file.
    folder
        An existing folder; hand in one that `fairstem.compute.staged_output` made.
    source
        Name of the file.

    Returns
    -------
    dict
        The numbers, as in ``result.json``.
    """
    from fairstem.signals import making
    from fairstem.signals.provenance import jsonable

    for name, signal in results.items():
        making.save(signal, folder / f"{name}.hspy")
    # at least one dot a position, so that the picture shows what was measured
    dpi = min(max(150.0, scanned.maps.gamma.shape[-1] / 2.4), 800.0)
    (folder / "symmetry.png").write_bytes(maps_png(scanned, dpi))
    (folder / "report.html").write_text(page(scanned, source=source).to_html(), encoding="utf-8")
    facts: dict[str, Any] = jsonable(summary(scanned))
    text = json.dumps(facts, indent=2, allow_nan=False, ensure_ascii=False)
    (folder / "result.json").write_text(text + "\n", encoding="utf-8")
    return facts
