"""Checks of arguments and tensors, one for each kind of value.

A check returns the value or raises a `ValueError` or `TypeError` that names the argument, the
expected values and the actual value: "`batch_size` must be a positive integer, got 0".
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "ReadOnly",
    "check_bool",
    "check_choice",
    "check_dense",
    "check_condition",
    "check_every",
    "check_finite",
    "check_float_tensor",
    "check_function",
    "check_integer",
    "check_integer_tensor",
    "check_integers",
    "check_labels",
    "check_number",
    "check_output",
    "check_outputs",
    "check_path",
    "check_seed",
    "check_shape",
    "check_size",
    "check_state",
    "check_type",
    "is_finite",
    "is_like",
    "shown",
]

T = TypeVar("T")

LARGEST_INTEGER = 2**63 - 1
"""Largest integer that PyTorch takes as a size or a seed."""


class ReadOnly(Generic[T]):
    """Attribute that is set once, when its object is created.

    Args:
        remedy: What to do instead of setting it again, for the error.
    """

    def __init__(self, remedy: str) -> None:
        self.remedy = remedy

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    if TYPE_CHECKING:  # Python reads it of the object's own attributes

        def __get__(self, instance: object, owner: type) -> T: ...

    def __set__(self, instance: object, value: T) -> None:
        if self.name in vars(instance):
            raise AttributeError(
                f"`{self.name}` of a {type(instance).__name__} can't be replaced: {self.remedy}"
            )
        vars(instance)[self.name] = value


def shown(value: object) -> str:
    """Return the repr of a value for an error: one line of at most 80 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # such as for integers of more than 4,300 digits
        text = f"an object of {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_bool(name: str, value: object) -> bool:
    """Return `value` as a bool if it is one; any other value, such as "no", could count as True."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, got {shown(value)}")
    return bool(value)


def check_integer(name: str, value: object, *, minimum: int, maximum: int = LARGEST_INTEGER) -> int:
    """Return `value` as an int if it is an integer in [minimum, maximum]."""
    expected = {0: "a non-negative integer", 1: "a positive integer"}.get(minimum)
    expected = expected or f"an integer of at least {minimum}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be {expected}, got {shown(value)}")
    number = int(value)
    if number < minimum:
        raise ValueError(f"`{name}` must be {expected}, got {shown(number)}")
    if number > maximum:
        raise ValueError(f"`{name}` must be at most {maximum}, got {shown(number)}")
    return number


def check_seed(seed: object) -> int:
    """Return `seed` if it is in [0, 2**63 - 1], the range that all random generators accept."""
    return check_integer("seed", seed, minimum=0)


def check_integers(name: str, values: object, *, allow_empty: bool = False) -> tuple[int, ...]:
    """Return `values` as a tuple of positive integers."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"`{name}` must be a tuple of positive integers, got {shown(values)}")
    sizes = tuple(values)
    if not sizes and not allow_empty:
        raise ValueError(f"`{name}` must have at least one entry, got {shown(values)}")
    return tuple(check_integer(f"{name}[{i}]", size, minimum=1) for i, size in enumerate(sizes))


def check_size(size: object) -> tuple[int, int]:
    """Return (height, width), given as a pair or as one number for both."""
    if not isinstance(size, Sequence):
        side = check_integer("size", size, minimum=1)
        return side, side
    sides = check_integers("size", size)
    if len(sides) != 2:
        raise ValueError(f"`size` must be a number or (height, width), got {shown(size)}")
    return sides[0], sides[1]


def check_number(
    name: str,
    value: object,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    exclude_minimum: bool = False,
    exclude_maximum: bool = False,
) -> float:
    """Return `value` as a float if it is finite and within the bounds."""
    open_below = exclude_minimum or minimum == -math.inf
    open_above = exclude_maximum or maximum == math.inf
    brackets = "(" if open_below else "[", ")" if open_above else "]"
    expected = f"a finite number in {brackets[0]}{minimum:g}, {maximum:g}{brackets[1]}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be {expected}, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:  # of an integer or a fraction
        number = math.inf
    below = number <= minimum if exclude_minimum else number < minimum
    above = number >= maximum if exclude_maximum else number > maximum
    if below or above or not math.isfinite(number):
        raise ValueError(f"`{name}` must be {expected}, got {shown(value)}")
    return number


def check_every(every_n_steps: int | None, every_n_epochs: int | None) -> None:
    """Raise unless exactly one of the two is given, as a positive integer."""
    if (every_n_steps is None) == (every_n_epochs is None):
        raise ValueError(
            "`every_n_steps` or `every_n_epochs` must be given, and only one of them, got "
            f"{shown(every_n_steps)} and {shown(every_n_epochs)}"
        )
    for name, every in (("every_n_steps", every_n_steps), ("every_n_epochs", every_n_epochs)):
        if every is not None:
            check_integer(name, every, minimum=1)


