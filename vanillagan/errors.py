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

from torch import Tensor

__all__ = [
    "CheckpointError",
    "DivergenceError",
    "MissingExtraError",
    "TrainingHealthWarning",
    "VanillaGANError",
]

T = TypeVar("T")


class VanillaGANError(Exception):
    """The base of the errors that are the library's own."""


class CheckpointError(VanillaGANError, ValueError):
    """A file that is no checkpoint, is damaged, or belongs to another model."""


class DivergenceError(VanillaGANError, ArithmeticError):
    """Training has produced a loss or a weight that is not finite."""


class MissingExtraError(VanillaGANError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class TrainingHealthWarning(UserWarning):
    """A run shows a sign of trouble: `HealthMonitor` says which, and what to try."""


def check_integer(name: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """Returns `value` if it is an integer within the bounds, else raises, naming it."""
    expected = {0: "a non-negative integer", 1: "a positive integer"}.get(minimum)
    expected = expected or f"an integer of at least {minimum}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be {expected}, got {value!r}")
    number = int(value)
    if number < minimum:
        raise ValueError(f"`{name}` must be {expected}, got {value}")
    if maximum is not None and number > maximum:
        raise ValueError(f"`{name}` must be at most {maximum}, got {value}")
    return number


def check_seed(seed: object) -> int:
    """Returns `seed` if every random state takes it, else raises."""
    return check_integer("seed", seed, minimum=0, maximum=2**63 - 1)


def check_integers(name: str, values: object, *, allow_empty: bool = False) -> tuple[int, ...]:
    """Returns `values` as a tuple of positive integers, else raises, naming it."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"`{name}` must be a tuple of positive integers, got {values!r}")
    sizes = tuple(values)
    if not sizes and not allow_empty:
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
    open_below = exclude_minimum or minimum == -math.inf
    open_above = exclude_maximum or maximum == math.inf
    brackets = "(" if open_below else "[", ")" if open_above else "]"
    expected = f"a finite number in {brackets[0]}{minimum:g}, {maximum:g}{brackets[1]}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be {expected}, got {value!r}")
    number = float(value)
    below = number <= minimum if exclude_minimum else number < minimum
    above = number >= maximum if exclude_maximum else number > maximum
    if below or above or not math.isfinite(number):
        raise ValueError(f"`{name}` must be {expected}, got {value!r}")
    return number


def check_interval(every_steps: int | None, every_epochs: int | None) -> None:
    """Raises unless one of the two is a positive integer and the other None."""
    if (every_steps is None) == (every_epochs is None):
        raise ValueError(
            "`every_steps` or `every_epochs` must be given, and only one of them, got "
            f"{every_steps} and {every_epochs}"
        )
    for name, every in (("every_steps", every_steps), ("every_epochs", every_epochs)):
        if every is not None:
            check_integer(name, every, minimum=1)


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


def check_floats(name: str, value: object, expected: str = "a tensor of floats") -> None:
    """Raises unless `value` is a tensor of floating point numbers."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"`{name}` must be {expected}, got {kind}")


def require(module: str, *, extra: str, user: str) -> ModuleType:
    """Imports an optional `module` for `user`, or says which extra of the library brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{user} needs the package {module.partition('.')[0]!r}: "
            f"pip install 'vanillagan[{extra}]'"
        ) from error
