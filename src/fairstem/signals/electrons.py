"""The electrons of the beam: their wavelength, and the energy that a file states."""

from __future__ import annotations

import math

from fairstem.errors import CalibrationError
from fairstem.signals.door import Opened

__all__ = ["beam_energy_kev", "wavelength_nm"]

_REST_KEV = 510.99895
_HC_KEV_NM = 1.239841984


def wavelength_nm(energy_kev: float) -> float:
    """Return the relativistic wavelength of electrons in nm.

    Parameters
    ----------
    energy_kev
        Energy of the beam in keV.

    Raises
    ------
    CalibrationError
        The energy is no number, or absurd: below 1 or above 3000 keV (given in eV?).

    Examples
    --------
    >>> round(1000 * wavelength_nm(200), 3)  # pm
    2.508
    """
    try:
        energy = float(energy_kev)
    except (TypeError, ValueError):
        energy = math.nan
    if not 1 <= energy <= 3000:
        raise CalibrationError(
            f"energy_kev={energy_kev!r}", needed="an energy between 1 and 3000 keV", todo="divide eV by 1000"
        )
    return _HC_KEV_NM / math.sqrt(energy * (2 * _REST_KEV + energy))


def beam_energy_kev(opened: Opened) -> float | None:
    """Return the energy of the beam in keV that a signal's metadata state; None where they don't."""
    if opened.kind != "hyperspy":
        return None
    stored = opened.source.metadata.get_item("Acquisition_instrument.TEM.beam_energy", default=None)
    return None if stored is None else float(stored)
