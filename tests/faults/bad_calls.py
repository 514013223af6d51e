"""Calls of the public interface with one argument replaced by something wrong.

Each call must end in a result that is right, or in a documented exception that names the argument
and leaves everything as it was. A call that is accepted and wrong, or changes something before its
error, counts as lost. The long profile makes all of these calls.
"""

from __future__ import annotations

import inspect
import random
import re
import reprlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.faults.figures import Figures
from tests.helpers.bad_values import EITHER, EQUAL, JUNK, REFUSED, Value, values_instead_of
from tests.helpers.public_calls import calls
from vanillagan.errors import VanillaGANError

__all__ = ["bad_calls", "run_call"]

DOCUMENTED = (ValueError, TypeError, VanillaGANError, FileNotFoundError, NotADirectoryError)

SLOW = {"mnist_5000", "mnist_or_5000"}
"""Calls that take seconds; `mnist` has the same checks."""

LONGEST = 500
"""Length of a message that can still be read."""

OF_PYTORCH = re.compile(r"dtype|device|Half|BFloat16|[Dd]ouble|meta|scalar type")
"""What PyTorch says of inputs whose dtype or device is not that of a network's weights.

`forward` of a network, and a loss, do not check this: they also run in autocast, under
`torch.compile` and for export, and PyTorch's message has both.
"""


def bad_calls(long: bool) -> Figures:
    """Make bad calls; count those that end in an unclear error, and those that are accepted."""
    figures = Figures()
    bad = [(n, a, v) for n in sorted(calls().keys() - SLOW) for a, v in _bad_arguments(n)]
    for name, argument, value in bad if long else random.Random(15).sample(bad, 300):
        figures.tried += 1
        problem = run_call(name, argument, value)
        if problem is not None:
            kind, text = problem
            lost = kind in ("accepted", "changed")
            figures.fail(f"{kind}: {name}({argument}={value.name}): {text}", lost=lost)
    return figures


def _bad_arguments(name: str) -> Iterator[tuple[str, Value]]:
    """Yield all values to put in place of each argument of a call."""
    function, arguments = calls()[name]()
    for argument, valid in arguments.items():
        parameter = inspect.signature(function).parameters.get(argument)
        annotation = "" if parameter is None else str(parameter.annotation)
        may_be_none = "None" in annotation or annotation in ("", "Any", "Labels")
        for value in values_instead_of(valid, may_be_none=may_be_none):
            yield argument, value
    for argument in _optional(function):
        if argument not in arguments:
            for value in JUNK:
                yield argument, value._replace(expected=EITHER)


def _optional(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is None]


def run_call(name: str, argument: str, value: Value) -> tuple[str, str] | None:
    """Make a call with one argument replaced; return the kind of problem and a text, or None."""
    _seed()  # of the weights
    function, arguments = calls()[name]()
    bad = arguments | {argument: value.value}
    _seed()
    states = list(_states(function, bad))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = function(**bad)
    except Exception as error:
        message = str(error)
        if list(_states(function, bad)) != states:
            return "changed", message[:200]
        if _is_of_pytorch(name, value, error) or _is_loose(name, argument, value):
            return None
        problem = _unclear(error, message, argument, arguments, value)
        return None if problem is None else ("unclear", f"{problem}: {message[:200]!r}")
    text = _wrong(name, argument, value, result)
    return None if text is None else ("accepted", text)


def _is_of_pytorch(name: str, value: Value, error: Exception) -> bool:
    is_network = name.endswith((".forward", ".probability", ".discriminator", ".generator"))
    is_typed = isinstance(value.value, Tensor) and isinstance(
        error, RuntimeError | NotImplementedError
    )
    return is_network and is_typed and bool(OF_PYTORCH.search(str(error)))


def _unclear(
    error: Exception, message: str, argument: str, arguments: Mapping[str, Any], value: Value
) -> str | None:
    if value.expected == EQUAL:
        return f"refused, {type(error).__name__}"
    if not isinstance(error, DOCUMENTED):
        return type(error).__name__
    # where two shapes do not fit, either may be named
    is_of_several = value.expected == EITHER or isinstance(value.value, Tensor | np.ndarray)
    others = (
        [*arguments, "batch", "images"] if is_of_several else []
    )  # data are named by their batch
    if not any(re.search(rf"`{each}\b", message) for each in [argument, *others]):
        return f"{type(error).__name__} that does not name the argument"
    if len(message) > LONGEST or "\x1b" in message:
        return f"{type(error).__name__} that cannot be read ({len(message)} characters)"
    return None


