"""Scenes that change slowly across the image, or end in it: edges, thickness, bending, drift along the rows."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fairstem.errors import DataError
from fairstem.simulate import lattices
from fairstem.simulate._scenes import SCENES, Scene, View, register_scene
from fairstem.simulate.backgrounds import RampBackground, StepBackground

__all__ = ["SCENES"]  # complete once this module is imported

Floats = npt.NDArray[np.float64]
_DRIFT_CYCLES = (0.5, 1.0, 1.5)  # per image: a drift, not a vibration


@register_scene("vacuum-edge", "SrTiO3 that ends in vacuum along a straight edge")
def _vacuum_edge(
    view: View, vacuum: float = 0.2, angle: float = 1.45, rotation: float = 0.05, width_nm: float = 0.05
) -> Scene:
    table = view.fill(lattices.srtio3(width_nm=width_nm), rotation)
    offset = table[["y", "x"]].to_numpy(np.float64) - np.asarray(view.middle)
    inside = offset @ np.array([-math.cos(angle), math.sin(angle)]) < 0
    table = table.iloc[np.flatnonzero(inside)].reset_index(drop=True)
    # what is left in vacuum is the dark level of the detector and stray electrons
    return Scene(table, StepBackground(1.0, vacuum, view.middle, angle, blur=2.0))


@register_scene(
    "gain-ramp", "SrTiO3 of growing thickness: columns and background rise 1 to 3 across the image"
)
def _gain_ramp(view: View, ratio: float = 3.0, rotation: float = 0.05, width_nm: float = 0.05) -> Scene:
    if not (math.isfinite(ratio) and ratio >= 1):
        raise DataError(f"ratio is {ratio}", needed="bright over dim side, >= 1")
    table = view.fill(lattices.srtio3(width_nm=width_nm), rotation)
    last = view.shape[1] - 1
    # 1 at the bright border: `peak` stays the brightest count
    gain = RampBackground(1.0, 0.0, (1 - 1 / ratio) / last, (0.0, float(last)))
    table["height"] *= gain(table["y"].to_numpy(np.float64), table["x"].to_numpy(np.float64))
    return Scene(table.iloc[np.flatnonzero(table["height"] > 0)].reset_index(drop=True), gain)


@register_scene("bent", "bent SrTiO3: strain along x rises from 0 at the top to 1 % at the bottom")
def _bent(
    view: View,
    strain: float = 0.01,
    rotation: float = 0.05,
    width_nm: float = 0.05,
    poisson_ratio: float = 0.3,
) -> Scene:
    if not (math.isfinite(strain) and abs(strain) <= 0.1 and -1 < poisson_ratio < 0.5):
        raise DataError(
            f"strain {strain}, poisson_ratio {poisson_ratio}", needed="|strain| <= 0.1, -1 < ratio < 0.5"
        )
    table = view.fill(lattices.srtio3(width_nm=width_nm), rotation)
    y, x = table["y"].to_numpy(np.float64), table["x"].to_numpy(np.float64) - view.middle[1]
    # pure bending of an elastic plate: exx = curvature y, the planes turn by -curvature x
    curvature = strain / (view.shape[0] - 1)
    table["y"] = y - curvature * (x**2 + poisson_ratio * y**2) / 2
    table["x"] = x + curvature * x * y + view.middle[1]
    return Scene(table)


@register_scene("row-drift", "SrTiO3 whose rows drift slowly, by 3.5 px along x and 3 px along y in total")
def _row_drift(
    view: View,
    drift_px: tuple[float, float] = (3.0, 3.5),
    rotation: float = 0.05,
    width_nm: float = 0.05,
) -> Scene:
    if len(drift_px) != 2 or not all(math.isfinite(d) and d >= 0 for d in drift_px):
        raise DataError(f"drift_px is {drift_px}", needed="(along y, along x) in px, >= 0")
    table = view.fill(lattices.srtio3(width_nm=width_nm), rotation)
    t = np.arange(view.shape[0]) / (view.shape[0] - 1)
    rows = np.zeros((2, view.shape[0]))
    for axis in range(2):
        for cycles in _DRIFT_CYCLES:
            amplitude, phase = view.rng.uniform(0.5, 1.0) / cycles, view.rng.uniform(0, 2 * math.pi)
            rows[axis] += amplitude * np.sin(2 * math.pi * cycles * t + phase)
        rows[axis] -= rows[axis].mean()
        rows[axis] *= drift_px[axis] / np.ptp(rows[axis])
    return Scene(table, displacement=np.repeat(rows[..., None], view.shape[1], axis=2))
