"""The version of fairstem."""

__version__ = "0.1.0.dev0"
