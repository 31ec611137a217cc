"""Denoising of one image of few electrons: nearness to the truth, and what is kept, beside other packages."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from . import denoising
from .denoise_real import real_images
from .denoising import BM3D, FAIRSTEM, GAUSSIAN, NLM, NOISY, Scores
from .tables import Table, verdict

TITLE = "Denoising of one image"
PACKAGES = ("fairstem", "numpy", "scipy", "numba", "hyperspy")
PEAKS = (1.0, 2.0, 5.0, 10.0, 20.0, 100.0)
SEEDS, PEER_SEEDS, OTHER_SEEDS, SCENE_SEEDS = 10, 3, 3, 1
STRENGTHS = (1.0, 0.3, 0.1, 0.05, 0.01, 0.001)
SHIFTS_PM = (3.0, 6.0, 10.0, 20.0)
TARGET_DB = {1.0: 32.0, 5.0: 40.0, 20.0: 46.0}
SCENE_PEAKS = (5.0, 1.0, 20.0)
ABOVE = ("vacancies", "strained", "row-drift", "vacuum-edge", "gain-ramp", "dislocation", "grain-boundary",
         "interface", "si110", "pt-nanoparticle")  # fmt: skip
SCENES = (*ABOVE, "bent", "single-atoms")
P2 = (
    "Protocol P2: 512² px of 12 pm, square cell of 32.5 px, columns of sigma 3.5 px and heights 1 : 0.45, background "
    "0.06 of the peak, Poisson noise; 12 A columns shifted by 20 pm, 12 B columns of half height. The lattice is not "
    "given. "
)
JUDGED = (
    "PSNR and SSIM on the expected counts, PSNR on their maximum. Shift kept: the displacement found along the planted "
    "one, over it; half column: its height over that of the others of its kind in the same image (true 0.50); both "
    "by the same least-squares fit of a Gaussian of the true width for all methods. CPU seconds of one image, one "
    "thread. "
)
PEERS = (
    f"bm3d and NLM (patches of 9 px, searched 21 px around) get counts after Anscombe's root, with the exact unbiased "
    f"inverse after, on the first {PEER_SEEDS} seeds; the width of the filter and the h of NLM are the best for the "
    "truth, which only a simulation knows."
)
COLUMNS = {
    "peak": "peak counts",
    "method": "method",
    "seeds": "seeds",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "kept": "shift kept",
    "height": "half column",
    "cpu_s": "CPU s",
    "times": "times the CPU of fairstem",
}
TRADE = {"peak": "peak counts", "strength": "strength", "psnr": "PSNR, dB"} | {
    f"kept_{pm:g}": f"{pm:g} pm kept" for pm in SHIFTS_PM
} | {"height": "half column"}  # fmt: skip
REGION_NAMES = (
    "crystal", "second crystal", "dim half", "bright half", "boundary", "near defects", "vacuum", "amorphous",
    "border",
)  # fmt: skip
REGIONS = {"peak": "peak counts", "scene": "scene", "method": "method", "psnr": "PSNR, dB"} | {
    name: name for name in REGION_NAMES
} | {"cpu_s": "CPU s"}  # fmt: skip


def run() -> list[Table]:
    """Run all tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [protocol_p2(folder), trade_off(folder), scenes(folder), real_images(folder)]


def protocol_p2(folder: Path, peaks: tuple[float, ...] = PEAKS) -> Table:
    """Return P2 at all doses: fairstem, the peers, a filter, the counts."""
    table = Table("Protocol P2", P2 + JUDGED + PEERS, dict(COLUMNS))
    for peak in peaks:
        images = denoising.make(folder, "p2", peak, range(SEEDS))
        scores = denoising.compare([FAIRSTEM, BM3D, NLM, GAUSSIAN, NOISY], images, PEER_SEEDS)
        for label, own in scores.items():
            table.rows.append({"peak": f"{peak:g}", "method": label} | row(own, scores[FAIRSTEM.label]))
        if peak in TARGET_DB:
            table.targets += targets_p2(peak, scores)
    return table


def row(own: Scores, ours: Scores) -> dict[str, Any]:
    """Return what the tables show of a method."""
    keys = ("psnr", "ssim", "kept", "height", "cpu_s")
    out: dict[str, Any] = {"seeds": len(own)} | {key: denoising.mean_of(own, key) for key in keys}
    spent, mine = out["cpu_s"], denoising.mean_of(ours, "cpu_s")
    return out | ({"times": spent / mine} if spent and mine else {})


