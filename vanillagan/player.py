"""Players (a network with its optimizer), optimizer factories and learning rate schedules."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vanillagan.batch import Batch
from vanillagan.progress import Progress
from vanillagan.runtime.device import uncompiled
from vanillagan.validation import check_number

__all__ = [
    "LRFactor",
    "OptimizerFactory",
    "Player",
    "adam",
    "apply_lr_schedule",
    "cosine_decay",
    "linear_decay",
]

OptimizerFactory: TypeAlias = Callable[[Iterable[nn.Parameter]], Optimizer]
"""Function that creates an optimizer: `lambda parameters: SGD(parameters, lr=0.1)`."""

LRFactor: TypeAlias = Callable[[float], float]
"""Function from the fraction of the run that is done, in [0, 1], to a factor of learning rates."""


class Player:
    """A network with its optimizer.

    Args:
        name: "generator" or "discriminator".
        network: Network, on its device; it may be compiled.
        optimizer: Function that creates the optimizer; `adam()` by default.
        compile: Run the network through `torch.compile` in training.

    Attributes:
        name: As above.
        network: The network, not compiled, as checkpoints hold it and penalties call it.
        forward: The network as training calls it: compiled, if the trainer compiles.
        parameters: Parameters in the order of the network, also frozen ones: they are trained from
            the step on in which they require gradients. Frozen integers are left out.
        optimizer: The optimizer.
        learning_rates: Initial learning rate of each parameter group, which schedules scale.

    Raises:
        TypeError: `optimizer` does not create an optimizer.
        ValueError: The optimizer has weights of another network.
    """

    def __init__(
        self,
        name: Literal["generator", "discriminator"],
        network: nn.Module,
        optimizer: OptimizerFactory | None = None,
        *,
        compile: bool = False,
    ) -> None:
        self.name = name
        self.network = uncompiled(network)
        self.forward: Callable[..., Tensor] = torch.compile(network) if compile else network
        self.parameters = tuple(
            weight
            for weight in network.parameters()
            if weight.requires_grad or weight.is_floating_point()
        )
        factory: Any = adam() if optimizer is None else optimizer
        self.optimizer: Optimizer = factory(self.parameters) if callable(factory) else factory
        if not callable(factory) or not isinstance(self.optimizer, Optimizer):
            raise TypeError(
                f"`{name}_optimizer` must be a function that creates an optimizer, such as "
                "`adam(lr=2e-4)` or `lambda parameters: torch.optim.SGD(parameters, lr=0.1)`, got "
                f"{self.optimizer!r:.60}"
            )
        closure = inspect.signature(self.optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise TypeError(
                f"`{name}_optimizer` must create an optimizer whose `step` needs no closure, got "
                f"{type(self.optimizer).__name__}"
            )
        groups = self.optimizer.param_groups
        others = {weight for group in groups for weight in group["params"]} - {*self.parameters}
        if others:
            raise ValueError(
                f"`{name}_optimizer` must train weights of the {name}, got {len(others)} others: "
                "use the parameters that the function is given, and make other modules a part of "
                f"the {name}"
            )
        self.learning_rates = [group["lr"] for group in groups]
        # in checkpoints: `load` warns of settings that another script has changed
        for group, settings in zip(groups, self.settings(), strict=True):
            group["initial_settings"] = settings
        # None: unknown until a network of the user's is called in training
        own = type(self.network).__module__.startswith("vanillagan.")
        self._works_in_place: bool | None = False if own else None

    def __repr__(self) -> str:
        count = sum(weight.numel() for weight in self.parameters)
        names = f"{type(self.network).__name__}, {type(self.optimizer).__name__}"
        return f"Player({self.name}: {names}, {count:,} parameters)"

    def judge(self, batch: Batch, *, eager: bool = False) -> Tensor:
        """Return the discriminator's logits of a batch, which stays as it is.

        Args:
            batch: Samples, with their labels if there are any. A network that works in place gets a
                copy: else the user's data would change, and the fakes of the next step.
            eager: Call the network itself: a compiled one has no second derivative.
        """
        network = self.network if eager else self.forward
        if self._works_in_place is False:
            return network(*batch.inputs)
        copied = Batch(batch.samples.clone(), batch.labels)
        logits: Tensor = network(*copied.inputs)
        if self._works_in_place is None and self.network.training:
            # once, as it synchronizes with the device
            self._works_in_place = not torch.equal(copied.samples, batch.samples)
        return logits

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the first parameter that is trained, which samples are converted to."""
        trained = (weight for weight in self.parameters if weight.requires_grad)
        return next(trained, self.parameters[0]).dtype

    def settings(self) -> list[dict[str, Any]]:
        """Return the numbers that each parameter group of the optimizer is set to."""
        groups = self.optimizer.param_groups
        numbers = [{k: v for k, v in g.items() if type(v) in (int, float, tuple)} for g in groups]
        # `initial_lr` is the rate before a scheduler of PyTorch scaled it
        return [group | {"lr": group.pop("initial_lr", group.get("lr"))} for group in numbers]

    def scale_learning_rates(self, factor: float) -> None:
        """Set each learning rate to its initial value times `factor`."""
        for group, rate in zip(self.optimizer.param_groups, self.learning_rates, strict=True):
            group["lr"] = rate * factor

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Disable gradients for this player's parameters while the other player is updated."""
        trainable = [weight for weight in self.parameters if weight.requires_grad]
        for weight in trainable:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in trainable:
                weight.requires_grad_(True)


