"""Samples are drawn without a trace in the training state."""

from __future__ import annotations

import random

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from scipy.spatial import geometric_slerp
from torch import Tensor, nn

from vanillagan import EMA, Batch, ConvGenerator, Discriminator, GANTrainer, Generator
from vanillagan.data import normal_latent, uniform_latent
from vanillagan.optimizers import adam
from vanillagan.sampling import draw_samples, interpolate, rejection_sample


@pytest.fixture
def generator() -> Generator:
    return Generator(4, (2,), hidden=(8, 8))


@pytest.fixture
def conditional() -> Generator:
    return Generator(4, (2,), hidden=(8, 8), num_classes=3)


@pytest.mark.parametrize("n", [1, 7, 1000, 2501])
def test_as_many_samples_as_asked_for(generator, n):
    assert generator.sample(n).shape == (n, 2)


def test_given_latents_are_run_in_eval_mode(generator):
    latent = torch.randn(1500, 4)
    generator(latent)
    samples = draw_samples(generator, 1500, latent=latent)
    torch.testing.assert_close(samples, generator.eval()(latent))


def test_a_seed_makes_samples_repeatable(generator):
    assert torch.equal(generator.sample(5, seed=1), generator.sample(5, seed=1))
    assert not torch.equal(generator.sample(5, seed=1), generator.sample(5, seed=2))


def test_without_a_seed_each_call_draws_new_samples_even_under_a_global_seed(generator):
    torch.manual_seed(0)
    first = generator.sample(5)
    torch.manual_seed(0)
    assert not torch.equal(first, generator.sample(5))


def test_a_seed_draws_pytorchs_normal_noise(generator):
    latent = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(generator.sample(5, seed=3), draw_samples(generator, 5, latent=latent))


def test_another_sampler_of_latents_takes_the_place_of_the_normal_one(generator):
    latent = torch.rand(5, 4, generator=torch.Generator().manual_seed(3)) * 2 - 1
    assert torch.equal(
        draw_samples(generator, 5, latent_sampler=uniform_latent(4), seed=3),
        draw_samples(generator, 5, latent=latent),
    )


class Noisy(nn.Module):
    """A generator that draws from every global random state."""

    def forward(self, latent: Tensor) -> Tensor:
        return torch.rand(len(latent), 2) + random.random() + np.random.rand()


@pytest.mark.parametrize("seed", [None, 5])
def test_no_global_random_state_is_changed(seed):
    def draw() -> tuple[float, float, float]:
        return torch.rand(1).item(), random.random(), np.random.rand()

    def seed_all() -> None:
        torch.manual_seed(9)
        random.seed(9)
        np.random.seed(9)

    seed_all()
    undisturbed = draw()
    seed_all()
    draw_samples(Noisy(), 3, latent=torch.zeros(3, 1), seed=seed)
    assert draw() == undisturbed


def test_a_seed_repeats_the_generators_own_noise_too():
    latent = torch.zeros(3, 1)
    first, second = (draw_samples(Noisy(), 3, latent=latent, seed=2) for _ in range(2))
    assert torch.equal(first, second)


def test_every_module_returns_to_the_mode_it_was_in(generator):
    generator.layers[1].eval()
    modes = [module.training for module in generator.modules()]
    generator.sample(5)
    assert [module.training for module in generator.modules()] == modes
    assert set(modes) == {True, False}


def test_the_modes_return_after_an_error_as_well(generator):
    with pytest.raises(ValueError, match="`latent` must have the shape"):
        draw_samples(generator, 5, latent=torch.zeros(5, 3))
    assert all(module.training for module in generator.modules())


def test_statistics_weights_and_gradients_stay_as_they_are(generator):
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    samples = generator.sample(50)
    assert not samples.requires_grad
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_float64_generators_give_float64_samples(generator):
    assert generator.double().sample(3).dtype == torch.float64


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2, 1], (0, 1, 2, 1), torch.tensor([0, 1, 2, 1]), np.array([0, 1, 2, 1])],
    ids=lambda labels: type(labels).__name__,
)
def test_labels_are_one_class_for_each_sample(conditional, labels):
    latent = torch.randn(4, 4)
    samples = draw_samples(conditional, 4, labels=labels, latent=latent)
    torch.testing.assert_close(samples, conditional.eval()(latent, torch.tensor([0, 1, 2, 1])))


