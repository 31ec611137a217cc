"""Bond lengths at the rim of a Pt nanoparticle: from a distorted series to picometres with error bars.

    python examples/pt_nanoparticle.py --out pt

A platinum particle on an amorphous film is simulated, its edge and corner columns contracted by 4 to 44 pm; 30 frames
of it are scanned with drift, vibration and scan error. The frames are aligned, the columns of the average found and
measured, and the bonds of the columns at the surface compared with those of the interior. The table and the picture
say how much shorter each bond is, with its error bar, beside the truth. For frames of your own, start at `measure`.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from scipy.spatial import cKDTree

from fairstem import atoms, plot, register, simulate

A_NM = 0.3924
# the primitive cell of fcc along [110]: what the interior is known to be, so that it is the ruler
CELL = (A_NM * math.sqrt(3 / 8), A_NM * math.sqrt(3 / 8), math.degrees(2 * math.atan(math.sqrt(0.5))))
BRIGHT = 0.2  # of the brightest column; dimmer spots are speckles of the film
WAYS = ("rowwise", "rigid", "single")


def series(seed: int, **options: Any) -> simulate.Phantom:
    """Return frames of a particle, and its truth."""
    given = {"frames": 30, "pixel_size_nm": 0.018, "peak": 30.0, "distortion": "scan"} | options
    return simulate.phantom("pt-nanoparticle", seed=seed, **given)


def average(frames: Any, way: str = "rowwise") -> tuple[np.ndarray, int, list[Any]]:
    """Return one image of a series, how many frames are in it, and the errors that its columns share."""
    if way == "single":
        return np.asarray(frames[0], dtype=np.float64), 1, []
    aligned = register.align(frames, model=way)
    return np.asarray(aligned.average), len(aligned.used), [aligned.floor]


def measure(
    image: np.ndarray, frames: int, errors: list[Any], pixel_size_nm: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the columns of the particle, and how its surface differs from its interior.

    Every pixel of the image is the mean of `frames` counts: one electron is 1 / frames.
    """
    gain = 1.0 / frames
    found = atoms.find(image, gain=gain, pixel_size_nm=pixel_size_nm)
    particle = found[found["height"] > BRIGHT * found["height"].max()]
    columns = atoms.refine(image, particle, gain=gain, pixel_size_nm=pixel_size_nm)
    film = atoms.support(image, columns, gain=gain)
    lattice = atoms.lattice(columns, sites=1)
    return columns, atoms.bond_changes(columns, lattice, errors=[*errors, film], reference=CELL)


def beside_truth(p: simulate.Phantom, surface: pd.DataFrame) -> pd.DataFrame:
    """Return `surface` with the number of the atom in the truth, and its true values; -1 where it has none."""
    truth = p.truth.assign(sd_y=1e-3, sd_x=1e-3)
    exact = atoms.bond_changes(truth, atoms.lattice(truth, sites=1))
    mean = p.displacement.mean(axis=0) if len(p.data) > 1 else p.displacement[0]
    seen = simulate.recorded_positions(truth[["y", "x"]].to_numpy(), truth["width"].to_numpy(), mean)
    away, row = cKDTree(seen).query(surface[["y", "x"]].to_numpy())
    known = (away < 0.1 / p.pixel_size_nm) & np.isin(row, exact.index)
    out = surface.assign(atom=np.where(known, row, -1))
    for name, values in (
        ("true_change_pm", exact["change_pm"]),
        ("true_inward_pm", truth["contraction_pm"]),
        ("true_place", exact["place"]),
    ):
        out[name] = values.reindex(out["atom"]).to_numpy()
    return out.sort_values(["place", "inward_pm"], ascending=[True, False])


