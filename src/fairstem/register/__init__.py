"""Distortion correction of image series by registration: rigid, row-wise, dense.

Nothing is built here yet; the public names will come as `docs/architecture.md` describes.
"""
