"""Named, seeded phantoms: images whose every column is known."""

from __future__ import annotations

import difflib
import inspect
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairstem.errors import DataError
from fairstem.simulate._scenes import Scene, View
from fairstem.simulate._slow_scenes import SCENES
from fairstem.simulate.noise import add_noise
from fairstem.simulate.render import render_columns
from fairstem.simulate.scan import RowDistortion, ScanDistortion, recorded_positions

__all__ = ["Phantom", "phantom", "phantoms"]

Floats = npt.NDArray[np.float64]

COMMON: dict[str, Any] = {
    "shape": (256, 256),
    "pixel_size_nm": 0.018,
    "peak": 30.0,
    "background": 0.06,
    "frames": None,
    "distortion": None,
    "distortion_options": None,
    "gain": 1.0,
    "offset": 0.0,
    "readout": 0.0,
    "saturation": None,
    "dtype": "float32",
}
_NOISE = ("gain", "offset", "readout", "saturation", "dtype")


@dataclass(frozen=True)
class Phantom:
    """A simulated image, or a series of frames, with its truth.

    Parameters
    ----------
    name
        Name in the registry.
    data
        Recorded values ``(y, x)``, or ``(frame, y, x)`` when `frames` is given.
    clean
        Expected electrons, float64, same shape: `data` without noise, gain and offset.
    truth
        One row a column, also those up to 0.3 nm outside the image (further with distortion,
        which brings them into view): `y, x` [px],
        `height` [electrons above the background], `width` [px], `species`, `planted`, the planted
        `shift_y, shift_x` [px], and what else the phantom has. In a single distorted image `y, x`
        is where the column appears, and `y_object, x_object` where it is; in a series `y, x` is
        where it is. ``attrs`` holds ``pixel_size_nm`` (py, px) and ``shape``.
    pixel_size_nm
        Pixel size in nm.
    parameters
        All options: ``phantom(name, **parameters)`` is the same phantom again.
    displacement
        ``(2, y, x)`` or ``(frame, 2, y, x)`` in px: pixel (y, x) samples the object at
        (y + dy, x + dx). None without distortion.
    """

    name: str
    data: npt.NDArray[np.generic]
    clean: Floats
    truth: pd.DataFrame
    pixel_size_nm: float
    parameters: dict[str, Any]
    displacement: Floats | None = None


def phantom(name: str, seed: int = 0, **options: Any) -> Phantom:
    """Make a named phantom: data with noise, data without, and every column.

    The expected counts are ``peak * (background + (1 - background) * sum of columns)``: an
    isolated brightest column reaches `peak` electrons, background included.

    Parameters
    ----------
    name
        One of `phantoms`.
    seed
        Seed of the noise, of the distortion and of what is planted.
    **options
        Options of the phantom (see `phantoms`) and those that all share:

        ``shape`` (ny, nx); ``pixel_size_nm``; ``peak``, electrons at the top of the brightest
        column; ``background``, as a fraction of `peak`, in [0, 1); ``frames``, number of frames of
        a series (None: one image); ``distortion``, ``"scan"`` (realistic, `ScanDistortion`) or
        ``"row"`` (`RowDistortion`), with ``distortion_options``, a dict for it; ``gain`` (grey levels
        per electron), ``offset, readout`` (grey levels), ``saturation, dtype`` as in `add_noise`.

    Returns
    -------
    Phantom
        The same for the same name, seed and options.

    Raises
    ------
    DataError
        Unknown name or option (the message lists the valid ones), or a value out of range.

    Notes
    -----
    Cost: ``O(pixels)`` for the noise plus ``O(columns * width²)``; 10 ms for 256² on one core,
    times the number of frames.

    Examples
    --------
    >>> p = phantom("p2", peak=5, seed=1, shifted=12, halved=12)
    >>> p.data.shape, p.truth["planted"].value_counts().to_dict()["shift"], round(float(p.clean.max()), 1)
    ((512, 512), 12, 5.0)
    """
    if name not in SCENES:
        close = difflib.get_close_matches(str(name), SCENES, 1)
        raise DataError(
            f"there is no phantom {name!r}",
            needed=f"one of {', '.join(SCENES)}",
            todo=f"did you mean {close[0]!r}?" if close else "list them with simulate.phantoms()",
        )
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise DataError(f"seed is {seed!r}", needed="an integer >= 0")
    common, own = _split_options(name, options)
    rng = np.random.default_rng([seed, 0])
    view = View(tuple(common["shape"]), float(common["pixel_size_nm"]), rng)
    scene = SCENES[name].build(view, **own)
    peak, background = float(common["peak"]), float(common["background"])
    fields = _sampled_at(scene, _displacement(common, view, seed), common["frames"])
    truth = _truth(scene, view, peak * (1 - background), distorted=fields is not None)
    clean = _expected(truth, scene, view, peak * background, fields)
    if fields is None and common["frames"] is not None:
        clean = np.repeat(clean[None], common["frames"], axis=0)
    noise = {key: common[key] for key in _NOISE}
    data = add_noise(clean, np.random.default_rng([seed, 1]), **noise)
    if fields is not None and common["frames"] is None:
        truth = _as_recorded(truth, fields)
    return Phantom(name, data, clean, truth, view.pixel_size_nm, {"seed": seed, **common, **own}, fields)


