"""Sphinx configuration."""

import vanillagan

project = "vanillagan"
author = copyright = "vanillagan developers"
release = version = vanillagan.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"vanillagan {release}"
myst_enable_extensions = ["amsmath", "dollarmath"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_ivar = True
napoleon_use_rtype = False
default_role = "code"


def escape_formulas(app, what, name, object_, options, lines):
    """Escape * and | outside of code: docstrings are plain text with code in backticks."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            pieces = line.split("`")
            pieces[::2] = [piece.translate({42: r"\*", 124: r"\|"}) for piece in pieces[::2]]
            lines[number] = "`".join(pieces)


def setup(app):
    app.connect("autodoc-process-docstring", escape_formulas, priority=1)
