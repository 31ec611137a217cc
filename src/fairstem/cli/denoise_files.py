"""The files of ``fairstem denoise``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from fairstem.cli.denoise_figures import before_after_png
from fairstem.cli.denoise_page import page
from fairstem.cli.denoised import Denoised

__all__ = ["DEVIATIONS", "RETENTION", "write"]

DEVIATIONS = (
    "crystal", "site", "kind", "y", "x", "shift_y", "shift_x", "sd_shift_y", "sd_shift_x", "relative_intensity",
    "sd_relative_intensity", "height", "statistic", "p_value", "probability", "shift_y_pm", "shift_x_pm",
    "sd_shift_y_pm", "sd_shift_x_pm",
)  # fmt: skip
RETENTION = ("crystal", "site", "quantity", "amount", "unit", "found", "kept", "amount_90")


def write(denoised: Denoised, result: Any, folder: Path, *, source: str = "") -> None:
    """Write image, tables, picture and report to a folder.

    Parameters
    ----------
    denoised
        What is known of the image, or of the first frame of a stack.
    result
        The denoised image or stack as HyperSpy signal, with its provenance.
    folder
        An existing folder; hand in one that `fairstem.compute.staged_output` made.
    source
        Name of the file.
    """
    from fairstem.signals.making import save

    save(result, folder / "denoised.hspy")
    # an empty table has its head all the same
    names = [n for n in DEVIATIONS if denoised.unit == "pm" or not n.endswith("_pm")]
    table = denoised.deviations.reindex(columns=names)
    table.to_csv(folder / "deviations.csv", index_label="deviation", float_format="%.6g")
    _retention(denoised).to_csv(folder / "retention.csv", index=False, float_format="%.6g")
    # at least one dot a pixel, so that the picture shows what was measured
    dpi = min(max(150.0, denoised.image.shape[1] / 4.5), 800.0)
    (folder / "before_after.png").write_bytes(before_after_png(denoised, dpi))
    (folder / "report.html").write_text(page(denoised, source=source).to_html(), encoding="utf-8")


def _retention(denoised: Denoised) -> pd.DataFrame:
    table = denoised.found.retention
    if not len(table):
        return pd.DataFrame(columns=list(RETENTION))
    unit = table["quantity"].map({"shift": denoised.unit, "intensity": "share"})
    return table.assign(unit=unit)[list(RETENTION)]
