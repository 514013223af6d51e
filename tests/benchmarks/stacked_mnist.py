"""Count the modes of 1,000 that a GAN covers: Stacked MNIST, three digits as an image's colors.

    python -m tests.benchmarks.stacked_mnist --data FOLDER --steps 20000

128,000 training images of random digits and 26,000 samples (PacGAN, Lin et al., 2018, arXiv
1712.04086). A mode counts as found if a classifier of single digits finds it in at least one
sample; KL compares the modes of samples and training images. Convolutional networks, the
relativistic pairing loss, R1 and R2 (R3GAN, Huang et al., 2024, arXiv 2501.05441). Results are
written at each evaluation.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor
from torchvision.utils import save_image

from tests.benchmarks.digits import Judge
from tests.benchmarks.options import Parser
from tests.benchmarks.stopwatch import Stopwatch
from vanillagan import ConvDiscriminator, ConvGenerator, GANTrainer, recipes
from vanillagan.callbacks import HealthMonitor
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist
from vanillagan.metrics import ModeCoverage, mode_coverage

IMAGES, SAMPLES = 128_000, 26_000


def stack(data: ByteImages, n: int, seed: int) -> ByteImages:
    """Return n images with a digit in each color channel; the label is their number, 0 to 999."""
    rng = torch.Generator().manual_seed(seed)
    triples = torch.randint(len(data), (n, 3), generator=rng)
    images = data.images[triples].squeeze(2)
    return ByteImages(images, data.labels[triples] @ torch.tensor([100, 10, 1]))


def modes_of(judge: Judge, samples: Tensor) -> Tensor:
    """Return the number that each image's digits form, 0 to 999: (N, 3, 28, 28) -> (N,)."""
    digits = judge.classes(samples.flatten(0, 1).unsqueeze(1)).view(-1, 3)
    return digits @ torch.tensor([100, 10, 1])


def main() -> None:
    parser = Parser(__doc__)
    parser.add("--data")
    parser.add("--steps", default=20_000, help="Train for this many steps")
    parser.add("--every", default=1_000, help="Steps between two evaluations")
    parser.add("--seed")
    parser.add("--out", default=Path("runs/stacked_mnist"))
    options = parser.parse_args()

    digits = mnist(options.data)
    judge = Judge(digits, mnist(options.data, train=False))
    data = stack(digits, IMAGES, seed=options.seed)
    proportions = data.labels.bincount(minlength=1000) / IMAGES
    real = stack(digits, SAMPLES, seed=options.seed + 1)
    parts = torch.arange(SAMPLES).split(2000)
    floor = torch.cat([modes_of(judge, real[part][0]) for part in parts])
    print(f"classifier: {judge.accuracy:.2%} of the test set")
    print(f"real images: {describe(mode_coverage(floor, proportions))}", flush=True)

    options.out.mkdir(parents=True, exist_ok=True)
    rows = []

    def evaluate(trainer: GANTrainer, seconds: float) -> None:
        step = trainer.progress.step
        samples = trainer.sample(SAMPLES, seed=options.seed)
        coverage = mode_coverage(modes_of(judge, samples), proportions)
        rows.append({"step": step, "seconds": seconds, "found": coverage.found, "kl": coverage.kl})
        print(f"step {step:,}, {seconds:,.0f} s: {describe(coverage)}", flush=True)
        (options.out / "stacked_mnist.json").write_text(json.dumps(rows, indent=1))
        save_image(samples[:100], options.out / "samples.png", nrow=10, normalize=True)

    steps = range(options.every, options.steps + 1, options.every)
    trainer = make_trainer(options.seed, Stopwatch(steps, evaluate))
    trainer.fit(data, max_steps=options.steps, batch_size=64)


def make_trainer(seed: int, stopwatch: Stopwatch) -> GANTrainer:
    torch.manual_seed(seed)
    networks = (
        ConvGenerator(100, (3, 28, 28), base_channels=32, patch_size=2),
        ConvDiscriminator((3, 28, 28), base_channels=32, patch_size=2),
    )
    return GANTrainer(
        *(network.to(memory_format=torch.channels_last) for network in networks),
        **recipes.r3gan(),
        precision="bf16",
        callbacks=[HealthMonitor(), stopwatch],
        seed=seed,
    )


def describe(coverage: ModeCoverage) -> str:
    return f"{coverage.found} of 1,000 modes, KL {coverage.kl:.3f}"


if __name__ == "__main__":
    main()
