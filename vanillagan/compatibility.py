"""Checks that networks, loss and data go together, and warnings where they may not."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vanillagan.batch import LABEL_KEYS, Batch, from_bytes, in_layout
from vanillagan.callback import Callback
from vanillagan.data.in_memory import labels_of
from vanillagan.ema import EMA
from vanillagan.errors import stacklevel_of_user
from vanillagan.losses import AdversarialLoss
from vanillagan.networks.base import DiscriminatorBase, GeneratorBase
from vanillagan.penalties import Penalty
from vanillagan.runtime.device import device_of, evaluating, uncompiled
from vanillagan.runtime.rng import isolated_rng
from vanillagan.traits import (
    label_shape_of,
    num_classes_of,
    outputs_probabilities,
    sample_shape_of,
)
from vanillagan.validation import (
    check_condition,
    check_dense,
    check_finite,
    check_function,
    check_labels,
    check_output,
    check_type,
)

if TYPE_CHECKING:
    from vanillagan.trainer import GANTrainer

__all__ = [
    "check_batch",
    "check_classes",
    "check_fake",
    "check_first_batch",
    "check_logits",
    "check_networks",
    "check_parts",
    "warning_of_settings",
]


def check_networks(generator: nn.Module, discriminator: nn.Module, loss: AdversarialLoss) -> None:
    """Raise if the networks and the loss are of the wrong type or do not go together."""
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        check_type(name, network, nn.Module, "a torch.nn.Module")
        if not any(weight.requires_grad for weight in network.parameters()):
            raise ValueError(
                f"`{name}` must have parameters to train, got none that require gradients"
            )
    trained = {weight for weight in generator.parameters() if weight.requires_grad}
    shared = [key for key, weight in discriminator.named_parameters() if weight in trained]
    if shared:
        raise ValueError(
            f"`discriminator` must have weights of its own, got `{shared[0]}`, which `generator` "
            "has, too: copy it (copy.deepcopy), or freeze it (`requires_grad_(False)`)"
        )
    generator, discriminator = uncompiled(generator), uncompiled(discriminator)
    if isinstance(generator, DiscriminatorBase) or isinstance(discriminator, GeneratorBase):
        raise ValueError(
            "`generator` must be the network that makes samples, and comes first, got "
            f"{type(generator).__name__} as generator and {type(discriminator).__name__} as "
            "discriminator: swap them"
        )
    check_type("loss", loss, AdversarialLoss, "an AdversarialLoss such as BCEAdversarialLoss()")
    traits: tuple[tuple[str, Callable[[nn.Module], object]], ...] = (
        ("sample_shape", sample_shape_of),
        ("num_classes", num_classes_of),
        ("label_shape", label_shape_of),
    )
    for trait, of in traits:
        expected, got, hint = of(generator), of(discriminator), ""
        if trait == "num_classes" and not isinstance(discriminator, DiscriminatorBase):
            # a classifier of torchvision or timm calls its number of outputs num_classes
            got = 0 if (expected, got) == (0, 1) else got
            hint = " (a classifier whose num_classes is its number of outputs must have 1)"
        # num_classes is always known; a shape only where both declare it
        if expected != got and expected is not None and got is not None:
            raise ValueError(
                f"`discriminator` must have the generator's {trait} {expected}, got {got}{hint}"
            )
    from_logits = getattr(loss, "from_logits", True)
    if from_logits and outputs_probabilities(discriminator):
        raise ValueError(
            "`loss` must take probabilities for a discriminator that ends in a Sigmoid, as "
            f"BCEAdversarialLoss(from_logits=False) does, got {loss!r}; or remove the Sigmoid"
        )
    if not from_logits and getattr(discriminator, "outputs_logits", False):
        raise ValueError(
            f"`loss` must take logits, which {type(discriminator).__name__} returns, got {loss!r}"
        )


def check_parts(
    penalties: Sequence[Penalty],
    callbacks: Sequence[Callback],
    latent_sampler: object,
    ema: object,
    lr_schedule: object,
) -> None:
    """Raise if one of the trainer's other parts is of the wrong type."""
    lists = (
        ("penalties", penalties, Penalty, "a Penalty such as R1(0.5)"),
        ("callbacks", callbacks, Callback, "a Callback"),
    )
    for name, parts, kind, expected in lists:
        check_type(name, parts, Sequence, f"a list of {name}")
        for index, part in enumerate(parts):
            check_type(f"{name}[{index}]", part, kind, expected)
    if latent_sampler is not None:
        expected = "a function (n, torch.Generator) -> Tensor"
        check_function("latent_sampler", latent_sampler, expected)
    if lr_schedule is not None:
        factor = lr_schedule(0.0) if callable(lr_schedule) else None
        if not isinstance(factor, int | float) or not factor >= 0:
            raise TypeError(
                "`lr_schedule` must be a function from the fraction of the run that is done to a "
                f"factor of at least 0, such as linear_decay(0.5), got {lr_schedule!r:.80}"
            )
    if ema is not None:
        check_type("ema", ema, EMA, "an EMA such as EMA(0.999)")