def targets_p2(peak: float, scores: dict[str, Scores]) -> list[str]:
    """Return how the default stands beside the targets at one dose."""
    at, mine = f"P2, peak {peak:g}: ", row(scores[FAIRSTEM.label], scores[FAIRSTEM.label])
    out = [verdict(f"{at}PSNR", mine["psnr"], TARGET_DB[peak], " dB", True)]
    out.append(verdict(f"{at}CPU of 512²", mine["cpu_s"], 2.0, " s"))
    if peak >= 5:
        out.append(verdict(f"{at}share kept of a shift of 20 pm", mine["kept"], 0.9, "", True))
        out.append(verdict(f"{at}error of the half columns' height", abs(mine["height"] - 0.5), 0.05))
    if BM3D.label in scores:
        shared = scores[FAIRSTEM.label][: len(scores[BM3D.label])]
        ahead = denoising.gains_whole(shared, scores[BM3D.label])
        out.append(verdict(f"{at}PSNR above bm3d", ahead, 11.0, " dB", True))
    return out


def trade_off(folder: Path, peaks: tuple[float, ...] = (1.0, 5.0, 20.0)) -> Table:
    """Return what the strength costs and what it keeps."""
    about = (
        P2
        + "`nonlocal_means(image, strength=p)`: a site is put back when a deviation as large would come by chance "
        f"with a probability below p; 1 never erases. Seeds 0-{OTHER_SEEDS - 1}; PSNR and half column are those of "
        "the images with shifts of 20 pm. " + JUDGED
    )
    table = Table("Strength: noise against what is kept", about, dict(TRADE))
    for peak in peaks:
        given = {pm: denoising.make(folder, f"p2:{pm:g}", peak, range(OTHER_SEEDS)) for pm in SHIFTS_PM}
        every = [path for images in given.values() for path in images]
        for p in STRENGTHS:
            found = denoising.results(denoising.strength(p), every)
            parts = {pm: found[n * OTHER_SEEDS : (n + 1) * OTHER_SEEDS] for n, pm in enumerate(SHIFTS_PM)}
            last = parts[SHIFTS_PM[-1]]
            out = {"peak": f"{peak:g}", "strength": f"{p:g}", "psnr": denoising.mean_of(last, "psnr")}
            out |= {f"kept_{pm:g}": denoising.mean_of(own, "kept") for pm, own in parts.items()}
            table.rows.append(out | {"height": denoising.mean_of(last, "height")})
    return table


def scenes(folder: Path, names: tuple[str, ...] = SCENES, peaks: tuple[float, ...] = SCENE_PEAKS) -> Table:
    """Return the scenes beside bm3d, region by region."""
    about = (
        "512² px, the named phantoms of `simulate`, seed 0. PSNR of each region on the maximum of the whole clean "
        "image. Boundary: within two cells of a grain boundary, an interface, the end of the crystal or a dislocation, "
        "within one of the rim of the particle; near defects: within one cell of a vacancy or an interstitial, within "
        "3 widths of a single atom; border: within one cell of the image's. " + PEERS
    )
    table = Table("Scenes, region by region", about, dict(REGIONS))
    for peak in peaks:
        worst: tuple[float, str] = (float("inf"), "")
        for scene in names:
            images = denoising.make(folder, scene, peak, range(SCENE_SEEDS))
            scores = denoising.compare([FAIRSTEM, BM3D, GAUSSIAN], images)
            for label, own in scores.items():
                regions = {name: denoising.region_of(own, name) for name in REGION_NAMES}
                whole = {key: denoising.mean_of(own, key) for key in ("psnr", "cpu_s")}
                table.rows.append({"peak": f"{peak:g}", "scene": scene, "method": label} | whole | regions)
            if BM3D.label not in scores:
                continue
            gain = denoising.gains(scores[FAIRSTEM.label], scores[BM3D.label])
            least = min(gain, key=lambda name: gain[name])
            worst = min(worst, (gain[least], f"{scene}, {least}"))
            if scene in ABOVE and peak == 5:
                ahead = denoising.gains_whole(scores[FAIRSTEM.label], scores[BM3D.label])
                table.targets.append(verdict(f"{scene}, peak 5: PSNR above bm3d", ahead, 3.0, " dB", True))
        if worst[1]:
            name = f"peak {peak:g}: least PSNR above bm3d of any region ({worst[1]})"
            table.targets.append(verdict(name, worst[0], -0.2, " dB", True))
    return table
