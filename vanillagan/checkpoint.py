"""Checkpoints: their content, written atomically and read without running code from a file."""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import io
import itertools
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial, reduce
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.optim import Optimizer

from vanillagan._version import __version__
from vanillagan.ema import EMA
from vanillagan.errors import CheckpointError
from vanillagan.networks.base import DiscriminatorBase, GeneratorBase
from vanillagan.runtime import atomic_file
from vanillagan.runtime.device import resolve_device, uncompiled
from vanillagan.validation import check_path, check_state, check_type, is_like

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

TYPE = {"class": str, "config": ({str: object}, None)}
CONTENT = {"version": int, "vanillagan": str, "types": {str: TYPE}, "states": {str: dict}}
"""Form of a checkpoint's content."""

DIGEST_SIZE = hashlib.sha256().digest_size

IMPLEMENTATION = {"capturable", "differentiable", "foreach", "fused"}
"""Settings of how an optimizer computes, which a checkpoint does not change."""

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
    """Write a checkpoint, whole or not at all.

    The file is what `torch.save` writes, which `torch.load` reads, followed by its SHA-256 in 32
    bytes.

    Args:
        path: File to write; missing folders are created.
        content: What `collect` returned.

    Raises:
        OSError: The file cannot be written; the error names it.
    """
    path = check_path("path", path, file=True)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    # Of 6,000 files with one flipped bit `torch.load` read 2,785 without an error and with other
    # content: it does not check the CRC of the zip archive. That missed one of them, since it does
    # not cover the headers; the SHA-256 missed none.
    digest = hashlib.sha256(buffer.getbuffer()).digest()
    atomic_file.write(path, buffer.getbuffer(), digest)


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
        file = io.BytesIO(body)
        _check_archive(path, file)
        content = torch.load(file, map_location="cpu", weights_only=True)
        if _check_primitive("content", content) > 100 * len(body):  # networks may share weights
            raise CheckpointError(f"{path} must not have tensors of far more bytes than the file")
    except CheckpointError:
        raise
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
    for name, value in objects.items():
        with _checkpoint_error(f"the checkpoint's {name!r} does not fit"):
            _check_fits(name, value, states[name], content["types"].get(name))
    with rollback_on_error(*objects.values()):
        for name, value in objects.items():
            load = value.load_state_dict
            if isinstance(value, Optimizer):
                load = partial(_restore_optimizer, value)
            with _checkpoint_error(f"the checkpoint's {name!r} does not fit"):
                load(states[name])


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
            with suppress(Exception):  # the others are restored, and the first error is raised
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
    with _checkpoint_error(f"the {name} in {path} does not fit"):
        has_ema = name == "generator" and "ema" in states
        weights = states["ema"]["network"] if has_ema else states[name]
        if network is None:
            network = _rebuild(path, name, content["types"][name], weights)
        check_type("network", network, nn.Module, "a torch.nn.Module")
        inner = uncompiled(network)
        _check_weights(name, inner.state_dict(), weights)
        tensors = (weight for weight in weights.values() if isinstance(weight, Tensor))
        dtypes = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
        inner.to(reduce(torch.promote_types, dtypes or [torch.float32])).load_state_dict(weights)
    return network.to(resolved).eval()


