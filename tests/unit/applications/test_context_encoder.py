"""The context encoder and its trainer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vanillagan import EMA, Batch, ConvDiscriminator, RelativisticLoss, load_generator
from vanillagan.applications.blending import blend
from vanillagan.applications.context_encoder import ContextEncoder, ContextTrainer
from vanillagan.applications.masks import boxes
from vanillagan.player import adam

SIZE = (16, 16)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def membrane(images: Tensor, masks: Tensor) -> Tensor:
    return blend(images, torch.zeros_like(images), masks)


# -- network


def masks_of(n: int = 4) -> Tensor:
    return boxes(SIZE)(n, rng())


def make_network(shape: tuple[int, ...] = (3, *SIZE), **options: int) -> ContextEncoder:
    torch.manual_seed(0)
    return ContextEncoder(shape, **({"base_channels": 8} | options))


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 20, 14), (2, 4, 4), (3, 6, 30)])
@pytest.mark.parametrize("patch_size", [1, 2])
def test_network_fills_images_of_any_size(shape, patch_size):
    network = make_network(shape, patch_size=patch_size)
    torch.nn.init.normal_(network.last[-2].weight)
    images, masks = torch.rand(5, *shape), boxes(shape[1:])(5, rng())
    filled = network(images, masks)
    assert filled.shape == images.shape
    assert torch.equal(filled.where(masks == 0, 0), images.where(masks == 0, 0))
    assert not torch.equal(filled, images)


def test_untrained_network_returns_the_membrane():
    images, masks = torch.rand(4, 3, *SIZE), masks_of()
    torch.testing.assert_close(make_network()(images, masks), membrane(images, masks))


def test_damaged_pixels_are_not_read():
    network = make_network().eval()
    torch.nn.init.normal_(network.last[-2].weight)
    images, masks = torch.rand(4, 3, *SIZE), masks_of()
    expected = network(images, masks)
    assert torch.equal(network(images.where(masks == 0, torch.nan), masks), expected)


def test_every_weight_gets_a_gradient():
    network = make_network()
    torch.nn.init.normal_(network.last[-2].weight)
    network(torch.rand(4, 3, *SIZE), masks_of()).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in network.parameters())


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"`images` must have the shape \(N, 3, 16, 16\)"):
        make_network()(torch.zeros(2, 3, 16, 18), torch.zeros(2, 1, 16, 18))
    with pytest.raises(ValueError, match="`patch_size` must divide the height and width"):
        ContextEncoder((3, 15, 16))


# -- trainer


def stripes(n: int) -> Tensor:
    """Return images of vertical stripes, which a membrane cannot continue."""
    phase = torch.rand(n, 1, 1, 1, generator=rng(1)) * 2 * torch.pi
    wave = torch.sin(torch.arange(16) * torch.pi / 2 + phase)
    return wave.expand(n, 3, *SIZE).clone()


def make_context_trainer(**options) -> ContextTrainer:
    network = make_network()
    discriminator = ConvDiscriminator((3, *SIZE), base_channels=8, patch_size=2)
    return ContextTrainer(
        network,
        discriminator,
        **({"masks": boxes(SIZE, 0.4), "device": "cpu", "generator_optimizer": adam(3e-3)}
           | options),
    )  # fmt: skip


def test_generator_step_takes_both_losses():
    images = stripes(8)
    trainer = make_context_trainer(
        adversarial_weight=0.3, generator_optimizer=lambda w: torch.optim.SGD(w, lr=0.1)
    )
    torch.manual_seed(0)
    expected = make_network()
    torch.nn.init.normal_(trainer.generator.last[-2].weight)
    expected.load_state_dict(trainer.generator.state_dict())
    step = trainer.generator_step(Batch(images))

    masks = boxes(SIZE, 0.4)(8, rng())  # those of the trainer, by its seed of 0
    filled = expected(images, masks)
    adversarial = torch.nn.functional.softplus(-trainer.discriminator(filled)).mean()
    loss = (filled - images).abs().mean() + 0.3 * adversarial
    for weight, gradient in zip(
        expected.parameters(), torch.autograd.grad(loss, list(expected.parameters())), strict=True
    ):
        weight.data -= 0.1 * gradient
    assert torch.equal(step.fake, filled.detach())
    torch.testing.assert_close(step.loss, loss.detach())
    torch.testing.assert_close(
        dict(expected.named_parameters()), dict(trainer.generator.named_parameters())
    )


def test_training_beats_the_membrane():
    trainer = make_context_trainer(ema=EMA(0.9))
    data, held_out = stripes(240).split(200)
    masks = boxes(SIZE, 0.4)(len(held_out), rng(5))
    before = (membrane(held_out, masks) - held_out).abs().mean()
    trainer.fit(data, max_steps=150, batch_size=16)
    with torch.no_grad():
        after = (trainer.ema.network.eval()(held_out, masks) - held_out).abs().mean()
    assert after < before / 3


def test_runs_resume_exactly(tmp_path):
    data = stripes(40)
    whole = make_context_trainer()
    whole.fit(data, max_steps=6, batch_size=8)
    first = make_context_trainer()
    first.fit(data, max_steps=3, batch_size=8)
    first.save(tmp_path / "three.pt")
    second = make_context_trainer()
    second.load(tmp_path / "three.pt")
    second.fit(data, max_steps=6, batch_size=8)
    for name, value in whole.generator.state_dict().items():
        assert torch.equal(value, second.generator.state_dict()[name]), name


def test_network_is_loaded_from_a_checkpoint(tmp_path):
    trainer = make_context_trainer(ema=EMA(0.5))
    trainer.fit(stripes(16), max_steps=2, batch_size=8)
    trainer.save(tmp_path / "run.pt")
    network = load_generator(tmp_path / "run.pt")
    assert isinstance(network, ContextEncoder)
    images, masks = stripes(3), masks_of(3)
    assert torch.equal(network(images, masks), trainer.ema.network.eval()(images, masks))


def test_relativistic_loss_gets_real_logits():
    images = stripes(8)
    trainer = make_context_trainer(loss=RelativisticLoss(), adversarial_weight=0.3)
    real = trainer.discriminator(images)
    step = trainer.generator_step(Batch(images))
    adversarial = torch.nn.functional.softplus(real - trainer.discriminator(step.fake)).mean()
    expected = (step.fake - images).abs().mean() + 0.3 * adversarial
    torch.testing.assert_close(step.loss, expected.detach())


def test_fakes_must_have_the_shape_of_samples():
    trainer = make_context_trainer()
    trainer.generator.forward = lambda images, masks: images[:, :1]
    with pytest.raises(ValueError, match="`generator` must make fakes of the shape of the real"):
        trainer.train_step(stripes(4))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"adversarial_weight": -1.0}, ValueError, "`adversarial_weight` must be a finite number"),
        ({"masks": None}, TypeError, "`masks` must be a mask sampler .* got None"),
        ({"masks": "x"}, TypeError, "`masks` must be a mask sampler .* got 'x'"),
        ({"latent_sampler": boxes(SIZE)}, TypeError, "`latent_sampler` must not be"),
    ],
)
def test_invalid_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        make_context_trainer(**options)


def test_sample_is_refused():
    with pytest.raises(TypeError, match="cannot `sample` without images to fill"):
        make_context_trainer().sample(2)