def _wrong(name: str, argument: str, value: Value, result: Any) -> str | None:
    """Return what is wrong with the result of a call, if anything is."""
    if _is_loose(name, argument, value):
        return None
    if value.expected == REFUSED:
        return reprlib.repr(result)
    config = getattr(result, "config", None)
    if config is not None and not _is_plain(config):
        return f"config of other types than Python's: {config}"
    numbers = list(_numbers(result))
    # an infinite logit can have a finite loss
    if _is_spoiled(value.value) and numbers and all(map(_is_finite, numbers)):
        return f"NaN is lost, {reprlib.repr(result)}"
    if value.expected == EQUAL and numbers:
        _seed()
        function, arguments = calls()[name]()
        _seed()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            right = list(_numbers(function(**arguments)))
        if len(right) != len(numbers) or not all(map(_close, numbers, right)):
            return f"another result, {reprlib.repr(result)}"
    return None


NO_DIMENSION = ("a tensor of no dimension", "an array of no dimension")
EMPTY = ("an empty string", "an empty tuple")
LOOSE: dict[tuple[str, str], tuple[str, ...]] = {
    ("GANTrainer", "callbacks"): EMPTY,
    ("GANTrainer", "penalties"): EMPTY,
    ("load_generator", "device"): ("None",),
    ("load_discriminator", "device"): ("None",),
    ("refit_discriminator", "seed"): ("None",),
    ("rejection_sample", "labels"): NO_DIMENSION,
    ("kl_divergence", "dx"): NO_DIMENSION,
    ("jensen_shannon_divergence", "dx"): NO_DIMENSION,
    ("virtual_criterion", "dx"): NO_DIMENSION,
    ("parzen_log_likelihood", "sigma"): NO_DIMENSION,
    ("Vocabulary", "tokens"): ("'yes'",),  # an iterable of strings
    ("extract_features", "samples"): ("complex", "flat"),  # the extractor may take them
    ("from_torchmetrics", "real"): ("complex", "sparse"),  # the metric may take them
}
"""Values that are valid although they are of another kind, by call and argument."""

UNREAD = {("R1.__call__", "fake"), ("R2.__call__", "real"), ("total_penalty", "fake")}
"""Arguments that a call does not read."""


def _is_loose(name: str, argument: str, value: Value) -> bool:
    is_foreign = name == "Linear" or (name, argument) in UNREAD  # `Linear` is PyTorch's
    return is_foreign or value.name in LOOSE.get((name, argument), ())


def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


def _states(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what a failed call must not change."""
    yield bytes(torch.get_rng_state().numpy())
    yield repr(np.random.get_state())
    yield random.getstate()
    yield torch.is_grad_enabled(), torch.get_default_dtype()
    owner = getattr(function, "__self__", None)
    owned = [owner, getattr(owner, "generator", None), getattr(owner, "discriminator", None)]
    for value in (*arguments.values(), *owned):
        if isinstance(value, Tensor):
            yield _content(value)
        elif isinstance(value, nn.Module):
            yield [module.training for module in value.modules()]
            yield [weight.requires_grad for weight in value.parameters()]
            yield [_content(tensor) for tensor in value.state_dict().values()]
        elif isinstance(value, np.ndarray) and value.dtype != object:
            yield value.tobytes()


def _content(tensor: Tensor) -> Any:
    if tensor.device.type == "meta" or tensor.layout != torch.strided:
        return tensor.shape
    values = tensor.detach().as_subclass(Tensor).contiguous()
    is_half = values.dtype in (torch.half, torch.bfloat16)
    return (values.double() if is_half else values).numpy().tobytes(), tensor.requires_grad


def _numbers(result: Any) -> Iterator[Tensor]:
    """Yield the tensors and numbers in a result."""
    if isinstance(result, Tensor | np.ndarray | float):
        tensor = torch.as_tensor(result)
        if tensor.device.type != "meta":
            yield tensor.detach().as_subclass(Tensor)
    elif isinstance(result, tuple | list):
        for part in result:
            yield from _numbers(part)
    elif hasattr(result, "tensors"):
        yield from _numbers(result.tensors)


def _is_spoiled(value: Any) -> bool:
    is_tensor = (
        isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided
    )
    return is_tensor and value.device.type != "meta" and bool(value.isnan().any())


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), 1e-4, 1e-5, equal_nan=True)


def _is_plain(value: Any) -> bool:
    """Return True if a value consists of what `torch.load(weights_only=True)` reads."""
    if isinstance(value, Mapping):
        return all(_is_plain(each) for each in value.values())
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return value is None or type(value) in (bool, int, float, str)