def check_choice(name: str, value: T, choices: Sequence[T]) -> T:
    """Return `value` if it is one of `choices`."""
    # an array can't be compared with the choices, and True equals 1
    if not isinstance(value, type(choices[0])) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {listed}, got {shown(value)}")
    return value


def check_path(name: str, path: object, *, file: bool = False) -> Path:
    """Return `path`, of a `file` if said, with a leading `~` replaced by the home folder."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"`{name}` must be a path, got {shown(path)}")
    if not text or "\0" in text:
        raise ValueError(f"`{name}` must be a path, got {shown(text)}")
    result = Path(os.path.expanduser(text))  # noqa: PTH111  # "~nobody" is no error
    is_folder = os.path.split(text)[1] in ("", ".", "..")
    if file and (is_folder or (result.exists() and not result.is_file())):
        raise ValueError(f"`{name}` must be a file, not a folder or device, got {text!r}")
    return result


def check_type(name: str, value: object, expected_type: type, expected: str) -> None:
    """Raise unless `value` is an instance of `expected_type`, described by `expected`."""
    # a class itself would pass the instance check of a runtime protocol
    if not isinstance(value, expected_type) or isinstance(value, type):
        raise TypeError(f"`{name}` must be {expected}, got {shown(value)}")


def check_function(name: str, value: object, expected: str) -> None:
    """Raise unless `value` is a function or another callable object, described by `expected`."""
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"`{name}` must be {expected}, got {shown(value)}")


def check_state(name: str, state: Any, form: Any) -> None:
    """Raise unless `state`, which was read from a file, has the given form.

    A form is a type (`int` for an integer in [0, 2**63 - 1]), `(form, None)` for None as well, a
    tensor for one of its dtype and number of dimensions, `{str: form}` for a mapping, `{int: form}`
    for a list, or `{"name": form}` and `{0: form}` for one of these entries alone.
    """
    if isinstance(form, dict):
        is_list = isinstance(state, list | tuple)
        entries = dict(enumerate(state)) if is_list else state
        check_type(name, entries, Mapping, "a mapping or a list")
        kind = next((key if isinstance(key, type) else type(key) for key in form), str)
        forms = dict.fromkeys(entries, form[kind]) if kind in form else form
        is_kind = is_list == (kind is int) and all(isinstance(key, kind) for key in entries)
        if not is_kind or entries.keys() != forms.keys():
            raise ValueError(f"`{name}` must have the keys {[*forms]}, got {[*entries]!r:.80}")
        for key, inner in forms.items():
            check_state(f"{name}[{key!r}]", entries[key], inner)
    elif isinstance(form, Tensor):
        if getattr(state, "dtype", None) != form.dtype or state.dim() != form.dim():
            raise ValueError(f"`{name}` must be a tensor of {form.dtype}, got {_kind_of(state)}")
    elif isinstance(form, tuple):
        check_state(name, state, object if state is None else form[0])
    elif form is int:
        check_integer(name, state, minimum=0)
    else:
        check_type(name, state, form, f"of the type {form.__name__}")


def is_like(mine: Any, theirs: Any) -> bool:
    """Return True if settings that were read from a file are of the same kinds as mine."""
    if isinstance(mine, Mapping):
        return isinstance(theirs, Mapping) and all(
            not isinstance(key, str) or (key in mine and is_like(mine[key], theirs[key]))
            for key in theirs
        )
    if isinstance(mine, list | tuple):
        is_list = isinstance(theirs, list | tuple) and len(theirs) == len(mine)
        return is_list and all(map(is_like, mine, theirs))
    if mine is None:  # often a setting that is not given
        return theirs is None or isinstance(theirs, bool) or is_like(0, theirs)
    if isinstance(mine, bool):
        return isinstance(theirs, bool)
    if isinstance(mine, int | float) or getattr(mine, "shape", None) == ():
        is_scalar = isinstance(theirs, Tensor) and theirs.dim() == 0
        number = theirs.item() if is_scalar else theirs
        return type(number) in (int, float) and number == number
    return isinstance(theirs, type(mine))


def check_float_tensor(name: str, value: object, expected: str = "a tensor of floats") -> None:
    """Raise unless `value` is a dense tensor of floating point numbers."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"`{name}` must be {expected}, got {_kind_of(value)}")
    check_dense(name, value, needs_values=False)


