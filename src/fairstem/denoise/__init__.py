"""Denoising: variance stabilisation, non-local means, tensor SVD, Poisson PCA.

Nothing is built here yet; the public names will come as `docs/architecture.md` describes.
"""
