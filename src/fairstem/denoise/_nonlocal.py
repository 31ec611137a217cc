"""Non-local denoising of atomic-resolution images: the public functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.compute import map_items, track
from fairstem.denoise._analysis import Search
from fairstem.denoise._detector import Noise
from fairstem.denoise._frame import DenoisedFrame, Options, denoise_frame, noise_of_frame
from fairstem.denoise._separation import NAME, Separation, separation_of
from fairstem.denoise._tables import retention_table
from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.signals import NoiseModel, Opened, open_data

__all__ = ["nonlocal_means", "separate"]


def nonlocal_means(
    image: Any,
    noise: Noise = "auto",
    search: Search = "auto",
    strength: float = 0.05,
    *,
    gain: float | None = None,
    offset: float | None = None,
    readout: float | None = None,
) -> Any:
    """Denoise an atomic-resolution image by what repeats in it, and keep what does not.

    The crystal is found and averaged over all its cells, along its slow deformation; every column is then
    tested against it, and those that differ by more than chance get what is their own put back. Where there
    is no crystal, or where it leaves structure over, blocks are matched and filtered together.

    Prior: the image repeats itself, but for a few columns; counts are Poisson. Whether this image does is
    measured: ``periodic``, ``residual-is-noise`` and the checks of the noise, in ``metadata.fairstem`` of a
    signal, or from `separate`. Denoise to find and to show: measure positions on the raw counts, as
    `fairstem.atoms.refine` does.

    Parameters
    ----------
    image : HyperSpy signal, numpy or dask array (y, x) or (frame, y, x)
        One image, or a stack whose frames are treated one by one; the noise of a stack, where it isn't given, is
        that of its first frame that has any. Masked pixels and NaN are left out, and predicted.
    noise
        ``"poisson"``: counted electrons, or `gain` times that plus `offset`; ``"poisson-gauss"``: with readout
        noise, estimated from the image unless `gain`, `offset` or `readout` are given; ``"gaussian"``: noise of
        one size everywhere, `readout`, or estimated. ``"auto"``: a plain array counts electrons; a signal says,
        or has its noise estimated.
    search
        Where like parts are looked for: ``"periodic"``: along the lattice alone; ``"local"``: by blocks alone,
        without a lattice; ``"auto"``: each where it holds. No lattice is looked for below 64 px a side.
    strength
        The parameter that matters: a column is left different from the crystal if its difference has a smaller
        probability by chance. 1: nothing at a column is ever erased, at the price of its noise. 0.001: a clean
        image, in which small displacements are gone; `Separation.retention` says which.
    gain, offset, readout
        Detector: raw units per electron, raw value without electrons, readout noise in raw units.

    Returns
    -------
    same kind as `image`
        Expected values in the unit of the input, of its data type where that is floating, else float32.
        Lazy input gives lazy output. A frame that is constant, or has less than a hundredth of the noise that
        counting gives, is returned unchanged. A signal's provenance holds the checks of the assumptions and the
        retention to expect; of a stack, each check where it is furthest from holding; of a lazy stack, neither.

    Warns
    -----
    DataWarning
        NaN or masked pixels; values taken for electrons whose noise is far from that of counting; noise in the
        metadata that the image contradicts.

    Raises
    ------
    DataTypeError, DataError
        Not an image or a stack, all NaN, infinite, fewer than 16 pixels a side; negative counts without readout
        noise; an unknown name; a strength outside (0, 1]; no lattice with ``search="periodic"``.

    Notes
    -----
    Cost: about 4 µs a pixel where there is a crystal, 12 µs where there is none. A stack costs its
    frames; one frame is in memory at a time. Memory: some 40 float64 images.

    References
    ----------
    N. Mevenkamp et al., Advanced Structural and Chemical Imaging 1 (2015) 3, doi:10.1186/s40679-015-0004-8;
    L. Azzari and A. Foi, IEEE Signal Processing Letters 23 (2016) 1086, doi:10.1109/LSP.2016.2580600.

    Examples
    --------
    >>> import fairstem as fs
    >>> p = fs.simulate.phantom("p2", peak=5, seed=1, shape=(256, 256))
    >>> clean = fs.denoise.nonlocal_means(p.data)
    >>> bool(fs.metrics.psnr(clean, p.clean) > fs.metrics.psnr(p.data, p.clean) + 15)
    True
    """
    opened = _opened(image, (2, 3))
    options, dtype = Options(noise, search, strength, gain, offset, readout), _result_type(opened)
    if len(opened.array.shape) == 2:
        done = _one_image(opened, options)
        if opened.kind == "hyperspy":
            return separation_of(opened, options, done, dtype).image
        # a plain array has no place for what else is known
        return opened.rewrap(done.values.astype(dtype))
    model = _noise_of_stack(opened, options)

    def one(number: int, frame: NDArray[Any]) -> DenoisedFrame:
        return denoise_frame(_plain(frame), options, model, f"frame {number}")

    parameters = options.to_dict() | {"detector": None if model is None else model.to_dict()}
    if opened.lazy:
        lazily = map_items(opened.array, lambda k, frame: one(k, frame).values.astype(dtype), dtype=dtype)
        return opened.rewrap(lazily, opened.step(NAME, parameters))
    frames, priors = [], []
    for number, frame in enumerate(track(opened.array, label="denoise")):
        done = one(number, frame)
        frames.append(done.values.astype(dtype))
        priors.append(done.priors)
        if done.analysis is not None and "expected retention" not in parameters:
            table = retention_table(done.analysis, options.strength, opened.pixel_size_nm)
            parameters |= {"expected retention": table.to_dict("records"), "retention of frame": number}
    return opened.rewrap(np.stack(frames), opened.step(NAME, parameters, _worst(priors)))


def separate(
    image: Any,
    noise: Noise = "auto",
    search: Search = "auto",
    strength: float = 0.05,
    *,
    gain: float | None = None,
    offset: float | None = None,
    readout: float | None = None,
) -> Separation:
    """Take an image apart into crystal, deviations from it, and noise: all that `nonlocal_means` knows.

    Prior, method and parameters are those of `nonlocal_means`, for one image.

    Parameters
    ----------
    image : HyperSpy signal, numpy or dask array (y, x)
        One image.
    noise, search, strength, gain, offset, readout
        As in `nonlocal_means`.

    Returns
    -------
    Separation
        Denoised image, crystal, table of deviations, residual and its whiteness, what is kept of small changes.

    Raises
    ------
    DataTypeError, DataError
        As `nonlocal_means`.

    Notes
    -----
    Cost: that of `nonlocal_means`.

    Examples
    --------
    >>> import fairstem as fs
    >>> p = fs.simulate.phantom("p2", peak=20, seed=1, shape=(256, 256), shifted=2, halved=2)
    >>> found = fs.denoise.separate(p.data)
    >>> len(found.lattices), len(found.deviations) >= 4
    (1, True)
    """
    opened = _opened(image, (2,))
    options = Options(noise, search, strength, gain, offset, readout)
    return separation_of(opened, options, _one_image(opened, options), _result_type(opened))


def _one_image(opened: Opened, options: Options) -> DenoisedFrame:
    array = _plain(opened.array)
    return denoise_frame(array, options, noise_of_frame(opened, array, options))


def _opened(image: Any, dimensions: tuple[int, ...]) -> Opened:
    """Open an image or a stack; say what to do with anything else."""
    opened = open_data(image, name="image")
    shape = tuple(opened.array.shape)
    given = f"image has {len(shape)} dimension(s), shape {shape}"
    needed = "an image (y, x)" + (" or a stack of images (frame, y, x)" if 3 in dimensions else "")
    if opened.array.dtype.names is not None or (len(shape) == 3 and shape[-1] in (3, 4)):
        todo = "a colour picture is no measurement: take the microscope's own file, or convert it to grey yourself"
        raise DataError(
            f"image is a colour picture of shape {shape}, dtype {opened.array.dtype}", needed, todo
        )
    if len(shape) in dimensions:
        return opened
    if len(shape) < 2:
        raise DataError(given, needed, "pass the image that this line comes from")
    if len(shape) == 3:
        todo = "pass one frame (s.inav[0] of a HyperSpy signal, data[0] of an array), or use nonlocal_means"
        raise DataError(given, needed, todo)
    todo = (
        "pass one image of it, such as that of a virtual detector; for all of it a tensor SVD is the method"
    )
    raise DataError(given, needed, todo)


def _noise_of_stack(opened: Opened, options: Options) -> NoiseModel | None:
    """Return the model of the detector from the first frame with noise; None where no frame has any."""
    for frame in opened.array:
        model = noise_of_frame(opened, _plain(frame), options)
        if model is not None:
            return model
    return None


def _worst(priors: Sequence[Sequence[PriorCheck]]) -> tuple[PriorCheck, ...]:
    """Return each check as it is in the frame where it is furthest from holding."""
    worst: dict[str, PriorCheck] = {}
    for check in (check for frame in priors for check in frame):
        known = worst.setdefault(check.name, check)
        low, high = sorted((known, check), key=lambda c: c.statistic)
        if known.holds is None or (check.holds is not None and known is not check):
            worst[check.name] = check if known.holds is None else (high if check.rule == "<=" else low)
    return tuple(worst.values())


def _result_type(opened: Opened) -> np.dtype[Any]:
    """Return the data type of the result: expected counts are fractions."""
    kind = np.dtype(opened.array.dtype)
    return kind if kind.kind == "f" and kind.itemsize >= 4 else np.dtype(np.float32)


def _plain(array: Any) -> NDArray[Any]:
    """Return the values as numpy; masked ones become NaN."""
    if isinstance(array, np.ma.MaskedArray) and np.ma.getmaskarray(array).any():
        return np.where(np.ma.getmaskarray(array), np.nan, np.ma.getdata(array).astype(np.float64))
    return np.asarray(array)
