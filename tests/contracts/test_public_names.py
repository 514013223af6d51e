"""Public names, docstrings and error messages."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import itertools
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import vanillagan

PACKAGE = Path(vanillagan.__file__).parent
MODULES = [
    "vanillagan",
    *sorted(module.name for module in pkgutil.walk_packages(vanillagan.__path__, "vanillagan.")),
]
# neither has public names of its own
WITH_NAMES = [name for name in MODULES if name not in ("vanillagan._version", "vanillagan.runtime")]
every_module = pytest.mark.parametrize("name", WITH_NAMES)


def parse(name: str) -> ast.Module:
    """The syntax tree of a module of the package."""
    return ast.parse(Path(importlib.import_module(name).__file__).read_text(encoding="utf-8"))


# -- names -----------------------------------------------------------------------------------------


def test_the_public_names_are_those_of_the_design():
    assert set(vanillagan.__all__) == {
        "Generator",
        "Discriminator",
        "ConvGenerator",
        "ConvDiscriminator",
        "BCEAdversarialLoss",
        "HingeLoss",
        "LeastSquaresLoss",
        "WassersteinLoss",
        "RelativisticLoss",
        "R1",
        "R2",
        "GradientPenalty",
        "optimal_discriminator",
        "GANTrainer",
        "Callback",
        "StepResult",
        "Batch",
        "EMA",
        "load_generator",
        "load_discriminator",
        "adam",
        "linear_decay",
        "cosine_decay",
        "recipes",
        "__version__",
    }


@every_module
def test_a_module_lists_its_public_names_and_has_them(name):
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__) > 0
    for public in module.__all__:
        assert hasattr(module, public), public


def test_the_version_is_that_of_the_distribution():
    assert vanillagan.__version__ == importlib.metadata.version("vanillagan")


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()


# -- docstrings ------------------------------------------------------------------------------------


def undocumented(name: str) -> Iterator[str]:
    """Yield what lacks a docstring: classes, functions, and other names in `__all__`."""
    body = parse(name).body
    listed = importlib.import_module(name).__all__
    for node, after in itertools.pairwise([*body, ast.Pass()]):
        if isinstance(node, ast.Assign | ast.AnnAssign) and not is_text(after):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (ast.unparse(target) for target in targets if ast.unparse(target) in listed)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            missing = undocumented_in(node, node.name)
            yield from (name for name in missing if node.name in listed or name == node.name)


def is_text(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def undocumented_in(node: ast.ClassDef | ast.FunctionDef, name: str) -> Iterator[str]:
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    elsewhere = {"overload", "override", f"{node.name}.setter"} & set(decorators)
    if node.name.startswith("_") or elsewhere:
        return
    if ast.get_docstring(node) is None:
        yield name
    if isinstance(node, ast.ClassDef):
        for inner in node.body:
            if isinstance(inner, ast.ClassDef | ast.FunctionDef):
                yield from undocumented_in(inner, f"{name}.{inner.name}")


@every_module
def test_every_public_name_has_a_docstring(name):
    assert ast.get_docstring(parse(name))
    assert list(undocumented(name)) == []


@pytest.mark.parametrize("name", sorted(set(vanillagan.__all__) - {"__version__"}))
def test_a_top_level_name_is_explained_beyond_a_summary(name):
    summary, _, explanation = inspect.getdoc(getattr(vanillagan, name)).partition("\n\n")
    assert summary.endswith((".", ")"))
    assert explanation.strip()
