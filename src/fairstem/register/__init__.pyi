from ._align import align as align
from ._alignment import Alignment as Alignment
from ._floor import Floor as Floor

__all__ = ["Alignment", "Floor", "align"]
