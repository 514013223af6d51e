"""Contract of penalties."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import pytest
import torch
from torch import Tensor

from vanillagan import R1, R2, ConvDiscriminator, Discriminator, GradientPenalty
from vanillagan.penalties import Critic, Penalty

PENALTIES = {"r1": R1, "r2": R2, "gradient-penalty": GradientPenalty}
every_penalty = pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
every_network = pytest.mark.parametrize(
    "network",
    [partial(Discriminator, hidden=(8, 8)), partial(ConvDiscriminator, base_channels=4)],
    ids=["mlp", "conv"],
)


def linear_critic() -> Critic:
    weight = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    return lambda samples: samples @ weight


@pytest.fixture
def real() -> Tensor:
    return torch.randn(16, 3, dtype=torch.float64)


@pytest.fixture
def fake() -> Tensor:
    return torch.randn(16, 3, dtype=torch.float64) + 2


@every_penalty
def test_a_penalty_implements_the_protocol(penalty):
    assert isinstance(penalty(1.0), Penalty)
    assert penalty(1.0).every == 1
    assert penalty(1.0, every=4).every == 4


@every_penalty
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@every_network
def test_a_penalty_is_a_scalar_of_the_samples_dtype(penalty, network, dtype):
    critic = network((1, 5, 6)).to(dtype)
    value = penalty(1.0)(
        critic, torch.randn(4, 1, 5, 6, dtype=dtype), torch.zeros(4, 1, 5, 6, dtype=dtype)
    )
    assert value.shape == ()
    assert value.dtype == dtype
    assert value > 0


@every_penalty
@every_network
def test_the_gradient_reaches_every_weight_matrix(penalty, network):
    critic = network((1, 8, 8))
    penalty(1.0)(critic, torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)).backward()
    for name, weight in critic.named_parameters():
        if weight.dim() > 1:
            assert weight.grad.abs().sum() > 0, name


@every_penalty
def test_the_gradient_equals_finite_differences(penalty, real, fake):
    first, second = torch.randn(3, 4).double(), torch.randn(4).double()

    def value(first: Tensor, second: Tensor) -> Tensor:
        torch.manual_seed(0)
        return penalty(1.5)(lambda samples: (samples @ first).tanh() @ second, real, fake)

    assert torch.autograd.gradcheck(value, (first.requires_grad_(), second.requires_grad_()))


@every_penalty
def test_a_penalty_is_proportional_to_its_strength(penalty, real, fake):
    values = []
    for strength in (0.0, 1.0, 2.5):
        torch.manual_seed(0)
        values.append(penalty(strength)(lambda x: x.square().sum(1) / 2, real, fake).item())
    assert values == [0, values[1], pytest.approx(2.5 * values[1])]


@every_penalty
def test_a_penalty_is_not_scaled_by_every(penalty, real, fake):
    critic = linear_critic()
    torch.testing.assert_close(
        penalty(1.0, every=16)(critic, real, fake), penalty(1.0)(critic, real, fake)
    )


@every_penalty
def test_a_penalty_is_a_mean_over_the_batch(penalty, real, fake):
    critic = linear_critic()
    torch.testing.assert_close(
        penalty(1.0)(critic, real.repeat(3, 1), fake.repeat(3, 1)), penalty(1.0)(critic, real, fake)
    )


@every_penalty
def test_samples_stay_unchanged_without_gradient(penalty, real, fake):
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    real.requires_grad_()
    fake.requires_grad_()
    before = real.detach().clone(), fake.detach().clone()
    penalty(1.0)(lambda samples: samples.square() @ weight, real, fake).backward()
    assert real.grad is None
    assert fake.grad is None
    assert torch.equal(real, before[0])
    assert torch.equal(fake, before[1])


@every_penalty
def test_logits_may_be_a_column(penalty, real, fake):
    row = linear_critic()
    torch.testing.assert_close(
        penalty(1.0)(lambda samples: row(samples)[:, None], real, fake),
        penalty(1.0)(row, real, fake),
    )


@every_penalty
@pytest.mark.parametrize(
    ("strength", "every", "error", "message"),
    [
        (-1.0, 1, ValueError, r"`(gamma|weight)` must be .*, got -1.0"),
        (math.inf, 1, ValueError, r"`(gamma|weight)` must be a finite number .*, got inf"),
        ("1", 1, TypeError, r"`(gamma|weight)` must be .*, got '1'"),
        (1.0, 0, ValueError, "`every` must be a positive integer, got 0"),
        (1.0, 1.5, TypeError, "`every` must be a positive integer, got 1.5"),
    ],
)
def test_an_invalid_argument_is_named(penalty, strength, every, error, message):
    with pytest.raises(error, match=message):
        penalty(strength, every)


@every_penalty
def test_a_penalty_is_immutable(penalty):
    with pytest.raises(dataclasses.FrozenInstanceError):
        penalty(1.0).every = 2


@every_penalty
def test_the_critic_is_called_once(penalty):
    calls = []

    def critic(samples: Tensor) -> Tensor:
        calls.append(len(samples))
        return samples.sum(1)

    penalty(1.0)(critic, torch.zeros(2, 3), torch.ones(2, 3))
    assert calls == [2]
