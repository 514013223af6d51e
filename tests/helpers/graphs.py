"""CUDA graphs: runs to compare with ordinary steps, and graphs that are emulated on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, StepLR
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.data import TensorDataset

from vanillagan import (
    EMA,
    R1,
    R2,
    ConvDiscriminator,
    ConvGenerator,
    Discriminator,
    GANTrainer,
    Generator,
    GradientPenalty,
    RelativisticLoss,
    adam,
)
from vanillagan.callbacks import GradientClip, HealthMonitor, LRSchedule
from vanillagan.errors import TrainingHealthWarning
from vanillagan.networks import DiffAugment, TextDiscriminator, TextGenerator

RATE = 2**-12
"""A learning rate that float32 holds: on the device it is the same number as on the host."""

IMAGES = torch.rand(100, 1, 6, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1
COLORS = torch.rand(100, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
TOKENS = torch.randint(5, (100, 6), generator=torch.Generator().manual_seed(3))
TEXT = nn.functional.one_hot(TOKENS, 5).float()


def mlps(**options: Any) -> tuple[nn.Module, nn.Module]:
    return (
        Generator(8, (1, 6, 6), hidden=(16, 24), **options),
        Discriminator((1, 6, 6), hidden=(16,), dropout=0.2, **options),
    )


def convolutions() -> tuple[nn.Module, nn.Module]:
    discriminator = ConvDiscriminator((3, 8, 8), base_channels=4)
    return ConvGenerator(8, (3, 8, 8), base_channels=4), DiffAugment(discriminator)


def texts() -> tuple[nn.Module, nn.Module]:
    options: Any = {"channels": 8, "blocks": 1}
    return TextGenerator(8, (6, 5), **options), TextDiscriminator((6, 5), **options)


def by_steps(optimizer: Any) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: 1 - step / 64)


def by_epochs(optimizer: Any) -> StepLR:
    return StepLR(optimizer, 1, 0.5)


def in_sixteenths(done: float) -> float:
    return 1 - round(done * 16) / 32


def sgd(weights: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, lr=0.01, momentum=0.9)


def rmsprop(weights: Any) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(weights, lr=1e-3)


PLAIN = [(4, 1), (16, 1)]

CONFIGURATIONS: dict[str, tuple[Any, Any, Any, list[tuple[int, int]]]] = {
    "plain": (mlps, IMAGES, dict, PLAIN),
    "EMA, lazy penalties": (
        mlps,
        IMAGES,
        lambda: {"ema": EMA(), "penalties": [R1(1.0, every=4), R2(1.0, every=3)]},
        [(16, 1)] * 4,
    ),
    "two steps, discriminator first": (
        mlps,
        IMAGES,
        lambda: {"discriminator_steps": 2, "update_order": "discriminator_first"},
        [(32, 1)],
    ),
    "relativistic, GP, convolutions, DiffAugment": (
        convolutions,
        COLORS,
        lambda: {"loss": RelativisticLoss(), "penalties": [GradientPenalty()]},
        PLAIN,
    ),
    "labels": (
        lambda: mlps(num_classes=3),
        TensorDataset(IMAGES, torch.arange(100) % 3),
        dict,
        PLAIN,
    ),
    "text": (texts, TEXT, lambda: {"penalties": [R1(1.0)]}, PLAIN),
    "clip, health": (
        mlps,
        IMAGES,
        lambda: {"callbacks": [GradientClip(0.05), HealthMonitor(every_n_steps=5, patience=1)]},
        [(4, 3), (16, 3)],
    ),
    "schedule by epochs": (mlps, IMAGES, lambda: {"callbacks": [LRSchedule(by_epochs)]}, PLAIN),
    "schedule by steps": (
        mlps,
        IMAGES,
        lambda: {"callbacks": [LRSchedule(by_steps, interval="step")]},
        PLAIN,
    ),
    "lr_schedule": (mlps, IMAGES, lambda: {"lr_schedule": in_sixteenths}, PLAIN),
    "SGD, RMSprop": (
        mlps,
        IMAGES,
        lambda: {"generator_optimizer": sgd, "discriminator_optimizer": rmsprop},
        PLAIN,
    ),
    "bf16": (mlps, IMAGES, lambda: {"precision": "bf16"}, PLAIN),
    "accumulate": (mlps, IMAGES, lambda: {"accumulate": 2}, PLAIN),
    "two steps, accumulate, GP": (
        mlps,
        IMAGES,
        lambda: {
            "accumulate": 2,
            "discriminator_steps": 2,
            "penalties": [GradientPenalty(every=2)],
            "callbacks": [GradientClip(0.05)],
        },
        [(32, 4), (32, 4)],
    ),
}
"""Networks, data, options of the trainer, and batch size and number of graphs of each tape."""


def make(
    name: str, *, cuda_graphs: bool, cls: type[GANTrainer] = GANTrainer, device: str = "cpu"
) -> tuple[GANTrainer, Any]:
    """Return a trainer of a configuration, and its data; the seed of both is always the same."""
    networks, data, options, _ = CONFIGURATIONS[name]
    torch.manual_seed(3)
    rates = {f"{player}_optimizer": adam(RATE) for player in ("generator", "discriminator")}
    trainer = cls(*networks(), device=device, cuda_graphs=cuda_graphs, **rates | options())
    torch.manual_seed(8)
    return trainer, data


def fit(trainer: GANTrainer, data: Any, steps: int = 40) -> None:
    """Train on batches of 16 and one of 4."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingHealthWarning)
        trainer.fit(data, max_steps=steps, batch_size=16)