_CONVERSIONS = {
    torch.uint8: "convert bytes with `images.float() / 127.5 - 1`, or wrap images in "
    "`vanillagan.data.ByteImages`",
    torch.bool: "convert them with `samples.float() * 2 - 1`",
}
"""Remedies for samples that are not floats, by dtype."""


def check_batch(batch: Batch, generator: nn.Module, *, smallest: int) -> Batch:
    """Return the batch as the networks need it, without labels that nobody reads; or raise.

    Images get the generator's layout, and floats in place of bytes.

    Values are checked on the CPU alone: reading them from another device would synchronize.
    """
    if not torch.is_grad_enabled():
        raise RuntimeError(
            "gradients are disabled: leave `torch.no_grad()` or `torch.inference_mode()`, or call "
            "`torch.set_grad_enabled(True)`, before training"
        )
    check_type("unpack_batch", batch, Batch, "a function that returns a Batch")
    samples, labels = batch
    check_type("batch", samples, Tensor, "a tensor of samples")
    check_dense("batch", samples, needs_values=device_of(generator).type != "meta")
    shape = sample_shape_of(generator)
    samples = in_layout(samples, shape)
    if samples.dtype == torch.uint8 and samples.dim() == 4:  # images, as of `ByteImages`
        samples = from_bytes(samples)
    if not samples.is_floating_point():
        remedy = _CONVERSIONS.get(
            samples.dtype,
            "scale the range that the values use, from `low` to `high`, with "
            "`(samples.float() - low) / (high - low) * 2 - 1`",
        )
        raise TypeError(
            f"`batch` must hold floats in [-1, 1], got samples of {samples.dtype}: {remedy}"
        )
    if samples.dim() == 0 or (shape is not None and samples.shape[1:] != shape):
        expected = f"a batch ({', '.join(['N', *map(str, shape or ())])})"
        reading = f"neither {expected} nor a single sample"
        if samples.shape == shape:
            reading = f"a single sample, not {expected}"
        remedy = "resize or convert the samples, or create both networks for their shape"
        raise ValueError(
            f"`batch` must hold samples of the generator's shape {shape}, got samples of shape "
            f"{tuple(samples.shape[1:])} (a tensor {tuple(samples.shape)} is {reading}): {remedy}"
        )
    if len(samples) < smallest:
        raise ValueError(
            f"`batch` must hold at least {smallest} samples (one for each discriminator step and "
            "each part of `accumulate`, or two if a network has BatchNorm), got "
            f"{len(samples)}"
        )
    if samples.device.type == "cpu":
        check_finite("batch", samples)
    samples = samples.detach()  # a graph on the data would be freed by the first backward
    return Batch(samples, _labels_for(generator, labels, len(samples)))


def _labels_for(generator: nn.Module, labels: Any, count: int) -> Tensor | None:
    """Return the labels that the networks need; None if they need none."""
    label_shape, num_classes = label_shape_of(generator), num_classes_of(generator)
    if label_shape is None:
        return None
    if labels is None:
        raise ValueError(
            "`batch` must hold labels for conditional networks, got samples alone: yield pairs "
            f"(samples, labels), or a mapping with one of the keys {', '.join(LABEL_KEYS)}"
        )
    if not num_classes:
        return check_condition(labels, label_shape, count).detach()
    check_labels(labels, num_classes, count)
    checked: Tensor = labels
    return checked


