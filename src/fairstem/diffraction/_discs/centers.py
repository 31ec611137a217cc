"""From sums over patches of a scan to the centre of each and the plane through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fairstem.diffraction._discs.circles import Circle, find_circle
from fairstem.diffraction._discs.edge import CENTER, ROUND, SHAPE, Edge, fit_edge
from fairstem.diffraction._discs.patches import Patches, merged
from fairstem.diffraction._discs.planes import Plane, fit_plane
from fairstem.diffraction._discs.reflection import Reflection, reflect
from fairstem.diffraction._scan import Scan, sample_patterns
from fairstem.errors import CalibrationError, DataError
from fairstem.priors import PriorCheck
from fairstem.signals.counting import judge_counts
from fairstem.signals.image_check import find_saturation

__all__ = ["Geometry", "Method", "geometry_priors", "locate"]

Method = Literal["auto", "edge", "reflection"]
_SMALLEST_DISC = 4.0  # px: a smaller disc is a spot, its edge can't be told from its blur
_LEAST_CONTRAST = 0.15  # fall across the edge as a fraction of the level inside
_PATCH_SD = 0.15  # px: patches are joined until their centres are this certain; the fit is linear there
_FILLED = 0.5
_LEAST_INVERSION = 0.4
_LEAST_PATCHES = 9
_WIDEST = 0.15  # blur as a fraction of the radius
_MISFIT = 0.04  # of the blur: what fringes and the edges of other discs leave (simulations, 40 % slope across the disc)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """What the patches of a scan say about the disc.

    Parameters
    ----------
    method
        ``"edge"`` or ``"reflection"``.
    edge
        The joint fit of all patches along the plane; None with reflections.
    reflection
        The reflection of the whole sum; None with edges.
    plane
        Through the patches' centres.
    numbers, at
        Patterns in each patch and its middle in scan positions.
    centers, sd
        ``(2, patch_y, patch_x)`` px.
    systematic_sd
        Standard error (y, x) of the centre from what is common to all patches.
    scatter
        Median reduced chi-square of the patches: above 1 by what the model doesn't describe.
    """

    method: Literal["edge", "reflection"]
    edge: Edge | None
    reflection: Reflection | None
    plane: Plane
    numbers: NDArray[np.int64]
    at: Array
    centers: Array
    sd: Array
    systematic_sd: Array
    scatter: float = 1.0

    @property
    def center_sd(self) -> Array:
        """Standard error (y, x) of the plane's centre: the larger of the scatter over the scan and along the edge."""
        out: Array = np.maximum(self.plane.center_sd, self.systematic_sd)
        return out


def locate(
    patches: Patches, usable: NDArray[np.bool_], scan_shape: tuple[int, int], method: Method
) -> Geometry:
    """Find the disc in the sum, then in every patch, then in all of them together.

    Raises
    ------
    DataError
        The method is unknown; no disc is found where an edge was asked for.
    CalibrationError
        The centre lies outside the detector.
    """
    if method not in ("auto", "edge", "reflection"):
        raise DataError(f"method={method!r}", needed="'auto', 'edge' or 'reflection'")
    total = patches.total
    if method != "reflection":
        # the outline of a wide faint shape can win over the disc; the square makes the bright disc win
        for values in (total, total**2 / max(float(total.max()), 1e-300)):
            circle = find_circle(values, usable)
            if circle.radius < _SMALLEST_DISC and method != "edge":
                continue
            start = np.array([*circle.center, circle.radius, min(1.0, 0.2 * circle.radius), 0.0, 0.0])
            edge = fit_edge(total[None], usable, start, free=ROUND)
            if is_disc(edge, circle) and is_filled(total, usable, edge):
                _on_detector(edge.shared[:2], usable.shape)
                return _from_edges(patches, usable, scan_shape, edge)
        if method == "edge":
            raise DataError(
                f"no disc: intensity falls by {100 * edge.contrast:.0f} % across the best circle "
                f"(radius {edge.radius:.1f} px, blur {edge.shared[3]:.1f} px)",
                needed="a bright-field disc with an edge",
                todo="pass method='reflection' for spots and rings",
            )
    return _from_reflections(patches, usable, scan_shape)


