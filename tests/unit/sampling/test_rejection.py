"""Rejection sampling by the discriminator, and the discriminator's refit before it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tests.helpers.states import snapshot
from vanillagan import EMA, R1, Discriminator, GANTrainer, Generator
from vanillagan.data import normal_latents
from vanillagan.sampling import draw_samples, refit_discriminator, rejection_sample


class Normal(nn.Module):
    """A generator of N(0, 1), of any dtype."""

    latent_dim = 1

    def forward(self, latent: Tensor) -> Tensor:
        return latent


class LogRatio(nn.Module):
    """D* between p_data = N(1/2, 1/2) and p_g = N(0, 1), as a logit and in closed form."""

    LARGEST = 2 * np.exp(1 / 6)  # p_data / p_g, at 2 / 3

    def forward(self, x: Tensor) -> Tensor:
        return np.log(2) - 2 * (x - 0.5).square().squeeze(1) + x.square().squeeze(1) / 2


TARGET = scipy.stats.norm(0.5, 0.5)


def test_optimal_logits_give_the_data_distribution():
    samples = rejection_sample(Normal(), LogRatio(), 5000, percentile=None, seed=0)
    assert samples.shape == (5000, 1)
    assert scipy.stats.kstest(samples[:, 0].numpy(), TARGET.cdf).pvalue > 0.05
    plain = draw_samples(Normal(), 5000, seed=0)
    assert scipy.stats.kstest(plain[:, 0].numpy(), TARGET.cdf).pvalue < 1e-6


def test_a_constant_added_to_logits_changes_nothing():
    class Shifted(LogRatio):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.double()) - 30

    samples = rejection_sample(Normal(), Shifted(), 5000, percentile=None, seed=0)
    assert scipy.stats.kstest(samples[:, 0].numpy(), TARGET.cdf).pvalue > 0.05


class Counting(Normal):
    drawn = 0

    def forward(self, latent: Tensor) -> Tensor:
        self.drawn += len(latent)
        return latent


def test_acceptance_rate_is_one_in_m():
    generator = Counting()
    rejection_sample(generator, LogRatio(), 20_000, percentile=None, burn_in=1000, seed=0)
    rate = 20_000 / (generator.drawn - 1000)
    assert rate == pytest.approx(1 / LogRatio.LARGEST, abs=0.01)


@pytest.mark.parametrize(("percentile", "n"), [(20, 40_000), (80, 8000), (95.0, 3000)])
def test_percentile_follows_the_papers_formula(percentile, n):
    generator = Counting()
    samples = rejection_sample(generator, LogRatio(), n, percentile=percentile, seed=0)
    rate = n / (generator.drawn - 10_000)
    x = scipy.stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    ratio = TARGET.pdf(x) / scipy.stats.norm.pdf(x) / LogRatio.LARGEST
    f = np.log(ratio / (1 - np.minimum(ratio, 1) + 1e-8))
    accepted = scipy.special.expit(f - np.percentile(f, percentile))
    assert rate == pytest.approx(accepted.mean(), rel=0.05)
    mean = (x * accepted).sum() / accepted.sum()
    assert float(samples.mean()) == pytest.approx(mean, abs=0.02)


def test_the_maximum_is_updated_after_the_burn_in():
    samples = rejection_sample(Normal(), LogRatio(), 5000, percentile=None, burn_in=1, seed=3)
    assert scipy.stats.kstest(samples[:, 0].numpy(), TARGET.cdf).pvalue > 0.05


def test_probabilities_are_converted_to_logits():
    options = {"percentile": None, "seed": 0}
    expected = rejection_sample(Normal(), LogRatio(), 500, **options)
    probable = nn.Sequential(LogRatio(), nn.Sigmoid())
    torch.testing.assert_close(rejection_sample(Normal(), probable, 500, **options), expected)


def test_rejection_is_repeatable_by_seed(generator):
    discriminator = Discriminator((2,), hidden=(8,), dropout=0.5)
    first, second, third = (
        rejection_sample(generator, discriminator, 50, burn_in=100, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_rejection_keeps_modes_weights_random_states(generator):
    class Random(Discriminator):
        def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
            return super().forward(samples, labels) + torch.rand(len(samples)) + np.random.rand()

    discriminator = Random((2,), hidden=(8, 8))
    discriminator.layers[1].eval()
    networks = nn.ModuleList([generator, discriminator])
    modes = [module.training for module in networks.modules()]
    weights = {name: value.clone() for name, value in networks.state_dict().items()}
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    samples = rejection_sample(generator, discriminator, 10, burn_in=50)
    assert [module.training for module in networks.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == state[1:]
    torch.testing.assert_close(dict(networks.state_dict()), weights, rtol=0, atol=0)
    assert not samples.requires_grad


class OfClasses(nn.Module):
    """For class k: p_g = N(3 k, 1), and D* for p_data = N(3 k + 1/2, 1/2)."""

    num_classes = 3
    latent_dim = 1

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return x + 3 * labels[:, None]


class RatioOfClasses(LogRatio):
    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return super().forward(x - 3 * labels[:, None]) + labels  # each class has its own maximum


def test_classes_are_sampled_from_their_own_data():
    labels = torch.arange(3000) % 3
    samples = rejection_sample(
        OfClasses(), RatioOfClasses(), 3000, percentile=None, labels=labels, seed=1
    )
    for label in range(3):
        of_class = samples[labels == label, 0] - 3 * label
        assert scipy.stats.kstest(of_class.numpy(), TARGET.cdf).pvalue > 0.05


def test_rejection_with_conditional_networks(conditional):
    discriminator = Discriminator((2,), hidden=(8,), num_classes=3)
    samples = rejection_sample(conditional, discriminator, 7, labels=2, burn_in=10, seed=0)
    assert samples.shape == (7, 2)


class RejectsMost(nn.Module):
    """Accept one sample in fifty."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 2.05, 0.0, -60.0)


