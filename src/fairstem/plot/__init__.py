"""Figures and reports from results: functions take ``ax=``, return artists, never call show.

matplotlib is imported when a figure is drawn, not before. Colours are told apart by readers with
any colour vision; scale bars come from the calibration.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
