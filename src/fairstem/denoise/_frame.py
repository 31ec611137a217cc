"""One frame: checked, its noise known, taken apart, and back in its own unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.denoise._analysis import Analysis, Search, analyse
from fairstem.denoise._detector import Noise, choose_noise
from fairstem.denoise._residual import Whiteness, judge_residual, standardised, whiteness
from fairstem.denoise._tables import judge_deviations
from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.signals import (
    Finding,
    NoiseModel,
    Opened,
    estimate_noise,
    noise_priors,
    validate_image,
    warn_findings,
)

__all__ = ["DenoisedFrame", "Options", "denoise_frame", "noise_of_frame"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_SEARCHES = ("auto", "periodic", "local")
_LEAST_PX = 16
_NO_NOISE = 0.01  # of the variance that counting gives: there is nothing to remove
_MISTAKEN = 2.0  # measured over expected variance, or its inverse: these are no counts


@dataclass(frozen=True)
class Options:
    """What the caller asked for; see `fairstem.denoise.nonlocal_means`."""

    noise: Noise
    search: Search
    strength: float
    gain: float | None
    offset: float | None
    readout: float | None

    def __post_init__(self) -> None:
        if self.search not in _SEARCHES:
            raise DataError(f"search={self.search!r}", needed="'auto', 'periodic' or 'local'")
        good = isinstance(self.strength, int | float | np.number) and not isinstance(self.strength, bool)
        if not good or not 0 < float(self.strength) <= 1:
            raise DataError(
                f"strength={self.strength!r}",
                needed="a probability in (0, 1]",
                todo="0.05 as a rule; 1 never erases what a column has of its own",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class DenoisedFrame:
    """A denoised frame.

    Parameters
    ----------
    values
        ``(y, x)`` expected values in the unit of the input.
    analysis
        What it is made of; None where there was no noise to remove.
    model, dark, unit
        The detector, and what turns kernel counts into raw values.
    residual, white
        What was removed, in standard deviations; the test whether it is noise.
    priors
        What was assumed, measured.
    """

    values: Floats
    analysis: Analysis | None
    model: NoiseModel
    dark: float
    unit: float
    residual: Floats
    white: Whiteness
    priors: tuple[PriorCheck, ...]

    def raw(self, counts: Floats) -> Floats:
        """Return kernel counts in the unit of the input."""
        return self.model.raw_values(counts, self.dark, self.unit)


def noise_of_frame(opened: Opened, frame: NDArray[Any], options: Options) -> NoiseModel | None:
    """Return the model of the detector; None where the frame has no noise at all."""
    if _constant(frame):
        return None
    checked = validate_image(frame, opened.name, min_size=_LEAST_PX, warn=False)
    try:
        return choose_noise(
            options.noise, opened, checked.array, checked.mask, options.gain, options.offset, options.readout
        )
    except DataError as error:
        if "without noise" in str(error):
            return None
        raise


def denoise_frame(
    frame: NDArray[Any], options: Options, model: NoiseModel | None, name: str = "image"
) -> DenoisedFrame:
    """Denoise one frame.

    Raises
    ------
    DataError
        What `fairstem.signals.validate_image` refuses; no lattice where only a lattice was asked for.
    """
    if _constant(frame):
        values = np.asarray(frame, dtype=np.float64)
        return _untouched(np.full_like(values, np.nanmin(values)), model, "a constant image")
    checked = validate_image(frame, name, min_size=_LEAST_PX)
    if model is None:
        return _untouched(checked.array, model, "an image without noise")
    priors = list(noise_priors(model, checked.array, checked.mask))
    ratio = _noise_ratio(model, checked.array, checked.mask)
    if model.source == "counts":
        warn_findings(_findings(ratio, priors, name))
    if ratio < _NO_NOISE:
        why = "noise far below what the detector's numbers say"
        return _untouched(checked.array, model, why, ratio, tuple(priors))
    k, dark, unit = model.kernel_counts(checked.array)
    mask = None if checked.complete else checked.mask
    found = analyse(k, dark=dark, mask=mask, strength=options.strength, search=options.search)
    if options.search == "periodic" and not found.parts:
        raise DataError(
            f"search='periodic', but no lattice was found in {name} ({found.periodic})",
            needed="an image that repeats itself, at least 64 px a side",
            todo="use search='auto', which matches blocks where there is no lattice",
        )
    residual = standardised(k, found.estimate, mask)
    white = whiteness(residual, mask)
    priors += [found.periodic, judge_residual(white)]
    if found.parts:
        priors.append(judge_deviations(found))
    raw = model.raw_values(found.estimate.mean, dark, unit)
    return DenoisedFrame(raw, found, model, dark, unit, residual, white, tuple(priors))


def _constant(frame: NDArray[Any]) -> bool:
    """Whether every pixel that was measured holds the same number."""
    if frame.dtype.kind not in "iuf" or min(frame.shape) < _LEAST_PX:
        return False
    measured = frame[~np.isnan(frame)]
    return bool(measured.size and np.isfinite(measured[0]) and measured.min() == measured.max())


def _findings(ratio: float, priors: Sequence[PriorCheck], name: str) -> list[Finding]:
    """Say that values taken for electrons are none; strong structure alone looks like more noise, but not white."""
    white = any(check.name == "white-noise" and check.holds for check in priors)
    if not (ratio < 1 / _MISTAKEN or (ratio > _MISTAKEN and white)):
        return []
    unchanged = " (returned unchanged)" if ratio < _NO_NOISE else ""
    message = (
        f"the values of {name} were taken to count electrons, but their noise has {ratio:.2g} times the variance "
        f"that counting gives{unchanged}: pass noise='poisson-gauss' to estimate the detector's gain and offset "
        "from the image, or give gain=, offset= and readout="
    )
    return [Finding("noise-level", "warning", message, assumed="one unit is one electron")]


def _noise_ratio(model: NoiseModel, image: Floats, mask: Bools) -> float:
    """Return the measured over the expected variance of the noise; 1 where it can't be measured."""
    if model.source == "estimated":
        return 1.0
    try:
        seen = estimate_noise(image, mask)
    except DataError as error:
        return 0.0 if "without noise" in str(error) else 1.0
    mean = float(image[mask].mean())
    levels = [
        (m.gain * max(mean - m.offset, 0.0) if m.poisson else 0.0) + m.readout**2 for m in (seen, model)
    ]
    return levels[0] / levels[1] if levels[1] > 0 else 1.0


def _untouched(
    values: Floats,
    model: NoiseModel | None,
    why: str,
    ratio: float = 0.0,
    priors: tuple[PriorCheck, ...] = (),
) -> DenoisedFrame:
    check = PriorCheck(
        "noise-present",
        "the image holds the noise that the detector makes",
        ratio,
        _NO_NOISE,
        ">=",
        f"variance of the noise over what counting gives ({why}: returned unchanged)",
        "give the data as recorded, or the noise that they have: noise='gaussian', readout=",
    )
    zero = np.zeros(values.shape)
    shown = model or NoiseModel()
    return DenoisedFrame(
        values.copy(), None, shown, 0.0, 1.0, zero, Whiteness(zero, 0.0, 0.0), (*priors, check)
    )