@pytest.mark.parametrize("label", [2, torch.tensor(2)], ids=["int", "tensor"])
def test_one_label_is_the_class_of_all_samples(conditional, label):
    latent = torch.randn(1200, 4)
    samples = draw_samples(conditional, 1200, labels=label, latent=latent)
    expected = conditional.eval()(latent, torch.full((1200,), 2))
    torch.testing.assert_close(samples, expected)


def test_images_are_drawn_from_convolutional_generators():
    generator = ConvGenerator(4, (3, 5, 6), width=4, num_classes=2)
    assert generator.sample(3, labels=[0, 1, 1]).shape == (3, 3, 5, 6)


def test_integer_latents_reach_a_generator_as_integers():
    words = nn.Embedding(10, 3)
    latent = torch.tensor([3, 1])
    assert torch.equal(draw_samples(words, 2, latent=latent), words.weight[latent])


@pytest.mark.parametrize(
    ("n", "options", "error", "message"),
    [
        (0, {}, ValueError, "`n` must be a positive integer, got 0"),
        (-3, {}, ValueError, "`n` must be a positive integer, got -3"),
        (2.0, {}, TypeError, "`n` must be a positive integer, got 2.0"),
        (2, {"seed": -1}, ValueError, "`seed` must be a non-negative integer, got -1"),
        (2, {"latent": torch.zeros(3, 4)}, ValueError, "`latent` must hold n=2 latents, got 3"),
        (2, {"labels": 1}, ValueError, "`labels` must be None for an unconditional network"),
    ],
)
def test_a_wrong_argument_is_named(generator, n, options, error, message):
    with pytest.raises(error, match=message):
        draw_samples(generator, n, **options)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, ValueError, "`labels` must be given to a generator of 3 classes, got None"),
        ([0, 1, 2], ValueError, "`labels` must hold n=2 classes or one for all, got 3"),
        (3, ValueError, r"`labels` must lie in \[0, 2\], got labels from 3 to 3"),
        ([0.0, 1.0], TypeError, "`labels` must be a tensor of integers, got torch.float32"),
        ("ab", TypeError, "`labels` must be"),
    ],
)
def test_wrong_labels_are_named(conditional, labels, error, message):
    with pytest.raises(error, match=message):
        conditional.sample(2, labels=labels)


def test_a_generator_without_latent_dim_needs_a_sampler_or_latents():
    generator = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="`latent_sampler` must be given for Linear"):
        draw_samples(generator, 2)
    assert draw_samples(generator, 2, latent_sampler=uniform_latent(3)).shape == (2, 2)


# -- between two latents ---------------------------------------------------------------------------


class Echo(nn.Module):
    """A generator that gives back its latents, so that tests see them."""

    latent_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, latent: Tensor) -> Tensor:
        return self.weight * latent


def test_the_straight_way_is_made_of_even_steps():
    start, end = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([4.0, 0.0, 6.0])
    samples = interpolate(Echo(), start, end, 5, spherical=False)
    expected = np.linspace(start.numpy(), end.numpy(), 5)
    np.testing.assert_allclose(samples.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("length", [1.0, 3.0])
def test_the_spherical_way_turns_and_lengthens_evenly(length):
    start, end = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, length, 0.0])
    samples = interpolate(Echo(), start, end, 7).numpy()
    angles, lengths = np.linspace(0, np.pi / 2, 7), np.linspace(1, length, 7)
    expected = np.stack([lengths * np.cos(angles), lengths * np.sin(angles), 0 * angles], axis=1)
    np.testing.assert_allclose(samples, expected, atol=1e-12)


def test_the_spherical_way_is_scipys_slerp_for_latents_of_one_length():
    rng = np.random.default_rng(0)
    start, end = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    samples = interpolate(Echo(), torch.from_numpy(start), torch.from_numpy(end), 9).numpy()
    expected = geometric_slerp(start, end, np.linspace(0, 1, 9))
    np.testing.assert_allclose(samples, expected, atol=1e-12)


