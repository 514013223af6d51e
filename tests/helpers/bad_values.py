"""Values that may be wrong in place of a valid one.

Each value comes with what must happen: REFUSED, EQUAL (the result is that of the valid value), or
EITHER of an error and a result.
"""

from __future__ import annotations

import fractions
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["EITHER", "EQUAL", "REFUSED", "Value", "values_instead_of"]

REFUSED, EQUAL, EITHER = "refused", "equal", "either"


class Value(NamedTuple):
    """A value, how it is called, and what must happen to it."""

    name: str
    value: Any
    expected: str = REFUSED


class Samples(Tensor):
    """A subclass of Tensor without methods of its own."""


NAN, INF = math.nan, math.inf

JUNK = (
    Value("a string", "yes"),
    Value("an empty string", ""),
    Value("bytes", b"no"),
    Value("an empty tuple", ()),
    Value("a list of a list", [[0.5]]),
    Value("a dict", {"a": 1}),
    Value("an object", object()),
    Value("a long text", "x\n\x1b[2J" * 1000),
    Value("a class", int),
    Value("an array", np.array([[1, 2], [3, 4]])),
    Value("an array of no dimension", np.array(0.5)),
    Value("an empty array", np.zeros(0)),
    Value("an array of objects", np.array([None, "a"], dtype=object)),
    Value("a tensor", torch.tensor([[1.0, 2.0], [3.0, 4.0]])),
    Value("a tensor of no dimension", torch.tensor(1)),
    Value("a tensor without values", torch.zeros(2, device="meta")),
    Value("a sparse tensor", torch.eye(2).to_sparse()),
    Value("a complex number", 1 + 2j),
)

NUMBERS = (
    Value("True", True),
    Value("NumPy's True", np.bool_(True)),
    Value("NaN", NAN),
    Value("infinity", INF),
    Value("minus infinity", -INF),
    Value("NumPy's NaN", np.float32("nan")),
    Value("an integer beyond floats", 10**400),
    Value("an integer that is too long to print", 10**5000),
)


def values_instead_of(valid: Any, *, may_be_none: bool) -> list[Value]:
    """Return values to put in place of `valid`, by its type."""
    none = Value("None", None, EITHER if may_be_none else REFUSED)
    for kind, rows in _KINDS:
        if isinstance(valid, kind):
            return [none, *rows(valid)]
    raise TypeError(f"no values for {type(valid).__name__}")


def _instead_of_bool(valid: bool) -> list[Value]:
    same = Value("NumPy's bool", np.bool_(valid), EQUAL)
    return [same, Value("1", 1), Value("0.0", 0.0), Value("NaN", NAN), *JUNK]


def _instead_of_integer(valid: int) -> list[Value]:
    return [
        Value("NumPy's integer", np.int64(valid), EQUAL),
        Value("a small NumPy integer", np.uint8(valid), EQUAL) if 0 <= valid < 256 else JUNK[0],
        Value("0", 0, EITHER),
        Value("-1", -1, EITHER),
        Value("a large negative integer", -(2**70)),
        Value("2**63", 2**63),
        Value("2**70", 2**70),
        Value("a float", float(valid)),
        Value("a float with a fraction", valid + 0.5),
        Value("NumPy's float", np.float64(valid)),
        *NUMBERS,
        *JUNK,
    ]


def _instead_of_number(valid: float) -> list[Value]:
    return [
        Value("NumPy's float64", np.float64(valid), EQUAL),
        Value("NumPy's float32", np.float32(valid), EITHER),
        Value("a fraction", fractions.Fraction(valid), EITHER),
        Value("0", 0, EITHER),
        Value("a negative number", -0.5, EITHER),
        Value("a large number", 1e308, EITHER),
        Value("the smallest number", 5e-324, EITHER),
        *NUMBERS,
        *JUNK,
    ]


def _instead_of_string(valid: str) -> list[Value]:
    return [
        *(v for v in JUNK if not isinstance(v.value, str)),
        Value("another string", "\x1b[2J", EITHER),
    ]


def _instead_of_path(valid: Path) -> list[Value]:
    others = (Value("an integer", 5), Value("True", True), Value("a null byte", "a\0b", EITHER))
    return [*(v for v in JUNK if not isinstance(v.value, str)), *others]


def _instead_of_tuple(valid: tuple[Any, ...]) -> list[Value]:
    if all(isinstance(entry, str) for entry in valid):
        wrong = [(1,), (None,), "yes", 5, (b"a",), (np.array(["a"]),)]
        return [
            Value(f"{entry!r:.30}" if i < 5 else f"junk {i}", entry)
            for i, entry in enumerate(wrong)
        ]
    if not all(isinstance(entry, int) and not isinstance(entry, bool) for entry in valid):
        return [Value("5", 5), Value("a string", "yes"), Value("an object", object())]
    rest = valid[1:]
    entries = [*NUMBERS, Value("2**63", 2**63), Value("-1", -1), Value("a float", 1.5)]
    return [
        Value("a list", list(valid), EQUAL),
        Value("NumPy's integers", tuple(map(np.int64, valid)), EQUAL),
        Value("an array of integers", np.array(valid), EITHER),
        Value("an empty tuple", (), EITHER),
        Value("one more entry", (*valid, 2), EITHER),
        Value("5", 5, EITHER),
        Value("a string", "yes"),
        Value("a string of digits", "12"),
        Value("a set of strings", {"a"}),
        Value("an object", object()),
        Value("a tensor of floats", torch.tensor([1.0, 2.0])),
        *(Value(f"an entry that is {entry.name}", (entry.value, *rest)) for entry in entries),
        *(Value(f"an entry that is {junk.name}", (junk.value, *rest)) for junk in JUNK),
    ]


