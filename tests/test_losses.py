"""The games: what all losses share, then the figures of each."""

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
LOSSES = {
    "bce": BCEAdversarialLoss(),
    "bce-minimax": BCEAdversarialLoss(generator_objective="minimax"),
    "bce-smoothed": BCEAdversarialLoss(real_label=0.9, fake_label=0.1),
    "bce-probabilities": PROBABILITIES,
    "bce-probabilities-minimax": BCEAdversarialLoss(
        from_logits=False, generator_objective="minimax"
    ),
    "hinge": HingeLoss(),
    "least-squares": LeastSquaresLoss(),
    "wasserstein": WassersteinLoss(),
    "relativistic": RelativisticLoss(),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def generator_loss(loss: AdversarialLoss, fake: Tensor, real: Tensor) -> Tensor:
    return loss.generator(fake, real if loss.needs_real else None)


def scores(n: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    """Scores in (0.1, 0.9), which are logits as well as probabilities, with a gradient."""
    return torch.rand(n, dtype=dtype).mul(0.8).add(0.1).requires_grad_()


# -- the contract ----------------------------------------------------------------------------------


@every_loss
def test_a_loss_keeps_the_protocol(loss):
    assert isinstance(loss, AdversarialLoss)
    assert isinstance(loss.needs_real, bool)


@every_loss
@both_precisions
def test_both_losses_are_scalars_in_the_precision_of_the_scores(loss, dtype):
    real, fake = scores(dtype=dtype), scores(dtype=dtype)
    for value in (loss.discriminator(real, fake), generator_loss(loss, fake, real)):
        assert value.shape == ()
        assert value.dtype == dtype


@every_loss
def test_the_discriminators_gradient_pushes_real_scores_up_and_fake_ones_down(loss):
    real, fake = scores(), scores()
    loss.discriminator(real, fake).backward()
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()


@every_loss
def test_the_generators_gradient_pushes_fake_scores_up(loss):
    real, fake = scores(), scores()
    generator_loss(loss, fake, real).backward()
    assert (fake.grad < 0).all()


@every_loss
def test_a_loss_and_its_gradient_are_finite_at_huge_scores(loss):
    extremes = [0.0, 1.0] if not getattr(loss, "from_logits", True) else [-1e15, 1e15]
    real = torch.tensor(extremes).repeat_interleave(2).requires_grad_()
    fake = torch.tensor(extremes).repeat(2).requires_grad_()
    total = loss.discriminator(real, fake) + generator_loss(loss, fake, real)
    total.backward()
    assert total.isfinite()
    assert real.grad.isfinite().all()
    assert fake.grad.isfinite().all()


@every_loss
def test_a_loss_does_not_depend_on_the_batch_size(loss):
    real, fake = scores(dtype=torch.float64), scores(dtype=torch.float64)
    of_one = loss.discriminator(real, fake), generator_loss(loss, fake, real)
    real, fake = real.repeat(5), fake.repeat(5)
    of_five = loss.discriminator(real, fake), generator_loss(loss, fake, real)
    torch.testing.assert_close(of_five, of_one)


@every_loss
def test_only_a_loss_that_needs_real_scores_reads_them_for_the_generator(loss):
    fake = scores()
    values = {float(loss.generator(fake.detach(), scores().detach())) for _ in range(2)}
    assert len(values) == (2 if loss.needs_real else 1)


# -- values ----------------------------------------------------------------------------------------


@both_precisions
@pytest.mark.parametrize(
    ("loss", "real", "fake", "discriminator", "generator"),
    [
        # D(x) = 0.8 and 0.5, D(G(z)) = 0.25 and 0.5
        (PROBABILITIES, [0.8, 0.5], [0.25, 0.5], 0.474280, 1.039721),
        (BCEAdversarialLoss(), [math.log(4), 0], [-math.log(3), 0], 0.474280, 1.039721),
        (LOSSES["bce-minimax"], [math.log(4), 0], [-math.log(3), 0], 0.474280, -0.490415),
        # -(0.9 log 0.8 + 0.1 log 0.2) and -(0.1 log 0.25 + 0.9 log 0.75)
        (LOSSES["bce-smoothed"], [math.log(4)], [-math.log(3)], 0.379658, 1.386294),
        (HingeLoss(), [2.0, 0.5, -1.0], [-2.0, -0.5, 4.0], 2.666667, -0.5),
        (LeastSquaresLoss(), [1.0, 0.0], [0.0, 2.0], 1.25, 0.5),
        (WassersteinLoss(), [1.0, 3.0], [0.0, 1.0], -1.5, -0.5),
        (RelativisticLoss(), [2.0, 0.0], [0.0, 1.0], 0.720095, 1.220095),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, AdversarialLoss) else "",
)
def test_losses_have_the_figures_computed_by_hand(
    loss, real, fake, discriminator, generator, dtype
):
    real, fake = torch.tensor(real, dtype=dtype), torch.tensor(fake, dtype=dtype)
    assert loss.discriminator(real, fake).item() == pytest.approx(discriminator, abs=1e-6)
    assert generator_loss(loss, fake, real).item() == pytest.approx(generator, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "undecided"), [(BCEAdversarialLoss(), 0.0), (PROBABILITIES, 0.5)], ids=str
)
def test_the_discriminators_loss_is_log_2_where_d_is_one_half(loss, undecided):
    half = torch.full((7,), undecided, dtype=torch.float64)
    assert loss.discriminator(half, half).item() == pytest.approx(math.log(2), abs=1e-15)


def test_minus_two_times_the_loss_is_the_value_of_the_game():
    d_real, d_fake = [0.9, 0.6, 0.7], [0.2, 0.1, 0.4]
    value = sum(math.log(d) / 3 for d in d_real) + sum(math.log(1 - d) / 3 for d in d_fake)
    loss = PROBABILITIES.discriminator(torch.tensor(d_real), torch.tensor(d_fake))
    assert -2 * loss.item() == pytest.approx(value, rel=1e-6)


@both_precisions
@pytest.mark.parametrize(("real_label", "fake_label"), [(1.0, 0.0), (0.9, 0.0), (0.8, 0.3)])
def test_logits_give_pytorchs_own_cross_entropy(real_label, fake_label, dtype):
    real, fake = torch.randn(9, dtype=dtype) * 5, torch.randn(9, dtype=dtype) * 5
    loss = BCEAdversarialLoss(real_label=real_label, fake_label=fake_label)
    expected = (
        F.binary_cross_entropy_with_logits(real, torch.full_like(real, real_label))
        + F.binary_cross_entropy_with_logits(fake, torch.full_like(fake, fake_label))
    ) / 2
    torch.testing.assert_close(loss.discriminator(real, fake), expected)


@both_precisions
def test_probabilities_give_the_source_loop_s_cross_entropy(dtype):
    criterion = torch.nn.BCELoss()
    real, fake = scores(9, dtype), scores(9, dtype)
    valid, invalid = torch.ones(9, dtype=dtype), torch.zeros(9, dtype=dtype)
    torch.testing.assert_close(
        PROBABILITIES.discriminator(real, fake),
        (criterion(real, valid) + criterion(fake, invalid)) / 2,
    )
    torch.testing.assert_close(PROBABILITIES.generator(fake), criterion(fake, valid))


def test_probabilities_of_0_and_1_count_as_1e_minus_7_and_1_minus_1e_minus_7():
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    cost_of_certainty = -math.log(1e-7)
    assert PROBABILITIES.discriminator(zero, one).item() == pytest.approx(cost_of_certainty)
    assert PROBABILITIES.generator(zero).item() == pytest.approx(cost_of_certainty)
    assert PROBABILITIES.discriminator(one, zero).item() == pytest.approx(1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_certain_probabilities_cost_a_finite_loss_in_every_precision(dtype):
    wrong_of_real, wrong_of_fake = torch.zeros(2, dtype=dtype), torch.ones(2, dtype=dtype)
    assert PROBABILITIES.discriminator(wrong_of_real, wrong_of_fake).isfinite()


def test_minimax_saturates_where_the_discriminator_wins_and_non_saturating_does_not():
    slopes = {}
    for objective in ("minimax", "non_saturating"):
        confident = torch.tensor([-10.0]).requires_grad_()
        BCEAdversarialLoss(generator_objective=objective).generator(confident).backward()
        slopes[objective] = confident.grad.item()
    assert slopes["minimax"] == pytest.approx(-1 / (1 + math.exp(10)), rel=1e-4)
    assert slopes["non_saturating"] == pytest.approx(-1 / (1 + math.exp(-10)), rel=1e-4)


def test_hinge_leaves_scores_beyond_the_margin_alone():
    real, fake = torch.tensor([1.5]).requires_grad_(), torch.tensor([-1.5]).requires_grad_()
    HingeLoss().discriminator(real, fake).backward()
    assert real.grad.item() == fake.grad.item() == 0


def test_the_relativistic_game_sees_differences_of_scores_alone():
    real, fake = scores(dtype=torch.float64), scores(dtype=torch.float64)
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
def test_a_wrong_argument_is_named(arguments: dict[str, Any], error, message):
    with pytest.raises(error, match=message):
        BCEAdversarialLoss(**arguments)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("score", [-0.5, 1.5])
def test_scores_that_are_no_probabilities_are_an_error(score, trained):
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    wrong = torch.tensor([0.5, score]).requires_grad_(trained)
    try:
        with pytest.raises(ValueError, match="`scores` must be probabilities"):
            PROBABILITIES.discriminator(wrong, torch.tensor([0.5, 0.5]))
    finally:
        torch.set_warn_always(always)


def test_the_relativistic_generator_needs_real_scores():
    with pytest.raises(ValueError, match="`real_scores` must be given"):
        RelativisticLoss().generator(torch.zeros(3))


@pytest.mark.parametrize("shape", [(4, 1), (1,)], ids=str)
def test_the_relativistic_game_refuses_scores_that_do_not_pair(shape):
    real, fake = torch.zeros(4), torch.zeros(shape)
    with pytest.raises(ValueError, match="scores"):
        RelativisticLoss().discriminator(real, fake)
    with pytest.raises(ValueError, match="scores"):
        RelativisticLoss().generator(fake, real)
