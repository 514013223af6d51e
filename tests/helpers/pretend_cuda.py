"""A pretended accelerator, to test devices without one: tensors on "gpu:0", computed on the CPU.

Values are real, the rules are CUDA's. An operator that mixes a tensor of the CPU, of one dimension
or more, with one of the device is an error, and so is a generator of the CPU for a tensor there.
What makes the host wait is counted by the line of the library that asked for it: reads, copies to
the host, and copies to the device unless they are asynchronous and from pinned memory.

    with PretendCUDA() as gpu:
        trainer = GANTrainer(generator, discriminator, device="gpu")
        trainer.fit(data, max_steps=10)
    assert not gpu.waits

A process registers such a device once and for all, before its first backward pass, and it is the
accelerator from then on: tests on it run in a process of their own
(`tests/integration/test_pretended_device.py`).
"""

from __future__ import annotations

import collections
import functools
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import vanillagan
from vanillagan.runtime import device as runtime_device

GPU = "gpu:0"

PACKAGE = Path(vanillagan.__file__).parent

READS = {
    "aten::_local_scalar_dense",
    "aten::bincount",
    "aten::equal",
    "aten::is_nonzero",
    "aten::masked_select",
    "aten::nonzero",
    "aten::repeat_interleave",
    "aten::_unique2",
    "aten::unique_consecutive",
    "aten::unique_dim",
}
"""Operators whose result, or its size, the host needs."""

INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
"""Operators that take indices on the CPU, which are copied."""

AUTOCAST = ("linear", "conv1d", "conv2d", "mm", "addmm", "matmul", "convolution")
"""Operators that run in the lower precision; CUDA has more of them."""


@functools.cache
def register() -> Any:
    """Register the device with PyTorch, and return its module `torch.gpu`; once in a process."""

    class Module(backend_registration._DummyBackendModule):  # type: ignore[misc]
        """What a vendor's extension offers: a generator of random numbers of its own."""

        rng = torch.Generator()

        def manual_seed_all(self, seed: int) -> None:
            self.rng.manual_seed(seed)

        manual_seed = manual_seed_all

        def get_rng_state(self, device: object = None) -> Tensor:
            return self.rng.get_state()

        def set_rng_state(self, state: Tensor, device: object = None) -> None:
            self.rng.set_state(state)

        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16]

        def _lazy_init(self) -> None:
            pass

    module = Module()
    backend_registration._setup_privateuseone_for_python_backend("gpu", module)
    # libraries are kept: what is registered ends with the last reference to them
    module.libraries = [
        torch.library.Library("_", "IMPL"),
        torch.library.Library("aten", "IMPL", "AutocastPrivateUse1"),
    ]
    module.libraries[0].fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in AUTOCAST:
        module.libraries[1].impl(name, _autocast(getattr(torch.ops.aten, name).default))
    return module


