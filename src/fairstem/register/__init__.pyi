from ._align import align as align
from ._alignment import Alignment as Alignment
from ._apply import apply as apply
from ._judge.checks import check_floor as check_floor
from ._judge.floor import Floor as Floor
from ._judge.spectrum import TemporalSpectrum as TemporalSpectrum
from ._judge.spectrum import temporal_spectrum as temporal_spectrum
from ._judge.unchanged import check_unchanged as check_unchanged
from ._lattice.lattice_pass import LatticePass as LatticePass
from ._series.motion import DenseMotion as DenseMotion
from ._series.motion import RowMotion as RowMotion
from ._split import SplitCheck as SplitCheck
from ._split import split_check as split_check
from ._store import load as load
from ._store import save as save

__all__ = [
    "Alignment",
    "DenseMotion",
    "Floor",
    "LatticePass",
    "RowMotion",
    "SplitCheck",
    "TemporalSpectrum",
    "align",
    "apply",
    "check_floor",
    "check_unchanged",
    "load",
    "save",
    "split_check",
    "temporal_spectrum",
]
