"""fairstem: numbers with error bars from scanning transmission electron microscopy.

The public names are listed in ``__init__.pyi``; everything is imported on first use.
"""

import lazy_loader as _lazy

from fairstem._version import __version__ as __version__

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