def test_too_few_accepted_samples_are_an_error():
    with pytest.raises(RuntimeError, match=r"[1-9]\d of 1000 samples .* in `max_draws`=3000 draws"):
        rejection_sample(Normal(), RejectsMost(), 1000, percentile=None, max_draws=3000, seed=0)


class RejectsOtherClasses(nn.Module):
    """Accept all samples of class 0, and one in fifty of the others."""

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        accepted = (labels == 0) | (x[:, 0] - 3 * labels > 2.05)
        return torch.where(accepted, 0.0, -60.0)


def test_classes_share_max_draws():
    """Class 0 takes one chunk of 1,000 draws, which leaves 2,000 to class 1."""
    options = {"labels": [0] * 10 + [1] * 500, "percentile": None, "max_draws": 3000, "seed": 0}
    message = r"[2-6]\d of 500 samples of class 1 .* `max_draws`=3000 draws of all classes"
    with pytest.raises(RuntimeError, match=message):
        rejection_sample(OfClasses(), RejectsOtherClasses(), 510, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": 0}, ValueError, "`n` must be a positive integer, got 0"),
        ({"percentile": 101}, ValueError, r"`percentile` must be a finite number in \[0, 100\]"),
        ({"percentile": "80"}, TypeError, r"`percentile` must be a finite number in \[0, 100\]"),
        ({"burn_in": 0}, ValueError, "`burn_in` must be a positive integer, got 0"),
        ({"max_draws": 0}, ValueError, "`max_draws` must be a positive integer, got 0"),
        ({"seed": -1}, ValueError, "`seed` must be a non-negative integer, got -1"),
        ({"discriminator": len}, TypeError, "`discriminator` must be a torch.nn.Module"),
        ({"discriminator": nn.Linear(1, 2)}, ValueError, r"got shape \(10, 2\)"),
        ({"discriminator": nn.Threshold(9.0, torch.nan)}, ValueError, "10 not finite"),
        ({"labels": [0, 1]}, ValueError, "`labels` must hold n=5 classes or one for all, got 2"),
    ],
)
def test_invalid_rejection_arguments_are_named(options, error, message):
    arguments = {"generator": Normal(), "discriminator": LogRatio(), "n": 5, "burn_in": 10}
    with pytest.raises(error, match=message):
        rejection_sample(**(arguments | options))


# -- refit_discriminator ---------------------------------------------------------------------------


