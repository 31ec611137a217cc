from ._align import align as align
from ._alignment import Alignment as Alignment
from ._apply import apply as apply
from ._floor import Floor as Floor
from ._split import SplitCheck as SplitCheck
from ._split import split_check as split_check
from ._store import load as load
from ._store import save as save

__all__ = ["Alignment", "Floor", "SplitCheck", "align", "apply", "load", "save", "split_check"]
