"""Sphinx configuration."""

import dataclasses
import re
import shutil
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.domains.python import PyObject
from sphinx.util.inspect import TypeAliasForwardRef

import vanillagan
from vanillagan.callback import HOOKS, Callback

project = "vanillagan"
author = copyright = "vanillagan developers"
release = version = vanillagan.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = f"vanillagan {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
templates_path = ["_templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/language.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
myst_enable_extensions = ["amsmath", "dollarmath"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
nb_execution_mode = "off"

# -- reference -------------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "both"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
TYPE_ALIASES = (
    "Counts",
    "Critic",
    "Degradation",
    "LRFactor",
    "Labels",
    "LatentSampler",
    "MaskSampler",
    "OptimizerFactory",
    "Text",
)
autodoc_type_aliases = {alias: alias for alias in TYPE_ALIASES} | {"Array": "numpy.ndarray"}
# in a union Sphinx shows the representation of an alias
TypeAliasForwardRef.__repr__ = lambda self: self.name
python_maximum_signature_line_length = 72
python_display_short_literal_types = True
napoleon_use_ivar = True
napoleon_use_rtype = False
toc_object_entries_show_parents = "hide"
default_role = "name"

# Inventories of the few names that the reference links to, so that the build needs no internet:
# the text format, version 1, in which a name is its own anchor.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3/", "inventories/python.txt"),
    "numpy": ("https://numpy.org/doc/stable/", "inventories/numpy.txt"),
    "torch": ("https://docs.pytorch.org/docs/stable/", "inventories/torch.txt"),
}

FORGE = "https://github.com/vanillagan/vanillagan/blob/main/"
DOCS = Path(__file__).parent
# Sphinx reads only files in its folder
shutil.copy2(DOCS.parent / "examples" / "first_gan.ipynb", DOCS / "start" / "notebook.ipynb")


def link_pages(app, docname, source):
    """Replace links to the forge that have a page here: pages, and the notebook."""
    text = source[0].replace(f"{FORGE}examples/first_gan.ipynb", "/start/notebook.ipynb")
    source[0] = text.replace(f"({FORGE}docs/", "(/")


def link_translation(app, pagename, templatename, context, doctree):
    """Link a page to itself in the other language, for `_templates/sidebar/language.html`."""
    english = pagename.removeprefix("zh/")
    if pagename == english:
        other = {"page": f"zh/{english}", "code": "zh-CN", "name": "中文"}
    else:
        other = {"page": english, "code": "en", "name": "English"}
    context["translation"] = other if other["page"] in app.env.found_docs else None


def name_role(role, source, text, line, inliner, options=None, content=None):
    """Set text in backticks as code, with a link if it is the name of a documented object."""
    environment = inliner.document.settings.env
    code = nodes.literal(source, text, classes=["code"])
    name = re.fullmatch(r"([A-Za-z_][\w.]*)(\(\))?", text)
    if name is None:
        return [code], []
    link = addnodes.pending_xref(
        source,
        code,
        refdomain="py",
        reftype="obj",
        reftarget=name[1],
        refdoc=environment.docname,
        **{f"py:{key}": environment.ref_context.get(f"py:{key}") for key in ("module", "class")},
    )
    return [link], []


COLON = "\ue000"
"""Character that stands for a colon while napoleon reads a docstring."""

PUBLIC_NAMES = (
    (r"torch\.nn\.modules\.\w+\.(\w+)", r"torch.nn.\1"),
    (r"nn\.(\w+)", r"torch.nn.\1"),
    (r"torch\.distributions\.(\w+)", r"torch.distributions.distribution.\1"),
    (r"torch\.optim\.optimizer\.(\w+)", r"torch.optim.\1"),
    (r"torch\.utils\.data\.\w+\.(\w+)", r"torch.utils.data.\1"),
    (r"torch\._C\.(\w+)", r"torch.\1"),
    (r"(Dataset|DataLoader|TensorDataset)", r"torch.utils.data.\1"),
    (r"(LRScheduler|ReduceLROnPlateau)", r"torch.optim.lr_scheduler.\1"),
    (r"Optimizer", "torch.optim.Optimizer"),
    (r"Tensor", "torch.Tensor"),
    (r"trainer\.(\w+)", r"GANTrainer.\1"),
)
"""Patterns of names as PyTorch defines or as docstrings say them, with the documented ones."""


def use_public_name(app, environment, link, contents):
    """Replace the name of a link that was not found; later handlers look for the new one."""
    for pattern, public in PUBLIC_NAMES:
        if re.fullmatch(pattern, link["reftarget"]):
            link["reftarget"] = re.sub(pattern, public, link["reftarget"])
            return


def link_short_name(app, environment, link, contents):
    """Link `GANTrainer` and `GANTrainer.fit` to what is documented as `vanillagan.GANTrainer`."""
    if link.get("refdomain") != "py":
        return None
    domain, target = environment.get_domain("py"), link["reftarget"]
    if target.startswith("vanillagan."):  # where it is defined, not where it is imported from
        target = target.rpartition(".")[2]
    found = [
        name
        for name, entry in domain.objects.items()
        if not entry.aliased
        and name.endswith(f".{target}")
        and ("." in target or entry.objtype not in ("attribute", "method", "property"))
    ]
    if len(found) != 1:
        return None
    return domain.resolve_xref(
        environment, link["refdoc"], app.builder, "obj", found[0], link, contents
    )


def hide_protocol_signature(app, what, name, object_, options, signature, returns):
    """Hide the meaningless `(*args, **kwargs)` of a protocol."""
    return ("", None) if getattr(object_, "_is_protocol", False) else None


def skip_repeated(app, what, name, object_, skip, options):
    """Leave out hooks, which `Callback` documents, and fields of named tuples."""
    inherited = name in HOOKS or name in ("state_dict", "load_state_dict")
    owner = getattr(object_, "__qualname__", "").rpartition(".")[0]
    field = (getattr(object_, "__doc__", None) or "").startswith("Alias for field number")
    return True if field or (inherited and owner != Callback.__name__) else None


def prepare_docstring(app, what, name, object_, options, lines):
    """Adapt a docstring to napoleon and to reStructuredText, in which `*` and `|` are markup."""
    if what == "class":
        if dataclasses.is_dataclass(object_) or hasattr(object_, "_fields"):
            lines[:] = ["Args:" if line == "Attributes:" else line for line in lines]
        # properties have an entry of their own
        text = "\n".join(lines)
        for attribute in re.findall(r"^    (\w+): ", text, re.MULTILINE):
            if isinstance(getattr(object_, attribute, None), property):
                text = re.sub(rf"\n    {attribute}: .*(\n     .*)*", "", text)
        text = re.sub(r"\n    \w+: As above\.", "", text)  # as in the arguments
        lines[:] = re.sub(r"\nAttributes:\n(?!    )", "", text).split("\n")
    elif what in ("attribute", "data", "property"):
        # napoleon takes the words before a colon for a type
        lines[:1] = [lines[0].replace(":", COLON)]
    for number, line in enumerate(lines):
        if lines[number - 1].strip() == "Returns:":
            line = line.replace(": ", f"{COLON} ")
        if not line.lstrip().startswith((">>>", "...")):
            pieces = line.split("`")
            pieces[::2] = [piece.translate({42: r"\*", 124: r"\|"}) for piece in pieces[::2]]
            lines[number] = "`".join(pieces)


def restore_colon(app, what, name, object_, options, lines):
    """Undo the replacement in `prepare_docstring`."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


def setup(app):
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # not "Variables"
    app.add_role("name", name_role)
    app.connect("autodoc-process-docstring", prepare_docstring, priority=1)
    app.connect("autodoc-process-docstring", restore_colon, priority=900)  # after napoleon
    app.connect("autodoc-process-signature", hide_protocol_signature)
    app.connect("autodoc-skip-member", skip_repeated)
    app.connect("missing-reference", use_public_name, priority=1)  # before intersphinx
    app.connect("missing-reference", link_short_name)
    app.connect("source-read", link_pages)
    app.connect("html-page-context", link_translation)
