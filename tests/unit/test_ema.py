"""Exponential moving average of the generator's weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.helpers.states import differences
from vanillagan import EMA, Generator


def constant(value: float) -> nn.Linear:
    """Return a network whose weights all have one value."""
    network = nn.Linear(2, 3)
    for weight in network.parameters():
        nn.init.constant_(weight, value)
    return network


def started(network: nn.Module, decay: float = 0.999) -> EMA:
    ema = EMA(decay)
    ema.start(network)
    return ema


def test_the_average_starts_as_a_copy():
    network = constant(2.0)
    ema = started(network)
    nn.init.zeros_(network.weight)
    assert (ema.network.weight == 2).all()


def test_the_first_update_keeps_two_elevenths():
    network = constant(0.0)
    ema = started(network)
    nn.init.ones_(network.weight)
    ema.update(network)
    torch.testing.assert_close(ema.network.weight, torch.full((3, 2), 9 / 11))
    assert (ema.network.bias == 0).all()


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_follows_its_recursion(decay):
    network = constant(1.0).double()
    ema = started(network, decay)
    average = 1.0
    for n in range(1, 31):
        nn.init.constant_(network.weight, n**0.5)
        ema.update(network)
        keep = min(decay, (1 + n) / (10 + n))
        average = keep * average + (1 - keep) * n**0.5
    assert ema.network.weight.tolist() == [[pytest.approx(average)] * 2] * 3


def test_without_the_private_kernel_it_is_equal(monkeypatch):
    network = Generator(4, (2,), hidden=(8, 8))
    fused, plain = started(network), started(network)
    for weight in network.parameters():
        nn.init.normal_(weight)
    fused.update(network)
    monkeypatch.delattr(torch, "_foreach_lerp_")
    monkeypatch.delattr(torch, "_foreach_copy_")
    plain.update(network)
    assert differences(fused.network.state_dict(), plain.network.state_dict()) == []


def test_the_statistics_of_batchnorm_are_averaged():
    network = nn.BatchNorm1d(1)
    ema = started(network)
    network.running_mean.fill_(11.0)
    network.running_var.fill_(12.0)
    ema.update(network)  # keeps two elevenths of 0 and of 1
    assert ema.network.running_mean.item() == pytest.approx(9)
    assert ema.network.running_var.item() == pytest.approx(10)


def test_other_buffers_are_copied():
    network = nn.BatchNorm1d(1)
    network.register_buffer("scale", torch.tensor(1.0))
    ema = started(network)
    network.num_batches_tracked += 3
    network.scale += 1
    ema.update(network)
    assert (ema.network.num_batches_tracked, ema.network.scale) == (3, 2)


def test_the_average_is_frozen_and_in_eval_mode():
    generator = Generator(4, (2,), hidden=(8, 8))
    ema = started(generator)
    assert not any(module.training for module in ema.network.modules())
    assert not any(weight.requires_grad for weight in ema.network.parameters())
    assert all(module.training for module in generator.modules())
    assert all(weight.requires_grad for weight in generator.parameters())


def test_an_update_does_not_change_the_network():
    network = constant(0.5)
    ema = started(constant(0.0))
    ema.update(network)
    assert (network.weight == 0.5).all()
    assert network.weight.grad is None


def test_an_average_continues_from_its_state():
    network = constant(0.0)
    ema = started(network)
    nn.init.ones_(network.weight)
    ema.update(network)
    other = started(constant(7.0))
    other.load_state_dict(ema.state_dict())
    assert other.updates == 1
    ema.update(network)
    other.update(network)
    assert torch.equal(other.network.weight, ema.network.weight)


def test_an_average_is_started_once():
    ema = started(constant(0.0))
    with pytest.raises(ValueError, match="`ema` must be new"):
        ema.start(constant(1.0))


def test_an_average_must_be_started():
    with pytest.raises(RuntimeError, match=r"the average has not been started \(call `EMA.start"):
        EMA().update(constant(0.0))


@pytest.mark.parametrize(
    ("decay", "error"), [(1.0, ValueError), (-0.1, ValueError), ("0.9", TypeError)]
)
def test_an_invalid_decay_is_named(decay, error):
    with pytest.raises(error, match=r"`decay` must be a finite number in \[0, 1\), got"):
        EMA(decay)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("wrap", [nn.utils.spectral_norm, nn.utils.weight_norm])
def test_a_network_with_old_normalization_is_averaged_after_it_has_run(wrap):
    network = nn.Sequential(wrap(nn.Linear(2, 3)), nn.Linear(3, 1))
    network(torch.ones(4, 2))
    ema = started(network, decay=0.0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2)
    network(torch.ones(4, 2))
    ema.update(network)
    torch.testing.assert_close(ema.network(torch.ones(4, 2)), network.eval()(torch.ones(4, 2)))
