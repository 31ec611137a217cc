"""Electrons and atoms: their interaction, and the scattering factors of the elements."""

from __future__ import annotations

from functools import cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError, MissingDependencyError
from fairstem.signals.electrons import wavelength_nm
from fairstem.simulate._crystals import SYMBOLS

__all__ = ["lorentz_factor", "scattering_factor"]

Parameters = tuple[tuple[float, ...], tuple[float, ...]]

_REST_KEV = 510.99895  # m c² of the electron

# a (Å) and b (Å²) of f(g) = sum a (2 + b g²) / (1 + b g²)², for the elements of the crystals known by name
_LOBATO: dict[str, Parameters] = {
    "O": (
        (29.9474045242362, -77.6101266255278, 99.8817764623144, -51.2127005505673, 0.00819618954446032),
        (1.3028398788001, 1.15794105258309, 1.00988549338025, 0.943327971433266, 0.0433197611321825),
    ),
    "Mg": (
        (4.85501047687149, -2.66220906476843, 0.478001236085108, -0.0702307064692064, 0.00398905828104019),
        (5.94639273842456, 4.17130312520697, 0.398269808150374, 0.161886185837474, 0.0195345056363103),
    ),
    "Al": (
        (2.83409561607507, -4.28004133378261, 4.42191680548311, -0.03457744718964, 0.00352385941406079),
        (6.66235023980533, 0.551294722224021, 0.509328963445973, 0.111784837425331, 0.0167602351805257),
    ),
    "Si": (
        (2.87189142611612, -2.06173501195173, 2.17114024204478, -0.0663073633058801, 0.00301070709670513),
        (5.08487103642989, 0.429178185305126, 0.366485434192162, 0.119710611296903, 0.0143994536128397),
    ),
    "Ti": (
        (8.57595775238129, -210.331563465304, 206.097172601541, 0.0477773948977261, 0.00050571648448032),
        (6.00780668875581, 2.60285856745213, 2.55352345051105, 0.0711429484024153, 0.00485628439383726),
    ),
    "Cu": (
        (1.75207145212145, -43.0410523492124, 44.0705915543573, 0.0186876154088144, 0.00020172732479162),
        (6.18750497986187, 1.00266263628976, 0.98538431135303, 0.0302984703916117, 0.00255855598748879),
    ),
    "Sr": (
        (4.77092509299826, 1.47597850155283, 0.304451355544188, 0.00359474981916728, 3.0008554923e-07),
        (13.3668881330412, 1.33738379577196, 0.177532369437782, 0.00779105033001826, 0.00028225513964854),
    ),
    "Au": (
        (1.6759346706487, 3.00486602969729, 0.595340013161635, 0.0117163186623094, 4.296782976398e-05),
        (5.52231093211402, 1.38007223007196, 0.162229237655945, 0.00901814890416575, 0.00037927766747767),
    ),
}


def lorentz_factor(energy_kev: float) -> float:
    """Return the relativistic mass over the rest mass of electrons of `energy_kev` keV.

    Examples
    --------
    >>> round(lorentz_factor(200), 4)
    1.3914
    """
    wavelength_nm(energy_kev)  # checks the energy
    return 1 + float(energy_kev) / _REST_KEV


def scattering_factor(number: int, g_per_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the electron scattering factor of a neutral, resting atom in nm (rest mass, first Born).

    The phase of a wave that passes the atom has the Fourier coefficients γ λ f(g) / area, γ being `lorentz_factor`.

    Parameters
    ----------
    number
        Atomic number.
    g_per_nm
        Spatial frequencies 1/d in 1/nm, any shape.

    Raises
    ------
    DataError
        No such element.
    MissingDependencyError
        The element isn't in a crystal known by name and abTEM (extra ``simulate``) isn't installed.

    References
    ----------
    Lobato & Van Dyck, Acta Cryst. A 70 (2014) 636, doi:10.1107/S205327331401643X.

    Examples
    --------
    >>> import numpy as np
    >>> scattering_factor(14, np.array([0.0, 5.0])).round(3)  # silicon
    array([0.584, 0.197])
    """
    a, b = _parameters(int(number))
    g2 = (np.asarray(g_per_nm, dtype=float) / 10) ** 2
    total = np.zeros_like(g2)
    for height, width in zip(a, b, strict=True):
        total += height * (2 + width * g2) / (1 + width * g2) ** 2
    return np.asarray(total / 10)


@cache
def _parameters(number: int) -> Parameters:
    if not 1 <= number <= len(SYMBOLS):
        raise DataError(f"atomic number {number}", needed=f"1 to {len(SYMBOLS)}")
    symbol = SYMBOLS[number - 1]
    return _LOBATO[symbol] if symbol in _LOBATO else _from_abtem(symbol)


def _from_abtem(symbol: str) -> Parameters:
    """The one place that asks abTEM for an element that isn't in the table here."""
    try:
        from abtem.parametrizations import LobatoParametrization
    except ImportError:
        raise MissingDependencyError(
            f"scattering factors of {symbol} are not built in ({', '.join(_LOBATO)} are)",
            needed="abTEM, which has those of all elements",
            todo="pip install 'fairstem[simulate]'",
        ) from None
    known = LobatoParametrization().parameters
    if symbol not in known:
        raise DataError(f"no scattering factors for {symbol}", needed="an element up to lawrencium")
    a, b = np.asarray(known[symbol], dtype=float)
    return cast(Parameters, (tuple(a.tolist()), tuple(b.tolist())))
