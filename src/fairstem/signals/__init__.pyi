from .axes import Axis as Axis
from .axes import normalise_unit as normalise_unit
from .door import Opened as Opened
from .door import open_data as open_data
from .findings import Finding as Finding
from .findings import warn_findings as warn_findings
from .image_check import ImageCheck as ImageCheck
from .image_check import find_saturation as find_saturation
from .image_check import validate_image as validate_image
from .provenance import Step as Step
from .provenance import sha256 as sha256
from .provenance import steps_of as steps_of

__all__ = [
    "Axis",
    "Finding",
    "ImageCheck",
    "Opened",
    "Step",
    "find_saturation",
    "normalise_unit",
    "open_data",
    "sha256",
    "steps_of",
    "validate_image",
    "warn_findings",
]
