from . import numbers as numbers
from . import report as report
from . import style as style
from ._bonds import bonds as bonds
from ._columns import columns as columns
from ._denoising import crystal_share as crystal_share
from ._denoising import deviations as deviations
from ._denoising import kept as kept
from ._denoising import put_back as put_back
from ._denoising import structure_left as structure_left
from ._diffraction import com as com
from ._diffraction import pattern as pattern
from ._displacement import displacement as displacement
from ._distributions import error_bars as error_bars
from ._distributions import histogram as histogram
from ._image import image as image
from ._image import residual as residual
from ._image import scale_bar as scale_bar
from ._lattice import lattice as lattice
from ._registration import before_after as before_after
from ._registration import chi2_map as chi2_map
from ._registration import contrast_part as contrast_part
from ._registration import floor as floor
from ._registration import samples as samples
from ._symmetry import symmetry_comparison as symmetry_comparison
from ._symmetry import symmetry_limits as symmetry_limits
from ._symmetry import symmetry_maps as symmetry_maps
from ._traces import spectrum as spectrum
from ._traces import traces as traces
from .report import Report as Report
from .style import figure as figure
from .style import to_png as to_png

__all__ = [
    "Report",
    "before_after",
    "bonds",
    "chi2_map",
    "columns",
    "com",
    "contrast_part",
    "crystal_share",
    "deviations",
    "displacement",
    "error_bars",
    "figure",
    "floor",
    "histogram",
    "image",
    "kept",
    "lattice",
    "numbers",
    "pattern",
    "put_back",
    "report",
    "residual",
    "samples",
    "scale_bar",
    "spectrum",
    "structure_left",
    "style",
    "symmetry_comparison",
    "symmetry_limits",
    "symmetry_maps",
    "to_png",
    "traces",
]
