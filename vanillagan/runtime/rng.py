"""Random states: those of the global generators, and that of a run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from vanillagan.runtime.distributed import Distributed
from vanillagan.validation import check_seed, check_state

__all__ = ["GlobalRNG", "RankRNG", "RunRNG", "isolated_rng", "seeded"]


class GlobalRNG:
    """State of the global generators: PyTorch's, NumPy's, Python's."""

    def state_dict(self) -> dict[str, Any]:
        """Return the states, as tensors and primitives."""
        numpy_state: Any = np.random.get_state()
        kind, keys, *rest = numpy_state
        return {
            "torch": torch.get_rng_state(),
            # reading it would initialize CUDA, which takes seconds and breaks `fork`
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "numpy": [kind, keys.tolist(), *rest],
            "python": random.getstate(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        torch.set_rng_state(state["torch"])
        for index, cuda in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda, index)
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))


class RankRNG:
    """States of the global generators of all ranks; each rank restores its own."""

    def __init__(self, distributed: Distributed) -> None:
        self.distributed = distributed

    def state_dict(self) -> dict[str, Any]:
        """Return the states by rank."""
        return {"ranks": self.distributed.all_gather(GlobalRNG().state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore this rank's part of what `state_dict` returned."""
        # only what comes from a file is checked: sources restore a `GlobalRNG` for each batch
        words, generator = {int: int}, torch.empty(0, dtype=torch.uint8)
        numpy_form = {0: str, 1: words, 2: int, 3: int, 4: float}
        form = {"torch": generator, "cuda": {int: generator}, "numpy": numpy_form}
        form |= {"python": {0: int, 1: words, 2: (float, None)}}
        check_state("global_rng", state, {"ranks": {int: form}})
        ranks = state["ranks"]
        if any(rank["numpy"][2] > len(rank["numpy"][1]) for rank in ranks):
            raise ValueError("NumPy's position must lie in its state")  # it reads memory at it
        # modulo: a run may be resumed with more ranks than it was saved with
        GlobalRNG().load_state_dict(ranks[self.distributed.rank % len(ranks)])


class RunRNG:
    """Random state of a run: the seed of its sample order, and the generator of its latents.

    Latents are drawn on the CPU, so that they are the same on every device.

    Attributes:
        seed: Seed of the order of samples.
        latents: Generator that latents are drawn from.
    """

    def __init__(self, seed: int) -> None:
        self.seed = check_seed(seed)
        self.latents = torch.Generator().manual_seed(seed)

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
        self.latents.set_state(state["latents"])


@contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Seed the global generators for what runs inside, and restore them afterwards."""
    rng = GlobalRNG()
    outside = rng.state_dict()
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # the largest seed that NumPy takes
    random.seed(seed)
    try:
        yield
    finally:
        rng.load_state_dict(outside)


def seeded(seed: int | None) -> tuple[torch.Generator, int]:
    """Return a generator and its seed; a new seed if `seed` is None."""
    rng = torch.Generator()
    # `Generator.seed` draws from [0, 2**64), which `manual_seed` does not take
    seed = rng.seed() % 2**63 if seed is None else check_seed(seed)
    return rng.manual_seed(seed), seed
