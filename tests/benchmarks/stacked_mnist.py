"""How many of 1,000 modes does a GAN find? Stacked MNIST: three digits as an image's colours.

    python -m tests.benchmarks.stacked_mnist --data FOLDER --steps 20000

128,000 training images of random digits and 26,000 samples (PacGAN, Lin et al., 2018, arXiv
1712.04086). A mode counts as found if a classifier of single digits sees it in one sample or more;
KL is that of the samples' modes to the training images'. Convolutional networks, the relativistic
loss, R1 and R2 (R3GAN, Huang et al., 2024, arXiv 2501.05441). The curve is written as it goes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor
from torchvision.utils import save_image

from tests.benchmarks.digits import Judge
from vanillagan import EMA, R1, R2, ConvDiscriminator, ConvGenerator, GANTrainer, RelativisticLoss
from vanillagan.callbacks import HealthMonitor
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist
from vanillagan.metrics import ModeCoverage, mode_coverage
from vanillagan.optimizers import adam

IMAGES, SAMPLES = 128_000, 26_000


def stack(data: ByteImages, n: int, seed: int) -> ByteImages:
    """n images of three random digits each, one a colour; the label is the number they spell."""
    rng = torch.Generator().manual_seed(seed)
    triples = torch.randint(len(data), (n, 3), generator=rng)
    images = data.images[triples].squeeze(2)
    return ByteImages(images, data.labels[triples] @ torch.tensor([100, 10, 1]))


def modes_of(judge: Judge, samples: Tensor) -> Tensor:
    """The number that each image's digits spell, 0 to 999: (N, 3, 28, 28) -> (N,)."""
    digits = judge.classes(samples.flatten(0, 1).unsqueeze(1)).view(-1, 3)
    return digits @ torch.tensor([100, 10, 1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=1_000, help="steps between two looks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("stacked_mnist"), metavar="FOLDER")
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

    trainer = make_trainer(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    rows, seconds = [], 0.0
    for step in range(options.every, options.steps + 1, options.every):
        started = time.perf_counter()
        trainer.fit(data, steps=step, batch_size=64)
        seconds += time.perf_counter() - started
        samples = trainer.sample(SAMPLES, seed=options.seed)
        coverage = mode_coverage(modes_of(judge, samples), proportions)
        rows.append({"step": step, "seconds": seconds, "found": coverage.found, "kl": coverage.kl})
        print(f"step {step:,}, {seconds:,.0f} s: {describe(coverage)}", flush=True)
        (options.out / "stacked_mnist.json").write_text(json.dumps(rows, indent=1))
        save_image(samples[:100], options.out / "samples.png", nrow=10, normalize=True)


def make_trainer(seed: int) -> GANTrainer:
    torch.manual_seed(seed)
    return GANTrainer(
        ConvGenerator(100, (3, 28, 28), width=32, patch=2),
        ConvDiscriminator((3, 28, 28), width=32, patch=2),
        loss=RelativisticLoss(),
        penalties=[R1(0.5, every=4), R2(0.5, every=4)],
        ema=EMA(0.999),
        generator_optimizer=adam(2e-4, (0.0, 0.99)),
        discriminator_optimizer=adam(4e-4, (0.0, 0.99)),
        precision="bf16",
        callbacks=[HealthMonitor()],
        seed=seed,
    )


def describe(coverage: ModeCoverage) -> str:
    return f"{coverage.found} of 1,000 modes, KL {coverage.kl:.3f}"


if __name__ == "__main__":
    main()
