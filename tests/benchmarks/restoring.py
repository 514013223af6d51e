"""Measure the repair of damaged images by examples/restore.py, and by simpler methods.

    python -m tests.benchmarks.restoring --data FOLDER

The images are digits of MNIST's test set, and patches of two photographs that are not in the
training data, with the example's three kinds of holes. Measured are PSNR and SSIM of the damaged
pixels; of repaired digits also the share that a classifier recognizes, and the Fréchet distance to
the undamaged ones in its features. PSNR is the mean over images, in a range of 2; SSIM is the mean
of scikit-image's map over damaged pixels. The simpler methods are

  mean           the mean of the training images, pixel by pixel
  membrane       the smoothest filling, from which the context encoder starts
  biharmonic     scikit-image's inpaint_biharmonic
  neighbor       the training image whose known pixels are nearest
  blended        the same, blended in

The library's are GAN inversion (for digits the best restart, unblended and blended, and the mean of
restarts, as in the example; for photographs with a GAN of the same patches) and a context encoder,
trained on the same images for the example's number of steps, with the adversarial loss and without.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.metrics import structural_similarity
from skimage.restoration import inpaint_biharmonic
from torch import Tensor, nn
from torchvision.utils import save_image

from tests.benchmarks.digits import train_classifier
from tests.benchmarks.options import Parser
from tests.helpers.scripts import load_example
from vanillagan import EMA, R1, ConvDiscriminator, ConvGenerator, GANTrainer
from vanillagan.applications.blending import blend
from vanillagan.applications.inversion import GANInversion, inpaint
from vanillagan.applications.masks import MaskSampler
from vanillagan.callbacks import NaNGuard, Progress
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist
from vanillagan.metrics import extract_features, frechet_distance
from vanillagan.player import adam

EXAMPLE = load_example("restore")
SHOWN = 12
HIGHEST_PSNR = 60.0
"""PSNR of a hole that is filled without error, in dB."""


def main() -> None:
    parser = Parser(__doc__)
    parser.add("--data")
    parser.add("--only", choices=("digits", "photos"), help="Run one of the two parts")
    parser.add("--digits", default=500, help="Number of test digits")
    parser.add("--patches", default=200, help="Number of patches")
    parser.add("--steps", help="Train each network for this many steps (default: as the example)")
    parser.add("--resume", action="store_true",
               help="Use the networks that an earlier run has trained in --out")  # fmt: skip
    parser.add("--seed")
    parser.add("--out", default=Path("runs/restoring"))
    options = parser.parse_args()
    options.device, options.quick = "cpu", False
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "restoring.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for part, measure in (("digits", measure_digits), ("photos", measure_photos)):
        if options.only in (None, part):
            for results[part] in measure(options):
                path.write_text(json.dumps(results, indent=1))


def measure_digits(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the table of digits after each kind of damage."""
    data, test = (mnist(options.data, train=train, download=False) for train in (True, False))
    classifier = train_classifier(data)
    trainer = EXAMPLE["make_digit_trainer"](options)
    EXAMPLE["learn"](trainer, options, lambda: data, EXAMPLE["DIGIT_STEPS"])
    encoders = train_encoders("digits", list(EXAMPLE["DIGIT_MASKS"].values()), data, options)
    images, labels = test[: options.digits]
    training, _ = data[:]
    results: dict[str, Any] = {"whole": {"accuracy": accuracy(classifier, images, labels)}}
    for kind, sampler in EXAMPLE["DIGIT_MASKS"].items():
        masks = sampler(len(images), torch.Generator().manual_seed(options.seed))
        filled = simple_methods(images, masks, training)
        mean = EXAMPLE["INVERSION"]
        best = replace(mean, temperature=0.0)
        for name, how in {
            "best, unblended": {"inversion": best, "blending": False},
            "best of restarts": {"inversion": best},
            "mean of restarts": {"inversion": mean},
        }.items():
            filled[name] = EXAMPLE["fill_digits"](trainer, images, masks, seed=options.seed, **how)
        filled |= {name: encode(images, masks).clamp(-1, 1) for name, encode in encoders.items()}
        results[kind] = judge(filled, images, masks, classifier, labels)
        report(f"digits, {kind}", results[kind])
        picture(options.out / f"digits_{kind}.png", images, masks, filled)
        yield results