def is_disc(edge: Edge, circle: Circle) -> bool:
    """Say whether the fit stayed at the circle and found a real edge there."""
    away = float(np.hypot(*(edge.shared[:2] - np.asarray(circle.center))))
    near = away < 3 + 0.2 * circle.radius and abs(edge.radius - circle.radius) < 3 + 0.2 * circle.radius
    sharp = edge.shared[3] <= _WIDEST * edge.radius + 0.3
    errors = np.sqrt(np.diag(edge.covariance)[:3])
    sure = bool(np.all(np.isfinite(errors)) and errors.max() < 0.25 * edge.radius)
    return near and sure and sharp and edge.contrast >= _LEAST_CONTRAST and edge.seen > 0.2


def is_filled(total: Array, usable: NDArray[np.bool_], edge: Edge) -> bool:
    """Say whether the circle is filled: one drawn around a few spots is empty in between."""
    y, x = (np.arange(n) - c for n, c in zip(usable.shape, edge.shared[:2], strict=True))
    inside = usable & (np.hypot(y[:, None], x[None, :]) < 0.85 * edge.radius)
    if not inside.any():
        return True
    blur = edge.radius / 6.0  # few electrons leave most pixels empty
    weight = ndimage.gaussian_filter(usable.astype(np.float64), blur)
    smooth = ndimage.gaussian_filter(np.where(usable, total, 0.0), blur) / np.maximum(weight, 0.05)
    return bool(np.median(smooth[inside]) > _FILLED * np.mean(smooth[inside]))


def _on_detector(center: Array, detector: tuple[int, ...]) -> None:
    if not all(0 <= c <= n - 1 for c, n in zip(center, detector, strict=True)):
        raise CalibrationError(
            f"the disc's centre ({center[0]:.1f}, {center[1]:.1f}) px lies outside the detector of {detector} px",
            needed="the optic axis on the detector",
            todo="use a part of the detector that holds the bright-field disc",
        )


def _from_edges(
    patches: Patches, usable: NDArray[np.bool_], scan_shape: tuple[int, int], edge: Edge
) -> Geometry:
    variance = float(np.max(np.diag(edge.covariance)[:2])) * patches.numbers.size
    enough = int(patches.numbers.size * _PATCH_SD**2 / max(variance, 1e-12))
    if enough < patches.numbers.size:
        patches = merged(patches, max(enough, min(_LEAST_PATCHES, patches.numbers.size)))
    grid = patches.numbers.shape
    middle = np.array([(n - 1) / 2 for n in scan_shape])
    total = patches.total.sum()
    flat = patches.sums.reshape(-1, *usable.shape)
    centers, sd, scatter = np.full((2, len(flat)), np.nan), np.full((2, len(flat)), np.nan), []
    if len(flat) == 1:
        centers[:, 0], sd[:, 0] = edge.shared[:2], np.sqrt(np.diag(edge.covariance)[:2])
    else:
        for i, image in enumerate(flat):
            one = patch_center(image, usable, edge, total)
            if one is not None:
                centers[:, i], sd[:, i] = one.shared[:2], np.sqrt(np.diag(one.covariance)[:2])
                scatter.append(one.scatter)
    if not np.isfinite(centers).any():
        raise DataError("no patch of the scan shows the disc's edge", needed="more electrons per pattern")
    at = patches.at.reshape(2, -1)
    plane = fit_plane(centers, sd, at, middle)
    joint = edge
    if len(flat) > 1:
        shifts = (plane(at) - plane.center[:, None]).T
        start = np.array([*plane.center, *edge.shared[2:]])
        prior = edge.amplitudes
        joint = fit_edge(flat, usable, start, free=SHAPE, shifts=shifts, prior=prior, rounds=2)
    else:
        joint = fit_edge(flat, usable, edge.shared, free=SHAPE, rounds=2)
    joint = _with_significant_ellipse(flat, usable, joint, plane, at, edge)
    # the amplitudes that hold the patches' fits come from the sum: its own error is common to all patches
    kinds = (joint.robust, joint.covariance, edge.robust, edge.covariance)
    spread = np.sqrt(np.max([np.diag(kind)[:2] for kind in kinds], axis=0))
    spread = np.hypot(spread, _MISFIT * edge.shared[3])
    return Geometry(
        "edge",
        joint,
        None,
        plane,
        patches.numbers,
        patches.at,
        centers.reshape(2, *grid),
        sd.reshape(2, *grid),
        spread,
        float(np.median(scatter)) if scatter else 1.0,
    )


