"""How well are damaged images repaired? By examples/restore.py, and by simpler means.

    python -m tests.benchmarks.restoring --data FOLDER --out restoring/

Of digits of MNIST's test set and of patches of the two photographs that nothing was trained on,
with the example's three kinds of holes: PSNR and SSIM of the damaged pixels, and for digits how
many of those repaired a classifier knows. PSNR is the mean over images, in a range of 2; SSIM is
the mean over damaged pixels of scikit-image's map. Against

  mean           the mean of the training images, pixel by pixel
  biharmonic     scikit-image's inpaint_biharmonic
  neighbour      the training image that is nearest by its known pixels
  blended        the same, blended in

and ours: the latent search, for digits the best of the restarts, unblended and blended, and the
mean of restarts, which the example shows; for photographs through a GAN of the same patches; and a
context encoder, trained on the same images for the example's number of batches.
"""

from __future__ import annotations

import argparse
import json
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.metrics import structural_similarity
from skimage.restoration import inpaint_biharmonic
from torch import Tensor, nn
from torchvision.utils import save_image

from tests.benchmarks.digits import train_classifier
from vanillagan import EMA, R1, ConvDiscriminator, ConvGenerator, GANTrainer
from vanillagan.applications.blending import blend
from vanillagan.applications.inpainting import inpaint
from vanillagan.applications.latent_search import LatentSearch
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist
from vanillagan.metrics import extract_features
from vanillagan.optimizers import adam

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "restore.py"))
SHOWN = 12
HIGHEST_PSNR = 60.0
"""What a hole that is filled without any error counts as, in dB."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--only", choices=("digits", "photos"))
    parser.add_argument("--digits", type=int, default=500, help="test digits (default: 500)")
    parser.add_argument("--patches", type=int, default=200, help="patches (default: 200)")
    parser.add_argument("--steps", type=int, help="as of the example")
    parser.add_argument("--checkpoint", type=Path, metavar="FOLDER",
                        help="the --out of an earlier run of this, or of the example; what isn't "
                        "there is trained")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("restoring"), metavar="FOLDER")
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
    """The table of digits, after each kind of damage."""
    data, test = (mnist(options.data, train=train, download=False) for train in (True, False))
    classifier = train_classifier(data)
    trainer = EXAMPLE["make_digit_trainer"](options)
    learn(trainer, options, "digits.pt", data, EXAMPLE["DIGIT_STEPS"], batch_size=64)
    damage = list(EXAMPLE["DIGIT_MASKS"].values())
    encoder = EXAMPLE["make_context_trainer"]((1, 28, 28), damage, options)
    learn(encoder, options, "digits_encoder.pt", data, EXAMPLE["PHOTO_STEPS"], batch_size=16)
    images, labels = test[: options.digits]
    training, _ = data[:]
    results: dict[str, Any] = {"whole": {"accuracy": accuracy(classifier, images, labels)}}
    for kind, sampler in EXAMPLE["DIGIT_MASKS"].items():
        masks = sampler(len(images), torch.Generator().manual_seed(options.seed))
        filled = simple_means(images, masks, training)
        mean = EXAMPLE["SEARCH"]
        best = replace(mean, temperature=0.0)
        for name, how in {
            "best, unblended": {"search": best, "blending": False},
            "best of restarts": {"search": best},
            "mean of restarts": {"search": mean},
        }.items():
            filled[name] = EXAMPLE["repair"](trainer, images, masks, seed=options.seed, **how)
        filled["context encoder"] = EXAMPLE["fill_with"](encoder)(images, masks).clamp(-1, 1)
        results[kind] = judge(filled, images, masks, classifier, labels)
        report(f"digits, {kind}", results[kind])
        picture(options.out / f"digits_{kind}.png", images, masks, filled)
        yield results


def measure_photos(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The table of patches of photographs, after each kind of damage."""
    data = EXAMPLE["photo_patches"](options.seed)
    training = data[:]
    images = EXAMPLE["photo_patches"](options.seed + 1, EXAMPLE["UNSEEN"], options.patches)[:]
    trainer = EXAMPLE["make_photo_trainer"](options)
    learn(trainer, options, "photos.pt", data, EXAMPLE["PHOTO_STEPS"], batch_size=16)
    players = unconditional_gan(options, training)
    results = {}
    for kind, sampler in EXAMPLE["PHOTO_MASKS"].items():
        masks = sampler(len(images), torch.Generator().manual_seed(options.seed))
        filled = simple_means(images, masks, training)
        filled["latent search"] = torch.cat(
            [
                inpaint(*players, *part, search=LatentSearch(4, 500, 60), seed=options.seed)
                for part in zip(images.split(20), masks.split(20), strict=True)
            ]
        )
        filled["context encoder"] = EXAMPLE["fill_with"](trainer)(images, masks).clamp(-1, 1)
        results[kind] = judge(filled, images, masks)
        report(f"photos, {kind}", results[kind])
        picture(options.out / f"photos_{kind}.png", images, masks, filled)
        yield results


