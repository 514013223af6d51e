"""Plain draws from a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from vanillagan.data.latents import LatentSampler, draw_latents, latent_sampler_of
from vanillagan.runtime.device import device_of, dtype_of, evaluating
from vanillagan.runtime.rng import isolated_rng, seeded
from vanillagan.traits import label_shape_of, num_classes_of
from vanillagan.validation import (
    check_dense,
    check_function,
    check_integer,
    check_labels,
    check_output,
    check_type,
    shown,
)

__all__ = [
    "CHUNK",
    "Labels",
    "as_labels",
    "check_generator",
    "classes_in_turn",
    "draw_samples",
    "labels_in_turn",
]

Labels: TypeAlias = "Tensor | Sequence[int] | int | None"
"""Classes to sample: one for each sample, or one for all."""

CHUNK = 1000
"""Number of samples that go through a network at once, which bounds the memory."""


def draw_samples(
    generator: nn.Module,
    n: int,
    *,
    labels: Labels = None,
    latents: Tensor | None = None,
    latent_sampler: LatentSampler | None = None,
    seed: int | None = None,
    run: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Draw n samples from any generator, in eval mode and without gradients.

    Neither the modes of its modules nor the global random states change.

    Args:
        generator: `forward(latents)` or, conditioned on classes, `forward(latents, labels)`.
        n: Number of samples, at least 1.
        labels: Classes to sample: n of them, or one for all; for a generator with a `label_shape`,
            conditions of shape (n, *label_shape), or one for all.
        latents: Latents to use, shape (n, ...), instead of drawing them.
        latent_sampler: Draws latents; by default from N(0, 1) of `generator.latent_dim`.
        seed: Makes the samples repeatable; None draws new ones at each call.
        run: Called as `run(generator, latents)` or `run(generator, latents, labels)` in place of
            the generator, such as `trainer.run_generator`.

    Returns:
        Samples of shape (n, *sample_shape), on the generator's device.

    Raises:
        ValueError, TypeError: An argument is invalid, or labels and network do not fit.
    """
    n = check_integer("n", n, minimum=1)
    check_generator(generator)
    if run is not None:
        check_function("run", run, "a function of the generator and its inputs")
    rng, seed = seeded(seed)
    if latents is None:
        sampler = latent_sampler_of(generator) if latent_sampler is None else latent_sampler
        with isolated_rng(seed):  # a sampler may ignore its generator and use the global one
            latents = draw_latents(sampler, n, rng)
    check_type("latents", latents, Tensor, "a tensor")
    check_dense("latents", latents, needs_values=True)
    if latents.shape[:1] != (n,):
        got = len(latents) if latents.dim() else "a number"
        raise ValueError(f"`latents` must hold n={n} latents, got {got}")
    device, dtype = device_of(generator), dtype_of(generator)
    # a copy: a generator may work in place
    inputs = [latents.to(device, dtype if latents.is_floating_point() else None, copy=True)]
    classes, label_shape = num_classes_of(generator), label_shape_of(generator)
    if labels is not None:
        tensor = as_labels(labels, n, label_shape or ())
        if classes:  # on a GPU a class out of range would end the process's use of it
            check_labels(tensor.cpu(), classes, n)
        inputs.append(tensor.to(device, dtype if tensor.is_floating_point() else None))
    elif classes:
        raise ValueError(f"`labels` must be given to a generator of {classes} classes, got None")
    elif label_shape is not None:
        raise ValueError(
            f"`labels` must be given to a generator with label_shape={label_shape}, got None"
        )
    with torch.no_grad(), evaluating(generator), isolated_rng(seed):
        chunks = zip(*(tensor.split(CHUNK) for tensor in inputs), strict=True)
        samples = [run(generator, *chunk) if run else generator(*chunk) for chunk in chunks]
    for chunk in samples:
        check_output("generator", chunk, "wrap it in a module that returns the samples alone")
    return torch.cat(samples)


def classes_in_turn(generator: nn.Module, n: int) -> Tensor | None:
    """Return n labels, class after class in turn; None for an unconditional generator."""
    check_generator(generator)
    classes = num_classes_of(generator)
    n = check_integer("n", n, minimum=1)
    return torch.arange(n) % classes if classes else None


def labels_in_turn(generator: nn.Module, n: int, examples: Tensor | None) -> Tensor | None:
    """Return n labels, the classes in turn, or `examples` for a generator with a `label_shape`."""
    if examples is None or num_classes_of(generator):
        return classes_in_turn(generator, n)
    return examples[torch.arange(n) % len(examples)]


def check_generator(generator: object) -> None:
    """Raise unless `generator` is a network."""
    expected = "a torch.nn.Module, such as `trainer.eval_generator`"
    check_type("generator", generator, nn.Module, expected)


def as_labels(
    labels: Tensor | Sequence[int] | int, n: int, label_shape: tuple[int, ...] = ()
) -> Tensor:
    """Return labels as a tensor of shape (n, *label_shape)."""
    try:
        tensor = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`labels` must be integers, got {shown(labels)}") from error
    check_dense("labels", tensor, needs_values=True)
    if tensor.shape == label_shape:
        tensor = tensor.expand(n, *label_shape)
    if tensor.shape != (n, *label_shape):
        got = len(tensor) if tensor.dim() == 1 else f"the shape {tuple(tensor.shape)}"
        kind = f"labels of shape {label_shape}" if label_shape else "classes"
        raise ValueError(f"`labels` must hold n={n} {kind} or one for all, got {got}")
    return tensor
