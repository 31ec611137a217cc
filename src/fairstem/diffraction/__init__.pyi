# Files are private (`_com.py`): a module `com` would hide the function `com` as soon as it is imported.
from ._geometry import Calibration as Calibration

__all__ = ["Calibration"]
