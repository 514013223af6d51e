"""What the trainer refuses: players and parts that don't go together, and bad batches."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vanillagan.data import Batch, is_finite, labels_of
from vanillagan.ema import EMA
from vanillagan.errors import check_kind
from vanillagan.hooks import Callback
from vanillagan.losses import AdversarialLoss
from vanillagan.networks.base import GeneratorBase
from vanillagan.networks.blocks import check_labels, classes_of, gives_probabilities
from vanillagan.penalties import Penalty

__all__ = [
    "check_batch",
    "check_fakes",
    "check_game",
    "warn_of_missing_classes",
    "warn_of_range",
]


def check_game(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: AdversarialLoss,
    penalties: Sequence[Penalty],
    callbacks: Sequence[Callback],
    latent: object,
    ema: object,
) -> None:
    """Raises where the parts of a game are of the wrong kind or don't go together."""
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        check_kind(name, network, nn.Module, "a torch.nn.Module")
        if not any(weight.requires_grad for weight in network.parameters()):
            raise ValueError(
                f"`{name}` must have weights to train, got none that require gradients"
            )
    check_kind("loss", loss, AdversarialLoss, "an AdversarialLoss such as BCEAdversarialLoss()")
    check_kind("penalties", penalties, Sequence, "a list of penalties such as [R1(0.5)]")
    for index, penalty in enumerate(penalties):
        check_kind(f"penalties[{index}]", penalty, Penalty, "a Penalty such as R1(0.5)")
    check_kind("callbacks", callbacks, Sequence, "a list of callbacks")
    for index, callback in enumerate(callbacks):
        check_kind(f"callbacks[{index}]", callback, Callback, "a Callback")
    if latent is not None and not callable(latent):
        raise TypeError(
            f"`latent` must be a function (n, torch.Generator) -> Tensor, got {latent!r}"
        )
    if ema is not None:
        check_kind("ema", ema, EMA, "an EMA such as EMA(0.999)")
    shape, its_shape = _shape_of(generator), _shape_of(discriminator)
    if shape is not None and its_shape is not None and shape != its_shape:
        raise ValueError(
            f"`discriminator` must have the generator's sample_shape {shape}, got {its_shape}"
        )
    classes, its_classes = classes_of(generator), classes_of(discriminator)
    if classes != its_classes:
        raise ValueError(
            f"`discriminator` must have the generator's num_classes {classes}, got {its_classes}"
        )
    _check_scores(discriminator, from_logits=getattr(loss, "from_logits", True), loss=loss)


def _shape_of(network: nn.Module) -> tuple[int, ...] | None:
    shape = getattr(network, "sample_shape", None)
    return None if shape is None else tuple(shape)


def _check_scores(discriminator: nn.Module, *, from_logits: bool, loss: AdversarialLoss) -> None:
    if from_logits and gives_probabilities(discriminator):
        raise ValueError(
            f"`loss` must take probabilities for a discriminator that ends in a Sigmoid, as "
            f"BCEAdversarialLoss(from_logits=False) does, got {loss!r}; or leave the Sigmoid away"
        )
    if not from_logits and getattr(discriminator, "returns_logits", False):
        raise ValueError(
            f"`loss` must take logits, which {type(discriminator).__name__} gives, got {loss!r}"
        )


def check_batch(batch: Batch, *, smallest: int, generator: nn.Module) -> Batch:
    """Returns the batch as the networks need it, without labels that nobody reads; or raises."""
    samples, labels = batch
    check_kind("batch", samples, Tensor, "a tensor of samples")
    if not samples.is_floating_point():
        raise TypeError(
            f"`batch` must hold floats in [-1, 1], got samples of {samples.dtype}: convert bytes "
            "with `images.float() / 127.5 - 1`, or wrap them in `vanillagan.data.ByteImages`"
        )
    shape = _shape_of(generator)
    if samples.dim() == 0 or (shape is not None and samples.shape[1:] != shape):
        single = " (a single sample: batches have the shape (N, *sample_shape))"
        raise ValueError(
            f"`batch` must hold samples of the generator's shape {shape}, got samples of shape "
            f"{tuple(samples.shape[1:])}{single if samples.shape == shape else ''}"
        )
    if len(samples) < smallest:
        raise ValueError(
            f"`batch` must hold at least {smallest} samples (two for each step of a discriminator "
            f"where a network has BatchNorm), got {len(samples)}"
        )
    # on another device this would wait for it
    if samples.device.type == "cpu" and not is_finite(samples):
        raise ValueError("`batch` must be finite, got NaN or infinite values in the samples")
    num_classes = classes_of(generator)
    if num_classes == 0:
        return Batch(samples)
    check_labels(labels, num_classes, len(samples))
    return Batch(samples, labels)


def check_fakes(fake: Tensor, samples: Tensor) -> None:
    """Raises where the fakes are of another shape than the real samples."""
    if fake.shape != samples.shape:
        raise ValueError(
            f"`generator` must make fakes of the shape of the real samples {tuple(samples.shape)}, "
            f"got {tuple(fake.shape)}"
        )


def warn_of_missing_classes(data: object, generator: nn.Module) -> None:
    """Warns where labels in memory leave a class of the generator out, which it can't learn."""
    num_classes, labels = classes_of(generator), labels_of(data)
    if not num_classes or labels is None:
        return
    missing = sorted(set(range(num_classes)) - set(labels.unique().tolist()))
    if missing:
        listed = ", ".join(map(str, missing))
        warnings.warn(
            f"`data` has no samples of {len(missing)} of the generator's {num_classes} classes, "
            f"which it can't learn: {listed:.80}",
            stacklevel=4,
        )


def warn_of_range(samples: Tensor, generator: nn.Module) -> None:
    """Warns where the generator can't reach the samples, because its Tanh ends at 1."""
    if not isinstance(generator, GeneratorBase) or generator.config["output"] != "tanh":
        return
    low, high = torch.aminmax(samples.detach())
    if low < -1.001 or high > 1.001:
        warnings.warn(
            f"the samples lie in [{float(low):g}, {float(high):g}], but the generator's Tanh only "
            "reaches [-1, 1]: scale the data, or make the generator with output='linear'",
            stacklevel=4,
        )
