"""What ``fairstem info`` says about a 4D scan."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["scan_rows", "with_angles"]


def with_angles(summary: dict[str, Any]) -> dict[str, Any]:
    """Add the step of the detector in mrad where the axes, or the beam energy, say it."""
    scan = summary.get("scan")
    if scan is None:
        return summary
    scan["mrad_per_px"] = None
    step, units, energy = scan["k_step"], scan["k_units"], summary.get("beam_energy_kev")
    factor = {"mrad": 1.0, "rad": 1e3}.get(units)
    if factor is None and units in ("1/nm", "1/Å") and energy:
        from fairstem.signals.electrons import wavelength_nm

        factor = 1e3 * wavelength_nm(energy) * (10.0 if units == "1/Å" else 1.0)
    if factor is not None and step and all(math.isfinite(s) for s in step):
        scan["mrad_per_px"] = [abs(s) * factor for s in step]
    return summary


def scan_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines about a 4D scan, (name, text); none for other data."""
    scan = summary.get("scan")
    if scan is None:
        return []
    ny, nx = scan["scan_shape"]
    rows = [("scan", f"{ny} × {nx} (y × x) positions" + _series(scan["series"]))]
    ky, kx = scan["detector_shape"]
    rows.append(("detector", f"{ky} × {kx} px{_step(scan)}{_axis(scan)}"))
    if scan["looked_at"]:
        rows.append(("dose", _dose(scan)))
        rows.append(("patterns", _patterns(scan)))
    return rows


def _series(series: list[int]) -> str:
    return f", {' × '.join(map(str, series))} times" if series else ""


def _step(scan: dict[str, Any]) -> str:
    step = scan["k_step"]
    if not step:
        return ", not calibrated"
    text = f", {step[-1]:.4g} {scan['k_units']} a pixel"
    mrad = scan.get("mrad_per_px")
    return text + (f" = {mrad[-1]:.4g} mrad" if mrad and scan["k_units"] != "mrad" else "")


def _axis(scan: dict[str, Any]) -> str:
    at = scan["optic_axis_px"]
    return ", optic axis not set" if at is None else f", optic axis at ({at[0]:.1f}, {at[1]:.1f}) px"


def _dose(scan: dict[str, Any]) -> str:
    low, mean, high = scan["dose_lowest"], scan["dose_per_pattern"], scan["dose_highest"]
    text = f"{mean:.4g} {scan['dose_unit']} per pattern ({low:.4g} to {high:.4g})"
    if scan["dose_unit"] == "counts":
        return text + ", electrons if the detector counts them"
    return text + ", no dose: the values are not counts"


def _patterns(scan: dict[str, Any]) -> str:
    looked, of = scan["looked_at"], scan["patterns"]
    seen = f"all {of} looked at" if looked == of else f"{looked} of {of} looked at"
    hot, saturated = len(scan["hot_pixels"]), 100 * scan["saturated_fraction"]
    return (
        f"{seen}: {scan['empty_patterns']} empty, {saturated:.2g} % of the pixels saturated, {hot} hot pixels"
    )
