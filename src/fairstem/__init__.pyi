"""The public API of fairstem on one page.

Topics that exist now are packages of their own; their names are on the page of the same kind in each
(``fairstem/atoms/__init__.pyi`` and so on).
"""

from . import atoms as atoms
from . import compute as compute
from . import data as data
from . import denoise as denoise
from . import diffraction as diffraction
from . import errors as errors
from . import metrics as metrics
from . import plot as plot
from . import priors as priors
from . import register as register
from . import signals as signals
from . import simulate as simulate
from ._version import __version__ as __version__
from .priors import PriorCheck as PriorCheck
from .signals.reading import load as load

__all__ = [
    "PriorCheck",
    "__version__",
    "atoms",
    "compute",
    "data",
    "denoise",
    "diffraction",
    "errors",
    "load",
    "metrics",
    "plot",
    "priors",
    "register",
    "signals",
    "simulate",
]
