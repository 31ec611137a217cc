"""The noise that a caller names, as a model of the detector."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.signals import NoiseModel, Opened, estimate_noise, noise_of

__all__ = ["Noise", "choose_noise"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Noise = Literal["auto", "poisson", "poisson-gauss", "gaussian"]


def choose_noise(
    noise: Noise,
    opened: Opened,
    image: Floats,
    mask: Bools,
    gain: float | None,
    offset: float | None,
    readout: float | None,
) -> NoiseModel:
    """Return the model of the detector; what is not given is estimated from the image, but for ``"poisson"``.

    Raises
    ------
    DataError
        An unknown name; numbers that do not go with it, or that no detector has; negative values where electrons
        are counted.
    """
    numbers = {"gain": gain, "offset": offset, "readout": readout}
    given = {name: _number(name, value) for name, value in numbers.items() if value is not None}
    if noise == "auto":
        model = noise_of(opened, image, mask, gain, offset, readout)
    elif noise == "poisson":
        if readout:
            raise DataError(
                f"noise='poisson' with readout={readout}",
                needed="no readout noise",
                todo="use noise='poisson-gauss'",
            )
        model = _given(given) if given else NoiseModel()
    elif noise == "poisson-gauss":
        model = _given(given) if given else estimate_noise(image, mask)
    elif noise == "gaussian":
        model = _constant(image, mask, gain, offset, readout)
    else:
        raise DataError(f"noise={noise!r}", needed="'auto', 'poisson', 'poisson-gauss' or 'gaussian'")
    lowest = float(image[mask].min())
    # an offset is known to a fraction of an electron, zero exactly
    zero = model.offset - (0.5 * model.gain if model.source == "given" else 0.0)
    if model.poisson and model.source != "estimated" and model.readout == 0 and lowest < zero:
        raise DataError(
            f"image has values below zero electrons (lowest {lowest:.4g}, offset {model.offset:.4g}, no readout noise)",
            needed="counts, or the detector's gain, offset and readout noise",
            todo="pass noise='poisson-gauss' (with gain=, offset= and readout= if you know them), "
            "or noise='gaussian'",
        )
    return model


def _given(numbers: dict[str, float]) -> NoiseModel:
    return NoiseModel(
        numbers.get("gain", 1.0), numbers.get("offset", 0.0), numbers.get("readout", 0.0), source="given"
    )


def _number(name: str, value: float) -> float:
    """Return a number that a detector can have."""
    good = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    allowed = {"gain": "a finite number > 0", "offset": "a finite number", "readout": "a finite number >= 0"}
    if good:
        positive = {"gain": value > 0, "offset": True, "readout": value >= 0}
        good = bool(np.isfinite(value)) and positive[name]
    if not good:
        raise DataError(
            f"{name}={value!r}",
            needed=allowed[name],
            todo="pass the detector's own number, or leave it out and use noise='poisson-gauss' to have it estimated",
        )
    return float(value)


def _constant(
    image: Floats, mask: Bools, gain: float | None, offset: float | None, readout: float | None
) -> NoiseModel:
    if gain is not None or offset is not None:
        raise DataError(
            f"noise='gaussian' with gain={gain}, offset={offset}",
            needed="readout= alone, the standard deviation of the noise, or nothing",
            todo="use noise='poisson-gauss' for a detector with gain and offset",
        )
    if readout is not None:
        if readout == 0:
            raise DataError(
                "noise='gaussian' with readout=0",
                needed="the standard deviation of the noise, > 0",
                todo="leave readout= out to have it estimated",
            )
        return NoiseModel(1.0, 0.0, float(readout), poisson=False, source="given")
    seen = estimate_noise(image, mask)
    if not seen.poisson:
        return seen
    # one level for all: the mean variance
    level = float(np.sqrt(max(seen.gain * (float(image[mask].mean()) - seen.offset), 0.0)))
    return NoiseModel(1.0, 0.0, level, False, "estimated", seen.whiteness)
