"""The result of a registration: average, displacement, floor, error bars, checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.register._judge.floor import Floor
from fairstem.register._series.frames import Frames
from fairstem.register._series.motion import Motion

if TYPE_CHECKING:
    from fairstem.register._lattice.lattice_pass import LatticePass

__all__ = ["Alignment"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Alignment:
    """A registered series.

    Parameters
    ----------
    average
        The registered average ``(y, x)``, of the kind that came in (HyperSpy signal, numpy or dask).
        Pixels that no frame reaches hold the value of the nearest that one does; see `samples`.
    motion
        Where each frame's pixels lie, (2, y, x) px: pixel (y, x) of frame k shows the average at (y, x) plus
        ``.forward(k)``; frame k at (y, x) plus ``.backward(k)`` shows the average at (y, x). Row-wise and
        rigid: ``.rows`` (frame, 2, y) as well.
    samples
        ``(y, x)`` number of frames behind each pixel of the average.
    variance
        ``(y, x)`` variance of the average in squared units of the data, from the scatter of the frames.
    chi2
        ``(y, x)`` mean over frames of the squared residual over its expected variance: 1 where frames
        differ by counting noise only, more where the object has changed.
    floor
        What all frames share can't be seen by any registration: its size, and its correlation. Put it into
        error bars of columns with ``floor.widen``.
    row_error
        ``(frame, 2, y)`` px, standard deviation of the estimated displacement of each row along y and x of
        the scan, without what all frames share (`floor`); None for the dense model.
    used
        Numbers of the frames in the average. The others, blank or of something else, count in all arrays
        with a frame axis, but their displacement means nothing.
    priors
        The assumptions, measured; ``holds`` is False where one failed, None where it couldn't be measured.
    parameters
        ``"asked"``: the arguments of `align`; ``"found"``: what was estimated from the data.
    frames
        The series itself; None when the alignment was read from a file.
    lattice_pass
        What ``align(series, lattice=True)`` has removed from all frames alike; None without, or when the
        alignment was read from a file (its facts are in `parameters`).
    """

    average: Any
    motion: Motion
    samples: Floats
    variance: Floats
    chi2: Floats
    floor: Floor
    row_error: Floats | None
    used: tuple[int, ...]
    priors: tuple[PriorCheck, ...]
    parameters: dict[str, Any]
    frames: Frames | None = field(default=None, repr=False, compare=False)
    lattice_pass: LatticePass | None = field(default=None, repr=False)

    @property
    def displacement(self) -> Floats:
        """``(frame, 2, y, x)`` px, order (dy, dx): frame k at (y + dy, x + dx) shows the average at (y, x).

        Rows that move as one take no memory: the array is then a read-only view. Otherwise it is made anew
        each time, 16 bytes a pixel and frame; ``motion.backward(k)`` gives one frame.
        """
        fields = [self.motion.backward(k) for k in range(self.motion.n)]
        if all(f.strides[-1] == 0 for f in fields):
            rows = np.stack([f[:, :, 0] for f in fields])
            return np.broadcast_to(rows[..., None], (*rows.shape, self.motion.shape[1]))
        return np.stack(fields)

    @property
    def floor_px(self) -> float:
        """The common-mode floor: rms error per axis, px, of a row's place in the average; see `Floor`."""
        return self.floor.px

    @property
    def floor_pm(self) -> float | None:
        """The common-mode floor in pm; None without calibration."""
        return self.floor.pm

    @property
    def aligned(self) -> Any:
        """The frames on the grid of the average ``(frame, y, x)``, of the kind that came in; lazy stays lazy.

        Values are kept (cubic splines), counts are not: for these see `apply`. Made anew each time.

        Raises
        ------
        DataError
            The alignment was read from a file.
        """
        if self.frames is None:
            raise DataError(
                "this alignment was read from a file, which does not hold the series",
                needed="the series",
                todo='register.apply(alignment, series, method="interpolate", combine=False)',
            )
        from fairstem.register._apply import aligned_frames

        return aligned_frames(self.motion, self.frames)