def _with_significant_ellipse(
    flat: Array, usable: NDArray[np.bool_], joint: Edge, plane: Plane, at: Array, edge: Edge
) -> Edge:
    """Keep the ellipse only where it stands out of its error; refit a circle otherwise."""
    if ellipse_significance(joint) >= ellipse_threshold(joint):
        return joint
    shifts = (plane(at) - plane.center[:, None]).T
    start = np.array([*joint.shared[:4], 0.0, 0.0])
    prior = edge.amplitudes if len(flat) > 1 else None
    return fit_edge(flat, usable, start, free=ROUND, shifts=shifts, prior=prior, rounds=1)


def ellipse_significance(edge: Edge) -> float:
    """Return the squared ellipse in units of its error (two degrees of freedom); 0 where it wasn't fitted."""
    error = np.maximum(np.diag(edge.robust), np.diag(edge.covariance))[4:]
    if not np.all(error > 0):
        return 0.0
    return float(np.sum(edge.shared[4:] ** 2 / error))


def ellipse_threshold(edge: Edge) -> float:
    """Return the value that chance exceeds once in a thousand, given how few sectors the error stands on."""
    from scipy.stats import f

    used = int(np.count_nonzero(np.any(edge.amplitudes != 0, axis=1)))
    return float(2 * f.isf(1e-3, 2, max(used - 6, 2)))


def patch_center(image: Array, usable: NDArray[np.bool_], edge: Edge, total: float) -> Edge | None:
    """Fit the centre of one patch, the shape known; None without electrons or where the fit ran away."""
    share = float(image.sum()) / total
    if not share > 0:
        return None
    one = fit_edge(image[None], usable, edge.shared, free=CENTER, prior=edge.amplitudes * share, rounds=2)
    away = float(np.hypot(*(one.shared[:2] - edge.shared[:2])))
    errors = np.sqrt(np.diag(one.covariance)[:2])
    if not (away < max(0.5 * edge.radius, 3.0) and np.all(np.isfinite(errors)) and np.all(errors > 0)):
        return None
    return one


def _from_reflections(patches: Patches, usable: NDArray[np.bool_], scan_shape: tuple[int, int]) -> Geometry:
    grid = patches.numbers.shape
    middle = np.array([(n - 1) / 2 for n in scan_shape])
    whole = reflect(patches.total, usable)
    if not whole.correlation >= _LEAST_INVERSION:
        raise DataError(
            f"no centre: no disc's edge, and the best reflection has a correlation of {whole.correlation:.2f}",
            needed=f"a bright-field disc, or a pattern with inversion symmetry (at least {_LEAST_INVERSION})",
            todo="sum more patterns, or mask what isn't symmetric",
        )
    flat = patches.sums.reshape(-1, *usable.shape)
    centers, sd = np.full((2, len(flat)), np.nan), np.full((2, len(flat)), np.nan)
    if len(flat) == 1:
        centers[:, 0], sd[:, 0] = whole.center, whole.sd
    else:
        for i, image in enumerate(flat):
            if image.sum() > 0:
                one = reflect(image, usable, whole.center)
                centers[:, i], sd[:, i] = one.center, one.sd
    plane = fit_plane(centers, sd, patches.at.reshape(2, -1), middle)
    return Geometry(
        "reflection",
        None,
        whole,
        plane,
        patches.numbers,
        patches.at,
        centers.reshape(2, *grid),
        sd.reshape(2, *grid),
        whole.sd,
    )


def beam_offset(total: Array, usable: NDArray[np.bool_], center: Array) -> float:
    """Return how far the brightest region is from `center`, over its root mean square radius and a pixel."""
    smooth = ndimage.gaussian_filter(np.where(usable, total, 0.0), 1.0)
    labels, _ = ndimage.label(smooth > 0.5 * smooth.max())
    region = np.argwhere(labels == labels[np.unravel_index(int(np.argmax(smooth)), smooth.shape)])
    middle = region.mean(axis=0)
    size = float(np.sqrt(np.mean(np.sum((region - middle) ** 2, axis=1))))
    return float(np.hypot(*(middle - center))) / (size + 1.0)


