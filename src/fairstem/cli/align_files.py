"""The files of ``fairstem align``."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from fairstem.cli.align_figures import average_png
from fairstem.cli.align_page import page, summary
from fairstem.cli.registered import Registered

__all__ = ["write"]


def write(
    registered: Registered, alignment: Any, folder: Path, *, source: str = "", aligned: bool = False
) -> dict[str, Any]:
    """Write average, alignment, table, report and numbers to a folder.

    Parameters
    ----------
    registered, alignment
        What was registered.
    folder
        An existing folder; hand in one that `fairstem.compute.staged_output` made.
    source
        Names of the files.
    aligned
        Also write the frames on the grid of the average.

    Returns
    -------
    dict
        The numbers, as in ``result.json``.
    """
    from fairstem import register
    from fairstem.signals.making import save
    from fairstem.signals.provenance import jsonable

    save(alignment.average, folder / "average.hspy")
    _write_tiff(registered, folder / "average.tif")
    # at least one dot a pixel, so that the picture shows what was measured
    dpi = min(max(150.0, registered.average.shape[1] / 5), 800.0)
    (folder / "average.png").write_bytes(average_png(registered, dpi))
    register.save(alignment, folder / "alignment.h5")
    registered.row_table().to_csv(folder / "rows.csv", index=False, float_format="%.6g")
    if aligned:
        save(alignment.aligned, folder / "aligned.hspy")
    (folder / "report.html").write_text(page(registered, source=source).to_html(), encoding="utf-8")
    facts: dict[str, Any] = jsonable(summary(registered))
    text = json.dumps(facts, indent=2, allow_nan=False, ensure_ascii=False)
    (folder / "result.json").write_text(text + "\n", encoding="utf-8")
    return facts


def _write_tiff(registered: Registered, path: Path) -> None:
    """Write the average as a 32-bit TIFF whose pixel size ImageJ and HyperSpy read."""
    import numpy as np

    from fairstem.signals.making import make_signal

    image = make_signal(
        registered.average.astype(np.float32), pixel_size_nm=registered.pixel_size_nm, title=registered.title
    )
    with warnings.catch_warnings():
        # the writer warns of its own dependencies' changes; none concerns the file
        warnings.simplefilter("ignore")
        image.save(str(path), overwrite=True)
