"""DiffAugment: the augmentations, the wrapped discriminator, and training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vanillagan import R1, BCEAdversarialLoss, ConvDiscriminator, ConvGenerator, GANTrainer
from vanillagan.errors import CheckpointError
from vanillagan.networks import DiffAugment
from vanillagan.traits import has_independent_samples, outputs_probabilities

SHAPE = (3, 8, 12)
AUGMENTATIONS = ("flip", "color", "translation", "cutout")
each_augmentation = pytest.mark.parametrize("name", AUGMENTATIONS)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(400, *SHAPE) * 2 - 1


def augmented(images: Tensor, *policy: str) -> Tensor:
    return DiffAugment(nn.Identity(), policy).augment(images)


def discriminator(**options) -> ConvDiscriminator:
    torch.manual_seed(0)
    return ConvDiscriminator(SHAPE, base_channels=4, **options)


# -- augmentations ---------------------------------------------------------------------------------


def test_flip_mirrors_half_the_images(images):
    changed = augmented(images, "flip")
    mirrored = (changed == torch.from_numpy(images.numpy()[..., ::-1].copy())).flatten(1).all(1)
    kept = (changed == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250


def test_translation_shifts_by_up_to_an_eighth(images):
    changed = augmented(images, "translation").numpy()
    seen = set()
    for before, after in zip(images.numpy(), changed, strict=True):
        padded = np.pad(before, ((0, 0), (1, 1), (2, 2)))
        shifts = [
            (1 - down, 2 - right)
            for down in range(3)
            for right in range(5)
            if np.array_equal(after, padded[:, down : down + 8, right : right + 12])
        ]
        assert len(shifts) == 1
        seen.update(shifts)
    assert seen == {(down, right) for down in (-1, 0, 1) for right in (-2, -1, 0, 1, 2)}


def test_cutout_zeroes_a_rectangle_of_half_the_sides(images):
    changed = augmented(images, "cutout")
    cut = (changed == 0).all(1)
    assert torch.equal(changed, torch.where(cut[:, None], 0, images))
    areas = set()
    for hole in cut:
        rows, columns = hole.any(1).sum().item(), hole.any(0).sum().item()
        assert hole.sum() == rows * columns  # it is a rectangle
        assert rows <= 4
        assert columns <= 6
        areas.add((rows, columns))
    assert (4, 6) in areas
    assert (2, 3) in areas
    assert cut.any(0).float().mean() > 0.9  # anywhere


def test_color_of_gray_images_is_affine(images):
    gray = images[:, :1].expand(-1, 3, -1, -1)
    changed = augmented(gray, "color")
    torch.testing.assert_close(changed[:, 1], changed[:, 0])
    x, y = gray[:, 0].flatten(1).double(), changed[:, 0].flatten(1).double()
    contrast = y.std(1) / x.std(1)
    shift = y.mean(1) - x.mean(1)
    torch.testing.assert_close(
        y, (x - x.mean(1, True)) * contrast[:, None] + y.mean(1, True), atol=1e-5, rtol=0
    )
    for values, low, high in ((contrast, 0.5, 1.5), (shift, -0.5, 0.5)):
        assert low - 1e-5 <= values.min() < low + 0.05
        assert high - 0.05 < values.max() <= high + 1e-5


def test_color_scales_saturation_and_contrast(images):
    changed = augmented(images, "color")
    before, after = (x - x.mean(1, keepdim=True) for x in (images, changed))
    scale = after.flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
    torch.testing.assert_close(after, before * scale.view(-1, 1, 1, 1), atol=1e-5, rtol=1e-4)
    assert scale.min() < 0.1
    assert 2 < scale.max() <= 3


@each_augmentation
def test_images_are_augmented_independently_by_seed(name):
    images = torch.rand(1, *SHAPE).expand(50, -1, -1, -1)
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(augmented(images, name))
    assert torch.equal(*results)
    assert len(results[0].unique(dim=0)) > 1


@each_augmentation
def test_single_pixels_and_float64_are_augmented(name):
    images = augmented(torch.rand(5, 1, 1, 1, dtype=torch.float64), name)
    assert (images.shape, images.dtype) == ((5, 1, 1, 1), torch.float64)


@pytest.mark.parametrize("policy", [*((name,) for name in AUGMENTATIONS), AUGMENTATIONS])
def test_augmentations_are_twice_differentiable(policy):
    images = torch.rand(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)

    def outputs(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return augmented(x, *policy).pow(3).sum((1, 2, 3))

    assert torch.autograd.gradcheck(outputs, images)
    assert torch.autograd.gradgradcheck(outputs, images)


# -- the wrapped discriminator ---------------------------------------------------------------------


def test_eval_mode_does_not_augment(images):
    plain = discriminator()
    wrapped = DiffAugment(plain).eval()
    assert torch.equal(wrapped(images), plain(images))
    assert not torch.equal(wrapped.train()(images), plain(images))


def test_labels_reach_the_discriminator(images):
    wrapped = DiffAugment(discriminator(num_classes=5)).eval()
    labels = torch.arange(400) % 5
    assert torch.equal(wrapped(images, labels), wrapped.discriminator(images, labels))


def test_probabilities_equal_the_discriminator_s(images):
    labels = torch.arange(400) % 5
    wrapped = DiffAugment(discriminator(num_classes=5)).eval()
    expected = wrapped.discriminator.probability(images, labels)
    torch.testing.assert_close(wrapped.probability(images, labels), expected)
    own = nn.Sequential(nn.Flatten(), nn.Linear(288, 1), nn.Flatten(0), nn.Sigmoid())
    assert torch.equal(DiffAugment(own).eval().probability(images), own(images))


def test_traits_of_the_discriminator_are_passed_on():
    wrapped = DiffAugment(discriminator(num_classes=5))
    assert (wrapped.sample_shape, wrapped.num_classes) == (SHAPE, 5)
    assert not outputs_probabilities(wrapped)
    assert has_independent_samples(wrapped)


def test_undeclared_traits_stay_undeclared():
    own = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(288), nn.Linear(288, 1), nn.Sigmoid())
    wrapped = DiffAugment(own)
    assert not hasattr(wrapped, "sample_shape")
    assert outputs_probabilities(wrapped)
    assert not has_independent_samples(wrapped)
    generator = ConvGenerator(4, SHAPE, base_channels=4)
    with pytest.raises(ValueError, match="ends in a Sigmoid"):
        GANTrainer(generator, wrapped, device="cpu")
    GANTrainer(generator, wrapped, loss=BCEAdversarialLoss(from_logits=False), device="cpu")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((nn.Identity,), TypeError, "`discriminator` must be a torch.nn.Module"),
        ((nn.Identity(), ()), ValueError, r"`policy` must have at least one entry, got \(\)"),
        (
            (nn.Identity(), "flip"),
            TypeError,
            "`policy` must be a sequence of augmentations, got 'flip'",
        ),
        ((nn.Identity(), 5), TypeError, "`policy` must be a sequence of augmentations, got 5"),
        ((nn.Identity(), ["flip", "blur"]), ValueError, r"`policy\[1\]` must be one of 'flip', "),
    ],
)
def test_an_invalid_argument_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        DiffAugment(*arguments)


@pytest.mark.parametrize("samples", [torch.zeros(5, 2), [1.0]])
def test_samples_must_be_images(samples):
    with pytest.raises(ValueError, match=r"`samples` must have the shape \(N, channels, height, "):
        DiffAugment(nn.Linear(2, 1))(samples)


# -- training --------------------------------------------------------------------------------------


def augmented_trainer(*policy: str, **options) -> GANTrainer:
    torch.manual_seed(0)
    return GANTrainer(
        ConvGenerator(4, SHAPE, base_channels=4),
        DiffAugment(discriminator(), policy or AUGMENTATIONS),
        penalties=[R1(0.5, every=2)],
        device="cpu",
        **options,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_players_train_through_it(images, precision):
    trainer = augmented_trainer(precision=precision)
    players = (trainer.g, trainer.d)
    before = [[weight.clone() for weight in player.parameters] for player in players]
    result = trainer.train_step(images[:16])
    assert result.discriminator.penalty.isfinite()
    assert result.discriminator.penalty > 0
    for weights, player in zip(before, players, strict=True):
        pairs = zip(weights, player.parameters, strict=True)
        assert all(not torch.equal(*pair) for pair in pairs), player.name


def test_real_images_and_fakes_are_augmented(images):
    inputs = []

    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, samples: Tensor) -> Tensor:
            if self.training:
                inputs.append(samples.detach())
            return self.weight * samples.mean((1, 2, 3))

    trainer = GANTrainer(
        ConvGenerator(4, SHAPE, base_channels=4), DiffAugment(Recorder(), ["cutout"])
    )
    trainer.train_step(images[:16])
    assert len(inputs) == 3  # fakes for the generator; real images and fakes for the discriminator
    for batch in inputs:
        holes = (batch == 0).all(1).flatten(1).sum(1)
        assert (holes > 0).all()


def test_a_run_resumes_exactly(images, tmp_path):
    whole = augmented_trainer()
    whole.fit(images[:64], max_steps=6, batch_size=16)
    first, second = augmented_trainer(), augmented_trainer()
    first.fit(images[:64], max_steps=3, batch_size=16)
    first.save(tmp_path / "run.pt")
    torch.manual_seed(99)
    second.load(tmp_path / "run.pt")
    second.fit(images[:64], max_steps=6, batch_size=16)
    for mine, theirs in (
        (whole.generator, second.generator),
        (whole.discriminator, second.discriminator),
    ):
        for name, value in mine.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name


def test_a_checkpoint_of_another_policy_is_refused(images, tmp_path):
    augmented_trainer("flip").save(tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match="discriminator has another architecture"):
        augmented_trainer("color").load(tmp_path / "run.pt")


def test_a_subclass_may_mix_samples():
    class Mixed(DiffAugment):
        def augment(self, images: Tensor) -> Tensor:
            return (images + images.flip(0)) / 2

    discriminator = ConvDiscriminator((1, 8, 8), base_channels=4)
    assert has_independent_samples(DiffAugment(discriminator))
    assert not has_independent_samples(Mixed(discriminator))
