"""Checkpoints: what is in one, how it is written so that it is whole, how it is read safely."""

from __future__ import annotations

import copy
import hashlib
import importlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import vanillagan
from vanillagan.errors import CheckpointError
from vanillagan.networks.base import GeneratorBase
from vanillagan.runtime import resolve_device

__all__ = [
    "Stateful",
    "collect",
    "load_generator",
    "read",
    "restore",
    "undone_on_error",
    "write",
]

VERSION = 1
DIGEST_SIZE = 32
REBUILDABLE = {
    "Generator": "vanillagan.networks",
    "ConvGenerator": "vanillagan.networks",
    "TextGenerator": "vanillagan.networks",
    "ContextEncoder": "vanillagan.applications.context_encoder",
}
"""The generators that a checkpoint is enough to make, and the modules that they are in."""

BUILT_IN_OPTIMIZERS = {
    cls.__module__
    for cls in vars(torch.optim).values()
    if isinstance(cls, type) and issubclass(cls, Optimizer) and cls is not Optimizer
}
"""The modules of PyTorch's own optimizers."""

SCALAR_STATES = {"step", "mu_product", "eta", "mu"}
"""The 0-dimensional tensors that PyTorch's optimizers keep for each parameter."""

ELEMENTWISE_STATES = {
    "acc_delta",
    "ax",
    "exp_avg",
    "exp_avg_sq",
    "exp_inf",
    "grad_avg",
    "max_exp_avg_sq",
    "momentum_buffer",
    "prev",
    "square_avg",
    "step_size",
    "sum",
}
"""The tensors of the parameter's shape that PyTorch's optimizers keep for it."""

Network = TypeVar("Network", bound=nn.Module)


class Stateful(Protocol):
    """A part of a run that can be saved and restored."""

    def state_dict(self) -> dict[str, Any]:
        """The state, as tensors and primitives."""
        ...

    def load_state_dict(self, state: Any) -> Any:
        """Restores what `state_dict` gave."""
        ...