def geometry_priors(
    found: Geometry, patches: Patches, usable: NDArray[np.bool_], scan: Scan
) -> tuple[PriorCheck, ...]:
    """Check what the geometry stands on: disc, sharp edge, symmetry, plane, no beam stop, no saturation."""
    checks = []
    if found.edge is not None:
        checks += [
            PriorCheck(
                "disc-present", "the pattern falls across the edge of a bright-field disc",
                found.edge.contrast, _LEAST_CONTRAST, ">=", "fall across the edge as a fraction of the inside",
                "check the pattern; spots and rings: method='reflection'",
            ),
            PriorCheck(
                "edge-sharp", "the aperture's edge is sharp",
                float(found.edge.shared[3] / found.edge.radius), 0.1, "<=", "blur of the edge over the radius",
                "focus the diffraction pattern; the radius is less certain than its error bar",
            ),
            PriorCheck(
                "disc-whole", "the whole circle lies on usable pixels",
                float(found.edge.seen), 0.75, ">=", "fraction of the circle seen",
                "a cut disc or a masked edge: centre and radius lean on the part that is seen",
            ),
        ]  # fmt: skip
    if found.reflection is not None:
        away = beam_offset(patches.total, usable, found.reflection.center)
        checks.append(
            PriorCheck(
                "beam-at-centre", "the brightest region lies at the centre of reflection",
                away, 0.5, "<=", "distance between them over the region's radius",
                "the pattern isn't symmetric, or is cut off: this centre isn't the beam's; use method='edge' or mask=",
            )
        )  # fmt: skip
        checks.append(
            PriorCheck(
                "inversion", "the pattern is its own point reflection about the centre",
                found.reflection.correlation, 0.5, ">=", "correlation of the sum with its reflection",
                "a tilted crystal or a beam stop moves this centre; use a disc's edge (method='edge')",
            )
        )  # fmt: skip
    if found.centers[0].size >= 8:
        checks.append(
            PriorCheck(
                "descan-plane", "the centre moves over the scan as a plane",
                float(found.plane.scatter), 2.0, "<=", "robust scatter about the plane in standard errors",
                "use center(scan).positions, pattern by pattern",
            )
        )  # fmt: skip
    few = sample_patterns(scan, 6)
    checks += [
        _beam_stop(found, patches, usable),
        _saturation(patches, few[:, usable], scan.opened.name),
        _counts(few),
    ]
    return tuple(checks)


def _beam_stop(found: Geometry, patches: Patches, usable: NDArray[np.bool_]) -> PriorCheck:
    """A beam stop leaves a part of the disc nearly empty."""
    dark = float("nan")
    if found.edge is not None:
        y, x = (np.arange(n) - c for n, c in zip(usable.shape, found.plane.center, strict=True))
        inside = usable & (
            np.hypot(y[:, None], x[None, :]) < found.edge.radius - 2 * found.edge.shared[3] - 1
        )
        values = patches.total[inside]
        if values.size:
            dark = float(np.mean(values < 0.1 * np.quantile(values, 0.75)))
    return PriorCheck(
        "no-beam-stop", "nothing covers the disc", dark, 0.03, "<=", "fraction of the disc that is nearly empty",
        "pass mask= (True where the detector can be used) to leave the beam stop out",
    )  # fmt: skip


def _saturation(patches: Patches, looked_at: NDArray[Any], name: str) -> PriorCheck:
    """Values at the largest number of their type, or piled up at their largest, are cut off."""
    share = patches.clipped / (float(patches.numbers.sum()) * patches.not_finite.size)
    # counters of 1, 6 or 12 bits are stored in larger types
    piled = find_saturation(looked_at[np.isfinite(looked_at)])
    return PriorCheck(
        "not-saturated", f"no value of {name} is cut off", max(share, piled[0] if piled else 0.0), 1e-5, "<=",
        "fraction of the values at the largest number of the data type, or piled up at the largest of all",
        "less beam, or a shorter exposure",
    )  # fmt: skip


def _counts(looked_at: NDArray[Any]) -> PriorCheck:
    """Counted electrons; the fits don't need them, who reads the result may."""
    counted = judge_counts(looked_at).kind == "counts"
    return PriorCheck(
        "counts", "the values are counted electrons", float(counted), 1.0, ">=", "1 for whole numbers, else 0",
        "averages or scaled values: errors follow the scatter about the model; pass gain= where doses matter",
    )  # fmt: skip


def check_shape(value: Any, scan_shape: tuple[int, int]) -> tuple[int, int]:
    """Return a block size (y, x) that fits the scan.

    Raises
    ------
    DataError
        No positive whole number or pair of them.
    """
    pair = (value, value) if isinstance(value, int | np.integer) else value
    try:
        y, x = (int(v) for v in pair)
    except (TypeError, ValueError):
        raise DataError(
            f"block={value!r}", needed="'auto', a number of positions, or a pair (y, x)"
        ) from None
    if min(y, x) < 1:
        raise DataError(f"block={value!r}", needed="at least 1")
    return min(y, scan_shape[0]), min(x, scan_shape[1])
