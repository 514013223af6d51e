"""The penalties: what all of them share, then closed forms for linear and quadratic critics."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from vanillagan import R1, R2, ConvDiscriminator, Discriminator, GradientPenalty
from vanillagan.penalties import Penalty

PENALTIES = {"r1": R1, "r2": R2, "gradient-penalty": GradientPenalty}
every_penalty = pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
every_network = pytest.mark.parametrize(
    "network",
    [partial(Discriminator, hidden=(8, 8)), partial(ConvDiscriminator, width=4)],
    ids=["perceptron", "convolutional"],
)


def linear_critic(weight: Tensor):
    return lambda samples: samples.flatten(1) @ weight


def quadratic_critic(matrix: Tensor):
    """x^T A x / 2 for a symmetric A, whose gradient is A x."""
    return lambda samples: ((samples @ matrix) * samples).sum(1) / 2


@pytest.fixture
def real() -> Tensor:
    return torch.randn(16, 3, dtype=torch.float64)


@pytest.fixture
def fake() -> Tensor:
    return torch.randn(16, 3, dtype=torch.float64) + 2


# -- the contract ----------------------------------------------------------------------------------


@every_penalty
def test_a_penalty_keeps_the_protocol(penalty):
    assert isinstance(penalty(1.0), Penalty)
    assert penalty(1.0).every == 1
    assert penalty(1.0, every=4).every == 4


@every_penalty
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@every_network
def test_a_penalty_is_a_non_negative_scalar_in_the_precision_of_the_samples(
    penalty, network, dtype
):
    critic = network((1, 5, 6)).to(dtype)
    value = penalty(1.0)(
        critic, torch.randn(4, 1, 5, 6, dtype=dtype), torch.zeros(4, 1, 5, 6, dtype=dtype)
    )
    assert value.shape == ()
    assert value.dtype == dtype
    assert value > 0


@every_penalty
@every_network
def test_the_gradient_reaches_every_weight_matrix_of_the_critic(penalty, network):
    critic = network((1, 8, 8))
    penalty(1.0)(critic, torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)).backward()
    for name, weight in critic.named_parameters():
        if weight.dim() > 1:
            assert weight.grad.abs().sum() > 0, name


@every_penalty
def test_the_gradient_in_the_weights_is_that_of_finite_differences(penalty, real, fake):
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
        values.append(penalty(strength)(quadratic_critic(torch.eye(3).double()), real, fake).item())
    assert values == [0, values[1], pytest.approx(2.5 * values[1])]


@every_penalty
def test_every_is_not_applied_by_the_penalty_itself(penalty, real, fake):
    critic = linear_critic(torch.tensor([1.0, 2.0, 3.0]).double())
    torch.testing.assert_close(
        penalty(1.0, every=16)(critic, real, fake), penalty(1.0)(critic, real, fake)
    )


@every_penalty
def test_a_penalty_does_not_depend_on_the_batch_size(penalty, real, fake):
    critic = linear_critic(torch.tensor([1.0, 2.0, 3.0]).double())
    torch.testing.assert_close(
        penalty(1.0)(critic, real.repeat(3, 1), fake.repeat(3, 1)), penalty(1.0)(critic, real, fake)
    )


@every_penalty
def test_samples_are_read_and_nothing_flows_back_to_them(penalty, real, fake):
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
def test_a_score_may_be_a_column(penalty, real, fake):
    row = linear_critic(torch.tensor([1.0, 2.0, 3.0]).double())
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
def test_a_wrong_argument_is_named(penalty, strength, every, error, message):
    with pytest.raises(error, match=message):
        penalty(strength, every)


@every_penalty
def test_a_penalty_has_no_state_to_change(penalty):
    with pytest.raises(dataclasses.FrozenInstanceError):
        penalty(1.0).every = 2


# -- closed forms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [R1, R2])
def test_of_a_flat_critic_r1_and_r2_ask_nothing(penalty, real, fake):
    assert penalty(3.0)(linear_critic(torch.zeros(3).double()), real, fake) == 0


def test_of_a_flat_critic_the_gradient_penalty_asks_for_slope_without_nan(real, fake):
    flat = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    value = GradientPenalty(3.0)(linear_critic(flat), real, fake)
    value.backward()
    assert value.item() == pytest.approx(3.0, abs=1e-4)
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("penalty", [R1, R2])
def test_of_a_linear_critic_r1_and_r2_are_half_gamma_its_squared_slope(penalty, real, fake):
    weight = torch.tensor([1.0, 2.0, -2.0], dtype=torch.float64, requires_grad=True)
    value = penalty(0.5)(linear_critic(weight), real, fake)
    value.backward()
    assert value.item() == pytest.approx(0.25 * 9)
    torch.testing.assert_close(weight.grad, 0.5 * weight.detach())


def test_of_a_linear_critic_the_gradient_penalty_is_its_slopes_distance_from_1(real, fake):
    weight = torch.tensor([1.0, 2.0, -2.0], dtype=torch.float64, requires_grad=True)
    value = GradientPenalty()(linear_critic(weight), real, fake)
    value.backward()
    assert value.item() == pytest.approx(10 * (3 - 1) ** 2)
    torch.testing.assert_close(weight.grad, 2 * 10 * (3 - 1) * weight.detach() / 3)


def test_of_a_critic_of_slope_1_the_gradient_penalty_asks_nothing(real, fake):
    unit = torch.tensor([2.0, 1.0, -2.0], dtype=torch.float64) / 3
    assert GradientPenalty()(linear_critic(unit), real, fake).item() == pytest.approx(0, abs=1e-10)


def test_of_a_quadratic_critic_r1_reads_the_real_samples_and_r2_the_fakes():
    matrix = torch.tensor([[2.0, 1.0], [1.0, 0.0]])
    real, fake = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [3.0, -1.0]])
    # A x is (2, 1) and (2, 0) for the real samples, (3, 1) and (5, 3) for the fakes
    assert R1(1.0)(quadratic_critic(matrix), real, fake).item() == pytest.approx((5 + 4) / 2 / 2)
    assert R2(1.0)(quadratic_critic(matrix), real, fake).item() == pytest.approx((10 + 34) / 2 / 2)


def test_of_a_quadratic_critic_the_gradient_penalty_has_its_closed_form_where_real_is_fake():
    matrix = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    both = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    expected = ((3 - 1) ** 2 + (0.5 - 1) ** 2) / 2
    value = GradientPenalty(1.0)(quadratic_critic(matrix), both, both)
    assert value.item() == pytest.approx(expected)


def test_the_norm_is_that_of_a_whole_image():
    images = torch.randn(5, 2, 3, 4)
    critic = linear_critic(torch.full((24,), 0.5))
    assert R1(2.0)(critic, images, images).item() == pytest.approx(24 * 0.25)


def test_the_gradient_penalty_looks_at_one_place_of_the_line_for_each_sample():
    seen = []

    def critic(samples: Tensor) -> Tensor:
        seen.append(samples.detach())
        return samples.flatten(1).sum(1)

    GradientPenalty()(critic, torch.zeros(50, 2, 3, 3), torch.ones(50, 2, 3, 3))
    places = seen[0].flatten(1)
    assert torch.equal(places, places[:, :1].expand(-1, 18))
    assert places.min() >= 0
    assert places.max() <= 1
    assert places[:, 0].std().item() == pytest.approx(12**-0.5, abs=0.05)


def test_the_gradient_penalty_is_repeatable_by_pytorchs_seed(real, fake):
    critic = quadratic_critic(torch.eye(3).double())
    values = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        values.append(GradientPenalty()(critic, real, fake).item())
    assert values[0] == values[1] != values[2]


def test_a_critic_is_called_once():
    calls = []
    critic = nn.Sequential(nn.Linear(3, 1))
    critic.register_forward_hook(lambda *_: calls.append(1))
    for penalty in PENALTIES.values():
        penalty(1.0)(critic, torch.zeros(2, 3), torch.ones(2, 3))
    assert len(calls) == len(PENALTIES)
