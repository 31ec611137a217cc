from ._nonlocal import nonlocal_means as nonlocal_means
from ._nonlocal import separate as separate
from ._separation import Separation as Separation

__all__ = ["Separation", "nonlocal_means", "separate"]
