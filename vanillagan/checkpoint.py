"""Checkpoints: their content, written atomically and read without running code from a file."""

from __future__ import annotations

import copy
import hashlib
import importlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vanillagan._version import __version__
from vanillagan.errors import CheckpointError
from vanillagan.networks.base import DiscriminatorBase, GeneratorBase
from vanillagan.runtime.device import resolve_device, uncompiled
from vanillagan.validation import check_path

__all__ = [
    "Stateful",
    "collect",
    "load_discriminator",
    "load_generator",
    "read",
    "restore",
    "restore_weights",
    "rollback_on_error",
    "write",
]

VERSION = 2
"""Format of the files that this version writes."""

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""For each older format that is read, a function that converts its content to a newer format."""

CONTENT = {"version": int, "vanillagan": str, "types": dict, "states": dict}
"""Keys of a checkpoint's content, and the type of each value."""

DIGEST_SIZE = hashlib.sha256().digest_size

BUILT_IN_OPTIMIZERS = {
    cls.__module__
    for cls in vars(torch.optim).values()
    if isinstance(cls, type) and issubclass(cls, Optimizer) and cls is not Optimizer
}
"""Modules of PyTorch's own optimizers."""

SCALAR_STATES = {"step", "mu_product", "eta", "mu"}
"""Scalar tensors that PyTorch's optimizers keep for each parameter."""

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
"""Tensors of the parameter's shape that PyTorch's optimizers keep for it."""

Network = TypeVar("Network", bound=nn.Module)


class Stateful(Protocol):
    """An object whose state can be saved and restored."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state, as tensors and primitives."""
        ...

    def load_state_dict(self, state: Any) -> Any:
        """Restore what `state_dict` returned."""
        ...


def collect(objects: Mapping[str, Stateful]) -> dict[str, Any]:
    """Return the content of a checkpoint: the states of objects, and what networks are made from.

    Args:
        objects: The objects by name, as `GANTrainer.state_objects` returns them.

    Raises:
        TypeError: A state holds something other than tensors and primitives.
    """
    states = {name: value.state_dict() for name, value in objects.items()}
    _check_primitive("state", states)
    return {
        "version": VERSION,
        "vanillagan": __version__,
        "types": {
            name: {"class": _class_name(value), "config": _config_of(value)}
            for name, value in objects.items()
            if isinstance(value, nn.Module | Optimizer)
        },
        "states": states,
    }


