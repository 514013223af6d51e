"""What a user imports: which names there are, what importing costs, docstrings, error messages."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import itertools
import math
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vanillagan
from vanillagan import errors

PACKAGE = Path(vanillagan.__file__).parent
MODULES = [
    "vanillagan",
    *sorted(module.name for module in pkgutil.walk_packages(vanillagan.__path__, "vanillagan.")),
]
every_module = pytest.mark.parametrize("name", MODULES)


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


# -- imports ---------------------------------------------------------------------------------------

OPTIONAL = [
    *("torchvision", "matplotlib", "tqdm", "mlxtend", "tensorboard", "PIL", "scipy"),
    *("sklearn", "skimage"),
]


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_importing_the_library_imports_nothing_optional():
    """Beyond what torch itself imports."""
    code = f"""
import sys, torch
for name in {OPTIONAL}:
    sys.modules.pop(name, None)
import vanillagan, vanillagan.theory, vanillagan.losses
print([name for name in {OPTIONAL} if name in sys.modules])
"""
    assert run(code).strip() == "[]"


def test_every_module_imports_where_no_extra_is_installed():
    code = f"""
import importlib, sys, torch
for name in {OPTIONAL}:
    sys.modules[name] = None
for name in {MODULES}:
    importlib.import_module(name)
print("imported")
"""
    assert run(code).strip() == "imported"


@pytest.mark.parametrize("name", ["theory", "losses", "penalties"])
def test_games_and_theory_import_nothing_of_the_trainer(name):
    imported = {
        node.module
        for node in ast.walk(parse(f"vanillagan.{name}"))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vanillagan")
    }
    assert imported <= {"vanillagan.errors"}


# -- docstrings ------------------------------------------------------------------------------------


def undocumented(name: str) -> Iterator[str]:
    """What lacks a docstring: classes, functions, and, of what is in `__all__`, all else."""
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
    overload = any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)
    if node.name.startswith("_") or overload:
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


@pytest.mark.parametrize("name", vanillagan.__all__)
def test_a_top_level_name_is_explained_beyond_a_summary(name):
    summary, _, explanation = inspect.getdoc(getattr(vanillagan, name)).partition("\n\n")
    assert summary.endswith((".", ")"))
    assert explanation.strip()


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "value", "options", "error", "message"),
    [
        ("integer", 0, {"minimum": 1}, ValueError, "`x` must be a positive integer, got 0"),
        ("integer", -1, {"minimum": 0}, ValueError, "`x` must be a non-negative integer, got -1"),
        ("integer", 1, {"minimum": 2}, ValueError, "`x` must be an integer of at least 2, got 1"),
        (
            "integer",
            9,
            {"minimum": 0, "maximum": 8},
            ValueError,
            "`x` must be at most 8, got 9",
        ),
        ("integer", 2.0, {"minimum": 1}, TypeError, "`x` must be a positive integer, got 2.0"),
        ("integer", True, {"minimum": 1}, TypeError, "`x` must be a positive integer, got True"),
        ("integer", "3", {"minimum": 1}, TypeError, "`x` must be a positive integer, got '3'"),
        ("integer", None, {"minimum": 1}, TypeError, "`x` must be a positive integer, got None"),
        ("integers", 3, {}, TypeError, "`x` must be a tuple of positive integers, got 3"),
        ("integers", "12", {}, TypeError, "`x` must be a tuple of positive integers, got '12'"),
        ("integers", (), {}, ValueError, "`x` must have at least one entry, got ()"),
        ("integers", (3, 0), {}, ValueError, "`x[1]` must be a positive integer, got 0"),
        ("integers", (3.0,), {}, TypeError, "`x[0]` must be a positive integer, got 3.0"),
        (
            "number",
            -1,
            {"minimum": 0},
            ValueError,
            "`x` must be a finite number in [0, inf), got -1",
        ),
        ("number", math.nan, {}, ValueError, "`x` must be a finite number in (-inf, inf), got nan"),
        ("number", math.inf, {}, ValueError, "`x` must be a finite number in (-inf, inf), got inf"),
        (
            "number",
            1.0,
            {"minimum": 0, "maximum": 1, "exclude_maximum": True},
            ValueError,
            "`x` must be a finite number in [0, 1), got 1.0",
        ),
        (
            "number",
            0,
            {"minimum": 0, "maximum": 1, "exclude_minimum": True},
            ValueError,
            "`x` must be a finite number in (0, 1], got 0",
        ),
        (
            "number",
            "1",
            {"minimum": 0},
            TypeError,
            "`x` must be a finite number in [0, inf), got '1'",
        ),
        (
            "number",
            True,
            {"minimum": 0},
            TypeError,
            "`x` must be a finite number in [0, inf), got True",
        ),
        (
            "choice",
            "c",
            {"choices": ("a", "b")},
            ValueError,
            "`x` must be one of 'a', 'b', got 'c'",
        ),
        ("choice", None, {"choices": (1, 2)}, ValueError, "`x` must be one of 1, 2, got None"),
    ],
)
def test_a_check_names_the_argument_what_it_must_be_and_what_came(
    check: str, value: Any, options: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error) as caught:
        getattr(errors, f"check_{check}")("x", value, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("check", "value", "options", "result"),
    [
        ("integer", 3, {"minimum": 3}, 3),
        ("integer", 8, {"minimum": 0, "maximum": 8}, 8),
        ("integers", (), {"allow_empty": True}, ()),
        ("integers", [3, 1], {}, (3, 1)),
        ("number", 1, {"minimum": 0, "maximum": 1}, 1.0),
        ("number", 0.5, {}, 0.5),
        ("choice", "b", {"choices": ("a", "b")}, "b"),
    ],
)
def test_a_check_returns_a_right_value_in_its_proper_type(check, value, options, result):
    checked = getattr(errors, f"check_{check}")("x", value, **options)
    assert checked == result
    assert type(checked) is type(result)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.CheckpointError, ValueError),
        (errors.DivergenceError, ArithmeticError),
        (errors.MissingExtraError, ImportError),
    ],
)
def test_the_librarys_own_errors_are_caught_as_its_own_and_as_their_kind(error, builtin):
    assert issubclass(error, errors.VanillaGANError)
    assert issubclass(error, builtin)


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    with pytest.raises(errors.MissingExtraError) as caught:
        errors.require("no_such_package.part", extra="progress", user="ProgressBar")
    assert str(caught.value) == (
        "ProgressBar needs the package 'no_such_package': pip install 'vanillagan[progress]'"
    )
    assert errors.require("os.path", extra="progress", user="ProgressBar").basename("a/b") == "b"