def apply_lr_schedule(schedule: LRFactor, progress: Progress, players: Iterable[Player]) -> None:
    """Scale the players' learning rates by the schedule's factor at this point of the run."""
    if progress.fraction is None or progress.is_complete:
        warnings.warn(
            "`lr_schedule` has no effect in a loop of your own unless `trainer.progress.max_steps` "
            "is set to the number of steps of the run",
            stacklevel=3,
        )
        return
    factor = schedule(progress.fraction)
    for player in players:
        player.scale_learning_rates(factor)


def adam(lr: float = 2e-4, betas: tuple[float, float] = (0.5, 0.999)) -> OptimizerFactory:
    """Return a factory of fused Adam, by default with the settings of DCGAN.

    The reference implementation (PyTorch-GAN's gan.py) uses these settings too.

    Args:
        lr: Learning rate, above 0.
        betas: Decay rates of the two moments, in [0, 1).

    Returns:
        A value for `GANTrainer(generator_optimizer=..., discriminator_optimizer=...)`.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Radford et al., 2016 (DCGAN, arXiv 1511.06434), section 4: lr 0.0002, beta1 0.5.
    """
    lr = check_number("lr", lr, minimum=0, exclude_minimum=True)
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise ValueError(f"`betas` must be two numbers in [0, 1), got {betas!r}")
    first, second = (
        check_number(f"betas[{index}]", beta, minimum=0, maximum=1, exclude_maximum=True)
        for index, beta in enumerate(betas)
    )
    return lambda parameters: torch.optim.Adam(parameters, lr=lr, betas=(first, second), fused=True)


def linear_decay(start: float = 0.5) -> LRFactor:
    """Return a schedule: constant up to the fraction `start` of a run, then linear decay to 0.

    Args:
        start: Fraction of the run at which the decay begins, in [0, 1).

    Returns:
        A value for `GANTrainer(lr_schedule=...)`.

    Raises:
        ValueError, TypeError: `start` is invalid.

    Example:
        >>> factor = linear_decay(0.5)
        >>> factor(0.2), factor(0.75)
        (1.0, 0.5)
    """
    start = check_number("start", start, minimum=0, maximum=1, exclude_maximum=True)
    return lambda done: min(1.0, (1.0 - done) / (1.0 - start))


def cosine_decay() -> LRFactor:
    """Return a schedule: decay from 1 to 0 along half a cosine over the whole run.

    Returns:
        A value for `GANTrainer(lr_schedule=...)`.

    Source: Loshchilov and Hutter, 2017 (SGDR, arXiv 1608.03983), equation 5, without restarts.

    Example:
        >>> factor = cosine_decay()
        >>> factor(0.0), round(factor(0.5), 3)
        (1.0, 0.5)
    """
    return lambda done: (1.0 + math.cos(math.pi * done)) / 2.0
