"""Contract of adversarial losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vanillagan import (
    BCEAdversarialLoss,
    HingeLoss,
    LeastSquaresLoss,
    RelativisticLoss,
    WassersteinLoss,
)
from vanillagan.losses import AdversarialLoss

LOSSES = {
    "bce": BCEAdversarialLoss(),
    "bce-minimax": BCEAdversarialLoss(generator_objective="minimax"),
    "bce-smoothed": BCEAdversarialLoss(real_label=0.9, fake_label=0.1),
    "bce-probabilities": BCEAdversarialLoss(from_logits=False),
    "bce-probabilities-minimax": BCEAdversarialLoss(
        from_logits=False, generator_objective="minimax"
    ),
    "hinge": HingeLoss(),
    "least-squares": LeastSquaresLoss(),
    "wasserstein": WassersteinLoss(),
    "relativistic": RelativisticLoss(),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def outputs(n: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return outputs in (0.1, 0.9), valid as logits and as probabilities."""
    return torch.rand(n, dtype=dtype).mul(0.8).add(0.1).requires_grad_()


def generator_loss(loss: AdversarialLoss, fake: Tensor, real: Tensor) -> Tensor:
    return loss.generator(fake, real if loss.needs_real else None)


@every_loss
def test_a_loss_implements_the_protocol(loss):
    assert isinstance(loss, AdversarialLoss)
    assert isinstance(loss.needs_real, bool)


@every_loss
def test_a_loss_is_a_value(loss):
    assert loss == type(loss)(**vars(loss))
    assert hash(loss) == hash(type(loss)(**vars(loss)))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_losses_are_scalars_of_the_outputs_dtype(loss, dtype):
    real, fake = outputs(dtype=dtype), outputs(dtype=dtype)
    for value in (loss.discriminator(real, fake), generator_loss(loss, fake, real)):
        assert value.shape == ()
        assert value.dtype == dtype


@every_loss
def test_the_discriminator_raises_real_and_lowers_fake(loss):
    real, fake = outputs(), outputs()
    loss.discriminator(real, fake).backward()
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()


@every_loss
def test_the_generator_raises_fake(loss):
    real, fake = outputs(), outputs()
    generator_loss(loss, fake, real).backward()
    assert (fake.grad < 0).all()


@every_loss
def test_huge_outputs_give_a_finite_loss_and_gradient(loss):
    extremes = [0.0, 1.0] if not getattr(loss, "from_logits", True) else [-1e15, 1e15]
    real = torch.tensor(extremes).repeat_interleave(2).requires_grad_()
    fake = torch.tensor(extremes).repeat(2).requires_grad_()
    total = loss.discriminator(real, fake) + generator_loss(loss, fake, real)
    total.backward()
    assert total.isfinite()
    assert real.grad.isfinite().all()
    assert fake.grad.isfinite().all()


@every_loss
def test_a_loss_is_a_mean_over_the_batch(loss):
    real, fake = outputs(dtype=torch.float64), outputs(dtype=torch.float64)
    of_one = loss.discriminator(real, fake), generator_loss(loss, fake, real)
    real, fake = real.repeat(5), fake.repeat(5)
    of_five = loss.discriminator(real, fake), generator_loss(loss, fake, real)
    torch.testing.assert_close(of_five, of_one)


@every_loss
def test_real_logits_are_used_if_the_loss_needs_them(loss):
    fake = outputs().detach()
    values = {float(loss.generator(fake, outputs().detach())) for _ in range(2)}
    assert len(values) == (2 if loss.needs_real else 1)