def check_first_batch(trainer: GANTrainer, batch: Batch, *, given: Batch) -> None:
    """Check what networks of the user's return, before a step; warn of what trains amiss.

    Networks of the library, which declare what they return, are not called. The others run once, in
    eval mode and on isolated random states, so that an error leaves everything unchanged.

    Args:
        trainer: The trainer.
        batch: The first batch of its shape, as the networks need it.
        given: The same as the data yields it.
    """
    generator, discriminator = trainer.generator, trainer.discriminator
    classes = num_classes_of(generator)
    if classes and given.labels is not None:  # once, also those that lie on a device
        check_labels(given.labels.cpu(), classes, len(batch.samples))
    warns = trainer.progress.step == 0
    if warns:
        _warn_of_pairs(given, generator)
    part = batch.split(trainer.discriminator_steps * trainer.accumulate)[0]  # as a step has it
    with (
        # nothing is compiled for a single call
        torch.compiler.set_stance("force_eager"),
        evaluating(generator),
        evaluating(discriminator),
        isolated_rng(0),
        trainer.rng.preserved(),
    ):
        if sample_shape_of(generator) is None:
            trainer.generate(part)
        if warns:
            _warn_of_range(trainer, batch, part)
        # steps of a subclass may read a discriminator that returns something else
        steps = type(trainer).generator_step, type(trainer).discriminator_step
        has_plain_steps = all(step.__module__ == "vanillagan.trainer" for step in steps)
        if has_plain_steps and not isinstance(discriminator, DiscriminatorBase):
            logits = trainer.discriminate(*part)
            if warns and not getattr(discriminator, "outputs_logits", False):
                _warn_of_outputs(logits, trainer.loss)


def check_fake(fake: Tensor, samples: Tensor) -> None:
    """Raise if the fakes are no tensor, or of another shape than the real samples."""
    check_output("generator", fake, "wrap it in a module that returns the samples alone")
    if fake.shape != samples.shape:
        hint = " (join single samples by `torch.stack`, or declare `sample_shape`)"
        raise ValueError(
            f"`generator` must make fakes of the shape of the real samples {tuple(samples.shape)}, "
            f"got {tuple(fake.shape)}{hint * (fake.shape[1:] == samples.shape)}"
        )


def check_logits(logits: Tensor) -> None:
    """Raise if the discriminator's outputs are no tensor."""
    check_output(
        "discriminator",
        logits,
        "join several maps with `torch.cat([m.flatten(1) for m in maps], 1)`, or override "
        "`GANTrainer.discriminate` to return the logits alone",
    )


def check_classes(data: object, generator: nn.Module) -> None:
    """Raise if labels in memory are out of range; warn if they leave out classes.

    They are read once, also from another device: there a class out of range is a fatal error.
    """
    num_classes, labels = num_classes_of(generator), labels_of(data)
    if not num_classes or labels is None:
        return
    classes = labels.unique().cpu()
    check_labels(classes, num_classes, len(classes))
    missing = sorted(set(range(num_classes)) - set(classes.tolist()))
    if missing:
        listed = ", ".join(map(str, missing))
        _warn(
            f"`data` has no samples of {len(missing)} of the generator's {num_classes} classes, "
            f"which it can't learn: {listed:.80}"
        )


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=stacklevel_of_user())


def _warn_of_pairs(batch: Batch, generator: nn.Module) -> None:
    """Warn if batches are pairs of samples, of which an unconditional trainer uses the first."""
    samples, labels = batch
    if label_shape_of(generator) is not None or not isinstance(labels, Tensor):
        return
    # images of both may differ in their channels
    are_images = samples.dim() == labels.dim() > 2 and samples.shape[2:] == labels.shape[2:]
    are_rows = samples.dim() > 1 and samples.shape == labels.shape
    if labels.is_floating_point() and (are_images or are_rows):
        _warn(
            "`data` yields pairs of samples, but only the first of each pair is used, and the "
            f"second, of shape {tuple(labels.shape[1:])}, is dropped: yield the samples alone, or "
            "override `GANTrainer.unpack_batch` and `generate` to use both"
        )


