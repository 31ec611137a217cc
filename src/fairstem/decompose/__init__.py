"""Tucker decomposition, rank selection, unmixing, clustering.

Nothing is built here yet; the public names will come as `docs/architecture.md` describes.
"""
