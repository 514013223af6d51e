"""The trainer equals a loop written by hand in plain PyTorch, bit for bit on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vanillagan import EMA, R1, Callback, Discriminator, GANTrainer, Generator
from vanillagan.data.epoch_sampler import EpochSampler

SEED = 3
STEPS = 100
IMAGES = 100
BATCH = 16


def groups_of_batches(images: Tensor, k: int) -> Iterator[list[Tensor]]:
    """Yield k batches for each training step; a rest of fewer than k is left out."""
    sampler = EpochSampler(SEED, length=len(images), batch_size=BATCH)
    for epoch in count():
        batches = [images[indices] for indices in sampler.batches(epoch)]
        for start in range(0, len(batches) - k + 1, k):
            yield batches[start : start + k]


def logits_of(discriminator: nn.Module, real: Tensor, fake: Tensor, one_pass: bool) -> Any:
    if one_pass:
        return discriminator(torch.cat([real, fake])).chunk(2)
    return discriminator(real), discriminator(fake)


def squared_gradient(discriminator: nn.Module, real: Tensor) -> Tensor:
    points = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(points).sum(), points, create_graph=True)
    return slope.flatten(1).square().sum(1).mean()


def update_average(average: nn.Module, generator: nn.Module, *, step: int, decay: float) -> None:
    share = min(decay, (2 + step) / (11 + step))
    for mean, weights in zip(average.parameters(), generator.parameters(), strict=True):
        mean.data.lerp_(weights.data, 1 - share)
    buffers = zip(average.named_buffers(), generator.buffers(), strict=True)
    for (name, kept), buffer in buffers:
        kept.copy_(kept.lerp(buffer, 1 - share) if "running" in name else buffer)


def train_by_hand(
    generator: nn.Module,
    discriminator: nn.Module,
    images: Tensor,
    *,
    steps: int = STEPS,
    k: int = 1,
    generator_first: bool = True,
    one_pass: bool = True,
    gamma: float = 0.0,
    decay: float = 0.0,
) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(SEED)
    adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999), fused=True)
    adam_g, adam_d = adam(generator.parameters()), adam(discriminator.parameters())
    average = copy.deepcopy(generator)
    losses = []

    def fakes(n: int) -> Tensor:
        return generator(torch.randn(n, generator.latent_dim, generator=rng).to(images.dtype))

    def update_generator(fake: Tensor) -> float:
        loss = F.softplus(-discriminator(fake)).mean()
        adam_g.zero_grad()
        loss.backward()
        adam_g.step()
        return loss.item()

    def update_discriminator(real: Tensor, fake: Tensor, step: int) -> float:
        d_real, d_fake = logits_of(discriminator, real, fake.detach(), one_pass)
        loss = (F.softplus(-d_real).mean() + F.softplus(d_fake).mean()) / 2
        is_due = gamma > 0 and step % 4 == 0
        penalty = 4 * (gamma / 2 * squared_gradient(discriminator, real)) if is_due else 0
        adam_d.zero_grad()
        (loss + penalty).backward()
        adam_d.step()
        return loss.item()

    for step, reals in zip(range(steps), groups_of_batches(images, k), strict=False):
        if generator_first:
            fake = fakes(len(reals[0]))
            loss_g = update_generator(fake)
            loss_d = update_discriminator(reals[0], fake, step)
        for real in reals[1:] if generator_first else reals:
            loss_d = update_discriminator(real, fakes(len(real)), step)
        if not generator_first:
            loss_g = update_generator(fakes(len(reals[-1])))
        losses.append((loss_d, loss_g))
        update_average(average, generator, step=step, decay=decay)

    return {
        "generator": generator.state_dict(),
        "discriminator": discriminator.state_dict(),
        "generator_moments": adam_g.state_dict()["state"],
        "discriminator_moments": adam_d.state_dict()["state"],
        "losses": losses,
    } | ({"average": average.state_dict()} if decay else {})


class Losses(Callback):
    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def on_step_end(self, trainer, result):
        self.seen.append((float(result.discriminator.loss), float(result.generator.loss)))


def train_with_trainer(
    generator: nn.Module,
    discriminator: nn.Module,
    images: Tensor,
    *,
    steps: int = STEPS,
    **options: Any,
) -> dict[str, Any]:
    losses = Losses()
    trainer = GANTrainer(
        generator, discriminator, device="cpu", seed=SEED, callbacks=[losses], **options
    )
    trainer.fit(images, max_steps=steps, batch_size=BATCH)
    return {
        "generator": generator.state_dict(),
        "discriminator": discriminator.state_dict(),
        "generator_moments": trainer.g.optimizer.state_dict()["state"],
        "discriminator_moments": trainer.d.optimizer.state_dict()["state"],
        "losses": losses.seen,
    } | ({"average": trainer.ema.network.state_dict()} if trainer.ema else {})


def assert_equal_bits(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def small_networks(dtype: torch.dtype, **options: Any) -> tuple[nn.Module, nn.Module]:
    generator = Generator(8, (1, 4, 4), hidden=(16, 16))
    discriminator = Discriminator((1, 4, 4), hidden=(16,), **options)
    return generator.to(dtype), discriminator.to(dtype)


def random_images(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.rand(IMAGES, *shape, generator=torch.Generator().manual_seed(9)).to(dtype) * 2 - 1


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])


@DTYPES
@pytest.mark.parametrize(
    ("generator_first", "k", "gamma"),
    [
        pytest.param(True, 1, 0.0, id="G first"),
        pytest.param(False, 1, 0.0, id="D first"),
        pytest.param(True, 2, 0.0, id="G first, two steps of D"),
        pytest.param(False, 2, 0.0, id="D first, two steps of D"),
        pytest.param(True, 1, 0.7, id="G first, lazy R1"),
        pytest.param(False, 2, 0.7, id="D first, two steps of D, lazy R1"),
    ],
)
def test_the_trainer_equals_a_loop_by_hand(dtype, generator_first, k, gamma):
    networks = small_networks(dtype)
    images = random_images(1, 4, 4, dtype=dtype)
    by_hand = train_by_hand(
        *copy.deepcopy(networks), images, k=k, generator_first=generator_first, gamma=gamma
    )
    trained = train_with_trainer(
        *networks,
        images,
        discriminator_steps=k,
        update_order="generator_first" if generator_first else "discriminator_first",
        penalties=[R1(gamma, every=4)] if gamma else [],
    )
    assert_equal_bits(trained, by_hand)


@pytest.mark.parametrize(
    ("dtype", "steps"), [(torch.float32, STEPS), (torch.float64, 30)], ids=["fp32", "fp64"]
)
def test_default_networks_equal_a_loop_by_hand(dtype, steps):
    networks = Generator().to(dtype), Discriminator().to(dtype)
    images = random_images(1, 28, 28, dtype=dtype)
    by_hand = train_by_hand(*copy.deepcopy(networks), images, steps=steps)
    trained = train_with_trainer(*networks, images, steps=steps)
    assert_equal_bits(trained, by_hand)


@DTYPES
@pytest.mark.parametrize("generator_first", [True, False], ids=["G first", "D first"])
def test_batch_norm_in_the_discriminator_needs_two_passes(dtype, generator_first):
    generator, _ = small_networks(dtype)
    discriminator = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.LeakyReLU(0.2), nn.Linear(16, 1)
    ).append(nn.Flatten(0))
    networks = generator, discriminator.to(dtype)
    images = random_images(1, 4, 4, dtype=dtype)
    by_hand = train_by_hand(
        *copy.deepcopy(networks), images, one_pass=False, generator_first=generator_first
    )
    trained = train_with_trainer(
        *networks,
        images,
        update_order="generator_first" if generator_first else "discriminator_first",
    )
    assert_equal_bits(trained, by_hand)


@DTYPES
def test_dropout_draws_in_the_order_of_forward_passes(dtype):
    networks = small_networks(dtype, dropout=0.4)
    images = random_images(1, 4, 4, dtype=dtype)
    torch.manual_seed(11)
    by_hand = train_by_hand(*copy.deepcopy(networks), images, gamma=0.7)
    torch.manual_seed(11)
    trained = train_with_trainer(*networks, images, penalties=[R1(0.7, every=4)])
    assert_equal_bits(trained, by_hand)


@DTYPES
def test_ema_equals_an_average_by_hand(dtype):
    networks = small_networks(dtype)
    images = random_images(1, 4, 4, dtype=dtype)
    by_hand = train_by_hand(*copy.deepcopy(networks), images, decay=0.9)
    trained = train_with_trainer(*networks, images, ema=EMA(0.9))
    assert_equal_bits(trained, by_hand)


def test_float64_equals_the_reference_style_of_loop():
    # without BatchNorm, in front of which a bias has no gradient but rounding, which Adam blows up
    generator = Generator(8, (1, 4, 4), hidden=(16,)).double()
    discriminator = Discriminator((1, 4, 4), hidden=(16,)).double()
    images = random_images(1, 4, 4, dtype=torch.float64)
    trained = train_with_trainer(copy.deepcopy(generator), copy.deepcopy(discriminator), images)

    rng = torch.Generator().manual_seed(SEED)
    adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999), foreach=False, fused=False)
    adam_g, adam_d = adam(generator.parameters()), adam(discriminator.parameters())
    losses = []
    for _, (real,) in zip(range(STEPS), groups_of_batches(images, 1), strict=False):
        ones, zeros = torch.ones(len(real)).double(), torch.zeros(len(real)).double()
        fake = generator(torch.randn(len(real), 8, generator=rng).double())
        loss_g = F.binary_cross_entropy(discriminator(fake).sigmoid(), ones)
        adam_g.zero_grad()
        loss_g.backward()
        adam_g.step()
        real_loss = F.binary_cross_entropy(discriminator(real).sigmoid(), ones)
        fake_loss = F.binary_cross_entropy(discriminator(fake.detach()).sigmoid(), zeros)
        loss_d = (real_loss + fake_loss) / 2
        adam_d.zero_grad()
        loss_d.backward()
        adam_d.step()
        losses.append((loss_d.item(), loss_g.item()))

    assert_close = partial(torch.testing.assert_close, rtol=0, atol=1e-12)
    assert_close(trained["generator"], generator.state_dict())
    assert_close(trained["discriminator"], discriminator.state_dict())
    assert_close(trained["losses"], losses)