def learn(
    trainer: GANTrainer,
    options: argparse.Namespace,
    name: str,
    data: ByteImages,
    steps: int,
    *,
    batch_size: int,
) -> None:
    """As the example does, but trains what no earlier run has learned."""
    options = argparse.Namespace(**vars(options))
    if options.checkpoint is not None and not (options.checkpoint / name).exists():
        options.checkpoint = None
    EXAMPLE["learn"](trainer, options, name, lambda: data, steps, batch_size=batch_size)


def unconditional_gan(options: argparse.Namespace, patches: Tensor) -> tuple[nn.Module, nn.Module]:
    """A generator of patches and its discriminator, for the latent search."""
    torch.manual_seed(options.seed)
    shape = tuple(patches.shape[1:])
    trainer = GANTrainer(
        ConvGenerator(64, shape, width=16, patch=2),
        ConvDiscriminator(shape, width=16, patch=2),
        penalties=[R1(0.5, every=4)],
        ema=EMA(0.99),
        generator_optimizer=adam(4e-4, (0.0, 0.99)),
        discriminator_optimizer=adam(4e-4, (0.0, 0.99)),
        callbacks=EXAMPLE["watching"](),
        device=options.device,
    )
    trainer.fit(patches, steps=options.steps or EXAMPLE["PHOTO_STEPS"], batch_size=16)
    save_image(trainer.sample(64, seed=0), options.out / "photos_gan.png", normalize=True)
    return trainer.ema.network, trainer.discriminator


def simple_means(images: Tensor, masks: Tensor, training: Tensor) -> dict[str, Tensor]:
    """What has to be beaten."""
    damaged = masks > 0
    nearest = neighbours(images, ~damaged, training)
    smooth = [
        inpaint_biharmonic(image.movedim(0, -1).numpy(), hole[0].numpy(), channel_axis=-1)
        for image, hole in zip(images, damaged, strict=True)
    ]
    return {
        "mean": training.mean(0).where(damaged, images),
        "biharmonic": torch.tensor(np.stack(smooth)).movedim(-1, 1).to(images).clamp(-1, 1),
        "neighbour": nearest.where(damaged, images),
        "blended": blend(images, nearest, masks),
    }


def neighbours(images: Tensor, known: Tensor, training: Tensor) -> Tensor:
    """The training images that are nearest by each image's own known pixels."""
    rows, weights = images.flatten(1), known.expand_as(images).flatten(1).float()
    data = training.flatten(1)
    # |w (x - y)|^2 without |w x|^2, which is the same for all y
    squares = weights @ data.square().T - 2 * (weights * rows) @ data.T
    return training[squares.argmin(1)]


def judge(
    filled: dict[str, Tensor],
    images: Tensor,
    masks: Tensor,
    classifier: nn.Module | None = None,
    labels: Tensor | None = None,
) -> dict[str, dict[str, float]]:
    """PSNR and SSIM of the damaged pixels, and the classifier's accuracy."""
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
            results[name]["accuracy"] = accuracy(classifier, repaired, labels)
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
        known = f", {row['accuracy']:.1%} known" if "accuracy" in row else ""
        print(
            f"  {name:18} PSNR {row['psnr']:5.2f} +- {row['psnr_se']:.2f} dB, "
            f"SSIM {row['ssim']:.3f}{known}",
            flush=True,
        )


def picture(path: Path, images: Tensor, masks: Tensor, filled: dict[str, Tensor]) -> None:
    """Rows: before, damage, then each repair in the order of the table."""
    rows = [images, images.where(masks == 0, 0), *filled.values()]
    shown = torch.cat([row[:SHOWN] for row in rows])
    save_image(shown.clamp(-1, 1).add(1).div(2), path, nrow=SHOWN)


if __name__ == "__main__":
    main()
