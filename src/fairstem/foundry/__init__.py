"""FAIR data sets and models: publish, find, load, run.

Nothing is built here yet; the public names will come as `docs/architecture.md` describes.
"""
