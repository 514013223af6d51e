"""Damage to train on, large images patch by patch, and a generator of images from images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from vanillagan import EMA, Batch, ConvDiscriminator, RelativisticLoss, load_generator
from vanillagan.applications.blending import blend
from vanillagan.applications.context_encoder import ContextEncoder, ContextTrainer
from vanillagan.applications.masks import boxes, lost_pixels, mixed, scratches
from vanillagan.applications.patches import fill_by_patches
from vanillagan.optimizers import adam

SIZE = (16, 16)
SAMPLERS = {
    "boxes": boxes((20, 30)),
    "lost pixels": lost_pixels((20, 30)),
    "scratches": scratches((20, 30)),
    "mixed": mixed([boxes((20, 30), 0.3), lost_pixels((20, 30))]),
}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS)
def test_masks_are_zeros_and_ones_repeatable_and_not_all_the_same(name):
    sampler = SAMPLERS[name]
    masks = sampler(50, rng())
    assert masks.shape == (50, 1, 20, 30)
    assert masks.unique().tolist() == [0, 1]
    assert torch.equal(masks, sampler(50, rng()))
    assert len(masks.unique(dim=0)) > 40
    shares = masks.mean((1, 2, 3))
    assert shares.min() > 0
    assert shares.max() < 1


def test_a_centred_box_has_half_of_both_sides():
    mask = boxes((28, 28), centred=True)(3, rng())
    expected = torch.zeros(28, 28)
    expected[7:21, 7:21] = 1
    assert torch.equal(mask, expected.expand(3, 1, 28, 28))


def test_a_box_lies_anywhere_inside():
    masks = boxes((6, 8), 0.5)(500, rng())
    assert (masks.sum((1, 2, 3)) == 12).all()
    assert (masks.amax(0) == 1).all()
    for mask in masks[:20]:
        (box,) = ndimage.find_objects(mask[0].int().numpy())
        assert [part.stop - part.start for part in box] == [3, 4]
        assert (mask[0][box] == 1).all()


def test_as_many_pixels_are_lost_as_asked_for():
    assert float(lost_pixels((20, 30), 0.3)(100, rng()).mean()) == pytest.approx(0.3, abs=0.01)


def test_a_scratch_is_one_line_of_its_width_from_border_to_border():
    for mask in scratches((40, 60), count=1, width=2.0)(30, rng())[:, 0]:
        assert ndimage.label(mask.numpy(), structure=np.ones((3, 3)))[1] == 1
        border = mask.clone()
        border[1:-1, 1:-1] = 0
        assert border.sum() >= 2
        # no square of 4 x 4 fits into a line of 2 pixels
        assert not ndimage.binary_erosion(mask.numpy(), np.ones((4, 4))).any()


@pytest.mark.parametrize(
    "sampler",
    [
        boxes((28, 28), 0.99),
        boxes((1, 9), 0.9),
        lost_pixels((4, 4), 0.01),
        lost_pixels((4, 4), 0.99),
        scratches((8, 8), count=9, width=7.9),
    ],
)
def test_no_mask_is_empty_or_full_however_little_or_much_is_asked_for(sampler):
    damaged = sampler(100, rng()).flatten(1)
    assert (damaged == 1).any(1).all()
    assert (damaged == 0).any(1).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: boxes((8,)), ValueError, r"`size` must be \(height, width\), got \(8,\)"),
        (lambda: boxes((8, 0)), ValueError, r"`size\[1\]` must be a positive integer, got 0"),
        (lambda: boxes((8, 8), 1.0), ValueError, r"`share` must be a finite number in \(0, 1\)"),
        (lambda: lost_pixels((8, 8), 0), ValueError, "`share` must be a finite number in"),
        (lambda: scratches((8, 8), 0), ValueError, "`count` must be a positive integer, got 0"),
        (lambda: scratches((8, 8), width=0.5), ValueError, "`width` must be a finite number in"),
        (lambda: scratches((8, 9), width=8), ValueError, r"`width` .* in \[1, 8\), got 8"),
        (lambda: boxes((1, 1)), ValueError, r"`size` must be of two pixels or more, got \(1, 1\)"),
        (lambda: mixed([]), ValueError, "`samplers` must hold one sampler of masks or more"),
        (lambda: mixed(boxes((8, 8))), TypeError, "`samplers` must be a list of samplers such as"),
        (lambda: mixed([boxes((8, 8)), 3]), TypeError, r"`samplers\[1\]` must be .* got 3"),
        (
            lambda: mixed([boxes((8, 8)), boxes((8, 9))])(2, rng()),
            ValueError,
            r"`samplers` must draw masks of one shape, got \[\(2, 1, 8, 8\), \(2, 1, 8, 9\)\]",
        ),
    ],
)
def test_a_wrong_argument_of_masks_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


# -- patch by patch --------------------------------------------------------------------------------


def membrane(patches: Tensor, masks: Tensor) -> Tensor:
    return blend(patches, torch.zeros_like(patches), masks)


@pytest.mark.parametrize("stride", [None, 15, 5])
def test_a_model_that_is_right_on_patches_is_right_on_the_whole_image(stride):
    """A plane's membrane is the plane itself, from whatever patch it is seen."""
    down, right = torch.meshgrid(torch.arange(50), torch.arange(37), indexing="ij")
    image = torch.stack([0.01 * down - 0.02 * right, 0.005 * right + 0.0 * down])
    mask = torch.zeros(50, 37, dtype=torch.bool)
    mask[10:17, 8:13] = True
    mask[30, 1:-1] = True
    damaged = image.where(~mask, torch.nan)
    found = fill_by_patches(membrane, damaged, mask, size=16, stride=stride)
    torch.testing.assert_close(found, image, atol=0.02, rtol=0)
    assert torch.equal(found.where(~mask, 0), image.where(~mask, 0))


