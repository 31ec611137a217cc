from .axes import Axis as Axis
from .axes import normalise_unit as normalise_unit
from .calibration import check_signal as check_signal
from .counting import Counting as Counting
from .counting import judge_counts as judge_counts
from .detector import Gain as Gain
from .detector import noise_of as noise_of
from .detector import noise_priors as noise_priors
from .door import Opened as Opened
from .door import open_data as open_data
from .findings import Finding as Finding
from .findings import warn_findings as warn_findings
from .image_check import ImageCheck as ImageCheck
from .image_check import find_saturation as find_saturation
from .image_check import validate_image as validate_image
from .making import make_signal as make_signal
from .making import save as save
from .noise import NoiseModel as NoiseModel
from .noise import estimate_noise as estimate_noise
from .provenance import Step as Step
from .provenance import sha256 as sha256
from .provenance import steps_of as steps_of
from .reading import load as load
from .scan_signal import make_scan as make_scan
from .scans import scan_from_frames as scan_from_frames
from .stacking import stack as stack
from .summary import describe as describe

__all__ = [
    "Axis",
    "Counting",
    "Finding",
    "Gain",
    "ImageCheck",
    "NoiseModel",
    "Opened",
    "Step",
    "check_signal",
    "describe",
    "estimate_noise",
    "find_saturation",
    "judge_counts",
    "load",
    "make_scan",
    "make_signal",
    "noise_of",
    "noise_priors",
    "normalise_unit",
    "open_data",
    "save",
    "scan_from_frames",
    "sha256",
    "stack",
    "steps_of",
    "validate_image",
    "warn_findings",
]
