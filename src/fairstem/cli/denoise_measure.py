"""Denoising an image for a report, or a stack with its first frame for a report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fairstem.cli.denoised import Denoised
from fairstem.cli.inputs import load_image, refuse_colour, title_of
from fairstem.errors import DataError

__all__ = ["load_frames", "measure", "measure_stack"]


def load_frames(file: Path, *, frame: int | None = None, lazy: bool = False, **options: Any) -> Any:
    """Load an image, or a stack of images.

    Parameters
    ----------
    file
        Where from.
    frame
        Only this frame of a stack.
    lazy
        Leave a stack on disk until its frames are needed.
    **options
        Of `fairstem.load`: reader, dataset, pixel_size_nm, units.

    Returns
    -------
    hyperspy signal
        ``(y, x)`` or ``(frame | y, x)``; an image is in memory.

    Raises
    ------
    DataError
        If it is not clear which signal is meant, or it is neither.
    """
    if frame is not None:
        chosen = load_image(file, frame=frame, lazy=lazy, **options)
    else:
        from fairstem.signals import load

        loaded = load(file, lazy=lazy, **options)
        chosen = _choose(loaded, file) if isinstance(loaded, list) else loaded
        _refuse_others(chosen, file)
    return chosen


def _choose(signals: Sequence[Any], file: Path) -> Any:
    fitting = [s for s in signals if _is_image(s) or _is_stack(s)]
    if len(fitting) != 1:
        listed = ", ".join(f"{i} {title_of(s, file)!r} {s.data.shape}" for i, s in enumerate(signals))
        raise DataError(
            f"{file.name} holds {len(signals)} signals, {len(fitting)} of them images",
            needed="one image, or one stack of images",
            todo=f"give one of --dataset {listed}",
        )
    return fitting[0]


def _is_image(signal: Any) -> bool:
    return bool(signal.data.ndim == 2 and signal.axes_manager.navigation_dimension == 0)


def _is_stack(signal: Any) -> bool:
    return bool(signal.data.ndim == 3 and signal.axes_manager.navigation_dimension == 1)


def _refuse_others(signal: Any, file: Path) -> None:
    from fairstem.signals import describe

    refuse_colour(signal, file)
    if not _is_image(signal) and not _is_stack(signal):
        shape = " × ".join(map(str, signal.data.shape))
        raise DataError(
            f"{file.name} holds a {describe(signal.as_lazy())['kind']}, {shape}",
            needed="an image (y, x) or a stack of images (frame, y, x)",
            todo="make an image of it first, such as a sum over detector or energy, and save that",
        )


def measure(
    signal: Any, title: str, method: Mapping[str, Any], warnings: Sequence[str], frames: int | None = None
) -> Denoised:
    """Denoise one image and keep all that is known of it.

    Parameters
    ----------
    signal
        2-D HyperSpy signal.
    title
        For captions.
    method
        Arguments of `fairstem.denoise.separate`.
    warnings
        List that collects warnings while this runs; copied at the end.
    frames
        Number of frames of the stack it stands for.

    Returns
    -------
    Denoised
        Its image is float32.

    Raises
    ------
    DataError
        If the image does not fit the method.
    """
    from fairstem import denoise
    from fairstem.signals import open_data, steps_of

    start = time.perf_counter()
    if getattr(signal, "_lazy", False):
        signal = signal.deepcopy()
        signal.compute(show_progressbar=False)
    found = denoise.separate(signal, **method)
    if found.image.data.dtype != np.float32:
        found.image.change_dtype("float32")
    opened = open_data(signal, ndim=2)
    return Denoised(
        title=title,
        image=np.asarray(opened.array),
        pixel_size_nm=opened.pixel_size_nm,
        found=found,
        warnings=tuple(warnings),
        steps=tuple(steps_of(found.image)),
        seconds=time.perf_counter() - start,
        frames=frames,
    )


def measure_stack(
    signal: Any, title: str, method: Mapping[str, Any], warnings: Sequence[str]
) -> tuple[Any, Denoised]:
    """Denoise a stack frame by frame, and keep all that is known of its first frame.

    The detector's noise is that of the first frame for all, so the first frame is the same in both.

    Parameters
    ----------
    signal
        ``(frame | y, x)`` HyperSpy signal, lazy or not.
    title
        For captions.
    method
        Arguments of `fairstem.denoise.nonlocal_means`.
    warnings
        List that collects warnings while this runs; copied at the end.

    Returns
    -------
    tuple
        The denoised stack, float32, lazy if it came so; the first frame.

    Raises
    ------
    DataError
        If a frame does not fit the method.
    """
    from fairstem import denoise
    from fairstem.signals import steps_of

    first = measure(signal.inav[0], f"{title}, frame 0", method, warnings, frames=signal.data.shape[0])
    stack = denoise.nonlocal_means(signal, **method)
    if stack.data.dtype != np.float32:
        stack.change_dtype("float32")
    return stack, replace(first, steps=tuple(steps_of(stack)), warnings=tuple(warnings))
