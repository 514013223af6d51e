"""MNIST: table 1, figures 2 and 3."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.utils import make_grid

from paper.report import Paper, describe_training
from vanillagan import Discriminator, GANTrainer, Generator, recipes
from vanillagan.callbacks import Progress
from vanillagan.data import ByteImages, normal_latents
from vanillagan.datasets import mnist, mnist_or_5000
from vanillagan.metrics import nearest_neighbors, parzen_log_likelihood
from vanillagan.sampling import interpolate


class Trained(NamedTuple):
    """A trained GAN, its training images, and held-out images, all in [0, 1]."""

    trainer: GANTrainer
    train: Tensor
    validation: Tensor
    test: Tensor
    training: dict[str, Any]


def trained(paper: Paper) -> Trained:
    """Train on MNIST, once for all parts."""
    if "mnist" not in paper.shared:
        paper.shared["mnist"] = train(paper)
    return paper.shared["mnist"]


def make_trainer(paper: Paper) -> GANTrainer:
    return GANTrainer(
        Generator(),
        Discriminator(),
        **recipes.stable(),
        device=paper.options.device,
        callbacks=[Progress()],
        seed=paper.options.seed,
    )


def train(paper: Paper) -> Trained:
    """Hold out images for sigma and, of the 5,000 digits, for the test; train on the rest."""
    data, which = mnist_or_5000(paper.options.data)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(paper.options.seed))
    try:
        test = mnist(paper.options.data, train=False, download=False)
    except RuntimeError:
        test, order = ByteImages(data.images[order[:1000]]), order[1000:]
    test = ByteImages(test.images[: paper.sizes.images])
    held_out = min(1000, len(data) // 10)
    validation, train = (
        ByteImages(data.images[part]) for part in (order[:held_out], order[held_out:])
    )
    print(
        f"Data: {which}; {len(train):,} for training, {held_out:,} to choose sigma, "
        f"{len(test):,} for testing"
    )
    trainer = make_trainer(paper)
    started = time.monotonic()
    steps = paper.sizes.mnist
    trainer.fit(train, max_steps=steps, batch_size=64)
    training = {
        "data": which,
        "training, validation and test images": (len(train), held_out, len(test)),
    } | describe_training(trainer, steps=steps, batch_size=64, started=started)
    return Trained(trainer, *(part.images / 255 for part in (train, validation, test)), training)


def draw_samples(paper: Paper, n: int) -> Tensor:
    """Draw n samples in [0, 1]."""
    return (trained(paper).trainer.sample(n, seed=paper.options.seed).cpu() + 1) / 2


def table_1(paper: Paper) -> dict[str, Any]:
    """Estimate the test set's log-likelihood from samples, and from real images instead."""
    _, train, validation, test, training = trained(paper)
    n = paper.sizes.images
    results: dict[str, Any] = {"training": training}
    for kind, images, expected in (
        ("samples", draw_samples(paper, n), "225 +- 2"),
        ("real training images", train[:n], "-"),
    ):
        estimate = parzen_log_likelihood(images, test, validation=validation)
        results[kind] = {"images": len(images), **estimate._asdict()}
        found = f"{estimate.mean:.1f} +- {estimate.standard_error:.1f}, sigma {estimate.sigma:.2f}"
        paper.compare(f"table 1: nats by {len(images):,} {kind}", expected, found)
    paper.compare(f"  after {training['steps']:,} steps", "-", f"{training['seconds']} s")
    return results


def figure_2(paper: Paper) -> dict[str, Any]:
    """Draw samples, with the nearest training image of every fifth, and the distances."""
    train, test = trained(paper).train, trained(paper).test
    fakes = draw_samples(paper, paper.sizes.images)
    of_fakes, of_test = (nearest_neighbors(images, train) for images in (fakes, test))
    medians = [float(found.distances.median()) for found in (of_fakes, of_test)]
    paper.compare(
        "figure 2: to the nearest training image", f"{medians[1]:.2f} (test)", f"{medians[0]:.2f}"
    )

    figure, (left, right) = paper.plt.subplots(1, 2, figsize=(12, 5.5), layout="constrained")
    nearest = train[of_fakes.indices[:40, 0]]
    rows = torch.cat([fakes[:40].unflatten(0, (8, 5)), nearest[4::5, None]], 1)
    left.imshow(make_grid(rows.flatten(0, 1), nrow=6, pad_value=1)[0].numpy(), cmap="gray")
    left.axvline(5 * 30 + 0.5, color="orange", linewidth=3)
    left.set(xticks=(75, 165), xticklabels=("samples", "nearest\nto the 5th"), yticks=())
    left.tick_params(length=0)
    right.set(xlabel="distance to the nearest training image", ylabel="density", yticks=())
    for kind, neighbors, median, color in zip(
        ("samples", "test images"), (of_fakes, of_test), medians, ("green", "black"), strict=True
    ):
        right.hist(neighbors.distances[:, 0], bins=60, density=True, histtype="step", color=color,
                   label=f"{kind}, median {median:.2f}")  # fmt: skip
        right.axvline(median, color=color, linestyle=":")
    right.legend()
    paper.draw("figure2", figure)
    return {
        "distance": "Euclidean, of 784 pixels in [0, 1]",
        "median of samples": medians[0],
        "median of test images": medians[1],
        "least of samples": float(of_fakes.distances.min()),
        "least of test images": float(of_test.distances.min()),
    }


def figure_3(paper: Paper) -> dict[str, Any]:
    """Draw interpolations between two latents, linear and spherical."""
    trainer, train = trained(paper).trainer, trained(paper).train
    generator = trainer.eval_generator
    latents = normal_latents(2, generator.latent_dim)(4, torch.Generator().manual_seed(2))
    rows = {
        kind: [interpolate(generator, *pair, 11, spherical=kind == "spherical") for pair in latents]
        for kind in ("linear", "spherical")
    }
    images = {kind: (torch.stack(samples).cpu() + 1) / 2 for kind, samples in rows.items()}
    figure, axes = paper.plt.subplots(figsize=(9, 6.5), layout="constrained")
    grid = make_grid(torch.stack([*images.values()], 1).flatten(0, 2), nrow=11, pad_value=1)
    axes.imshow(grid[0].numpy(), cmap="gray")
    axes.set(xticks=(), yticks=[30 * row + 15 for row in range(8)], yticklabels=[*images] * 4)
    axes.tick_params(length=0)
    for row in (2, 4, 6):
        axes.axhline(30 * row + 0.5, color="orange", linewidth=3)
    paper.draw("figure3", figure)
    distances = {
        kind: float(nearest_neighbors(samples[:, 5], train).distances.median())
        for kind, samples in images.items()
    }
    found = f"{distances['linear']:.2f}, {distances['spherical']:.2f}"
    paper.compare("figure 3: middle images, linear, spherical", "-", found)
    return {"median distance from the middle to the nearest training image": distances}
