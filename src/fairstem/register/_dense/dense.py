"""Dense non-rigid registration of a series after Berkels et al.: multilevel, composed, without bias."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.register._dense.kernels import Reference
from fairstem.register._dense.level import Fit, Level, Noise, Stack, carry_over
from fairstem.register._dense.median import MedianTarget
from fairstem.register._dense.options import check_numbers, checked_offsets, checked_weight, choose_binnings
from fairstem.register._dense.sobolev import Spectrum, dirichlet_precision, to_modes
from fairstem.register._series.frames import Frames
from fairstem.register._series.motion import DenseMotion

__all__ = ["DenseReport", "register_dense"]

Floats = NDArray[np.float64]
_EXTRA = 0.1  # of the weight of the regulariser, in the extra stages
_MANY_NODES = 128  # a side; above, the coarsest level has a node at every second pixel only
_NODE_LIMITS = 32.0, 4.0  # px between nodes at most, and px of a level to a node at least
_WAVE_NODES = 4.0  # nodes to the shortest wave that is resolved


@dataclass(frozen=True)
class DenseReport:
    """How a dense registration went.

    Parameters
    ----------
    stages
        Name of each stage: ``"binning 4, sequence"``, ``"binning 1, stage 2"``.
    energies
        Functional after each stage, mean over frames: -NCC plus regulariser, or, with
        ``regularization="auto"``, minus the logarithm of the posterior density.
    ncc
        ``(frame,)`` normalised cross-correlation of each frame with the average of the others (weighted with
        the noise when "auto"); NaN for frames that are blank or do not correlate with the others.
    mean_correction_px
        rms in px of what bias removal took out of the fields, summed over the stages.
    node_spacing_px
        Distance of the nodes between which the fields are bilinear, (y, x).
    noise
        Measured variance of a pixel as (variance per brightness, constant); None with a given lambda.
    density
        ``(2, octaves of y, octaves of x)`` px⁴: the measured spectral density of the displacement along
        (y, x), octave 0 the mean, octave n from 2^(n-1) half waves a frame; None with a given lambda.
    """

    stages: tuple[str, ...]
    energies: Floats
    ncc: Floats
    mean_correction_px: float
    node_spacing_px: tuple[float, float]
    noise: tuple[float, float] | None
    density: Floats | None


@dataclass
class _Model:
    """What is minimised for a frame: data term, regulariser and noise."""

    shape: tuple[int, int]
    weight: float | None  # lambda; None: from the spectrum
    spectrum: Spectrum
    noise: Noise | None = None

    @property
    def likelihood(self) -> bool:
        return self.weight is None

    def precision(self, level: Level) -> Floats:
        """Weight of each mode of a field on the nodes of a level."""
        rows, cols, _ = level.grid
        if self.weight is None:
            return self.spectrum.precision(rows, cols, level.binning)
        side = max(self.shape) / level.binning
        return dirichlet_precision(self.weight / side**2, rows, cols)

    def learn(self, level: Level, fits: list[Fit | None]) -> None:
        """Measure noise and spectrum anew from the frames that fit."""
        good = [(n, fit) for n, fit in enumerate(fits) if fit is not None]
        if self.weight is not None or len(good) < 2:
            return
        self.noise = Noise.from_bins(np.sum([fit.bins for _, fit in good], axis=0), level.binning)
        modes = [to_modes(level.fields[n]) for n, _ in good]
        rows, cols, _ = level.grid
        self.spectrum.learn(modes, [fit.curvature for _, fit in good], rows, cols, level.binning)

    def spacing(self, level: Level, fits: list[Fit | None], binning: int) -> tuple[float, float]:
        """Distance of nodes, px at `binning`: fine enough for what the regulariser lets through."""
        step_y, step_x = level.steps
        per_node = np.mean([fit.curvature.mean(axis=1) for fit in fits if fit is not None], axis=0)
        # displacements shrink and pixels grow with the binning
        per_pixel = per_node / (step_y * step_x * level.binning**4)
        if self.weight is None:
            fine = np.array(self.spectrum.finest(per_pixel)) / _WAVE_NODES
        else:
            weight = self.weight / max(self.shape) ** 2
            fine = np.full(2, 0.5 * math.sqrt(weight / max(float(per_pixel.max()), 1e-300)))
        fine = np.clip(fine / binning, 1.0, max(_NODE_LIMITS[0] / binning, 2.0))
        fine *= max(1.0, math.sqrt(_NODE_LIMITS[1] / fine.prod()))
        return float(fine[0]), float(fine[1])


@dataclass
class _Run:
    """Options that do not change, and the record of what was done."""

    model: _Model
    target: str
    bias_removal: bool
    most: int
    tolerance: float
    stages: list[str] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    corrections: list[float] = field(default_factory=list)

    def sequence(self, level: Level) -> list[Fit | None]:
        """Register each frame to the one before, compose, and refine against the average of those before."""
        total = level.empty_canvas()
        level.add(total, 0)
        fits: list[Fit | None] = []
        start = level.fields.mean(axis=(2, 3))
        at_rest = np.zeros_like(level.fields[0])
        for k in range(1, level.n):
            before = level.empty_canvas()
            level.add(before, k - 1, nodes=at_rest)
            guess = at_rest + (start[k] - start[k - 1])[:, None, None]
            step = self._register(level, k, guess, level.reference(before))[0]
            composed = level.compose(level.fields[k - 1], step)
            level.fields[k], fit = self._register(level, k, composed, level.reference(total))
            level.add(total, k)
            fits.append(fit)
        self._finish(level, fits, "sequence")
        return fits

    def stage(self, level: Level, name: str) -> list[Fit | None]:
        """Register each frame to the average of all others."""
        fits: list[Fit | None] = []
        if self.target == "median" and level.n > 2:
            median = MedianTarget(level)
            for k in range(level.n):
                reference = level.reference(median.without(k))
                level.fields[k], fit = self._register(level, k, level.fields[k], reference)
                fits.append(fit)
        else:
            total = level.total()
            for k in range(level.n):
                level.add(total, k, -1.0)
                level.fields[k], fit = self._register(level, k, level.fields[k], level.reference(total))
                level.add(total, k)
                fits.append(fit)
        self._finish(level, fits, name)
        return fits

    def _register(self, level: Level, k: int, nodes: Floats, target: Reference) -> tuple[Floats, Fit | None]:
        return level.register(k, nodes, target, self.model, self.most, self.tolerance)

    def _finish(self, level: Level, fits: list[Fit | None], name: str) -> None:
        good = [fit.energy for fit in fits if fit is not None]
        if not good:
            raise DataError(
                "no frame correlates with the others",
                needed="frames that show the same object, and offsets that bring them on top of each other",
                todo="check that the series is one; register it rigidly first and look at the shifts",
            )
        if self.bias_removal:
            self.corrections.append(level.remove_bias())
        self.model.learn(level, fits)
        self.stages.append(f"binning {level.binning}, {name}")
        self.energies.append(float(np.mean(good)))


def register_dense(
    frames: Frames,
    offsets: Floats,
    *,
    regularization: float | Literal["auto"] = "auto",
    levels: int | None = None,
    stages: int = 3,
    extra_stages: int = 2,
    target: Literal["mean", "median"] = "mean",
    bias_removal: bool = True,
    max_iterations: int = 3,
    energy_tolerance: float = 1e-6,
) -> tuple[DenseMotion, DenseReport]:
    """Estimate a displacement of every pixel of every frame, after Berkels et al.

    Prior: the object is the same in all frames, and displacements are smooth: of each frame T against the
    average R of the other frames,

        E[φ] = -NCC(T∘φ, R) + λ · ½ ∫ |Du|²,   φ = id + u on the unit square (u in units of the longer side)

    is minimised. With ``regularization="auto"`` the prior is learned instead: noise is measured as a function of
    brightness, the sizes of displacements along y and x in every octave of frequency along y and along x are
    those that make the frames most likely (evidence), and residuals and fields are weighted with these. A
    jitter of rows, a drift and a slow warp then each get the smoothness that they have.

    Parameters
    ----------
    frames
        Series of K frames ``(y, x)``; NaN and masked pixels are left out.
    offsets
        ``(K, 2)`` px, start: pixel (y, x) of frame k shows the common scene at ``(y, x) + offsets[k]``. They must
        be right to less than half a distance between columns.
    regularization
        The one parameter that matters: "auto", or λ > 0. Larger is smoother. The paper uses 200, with 0.1 λ in the
        extra stages.
    levels
        Number of dyadic levels. Default: as many as leave the lattice resolved and 32 px a side, at most 4.
    stages
        Passes over all frames at each level below full resolution; there, one, before the extra stages.
    extra_stages
        Passes at full resolution with 0.1 λ (with "auto", with what was learned so far).
    target
        Average that frames are registered to: "mean", or "median" when some frames show something else
        in places. Two frames have no median other than their mean.
    bias_removal
        Let the average carry the mean geometry of all frames. Without, it drifts towards that of the first.
    max_iterations
        Gauss-Newton steps for a frame in a pass.
    energy_tolerance
        A frame's pass ends when the functional falls by less than this fraction.

    Returns
    -------
    motion : DenseMotion
        float32 fields ``(K, 2, y, x)`` in px. Blank frames carry their offset only.
    report : DenseReport
        Energies, correlations, what was learned.

    Raises
    ------
    DataError
        An option or an offset is out of range, or no frame correlates with the others.

    Notes
    -----
    What differs from the publications, because it was measured to be better: the average is moved onto the frame
    and not the frame onto the average, so that the noise of single frames is never interpolated; the frame's own
    counts are left out of the average it is registered to, and the average is smoothed until it predicts left-out
    frames best, so that noise is not fitted; Gauss-Newton steps solved by conjugate gradients with the
    Sobolev metric as preconditioner take the place of Sobolev gradient descent; fields live on nodes as far
    apart as the regulariser allows; all frames go through the levels together.

    Cost: ``O(K * pixels * passes)``, about 0.3 µs a pixel and pass for "auto"; memory a few frames, the nodes, and
    the fields that are returned (8 bytes a pixel and frame).

    References
    ----------
    B. Berkels et al., Ultramicroscopy 138 (2014) 46, doi:10.1016/j.ultramic.2013.11.007.
    B. Berkels, C. H. Liebscher, Ultramicroscopy 198 (2019) 49, doi:10.1016/j.ultramic.2018.12.016.
    D. J. C. MacKay, Neural Computation 4 (1992) 415, doi:10.1162/neco.1992.4.3.415 (evidence).

    Examples
    --------
    >>> from fairstem import metrics, simulate
    >>> from fairstem.register._series.frames import open_series
    >>> series = simulate.phantom("p1", seed=1, frames=4, shape=(96, 96))
    >>> start = series.displacement.mean(axis=(2, 3)).round()
    >>> motion, report = register_dense(open_series(series.data), start)
    >>> bool(metrics.displacement_error(motion.fields, series.displacement).rmse < 0.2)
    True
    """
    weight = checked_weight(regularization)
    start = checked_offsets(offsets, frames)
    check_numbers(levels, stages, extra_stages, max_iterations, energy_tolerance)
    if target not in ("mean", "median"):
        raise DataError(f"target is {target!r}", needed="'mean' or 'median'")
    used = frames.usable
    start = start - start[list(used)].mean(axis=0)
    binnings = choose_binnings(frames, start) if levels is None else [2**n for n in range(levels - 1, -1, -1)]
    if min(frames.shape) // binnings[0] < 8:
        raise DataError(
            f"levels is {levels} for frames of {frames.shape[0]} x {frames.shape[1]} px",
            needed="at least 8 px a side at the coarsest level",
            todo="fewer levels, or leave it to be chosen",
        )
    model = _Model(frames.shape, weight, Spectrum(frames.shape))
    run = _Run(model, target, bias_removal, max_iterations, energy_tolerance)
    level, fits = _coarse_to_fine(frames, start[list(used)], binnings, run, (stages, extra_stages))
    fields = np.empty((frames.n, 2, *frames.shape), dtype=np.float32)
    ncc = np.full(frames.n, np.nan)
    for k in frames.blank:
        fields[k] = -start[k][:, None, None]
    for n, k in enumerate(used):
        fields[k] = level.inverse_field(n)
        fit = fits[n]
        ncc[k] = np.nan if fit is None else fit.ncc
    if bias_removal:
        # what inversion on nodes leaves, some hundredths of a pixel: its own displacement is of second order
        left = sum(fields[k] for k in used) / np.float32(len(used))
        for k in used:
            fields[k] -= left
    noise = None if weight is not None or model.noise is None else (model.noise.slope, model.noise.constant)
    density = None if weight is not None else model.spectrum.density
    correction = math.sqrt(sum(c**2 for c in run.corrections))
    energies = np.array(run.energies)
    report = DenseReport(tuple(run.stages), energies, ncc, correction, level.steps, noise, density)
    return DenseMotion(fields), report


def _coarse_to_fine(
    frames: Frames, start: Floats, binnings: list[int], run: _Run, passes: tuple[int, int]
) -> tuple[Level, list[Fit | None]]:
    """Run all levels; return the last with its fits."""
    stages, extra = passes
    level, model = _first_level(frames, start, binnings[0], run.model), run.model
    fits = run.sequence(level)
    level.choose_blur(model)
    for b in binnings:
        if b != binnings[0]:
            stack = Stack(frames, frames.usable, b)
            level = carry_over(level, stack, b, model.spacing(level, fits, b))
        for n in range(max(stages, 1) if b > 1 else 1):
            fits = run.stage(level, f"stage {n + 1}")
            if n == 0:
                level.choose_blur(model)
    if model.weight is not None:
        model.weight *= _EXTRA
    for n in range(extra):
        if n == 0:
            level = carry_over(level, level.stack, 1, model.spacing(level, fits, 1))
        fits = run.stage(level, f"extra stage {n + 1}")
    return level, fits


def _first_level(frames: Frames, start: Floats, binning: int, model: _Model) -> Level:
    stack = Stack(frames, frames.usable, binning)
    spacing = 1.0 if max(stack.shape) <= _MANY_NODES and model.likelihood else 2.0
    shape = (len(start), 2, *(math.ceil((n - 1) / spacing) + 1 for n in stack.shape))
    fields = np.broadcast_to((start / binning)[:, :, None, None], shape).copy()
    return Level(stack, binning, (spacing, spacing), fields)
