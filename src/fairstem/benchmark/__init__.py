"""Tasks, suites and radar plots that say where a model works.

Nothing is built here yet; the public names will come as `docs/architecture.md` describes.
"""
