"""Repair damaged digits and photographs.

  digits   A GAN is trained on MNIST. For each damaged digit, which was not in the training data,
           GAN inversion finds the latent whose sample fits the undamaged pixels (Yeh et al., 2017).
           Holes (a box, half of the pixels, scratches) are blended in; noise, fading and blur are
           undone in the same way.
  photos   A network is trained to fill holes in patches of photographs (a context encoder: Pathak
           et al., 2016). Then it repairs two other photographs, patch by patch.

This takes about 8 minutes on 2 cores. Pictures show before, damage, after. Expect digits that look
like digits, sometimes of another class where the hole hides which; and photographs whose scratches
are hard to find, while larger holes are filled smoothly, without the objects that were there.

A photograph of your own, with a mask that is white where the photograph is damaged:

    python examples/restore.py --image old.jpg --mask scratches.png --resume

--resume uses the networks that an earlier run has trained, or continues their training.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import Parser, exit_if_stopped, run, start_or_resume
from photographs import TRAINED_ON, UNSEEN, as_floats, as_tensor, photo_patches, photographs
from pictures import save_panels
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import save_image

from vanillagan import EMA, R1, ConvDiscriminator, Discriminator, GANTrainer, Generator, recipes
from vanillagan.applications.blending import as_mask
from vanillagan.applications.context_encoder import ContextEncoder, ContextTrainer
from vanillagan.applications.inversion import GANInversion, inpaint
from vanillagan.applications.masks import MaskSampler, boxes, lost_pixels, mixed, scratches
from vanillagan.applications.patches import fill_by_patches
from vanillagan.callbacks import Checkpoint, NaNGuard, Progress, StopOnSignal
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist_or_5000
from vanillagan.datasets.image_folder import open_picture, to_tensor
from vanillagan.player import adam

DIGIT_STEPS, PHOTO_STEPS = 15_000, 3_000
SHOWN, HELD_OUT, CHUNK = 10, 500, 50
PATCH, PATCHES = (32, 32), 10_000
GRAY = 0.0


def main() -> None:
    options = parse_options()
    options.out.mkdir(parents=True, exist_ok=True)
    photograph = None if options.image is None else read_photograph(options.image, options.mask)
    started = time.monotonic()
    if photograph is None and options.only != "photos":
        repair_digits(options)
    if options.only != "digits":
        trainer = make_context_trainer((3, *PATCH), PHOTO_DAMAGE, options, "photos")
        patches = partial(photo_patches, TRAINED_ON, PATCHES, size=PATCH, seed=options.seed)
        learn(trainer, options, patches, PHOTO_STEPS, batch_size=16)
        if photograph is not None:
            repair_photograph(trainer, "restored", *photograph, options)
        else:
            repair_unseen(trainer, options)
    print(f"Time: {time.monotonic() - started:.0f} s")


def callbacks(options: argparse.Namespace, name: str) -> list[Any]:
    checkpoint = Checkpoint(options.out / "checkpoints" / name, every_n_steps=1000, keep=1)
    return [Progress(), NaNGuard(), checkpoint, StopOnSignal()]


def learn(
    trainer: GANTrainer,
    options: argparse.Namespace,
    data: Callable[[], ByteImages],
    steps: int,
    batch_size: int = 64,
) -> None:
    """Train, or use the networks of an earlier run."""
    steps = 3 if options.quick else options.steps or steps
    (checkpoint,) = (c for c in trainer.callbacks if isinstance(c, Checkpoint))
    start_or_resume(trainer, checkpoint, resume=options.resume)
    if trainer.progress.step < steps:
        print(f"Training on {trainer.device} for {steps:,} steps")
        trainer.fit(data(), max_steps=steps, batch_size=batch_size)
        exit_if_stopped(trainer)


def show(path: Path, *rows: Tensor) -> None:
    """Save a picture of before, damage, after: several images in rows, or one in columns."""
    panels = dict(zip(("before", "damage", "after"), rows, strict=True))
    save_panels(panels, path, columns=len(rows[0]), below=len(rows[0]) > 1)
    print(f"  before, damage, after: {path}")


# -- digits ----------------------------------------------------------------------------------------

DIGIT_MASKS = {
    "box": boxes((28, 28), centered=True),
    "lost": lost_pixels((28, 28)),
    "scratches": scratches((28, 28), count=3),
}
"""A box of 14 x 14, half of the pixels, and three scratches 2 pixels wide."""

INVERSION = GANInversion(16, candidates=4000, steps=50, temperature=0.02)
"""Averages restarts for a higher PSNR than the best restart has; see docs/use/restoring.md."""


def faded(images: Tensor) -> Tensor:
    """Reduce the contrast to a quarter, and brighten."""
    return 0.25 * images + 0.6


def blurred(images: Tensor) -> Tensor:
    """Average over 5 x 5 pixels, twice."""
    for _ in range(2):
        images = F.avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False)
    return images


def unchanged(images: Tensor) -> Tensor:
    """Return the images: noise of mean zero is no property of them."""
    return images


DEGRADATIONS = {"noise": unchanged, "fading": faded, "blur": blurred}


def make_digit_trainer(options: argparse.Namespace) -> GANTrainer:
    torch.manual_seed(options.seed)
    shape = (1, 28, 28)
    return GANTrainer(
        Generator(64, shape),
        Discriminator(shape),
        **recipes.stable(),
        callbacks=callbacks(options, "digits"),
        device=options.device,
        seed=options.seed,
    )


def repair_digits(options: argparse.Namespace) -> None:
    data, which = mnist_or_5000(options.data)
    print(f"Data: {which}, {HELD_OUT} of them held out")
    # the same for any --seed, so that they are in no training data of an earlier run
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    trainer = make_digit_trainer(options)
    learn(trainer, options, lambda: ByteImages(data.images[order[HELD_OUT:]]), DIGIT_STEPS)
    digits = data[order[:SHOWN]][0].to(trainer.device)
    inversion = GANInversion(1, candidates=1, steps=1) if options.quick else INVERSION
    how = {"inversion": inversion, "seed": options.seed}
    rng = torch.Generator().manual_seed(options.seed)
    for name, sampler in DIGIT_MASKS.items():
        mask = sampler(SHOWN, rng).to(trainer.device)
        damaged = digits.where(mask == 0, GRAY)
        show(options.out / f"digits_{name}.png", digits, damaged,
             fill_digits(trainer, damaged, mask, **how))  # fmt: skip
    for name, degradation in DEGRADATIONS.items():
        damaged = degradation(digits)
        if name == "noise":
            damaged = damaged + 0.5 * torch.randn(digits.shape, generator=rng).to(digits)
        networks = trainer.eval_generator, trainer.discriminator
        after = inversion(*networks, damaged, degradation, seed=options.seed)
        show(options.out / f"digits_{name}.png", digits, damaged, after)


def fill_digits(trainer: GANTrainer, images: Tensor, masks: Tensor, **how: Any) -> Tensor:
    """Fill the holes of any number of digits."""
    networks = trainer.eval_generator, trainer.discriminator
    parts = zip(images.split(CHUNK), masks.split(CHUNK), strict=True)
    return torch.cat([inpaint(*networks, *part, window=15, **how) for part in parts])


# -- photographs -----------------------------------------------------------------------------------

PHOTO_MASKS = {
    "box": boxes(PATCH, centered=True),
    "lost": lost_pixels(PATCH),
    "scratches": scratches(PATCH, count=2),
}
"""A box of 16 x 16, half of the pixels, and two scratches 2 pixels wide."""


PHOTO_DAMAGE = [
    boxes(PATCH, 0.5), boxes(PATCH, 0.25), lost_pixels(PATCH), scratches(PATCH, count=2)
]  # fmt: skip
"""Damage to train with: larger and smaller boxes anywhere, lost pixels, scratches."""


def make_context_trainer(
    shape: tuple[int, int, int],
    damage: Sequence[MaskSampler],
    options: argparse.Namespace,
    name: str,
    **changes: Any,
) -> ContextTrainer:
    torch.manual_seed(options.seed)
    return ContextTrainer(
        ContextEncoder(shape, base_channels=32),
        ConvDiscriminator(shape, base_channels=16, patch_size=2),
        masks=mixed(damage),
        penalties=[R1(0.5, every=4)],
        ema=EMA(0.995),
        generator_optimizer=adam(1e-3, (0.9, 0.99)),
        discriminator_optimizer=adam(4e-4, (0.0, 0.99)),
        lr_schedule=lambda done: max(0.02, 1 - done),
        callbacks=callbacks(options, name),
        device=options.device,
        seed=options.seed,
        **changes,
    )


def filler(trainer: ContextTrainer) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the trained network as a function of patches and masks."""
    network = trainer.eval_generator.eval()

    @torch.no_grad()
    def fill(patches: Tensor, masks: Tensor) -> Tensor:
        return network(patches.to(trainer.device), masks.to(trainer.device)).cpu()

    return fill


