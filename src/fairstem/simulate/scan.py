"""Scan distortion as a function of time: where each pixel of a scanned image really samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from fairstem.errors import DataError

__all__ = ["RowDistortion", "ScanDistortion", "recorded_positions"]

Floats = npt.NDArray[np.float64]
Seed = int | np.random.Generator
_WALK_HZ = (0.02, 2.0)  # slow walk: from many frames to a few rows of a slow frame
_WALK_WAVES = 24


@dataclass(frozen=True)
class ScanDistortion:
    """Distortion of a scanning microscope with the size that real ones have.

    Prior: the image is recorded pixel by pixel and row by row, so every distortion is a function
    of time, nearly constant along a row. Walk, drift and mains lines move the specimen relative to
    the scan (specimen axes); row jitter, flyback and scan error belong to the scan (scan axes,
    which turn with `rotation`).

    Parameters
    ----------
    dwell_us, flyback_us
        Time per pixel and between rows in microseconds.
    walk_pm
        Slow random walk, pm rms per axis, with power falling as 1/f² from 0.02 to 2 Hz.
    drift_pm_per_s
        Length of the constant drift velocity; its direction is random.
    lines_hz, lines_pm
        Frequencies of the vibration lines and their amplitudes in pm rms per axis; random phases,
        which run on from frame to frame.
    jitter_pm
        Row-start jitter, pm rms, (slow, fast) scan axis; independent for each row.
    flyback_pm, flyback_decay_us
        Transient at the start of each row along the fast axis, and its decay time.
    scale_y, scale_x
        Scan error along the slow and the fast axis: 0.01 samples 1 % too far apart.
    shear_deg
        Deviation of the scan axes from 90 degrees.
    rotation_deg
        Rotation of the scan against the specimen, turning +x towards +y.

    Notes
    -----
    Cost of a frame: ``O(pixels * (walk waves + lines))`` as a matrix product; 20 ms for 512².

    Examples
    --------
    >>> scan = ScanDistortion(drift_pm_per_s=17.0)
    >>> u = scan.displacement((64, 64), 0.018, frame=3, rng=7)
    >>> u.shape
    (2, 64, 64)
    """

    dwell_us: float = 16.0
    flyback_us: float = 60.0
    walk_pm: float = 20.0
    drift_pm_per_s: float = 1.0
    lines_hz: tuple[float, ...] = (30.0, 120.0, 160.0, 430.0, 1000.0, 2725.0)
    lines_pm: tuple[float, ...] = (5.4, 4.4, 3.7, 2.8, 2.8, 2.8)
    jitter_pm: tuple[float, float] = (1.0, 3.5)
    flyback_pm: float = 30.0
    flyback_decay_us: float = 20.0
    scale_y: float = 0.031
    scale_x: float = 0.008
    shear_deg: float = 0.9
    rotation_deg: float = 0.0

    def __post_init__(self) -> None:
        if len(self.lines_hz) != len(self.lines_pm):
            raise DataError(
                f"{len(self.lines_hz)} lines_hz and {len(self.lines_pm)} lines_pm",
                needed="one amplitude a line",
            )
        if not (self.dwell_us > 0 and self.flyback_us >= 0 and self.flyback_decay_us > 0):
            raise DataError("a time of the scan is not positive", needed="dwell_us, flyback_decay_us > 0")

    def frame_time_s(self, shape: tuple[int, int]) -> float:
        """Return the time from the start of a frame to the start of the next, in s."""
        return shape[0] * (shape[1] * self.dwell_us + self.flyback_us) * 1e-6

    def displacement(
        self, shape: tuple[int, int], pixel_size_nm: float, frame: int = 0, rng: Seed = 0
    ) -> Floats:
        """Return ``(2, ny, nx)`` in px: pixel (y, x) samples the object at (y + dy, x + dx).

        Parameters
        ----------
        shape
            ``(ny, nx)`` of the frame.
        pixel_size_nm
            Pixel size in nm.
        frame
            Number of the frame: its time starts after that many frames.
        rng
            The same integer gives the frames of one series, with time running on; a generator is
            advanced, so that each call is a new microscope session.

        Raises
        ------
        DataError
            Shape or pixel size is not positive.
        """
        shape = _checked(shape, pixel_size_nm)
        seed = _series_seed(rng)
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
        row_time = (shape[1] * self.dwell_us + self.flyback_us) * 1e-6
        within_row = x * self.dwell_us * 1e-6
        row_starts = frame * self.frame_time_s(shape) + y[:, 0] * row_time
        middle = (np.asarray(shape, dtype=np.float64) - 1) / 2
        off_y, off_x = y - middle[0], x - middle[1]
        px_per_pm = 1e-3 / pixel_size_nm
        # scan axes: affine error, jitter, flyback
        own = np.random.default_rng([seed, 1, frame])
        jitter = own.standard_normal((2, shape[0], 1)) * np.reshape(self.jitter_pm, (2, 1, 1)) * px_per_pm
        flyback = self.flyback_pm * px_per_pm * np.exp(-within_row * 1e6 / self.flyback_decay_us)
        scan_y = off_y * (1 + self.scale_y) + jitter[0]
        scan_x = (
            off_x * (1 + self.scale_x) + math.tan(math.radians(self.shear_deg)) * off_y + jitter[1] + flyback
        )
        angle = math.radians(self.rotation_deg)
        cos, sin = math.cos(angle), math.sin(angle)
        motion = self._specimen_motion(row_starts, within_row[0], np.random.default_rng([seed, 0]))
        moved = motion * px_per_pm
        moved[0] += scan_y * cos + scan_x * sin - off_y
        moved[1] += scan_x * cos - scan_y * sin - off_x
        return moved

    def series(
        self,
        shape: tuple[int, int],
        pixel_size_nm: float,
        frames: int,
        rng: Seed = 0,
        *,
        rotations_deg: tuple[float, ...] | None = None,
    ) -> Floats:
        """Return ``(frames, 2, ny, nx)`` in px, time running on over the frames.

        Parameters
        ----------
        shape, pixel_size_nm, rng
            As in `displacement`.
        frames
            Number of frames.
        rotations_deg
            Scan rotation of each frame, for example ``(0, 90)`` for an orthogonal pair. Default:
            that of the object.

        Raises
        ------
        DataError
            No frames, or not one rotation a frame.
        """
        turns = (self.rotation_deg,) * frames if rotations_deg is None else rotations_deg
        if frames < 1 or len(turns) != frames:
            raise DataError(
                f"{frames} frames, {len(turns)} rotations", needed="one rotation a frame, 1 or more"
            )
        seed = _series_seed(rng)
        fields = []
        for k, turn in enumerate(turns):
            turned = ScanDistortion(**{**self.__dict__, "rotation_deg": float(turn)})
            fields.append(turned.displacement(shape, pixel_size_nm, k, seed))
        return np.stack(fields)

    def _specimen_motion(self, row_starts: Floats, within_row: Floats, rng: np.random.Generator) -> Floats:
        """Return (2, ny, nx) in pm: walk, drift and vibration at the times of rows plus pixels, in s."""
        edges = np.geomspace(*_WALK_HZ, _WALK_WAVES + 1)
        walk_hz = rng.uniform(edges[:-1], edges[1:])
        power = np.diff(edges) / walk_hz**2
        walk_pm = self.walk_pm * np.sqrt(power / power.sum())
        omega = 2 * math.pi * np.concatenate([walk_hz, self.lines_hz])
        amplitude = math.sqrt(2) * np.concatenate([walk_pm, self.lines_pm])
        phase = rng.uniform(0, 2 * math.pi, (2, len(omega)))
        heading = rng.uniform(0, 2 * math.pi)
        drift = np.array([math.sin(heading), math.cos(heading)]) * self.drift_pm_per_s
        # sin(row + pixel) = sin(row) cos(pixel) + cos(row) sin(pixel): one matrix product an axis
        pixel = np.outer(omega, within_row)
        waves = np.concatenate([np.cos(pixel), np.sin(pixel)])
        motion = drift[:, None, None] * (row_starts[:, None] + within_row)
        for axis in range(2):
            row = np.outer(row_starts, omega) + phase[axis]
            motion[axis] += np.concatenate([np.sin(row) * amplitude, np.cos(row) * amplitude], axis=1) @ waves
        return np.asarray(motion)


@dataclass(frozen=True)
class RowDistortion:
    """A distortion that is constant along each row: drift, three slow waves, row jitter.

    Prior: displacement depends on the row only. The drift runs on from frame to frame with a new
    velocity each; the phases of the waves and the jitter are new in each frame.

    Parameters
    ----------
    drift_px
        Standard deviation of the drift velocity per axis, px per frame.
    wave_px
        Total rms of the waves per axis in px.
    wave_cycles
        Their frequencies in cycles per frame.
    jitter_px
        Row jitter, px rms, (y, x).

    Examples
    --------
    >>> u = RowDistortion().series((32, 48), 4, rng=1)
    >>> u.shape, bool((u == u[..., :1]).all())
    ((4, 2, 32, 48), True)
    """

    drift_px: float = 1.0
    wave_px: float = 0.5
    wave_cycles: tuple[float, ...] = (1.3, 2.7, 4.9)
    jitter_px: tuple[float, float] = (0.075, 0.25)

    def series(self, shape: tuple[int, int], frames: int, rng: Seed = 0) -> Floats:
        """Return ``(frames, 2, ny, nx)`` in px: pixel (y, x) samples the object at (y + dy, x + dx).

        Raises
        ------
        DataError
            No frames, or a shape that is not positive.
        """
        shape = _checked(shape, 1.0)
        if frames < 1:
            raise DataError(f"{frames} frames", needed="1 or more")
        generator = np.random.default_rng(rng)
        t = np.arange(shape[0]) / shape[0]
        start, rows = np.zeros(2), np.empty((frames, 2, shape[0]))
        amplitude = self.wave_px * math.sqrt(2 / max(len(self.wave_cycles), 1))
        for k in range(frames):
            velocity = generator.normal(0.0, self.drift_px, 2)
            phase = generator.uniform(0, 2 * math.pi, (2, len(self.wave_cycles)))
            jitter = generator.standard_normal((2, shape[0])) * np.reshape(self.jitter_px, (2, 1))
            rows[k] = start[:, None] + velocity[:, None] * t + jitter
            for n, cycles in enumerate(self.wave_cycles):
                rows[k] += amplitude * np.sin(2 * math.pi * cycles * t + phase[:, n, None])
            start = start + velocity
        return np.ascontiguousarray(np.broadcast_to(rows[..., None], (frames, 2, *shape)))


def recorded_positions(positions: Floats, widths: Floats, displacement: Floats) -> Floats:
    """Return where columns appear in a distorted image, (n, 2) in px.

    A column at object position X appears at the p with ``p = X - mean u``. The mean is taken over
    the column at p, of u_y with weight ``y² exp(-r² / 2 width²)`` and of u_x with ``x²`` instead of
    ``y²``: the position a Poisson maximum-likelihood fit finds where the background is low, to
    first order in u along rows. Fits with other weights differ by a fraction of the row jitter.

    Parameters
    ----------
    positions
        ``(n, 2)`` object coordinates in px.
    widths
        ``(n,)`` sigma of the columns in px.
    displacement
        ``(2, ny, nx)`` in px, as of `ScanDistortion.displacement`.

    Raises
    ------
    DataError
        The shapes do not fit.

    Notes
    -----
    Cost: ``O(n width²)``.

    Examples
    --------
    >>> import numpy as np
    >>> shifted = np.full((2, 20, 20), 1.5)
    >>> recorded_positions(np.array([[10.0, 10.0]]), np.array([2.0]), shifted).round(9).tolist()
    [[8.5, 8.5]]
    """
    fields = np.ascontiguousarray(displacement, dtype=np.float64)
    if fields.ndim != 3 or fields.shape[0] != 2 or np.shape(positions) != (len(widths), 2):
        raise DataError(
            f"positions {np.shape(positions)}, widths {np.shape(widths)}, displacement {fields.shape}",
            needed="(n, 2), (n,) and (2, ny, nx)",
        )
    apparent = np.array(positions, dtype=np.float64)
    _apparent_positions(apparent, np.asarray(widths, dtype=np.float64), fields)
    return apparent


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _apparent_positions(apparent: Floats, widths: Floats, field: Floats) -> None:
    """Replace object positions (n, 2) by the positions in the image, by fixed-point iteration."""
    ny, nx = field.shape[1:]
    for n in range(apparent.shape[0]):
        y, x, width = apparent[n, 0], apparent[n, 1], widths[n]
        reach = max(1, math.ceil(3 * width))
        for _ in range(8):
            mid_y, mid_x = round(apparent[n, 0]), round(apparent[n, 1])
            total_y, total_x, sum_y, sum_x = 0.0, 0.0, 0.0, 0.0
            for row in range(mid_y - reach, mid_y + reach + 1):
                for col in range(mid_x - reach, mid_x + reach + 1):
                    r2 = (row - apparent[n, 0]) ** 2 + (col - apparent[n, 1]) ** 2
                    weight = math.exp(-0.5 * r2 / width**2)
                    # beyond the image the field of its edge is taken: such columns are partly seen
                    i, j = min(max(row, 0), ny - 1), min(max(col, 0), nx - 1)
                    weight_y = weight * (row - apparent[n, 0]) ** 2
                    weight_x = weight * (col - apparent[n, 1]) ** 2
                    total_y += weight_y
                    total_x += weight_x
                    sum_y += weight_y * field[0, i, j]
                    sum_x += weight_x * field[1, i, j]
            apparent[n, 0], apparent[n, 1] = y - sum_y / total_y, x - sum_x / total_x


def _series_seed(rng: Seed) -> int:
    return int(rng.integers(2**63)) if isinstance(rng, np.random.Generator) else int(rng)


def _checked(shape: tuple[int, int], pixel_size_nm: float) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 1 or not (math.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise DataError(
            f"shape {shape}, pixel_size_nm {pixel_size_nm}", needed="(ny, nx) and a positive pixel size"
        )
    return int(shape[0]), int(shape[1])
