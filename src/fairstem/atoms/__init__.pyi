from ._bond_changes import bond_changes as bond_changes
from ._bonds import bond_spread as bond_spread
from ._bonds import bonds as bonds
from ._calibration import ScanCalibration as ScanCalibration
from ._displacement import displacement as displacement
from ._displacement import polarisation as polarisation
from ._displacement import strain as strain
from ._find import find as find
from ._lattice import Lattice as Lattice
from ._lattice import lattice as lattice
from ._neighbours import neighbours as neighbours
from ._refine import refine as refine
from ._sublattices import sublattices as sublattices
from ._support import Support as Support
from ._support import support as support

__all__ = [
    "Lattice",
    "ScanCalibration",
    "Support",
    "bond_changes",
    "bond_spread",
    "bonds",
    "displacement",
    "find",
    "lattice",
    "neighbours",
    "polarisation",
    "refine",
    "strain",
    "sublattices",
    "support",
]