def _autocast(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def kernel(*arguments: Any) -> Tensor:
        def cast(x: Any) -> Any:
            is_single = isinstance(x, Tensor) and x.dtype == torch.float32
            return x.to(torch.get_autocast_dtype("gpu")) if is_single else x

        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operator(*map(cast, arguments))

    return kernel


class OnGPU(Tensor):
    """A tensor that says it is on the device; `elem` has its values on the CPU."""

    elem: Tensor

    @staticmethod
    def __new__(cls, elem: Tensor) -> OnGPU:
        shell = torch.empty_strided(elem.shape, elem.stride(), dtype=elem.dtype, device="meta")
        self = Tensor._make_subclass(
            cls, shell, False, dispatch_device=True, device_for_backend_keys=torch.device(GPU)
        )
        self.elem = elem
        return self

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device(GPU)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGPU({self.elem!r})"

    def tolist(self) -> Any:  # PyTorch refuses subclasses
        PretendCUDA.active.wait("tolist")
        return self.elem.detach().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert {GPU} device type tensor to numpy. Use Tensor.cpu()")

    __array__ = numpy

    def __reduce_ex__(self, protocol: Any) -> Any:  # saved as `map_location="cpu"` reads it
        return self.elem.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        with torch.no_grad():
            new = self.detach().clone()
        new.requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            new._is_param = True  # type: ignore[attr-defined]
        memo[id(self)] = new
        return new

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return PretendCUDA.active.run(func, args, kwargs or {})


class PretendCUDA(TorchDispatchMode):
    """Context in which the device is there.

    Attributes:
        waits: Number of times that the host waited, by what it waited for and the line.
        copies: Number of copies to the device that it did not wait for, by line.
        launches: Number of operators run on the device, by name.
    """

    active: PretendCUDA

    def __init__(self) -> None:
        super().__init__()
        self.module = register()
        self.waits: collections.Counter[str] = collections.Counter()
        self.copies: collections.Counter[str] = collections.Counter()
        self.launches: collections.Counter[str] = collections.Counter()

    def __enter__(self) -> PretendCUDA:
        PretendCUDA.active = self
        self._stack = ExitStack()
        asynchronous = runtime_device.PINNED_COPIES | {"gpu"}
        self._stack.enter_context(mock.patch.object(runtime_device, "PINNED_COPIES", asynchronous))
        self._stack.enter_context(_modules_replace_parameters())
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    def clear(self) -> None:
        """Forget what was counted."""
        for counter in (self.waits, self.copies, self.launches):
            counter.clear()

    def wait(self, what: str) -> None:
        """Count a wait of the host."""
        self.waits[f"{what} @ {_line()}"] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operator on the CPU, and count what it would have cost."""
        name = func._schema.name
        if func is torch.ops.prim.device.default:
            return torch.device(GPU) if isinstance(args[0], OnGPU) else args[0].device
        if name in ("aten::is_pinned", "aten::pin_memory", "aten::_pin_memory"):
            return _pin(name, args[0])
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "meta":
            return func(*args, **kwargs)
        on_gpu = any(isinstance(x, OnGPU) for x in tensors)
        to_gpu = on_gpu if device is None else torch.device(device).type == "gpu"
        if name in ("aten::_to_copy", "aten::copy_"):
            self._count_copy(name, args, kwargs, to_gpu)
        elif on_gpu:
            self._check_devices(name, tensors)
        if name in READS and on_gpu:
            self.wait(name)
        if not to_gpu:
            return self._call(func, args, kwargs, to_gpu)
        self.launches[name] += 1
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type == "cpu":
            raise RuntimeError(f"{name}: expected a 'gpu' device type for generator, found 'cpu'")
        is_random = generator is None and torch.Tag.nondeterministic_seeded in func.tags
        with _drawing_from(self.module.rng) if is_random else nullcontext():
            return self._call(func, args, kwargs, to_gpu)

    def _count_copy(self, name: str, args: Any, kwargs: dict[str, Any], to_gpu: bool) -> None:
        if name == "aten::copy_":
            target, source = args[:2]
            from_gpu, to_gpu = isinstance(source, OnGPU), isinstance(target, OnGPU)
            asynchronous = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        else:
            source, asynchronous = args[0], kwargs.get("non_blocking", False)
            from_gpu = isinstance(source, OnGPU)
        if from_gpu and not to_gpu:
            self.wait("copy to the host")
        elif to_gpu and not from_gpu and not (asynchronous and hasattr(source, "is_on_pinned")):
            self.wait("blocking copy to the device")
        elif to_gpu and not from_gpu:
            self.copies[_line()] += 1

    def _check_devices(self, name: str, tensors: list[Tensor]) -> None:
        if name in INDEXING:
            if any(not isinstance(x, OnGPU) for x in tensors[1:]):
                self.wait("index on the CPU")
            if any(x.dtype == torch.bool for x in tensors[1:]):
                self.wait("boolean index")
        elif any(not isinstance(x, OnGPU) and x.dim() > 0 for x in tensors):
            raise RuntimeError(
                f"{name}: expected all tensors to be on the same device, but found gpu:0 and cpu"
            )

    def _call(self, func: Any, args: Any, kwargs: dict[str, Any], to_gpu: bool) -> Any:
        known: dict[int, Tensor] = {}

        def unwrap(x: Any) -> Any:
            inner = x.elem if isinstance(x, OnGPU) else x
            if isinstance(x, Tensor):
                known[id(inner)] = x
            return inner

        inner_args, inner_kwargs = tree_map(unwrap, args), tree_map(unwrap, kwargs)
        if "device" in kwargs:
            inner_kwargs["device"] = torch.device("cpu")
        out = func(*inner_args, **inner_kwargs)

        def wrap(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            if id(x) in known and func._schema.name == "aten::_to_copy":
                x = x.clone()  # a copy between devices is never the original
            return known[id(x)] if id(x) in known else OnGPU(x) if to_gpu else x

        return tree_map(wrap, out)


def _pin(name: str, tensor: Tensor) -> Any:
    if name == "aten::is_pinned" or hasattr(tensor, "is_on_pinned"):
        return hasattr(tensor, "is_on_pinned") if name == "aten::is_pinned" else tensor
    pinned = tensor.clone()
    pinned.is_on_pinned = True  # type: ignore[attr-defined]
    return pinned


@contextmanager
def _drawing_from(rng: torch.Generator) -> Iterator[None]:
    """Draw from the device's generator, as operators on a device do."""
    outside = torch.default_generator.get_state()
    torch.default_generator.set_state(rng.get_state())
    try:
        yield
    finally:
        rng.set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(outside)


@contextmanager
def _modules_replace_parameters() -> Iterator[None]:
    """Let `Module.to` replace parameters, as it cannot give them the data of another class."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    lift = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lift)
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _line() -> str:
    """Return the innermost line of the library that is running."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(PACKAGE):
            return f"{path.relative_to(PACKAGE)}: {frame.line}"
    return "elsewhere"
