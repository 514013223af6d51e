"""Penalties against closed forms for linear and quadratic critics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vanillagan import R1, R2, GANTrainer, Generator, GradientPenalty
from vanillagan.penalties import Critic


def linear_critic(weight: Tensor) -> Critic:
    return lambda samples: samples.flatten(1) @ weight


def quadratic_critic(matrix: Tensor) -> Critic:
    """Return x^T A x / 2 for a symmetric A, whose gradient is A x."""
    return lambda samples: ((samples @ matrix) * samples).sum(1) / 2


@pytest.fixture
def real() -> Tensor:
    return torch.randn(16, 3, dtype=torch.float64)


@pytest.fixture
def fake() -> Tensor:
    return torch.randn(16, 3, dtype=torch.float64) + 2


@pytest.mark.parametrize("penalty", [R1, R2])
def test_r1_and_r2_of_a_flat_critic_are_0(penalty, real, fake):
    assert penalty(3.0)(linear_critic(torch.zeros(3).double()), real, fake) == 0


def test_gradient_penalty_of_a_flat_critic_is_finite(real, fake):
    flat = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    value = GradientPenalty(3.0)(linear_critic(flat), real, fake)
    value.backward()
    assert value.item() == pytest.approx(3.0, abs=1e-4)
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("penalty", [R1, R2])
def test_r1_and_r2_of_a_linear_critic(penalty, real, fake):
    weight = torch.tensor([1.0, 2.0, -2.0], dtype=torch.float64, requires_grad=True)
    value = penalty(0.5)(linear_critic(weight), real, fake)
    value.backward()
    assert value.item() == pytest.approx(0.25 * 9)
    torch.testing.assert_close(weight.grad, 0.5 * weight.detach())


def test_gradient_penalty_of_a_linear_critic(real, fake):
    weight = torch.tensor([1.0, 2.0, -2.0], dtype=torch.float64, requires_grad=True)
    value = GradientPenalty()(linear_critic(weight), real, fake)
    value.backward()
    assert value.item() == pytest.approx(10 * (3 - 1) ** 2)
    torch.testing.assert_close(weight.grad, 2 * 10 * (3 - 1) * weight.detach() / 3)


def test_gradient_penalty_is_0_at_slope_1(real, fake):
    unit = torch.tensor([2.0, 1.0, -2.0], dtype=torch.float64) / 3
    assert GradientPenalty()(linear_critic(unit), real, fake).item() == pytest.approx(0, abs=1e-10)


def test_r1_applies_to_real_samples_and_r2_to_fakes():
    matrix = torch.tensor([[2.0, 1.0], [1.0, 0.0]])
    real, fake = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [3.0, -1.0]])
    # A x is (2, 1) and (2, 0) for the real samples, (3, 1) and (5, 3) for the fakes
    assert R1(1.0)(quadratic_critic(matrix), real, fake).item() == pytest.approx((5 + 4) / 2 / 2)
    assert R2(1.0)(quadratic_critic(matrix), real, fake).item() == pytest.approx((10 + 34) / 2 / 2)


def test_gradient_penalty_of_a_quadratic_critic():
    matrix = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    both = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    expected = ((3 - 1) ** 2 + (0.5 - 1) ** 2) / 2
    value = GradientPenalty(1.0)(quadratic_critic(matrix), both, both)
    assert value.item() == pytest.approx(expected)


def test_the_norm_is_taken_over_a_whole_image():
    images = torch.randn(5, 2, 3, 4)
    critic = linear_critic(torch.full((24,), 0.5))
    assert R1(2.0)(critic, images, images).item() == pytest.approx(24 * 0.25)


def test_gradient_penalty_draws_a_point_per_sample():
    inputs = []

    def critic(samples: Tensor) -> Tensor:
        inputs.append(samples.detach())
        return samples.flatten(1).sum(1)

    GradientPenalty()(critic, torch.zeros(50, 2, 3, 3), torch.ones(50, 2, 3, 3))
    positions = inputs[0].flatten(1)
    assert torch.equal(positions, positions[:, :1].expand(-1, 18))
    assert positions.min() >= 0
    assert positions.max() <= 1
    assert positions[:, 0].std().item() == pytest.approx(12**-0.5, abs=0.05)


def test_gradient_penalty_is_repeatable_by_seed(real, fake):
    critic = quadratic_critic(torch.eye(3).double())
    values = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        values.append(GradientPenalty()(critic, real, fake).item())
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("penalty", [R1, R2])
def test_a_missing_strength_is_named(penalty):
    with pytest.raises(TypeError, match=rf"{penalty.__name__}\.__init__.* 'gamma'"):
        penalty()


@pytest.mark.parametrize("penalty", [R1(1.0), R2(1.0), GradientPenalty()])
def test_a_discriminator_may_use_attention(points, penalty):
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Linear(2, 32)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 1)

        def forward(self, samples):
            tokens = self.tokens(samples).unflatten(1, (4, 8))
            return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))

    trainer = GANTrainer(Generator(4, (2,)), Attending(), penalties=[penalty], device="cpu")
    before = trainer.discriminator.attention.in_proj_weight.detach().clone()
    trainer.fit(points, max_steps=1)
    assert not torch.equal(trainer.discriminator.attention.in_proj_weight, before)
