"""Train a GAN on mixtures of Gaussians in the plane, and count the modes that it covers.

The mixtures are those of VEEGAN (Srivastava et al., 2017, arXiv 1705.07761) and PacGAN (Lin et al.,
2018, arXiv 1712.04086), as in the code of both: 100,000 points of

  ring    8 Gaussians on the unit circle, standard deviation 0.01
  grid    25 Gaussians at {-4, -2, 0, 2, 4}^2, standard deviation 0.05

A sample is of high quality if it lies within 3 standard deviations of a mode (98.9 % of the data
do). A mode is found if one of 2,500 samples is of high quality and closest to it, as both papers
count; the strict count requires a tenth of its fair share. KL (of the modes' shares from uniform
ones) and spread (the standard deviation of high-quality samples within their mode, over that of the
data) are computed from 10,000 samples, and infinite if none is of high quality.

  --recipe stable     (default) noise on all inputs of the discriminator, which fades during
                      training; 8 of 10 latent numbers are -1 or 1, so that modes can be disjoint;
                      the relativistic pairing loss (RpGAN); a discriminator that learns four times
                      as fast as the generator and is updated first; falling learning rates; an
                      average of the generator's weights. Networks have 3 hidden layers of 128 units
  --recipe reference  the defaults of the library, those of the reference implementation
                      (PyTorch-GAN's gan.py): it collapses or blurs

--rejection evaluates samples that the discriminator accepts after further training against the
finished generator (Azadi et al., 2019, arXiv 1810.06758), also for a run of a quarter of the steps.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import Parser, run
from torch import Tensor, nn

from vanillagan import EMA, Callback, Discriminator, GANTrainer, Generator, recipes
from vanillagan.callbacks import Progress
from vanillagan.errors import require
from vanillagan.losses import RelativisticLoss
from vanillagan.metrics import mode_coverage
from vanillagan.player import adam, linear_decay
from vanillagan.sampling import refit_discriminator, rejection_sample

POINTS, SAMPLES, COUNTED = 100_000, 10_000, 2_500
HIGH_QUALITY = 3.0
FIRST_NOISE, LAST_NOISE = 1.0, 0.02
FIGURES = ("found", "strict", "high_quality", "kl", "spread")


class Mixture(NamedTuple):
    """Gaussians of equal weight: name, centers (K, 2), and standard deviation."""

    name: str
    centers: Tensor
    std: float

    def draw(self, n: int, seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        modes = torch.randint(len(self.centers), (n,), generator=rng)
        return self.centers[modes] + self.std * torch.randn(n, 2, generator=rng)

    def evaluate(self, samples: Tensor) -> dict[str, Any]:
        """Return the figures defined above for 10,000 samples."""
        distances, modes = (samples[:, None] - self.centers).norm(dim=2).min(1)
        modes[distances > HIGH_QUALITY * self.std] = -1
        good = modes >= 0
        count = len(self.centers)
        inside, of_mode = samples[good], modes[good]
        sums = torch.zeros(count, 2).index_add_(0, of_mode, inside)
        deviations = inside - (sums / of_mode.bincount(minlength=count)[:, None])[of_mode]
        rms = deviations.square().mean().sqrt().item() if len(inside) else math.inf
        tenth = math.ceil(COUNTED / count / 10)
        return {
            "found": mode_coverage(modes[:COUNTED], count).found,
            "strict": mode_coverage(modes[:COUNTED], count, minimum=tenth).found,
            "high_quality": good.double().mean().item(),
            "kl": mode_coverage(modes, count).kl,
            "spread": rms / self.std,
        }


def ring() -> Mixture:
    angles = torch.arange(8) * (2 * math.pi / 8)
    return Mixture("ring", torch.stack([angles.cos(), angles.sin()], 1), 0.01)


def grid() -> Mixture:
    return Mixture("grid", torch.tensor(list(product(range(-4, 5, 2), repeat=2))).float(), 0.05)


MIXTURES = {"ring": ring, "grid": grid}


class Setup(NamedTuple):
    """A trainer, the factor from its samples to the mixture's, and its batch size."""

    trainer: GANTrainer
    scale: float
    batch_size: int

    def data(self, mixture: Mixture, seed: int) -> Tensor:
        """Draw training data, in the range of the generator."""
        data = mixture.draw(POINTS, seed) / self.scale
        return data.clamp(-1, 1) if isinstance(self.trainer.generator, Generator) else data

    def sample(self, n: int, seed: int) -> Tensor:
        return self.trainer.sample(n, seed=seed).cpu() * self.scale


