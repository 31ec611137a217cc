"""Denoising: what repeats in an image is averaged, what does not is kept."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
