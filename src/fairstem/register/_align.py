"""Registration of a series: what is asked for, checked, started, solved, averaged and judged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.register._alignment import Alignment
from fairstem.register._judge.judge import judge
from fairstem.register._models import Solved, solve
from fairstem.register._options import (
    Average,
    Model,
    check_choices,
    check_dense,
    checked_angles,
    checked_reference,
)
from fairstem.register._rows.measure import chi2_map
from fairstem.register._series.average import Averaged, average
from fairstem.register._series.brightness import match_brightness
from fairstem.register._series.frames import Frames, open_series
from fairstem.register._start.start import Start, find_start
from fairstem.signals import Finding, warn_findings

__all__ = ["align"]

Floats = NDArray[np.float64]
log = logging.getLogger(__name__)


def align(
    series: Any,
    model: Model = "rowwise",
    *,
    reference: int | None = None,
    angles: Sequence[float] | None = None,
    slow: bool | Literal["auto"] = "auto",
    lattice: bool = False,
    combine: Average = "mean",
    max_shift: float | None = None,
    dense: dict[str, Any] | None = None,
) -> Alignment:
    """Register a series of scanned images and average it.

    **Prior.** The object does not change between frames. Distortions are a function of time (the image is
    recorded row by row), smooth but for row jitter, and have zero mean over many frames. What the data say
    of each of these is in `Alignment.priors`.

    Parameters
    ----------
    series
        ``(frame, y, x)``: HyperSpy signal, numpy or dask array (which is streamed), or a list of images, in
        the order of recording. At least 2 frames of 32 px a side or more, integers or floats; NaN are left
        out. Give raw frames; where their brightness differs they are scaled to one, with a warning.
    model
        ``"rowwise"`` (default): one displacement a row, from the likelihood of its pixels and a prior whose
        two variances come from the data; nothing to set. ``"dense"``: a displacement of every pixel after
        Berkels et al., for distortions that are no function of time. ``"rigid"``: one shift a frame.
    reference
        Number of the frame at whose place the average lies, which is a shift only: its geometry is the mean
        of all frames. Default: the mean place of all.
    angles
        Rotation of the scan against the object, one a frame, degrees, turning +x towards +y. Frames scanned
        in different directions see each other's common distortion, and are solved jointly: 0 and 90 is the
        surest way below the floor. Not with the dense model.
    slow
        Row-wise only: whether rows may also bend, by a smooth field on top of them. ``"auto"``: where the
        parts of rows say so and the frames then agree better.
    lattice
        Row-wise only: remove what all frames share by laying the rows of the average on its own lattice.
        Goes below the floor. Strain that changes from row to row is taken for distortion and lost but for its
        mean and linear part; strain that changes along the rows is kept. Refused with a slow field (pass
        ``slow=False``), several directions, or no lattice. See `Alignment.lattice_pass`.
    combine
        How frames are averaged. ``"mean"``: resampled, each with the same weight. ``"median"``: where a frame
        shows something else in places; noisier, and low with few counts. ``"likelihood"``: the image under
        which all raw pixels at their own places are most likely; about ten times slower than the mean.
    max_shift
        Largest shift between two frames in px, where it is known. Default: 0.7 of the field.
    dense
        Options of the dense model: ``regularization`` ("auto", or the λ of the paper, 200 there), ``levels``,
        ``stages`` (3), ``extra_stages`` (2), ``target`` ("mean" or "median"), ``bias_removal`` (True),
        ``max_iterations`` (3), ``energy_tolerance`` (1e-6).

    Returns
    -------
    Alignment
        ``.average``, ``.displacement`` (frame, 2, y, x) px, ``.aligned``, ``.floor_pm``, ``.priors`` and more.

    Raises
    ------
    DataError
        Fewer than 2 frames that show the same object, frames of different size, unknown options, or
        ``lattice=True`` where there is no lattice to lay the rows on.
    DataTypeError
        Not an array of numbers.

    Notes
    -----
    The average is value-preserving (cubic splines); `apply` conserves counts. Blank frames and those that
    show something else are left out with a warning; see `Alignment.used`. Cost of the default: about 2 µs a
    pixel and frame, ten images of memory. The model of a row: ``I_k(y, x) ~ R(y + u_y, x + u_x)`` with R the
    mean of the other frames [1]_ [2]_.

    References
    ----------
    .. [1] B. Berkels et al., Ultramicroscopy 138 (2014) 46, doi:10.1016/j.ultramic.2013.11.007.
    .. [2] C. Ophus, J. Ciston, C. T. Nelson, Ultramicroscopy 162 (2016) 1, doi:10.1016/j.ultramic.2015.12.002.

    Examples
    --------
    >>> from fairstem import metrics, register, simulate
    >>> p = simulate.phantom("p1", seed=1, shape=(128, 128))
    >>> alignment = register.align(p.data)
    >>> metrics.displacement_error(alignment.displacement, p.displacement).rmse < 0.1
    True
    """
    frames = open_series(series)
    check_choices(model, combine, slow, max_shift)
    check_dense(dense, model)
    reference = checked_reference(reference, frames.n)
    turns = checked_angles(angles, frames.n, model, lattice=lattice)
    start = find_start(frames, angles_deg=turns, max_shift=max_shift)
    used = tuple(k for k in frames.usable if k not in start.strangers)
    frames = match_brightness(frames, start.offsets, used)
    warn_findings(frames.findings)
    _warn_strangers(start)
    if reference is not None and reference not in used:
        raise DataError(f"reference={reference}, which is not in use", needed=f"one of {used}")
    solved = solve(frames, start, turns, used, model, reference=reference, slow=slow, dense=dense or {})
    if lattice:
        from fairstem.register._lattice.lattice_pass import pass_lattice

        solved = pass_lattice(frames, solved, used, start)
    averaged = average(frames, solved.motion, used, how=combine)
    chi2, seen = chi2_map(frames, solved.motion, solved.pool, used, solved.law)
    priors = (start.hop, *judge(frames, solved, averaged, chi2, seen, used))
    if solved.lattice_pass is not None:
        priors = (*priors, solved.lattice_pass.check)
    given = None if angles is None else turns.tolist()
    asked: dict[str, Any] = {"model": model, "reference": reference, "angles": given, "slow": slow}
    asked |= {"lattice": lattice, "combine": combine, "max_shift": max_shift, "dense": dense}
    return _result(frames, solved, averaged, chi2, used, priors, asked, start)


def _warn_strangers(start: Start) -> None:
    if not start.strangers:
        return
    named = ", ".join(map(str, start.strangers))
    text = f"frame {named} does not show the same object as the others"
    finding = Finding("stranger", "warning", text, assumed="left out of the average")
    warn_findings([finding], stacklevel=4)


def _result(
    frames: Frames,
    solved: Solved,
    averaged: Averaged,
    chi2: Floats,
    used: tuple[int, ...],
    priors: tuple[PriorCheck, ...],
    asked: dict[str, Any],
    start: Start,
) -> Alignment:
    parameters = {"asked": asked, "found": solved.found}
    parameters["found"] |= {"strangers": list(start.strangers), "blank": list(frames.blank)}
    step = frames.opened.step("fairstem.register.align", {**asked, "frames": len(used)}, priors)
    axes = (1, 2) if frames.opened.kind == "hyperspy" else None
    return Alignment(
        average=frames.opened.rewrap(averaged.image, step, axes=axes),
        motion=solved.motion,
        samples=averaged.samples,
        variance=averaged.variance,
        chi2=chi2,
        floor=solved.floor,
        row_error=None if solved.variance is None else np.sqrt(solved.variance),
        used=used,
        priors=priors,
        parameters=parameters,
        frames=frames,
        lattice_pass=solved.lattice_pass,
    )