@contextmanager
def _checkpoint_error(what: str) -> Iterator[None]:
    """Turn errors of any kind into a `CheckpointError`: a file may hold a state of another form."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{what}: {error}") from error


def _rebuild(
    path: str | os.PathLike[str], name: str, made_from: Mapping[str, Any], weights: Any
) -> nn.Module:
    """Create a network of the library from its class name and configuration, if weights fit it."""
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
    # the file says how large it is: that is compared before anything of this size is allocated
    left = iter(range(4 * len(weights)))  # a layer may register one twice

    def count(*_: Any) -> None:
        next(left)

    for device in ("meta", "cpu"):
        try:
            with register_module_parameter_registration_hook(count), torch.device(device):
                network: nn.Module = network_class(**config)
        except Exception as error:  # such as a wrapper of another network
            raise CheckpointError(
                f"{what}, which cannot be rebuilt from {config!r:.200}: pass one like it as "
                "`network`"
            ) from error
        _check_weights(name, network.state_dict(), weights)
    return network


def _check_archive(path: Path, file: io.BytesIO) -> None:
    """Raise unless it is a zip archive of records that do not unpack to more than its size."""
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    file.seek(0)
    names = {record.filename.lower() for record in records}  # PyTorch ignores the case
    fits = sum(record.file_size for record in records) <= len(file.getbuffer())
    is_stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
    if archive.comment or len(names) < len(records) or not (fits and is_stored):
        raise CheckpointError(f"{path} must have records that are uncompressed, each one once")


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
    with _checkpoint_error(f"{path} is not a checkpoint: its content has another form"):
        check_state("content", content, CONTENT)
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
    if isinstance(value, nn.Module | Optimizer) and made_from is None:
        raise CheckpointError(f"the checkpoint does not say the class of its {name}")
    if isinstance(value, EMA):
        check_state(name, state, {"updates": int, "network": dict})
        _check_weights(name, value.network.state_dict(), state["network"])
    elif isinstance(value, nn.Module):
        _check_weights(name, value.state_dict(), state)
        expected, got = _config_of(value), made_from["config"]
        if expected is not None and got is not None and expected != got:
            raise CheckpointError(
                f"the checkpoint's {name} has another architecture: it must be {expected}, "
                f"got {got}"
            )
    elif isinstance(value, Optimizer) and _class_name(value) != made_from["class"]:
        raise CheckpointError(
            f"the checkpoint's {name} is of another class: it must be {_class_name(value)}, "
            f"got {made_from['class']}"
        )


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
        if not isinstance(tensor, Tensor):  # the extra state of a module
            continue
        if not _has_dtype_of(tensor, theirs[key]):
            got = getattr(theirs[key], "dtype", type(theirs[key]).__name__)
            raise CheckpointError(
                f"the checkpoint's {name} does not fit: `{key}` must be a tensor of "
                f"{tensor.dtype}, got {got}"
            )
        if tensor.shape != theirs[key].shape:
            raise CheckpointError(
                f"the checkpoint's {name} has another architecture: `{key}` must have the shape "
                f"{tuple(tensor.shape)}, got {tuple(theirs[key].shape)}"
            )


def _has_dtype_of(mine: Tensor, theirs: object) -> bool:
    """Return True for a dense tensor of the same dtype; floats may be of another precision."""
    if not isinstance(theirs, Tensor) or theirs.layout != torch.strided or theirs.is_meta:
        return False
    both_float = mine.is_floating_point() and theirs.is_floating_point()
    return both_float or mine.dtype == theirs.dtype


def _restore_optimizer(optimizer: Optimizer, theirs: dict[str, Any]) -> None:
    """Restore an optimizer's state, or raise ValueError if it does not fit.

    `Optimizer.load_state_dict` compares only the number of parameters in each group, and fused
    kernels read and write `parameter.numel()` elements of each state tensor without checks: one
    that is smaller corrupts memory. Optimizers of other packages may keep a state of any shape.
    """
    mine = optimizer.state_dict()
    check_state("state", theirs, dict.fromkeys(mine, object) | {"state": dict})
    before, groups = mine["param_groups"], theirs["param_groups"]
    indices = [group["params"] for group in before]
    if [group.get("params") for group in groups] != indices:
        raise ValueError("its parameter groups must hold the same parameters as this optimizer's")
    if not theirs["state"].keys() <= set(itertools.chain(*indices)):
        raise ValueError("it must have states of this optimizer's parameters alone")
    # how it computes is this optimizer's choice
    how = [{k: v for k, v in group.items() if k in IMPLEMENTATION} for group in before]
    groups = [group | kept for group, kept in zip(groups, how, strict=True)]
    optimizer.load_state_dict(theirs | {"param_groups": groups})
    for old, group in zip(before, optimizer.param_groups, strict=True):
        settings = {key: value for key, value in group.items() if key != "params"}
        missing = optimizer.defaults.keys() & old.keys() - group.keys()
        # schedulers add numbers, such as `initial_lr`
        if missing or not is_like(dict.fromkeys(settings, 0.0) | old, settings):
            raise ValueError(f"a parameter group must have settings like {old}, got {settings}")
        for index, parameter in zip(old["params"], group["params"], strict=True):
            if theirs["state"].get(index, {}) != {}:
                _check_moments(optimizer, settings, parameter, index, theirs["state"][index])
    _own_memory(optimizer)


def _check_moments(
    optimizer: Optimizer, settings: dict[str, Any], parameter: Tensor, index: int, theirs: Any
) -> None:
    """Raise unless a parameter's state is as after a step of PyTorch's class with the settings."""
    bases = (cls for cls in type(optimizer).__mro__ if cls.__module__.startswith("torch.optim."))
    base: Any = next(bases)
    if base in (Optimizer, torch.optim.LBFGS, torch.optim.SparseAdam):
        return  # of another package, or no step on these gradients
    names = inspect.signature(base).parameters.keys() & settings.keys() - IMPLEMENTATION
    with torch.device("cpu"):
        small = torch.zeros([min(n, 2) for n in parameter.shape], dtype=parameter.dtype)
        small.grad = torch.zeros_like(small)
        twin = base([small], **{name: settings[name] for name in names})
        twin.step()
    expected, is_exact = twin.state[small], type(optimizer) is base
    if is_exact and not expected.keys() <= theirs.keys():
        raise ValueError(f"the state of parameter {index} must have the keys {[*expected]}")
    # one that is not expected is of settings that the run had before, such as `amsgrad`
    for key in theirs if is_exact else theirs.keys() & expected.keys():
        name, like = f"`{key}` of parameter {index}", expected.get(key, small)
        if not _has_dtype_of(like, theirs[key]):
            raise ValueError(f"{name} must be a dense tensor of {like.dtype}")
        sizes = zip(like.shape, small.shape, parameter.shape, strict=False)
        shape = tuple(full if n == of else n for n, of, full in sizes)
        if theirs[key].shape != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {tuple(theirs[key].shape)}")
        if like.dim() < small.dim() and not 0 <= float(theirs[key]) < math.inf:
            raise ValueError(f"{name} must be a finite number, got {float(theirs[key])}")


def _own_memory(optimizer: Optimizer) -> None:
    """Copy each state tensor, with the layout of its parameter.

    `Optimizer.load_state_dict` keeps the tensors that were read. Two of them may share memory, and
    they keep the strides that were saved: fused kernels pair elements by their place in memory.
    Between contiguous and channels_last weights, those on the CPU would update with the wrong
    moments, and those on CUDA raise (pytorch#106951).
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                like = parameter if value.shape == parameter.shape else value
                copied = torch.empty_like(like, dtype=value.dtype, device=value.device)
                state[key] = copied.detach().copy_(value.detach())


def _check_primitive(place: str, value: Any) -> int:
    """Raise unless `torch.load(weights_only=True)` can read the value; return bytes of tensors."""
    if isinstance(value, Mapping):
        return sum(_check_primitive(f"{place}[{key!r}]", item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return sum(_check_primitive(f"{place}[{index}]", item) for index, item in enumerate(value))
    if isinstance(value, Tensor):
        return value.numel() * value.itemsize
    if value is None or type(value) in (bool, int, float, str, bytes):  # not NumPy's floats
        return 0
    raise TypeError(f"`{place}` must hold tensors and primitives alone, got {type(value).__name__}")