def collect(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """The content of a checkpoint: the states of the parts of a run.

    Args:
        parts: The parts by name; networks among them are described, so that `load_generator` can
            rebuild them.

    Raises:
        TypeError: A part's state holds something other than tensors and primitives.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    _check_primitive("state", states)
    return {
        "version": VERSION,
        "vanillagan": vanillagan.__version__,
        "kinds": {
            name: {"class": type(part).__name__, "config": _config_of(part)}
            for name, part in parts.items()
            if isinstance(part, nn.Module | Optimizer)
        },
        "parts": states,
    }


def write(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes a checkpoint to one file, which is whole or not there at all.

    The file is written beside its place, flushed to the disk, and moved. Its last 32 bytes are the
    SHA-256 of those before, which are as `torch.save` makes them.

    Args:
        path: Where to; missing folders are made.
        content: What `collect` gave.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            file.write(hashlib.sha256(buffer.getbuffer()).digest())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint, after its bytes have been checked, without running code from it.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is no checkpoint, is damaged, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a checkpoint file, got {str(path)!r}")
    data = memoryview(path.read_bytes())
    body, digest = data[:-DIGEST_SIZE], data[-DIGEST_SIZE:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError(
            f"{path} is not a checkpoint that `GANTrainer.save` has written, or is damaged: its "
            "checksum doesn't fit"
        )
    content: dict[str, Any]
    try:
        content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint: it holds something other than tensors and primitives"
        ) from error
    if content["version"] > VERSION:
        raise CheckpointError(
            f"{path} has the format {content['version']} of vanillagan {content['vanillagan']}; "
            f"this is vanillagan {vanillagan.__version__}, which reads formats up to {VERSION}"
        )
    return content


def restore(parts: Mapping[str, Stateful], content: Mapping[str, Any]) -> None:
    """Gives each part its state, or raises and leaves all parts as they were.

    Args:
        parts: The parts by name.
        content: What `read` gave.

    Raises:
        CheckpointError: Parts are missing or unexpected, or a state doesn't fit its part.
    """
    states, kinds = content["parts"], content["kinds"]
    _check_names("parts", expected=parts, got=states)
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            _check_weights(name, part.state_dict(), states[name])
            mine, theirs = _config_of(part), kinds[name]["config"]
            if mine is not None and theirs is not None and mine != theirs:
                raise CheckpointError(
                    f"the checkpoint's {name} is of another architecture: it must be {mine}, "
                    f"got {theirs}"
                )
        elif isinstance(part, Optimizer) and type(part).__name__ != kinds[name]["class"]:
            raise CheckpointError(
                f"the checkpoint's {name} is of another kind: it must be "
                f"{type(part).__name__}, got {kinds[name]['class']}"
            )
    try:
        for name, part in parts.items():
            if isinstance(part, Optimizer):
                _check_optimizer(part, states[name])
        with undone_on_error(*parts.values()):
            for name, part in parts.items():
                part.load_state_dict(states[name])
    except Exception as error:
        raise CheckpointError(f"the checkpoint's {name!r} doesn't fit: {error}") from error


@contextmanager
def undone_on_error(*parts: Stateful) -> Iterator[None]:
    """Gives the parts the states that they had before, where an error leaves what runs inside."""
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    try:
        yield
    except BaseException:
        for part, state in zip(parts, before, strict=True):
            part.load_state_dict(state)
        raise


@overload
def load_generator(
    path: str | os.PathLike[str], *, network: None = None, device: torch.device | str = "cpu"
) -> GeneratorBase: ...
@overload
def load_generator(
    path: str | os.PathLike[str], *, network: Network, device: torch.device | str = "cpu"
) -> Network: ...
def load_generator(
    path: str | os.PathLike[str],
    *,
    network: nn.Module | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Makes a generator ready to sample from a checkpoint alone.

    It has the EMA weights where there are any, and is in eval mode.

    Args:
        path: A file that `GANTrainer.save` wrote.
        network: For a generator that is not one of the library's own: one of the same
            architecture, which gets the weights.
        device: Where to put it.

    Returns:
        The generator, or `network` itself: `generator.sample(25)` draws samples. A `ContextEncoder`
        is called with images and masks instead.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is no checkpoint, or the generator in it needs `network`.
        ValueError: The device is unknown or not available here.
    """
    resolved = resolve_device(device)
    content = read(path)
    description, states = content["kinds"]["generator"], content["parts"]
    weights = states["ema"]["network"] if "ema" in states else states["generator"]
    if network is None:
        if description["class"] not in REBUILDABLE or description["config"] is None:
            raise CheckpointError(
                f"{path} holds a generator of the class {description['class']}, which is not one "
                "of the library's own: give one like it as `network`"
            )
        module = importlib.import_module(REBUILDABLE[description["class"]])
        rebuilt: nn.Module = getattr(module, description["class"])(**description["config"])
        network = rebuilt
    _check_weights("generator", network.state_dict(), weights)
    dtypes = (weight.dtype for weight in weights.values() if torch.is_floating_point(weight))
    network.to(next(dtypes, torch.float32)).load_state_dict(weights)
    return network.to(resolved).eval()


def _config_of(network: object) -> dict[str, Any] | None:
    """What the library's own networks are rebuilt from, None for one of another class."""
    own = type(network).__module__.startswith("vanillagan.")
    config: dict[str, Any] | None = getattr(network, "config", None) if own else None
    return config


def _check_names(what: str, *, expected: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    missing = sorted(set(expected) - set(got))
    unexpected = sorted(set(got) - set(expected))
    if missing or unexpected:
        raise CheckpointError(
            f"the checkpoint's {what} don't fit: missing {missing or 'none'}, "
            f"unexpected {unexpected or 'none'}"
        )


def _check_weights(name: str, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Raises where the weights are of another architecture, before any is loaded."""
    _check_names(f"weights of the {name}", expected=mine, got=theirs)
    for key, tensor in mine.items():
        if isinstance(tensor, Tensor) and tensor.shape != theirs[key].shape:
            raise CheckpointError(
                f"the checkpoint's {name} is of another architecture: `{key}` must have the shape "
                f"{tuple(tensor.shape)}, got {tuple(theirs[key].shape)}"
            )


def _check_optimizer(optimizer: Optimizer, theirs: Mapping[str, Any]) -> None:
    """Raise ValueError if a state tensor doesn't fit its parameter.

    `Optimizer.load_state_dict` compares only the number of parameters in each group, and fused
    kernels read and write `parameter.numel()` elements of each state tensor without checks: one
    that is smaller corrupts memory. Other names than those below are left to the optimizer, and so
    are the optimizers of other packages, which may keep a state of any shape.
    """
    mine = [group["params"] for group in optimizer.state_dict()["param_groups"]]
    if [list(group["params"]) for group in theirs["param_groups"]] != mine:
        raise ValueError("its parameter groups must hold the same parameters as this optimizer's")
    if not any(base.__module__ in BUILT_IN_OPTIMIZERS for base in type(optimizer).__mro__):
        return
    parameters = (weight for group in optimizer.param_groups for weight in group["params"])
    for index, parameter in enumerate(parameters):
        for key, value in theirs["state"].get(index, {}).items():
            if not isinstance(value, Tensor) or key not in SCALAR_STATES | ELEMENTWISE_STATES:
                continue
            shape = torch.Size() if key in SCALAR_STATES else parameter.shape
            if value.shape != shape:
                raise ValueError(
                    f"`{key}` of parameter {index} must have the shape {tuple(shape)}, "
                    f"got {tuple(value.shape)}"
                )
            # an expanded or sparse tensor has the shape, but less memory than the kernels read
            dense = value.layout == torch.strided
            if not dense or torch.empty_like(value, device="meta").stride() != value.stride():
                raise ValueError(f"`{key}` of parameter {index} must be a dense tensor")


def _check_primitive(place: str, value: Any) -> None:
    """Raises unless the value can be read back by `torch.load(weights_only=True)`."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_primitive(f"{place}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_primitive(f"{place}[{index}]", item)
    elif not (
        value is None
        or isinstance(value, Tensor)
        or type(value) in (bool, int, float, str, bytes)  # not NumPy's floats
    ):
        raise TypeError(
            f"`{place}` must hold tensors and primitives alone, got {type(value).__name__}"
        )