@pytest.mark.parametrize("turn", [0.0, 1e-9, 1e-5])
def test_latents_of_nearly_one_direction_are_no_trouble(turn):
    ends = torch.tensor([[1, 0, 0], [2, 2 * turn, 0]], dtype=torch.float64)
    samples = interpolate(Echo(), ends[0], ends[1], 3).numpy()
    np.testing.assert_allclose(samples[1], [1.5, 0.75 * turn, 0.0], rtol=1e-9)


@pytest.mark.parametrize("spherical", [True, False])
def test_the_way_begins_and_ends_at_the_latents_own_samples(generator, spherical):
    ends = torch.randn(2, 4)
    samples = interpolate(generator, ends[0], ends[1], 6, spherical=spherical)
    expected = draw_samples(generator, 2, latent=ends)
    torch.testing.assert_close(samples[[0, -1]], expected)
    assert not samples.requires_grad
    assert all(module.training for module in generator.modules())


def test_a_way_leads_through_images_of_a_class_and_through_latents_of_any_shape(conditional):
    ends = torch.randn(2, 4)
    samples = interpolate(conditional, ends[0], ends[1], 3, labels=2)
    expected = draw_samples(conditional, 1, latent=ends[1:], labels=2)
    torch.testing.assert_close(samples[-1:], expected)
    ends = torch.randn(2, 2, 3, 3)
    assert interpolate(nn.Identity(), ends[0], ends[1], 4).shape == (4, 2, 3, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": 1}, ValueError, "`n` must be an integer of at least 2, got 1"),
        ({"start": [1.0, 0.0, 0.0]}, TypeError, "`start` must be a tensor of floats"),
        ({"end": torch.tensor([1, 0, 0])}, TypeError, "`end` must be a tensor of floats"),
        ({"end": torch.ones(2)}, ValueError, r"`end` must be a single latent of shape \(3,\), got"),
        ({"start": torch.zeros(3)}, ValueError, "`start` must have a length above 0"),
        ({"end": torch.full((3,), torch.nan)}, ValueError, "`end` must be finite, got NaN"),
        ({"start": torch.ones(1, 3)}, ValueError, r"`start` must be a single latent of shape"),
        ({"end": torch.tensor([-2.0, 0, 0])}, ValueError, "`end` must not point away"),
    ],
)
def test_a_way_that_can_not_be_gone_is_refused(change, error, message):
    ends = {"start": torch.tensor([1.0, 0.0, 0.0]), "end": torch.tensor([0.0, 1.0, 0.0])}
    with pytest.raises(error, match=message):
        interpolate(Echo(), **(ends | {"n": 3} | change))


def test_on_the_straight_way_zero_and_opposite_latents_are_welcome():
    samples = interpolate(Echo(), torch.zeros(3), torch.ones(3), 3, spherical=False)
    torch.testing.assert_close(samples[1], torch.full((3,), 0.5, dtype=torch.float64))


# -- rejection by the discriminator ----------------------------------------------------------------


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


def test_with_the_best_discriminator_the_samples_are_the_datas():
    samples = rejection_sample(Normal(), LogRatio(), 5000, percentile=None, seed=0)
    assert samples.shape == (5000, 1)
    assert scipy.stats.kstest(samples[:, 0].numpy(), TARGET.cdf).pvalue > 0.05
    plain = draw_samples(Normal(), 5000, seed=0)
    assert scipy.stats.kstest(plain[:, 0].numpy(), TARGET.cdf).pvalue < 1e-6


def test_a_constant_added_to_the_logits_changes_nothing():
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


def test_as_many_are_accepted_as_the_largest_density_ratio_allows():
    generator = Counting()
    rejection_sample(generator, LogRatio(), 20_000, percentile=None, burn_in=1000, seed=0)
    rate = 20_000 / (generator.drawn - 1000)
    assert rate == pytest.approx(1 / LogRatio.LARGEST, abs=0.01)


