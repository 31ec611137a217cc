"""4D-STEM: geometry of the detector, PACBED, virtual detectors, centre of mass, symmetry."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
