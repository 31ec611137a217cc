"""Thickness and tilt from PACBED and CBED patterns.

Nothing is built here yet; the public names will come as `docs/architecture.md` describes.
"""
