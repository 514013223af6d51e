"""Repairs damaged digits and photographs.

  digits   A GAN learns MNIST; then, for each damaged digit that it has never seen, the latent is
           searched for whose sample fits what is left (Yeh et al., 2017). Holes (a box, half of the
           pixels, scratches) are blended in; noise, fading and blur are undone in the same way.
  photos   A network learns to fill holes in patches of photographs (a context encoder: Pathak et
           al., 2016), and then repairs two photographs that it has never seen, patch by patch.

About 8 minutes on 2 cores, of which 3 for the digits' training and 4 for the photographs'. Pictures
show before, damage, after. What to expect: digits that look like digits, sometimes of another class
where the hole hides which; and photographs whose scratches are hard to find again, while larger
holes are filled smoothly, without the objects that were there.

A photograph of your own, with white where the mask is damaged:

    python examples/restore.py --image old.jpg --mask scratches.png

What an earlier run has learned is used again with --checkpoint FOLDER.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torchvision.utils import save_image

from vanillagan import EMA, R1, ConvDiscriminator, Discriminator, GANTrainer, Generator
from vanillagan.applications.blending import as_mask
from vanillagan.applications.context_encoder import ContextEncoder, ContextTrainer
from vanillagan.applications.inpainting import inpaint, restore
from vanillagan.applications.latent_search import LatentSearch
from vanillagan.applications.masks import boxes, lost_pixels, mixed, scratches
from vanillagan.applications.patches import fill_by_patches
from vanillagan.callbacks import ConsoleLog, LRSchedule, NaNGuard, ProgressBar
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist_or_5000
from vanillagan.datasets.folder import open_picture, to_tensor
from vanillagan.errors import VanillaGANError, require
from vanillagan.optimizers import adam

DIGIT_STEPS, PHOTO_STEPS = 15_000, 3_000
SHOWN, HELD_OUT, CHUNK = 10, 500, 50
PATCH, PATCHES = 32, 10_000
GREY = 0.0
INTERRUPTED = 130
TRAINED_ON = ("flower", "coffee", "rocket", "astronaut", "motorcycle")
UNSEEN = ("china", "chelsea")


def main() -> int:
    options = parse_options()
    options.out.mkdir(parents=True, exist_ok=True)
    photograph = None if options.image is None else read_photograph(options.image, options.mask)
    started = time.monotonic()
    if photograph is None and options.only != "photos":
        repair_digits(options)
    if options.only != "digits":
        trainer = make_photo_trainer(options)
        learn(
            trainer, options, "photos.pt", lambda: photo_patches(options.seed), PHOTO_STEPS,
            batch_size=16,
        )  # fmt: skip
        if photograph is not None:
            repair_photograph(trainer, "restored", *photograph, options)
        else:
            repair_unseen(trainer, options)
    print(f"All in {time.monotonic() - started:.0f} s")
    return 0


def learn(
    trainer: GANTrainer,
    options: argparse.Namespace,
    name: str,
    data,
    steps: int,
    *,
    batch_size: int,
) -> None:
    """Trains, or takes what an earlier run has learned."""
    if options.checkpoint is not None:
        trainer.load(options.checkpoint / name)
        print(f"Learned before: {options.checkpoint / name}")
        return
    steps = 3 if options.quick else options.steps or steps
    print(f"Training on {trainer.device} for {steps:,} batches")
    trainer.fit(data(), steps=steps, batch_size=batch_size)
    trainer.save(options.out / name)


def watching() -> list:
    return [ProgressBar() if sys.stderr.isatty() else ConsoleLog(5.0), NaNGuard()]


# -- digits ----------------------------------------------------------------------------------------

DIGIT_MASKS = {
    "box": boxes((28, 28), centred=True),
    "lost": lost_pixels((28, 28)),
    "scratches": scratches((28, 28), count=3),
}
"""A box of 14 x 14, half of the pixels, and three scratches 2 pixels wide."""


def faded(samples: Tensor) -> Tensor:
    """A quarter of the contrast, and bright."""
    return 0.25 * samples + 0.6


def blurred(samples: Tensor) -> Tensor:
    """A mean over 5 x 5, twice."""
    for _ in range(2):
        samples = F.avg_pool2d(samples, 5, stride=1, padding=2, count_include_pad=False)
    return samples


def noisy(samples: Tensor) -> Tensor:
    """Nothing: noise of mean zero is not of the image."""
    return samples


SEARCH, WINDOW = LatentSearch(16, candidates=4000, steps=50, temperature=0.02), 15
"""The mean of restarts for more PSNR than the best one has; see docs/restoring.md."""

DEGRADATIONS = {"noise": noisy, "fading": faded, "blur": blurred}


def make_digit_trainer(options: argparse.Namespace) -> GANTrainer:
    """The clean recipe of examples/mnist.py, with less noise to search in."""
    torch.manual_seed(options.seed)
    shape = (1, 28, 28)
    return GANTrainer(
        Generator(64, shape),
        Discriminator(shape),
        penalties=[R1(0.5, every=4)],
        ema=EMA(0.999),
        generator_optimizer=adam(4e-4, (0.0, 0.99)),
        discriminator_optimizer=adam(8e-4, (0.0, 0.99)),
        callbacks=watching(),
        device=options.device,
        seed=options.seed,
    )


def repair_digits(options: argparse.Namespace) -> None:
    data, which = mnist_or_5000(options.data)
    print(f"Data: {which}, {HELD_OUT} of them held out")
    # the same for any --seed, so that what an earlier run has learned has not seen them
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    unseen = data[order[:HELD_OUT]][0]
    trainer = make_digit_trainer(options)
    learn(
        trainer, options, "digits.pt", lambda: ByteImages(data.images[order[HELD_OUT:]]),
        DIGIT_STEPS, batch_size=64,
    )  # fmt: skip
    digits = unseen[:SHOWN].to(trainer.device)
    search = LatentSearch(1, candidates=1, steps=1) if options.quick else SEARCH
    how = {"search": search, "seed": options.seed}
    rng = torch.Generator().manual_seed(options.seed)
    for name, sampler in DIGIT_MASKS.items():
        mask = sampler(SHOWN, rng).to(trainer.device)
        damaged = digits.where(mask == 0, GREY)
        after = repair(trainer, damaged, mask, **how)
        show(options.out / f"digits_{name}.png", digits, damaged, after)
    for name, degradation in DEGRADATIONS.items():
        damaged = degradation(digits)
        if name == "noise":
            noise = torch.randn(digits.shape, generator=rng).to(digits)
            damaged = damaged + 0.5 * noise
        after = undo(trainer, damaged, degradation, **how)
        show(options.out / f"digits_{name}.png", digits, damaged, after)


def repair(
    trainer: GANTrainer, images: Tensor, masks: Tensor, *, search: LatentSearch, seed: int, **how
) -> Tensor:
    """Fills the holes in any number of digits."""
    players = trainer.ema.network, trainer.discriminator
    parts = bar(list(zip(images.split(CHUNK), masks.split(CHUNK), strict=True)))
    how |= {"window": WINDOW, "search": search, "seed": seed}
    return torch.cat([inpaint(*players, *part, **how) for part in parts])


def undo(
    trainer: GANTrainer, images: Tensor, degradation, *, search: LatentSearch, seed: int
) -> Tensor:
    """Undoes other damage of any number of digits."""
    players = trainer.ema.network, trainer.discriminator
    parts = bar(images.split(CHUNK))
    how = {"search": search, "seed": seed}
    return torch.cat([restore(*players, part, degradation, **how) for part in parts])


def bar(parts=None, *, doing: str = "Searching", **how):
    tqdm = require("tqdm.auto", extra="examples", user="examples/restore.py").tqdm
    return tqdm(parts, desc=doing, disable=None, leave=False, **how)


def show(path: Path, *rows: Tensor) -> None:
    """A picture of before, damage, after: of several images in rows, of one in columns."""
    columns = len(rows[0]) if len(rows[0]) > 1 else len(rows)
    save_image(torch.cat(rows).clamp(-1, 1).add(1).div(2), path, nrow=columns)
    print(f"  before, damage, after: {path}")


# -- photographs -----------------------------------------------------------------------------------

SIZE = (PATCH, PATCH)
PHOTO_MASKS = {
    "box": boxes(SIZE, centred=True),
    "lost": lost_pixels(SIZE),
    "scratches": scratches(SIZE, count=2),
}
"""A box of 16 x 16, half of the pixels, and two scratches 2 pixels wide."""


def make_photo_trainer(options: argparse.Namespace) -> ContextTrainer:
    """The game of a context encoder, with all kinds of damage."""
    damage = [boxes(SIZE, 0.5), boxes(SIZE, 0.25), lost_pixels(SIZE), scratches(SIZE, count=2)]
    return make_context_trainer((3, *SIZE), damage, options)


def make_context_trainer(
    shape: tuple[int, int, int], damage: list, options: argparse.Namespace
) -> ContextTrainer:
    torch.manual_seed(options.seed)
    steps = options.steps or PHOTO_STEPS
    slowing = LRSchedule(
        lambda optimizer: LambdaLR(optimizer, lambda step: max(0.02, 1 - step / steps)),
        interval="step",
    )
    return ContextTrainer(
        ContextEncoder(shape, width=32),
        ConvDiscriminator(shape, width=16, patch=2),
        masks=mixed(damage),
        penalties=[R1(0.5, every=4)],
        ema=EMA(0.995),
        generator_optimizer=adam(1e-3, (0.9, 0.99)),
        discriminator_optimizer=adam(4e-4, (0.0, 0.99)),
        callbacks=[slowing, *watching()],
        device=options.device,
        seed=options.seed,
    )


def photographs(names: tuple[str, ...]) -> list[Tensor]:
    """Photographs that scikit-learn and scikit-image ship: bytes, (3, H, W) each."""
    user = "examples/restore.py"
    sklearn = require("sklearn.datasets", extra="examples", user=user)
    skimage = require("skimage.data", extra="examples", user=user)
    pixels = {
        "china": lambda: sklearn.load_sample_image("china.jpg"),
        "flower": lambda: sklearn.load_sample_image("flower.jpg"),
        "motorcycle": lambda: skimage.stereo_motorcycle()[0],
    }
    found = [pixels.get(name, getattr(skimage, name, None))() for name in names]
    return [torch.tensor(photograph).permute(2, 0, 1) for photograph in found]


def scaled(pixels: Tensor) -> Tensor:
    """Bytes in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def photo_patches(seed: int, names: tuple[str, ...] = TRAINED_ON, n: int = PATCHES) -> ByteImages:
    """Patches from anywhere in the photographs, half of them mirrored: (n, 3, PATCH, PATCH)."""
    rng = torch.Generator().manual_seed(seed)
    images = photographs(names)
    patches = []
    for index in range(n):
        image = images[index % len(images)]
        top, left = (
            int(torch.randint(side - PATCH + 1, (), generator=rng)) for side in image.shape[1:]
        )
        patch = image[:, top : top + PATCH, left : left + PATCH]
        patches.append(patch.flip(2) if index // len(images) % 2 else patch)
    return ByteImages(torch.stack(patches))


def fill_with(trainer: ContextTrainer):
    """The trained network as a function of patches and masks."""
    network = trainer.ema.network.eval()

    @torch.no_grad()
    def fill(patches: Tensor, masks: Tensor) -> Tensor:
        return network(patches.to(trainer.device), masks.to(trainer.device)).cpu()

    return fill


def repair_photograph(
    trainer: ContextTrainer, name: str, image: Tensor, mask: Tensor, options: argparse.Namespace
) -> None:
    """Repairs one photograph, and shows before, damage, after side by side."""
    damaged = image.where(mask == 0, 1.0)
    fill = fill_with(trainer)
    with bar(doing="Filling", unit=" patches") as done:

        def fill_and_tell(patches: Tensor, masks: Tensor) -> Tensor:
            done.update(len(patches))
            return fill(patches, masks)

        after = fill_by_patches(fill_and_tell, image, mask, size=PATCH).clamp(-1, 1)
    show(options.out / f"{name}.png", *(part[None] for part in (image, damaged, after)))
    alone = options.out / f"{name}_after.png"
    save_image(after.add(1).div(2), alone)
    print(f"  after alone: {alone}")


def repair_unseen(trainer: ContextTrainer, options: argparse.Namespace) -> None:
    """Scratches and lost corners of the photographs that were not trained on."""
    rng = torch.Generator().manual_seed(options.seed)
    for name, pixels in zip(UNSEEN, photographs(UNSEEN), strict=True):
        image = scaled(pixels)
        size = image.shape[1], image.shape[2]
        mask = scratches(size, count=12, width=3.0)(1, rng)[0]
        for _ in range(4):
            mask = torch.maximum(mask, boxes(size, 0.06)(1, rng)[0])
        repair_photograph(trainer, f"photo_{name}", image, mask, options)


def read_photograph(image: Path, mask: Path) -> tuple[Tensor, Tensor]:
    """A photograph of the user's, (3, H, W) in [-1, 1], and its mask (1, H, W)."""
    pixels = scaled(to_tensor(open_picture(image, "RGB")))
    damaged = to_tensor(open_picture(mask, "L")) > 127
    if damaged.shape[1:] != pixels.shape[1:]:
        raise ValueError(
            f"the mask must be of the photograph's size, {pixels.shape[2]} x {pixels.shape[1]}, "
            f"got {damaged.shape[2]} x {damaged.shape[1]}"
        )
    if min(pixels.shape[1:]) < PATCH:
        raise ValueError(f"the photograph must be at least {PATCH} pixels high and wide")
    try:
        as_mask(damaged, pixels[None])
    except ValueError as error:
        raise ValueError(f"--mask {mask}: {error}") from error
    return pixels, damaged


def parse_options(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, metavar="FILE", help="a photograph of your own")
    parser.add_argument("--mask", type=Path, metavar="FILE",
                        help="a picture of its size, white at damaged pixels")  # fmt: skip
    parser.add_argument("--only", choices=("digits", "photos"), help="one of the two parts")
    parser.add_argument("--steps", type=positive, metavar="N",
                        help=f"batches of each training; more is better (default: {DIGIT_STEPS:,} "
                        f"for digits, {PHOTO_STEPS:,} for photographs)")  # fmt: skip
    parser.add_argument("--quick", action="store_true",
                        help="a run of seconds, which learns nothing")  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, metavar="FOLDER",
                        help="the --out of an earlier run, to use what it has learned")  # fmt: skip
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="FOLDER",
                        help="MNIST in torchvision's layout, or where to download it "
                        "(default: data)")  # fmt: skip
    parser.add_argument("--device", help="such as cpu or cuda:0; an accelerator if there is one")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="fixes all (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("restored"), metavar="FOLDER",
                        help="where to write (default: restored)")  # fmt: skip
    options = parser.parse_args(words)
    if (options.image is None) != (options.mask is None):
        parser.error("--image and --mask go together")
    if options.image is not None and options.only == "digits":
        parser.error("--image is a photograph: leave --only digits away")
    return options


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
        sys.exit(INTERRUPTED)
    except (OSError, ValueError, VanillaGANError) as error:
        sys.exit(f"error: {error}")
