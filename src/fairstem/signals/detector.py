"""Which noise the image at hand has: given by the caller, written in the metadata, counts, or estimated."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.signals.counting import judge_counts
from fairstem.signals.door import Opened
from fairstem.signals.findings import Finding, warn_findings
from fairstem.signals.noise import NoiseModel, estimate_noise

__all__ = ["Gain", "noise_of", "noise_priors"]

Gain = float | Literal["estimate"] | None

_log = logging.getLogger(__name__)

CHECKED = 640  # px a side
MISTAKEN = 1.0  # abs. log2 of measured over stored variance: a larger one says that what is stored is wrong
COUNT_RATIO = (0.75, 1.33)  # integers whose variance over mean lies in this range count electrons


def noise_of(
    opened: Opened,
    image: NDArray[np.float64],
    mask: NDArray[np.bool_],
    gain: Gain = None,
    offset: float | None = None,
    readout: float | None = None,
) -> NoiseModel:
    """Decide on the noise model.

    Given numbers are taken as they are. Without them a plain array counts as electrons; a signal is read for
    HyperSpy's ``Noise_properties.Variance_linear_model``, else its noise is estimated from the image, and said so.
    What is stored is not used, with a `DataWarning`, where the variance of the image's noise differs from it by
    more than a factor of 2: writers leave a gain of 1 behind that nobody measured.

    Parameters
    ----------
    opened
        The data as they came in.
    image, mask
        Checked values, and True where measured.
    gain
        Raw units per electron, ``"estimate"``, or None.
    offset, readout
        Raw value without electrons; readout noise in raw units.

    Raises
    ------
    DataError
        A gain that isn't positive; an offset or readout given together with ``gain="estimate"``.
    """
    given = offset is not None or readout is not None
    if isinstance(gain, str):
        if gain != "estimate" or given:
            raise DataError(
                f"gain={gain!r}, offset={offset}, readout={readout}",
                needed="gain='estimate' alone, or numbers",
                todo="give gain=, offset=, readout= of the detector, or gain='estimate' without the others",
            )
        return estimate_noise(image, mask)
    if gain is not None or given:
        return NoiseModel(
            1.0 if gain is None else float(gain),
            0.0 if offset is None else float(offset),
            0.0 if readout is None else float(readout),
            source="given",
        )
    if opened.kind != "hyperspy":
        return NoiseModel()
    stored = _linear_model(opened.source)
    if stored is not None and _agrees(stored, image, mask):
        return stored
    model = estimate_noise(image, mask)
    if stored is not None:
        warn_findings([_contradiction(stored, model, image, mask)], opened.name)
    low, high = COUNT_RATIO
    ratio = _variance(model, image, mask) / max(float(image[mask].mean()), 1e-300)
    if low < ratio < high and image[mask].min() >= 0 and judge_counts(image[mask]).kind == "counts":
        return NoiseModel(whiteness=model.whiteness)
    _log.info("the detector does not count electrons: noise estimated from the image (%s)", _words(model))
    return model


def _words(model: NoiseModel) -> str:
    if model.poisson:
        return f"gain {model.gain:.4g}, zero at {model.offset:.4g}"
    return f"constant noise {model.readout:.4g}"


def _agrees(stored: NoiseModel, image: NDArray[np.float64], mask: NDArray[np.bool_]) -> bool:
    """Whether the noise of the image is about what the metadata say; True where it can't be measured."""
    try:
        ratio = _ratio(stored, estimate_noise(*_middle(image, mask)), *_middle(image, mask))
    except DataError:
        return True
    return abs(np.log2(ratio)) <= MISTAKEN if 0 < ratio < np.inf else False


def _ratio(model: NoiseModel, seen: NoiseModel, image: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """Return the measured over the expected variance at the mean level of the image."""
    expected = _variance(model, image, mask)
    return _variance(seen, image, mask) / expected if expected > 0 else float("inf")


def _contradiction(
    stored: NoiseModel, seen: NoiseModel, image: NDArray[np.float64], mask: NDArray[np.bool_]
) -> Finding:
    ratio = _ratio(stored, seen, image, mask)
    return Finding(
        "noise-metadata",
        "warning",
        f"the metadata say the noise has {_words(stored)}, but its variance in the image is {ratio:.3g} times that: "
        f"estimated from the image ({_words(seen)}); give gain=, offset= and readout= of the detector to be sure",
        given=_words(stored),
        assumed=_words(seen),
    )


def _variance(model: NoiseModel, image: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """Variance of a pixel at the mean level of the image, raw units squared."""
    counting = model.gain * max(float(image[mask].mean()) - model.offset, 0.0) if model.poisson else 0.0
    return counting + model.readout**2


def _linear_model(signal: Any) -> NoiseModel | None:
    """HyperSpy's variance = correlation·(gain·expected + offset), where someone has stored it."""
    node = "Signal.Noise_properties.Variance_linear_model"
    if not signal.metadata.has_item(node):
        return None
    stored = signal.metadata.get_item(node).as_dictionary()
    correlation = float(stored.get("correlation_factor", 1.0))
    gain = float(stored.get("gain_factor", 1.0)) * correlation
    variance = float(stored.get("gain_offset", 0.0)) * correlation
    if gain <= 0:
        return NoiseModel(1.0, 0.0, float(np.sqrt(variance)), False, "given")
    return NoiseModel(gain, 0.0 - variance / gain, 0.0, source="given")


def _middle(
    image: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The middle of a large image: enough to check a noise model on."""
    cut = tuple(slice(max(0, (n - CHECKED) // 2), max(0, (n - CHECKED) // 2) + CHECKED) for n in image.shape)
    return image[cut], mask[cut]


def noise_priors(model: NoiseModel, image: NDArray[np.float64], mask: NDArray[np.bool_]) -> list[PriorCheck]:
    """Measure whether the noise is what the likelihood takes it for: white, and of the size the gain says.

    The size is checked where it was given: a level estimated from the image agrees with itself.
    """
    try:
        seen = model if model.source == "estimated" else estimate_noise(*_middle(image, mask))
    except DataError:
        return []
    white = PriorCheck(
        "white-noise",
        "the noise of neighbouring pixels is independent",
        seen.whiteness,
        1.5,
        "<=",
        "noise variance two pixels apart over that of neighbours",
        "use the data as recorded: interpolated or filtered images make error bars too small",
    )
    if model.source == "estimated":
        return [white]
    ratio = _ratio(model, seen, image, mask)
    level = PriorCheck(
        "noise-level",
        "the variance of a pixel is what gain, offset and readout say",
        float(abs(np.log2(ratio))) if np.isfinite(ratio) and ratio > 0 else 99.0,
        0.4,
        "<=",
        f"abs. log2 of the measured over the expected variance (their ratio: {ratio:.2g})",
        "pass gain='estimate', or the detector's gain, offset and readout",
    )
    return [level, white]
