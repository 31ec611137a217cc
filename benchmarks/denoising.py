"""Make noisy images, denoise and judge them, each step in processes of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from .harness import ROOT, have_peers
from .methods import Method, judged, make_inputs

PEERS_PYTHON = ROOT / ".venv-peers-denoise" / "bin" / "python"

Scores = list[dict[str, Any]]


NOISY = Method("the counts", "denoise_gaussian", ("noisy",))
GAUSSIAN = Method("Gaussian filter, best width", "denoise_gaussian", ("best",))
BM3D = Method("bm3d 4.0.3 on stabilised counts", "denoise_bm3d", is_peer=True)
NLM = Method("scikit-image 0.26.0 NLM on stabilised counts, best h", "denoise_nlm", is_peer=True)
FAIRSTEM = Method("fairstem `nonlocal_means`, the default", "denoise_fairstem", ("default",))


def strength(p: float) -> Method:
    """Return fairstem with another strength."""
    return Method(f"{p:g}", "denoise_fairstem", (str(p),))


def make(folder: Path, scene: str, peak: float, seeds: Iterable[int]) -> list[Path]:
    """Make the images that aren't there yet; return their files."""
    return make_inputs("make_noisy", folder, scene, peak, seeds)


def results(method: Method, images: Sequence[Path]) -> Scores:
    """Denoise the images with one method and return the scores of each; what came out is not kept."""
    return judged(method, "score_denoised", images, PEERS_PYTHON)


def compare(
    methods: Sequence[Method], images: Sequence[Path], peer_seeds: int | None = None
) -> dict[str, Scores]:
    """Return the scores of every method, one after the other; peers on the first `peer_seeds` images."""
    usable = [method for method in methods if have_peers(PEERS_PYTHON) or not method.is_peer]
    return {
        method.label: results(method, images[:peer_seeds] if method.is_peer else images) for method in usable
    }


def mean_of(scores: Scores, key: str) -> float | None:
    """Return the mean over the images, None for what wasn't measured."""
    values = [own[key] for own in scores if key in own]
    return fmean(values) if values else None


def gains(ours: Scores, theirs: Scores) -> dict[str, float]:
    """Return by how many dB `ours` is nearer to the truth in each region, on the images both have."""
    shared = list(zip(ours, theirs, strict=False))
    names = shared[0][0]["regions"]
    return {name: fmean(a["regions"][name] - b["regions"][name] for a, b in shared) for name in names}


def gains_whole(ours: Scores, theirs: Scores) -> float:
    """Return by how many dB `ours` is nearer to the truth in the whole image, on the images both have."""
    return fmean(a["psnr"] - b["psnr"] for a, b in zip(ours, theirs, strict=False))


def region_of(scores: Scores, name: str) -> float | None:
    """Return the mean PSNR of one region, None where the scene has no such region."""
    values = [own["regions"][name] for own in scores if name in own["regions"]]
    return fmean(values) if values else None