class Quadratic(nn.Module):
    """A logit that is quadratic in x, as log p_data / p_g of two normal distributions is."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layer = nn.Linear(2, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = x if labels is None else x - 3 * labels[:, None]
        return self.layer(torch.cat([x, x**2], dim=1)).squeeze(1)


class UnitNormal(nn.Module):
    """A generator of N(3 k, 1) for class k, or of N(0, 1)."""

    latent_dim = 1

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.scale * latents + (0 if labels is None else 3 * labels[:, None])


@pytest.mark.parametrize("num_classes", [0, 3])
def test_refit_logits_approach_the_log_density_ratio(num_classes):
    trainer = GANTrainer(UnitNormal(num_classes), Quadratic(num_classes), device="cpu")
    x = 0.5 + 0.5 * torch.randn(30_000, 1)
    labels = torch.arange(len(x)) % 3
    data = TensorDataset(x + 3 * labels[:, None], labels) if num_classes else x
    refit_discriminator(trainer, data, 300, batch_size=1024, lr=0.05)
    grid = torch.linspace(-0.5, 1.5, 21)[:, None]
    for label in range(num_classes or 1):
        labels = torch.full((21,), label) if num_classes else None
        logits = trainer.discriminate(grid + 3 * label, labels).detach()
        torch.testing.assert_close(logits, LogRatio()(grid), rtol=0, atol=0.1)


def trainer_with_dropout() -> GANTrainer:
    torch.manual_seed(0)
    trainer = GANTrainer(
        Generator(8, (2,), hidden=(8, 8)),
        Discriminator((2,), hidden=(8,), dropout=0.5),
        penalties=[R1(0.5)],
        ema=EMA(0.9),
        device="cpu",
    )
    trainer.fit(torch.rand(64, 2) * 2 - 1, max_steps=2, batch_size=16)
    return trainer


def weights_of(trainer: GANTrainer) -> list[list[float]]:
    return [weight.tolist() for weight in trainer.d.parameters]


def test_refit_changes_the_discriminator_alone(points):
    trainer = trainer_with_dropout()
    before = snapshot(trainer)
    refit_discriminator(trainer, points, 5, batch_size=16)
    changed = {place for place, value in snapshot(trainer).items() if value != before[place]}
    assert changed
    assert all(place.startswith("/discriminator/") for place in changed)


def test_refit_is_repeatable_by_seed(points):
    weights = []
    for seed in (1, 1, 2):
        trainer = trainer_with_dropout()
        torch.manual_seed(len(weights))  # the dropout must not depend on it
        refit_discriminator(trainer, points, 5, batch_size=16, seed=seed)
        weights.append(weights_of(trainer))
    assert weights[0] == weights[1] != weights[2]


def test_refit_ignores_labels_of_unconditional_networks(points, make_trainer):
    trainers = make_trainer(), make_trainer()
    with_labels = TensorDataset(points, torch.zeros(len(points), dtype=torch.long))
    for trainer, data in zip(trainers, (points, with_labels), strict=True):
        refit_discriminator(trainer, data, 3, batch_size=16)
    assert snapshot(trainers[0]) == snapshot(trainers[1])


def test_refit_uses_no_penalty_and_the_ema_weights(points):
    trainer = trainer_with_dropout()
    refit_discriminator(trainer, points, 5, batch_size=16)
    other = trainer_with_dropout()
    other.penalties = ()
    other.generator.load_state_dict(other.ema.network.state_dict())
    other.ema = None
    refit_discriminator(other, points, 5, batch_size=16)
    assert weights_of(trainer) == weights_of(other)


def test_refit_drops_a_last_sample_for_batch_norm(points):
    discriminator = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    trainer = GANTrainer(Generator(8, (2,)), discriminator, device="cpu")
    refit_discriminator(trainer, points[:9], 4, batch_size=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "`steps` must be a positive integer, got 0"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer, got 0"),
        ({"lr": 0.0}, "`lr` must be a finite number"),
        ({"seed": -1}, "`seed` must be a non-negative integer, got -1"),
        ({"data": torch.zeros(0, 2)}, "`data` must hold at least one sample"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_invalid_refit_arguments_are_named(points, make_trainer, options, message):
    with pytest.raises(ValueError, match=message):
        refit_discriminator(make_trainer(), **({"data": points, "steps": 1} | options))


def test_refit_improves_rejection_sampling():
    """Half of the generator's samples are not in the data."""
    trainer = GANTrainer(
        nn.Linear(2, 2),
        Discriminator((2,), hidden=(32,)),
        latent_sampler=normal_latents(2),
        ema=EMA(0.9),
        device="cpu",
    )
    samples = trainer.sample(4096, seed=0)
    border = samples[:, 0].median()
    refit_discriminator(trainer, samples[samples[:, 0] > border], 64, batch_size=128, lr=1e-2)
    options = {"latent_sampler": trainer.latent_sampler, "burn_in": 1000, "seed": 0}
    samples = rejection_sample(trainer.ema.network, trainer.discriminator, 500, **options)
    assert float((samples[:, 0] > border).float().mean()) > 0.85
