"""How things run: blocks with a byte budget, reductions, devices, progress, outputs that are whole or absent.

The only package that knows Dask and accelerators. Importing it imports neither Dask nor torch.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
