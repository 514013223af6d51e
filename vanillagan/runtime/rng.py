"""Random states: those of the global generators, and that of a run."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vanillagan.runtime.device import current_accelerator
from vanillagan.runtime.distributed import Distributed
from vanillagan.validation import check_seed, check_state

__all__ = ["GlobalRNG", "RandomStates", "RankRNG", "RunRNG", "isolated_rng", "seeded"]


class RandomStates(NamedTuple):
    """States of the global generators: PyTorch's, each accelerator's, NumPy's, Python's."""

    torch: Tensor
    accelerators: list[Tensor]
    numpy: Any
    python: Any

    @staticmethod
    def now() -> RandomStates:
        """Return the current states."""
        module = _accelerator()
        count = 0 if module is None else module.device_count()
        return RandomStates(
            torch.default_generator.get_state(),
            [module.get_rng_state(index) for index in range(count)],
            np.random.get_state(),
            random.getstate(),
        )

    def restore(self) -> None:
        """Make these the current states."""
        torch.default_generator.set_state(self.torch)
        for index, state in enumerate(self.accelerators):
            _accelerator().set_rng_state(state, index)
        np.random.set_state(self.numpy)
        random.setstate(self.python)


class GlobalRNG:
    """State of the global generators: PyTorch's, NumPy's, Python's.

    Args:
        device: Device whose generator is included; those of other accelerators are not.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def state_dict(self) -> dict[str, Any]:
        """Return the states, as tensors and primitives."""
        states = RandomStates.now()
        kind, keys, *rest = states.numpy
        module = _accelerator(self.device.type)
        return {
            "torch": states.torch,
            "accelerator": {}
            if module is None
            else {self.device.type: module.get_rng_state(self.device)},
            "numpy": [kind, keys.tolist(), *rest],
            "python": states.python,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, perhaps on a machine with other accelerators."""
        kind, keys, *rest = state["numpy"]
        version, words, gauss = state["python"]
        numpy_state = (kind, np.array(keys, dtype=np.uint32), *rest)
        RandomStates(state["torch"], [], numpy_state, (version, tuple(words), gauss)).restore()
        module = _accelerator(self.device.type)
        if module is not None and self.device.type in state["accelerator"]:
            module.set_rng_state(state["accelerator"][self.device.type], self.device)


class RankRNG:
    """States of the global generators of all ranks; each rank restores its own."""

    def __init__(self, distributed: Distributed, device: torch.device) -> None:
        self.distributed = distributed
        self._rng = GlobalRNG(device)

    def state_dict(self) -> dict[str, Any]:
        """Return the states by rank."""
        return {"ranks": self.distributed.all_gather(self._rng.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore this rank's part of what `state_dict` returned."""
        # only what comes from a file is checked: sources restore a `GlobalRNG` for each batch
        words, generator = {int: int}, torch.empty(0, dtype=torch.uint8)
        numpy_form = {0: str, 1: words, 2: int, 3: int, 4: float}
        form = {"torch": generator, "accelerator": {str: generator}, "numpy": numpy_form}
        form |= {"python": {0: int, 1: words, 2: (float, None)}}
        check_state("global_rng", state, {"ranks": {int: form}})
        ranks = state["ranks"]
        if any(rank["numpy"][2] > len(rank["numpy"][1]) for rank in ranks):
            raise ValueError("NumPy's position must lie in its state")  # it reads memory at it
        # modulo: a run may be resumed with more ranks than it was saved with
        self._rng.load_state_dict(ranks[self.distributed.rank % len(ranks)])


class RunRNG:
    """Random state of a run: the seed of its sample order, and the generator of its latents.

    Args:
        seed: Seed of both.
        device: Device of the trainer. Latents are drawn on it if it is a CUDA device, else on the
            CPU.

    Attributes:
        seed: Seed of the order of samples.
        latents: Generator that latents are drawn from.
    """

    def __init__(self, seed: int, device: torch.device | None = None) -> None:
        self.seed = check_seed(seed)
        on_device = device is not None and device.type == "cuda"
        self.latents = torch.Generator(device if on_device else "cpu").manual_seed(seed)

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Restore the state of the latents' generator afterwards."""
        state = self.latents.get_state()
        try:
            yield
        finally:
            self.latents.set_state(state)

    def state_dict(self) -> dict[str, Any]:
        """Return the seed and the generator's state."""
        return {"seed": self.seed, "latents": self.latents.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        check_state("run_rng", state, {"seed": int, "latents": self.latents.get_state()})
        self.seed = state["seed"]
        latents = state["latents"]
        sizes = {16, len(torch.Generator().get_state())}  # bytes: of a CUDA device, of the CPU
        if len(latents) not in sizes - {len(self.latents.get_state())}:
            self.latents.set_state(latents)
        else:  # from the other kind of device: the run goes on with other latents
            digest = hashlib.sha256(latents.numpy().tobytes()).digest()
            self.latents.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@contextmanager
def isolated_rng(start: int | RandomStates) -> Iterator[None]:
    """Seed the global generators for what runs inside, and restore them afterwards.

    Args:
        start: Seed of the generators, or states for them.
    """
    outside = RandomStates.now()
    if isinstance(start, RandomStates):
        start.restore()
    else:
        _seed(start)
    try:
        yield
    finally:
        outside.restore()


def _seed(seed: int) -> None:
    # `torch.manual_seed` would replace the user's seed of an accelerator that is not in use yet,
    # and takes 100 us and more: it formats a stack trace
    torch.default_generator.manual_seed(seed)
    module = _accelerator()
    if module is not None:
        seed_all = getattr(module, "manual_seed_all", None)  # torch.mps, of one device, has none
        (seed_all or module.manual_seed)(seed)
    np.random.seed(seed % 2**32)  # the largest seed that NumPy takes
    random.seed(seed)


def _accelerator(device_type: str | None = None) -> Any:
    """Return the module of the accelerator, such as `torch.cuda`; None if it is not in use.

    Args:
        device_type: Return None for an accelerator of another type.
    """
    device = current_accelerator()
    if device is None or device_type not in (None, device.type):
        return None
    module = torch.get_device_module(device)
    # to read a state would initialize CUDA, which takes seconds and breaks `fork`
    is_in_use = getattr(module, "is_initialized", None)  # torch.mps has none
    return module if (is_in_use or module.is_available)() else None


def seeded(seed: int | None) -> tuple[torch.Generator, int]:
    """Return a generator and its seed; a new seed if `seed` is None."""
    rng = torch.Generator()
    # `Generator.seed` draws from [0, 2**64), which `manual_seed` does not take
    seed = rng.seed() % 2**63 if seed is None else check_seed(seed)
    return rng.manual_seed(seed), seed