def phantoms() -> pd.DataFrame:
    """List all phantoms: `name`, what it is in one `line`, its own `options` with their defaults.

    Examples
    --------
    >>> {"p1", "p2", "si110", "empty"} <= set(phantoms()["name"])
    True
    """
    rows = []
    for name, entry in SCENES.items():
        own = ", ".join(
            f"{key}={value!r}" for key, value in {**entry.defaults, **_own_defaults(name)}.items()
        )
        rows.append({"name": name, "line": entry.line, "options": own})
    return pd.DataFrame(rows)


def _own_defaults(name: str) -> dict[str, Any]:
    parameters = list(inspect.signature(SCENES[name].build).parameters.values())[1:]
    return {p.name: p.default for p in parameters}


def _split_options(name: str, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    own_defaults = _own_defaults(name)
    unknown = sorted(set(options) - set(own_defaults) - set(COMMON))
    if unknown:
        raise DataError(
            f"phantom {name!r} has no option {', '.join(map(repr, unknown))}",
            needed=f"of its own {', '.join(own_defaults) or 'none'}; shared {', '.join(COMMON)}",
            todo="correct the name, or see simulate.phantoms()",
        )
    common = {**COMMON, **SCENES[name].defaults, **{k: v for k, v in options.items() if k in COMMON}}
    own = {**own_defaults, **{k: v for k, v in options.items() if k in own_defaults}}
    shape, pixel, frames = common["shape"], common["pixel_size_nm"], common["frames"]
    if len(shape) != 2 or min(shape) < 8:
        raise DataError(f"shape is {shape}", needed="(ny, nx), at least 8 px each")
    if not (math.isfinite(pixel) and pixel > 0 and math.isfinite(common["peak"]) and common["peak"] > 0):
        raise DataError(f"pixel_size_nm {pixel}, peak {common['peak']}", needed="positive nm and electrons")
    if not 0 <= common["background"] < 1:
        raise DataError(f"background is {common['background']}", needed="a fraction of the peak in [0, 1)")
    if frames is not None and (int(frames) != frames or frames < 1):
        raise DataError(f"frames is {frames}", needed="None for one image, or a number of frames >= 1")
    return common, own


def _truth(scene: Scene, view: View, scale: float, *, distorted: bool) -> pd.DataFrame:
    truth = scene.columns.copy()
    truth["height"] = truth["height"].to_numpy(np.float64) * scale
    if "planted" not in truth:
        truth["planted"] = pd.Series("none", index=truth.index, dtype=object)
    for name in ("shift_y", "shift_x"):
        if name not in truth:
            truth[name] = 0.0
    reach = 0.3 / view.pixel_size_nm
    position, high = truth[["y", "x"]].to_numpy(np.float64), np.asarray(view.shape) - 1 + reach
    if not distorted:
        truth = truth.iloc[np.flatnonzero(((position >= -reach) & (position <= high)).all(axis=1))]
    truth = truth.reset_index(drop=True)
    pixel = view.pixel_size_nm
    truth.attrs = {**scene.columns.attrs, "pixel_size_nm": (pixel, pixel), "shape": view.shape}
    return truth


def _displacement(common: dict[str, Any], view: View, seed: int) -> Floats | None:
    kind, options = common["distortion"], dict(common["distortion_options"] or {})
    frames = common["frames"]
    if kind is None:
        return None
    if kind not in ("scan", "row"):
        raise DataError(f"distortion is {kind!r}", needed="None, 'scan' or 'row'")
    rotations = options.pop("rotations_deg", None)
    model = ScanDistortion if kind == "scan" else RowDistortion
    valid = list(inspect.signature(model).parameters)
    if set(options) - set(valid) or (rotations is not None and kind == "row"):
        raise DataError(f"distortion_options {common['distortion_options']}", needed=f"of {', '.join(valid)}")
    distortion = model(**options)
    if isinstance(distortion, ScanDistortion):
        turns = None if rotations is None else tuple(rotations)
        fields = distortion.series(view.shape, view.pixel_size_nm, frames or 1, seed, rotations_deg=turns)
    else:
        fields = distortion.series(view.shape, frames or 1, np.random.default_rng([seed, 2]))
    return fields if frames is not None else fields[0]


def _sampled_at(scene: Scene, fields: Floats | None, frames: int | None) -> Floats | None:
    """Add the displacement that belongs to the scene to that of the scan."""
    own = scene.displacement
    if own is None or fields is not None:
        return fields if own is None or fields is None else fields + own
    return own if frames is None else np.repeat(own[None], frames, axis=0)


def _expected(truth: pd.DataFrame, scene: Scene, view: View, level: float, fields: Floats | None) -> Floats:
    background = level if scene.background is None else _scaled(scene.background, level)
    frames: list[Floats | None] = [None] if fields is None else [*np.reshape(fields, (-1, 2, *view.shape))]
    images = [render_columns(truth, view.shape, background=background, displacement=u) for u in frames]
    return np.stack(images) if fields is not None and fields.ndim == 4 else images[0]


def _scaled(function: Any, level: float) -> Any:
    return lambda y, x: level * function(y, x)


def _as_recorded(truth: pd.DataFrame, field: Floats) -> pd.DataFrame:
    out = truth.copy()
    positions = truth[["y", "x"]].to_numpy(np.float64)
    out[["y_object", "x_object"]] = positions
    out[["y", "x"]] = recorded_positions(positions, truth["width"].to_numpy(np.float64), field)
    return out
