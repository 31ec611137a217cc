# Files are private (`_com.py`): a module `com` would hide the function `com` as soon as it is imported.
from ._com import com as com
from ._deflection import CenterOfMass as CenterOfMass
from ._dpc import dpc as dpc
from ._geometry import Calibration as Calibration
from ._rotation import ScanRotation as ScanRotation
from ._virtual import virtual_image as virtual_image
from ._virtual import virtual_images as virtual_images

__all__ = [
    "Calibration",
    "CenterOfMass",
    "ScanRotation",
    "com",
    "dpc",
    "virtual_image",
    "virtual_images",
]
