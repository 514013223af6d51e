"""Trains a GAN on mixtures of Gaussians in the plane and counts the modes that it finds.

The mixtures are those of VEEGAN (Srivastava et al., 2017, arXiv 1705.07761) and PacGAN (Lin et al.,
2018, arXiv 1712.04086), as the code of both has them: 100,000 points of

  ring    8 Gaussians on the unit circle, standard deviation 0.01
  grid    25 Gaussians at {-4, -2, 0, 2, 4}^2, standard deviation 0.05

A sample is of high quality if it lies within 3 standard deviations of a mode (98.9 % of the data
do). A mode is found if at least one of 2,500 samples is of high quality and nearest to it, as both
papers count; the strict count asks for a tenth of its fair share. KL is that of the modes' shares
from the uniform ones, and spread the standard deviation of high-quality samples within their mode,
over that of the data, both from 10,000 samples; where none is of high quality, both are infinite.

  --recipe clean    (default) noise on all that D sees, which fades away; half of G's noise is coin
                    flips, so that modes may lie apart without a bridge; the relativistic game; D
                    learns four times as fast as G, and both slow down to a halt; an average of G's
                    weights. Networks of 3 layers of 128, data scaled to a standard deviation of 4
  --recipe source   the library's defaults, which are those of the 2014 game's tutorial code: it
                    collapses or blurs

--rejection trains D on for a little, against the finished generator, and then shows what it accepts
(Azadi et al., 2019, arXiv 1810.06758), also for a generator of a quarter of the steps.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from vanillagan import (
    EMA,
    Batch,
    Callback,
    Discriminator,
    GANTrainer,
    Generator,
    RelativisticLoss,
    StepResult,
)
from vanillagan.callbacks import ConsoleLog, LRSchedule, ProgressBar
from vanillagan.errors import VanillaGANError, check_seed, require
from vanillagan.metrics import mode_coverage
from vanillagan.optimizers import adam
from vanillagan.sampling import rejection_sample

POINTS = 100_000
SAMPLES = 10_000
COUNTED = 2_500
HIGH_QUALITY = 3.0
FIRST_NOISE, LAST_NOISE = 1.0, 0.02
FIGURES = ("found", "strict", "high_quality", "kl", "spread")


# -- the mixtures, and how samples are judged ------------------------------------------------------


class Mixture(NamedTuple):
    """Gaussians of equal weight: their centres, shape (K, 2), and their standard deviation."""

    name: str
    centres: Tensor
    std: float

    def draw(self, n: int, seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        modes = torch.randint(len(self.centres), (n,), generator=rng)
        return self.centres[modes] + self.std * torch.randn(n, 2, generator=rng)

    def measure(self, samples: Tensor) -> dict[str, Any]:
        """What the text above defines, from 10,000 samples."""
        distances, modes = (samples[:, None] - self.centres).norm(dim=2).min(1)
        modes[distances > HIGH_QUALITY * self.std] = -1
        good = modes >= 0
        count = len(self.centres)
        tenth = math.ceil(COUNTED / count / 10)
        inside, modes_inside = samples[good], modes[good]
        sums = torch.zeros(count, 2).index_add_(0, modes_inside, inside)
        means = sums / modes_inside.bincount(minlength=count)[:, None]
        deviations = inside - means[modes_inside]
        rms = deviations.square().mean().sqrt().item() if len(inside) else math.inf
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


# -- the recipes -----------------------------------------------------------------------------------


class Game(NamedTuple):
    """A trainer, with the scale of its samples and the size of its batches."""

    trainer: GANTrainer
    scale: float
    batch_size: int

    def sample(self, n: int, seed: int) -> Tensor:
        return self.trainer.sample(n, seed=seed).cpu() * self.scale


class InstanceNoise(nn.Module):
    """Adds noise to all that D sees in training, so that modes lie apart only little by little."""

    independent_samples = True

    def __init__(self) -> None:
        super().__init__()
        self.std = FIRST_NOISE

    def forward(self, samples: Tensor) -> Tensor:
        return samples + self.std * torch.randn_like(samples) if self.training else samples


class Fade(Callback):
    """Lets the noise fade to a fiftieth in 70 % of the run, and takes it away at the end."""

    def __init__(self, noise: InstanceNoise) -> None:
        self.noise = noise

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        place = min(1.0, trainer.progress.step / (0.7 * trainer.progress.steps))
        self.noise.std = FIRST_NOISE * (LAST_NOISE / FIRST_NOISE) ** place

    def on_fit_end(self, trainer: GANTrainer) -> None:
        self.noise.std = 0.0


def coins_and_normal(n: int, rng: torch.Generator) -> Tensor:
    """Eight coin flips, -1 or 1, and two numbers from N(0, 1)."""
    coins = torch.randint(2, (n, 8), generator=rng) * 2.0 - 1.0
    return torch.cat([coins, torch.randn(n, 2, generator=rng)], 1)


def clean(mixture: Mixture, steps: int, **options: Any) -> Game:
    noise = InstanceNoise()
    # the same rate for a fifth of the run, then a straight line to 0
    slowing = LRSchedule(
        lambda optimizer: LambdaLR(optimizer, lambda step: min(1.0, 1.25 * (1 - step / steps))),
        interval="step",
    )
    options["callbacks"] = [Fade(noise), slowing, *options["callbacks"]]
    trainer = GANTrainer(
        nn.Sequential(
            nn.Linear(10, 128), nn.LeakyReLU(0.2),
            nn.Linear(128, 128), nn.LeakyReLU(0.2),
            nn.Linear(128, 128), nn.LeakyReLU(0.2),
            nn.Linear(128, 2),
        ),
        nn.Sequential(noise, Discriminator((2,), hidden=(128, 128, 128))),
        loss=RelativisticLoss(),
        generator_optimizer=adam(5e-4, (0.0, 0.99)),
        discriminator_optimizer=adam(2e-3, (0.0, 0.99)),
        latent=coins_and_normal,
        ema=EMA(0.999),
        **options,
    )  # fmt: skip
    return Game(trainer, mixture.centres.std(correction=0).item() / 4, 256)


def source(mixture: Mixture, steps: int, **options: Any) -> Game:
    scale = mixture.centres.abs().max().item() + 4 * mixture.std  # into the range of Tanh
    return Game(GANTrainer(Generator(100, (2,)), Discriminator((2,)), **options), scale, 64)


RECIPES = {"clean": clean, "source": source}


def train(mixture: Mixture, recipe: str, steps: int, seed: int) -> Game:
    torch.manual_seed(seed)
    watch = ProgressBar() if sys.stderr.isatty() else ConsoleLog(10)
    game = RECIPES[recipe](mixture, steps, device="cpu", seed=seed, callbacks=[watch])
    data = mixture.draw(POINTS, seed) / game.scale
    game.trainer.fit(data.clamp(-1, 1) if recipe == "source" else data, steps=steps,
                     batch_size=game.batch_size)  # fmt: skip
    return game


def accepted(game: Game, mixture: Mixture, steps: int, seed: int) -> Tensor:
    """What D accepts, after it was trained on against the generator as it is sampled from."""
    trainer = game.trainer
    judge = GANTrainer(
        trainer.generator, trainer.discriminator, latent=trainer.latent, device="cpu",
        discriminator_optimizer=adam(1e-3, (0.9, 0.99)),
    )  # fmt: skip
    data = mixture.draw(POINTS, seed) / game.scale
    for real in (data.split(512) * (1 + steps * 512 // POINTS))[:steps]:
        judge.discriminator_step(Batch(real), trainer.sample(len(real)))
    network = trainer.generator if trainer.ema is None else trainer.ema.network
    samples = rejection_sample(
        network, trainer.discriminator, SAMPLES, latent_sampler=trainer.latent, seed=seed
    )
    return samples * game.scale


# -- a run -----------------------------------------------------------------------------------------


def main() -> int:
    options = parse_options()
    for seed in options.seeds:
        check_seed(seed)
    plt = require("matplotlib.pyplot", extra="examples", user="examples/mixtures.py")
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    names = list(MIXTURES) if options.mixture == "both" else [options.mixture]
    for name in names:
        mixture = MIXTURES[name]()
        data = mixture.draw(SAMPLES, seed=0)
        rows.append({"mixture": name, "run": "the data"} | mixture.measure(data))
        panels = {"the data": data[:COUNTED]}
        for recipe, seed in product(options.recipe, options.seeds):
            for row, samples in play(mixture, recipe, seed, options):
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
    print(f"\nLook at {', '.join(str(options.out / f'{name}.png') for name in names)}")
    print(f"Figures in {options.out / 'results.json'}")
    return 0


def play(mixture: Mixture, recipe: str, seed: int, options: argparse.Namespace):
    """Runs of one seed, each with its figures and its samples."""
    lengths = {"full run": options.steps}
    if options.rejection:
        lengths["short run"] = max(1, options.steps // 4)
    for run, steps in lengths.items():
        print(f"{mixture.name}, recipe {recipe}, seed {seed}: {steps:,} steps", flush=True)
        started = time.monotonic()
        game = train(mixture, recipe, steps, seed)
        samples = game.sample(SAMPLES, seed)
        seconds = time.monotonic() - started
        yield {"run": run, "steps": steps, "seconds": seconds} | mixture.measure(samples), samples
        if options.rejection:
            started = time.monotonic()
            samples = accepted(game, mixture, options.judge_steps, seed)
            seconds = time.monotonic() - started
            row = {"run": f"{run}, accepted", "steps": options.judge_steps, "seconds": seconds}
            yield row | mixture.measure(samples), samples


def summarize(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The median and the worst over seeds, of each kind of run."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if "seed" in row:
            kinds.setdefault((row["mixture"], row["run"]), []).append(row)
    worst = {"found": min, "strict": min, "high_quality": min, "kl": max, "spread": far_from_1}
    return [
        {"mixture": mixture, "run": f"{run}: {name}"}
        | {figure: choose[figure]([row[figure] for row in of_kind]) for figure in FIGURES}
        for (mixture, run), of_kind in kinds.items()
        for name, choose in (
            ("median", dict.fromkeys(FIGURES, statistics.median)),
            ("worst", worst),
        )
    ]


def far_from_1(values: list[float]) -> float:
    return max(values, key=lambda value: abs(value - 1))


def print_table(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'':44}  seed   found  strict  quality      KL  spread  seconds")
    for row in rows:
        seconds = f"{row['seconds']:9.0f}" if "seconds" in row else ""
        title = f"{row['mixture']}, {row['run']}"
        print(f"{title:44}{row.get('seed', ''):>6}{figures(row)}{seconds}")


def figures(row: dict[str, Any]) -> str:
    return (
        f"{row['found']:8g}{row['strict']:8g}{row['high_quality']:9.1%}{row['kl']:8.3f}"
        f"{row['spread']:8.2f}"
    )


def draw(plt, mixture: Mixture, panels: dict[str, Tensor], path: Path) -> None:
    """Samples over circles of 3 standard deviations around the true modes."""
    shape = {"layout": "constrained", "sharex": True, "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(1, len(panels), figsize=(4.5 * len(panels), 4.8), **shape)
    reach = 1.25 * mixture.centres.abs().max().item()
    for axis, (title, samples) in zip(axes[0], panels.items(), strict=True):
        for centre in mixture.centres.tolist():
            circle = plt.Circle(centre, HIGH_QUALITY * mixture.std, fill=False, color="tab:red")
            axis.add_patch(circle)
        axis.scatter(*samples.T, s=2, alpha=0.5, linewidths=0)
        axis.set(title=title, xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("mixtures"), metavar="FOLDER",
        help="where to write a PNG a mixture and results.json (default: mixtures)")  # fmt: skip
    add("--mixture", choices=("ring", "grid", "both"), default="both", help="(default: both)")
    add("--seeds", type=int, nargs="+", default=[0], metavar="N", help="a run each (default: 0)")
    add("--recipe", choices=list(RECIPES), nargs="+", default=["clean"],
        help="see above; one or both (default: clean)")  # fmt: skip
    add("--steps", type=positive, default=8_000, metavar="N",
        help="training steps of a run (default: 8000)")  # fmt: skip
    add("--rejection", action="store_true", help="see above")
    add("--judge-steps", type=positive, default=1_000, metavar="N",
        help="steps that D is trained on before rejection (default: 1000)")  # fmt: skip
    return parser.parse_args()


def positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {number}")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted")
        sys.exit(130)
    except (OSError, ValueError, VanillaGANError) as error:
        sys.exit(f"error: {error}")