def report(table: pd.DataFrame, stream: Any = sys.stdout) -> None:
    """Write the table, and how many of its error bars reach the truth."""
    stream.write("atom  place   bonds   d, pm        Δd, pm    true    inwards, pm   true\n")
    for row in table.itertuples():
        mark = "*" if row.significant else " "
        stream.write(f"{row.atom:4d}  {row.place:6}  {row.coordination:5d}  {row.d_pm:6.1f}")
        stream.write(f"  {row.change_pm:6.1f} ± {row.sd_change_pm:3.1f}{mark}  {row.true_change_pm:6.1f}")
        stream.write(f"   {row.inward_pm:5.1f} ± {row.sd_inward_pm:3.1f}  {row.true_inward_pm:5.1f}\n")
    for name in ("change", "inward"):
        error, sd = table[f"{name}_pm"] - table[f"true_{name}_pm"], table[f"sd_{name}_pm"]
        rms, stated = np.sqrt((error**2).mean()), np.sqrt((sd**2).mean())
        within = 100 * (error.abs() < sd).mean()
        stream.write(
            f"{name}: error {rms:.1f} pm rms, stated {stated:.1f} pm; {within:.0f} % within one error bar\n"
        )


def draw(frame: np.ndarray, image: np.ndarray, table: pd.DataFrame, pixel_size_nm: float) -> Any:
    """Return the figure: a frame, the average, the surface coloured by its change, and all atoms with error bars."""
    made = plot.figure(11, 10, dpi=120)
    grid = made.subplots(2, 2, height_ratios=[1.0, 0.85])
    plot.image(frame, pixel_size_nm=pixel_size_nm, ax=grid[0, 0])
    grid[0, 0].set_title("one frame")
    plot.image(image, pixel_size_nm=pixel_size_nm, ax=grid[0, 1])
    grid[0, 1].set_title("average; surface coloured by its change")
    limit = float(table["change_pm"].abs().max())
    # rings, so that the columns show
    rings = plot.style.overlay_map(diverging=True)
    grid[0, 1].scatter(
        table["x"], table["y"], s=150, facecolors="none",
        edgecolors=rings(0.5 + table["change_pm"].to_numpy() / (2 * limit)),
        linewidths=np.where(table["significant"], 2.5, 1.0),
    )  # fmt: skip
    scale = ScalarMappable(Normalize(-limit, limit), rings)
    note = "Δd, pm; thick: beyond two error bars"
    made.colorbar(scale, ax=grid[0].tolist(), location="right", shrink=0.8, label=note)
    for ax, name, label in (
        (grid[1, 0], "change", "bond-length change Δd, pm"),
        (grid[1, 1], "inward", "shift of the atom inwards, pm"),
    ):
        number = np.arange(len(table))
        colour = np.where(table["place"] == "corner", plot.style.CATEGORIES[5], plot.style.CATEGORIES[6])
        ax.bar(number, table[f"{name}_pm"], color=colour, alpha=0.55, width=0.8)
        ax.errorbar(
            number, table[f"{name}_pm"], table[f"sd_{name}_pm"], fmt="none", ecolor="black", capsize=2, lw=1
        )
        ax.plot(number, table[f"true_{name}_pm"], "k_", markersize=9, markeredgewidth=2, label="truth")
        ax.axhline(0, color="black", lw=0.8)
        ax.set(xlabel="surface atom (orange: corners, blue: edges)", ylabel=label)
        ax.legend(frameon=False)
    return made


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("pt"), help="folder for the table and the picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--peak", type=float, default=30.0, help="electrons at the brightest column, a frame")
    parser.add_argument("--diameter", type=float, default=3.0, help="nm")
    parser.add_argument("--size", type=int, default=256, help="px a side")
    chosen = parser.parse_args(arguments)
    began = time.perf_counter()
    options = {"frames": chosen.frames, "peak": chosen.peak, "diameter_nm": chosen.diameter}
    p = series(chosen.seed, shape=(chosen.size, chosen.size), **options)
    image, frames, errors = average(p.data)
    columns, surface = measure(image, frames, errors, p.pixel_size_nm)
    table = beside_truth(p, surface)
    report(table)
    chosen.out.mkdir(parents=True, exist_ok=True)
    table.drop(columns="neighbours").to_csv(chosen.out / "bond_changes.csv", index_label="column")
    columns.to_csv(chosen.out / "columns.csv", index_label="column")
    (chosen.out / "pt_nanoparticle.png").write_bytes(
        plot.to_png(draw(p.data[0], image, table, p.pixel_size_nm))
    )
    seconds = time.perf_counter() - began
    sys.stdout.write(f"{chosen.out}: bond_changes.csv, columns.csv, pt_nanoparticle.png ({seconds:.0f} s)\n")
    return table


if __name__ == "__main__":
    main()