class NoisyDiscriminator(Discriminator):
    """Discriminator with noise on its inputs in training, so that modes overlap at first."""

    independent_samples = True
    std = FIRST_NOISE

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        noise = self.std * torch.randn_like(samples) if self.training else 0.0
        return super().forward(samples + noise, labels)


class Fade(Callback):
    """Reduce the noise to a fiftieth over 70 % of the run, and to 0 at its end."""

    def on_step_end(self, trainer: GANTrainer, result: Any) -> None:
        done = min(1.0, trainer.progress.step / (0.7 * trainer.progress.max_steps))
        trainer.discriminator.std = FIRST_NOISE * (LAST_NOISE / FIRST_NOISE) ** done

    def on_fit_end(self, trainer: GANTrainer) -> None:
        trainer.discriminator.std = 0.0


def signs_and_normals(n: int, rng: torch.Generator) -> Tensor:
    """Draw latents of eight numbers that are -1 or 1, and two from N(0, 1)."""
    signs = torch.randint(2, (n, 8), generator=rng) * 2.0 - 1.0
    return torch.cat([signs, torch.randn(n, 2, generator=rng)], 1)


def stable(mixture: Mixture, callbacks: Sequence[Callback] = (), **options: Any) -> Setup:
    widths = [(10, 128), (128, 128), (128, 128)]
    hidden = [layer for width in widths for layer in (nn.Linear(*width), nn.LeakyReLU(0.2))]
    trainer = GANTrainer(
        nn.Sequential(*hidden, nn.Linear(128, 2)),
        NoisyDiscriminator((2,), hidden=(128, 128, 128)),
        loss=RelativisticLoss(),
        generator_optimizer=adam(5e-4, (0.0, 0.99)),
        discriminator_optimizer=adam(2e-3, (0.0, 0.99)),
        lr_schedule=linear_decay(0.2),
        update_order="discriminator_first",
        latent_sampler=signs_and_normals,
        ema=EMA(0.999),
        callbacks=[Fade(), *callbacks],
        **options,
    )
    scale = mixture.centers.std(correction=0).item() / 4  # to a standard deviation of 4
    return Setup(trainer, scale, 256)


def reference(mixture: Mixture, **options: Any) -> Setup:
    trainer = GANTrainer(
        Generator(100, (2,)), Discriminator((2,)), **recipes.reference(), **options
    )
    scale = mixture.centers.abs().max().item() + 4 * mixture.std  # into the range of Tanh
    return Setup(trainer, scale, 64)


RECIPES: dict[str, Callable[..., Setup]] = {"stable": stable, "reference": reference}


def train(mixture: Mixture, recipe: str, steps: int, seed: int, device: str | None = None) -> Setup:
    torch.manual_seed(seed)
    setup = RECIPES[recipe](mixture, device=device, seed=seed, callbacks=[Progress()])
    setup.trainer.fit(setup.data(mixture, seed), max_steps=steps, batch_size=setup.batch_size)
    return setup


def accepted(setup: Setup, mixture: Mixture, steps: int, seed: int) -> Tensor:
    """Draw samples that the discriminator accepts after further training."""
    trainer = setup.trainer
    refit_discriminator(trainer, setup.data(mixture, seed), steps, lr=1e-3, seed=seed)
    networks = trainer.eval_generator, trainer.discriminator
    samples = rejection_sample(*networks, SAMPLES, latent_sampler=trainer.latent_sampler, seed=seed)
    return samples.cpu() * setup.scale


