"""fairstem: numbers with error bars from scanning transmission electron microscopy."""

from fairstem._version import __version__ as __version__
