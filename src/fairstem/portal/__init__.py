"""The web portal and the HTTP endpoint.

Nothing is built here yet; the public names will come as `docs/architecture.md` describes.
"""
