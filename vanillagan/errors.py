"""The library's exceptions, and the checks of arguments that every module shares.

A wrong argument is a `ValueError` or a `TypeError` raised by the call that got it, in one form:
"`batch_size` must be a positive integer, got 0".
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from types import ModuleType
from typing import TypeVar

__all__ = ["CheckpointError", "DivergenceError", "MissingExtraError", "VanillaGANError"]

T = TypeVar("T")


class VanillaGANError(Exception):
    """The base of the errors that are the library's own."""


class CheckpointError(VanillaGANError, ValueError):
    """A file that is no checkpoint, is damaged, or belongs to another model."""


class DivergenceError(VanillaGANError, ArithmeticError):
    """Training has produced a loss or a weight that is not finite."""


class MissingExtraError(VanillaGANError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


def check_integer(name: str, value: object, *, minimum: int) -> int:
    """Returns `value` if it is an integer of at least `minimum`, else raises, naming it."""
    expected = {0: "a non-negative integer", 1: "a positive integer"}.get(minimum)
    expected = expected or f"an integer of at least {minimum}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be {expected}, got {value!r}")
    if value < minimum:
        raise ValueError(f"`{name}` must be {expected}, got {value}")
    return int(value)


def check_integers(name: str, values: object) -> tuple[int, ...]:
    """Returns `values` as a non-empty tuple of positive integers, else raises, naming it."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"`{name}` must be a tuple of positive integers, got {values!r}")
    sizes = tuple(values)
    if not sizes:
        raise ValueError(f"`{name}` must have at least one entry, got {values!r}")
    return tuple(check_integer(f"{name}[{i}]", size, minimum=1) for i, size in enumerate(sizes))


def check_number(
    name: str,
    value: object,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    exclude_minimum: bool = False,
    exclude_maximum: bool = False,
) -> float:
    """Returns `value` as a float if it is finite and within the bounds, else raises, naming it."""
    brackets = "(" if exclude_minimum else "[", ")" if exclude_maximum else "]"
    expected = f"a finite number in {brackets[0]}{minimum:g}, {maximum:g}{brackets[1]}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be {expected}, got {value!r}")
    number = float(value)
    below = number <= minimum if exclude_minimum else number < minimum
    above = number >= maximum if exclude_maximum else number > maximum
    if below or above or not math.isfinite(number):
        raise ValueError(f"`{name}` must be {expected}, got {value!r}")
    return number


def check_choice(name: str, value: T, choices: Sequence[T]) -> T:
    """Returns `value` if it is one of `choices`, else raises, naming it and them."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {listed}, got {value!r}")
    return value


def check_kind(name: str, value: object, kind: type, expected: str) -> None:
    """Raises unless `value` is an instance of `kind` (a class itself is none of a protocol)."""
    if not isinstance(value, kind) or isinstance(value, type):
        raise TypeError(f"`{name}` must be {expected}, got {value!r:.80}")


def require(module: str, *, extra: str, user: str) -> ModuleType:
    """Imports an optional `module` for `user`, or says which extra of the library brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{user} needs the package {module.partition('.')[0]!r}: "
            f"pip install 'vanillagan[{extra}]'"
        ) from error