def test_patches_are_averaged_without_a_seam():
    """Patches that answer differently each time must not be told apart by a step."""
    answers = iter(torch.linspace(-1, 1, 64))

    def fill(patches: Tensor, masks: Tensor) -> Tensor:
        return torch.stack([torch.full_like(patch, float(next(answers))) for patch in patches])

    mask = torch.ones(16, 200, dtype=torch.bool)
    mask[::2] = False
    row = fill_by_patches(fill, torch.zeros(1, 16, 200), mask, size=16, stride=4)[0, 7]
    assert row.diff().abs().max() < 0.05
    assert row[-1] > row[0] + 0.5


def test_damage_larger_than_a_patch_is_filled_from_outside_inwards():
    image = torch.full((1, 60, 60), 0.25)
    mask = torch.zeros(1, 60, 60)
    mask[:, 8:52, 8:52] = 1
    seen: list[float] = []

    def fill(patches: Tensor, masks: Tensor) -> Tensor:
        seen.append(float(masks.float().mean((1, 2, 3)).max()))
        return membrane(patches, masks)

    found = fill_by_patches(fill, image, mask, size=12)
    assert len(seen) > 1
    assert max(seen) < 1
    torch.testing.assert_close(found, image, atol=0.01, rtol=0)


def test_damage_that_ends_where_patches_do_is_filled_too():
    mask = torch.zeros(32, 64)
    mask[:, :32] = 1
    found = fill_by_patches(membrane, torch.full((3, 32, 64), 0.25), mask, size=32, stride=31)
    torch.testing.assert_close(found, torch.full((3, 32, 64), 0.25), atol=0.01, rtol=0)


