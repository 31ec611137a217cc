# Files are private (`_com.py`): a module `com` would hide the function `com` as soon as it is imported.
from ._calibrate import calibrate as calibrate
from ._cells.unit_cells import UnitCells as UnitCells
from ._cells.unit_cells import find_unit_cells as find_unit_cells
from ._center import PatternCenters as PatternCenters
from ._center import center as center
from ._com import com as com
from ._dpc import dpc as dpc
from ._field.deflection import CenterOfMass as CenterOfMass
from ._field.rotation import ScanRotation as ScanRotation
from ._geometry import Calibration as Calibration
from ._pacbed import pacbed as pacbed
from ._pacbed import pacbeds as pacbeds
from ._pairs.maps import SymmetryMaps as SymmetryMaps
from ._symmetry import symmetry as symmetry
from ._virtual import virtual_image as virtual_image
from ._virtual import virtual_images as virtual_images

__all__ = [
    "Calibration",
    "CenterOfMass",
    "PatternCenters",
    "ScanRotation",
    "SymmetryMaps",
    "UnitCells",
    "calibrate",
    "center",
    "com",
    "dpc",
    "find_unit_cells",
    "pacbed",
    "pacbeds",
    "symmetry",
    "virtual_image",
    "virtual_images",
]