@pytest.mark.parametrize(("percentile", "n"), [(20, 40_000), (80, 8000), (95.0, 3000)])
def test_a_percentile_shifts_the_acceptance_as_the_papers_formula_says(percentile, n):
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


def test_a_higher_maximum_met_after_the_burn_in_counts():
    samples = rejection_sample(Normal(), LogRatio(), 5000, percentile=None, burn_in=1, seed=3)
    assert scipy.stats.kstest(samples[:, 0].numpy(), TARGET.cdf).pvalue > 0.05


def test_probabilities_are_read_through_the_logit():
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


def test_rejection_leaves_modes_random_states_and_weights_as_they_are(generator):
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


def test_each_sample_is_of_the_class_asked_for_and_of_the_classs_data():
    labels = torch.arange(3000) % 3
    samples = rejection_sample(
        OfClasses(), RatioOfClasses(), 3000, percentile=None, labels=labels, seed=1
    )
    for label in range(3):
        of_class = samples[labels == label, 0] - 3 * label
        assert scipy.stats.kstest(of_class.numpy(), TARGET.cdf).pvalue > 0.05


def test_rejection_works_on_the_librarys_conditional_players(conditional):
    discriminator = Discriminator((2,), hidden=(8,), num_classes=3)
    samples = rejection_sample(conditional, discriminator, 7, labels=2, burn_in=10, seed=0)
    assert samples.shape == (7, 2)


class Hopeless(nn.Module):
    """Likes one sample in fifty."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 2.05, 0.0, -60.0)


def test_an_end_of_draws_is_an_error_that_says_what_was_accepted():
    with pytest.raises(RuntimeError, match=r"[1-9]\d of 1000 samples .* in `max_draws`=3000 draws"):
        rejection_sample(Normal(), Hopeless(), 1000, percentile=None, max_draws=3000, seed=0)


class HopelessBeyondTheFirst(nn.Module):
    """Likes all of class 0, and one sample in fifty of the others."""

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        likes = (labels == 0) | (x[:, 0] - 3 * labels > 2.05)
        return torch.where(likes, 0.0, -60.0)


def test_classes_share_the_draws_and_the_error_names_the_one_that_they_ended_at():
    """Class 0 takes a chunk of 1,000 and leaves 2,000."""
    options = {"labels": [0] * 10 + [1] * 500, "percentile": None, "max_draws": 3000, "seed": 0}
    message = r"[2-6]\d of 500 samples of class 1 .* `max_draws`=3000 draws of all classes"
    with pytest.raises(RuntimeError, match=message):
        rejection_sample(OfClasses(), HopelessBeyondTheFirst(), 510, **options)


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
        ({"discriminator": nn.Linear(1, 2)}, ValueError, r"scores of shape \(10, 2\)"),
        ({"discriminator": nn.Threshold(9.0, torch.nan)}, ValueError, "10 not finite"),
        ({"labels": [0, 1]}, ValueError, "`labels` must hold n=5 classes or one for all, got 2"),
    ],
)
def test_a_wrong_argument_of_rejection_is_named(options, error, message):
    arguments = {"generator": Normal(), "discriminator": LogRatio(), "n": 5, "burn_in": 10}
    with pytest.raises(error, match=message):
        rejection_sample(**(arguments | options))


def test_a_discriminator_trained_on_by_its_trainer_mends_what_the_generator_does_wrong():
    trainer = GANTrainer(
        nn.Linear(2, 2),
        Discriminator((2,), hidden=(32,)),
        discriminator_optimizer=adam(1e-2),
        latent=normal_latent(2),
        ema=EMA(0.9),
        device="cpu",
    )
    first = trainer.sample(4096, seed=0)
    border = first[:, 0].median()
    for real in first[first[:, 0] > border].split(128) * 4:
        trainer.discriminator_step(Batch(real), trainer.sample(len(real)))
    options = {"latent_sampler": trainer.latent, "burn_in": 1000, "seed": 0}
    samples = rejection_sample(trainer.ema.network, trainer.discriminator, 500, **options)
    assert float((samples[:, 0] > border).float().mean()) > 0.85
