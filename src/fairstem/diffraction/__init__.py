"""4D-STEM: calibration, PACBED, virtual detectors, symmetry.

Nothing is built here yet; the public names will come as `docs/architecture.md` describes.
"""
