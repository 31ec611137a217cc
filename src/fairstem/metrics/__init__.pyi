from ._cramer_rao import cramer_rao as cramer_rao
from ._displacement import AffineRMS as AffineRMS
from ._displacement import DisplacementError as DisplacementError
from ._displacement import affine_rms as affine_rms
from ._displacement import displacement_error as displacement_error
from ._image import psnr as psnr
from ._image import ssim as ssim
from ._positions import PositionMatch as PositionMatch
from ._positions import match_positions as match_positions
from ._retention import Retention as Retention
from ._retention import retention as retention

__all__ = [
    "AffineRMS",
    "DisplacementError",
    "PositionMatch",
    "Retention",
    "affine_rms",
    "cramer_rao",
    "displacement_error",
    "match_positions",
    "psnr",
    "retention",
    "ssim",
]