def test_patches_without_damage_are_not_looked_at():
    seen: list[int] = []

    def fill(patches: Tensor, masks: Tensor) -> Tensor:
        seen.append(len(patches))
        assert masks.flatten(1).any(1).all()
        return patches

    mask = torch.zeros(64, 64)
    mask[5, 5] = 1
    fill_by_patches(fill, torch.rand(3, 64, 64), mask, size=16, stride=15)
    assert seen == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image": torch.zeros(64, 64)},
            r"`image` must have the shape \(channels, height, width\)",
        ),
        ({"size": 65}, "`image` must be at least `size`=65 pixels high and wide, got"),
        ({"size": 1}, "`size` must be an integer of at least 2, got 1"),
        ({"stride": 16}, "`stride` must be at most 15, got 16"),
        ({"mask": torch.ones(64, 64)}, "is all ones"),
        ({"mask": torch.ones(64, 63)}, r"`mask` must have the shape \(64, 64\)"),
        ({"fill": lambda patches, masks: patches[:, :1]}, "`fill` must give patches of the shape"),
    ],
)
def test_a_wrong_argument_of_patches_is_named(change, message):
    mask = torch.zeros(64, 64)
    mask[20:30, 20:30] = 1
    arguments = {"fill": membrane, "image": torch.zeros(3, 64, 64), "mask": mask, "size": 16}
    with pytest.raises(ValueError, match=message):
        fill_by_patches(**(arguments | change))


@pytest.mark.parametrize("image", [[1.0], torch.zeros(3, 64, 64).byte()])
def test_an_image_that_is_no_tensor_of_floats_is_named(image):
    with pytest.raises(TypeError, match="`image` must be a tensor of floats, got"):
        fill_by_patches(membrane, image, torch.eye(64), size=16)


# -- the network -----------------------------------------------------------------------------------


def masks_of(n: int = 4) -> Tensor:
    return boxes(SIZE)(n, rng())


def make_network(shape: tuple[int, ...] = (3, *SIZE), **options: int) -> ContextEncoder:
    torch.manual_seed(0)
    return ContextEncoder(shape, **({"width": 8} | options))


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 20, 14), (2, 4, 4), (3, 6, 30)])
@pytest.mark.parametrize("patch", [1, 2])
def test_the_network_fills_images_of_any_size(shape, patch):
    network = make_network(shape, patch=patch)
    torch.nn.init.normal_(network.last[-2].weight)
    images, masks = torch.rand(5, *shape), boxes(shape[1:])(5, rng())
    filled = network(images, masks)
    assert filled.shape == images.shape
    assert torch.equal(filled.where(masks == 0, 0), images.where(masks == 0, 0))
    assert not torch.equal(filled, images)


def test_untrained_it_gives_the_membrane():
    images, masks = torch.rand(4, 3, *SIZE), masks_of()
    torch.testing.assert_close(make_network()(images, masks), membrane(images, masks))


def test_damaged_pixels_are_not_read():
    network = make_network().eval()
    torch.nn.init.normal_(network.last[-2].weight)
    images, masks = torch.rand(4, 3, *SIZE), masks_of()
    expected = network(images, masks)
    assert torch.equal(network(images.where(masks == 0, torch.nan), masks), expected)


def test_every_weight_has_a_gradient_once_the_last_layer_is_not_zero():
    network = make_network()
    torch.nn.init.normal_(network.last[-2].weight)
    network(torch.rand(4, 3, *SIZE), masks_of()).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in network.parameters())


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"`images` must have the shape \(N, 3, 16, 16\)"):
        make_network()(torch.zeros(2, 3, 16, 18), torch.zeros(2, 1, 16, 18))
    with pytest.raises(ValueError, match="`patch` must divide the height and width"):
        ContextEncoder((3, 15, 16))


# -- the game --------------------------------------------------------------------------------------


def stripes(n: int) -> Tensor:
    """Images of vertical stripes, which a membrane can't continue."""
    phase = torch.rand(n, 1, 1, 1, generator=rng(1)) * 2 * torch.pi
    wave = torch.sin(torch.arange(16) * torch.pi / 2 + phase)
    return wave.expand(n, 3, *SIZE).clone()


def make_trainer(**options) -> ContextTrainer:
    network = make_network()
    discriminator = ConvDiscriminator((3, *SIZE), width=8, patch=2)
    return ContextTrainer(
        network,
        discriminator,
        **({"masks": boxes(SIZE, 0.4), "device": "cpu", "generator_optimizer": adam(3e-3)}
           | options),
    )  # fmt: skip