def measure_photos(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the table of patches of photographs after each kind of damage."""
    cut = partial(EXAMPLE["photo_patches"], size=EXAMPLE["PATCH"])
    data = cut(EXAMPLE["TRAINED_ON"], EXAMPLE["PATCHES"], seed=options.seed)
    training = data[:]
    images = cut(EXAMPLE["UNSEEN"], options.patches, seed=options.seed + 1)[:]
    encoders = train_encoders("photos", EXAMPLE["PHOTO_DAMAGE"], data, options)
    players = unconditional_gan(options, training)
    results = {}
    for kind, sampler in EXAMPLE["PHOTO_MASKS"].items():
        masks = sampler(len(images), torch.Generator().manual_seed(options.seed))
        filled = simple_methods(images, masks, training)
        filled["GAN inversion"] = torch.cat(
            [
                inpaint(*players, *part, inversion=GANInversion(4, 500, 60), seed=options.seed)
                for part in zip(images.split(20), masks.split(20), strict=True)
            ]
        )
        filled |= {name: encode(images, masks).clamp(-1, 1) for name, encode in encoders.items()}
        results[kind] = judge(filled, images, masks)
        report(f"photos, {kind}", results[kind])
        picture(options.out / f"photos_{kind}.png", images, masks, filled)
        yield results


def train_encoders(
    part: str, damage: list[MaskSampler], data: ByteImages, options: argparse.Namespace
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Train context encoders with and without the adversarial loss."""
    encoders, shape = {}, tuple(data.images.shape[1:])
    for name, changes in {
        "no adversarial loss": {"adversarial_weight": 0.0},
        "context encoder": {},
    }.items():
        folder = f"{part}_{name}".replace(" ", "_")
        trainer = EXAMPLE["make_context_trainer"](shape, damage, options, folder, **changes)
        EXAMPLE["learn"](trainer, options, lambda: data, EXAMPLE["PHOTO_STEPS"], batch_size=16)
        encoders[name] = EXAMPLE["filler"](trainer)
    return encoders


def unconditional_gan(options: argparse.Namespace, patches: Tensor) -> tuple[nn.Module, nn.Module]:
    """Train a generator of patches and its discriminator, for GAN inversion."""
    torch.manual_seed(options.seed)
    shape = tuple(patches.shape[1:])
    trainer = GANTrainer(
        ConvGenerator(64, shape, base_channels=16, patch_size=2),
        ConvDiscriminator(shape, base_channels=16, patch_size=2),
        penalties=[R1(0.5, every=4)],
        ema=EMA(0.99),
        generator_optimizer=adam(4e-4, (0.0, 0.99)),
        discriminator_optimizer=adam(4e-4, (0.0, 0.99)),
        callbacks=[Progress(), NaNGuard()],
        device=options.device,
    )
    trainer.fit(patches, max_steps=options.steps or EXAMPLE["PHOTO_STEPS"], batch_size=16)
    save_image(trainer.sample(64, seed=0), options.out / "photos_gan.png", normalize=True)
    return trainer.eval_generator, trainer.discriminator


def simple_methods(images: Tensor, masks: Tensor, training: Tensor) -> dict[str, Tensor]:
    """Repair the images by the simpler methods."""
    damaged = masks > 0
    nearest = neighbors(images, ~damaged, training)
    smooth = [
        inpaint_biharmonic(image.movedim(0, -1).numpy(), hole[0].numpy(), channel_axis=-1)
        for image, hole in zip(images, damaged, strict=True)
    ]
    return {
        "mean": training.mean(0).where(damaged, images),
        "membrane": blend(images, torch.zeros_like(images), masks),
        "biharmonic": torch.tensor(np.stack(smooth)).movedim(-1, 1).to(images).clamp(-1, 1),
        "neighbor": nearest.where(damaged, images),
        "blended": blend(images, nearest, masks),
    }


def neighbors(images: Tensor, known: Tensor, training: Tensor) -> Tensor:
    """Return the training images that are nearest by each image's known pixels."""
    rows, weights = images.flatten(1), known.expand_as(images).flatten(1).float()
    data = training.flatten(1)
    # |w (x - y)|^2 without |w x|^2, which is the same for all y
    squares = weights @ data.square().T - 2 * (weights * rows) @ data.T
    return training[squares.argmin(1)]


def judge(
    filled: dict[str, Tensor],
    images: Tensor,
    masks: Tensor,
    classifier: nn.Sequential | None = None,
    labels: Tensor | None = None,
) -> dict[str, dict[str, float]]:
    """Return PSNR and SSIM of the damaged pixels; of digits also what the classifier finds.

    `frechet` is the Fréchet distance of all repaired digits to all undamaged ones in the
    classifier's features. It is high for blurred repairs, even if each of them has a high PSNR.
    """
    holes = masks.expand_as(images)
    results = {}
    for name, repaired in filled.items():
        squares = ((repaired - images) / 2).square() * holes
        errors = squares.sum((1, 2, 3)) / holes.sum((1, 2, 3))
        psnr = (-10 * errors.log10()).clamp(max=HIGHEST_PSNR)
        similar = [ssim(*part) for part in zip(repaired, images, holes, strict=True)]
        results[name] = {
            "psnr": float(psnr.mean()),
            "psnr_se": float(psnr.std() / len(psnr) ** 0.5),
            "ssim": float(np.mean(similar)),
        }
        if classifier is not None and labels is not None:
            features = (extract_features(classifier[:-2], part) for part in (images, repaired))
            results[name] |= {
                "accuracy": accuracy(classifier, repaired, labels),
                "frechet": frechet_distance(*features),
            }
    return results


def ssim(repaired: Tensor, image: Tensor, hole: Tensor) -> float:
    _, similar = structural_similarity(
        repaired.numpy(), image.numpy(), channel_axis=0, data_range=2.0, full=True
    )
    return float(similar[hole.numpy() > 0].mean())


def accuracy(classifier: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((extract_features(classifier, images).argmax(1) == labels).double().mean())


def report(title: str, results: dict[str, dict[str, float]]) -> None:
    print(title)
    for name, row in results.items():
        known = (
            f", {row['accuracy']:.1%} recognized, Fréchet {row['frechet']:.1f}"
            if "accuracy" in row
            else ""
        )
        print(
            f"  {name:19} PSNR {row['psnr']:5.2f} +- {row['psnr_se']:.2f} dB, "
            f"SSIM {row['ssim']:.3f}{known}",
            flush=True,
        )


def picture(path: Path, images: Tensor, masks: Tensor, filled: dict[str, Tensor]) -> None:
    """Save rows of images: before, damage, then each repair in the order of the table."""
    rows = [images, images.where(masks == 0, 0), *filled.values()]
    shown = torch.cat([row[:SHOWN] for row in rows])
    save_image(shown.clamp(-1, 1).add(1).div(2), path, nrow=SHOWN)


if __name__ == "__main__":
    main()
