"""Sphinx configuration: `make docs`."""

import re

import fairstem

project = "fairstem"
author = "The fairstem developers"
copyright = author
release = version = fairstem.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "fairstem"
html_static_path: list[str] = []
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# the API pages are one page a package: every public name in the order of its __all__
autodoc_typehints = "none"  # numpydoc's sections say the types' meaning; signatures stay readable
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
# Sphinx cannot resolve short type names in "Returns"; leave them as plain text
numpydoc_xref_param_type = False


def escape_bars(app, what, name, obj, options, lines):  # noqa: ARG001
    """Let |a| in a docstring be a length, not a substitution of reStructuredText."""
    lines[:] = [re.sub(r"(?<!`)\|(\w+)\|(?!`)", r"\\|\1\\|", line) for line in lines]


def setup(app):
    """Connect the events."""
    app.connect("autodoc-process-docstring", escape_bars)
