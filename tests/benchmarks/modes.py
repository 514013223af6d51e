"""Which digits does a generator make? Shares of the ten classes after training on MNIST.

    python -m tests.benchmarks.modes --data FOLDER [--recipe default|clean|source] [--epochs 10]

The samples are named by a small convolutional classifier, which is trained here first. A class is
found if it gets 3 % of the samples or more.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.utils import save_image

from vanillagan import EMA, R1, Discriminator, GANTrainer, Generator
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist

RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "clean": {"penalties": [R1(0.5, every=4)], "ema": 0.999},
    "source": {"norm": {"norm_eps": 0.8, "norm_momentum": 0.1}},
}
FOUND = 0.03


def train_classifier(data: ByteImages, *, epochs: int = 5, seed: int = 0) -> nn.Module:
    """A small convolutional classifier of digits."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10),
    )  # fmt: skip
    steps = epochs * (len(data) // 256)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for indices in torch.randperm(len(data)).split(256)[: steps // epochs]:
            images, labels = data[indices]
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def classify(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return torch.cat([network(part).argmax(1) for part in images.split(1000)])


def train_generator(data: ByteImages, recipe: str, *, epochs: int, seed: int) -> GANTrainer:
    options = dict(RECIPES[recipe])
    torch.manual_seed(seed)
    generator = Generator(**options.pop("norm", {}))
    if "ema" in options:
        options["ema"] = EMA(options["ema"])
    trainer = GANTrainer(generator, Discriminator(), seed=seed, **options)
    trainer.fit(data, epochs=epochs)
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--recipe", choices=RECIPES, default="default")
    parser.add_argument("--out", type=Path, help="a folder for results.json and grids of samples")
    options = parser.parse_args()

    data, test = mnist(options.data), mnist(options.data, train=False)
    classifier = train_classifier(data)
    images, labels = test[:]
    accuracy = (classify(classifier, images) == labels).double().mean().item()
    print(f"classifier: {accuracy:.2%} of the test set", flush=True)
    rows = []
    for seed in options.seeds:
        started = time.perf_counter()
        trainer = train_generator(data, options.recipe, epochs=options.epochs, seed=seed)
        seconds = time.perf_counter() - started
        samples = trainer.sample(10_000, seed=seed)
        shares = (classify(classifier, samples).bincount(minlength=10) / 10_000).tolist()
        found = sum(share >= FOUND for share in shares)
        rows.append({"seed": seed, "found": found, "shares": shares, "seconds": seconds})
        listed = " ".join(f"{share:5.1%}" for share in shares)
        print(f"seed {seed}: {found} of 10 classes found, {listed}, {seconds:.0f} s", flush=True)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            name = f"{options.recipe}-{seed}.png"
            save_image(samples[:100], options.out / name, nrow=10, normalize=True)
    if options.out:
        result = {"recipe": options.recipe, "accuracy": accuracy, "epochs": options.epochs}
        text = json.dumps(result | {"rows": rows}, indent=1)
        (options.out / f"{options.recipe}.json").write_text(text)


if __name__ == "__main__":
    main()