def repair_photograph(
    trainer: ContextTrainer, name: str, image: Tensor, mask: Tensor, options: argparse.Namespace
) -> None:
    """Repair one photograph, and save before, damage, after side by side, and after alone."""
    after = fill_by_patches(filler(trainer), image, mask, size=PATCH[0]).clamp(-1, 1)
    damaged = image.where(mask == 0, 1.0)
    show(options.out / f"{name}.png", *(part[None] for part in (image, damaged, after)))
    alone = options.out / f"{name}_after.png"
    save_image(after.add(1).div(2), alone)
    print(f"  after alone: {alone}")


def repair_unseen(trainer: ContextTrainer, options: argparse.Namespace) -> None:
    """Repair scratches and lost corners of photographs that were not in the training data."""
    rng = torch.Generator().manual_seed(options.seed)
    for name, pixels in zip(UNSEEN, photographs(UNSEEN), strict=True):
        image = as_floats(as_tensor(pixels))
        size = image.shape[1], image.shape[2]
        mask = scratches(size, count=12, width=3.0)(1, rng)[0]
        for _ in range(4):
            mask = torch.maximum(mask, boxes(size, 0.06)(1, rng)[0])
        repair_photograph(trainer, f"photo_{name}", image, mask, options)


def read_photograph(image: Path, mask: Path) -> tuple[Tensor, Tensor]:
    """Read a user's photograph, (3, H, W) in [-1, 1], and its mask (1, H, W)."""
    pixels = as_floats(to_tensor(open_picture(image, "RGB")))
    damaged = to_tensor(open_picture(mask, "L")) > 127
    height, width = pixels.shape[1:]
    if damaged.shape[1:] != pixels.shape[1:]:
        raise ValueError(
            f"the mask must have the size of the photograph, {width} x {height}, got "
            f"{damaged.shape[2]} x {damaged.shape[1]}"
        )
    if min(height, width) < max(PATCH):
        raise ValueError(f"the photograph must be at least {max(PATCH)} pixels high and wide")
    try:
        as_mask(damaged, pixels[None])
    except ValueError as error:
        raise ValueError(f"--mask {mask}: {error}") from error
    return pixels, damaged


def parse_options(words: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__, "restore")
    add = parser.add_argument
    # fmt: off
    add("--image", type=Path, metavar="FILE", help="Repair this photograph, with --mask.")
    add("--mask", type=Path, metavar="FILE",
        help="Picture of the photograph's size that is white where the photograph is damaged.")
    add("--only", choices=("digits", "photos"), help="Run one of the two parts (default: both).")
    parser.add_count("--steps", help="Train each part for this many steps (default: "
                     f"{DIGIT_STEPS:,} for digits, {PHOTO_STEPS:,} for photographs).")
    # fmt: on
    parser.add_quick()
    parser.add_resume()
    parser.add_data()
    options = parser.parse_args(words)
    if options.quick:
        parser.change_default_out(options, "restore-quick")
    if (options.image is None) != (options.mask is None):
        parser.error("--image and --mask go together")
    if options.image is not None and options.only == "digits":
        parser.error("--image is a photograph: leave out --only digits")
    return options


if __name__ == "__main__":
    run(main)
