"""Facts: the symbols of the elements, and the crystals known by name (cell, sites, thermal factors)."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CRYSTALS", "SYMBOLS", "Crystal", "atomic_number"]

SYMBOLS = (  # noqa: SIM905
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr"
).split()


def atomic_number(symbol: str) -> int:
    """Return the atomic number of a chemical symbol; raises ValueError when there is no such element."""
    return SYMBOLS.index(symbol) + 1


class Crystal(NamedTuple):
    """A crystal known by name, in its conventional cell with edges along x, y, z."""

    cell_nm: tuple[float, float, float]
    sites: tuple[tuple[str, float, float, float], ...]
    b_angstrom2: dict[str, float]
    source: str


_FCC = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))


def _fcc(*basis: tuple[str, float, float, float]) -> tuple[tuple[str, float, float, float], ...]:
    return tuple(
        (symbol, (x + dx) % 1, (y + dy) % 1, (z + dz) % 1) for symbol, x, y, z in basis for dx, dy, dz in _FCC
    )


def _perovskite(a: str, b: str, x: str) -> tuple[tuple[str, float, float, float], ...]:
    return ((a, 0, 0, 0), (b, 0.5, 0.5, 0.5), (x, 0.5, 0.5, 0), (x, 0.5, 0, 0.5), (x, 0, 0.5, 0.5))


_U = 0.3048  # the oxygen parameter of rutile

# Thermal factors are for room temperature, rounded to what the literature agrees on (about 0.05 Å²); where a factor is
# anisotropic, its mean stands.
CRYSTALS: dict[str, Crystal] = {
    "SrTiO3": Crystal(
        (0.3905, 0.3905, 0.3905),
        _perovskite("Sr", "Ti", "O"),
        {"Sr": 0.62, "Ti": 0.44, "O": 0.73},
        "Abramov, Tsirelson, Zavodnik, Ivanov & Brown, Acta Cryst. B 51 (1995) 942, 10.1107/S0108768195003752",
    ),
    "MgO": Crystal(
        (0.4212, 0.4212, 0.4212),
        _fcc(("Mg", 0, 0, 0), ("O", 0.5, 0, 0)),
        {"Mg": 0.31, "O": 0.34},
        "Lawrence, Acta Cryst. A 29 (1973) 94",
    ),
    "TiO2": Crystal(
        (0.4594, 0.4594, 0.2959),
        (
            ("Ti", 0, 0, 0),
            ("Ti", 0.5, 0.5, 0.5),
            ("O", _U, _U, 0),
            ("O", 1 - _U, 1 - _U, 0),
            ("O", 0.5 + _U, 0.5 - _U, 0.5),
            ("O", 0.5 - _U, 0.5 + _U, 0.5),
        ),
        {"Ti": 0.46, "O": 0.40},
        "rutile; Howard, Sabine & Dickson, Acta Cryst. B 47 (1991) 462, 10.1107/S010876819100335X",
    ),
    "Si": Crystal(
        (0.5431, 0.5431, 0.5431),
        _fcc(("Si", 0, 0, 0), ("Si", 0.25, 0.25, 0.25)),
        {"Si": 0.46},
        "Aldred & Hart, Proc. R. Soc. A 332 (1973) 239",
    ),
    "Al": Crystal(
        (0.40495, 0.40495, 0.40495),
        _fcc(("Al", 0, 0, 0)),
        {"Al": 0.86},
        "Butt, Bashir, Willis & Heger, Acta Cryst. A 44 (1988) 396",
    ),
    "Cu": Crystal(
        (0.36149, 0.36149, 0.36149),
        _fcc(("Cu", 0, 0, 0)),
        {"Cu": 0.55},
        "Butt, Bashir, Willis & Heger, Acta Cryst. A 44 (1988) 396",
    ),
    "Au": Crystal(
        (0.40782, 0.40782, 0.40782),
        _fcc(("Au", 0, 0, 0)),
        {"Au": 0.62},
        "Butt, Bashir, Willis & Heger, Acta Cryst. A 44 (1988) 396",
    ),
}
