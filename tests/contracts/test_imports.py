"""Imports: what importing costs, what each module may import, and that any can come first."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import vanillagan
from tests.helpers.processes import environment

PACKAGE = Path(vanillagan.__file__).parent

FLOORS = [
    ("applications", "callbacks"),
    ("trainer",),
    ("checkpoint", "divergence"),
    ("compatibility",),
    ("networks", "recipes"),
    ("sampling", "datasets", "callback"),
    ("losses", "penalties", "ema", "metrics", "data", "player", "accumulation"),
    ("traits", "runtime", "progress", "results", "batch", "theory"),
    ("validation", "errors", "_version"),
]
"""The modules and packages from the top: each imports only its own floor and those below."""

OPTIONAL = [
    *("torchvision", "matplotlib", "tqdm", "mlxtend", "tensorboard", "torchmetrics", "PIL"),
    *("scipy", "sklearn", "skimage"),
]
"""Packages that are imported where they are used, if at all."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
MODULES = sorted(TREES)


def packages_of(name: str) -> list[str]:
    """Return the packages that a module is in, without the root."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(2, len(parts))]


def is_type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and (node.test.id == "TYPE_CHECKING")
    )


def nodes_of(tree: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """Yield the nodes that run, without `if TYPE_CHECKING` and perhaps without functions."""
    for node in ast.iter_child_nodes(tree):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if not is_type_checking(node) and (functions or not is_function):
            yield node
            yield from nodes_of(node, functions=functions)


def imports_of(name: str, *, functions: bool = False) -> set[str]:
    """Return the modules of the package that a module names in its import statements."""
    imported = set()
    for node in nodes_of(TREES[name], functions=functions):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            # `from package import module` or `from module import name`
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = members & TREES.keys()
            imported |= submodules
            if len(submodules) < len(members):
                imported.add(str(node.module))
    return imported & TREES.keys()


def run(code: str) -> str:
    """Return what a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- in a new interpreter --------------------------------------------------------------------------


def test_importing_the_library_imports_nothing_optional():
    """Beyond what torch itself imports."""
    code = f"""
import sys, torch
for name in {OPTIONAL}:
    sys.modules.pop(name, None)
import vanillagan
print([name for name in {OPTIONAL} if name in sys.modules])
"""
    assert run(code) == "[]"


@pytest.mark.slow
def test_any_module_can_be_imported_first():
    code = f"""
import importlib, sys, torch
for name in {OPTIONAL}:
    sys.modules[name] = None
for name in {MODULES}:
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == "vanillagan"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error)
"""
    assert run(code) == ""


# -- import statements -----------------------------------------------------------------------------


def test_imports_have_no_cycle():
    """An import of a module also runs the packages that it is in, except the root."""
    graph = {}
    for name in MODULES:
        imported = imports_of(name)
        packages = {package for module in imported for package in packages_of(module)}
        graph[name] = imported | (packages - {name, *packages_of(name)})
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def floor_of(name: str) -> int:
    member = name.split(".")[1]
    return next(number for number, members in enumerate(FLOORS) if member in members)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "vanillagan"])
def test_imports_go_down(name):
    for imported in imports_of(name, functions=True):
        assert imported != "vanillagan", "the root package imports every module"
        assert floor_of(imported) >= floor_of(name), f"{name} imports {imported}"


@pytest.mark.parametrize("name", ["losses", "penalties", "theory"])
def test_losses_penalties_and_theory_need_no_training_code(name):
    allowed = {"vanillagan.validation", "vanillagan.runtime.rng"}
    assert imports_of(f"vanillagan.{name}", functions=True) <= allowed


def test_metrics_need_no_training_code():
    metrics = {name for name in MODULES if name.startswith("vanillagan.metrics")}
    imported = set().union(*(imports_of(name, functions=True) for name in metrics))
    members = {name.split(".")[1] for name in imported}
    assert members <= {"metrics", "data", "theory", "traits", "runtime", "validation", "errors"}


def test_no_two_modules_share_a_name():
    names = Counter(name.rpartition(".")[2] for name in MODULES)
    assert [name for name, count in names.items() if count > 1] == []
