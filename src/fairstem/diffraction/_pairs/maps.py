"""The result of symmetry STEM: one map per operation, with its standard error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.signals import make_signal

__all__ = ["SymmetryMaps"]

What = Literal["gamma", "standard_error"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SymmetryMaps:
    """How symmetric every diffraction pattern of a scan is; made by `symmetry`.

    Parameters
    ----------
    operations
        Names of the operations, in the order of the first axis.
    gamma
        ``(operation, scan_y, scan_x)`` (fewer scan axes for a line or one pattern): correlation of a pattern with
        its image; 1 where the operation is a symmetry. An unbiased estimate: noise can take it above 1, and it is
        not cut. 0 where `valid` is False.
    standard_error
        Of `gamma`, same shape; infinite where `valid` is False. None with ``noise=None``: without a model of the
        noise nothing is known of it.
    valid
        Same shape; False where the pattern has no counts, or no contrast significantly above its counting noise.
    n_pixels
        ``(operation,)``: pixels that are compared in the central pattern.
    shift
        ``(operation, 2, scan_y, scan_x)``: the shift (y, x) of the centre in px that was chosen; None without search.
    priors
        The assumptions and whether the data support them.

    Examples
    --------
    >>> import numpy as np
    >>> from fairstem.diffraction import symmetry
    >>> y, x = np.indices((32, 32)) - 15.5
    >>> maps = symmetry(np.random.default_rng(0).poisson(40 * np.exp(-(y**2 + 2 * x**2) / 50), (3, 4, 32, 32)))
    >>> maps.map("C4").shape
    (3, 4)
    """

    operations: tuple[str, ...]
    gamma: Floats
    standard_error: Floats | None
    valid: NDArray[np.bool_]
    n_pixels: NDArray[np.int64]
    shift: Floats | None = None
    priors: tuple[PriorCheck, ...] = ()
    template: Any = field(default=None, repr=False, compare=False)

    def map(self, operation: str, what: What = "gamma") -> Floats:
        """Return the map of one operation.

        Parameters
        ----------
        operation
            Its name, as it was asked for.
        what
            ``"gamma"`` or ``"standard_error"``.

        Returns
        -------
        numpy.ndarray
            ``(scan_y, scan_x)``.

        Raises
        ------
        DataError
            The operation was not computed, or there is no standard error.
        """
        if operation not in self.operations:
            raise DataError(
                f"no map of {operation!r}",
                needed=f"one of {', '.join(self.operations)}",
                todo="ask symmetry for it",
            )
        return np.asarray(self._values(what)[self.operations.index(operation)])

    def as_signal(self, what: What = "gamma") -> Any:
        """Return the maps as a HyperSpy signal: images of the scan, stacked along the operations.

        Parameters
        ----------
        what
            ``"gamma"`` or ``"standard_error"``.

        Returns
        -------
        hyperspy signal
            From a HyperSpy scan: its scan axes, metadata and provenance, lazy if the scan was. From arrays: without
            calibration.

        Raises
        ------
        DataError
            There is no standard error, or a single pattern was given as an array.
        """
        values = self._values(what)
        if self.template is None:
            return make_signal(values, title=f"symmetry ({what}): {', '.join(self.operations)}")
        like = self.template.data
        return self.template._deepcopy_with_new_data(np.asarray(values, like=like))

    def _values(self, what: str) -> Floats:
        if what == "gamma":
            return self.gamma
        if what != "standard_error":
            raise DataError(f"what={what!r}", needed="'gamma' or 'standard_error'")
        if self.standard_error is None:
            raise DataError(
                "maps without standard error (noise=None)", todo='use noise="poisson" on raw counts'
            )
        return self.standard_error
