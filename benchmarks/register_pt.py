"""The Pt nanoparticle: from a distorted series to bond-length changes, and whether their error bars are honest."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .harness import worker
from .tables import Table, verdict

CASES = {"film": 20, "smooth": 10}  # seeds
AT_ONCE = 2  # processes
PARTS = 4
WAYS = {"rowwise": "`align`", "rigid": "`align(model='rigid')`", "single": "one frame"}
ON = {"film": "rough", "smooth": "smooth"}
COVERAGE, WITHIN = 68.0, 5.0  # %
ABOUT = (
    "`examples/pt_nanoparticle.py`: a Pt particle of 3 nm along [110] on a film, 28 edge and 6 corner columns "
    "contracted by 4-44 pm; 30 frames of 256² px of 18 pm, peak 30 counts, scan distortion (drift, walk, six "
    "vibration lines, row jitter, flyback, static scan error). Then align, find, refine, `bond_changes` against its "
    "interior; error bars from counts, common-mode floor, film and the interior's fit. Film: roughness of 10 % of "
    "its mean, or none. Δd: mean change of the bonds of a surface atom; inwards: its shift from its lattice site. "
    "Coverage: share of the true values within one error bar. A single frame has no floor in its error bars. CPU "
    "seconds of all steps, one thread."
)
COLUMNS = {
    "film": "film",
    "way": "average",
    "seeds": "seeds",
    "atoms": "surface atoms found",
    "false": "false",
    "cover": "coverage of Δd, %",
    "cover_corner": "of corners, %",
    "cover_inward": "coverage inwards, %",
    "cover_inward_corner": "of corners, %",
    "bias": "bias of Δd, pm",
    "rms": "error of Δd, pm rms",
    "stated": "stated, pm",
    "score": "error / stated, rms",
    "rms_inward": "error inwards, pm rms",
    "worst": "largest error / stated",
    "cpu_s": "CPU s a series",
    "cpu_align_s": "of it to average",
}


def run_all(folder: Path) -> list[dict[str, Any]]:
    """Return the records of all cases, seeds and ways."""
    jobs = []
    for case, seeds in CASES.items():
        cuts = np.linspace(0, seeds, PARTS + 1).astype(int)
        jobs += [(case, first, last) for first, last in pairwise(cuts)]

    def one(job: tuple[str, int, int]) -> list[dict[str, Any]]:
        case, first, last = job
        found = folder / f"pt-{case}-{first}.json"
        worker("pt_table", case, str(first), str(last), found)
        return [{"case": case} | record for record in json.loads(found.read_text())]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [record for records in pool.map(one, jobs) for record in records]


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one row of the table: all seeds of one film and one way."""
    atoms = pd.DataFrame([atom for record in records for atom in record["atoms"]])
    row: dict[str, Any] = {"seeds": len(records), "atoms": len(atoms)}
    row["false"] = sum(record.get("false", 0) for record in records)
    if atoms.empty:
        return row
    error = atoms["change_pm"] - atoms["true_change_pm"]
    score = error / atoms["sd_change_pm"]
    inward = atoms["inward_pm"] - atoms["true_inward_pm"]
    shift = inward / atoms["sd_inward_pm"]
    corner = atoms["true_place"] == "corner"
    for name, values in (("cover", score), ("cover_inward", shift)):
        row[name] = 100 * float((values.abs() < 1).mean())
        row[f"{name}_corner"] = 100 * float((values[corner].abs() < 1).mean())
    row |= {"bias": float(error.mean()), "rms": _rms(error), "stated": _rms(atoms["sd_change_pm"])}
    row |= {"score": _rms(score), "rms_inward": _rms(inward), "worst": float(score.abs().max())}
    timed = [record for record in records if "cpu_s" in record]
    for key in ("cpu_s", "cpu_align_s"):
        row[key] = float(np.median([record[key] for record in timed]))
    return row


def _rms(values: pd.Series) -> float:
    return float(np.sqrt((values**2).mean()))


def pt_nanoparticle(folder: Path) -> list[Table]:
    """Return the table of all films and ways."""
    records = run_all(folder)
    table = Table("Pt nanoparticle: bond-length changes", ABOUT, dict(COLUMNS))
    for case in CASES:
        for way, label in WAYS.items():
            own = [record for record in records if record["case"] == case and record["way"] == way]
            table.rows.append({"film": ON[case], "way": label} | summary(own))
    main = table.rows[0]
    at = "Pt nanoparticle on a rough film: "
    for key, what in (("cover", "Δd"), ("cover_corner", "Δd of corners"), ("cover_inward", "shifts inwards")):
        off = abs(main.get(key, 0.0) - COVERAGE)
        table.targets.append(verdict(f"{at}coverage of {what} off {COVERAGE:g} % by", off, WITHIN, " %"))
    table.targets.append(verdict(f"{at}bias of Δd over its error", abs(main["bias"]) / main["rms"], 0.1))
    smooth = next(row for row in table.rows if row["film"] == ON["smooth"])
    off = abs(smooth.get("cover", 0.0) - COVERAGE)
    name = f"Pt nanoparticle on a smooth film: coverage of Δd off {COVERAGE:g} % by"
    table.targets.append(verdict(name, off, WITHIN, " %"))
    return [table]