def _instead_of_floats(valid: Tensor) -> list[Value]:
    spoiled = [valid.detach().clone() for _ in range(3)]
    for tensor, value in zip(spoiled, (NAN, INF, 1e30), strict=True):
        tensor.view(-1)[-1:] = value
    first = valid[:1] if valid.dim() else valid
    return [
        Value("not contiguous", strided(valid), EQUAL),
        Value("of a subclass", valid.as_subclass(Samples), EQUAL),
        Value("a parameter", nn.Parameter(valid.clone()), EQUAL),
        Value("with a gradient", valid.clone().requires_grad_(), EQUAL),
        Value("of float64", valid.double(), EITHER),
        Value("of half precision", valid.half(), EITHER),
        Value("of bfloat16", valid.bfloat16(), EITHER),
        Value("NaN in it", spoiled[0], EITHER),
        Value("infinity in it", spoiled[1], EITHER),
        Value("a large value in it", spoiled[2], EITHER),
        Value("complex", valid.to(torch.complex64)),
        Value("of integers", valid.long(), EITHER),
        Value("of booleans", valid > 0, EITHER),
        Value("sparse", valid.to_sparse()),
        Value("without values", valid.to("meta"), EITHER),
        Value("one more dimension", valid[..., None], EITHER),
        Value("flat", valid.flatten(), EITHER),
        Value("the first alone", first, EITHER),
        Value("empty", valid.new_empty(0), EITHER),
        Value("no samples", valid[:0] if valid.dim() else valid.new_empty(0), EITHER),
        Value("of no dimension", torch.tensor(0.5), EITHER),
        *_no_tensors(),
    ]


def _instead_of_integers(valid: Tensor) -> list[Value]:
    wrong = valid.clone()
    wrong.view(-1)[-1:] = 2**40 if valid.dtype == torch.int64 else 1
    below = valid.clone()
    below.view(-1)[-1:] = -5 if valid.dtype == torch.int64 else 1
    return [
        Value("not contiguous", strided(valid), EQUAL),
        Value("of a subclass", valid.as_subclass(Samples), EQUAL),
        Value("a large value in it", wrong, EITHER),
        Value("a negative value in it", below, EITHER),
        Value("of floats", valid.float(), EITHER),
        Value("complex", valid.to(torch.complex64)),
        Value("sparse", valid.to_sparse(), EITHER),
        Value("without values", valid.to("meta"), EITHER),
        Value("one more dimension", valid[..., None], EITHER),
        Value("the first alone", valid[:1], EITHER),
        Value("empty", valid[:0], EITHER),
        Value("of no dimension", valid.flatten()[0], EITHER),
        *_no_tensors(),
    ]


def _no_tensors() -> list[Value]:
    """Return junk that is no tensor; numbers and arrays are valid for some functions."""
    junk = [v for v in JUNK if not isinstance(v.value, Tensor | np.ndarray | tuple | list)]
    arrays = [v._replace(expected=EITHER) for v in JUNK if isinstance(v.value, np.ndarray)]
    return [
        *junk,
        *arrays,
        Value("5", 5, EITHER),
        Value("True", True, EITHER),
        Value("a list", [0.5], EITHER),
    ]


def _instead_of_network(valid: nn.Module) -> list[Value]:
    return [*JUNK, Value("a function", len), Value("a class", nn.Linear), Value("5", 5)]


def _instead_of_function(valid: Callable[..., Any]) -> list[Value]:
    return [v for v in JUNK if not callable(v.value)]


def _instead_of_object(valid: object) -> list[Value]:
    return [*JUNK, Value("5", 5)]


def strided(tensor: Tensor) -> Tensor:
    """Return the same values, every second one in memory."""
    if not tensor.dim():
        return tensor
    return torch.stack([tensor.detach(), torch.zeros_like(tensor)], -1)[..., 0]


_KINDS: tuple[tuple[Any, Callable[[Any], list[Value]]], ...] = (
    (bool, _instead_of_bool),
    (int, _instead_of_integer),
    (float, _instead_of_number),
    (str, _instead_of_string),
    (Path, _instead_of_path),
    (tuple, _instead_of_tuple),
    (nn.Module, _instead_of_network),
    (Tensor, lambda t: (_instead_of_floats if t.is_floating_point() else _instead_of_integers)(t)),
    (Callable, _instead_of_function),
    (object, _instead_of_object),
)
