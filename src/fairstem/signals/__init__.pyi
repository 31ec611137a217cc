from .axes import Axis as Axis
from .axes import normalise_unit as normalise_unit
from .door import Opened as Opened
from .door import open_data as open_data
from .provenance import Step as Step
from .provenance import sha256 as sha256
from .provenance import steps_of as steps_of

__all__ = ["Axis", "Opened", "Step", "normalise_unit", "open_data", "sha256", "steps_of"]
