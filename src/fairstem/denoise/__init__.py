"""Denoising: non-local means that keep the defects, variance stabilisation, tensor SVD."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