def state(trainer: GANTrainer) -> dict[str, Any]:
    """Return all that a checkpoint holds."""
    return {name: part.state_dict() for name, part in trainer.state_objects().items()}


class Stopped(GANTrainer):
    """A trainer that is interrupted between two replays."""

    def on_step_end(self, result: Any) -> None:
        if self.progress.step == 23:
            self.stop("as if by a signal")


class EmulatedGraphs:
    """Stands in for `vanillagan.runtime.graphs.CUDAGraphs`, and counts the graphs."""

    device_type = "cpu"

    def __init__(self, device: torch.device, rng: torch.Generator) -> None:
        self._generators = [torch.default_generator, rng]
        self.count = 0

    def take_new_memory(self) -> None:
        pass

    def warming_up(self) -> AbstractContextManager[None]:
        return nullcontext()

    @contextmanager
    def recording(self) -> Iterator[Callable[[], None]]:
        self.count += 1
        graph = EmulatedGraph()
        states = [generator.get_state() for generator in self._generators]
        try:
            with graph:
                yield graph.replay
        finally:
            graph.undo()
            for generator, state in zip(self._generators, states, strict=True):
                generator.set_state(state)


class EmulatedGraph(TorchDispatchMode):
    """Notes operators as they run; what they have changed is undone, as recording runs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, list[tuple[int, Tensor]]]] = []
        self._made: set[int] = set()
        self._before: dict[int, tuple[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = set()
        for tensor in tree_flatten((args, kwargs))[0]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                inputs.add(storage.data_ptr())
                if storage.data_ptr() not in self._made | self._before.keys():
                    self._before[storage.data_ptr()] = storage, storage.clone()
        out = func(*args, **(kwargs or {}))
        fresh = [
            (index, tensor)
            for index, tensor in enumerate(tree_flatten(out)[0])
            if isinstance(tensor, Tensor)
            and tensor.numel()
            and tensor.untyped_storage().data_ptr() not in inputs
        ]
        self._made |= {tensor.untyped_storage().data_ptr() for _, tensor in fresh}
        self._calls.append((func, args, kwargs or {}, fresh))
        return out

    def undo(self) -> None:
        for storage, before in self._before.values():
            storage.copy_(before)
        self._before.clear()

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, fresh in self._calls:
            results = tree_flatten(func(*args, **kwargs))[0]
            for index, static in fresh:
                static.detach().copy_(results[index])


def tapes(trainer: GANTrainer) -> list[tuple[int, int]]:
    """Batch size and number of graphs of each recorded step."""
    assert trainer._graphs is not None
    found = trainer._graphs._tapes.values()
    names = [[getattr(part, "__name__", "") for part in tape._parts] for tape in found]
    sizes = [len(tape._batch.samples) for tape in found]
    return sorted((size, parts.count("replay")) for size, parts in zip(sizes, names, strict=True))
