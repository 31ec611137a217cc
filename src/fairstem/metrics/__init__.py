"""Scores of images, positions and displacements, and the bounds they can be held against."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