def _warn_of_range(trainer: GANTrainer, batch: Batch, part: Batch) -> None:
    """Warn if samples are outside of the range of the generator's Tanh, or in a part of it."""
    if batch.samples.is_meta:
        return
    low, high = (float(value) for value in torch.aminmax(batch.samples))
    found = f"the samples lie in [{low:g}, {high:g}], "
    if low < high < -0.99:
        warning = (
            "as images of bytes 0 and 1 do: scale them to [-1, 1], such as by `x.float() * 2 - 1`"
        )
    elif low < -1.001 or high > 1.001:
        warning = (
            "but the generator's Tanh only reaches [-1, 1]: scale the data, or create the "
            "generator with output='linear'"
        )
    elif 0 <= low < high:
        warning = (
            "but the generator's Tanh reaches [-1, 1]: scale the data by `2 * samples - 1`, as "
            "`Normalize(0.5, 0.5)` of torchvision does"
        )
    else:
        return
    own = isinstance(trainer.generator, GeneratorBase) and trainer.generator.config.get("output")
    if (own or _last_operation(trainer.generate(part)).lower()) == "tanh":
        _warn(found + warning)


def _warn_of_outputs(logits: Tensor, loss: AdversarialLoss) -> None:
    """Warn if the discriminator's outputs seem to be probabilities or of two classes.

    The operations in the autograd graph tell, which needs no values from the device.
    """
    operation = _last_operation(logits)
    if operation == "Sigmoid" and getattr(loss, "from_logits", True):
        _warn(
            "`discriminator` returns probabilities (it ends in a sigmoid), but `loss` takes "
            "logits: remove the sigmoid, or pass `loss=BCEAdversarialLoss(from_logits=False)`"
        )
    # two columns that were joined are logits of two networks or maps
    elif operation.endswith("Softmax") or (operation != "Cat" and logits.shape[1:] == (2,)):
        _warn(
            f"`discriminator` returns {logits[0].numel()} values for each sample, and each is "
            "taken as a logit: for two classes remove the softmax, if any, and return the logit of "
            "real minus that of fake, `x[:, 1] - x[:, 0]`"
        )


LAYOUT = {"Alias", "Clamp", "Clone", "Expand", "Mean", "Permute", "Select", "Slice", "Split"}
LAYOUT |= {"Squeeze", "T", "ToCopy", "Transpose", "UnsafeSplit", "UnsafeView", "Unsqueeze", "View"}
"""Operations of the autograd graph after which a network's last activation is looked for."""


def _last_operation(output: Tensor) -> str:
    """Return the name of the last operation of a network, apart from changes of layout."""
    node: Any = output.grad_fn
    while node is not None:
        name = re.sub(r"Backward\d*$", "", node.name())
        if name not in LAYOUT:
            return name
        node = node.next_functions[0][0]
    return ""


@contextmanager
def warning_of_settings(trainer: GANTrainer) -> Iterator[None]:
    """Warn if what runs inside, which restores a checkpoint, replaces settings of the script."""
    before = [player.settings() for player in trainer.players]
    yield
    skip = {"lr"} if trainer.lr_schedule is not None else set()  # it sets them at each step
    for player, groups in zip(trainer.players, before, strict=True):
        for index, (old, new) in enumerate(zip(groups, player.settings(), strict=True)):
            # schedulers and callbacks change settings, too
            of_script = player.optimizer.param_groups[index].get("initial_settings", {})
            for name in sorted(old.keys() & new.keys() - skip):
                if old[name] not in (new[name], of_script.get(name)):
                    _warn(
                        f"the {player.name}'s optimizer goes on with {name}={new[name]} of the "
                        f"checkpoint, not with {name}={old[name]} of this trainer; to change it, "
                        f"set `trainer.{player.name[0]}.optimizer.param_groups[{index}][{name!r}]` "
                        "after `load`"
                    )
