"""Atom columns of an image: find them, measure them, fit their lattice, list their bonds."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