def write(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    A temporary file in the same folder is flushed to the disk and renamed. The file is what
    `torch.save` writes, which `torch.load` reads, followed by its SHA-256 in 32 bytes.

    Args:
        path: File to write; missing folders are created.
        content: What `collect` returned.
    """
    path = check_path("path", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            # Of 6,000 files with one flipped bit `torch.load` read 2,785 without an error and with
            # other content: it does not check the CRC of the zip archive. That missed one of them,
            # since it does not cover the headers; the SHA-256 missed none.
            file.write(hashlib.sha256(buffer.getbuffer()).digest())
            file.flush()
            os.fsync(file.fileno())  # before the rename, or a power failure may leave an empty file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint after verifying its bytes, without running code from it.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is not a checkpoint, is damaged, or has a format that this version
            does not read.
    """
    path = check_path("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a checkpoint file, got {str(path)!r}")
    data = memoryview(path.read_bytes())  # read once: what is verified is what is loaded
    body, digest = data[:-DIGEST_SIZE], data[-DIGEST_SIZE:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError(
            f"{path} is not a checkpoint written by `GANTrainer.save`, or is damaged: its checksum "
            "does not match"
        )
    content: Any
    try:
        content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind: the bytes may be anything
        raise CheckpointError(
            f"{path} is not a checkpoint: it holds something other than tensors and primitives"
        ) from error
    return _migrate(path, content)


def restore(objects: Mapping[str, Stateful], content: Mapping[str, Any]) -> None:
    """Restore the state of each object, or raise and leave all of them unchanged.

    Args:
        objects: The objects by name.
        content: What `read` returned.

    Raises:
        CheckpointError: Objects are missing or unexpected, or a state does not fit its object.
    """
    states = content["states"]
    _check_names("contents", expected=objects, got=states)
    name = ""
    try:
        for name, value in objects.items():
            _check_fits(name, value, states[name], content["types"].get(name))
        with rollback_on_error(*objects.values()):
            for name, value in objects.items():
                value.load_state_dict(states[name])
                if isinstance(value, Optimizer):
                    _match_memory_format(value)
    except CheckpointError:
        raise
    except Exception as error:  # of any kind: a file may hold a state of another form
        raise CheckpointError(f"the checkpoint's {name!r} does not fit: {error}") from error


def restore_weights(
    networks: Mapping[str, nn.Module], content: Mapping[str, Any], *, strict: bool
) -> None:
    """Restore the weights of networks alone, or raise and leave all of them unchanged.

    Args:
        networks: The networks by name.
        content: What `read` returned.
        strict: If False, weights whose names or shapes do not fit are left out, with a warning.

    Raises:
        CheckpointError: A network is missing, or its weights do not fit.
    """
    states = {name: content["states"][name] for name in networks if name in content["states"]}
    left_out: list[str] = []
    for name, theirs in states.items() if not strict else ():
        mine = networks[name].state_dict()
        fitting = {
            key: value
            for key, value in theirs.items()
            if key in mine and getattr(value, "shape", None) == getattr(mine[key], "shape", None)
        }
        if not fitting:
            raise CheckpointError(f"no weight of the checkpoint's {name} fits")
        left_out += [f"{name}.{key}" for key in mine.keys() | theirs.keys() if key not in fitting]
        states[name] = mine | fitting
    types = {
        name: made_from if strict else made_from | {"config": None}
        for name, made_from in content["types"].items()
    }
    restore(networks, {"states": states, "types": types})
    if left_out:
        warnings.warn(
            f"weights that do not fit were left out: {_some(sorted(left_out))}", stacklevel=3
        )


@contextmanager
def rollback_on_error(*objects: Stateful) -> Iterator[None]:
    """Restore the objects' states if an error leaves what runs inside."""
    before = [copy.deepcopy(value.state_dict()) for value in objects]
    try:
        yield
    except BaseException:
        for value, state in zip(objects, before, strict=True):
            value.load_state_dict(state)
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
    """Load a generator, ready to sample, from a checkpoint alone.

    It has the EMA weights if there are any, and is in eval mode.

    Args:
        path: A file written by `GANTrainer.save`.
        network: For a generator of your own class: an instance of the same architecture, which is
            given the weights. The library's own generators are rebuilt.
        device: Device to put it on.

    Returns:
        The generator, or `network` itself. `draw_samples(generator, 25)` of `vanillagan.sampling`
        draws samples of any generator, `generator.sample(25)` of one of the library's. A
        `ContextEncoder` is called with images and masks instead.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is not a checkpoint, or its generator needs `network`.
        ValueError: The device is unknown or not available here.
    """
    return _load_network("generator", path, network, device)


@overload
def load_discriminator(
    path: str | os.PathLike[str], *, network: None = None, device: torch.device | str = "cpu"
) -> DiscriminatorBase: ...
@overload
def load_discriminator(
    path: str | os.PathLike[str], *, network: Network, device: torch.device | str = "cpu"
) -> Network: ...
def load_discriminator(
    path: str | os.PathLike[str],
    *,
    network: nn.Module | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Load a discriminator, in eval mode, from a checkpoint alone.

    Args:
        path: A file written by `GANTrainer.save`.
        network: For a discriminator of your own class: an instance of the same architecture.
        device: Device to put it on.

    Returns:
        The discriminator, or `network` itself.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is not a checkpoint, or its discriminator needs `network`.
        ValueError: The device is unknown or not available here.
    """
    return _load_network("discriminator", path, network, device)


def _load_network(
    name: str,
    path: str | os.PathLike[str],
    network: nn.Module | None,
    device: torch.device | str,
) -> nn.Module:
    resolved = resolve_device(device)
    content = read(path)
    states = content["states"]
    if name not in states:
        raise CheckpointError(f"{path} holds no {name}, only {sorted(states)}")
    try:
        has_ema = name == "generator" and "ema" in states
        weights = states["ema"]["network"] if has_ema else states[name]
        if network is None:
            network = _rebuild(path, name, content["types"][name])
        inner = uncompiled(network)
        _check_weights(name, inner.state_dict(), weights)
        tensors = (weight for weight in weights.values() if isinstance(weight, Tensor))
        dtypes = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
        inner.to(next(dtypes, torch.float32)).load_state_dict(weights)
    except CheckpointError:
        raise
    except Exception as error:  # of any kind: a file may hold a state of another form
        raise CheckpointError(f"the {name} in {path} does not fit: {error}") from error
    return network.to(resolved).eval()


def _rebuild(path: str | os.PathLike[str], name: str, made_from: Mapping[str, Any]) -> nn.Module:
    """Create a network of the library from its class name and configuration."""
    qualified_name, config = made_from["class"], made_from["config"]
    module_name, _, class_name = qualified_name.rpartition(".")
    what = f"{path} holds a {name} of the class {qualified_name}"
    # the name comes from a file: only modules of the library are imported, and only networks that
    # they define are created
    if not module_name.startswith("vanillagan.") or config is None:
        raise CheckpointError(
            f"{what}, which is not one of the library's own: pass one like it as `network`"
        )
    try:
        network_class = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"{what}, which vanillagan {__version__} does not have") from error
    is_network = isinstance(network_class, type) and issubclass(network_class, nn.Module)
    if not is_network or network_class.__module__ != module_name:
        raise CheckpointError(f"{what}, which is not a network of the library")
    try:
        with torch.device("cpu"):
            network: nn.Module = network_class(**config)
    except (TypeError, ValueError) as error:  # such as a wrapper of another network
        raise CheckpointError(
            f"{what}, which cannot be rebuilt from {config}: pass one like it as `network`"
        ) from error
    return network


def _migrate(path: Path, content: Any) -> dict[str, Any]:
    """Return the content in the current format, or raise if there is no way to convert it."""
    version = content.get("version") if isinstance(content, dict) else None
    while isinstance(version, int) and version in MIGRATIONS:
        content = MIGRATIONS[version](content)
        version = content["version"]
    if isinstance(version, int) and version != VERSION:
        raise CheckpointError(
            f"{path} has format {version} of vanillagan {content.get('vanillagan')}, but "
            f"vanillagan {__version__} reads format {VERSION}: load it with the version that "
            "wrote it"
        )
    if version is None or not all(isinstance(content.get(key), t) for key, t in CONTENT.items()):
        raise CheckpointError(f"{path} is not a checkpoint: its content has another form")
    return dict(content)


def _class_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _config_of(network: object) -> dict[str, Any] | None:
    """Return the arguments that a network of the library is rebuilt from; None for others."""
    own = type(network).__module__.startswith("vanillagan.")
    config: dict[str, Any] | None = getattr(network, "config", None) if own else None
    return config


def _check_fits(name: str, value: Stateful, state: Any, made_from: Any) -> None:
    """Raise if a state is of another class or architecture than its object."""
    if isinstance(value, nn.Module):
        _check_weights(name, value.state_dict(), state)
        expected, got = _config_of(value), made_from["config"]
        if expected is not None and got is not None and expected != got:
            raise CheckpointError(
                f"the checkpoint's {name} has another architecture: it must be {expected}, "
                f"got {got}"
            )
    elif isinstance(value, Optimizer):
        if _class_name(value) != made_from["class"]:
            raise CheckpointError(
                f"the checkpoint's {name} is of another class: it must be {_class_name(value)}, "
                f"got {made_from['class']}"
            )
        _check_optimizer(value, state)


def _check_names(what: str, *, expected: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    missing = sorted(set(expected) - set(got))
    unexpected = sorted(set(got) - set(expected))
    if missing or unexpected:
        raise CheckpointError(
            f"the checkpoint's {what} do not fit: missing {_some(missing)}, "
            f"unexpected {_some(unexpected)}"
        )


def _some(names: list[str]) -> str:
    if len(names) > 4:  # another architecture misses dozens
        names = [*names[:3], f"{len(names) - 3} more"]
    return str(names) if names else "none"


def _check_weights(name: str, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Raise if the weights are of another architecture."""
    _check_names(f"weights of the {name}", expected=mine, got=theirs)
    for key, tensor in mine.items():
        # the extra state of a module is not always a tensor
        if isinstance(tensor, Tensor) and tensor.shape != theirs[key].shape:
            raise CheckpointError(
                f"the checkpoint's {name} has another architecture: `{key}` must have the shape "
                f"{tuple(tensor.shape)}, got {tuple(theirs[key].shape)}"
            )


def _check_optimizer(optimizer: Optimizer, theirs: Mapping[str, Any]) -> None:
    """Raise ValueError if a state tensor does not fit its parameter.

    `Optimizer.load_state_dict` compares only the number of parameters in each group, and fused
    kernels read and write `parameter.numel()` elements of each state tensor without checks: one
    that is smaller corrupts memory. States of other names are left to the optimizer, and so are
    the optimizers of other packages, which may keep a state of any shape.
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


def _match_memory_format(optimizer: Optimizer) -> None:
    """Lay out each state tensor in memory like its parameter.

    `Optimizer.load_state_dict` keeps the strides that were saved. Fused kernels pair elements by
    their place in memory: between contiguous and channels_last weights, those on the CPU would
    update with the wrong moments, and those on CUDA raise (pytorch#106951).
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            is_like = isinstance(value, Tensor) and value.shape == parameter.shape
            if is_like and value.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _check_primitive(place: str, value: Any) -> None:
    """Raise unless the value can be read back by `torch.load(weights_only=True)`."""
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