def check_integer_tensor(name: str, value: object, *, needs_values: bool = True) -> None:
    """Raise unless `value` is a dense tensor of integers; bool is no integer."""
    is_integer = isinstance(value, Tensor) and not (
        value.is_floating_point() or value.is_complex() or value.dtype == torch.bool
    )
    if not is_integer:
        raise TypeError(f"`{name}` must be a tensor of integers, got {_kind_of(value)}")
    check_dense(name, value, needs_values=needs_values)


def check_dense(name: str, value: object, *, needs_values: bool) -> None:
    """Raise if a tensor is sparse, or if it must have values and is on the device meta."""
    if getattr(value, "layout", None) != torch.strided:
        raise TypeError(f"`{name}` must be a dense tensor, got {_kind_of(value)}")
    if needs_values and getattr(value, "is_meta", False):
        raise ValueError(f"`{name}` must be a tensor with values, got one on the device meta")


def is_finite(tensor: Tensor) -> bool:
    """Return True if no value is NaN or infinite."""
    if not tensor.is_floating_point():
        return True
    # a sum takes less memory and time than a mask, but can overflow with finite values
    total = tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))
    return math.isfinite(total.item()) or bool(tensor.isfinite().all())


def check_finite(name: str, tensor: Tensor, where: str = "") -> None:
    """Raise if `tensor` holds NaN or infinite values; `where` completes the message."""
    check_dense(name, tensor, needs_values=True)
    if not is_finite(tensor):
        raise ValueError(f"`{name}` must be finite{where}, got NaN or infinite values")


def check_shape(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise unless `x` is a dense tensor of floats of shape (N, *shape)."""
    check_float_tensor(name, x)
    if x.dim() == 0 or x.shape[1:] != shape:
        expected = ", ".join(["N", *map(str, shape)])
        raise ValueError(f"`{name}` must have the shape ({expected}), got {tuple(x.shape)}")


def check_labels(labels: Tensor | None, num_classes: int, count: int) -> None:
    """Raise unless `labels` fit a network of `num_classes` classes and `count` samples.

    Their range is checked on the CPU alone: reading it from another device would synchronize.
    """
    if labels is None:
        if num_classes:
            raise ValueError(
                f"`labels` must be given to a network conditioned on {num_classes} classes, "
                "got None"
            )
        return
    if not num_classes:
        raise ValueError(
            "`labels` must be None for an unconditional network (num_classes=0), "
            f"got labels of shape {tuple(getattr(labels, 'shape', ()))}"
        )
    check_type("labels", labels, Tensor, "a tensor of integers")
    if labels.shape != (count,):
        hint = (
            " (a network with such labels declares "
            f"`label_shape = {tuple(labels.shape[1:])}`, not `num_classes`)"
        )
        raise ValueError(
            f"`labels` must have the shape ({count},), got {tuple(labels.shape)}"
            f"{hint if labels.dim() > 1 else ''}"
        )
    check_integer_tensor("labels", labels, needs_values=False)
    # in torch.compile and torch.export there are no values to read, and `count` may be symbolic
    if not torch.compiler.is_compiling() and labels.device.type == "cpu" and count:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"`labels` must lie in [0, {num_classes - 1}], got labels from {low} to {high}"
            )


def check_condition(labels: object, label_shape: tuple[int, ...], count: int) -> Tensor:
    """Return `labels` if they fit a network with a `label_shape` and `count` samples."""
    if not isinstance(labels, Tensor):
        raise TypeError(
            f"`labels` must be a tensor for a network with label_shape={label_shape}, "
            f"got {_kind_of(labels)}"
        )
    if labels.shape != (count, *label_shape):
        raise ValueError(
            f"`labels` must have the shape {(count, *label_shape)} for a network with "
            f"label_shape={label_shape}, got {tuple(labels.shape)}"
        )
    if labels.device.type == "cpu":
        check_finite("labels", labels)
    return labels


def check_output(name: str, value: object, remedy: str) -> None:
    """Raise unless what the network `name` returned is a tensor of floats."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return
    got = _kind_of(value)
    if isinstance(value, Mapping):
        got = f"a {got} with the keys {list(value)}"
    elif isinstance(value, Sequence):
        got = f"a {got} of {len(value)}"
    raise TypeError(f"`{name}` must return a tensor of floats, got {got}: {remedy}")


def check_outputs(**outputs: Tensor) -> None:
    """Raise unless the outputs of a discriminator, by name, are tensors of at least one float."""
    for name, output in outputs.items():
        check_float_tensor(name, output)
        if not output.numel():  # whose mean is NaN
            raise ValueError(f"`{name}` must not be empty, got the shape {tuple(output.shape)}")


def _kind_of(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return str(value.dtype if value.layout == torch.strided else value.layout)