def test_the_generator_descends_its_error_and_the_adversarial_loss():
    images = stripes(8)
    trainer = make_trainer(
        adversarial_weight=0.3, generator_optimizer=lambda w: torch.optim.SGD(w, lr=0.1)
    )
    torch.manual_seed(0)
    other = make_network()
    torch.nn.init.normal_(trainer.generator.last[-2].weight)
    other.load_state_dict(trainer.generator.state_dict())
    step = trainer.generator_step(Batch(images))

    masks = boxes(SIZE, 0.4)(8, rng())  # the trainer's own noise, by its seed of 0
    filled = other(images, masks)
    adversarial = torch.nn.functional.softplus(-trainer.discriminator(filled)).mean()
    loss = (filled - images).abs().mean() + 0.3 * adversarial
    for weight, gradient in zip(
        other.parameters(), torch.autograd.grad(loss, list(other.parameters())), strict=True
    ):
        weight.data -= 0.1 * gradient
    assert torch.equal(step.fake, filled.detach())
    torch.testing.assert_close(step.loss, loss.detach())
    torch.testing.assert_close(
        dict(other.named_parameters()), dict(trainer.generator.named_parameters())
    )


def test_it_learns_what_a_membrane_can_not_know():
    trainer = make_trainer(ema=EMA(0.9))
    data, held_out = stripes(240).split(200)
    masks = boxes(SIZE, 0.4)(len(held_out), rng(5))
    before = (membrane(held_out, masks) - held_out).abs().mean()
    trainer.fit(data, steps=150, batch_size=16)
    with torch.no_grad():
        after = (trainer.ema.network.eval()(held_out, masks) - held_out).abs().mean()
    assert after < before / 3


def test_a_run_resumes_exactly(tmp_path):
    data = stripes(40)
    whole = make_trainer()
    whole.fit(data, steps=6, batch_size=8)
    first = make_trainer()
    first.fit(data, steps=3, batch_size=8)
    first.save(tmp_path / "three.pt")
    second = make_trainer()
    second.load(tmp_path / "three.pt")
    second.fit(data, steps=6, batch_size=8)
    for name, value in whole.generator.state_dict().items():
        assert torch.equal(value, second.generator.state_dict()[name]), name


def test_a_checkpoint_alone_is_enough_to_make_the_network_again(tmp_path):
    trainer = make_trainer(ema=EMA(0.5))
    trainer.fit(stripes(16), steps=2, batch_size=8)
    trainer.save(tmp_path / "run.pt")
    network = load_generator(tmp_path / "run.pt")
    assert isinstance(network, ContextEncoder)
    images, masks = stripes(3), masks_of(3)
    assert torch.equal(network(images, masks), trainer.ema.network.eval()(images, masks))


def test_a_relativistic_game_is_given_the_real_scores():
    images = stripes(8)
    trainer = make_trainer(loss=RelativisticLoss(), adversarial_weight=0.3)
    real = trainer.discriminator(images)
    step = trainer.generator_step(Batch(images))
    adversarial = torch.nn.functional.softplus(real - trainer.discriminator(step.fake)).mean()
    expected = (step.fake - images).abs().mean() + 0.3 * adversarial
    torch.testing.assert_close(step.loss, expected.detach())


def test_what_is_filled_must_have_the_shape_of_the_samples():
    trainer = make_trainer()
    trainer.generator.forward = lambda images, masks: images[:, :1]
    with pytest.raises(ValueError, match="`generator` must make fakes of the shape of the real"):
        trainer.train_step(stripes(4))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"adversarial_weight": -1.0}, ValueError, "`adversarial_weight` must be a finite number"),
        ({"masks": None}, TypeError, "`masks` must be a sampler of masks .* got None"),
        ({"masks": "x"}, TypeError, "`masks` must be a sampler of masks .* got 'x'"),
        ({"latent": boxes(SIZE)}, TypeError, "`latent` must not be given"),
    ],
)
def test_a_wrong_option_of_the_game_is_named(options, error, message):
    with pytest.raises(error, match=message):
        make_trainer(**options)


def test_it_says_why_it_can_not_sample():
    with pytest.raises(TypeError, match="without an image there is nothing to fill"):
        make_trainer().sample(2)
