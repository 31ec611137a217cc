"""The denoised images of the tour, compared with the truth where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairstem.cli.denoised import Denoised
from fairstem.cli.tour_stops import Stop, refused, simulate, stands_in
from fairstem.errors import DataError
from fairstem.plot.numbers import significant, with_error
from fairstem.plot.report import Number, Section

__all__ = ["DENOISED", "HEADS", "DenoisedSample", "cells_of", "found_in", "visit_denoised"]

Floats = NDArray[np.float64]
_NEAR = 0.5  # of the distance of neighbours: a deviation belongs to this planted column
_REACH = 2.5  # widths round a column that is fitted


@dataclass(frozen=True, kw_only=True)
class DenoisedSample(Stop):
    """An image that is denoised.

    Parameters
    ----------
    file
        Name of the sample file in `fairstem.data`.
    part
        Side of the part in the middle of the file that is shown, px.
    denoise
        Arguments of `fairstem.denoise.separate`.
    """

    file: str = ""
    part: int = 512
    denoise: Mapping[str, Any] = field(default_factory=dict)


DENOISED = (
    DenoisedSample(
        name="denoise",
        title="Five electrons, and defects that stay",
        about="A crystal with five electrons at its brightest pixel, in which twelve columns are displaced by 20 pm "
        "and twelve others have half their intensity. A denoised image may look perfect because every column was made "
        "like its neighbours. Here each column is tested against the crystal, and those that differ by more than "
        "chance are put back. Since the truth is known, the table says what of the planted changes the denoised "
        "image still shows.",
        phantom="p2",
        options={"peak": 5.0, "shifted": 12, "halved": 12, "seed": 1},
        quick=True,
    ),
    DenoisedSample(
        name="denoise-srtio3",
        title="SrTiO₃ [100] at 80 kV, denoised",
        about="The middle of the scan that heads this tour. Its noise is estimated from the image itself. Rows of a "
        "scan jitter, so that columns differ from the crystal by more than counting noise: the checks say how far.",
        phantom="srtio3",
        options={"shape": (256, 256), "peak": 60.0},
        file="16_STOimage_1.ser",
        quick=True,
    ),
)


def visit_denoised(sample: DenoisedSample, simulated: bool = False) -> tuple[Section, dict[str, Any]]:
    """Denoise an image of the tour.

    Parameters
    ----------
    sample
        Which.
    simulated
        Simulate it even if the file is at hand.

    Returns
    -------
    tuple
        Its part of the page, and the numbers. Where the image does not fit the method, the page says why,
        and so does ``error`` among the numbers.
    """
    from fairstem.cli.console import heard
    from fairstem.cli.denoise_measure import measure
    from fairstem.cli.denoise_page import section, summary

    with heard(quiet=True) as warnings:
        signal, origin, made = _open(sample, simulated)
        facts: dict[str, Any] = {"name": sample.name, "real": made is None}
        about = f"{sample.about}\n\n{origin}"
        try:
            denoised = measure(signal, sample.title, sample.denoise, warnings)
        except DataError as error:
            return refused(sample, about, "denoised", facts, error)
    numbers, scores = ([], {}) if made is None else _compare(denoised, made)
    part = section(denoised, about=about, title=sample.title, comparison=numbers)
    return part, facts | {"comparison": scores} | summary(denoised)


def _open(sample: DenoisedSample, simulated: bool) -> tuple[Any, str, Any]:
    """Return the image, where it is from, and the phantom of a simulated one."""
    from fairstem import data

    if sample.file and data.available(sample.file) and not simulated:
        from fairstem.signals import load

        signal = load(data.fetch(sample.file))
        ny, nx = signal.data.shape
        y, x = (max((n - sample.part) // 2, 0) for n in (ny, nx))
        record = data.record(sample.file)
        origin = (
            f"Real image {sample.file}, {sample.part} px a side of its middle: {record.description}. Source: "
            f"{record.citation}."
        )
        return signal.isig[x : x + sample.part, y : y + sample.part], origin, None
    signal, made = simulate(sample)
    origin = f"Simulated: phantom {made.name!r}. The image without noise, and what was planted, are known."
    if sample.file:
        lacking = f"the file {sample.file} is not at hand (fairstem.data.fetch gets it)"
        origin = stands_in(made, simulated, lacking)
    return signal, origin, made


def _compare(denoised: Denoised, made: Any) -> tuple[list[Number], dict[str, Any]]:
    """Compare with the image without noise, and with what was planted."""
    from fairstem.metrics import psnr

    before, after = (psnr(np.asarray(i, np.float64), made.clean) for i in (made.data, denoised.clean))
    facts: dict[str, Any] = {"psnr_before": before, "psnr": after}
    numbers = [
        Number(
            "nearness to the truth",
            significant(after, 3),
            unit="dB",
            note=f"peak signal-to-noise ratio; {significant(before, 3)} dB as recorded",
        )
    ]
    planted = _planted(made)
    for kind, words in (("shift", "of the planted displacements kept"), ("half", "of the lost halves kept")):
        chosen = planted[planted["planted"] == kind]
        if not len(chosen):
            continue
        shares = _kept(denoised.clean.astype(np.float64), made.clean, chosen, planted, kind)
        mean, error = float(shares.mean()), float(shares.std(ddof=1) / np.sqrt(len(shares)))
        named = _named(denoised.likely, chosen)
        facts[kind] = {"planted": len(chosen), "listed": named, "kept": mean, "sd": error}
        note = f"mean of {len(chosen)} columns, in the denoised image; {named} of them are in the table of deviations"
        numbers.append(Number(words, *with_error(100 * mean, 100 * error), "%", note))
    return numbers, facts


def _planted(made: Any) -> pd.DataFrame:
    """Return the columns inside the image; where nothing was planted all are ``"none"``."""
    table = made.truth
    ny, nx = made.clean.shape
    border = 3 * float(table["width"].median())
    inside = table["y"].between(border, ny - 1 - border) & table["x"].between(border, nx - 1 - border)
    out: pd.DataFrame = table[inside].assign(planted=table.get("planted", "none"))
    return out


def _kept(image: Floats, clean: Floats, chosen: pd.DataFrame, every: pd.DataFrame, kind: str) -> Floats:
    """Return which share of the planted change the image shows, column by column: the same fit as to the truth."""
    seen, true = (np.array([_fit(i, row) for row in chosen.itertuples()]) for i in (image, clean))
    if kind == "shift":
        along = true[:, 1:]
        return np.asarray((seen[:, 1:] * along).sum(1) / (along**2).sum(1))
    alike = every[(every["planted"] == "none") & every["species"].isin(chosen["species"])]
    whole = float(np.median([_fit(clean, row)[0] for row in alike.itertuples()]))
    return np.asarray((whole - seen[:, 0]) / (whole - true[:, 0]))


def _fit(image: Floats, column: Any) -> tuple[float, float, float]:
    """Fit a Gaussian of the true width near where the column would be: its height and its shift (y, x), px."""
    width = float(column.width)
    y, x = (
        float(column.y) - getattr(column, "shift_y", 0.0),
        float(column.x) - getattr(column, "shift_x", 0.0),
    )
    reach = int(np.ceil(_REACH * width))
    rows, columns = (np.arange(round(c) - reach, round(c) + reach + 1) for c in (y, x))
    dy, dx = ((rows - y) / width)[:, None], ((columns - x) / width)[None, :]
    peak = np.exp(-0.5 * (dy**2 + dx**2))
    terms = np.stack([np.ones_like(peak), peak, dy * peak, dx * peak]).reshape(4, -1)
    part = image[np.ix_(rows.clip(0, image.shape[0] - 1), columns.clip(0, image.shape[1] - 1))]
    found = np.linalg.lstsq(terms.T, part.ravel(), rcond=None)[0]
    return float(found[1]), float(width * found[2] / found[1]), float(width * found[3] / found[1])


def _named(table: pd.DataFrame, chosen: pd.DataFrame) -> int:
    """Count the planted columns near which a likely deviation is listed."""
    if not len(table):
        return 0
    from scipy.spatial import cKDTree

    near = cKDTree(table[["y", "x"]].to_numpy(float)).query(chosen[["y", "x"]].to_numpy(float))[0]
    return int((near < _NEAR * 4 * float(chosen["width"].median())).sum())


HEADS = (
    "image",
    "input",
    "on the crystal",
    "deviations",
    "displacement kept to 90 %",
    "nearness to the truth, before → after",
    "planted displacement / half kept",
    "time (s)",
)


def cells_of(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what the overview says of an image, under `HEADS` without title, input and time.

    Parameters
    ----------
    facts
        Of `visit_denoised`.

    Returns
    -------
    tuple
        Cells.
    """
    known = facts["comparison"]
    limits = [
        r for r in facts["kept_to_90_percent"] if r["quantity"] == "shift" and np.isfinite(r["amount_90"])
    ]
    best = min((r["amount_90"] for r in limits), default=float("nan"))
    limit = f"from {significant(best, 2)} {limits[0]['unit']}" if limits else "–"
    agreed = f"{significant(known['psnr_before'], 3)} → {significant(known['psnr'], 3)} dB" if known else ""
    shares = [f"{100 * known[k]['kept']:.0f}" for k in ("shift", "half") if k in known]
    return (
        f"{100 * facts['crystal_share']:.1f} %",
        facts["deviations"]["likely"],
        limit,
        agreed,
        f"{' / '.join(shares)} %" if shares else "",
    )


def found_in(facts: Mapping[str, Any]) -> str:
    """Return what was found in an image, for the terminal.

    Parameters
    ----------
    facts
        Of `visit_denoised`.

    Returns
    -------
    str
        What deviates.
    """
    text, known = f"{facts['deviations']['likely']} deviations from the crystal", facts["comparison"]
    if not known:
        return text
    return f"{text}, {significant(known['psnr_before'], 3)} to {significant(known['psnr'], 3)} dB"
