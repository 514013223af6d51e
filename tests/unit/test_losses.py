"""Values and arguments of the adversarial losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vanillagan import (
    BCEAdversarialLoss,
    HingeLoss,
    LeastSquaresLoss,
    RelativisticLoss,
    WassersteinLoss,
)
from vanillagan.losses import AdversarialLoss

PROBABILITIES = BCEAdversarialLoss(from_logits=False)
MINIMAX = BCEAdversarialLoss(generator_objective="minimax")
SMOOTHED = BCEAdversarialLoss(real_label=0.9, fake_label=0.1)
both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def probabilities(n: int, dtype: torch.dtype) -> Tensor:
    return torch.rand(n, dtype=dtype).mul(0.8).add(0.1)


@both_precisions
@pytest.mark.parametrize(
    ("loss", "real", "fake", "discriminator", "generator"),
    [
        # D(x) = 0.8 and 0.5, D(G(z)) = 0.25 and 0.5
        (PROBABILITIES, [0.8, 0.5], [0.25, 0.5], 0.474280, 1.039721),
        (BCEAdversarialLoss(), [math.log(4), 0], [-math.log(3), 0], 0.474280, 1.039721),
        (MINIMAX, [math.log(4), 0], [-math.log(3), 0], 0.474280, -0.490415),
        # -(0.9 log 0.8 + 0.1 log 0.2) and -(0.1 log 0.25 + 0.9 log 0.75)
        (SMOOTHED, [math.log(4)], [-math.log(3)], 0.379658, 1.386294),
        (HingeLoss(), [2.0, 0.5, -1.0], [-2.0, -0.5, 4.0], 2.666667, -0.5),
        (LeastSquaresLoss(), [1.0, 0.0], [0.0, 2.0], 1.25, 0.5),
        (WassersteinLoss(), [1.0, 3.0], [0.0, 1.0], -1.5, -0.5),
        (RelativisticLoss(), [2.0, 0.0], [0.0, 1.0], 0.720095, 1.220095),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, AdversarialLoss) else "",
)
def test_values_computed_by_hand(loss, real, fake, discriminator, generator, dtype):
    real, fake = torch.tensor(real, dtype=dtype), torch.tensor(fake, dtype=dtype)
    assert loss.discriminator(real, fake).item() == pytest.approx(discriminator, abs=1e-6)
    value = loss.generator(fake, real if loss.needs_real else None)
    assert value.item() == pytest.approx(generator, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "undecided"), [(BCEAdversarialLoss(), 0.0), (PROBABILITIES, 0.5)], ids=str
)
def test_the_discriminator_loss_is_log_2_at_one_half(loss, undecided):
    half = torch.full((7,), undecided, dtype=torch.float64)
    assert loss.discriminator(half, half).item() == pytest.approx(math.log(2), abs=1e-15)


def test_minus_two_times_the_loss_is_the_value_function():
    d_real, d_fake = [0.9, 0.6, 0.7], [0.2, 0.1, 0.4]
    value = sum(math.log(d) / 3 for d in d_real) + sum(math.log(1 - d) / 3 for d in d_fake)
    loss = PROBABILITIES.discriminator(torch.tensor(d_real), torch.tensor(d_fake))
    assert -2 * loss.item() == pytest.approx(value, rel=1e-6)


@both_precisions
@pytest.mark.parametrize(("real_label", "fake_label"), [(1.0, 0.0), (0.9, 0.0), (0.8, 0.3)])
def test_logits_give_pytorch_s_cross_entropy(real_label, fake_label, dtype):
    real, fake = torch.randn(9, dtype=dtype) * 5, torch.randn(9, dtype=dtype) * 5
    loss = BCEAdversarialLoss(real_label=real_label, fake_label=fake_label)
    expected = (
        F.binary_cross_entropy_with_logits(real, torch.full_like(real, real_label))
        + F.binary_cross_entropy_with_logits(fake, torch.full_like(fake, fake_label))
    ) / 2
    torch.testing.assert_close(loss.discriminator(real, fake), expected)


@both_precisions
def test_probabilities_give_pytorch_s_cross_entropy(dtype):
    criterion = torch.nn.BCELoss()
    real, fake = probabilities(9, dtype), probabilities(9, dtype)
    valid, invalid = torch.ones(9, dtype=dtype), torch.zeros(9, dtype=dtype)
    torch.testing.assert_close(
        PROBABILITIES.discriminator(real, fake),
        (criterion(real, valid) + criterion(fake, invalid)) / 2,
    )
    torch.testing.assert_close(PROBABILITIES.generator(fake), criterion(fake, valid))


def test_probabilities_are_clamped_by_1e_minus_7():
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    cost_of_certainty = -math.log(1e-7)
    assert PROBABILITIES.discriminator(zero, one).item() == pytest.approx(cost_of_certainty)
    assert PROBABILITIES.generator(zero).item() == pytest.approx(cost_of_certainty)
    assert PROBABILITIES.discriminator(one, zero).item() == pytest.approx(1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_wrong_certainty_gives_a_finite_loss(dtype):
    wrong_of_real, wrong_of_fake = torch.zeros(2, dtype=dtype), torch.ones(2, dtype=dtype)
    assert PROBABILITIES.discriminator(wrong_of_real, wrong_of_fake).isfinite()


def test_minimax_saturates_and_non_saturating_does_not():
    slopes = {}
    for objective in ("minimax", "non_saturating"):
        confident = torch.tensor([-10.0]).requires_grad_()
        BCEAdversarialLoss(generator_objective=objective).generator(confident).backward()
        slopes[objective] = confident.grad.item()
    assert slopes["minimax"] == pytest.approx(-1 / (1 + math.exp(10)), rel=1e-4)
    assert slopes["non_saturating"] == pytest.approx(-1 / (1 + math.exp(-10)), rel=1e-4)


def test_hinge_has_no_gradient_beyond_the_margin():
    real, fake = torch.tensor([1.5]).requires_grad_(), torch.tensor([-1.5]).requires_grad_()
    HingeLoss().discriminator(real, fake).backward()
    assert real.grad.item() == fake.grad.item() == 0


def test_the_relativistic_loss_depends_on_differences():
    real, fake = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    loss = RelativisticLoss()
    torch.testing.assert_close(
        loss.discriminator(real + 3, fake + 3), loss.discriminator(real, fake)
    )


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"generator_objective": "max"}, ValueError, "`generator_objective` must be one of"),
        ({"real_label": 1.1}, ValueError, r"`real_label` must be .* \[0, 1\], got 1.1"),
        ({"fake_label": -0.1}, ValueError, r"`fake_label` must be .* \[0, 1\], got -0.1"),
        ({"real_label": math.nan}, ValueError, "`real_label` must be .*, got nan"),
        ({"fake_label": "0"}, TypeError, "`fake_label` must be .*, got '0'"),
    ],
    ids=str,
)
def test_an_invalid_argument_is_named(arguments: dict[str, Any], error, message):
    with pytest.raises(error, match=message):
        BCEAdversarialLoss(**arguments)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("output", [-0.5, 1.5])
def test_outputs_that_are_no_probabilities_are_refused(output, trained):
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    wrong = torch.tensor([0.5, output]).requires_grad_(trained)
    try:
        with pytest.raises(ValueError, match="`fake_logits` must be probabilities"):
            PROBABILITIES.discriminator(wrong, torch.tensor([0.5, 0.5]))
    finally:
        torch.set_warn_always(always)


def test_the_relativistic_loss_needs_real_logits():
    with pytest.raises(ValueError, match="`real_logits` must be given"):
        RelativisticLoss().generator(torch.zeros(3))


@pytest.mark.parametrize("shape", [(4, 1), (1,)], ids=str)
def test_relativistic_logits_must_pair(shape):
    real, fake = torch.zeros(4), torch.zeros(shape)
    with pytest.raises(ValueError, match="`real_logits` must have the shape of `fake_logits`"):
        RelativisticLoss().discriminator(real, fake)
    with pytest.raises(ValueError, match="`real_logits` must have the shape of `fake_logits`"):
        RelativisticLoss().generator(fake, real)