def main() -> None:
    options = parse_options()
    plt = require("matplotlib.pyplot", extra="examples", user="examples/mixtures.py")
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in options.mixture:
        mixture = MIXTURES[name]()
        data = mixture.draw(SAMPLES, seed=0)
        rows.append({"mixture": name, "run": "the data"} | mixture.evaluate(data))
        panels = {"the data": data[:COUNTED]}
        for recipe, seed in product(options.recipe, options.seeds):
            for row, samples in runs(mixture, recipe, seed, options):
                kind = f"{recipe}, {row['run']}"
                rows.append({"mixture": name, "seed": seed} | row | {"run": kind})
                panels.setdefault(kind, samples[:COUNTED])
        draw(plt, mixture, panels, options.out / f"{name}.png")
    summary = summarize(rows)
    print_table(rows)
    if len(options.seeds) > 1:
        print_table(summary)
    text = json.dumps({"runs": rows, "summary": summary})
    strict = json.loads(text, parse_constant=lambda _: None)  # JSON has no NaN and no infinity
    (options.out / "results.json").write_text(json.dumps(strict, indent=1))
    print(f"\nOutputs are in {options.out}: plots of samples, and all figures (results.json)")


def runs(
    mixture: Mixture, recipe: str, seed: int, options: argparse.Namespace
) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """Train with one seed, and yield the figures and samples of each run."""
    lengths = {"full run": options.steps}
    if options.rejection:
        lengths["short run"] = max(1, options.steps // 4)
    for name, steps in lengths.items():
        print(f"{mixture.name}, recipe {recipe}, seed {seed}: {steps:,} steps", flush=True)
        started = time.monotonic()
        setup = train(mixture, recipe, steps, seed, options.device)
        samples = setup.sample(SAMPLES, seed)
        seconds = time.monotonic() - started
        yield {"run": name, "steps": steps, "seconds": seconds} | mixture.evaluate(samples), samples
        if options.rejection:
            started = time.monotonic()
            samples = accepted(setup, mixture, options.refit_steps, seed)
            row = {"run": f"{name}, accepted", "steps": options.refit_steps}
            row["seconds"] = time.monotonic() - started
            yield row | mixture.evaluate(samples), samples


def summarize(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the median and the worst over seeds, for each kind of run."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if "seed" in row:
            kinds.setdefault((row["mixture"], row["run"]), []).append(row)
    median = dict.fromkeys(FIGURES, statistics.median)
    farthest = partial(max, key=lambda spread: abs(spread - 1))
    worst = {"found": min, "strict": min, "high_quality": min, "kl": max, "spread": farthest}
    return [
        {"mixture": mixture, "run": f"{name}: {label}"}
        | {figure: choose[figure]([row[figure] for row in of_kind]) for figure in FIGURES}
        for (mixture, name), of_kind in kinds.items()
        for label, choose in (("median", median), ("worst", worst))
    ]


def print_table(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'':44}  seed   found  strict  quality      KL  spread  seconds")
    for row in rows:
        seconds = f"{row['seconds']:9.0f}" if "seconds" in row else ""
        print(
            f"{row['mixture'] + ', ' + row['run']:44}{row.get('seed', ''):>6}{row['found']:8g}"
            f"{row['strict']:8g}{row['high_quality']:9.1%}{row['kl']:8.3f}{row['spread']:8.2f}"
            f"{seconds}"
        )


def draw(plt: Any, mixture: Mixture, panels: dict[str, Tensor], path: Path) -> None:
    """Save a plot of samples over circles of 3 standard deviations around the modes."""
    size = (4.5 * len(panels), 4.8)
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", squeeze=False)
    reach = 1.25 * mixture.centers.abs().max().item()
    for axis, (title, samples) in zip(axes[0], panels.items(), strict=True):
        for center in mixture.centers.tolist():
            axis.add_patch(plt.Circle(center, HIGH_QUALITY * mixture.std, fill=False, color="red"))
        axis.scatter(*samples.T, s=2, alpha=0.5, linewidths=0)
        axis.set(title=title, xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    figure.savefig(path, dpi=120)


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__, "mixtures", seeds=True)
    # fmt: off
    parser.add_argument("--mixture", choices=list(MIXTURES), nargs="+", default=list(MIXTURES),
                        help="Train on one or both of these mixtures (default: both).")
    parser.add_argument("--recipe", choices=list(RECIPES), nargs="+", default=["stable"],
                        help="Train by one or both of these recipes, see above (default: stable).")
    parser.add_count("--steps", default=8_000, help="Train for this many steps (default: 8,000).")
    parser.add_argument("--rejection", action="store_true",
                        help="Evaluate rejection sampling too, see above.")
    parser.add_count("--refit-steps", default=1_000,
                     help="Steps of the discriminator before rejection (default: 1,000).")
    # fmt: on
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
