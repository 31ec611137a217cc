"""Benchmarks: what fairstem costs and how well it does, beside its peers, on the same data in the same run.

``make bench`` runs every topic; ``make bench TOPIC="imports refine"`` the named ones. A topic is a
module with ``TITLE`` and ``run() -> list[Table]``. Tables are stored as ``results/<topic>.json`` and
``RESULTS.md`` is generated from these files, never typed.
"""

TOPICS = ("imports", "memory", "refine", "register", "denoise", "diffraction", "real")
