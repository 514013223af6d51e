"""HealthMonitor: what it measures, when it warns, and that it stays silent where all is well."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vanillagan import (
    R1,
    BCEAdversarialLoss,
    Callback,
    Discriminator,
    GANTrainer,
    Generator,
    HingeLoss,
    LeastSquaresLoss,
    RelativisticLoss,
    WassersteinLoss,
)
from vanillagan.callbacks import HealthMonitor, vitals
from vanillagan.callbacks.diagnoses import KINDS, Setup, diagnose
from vanillagan.data import normal_latent
from vanillagan.errors import TrainingHealthWarning
from vanillagan.optimizers import adam

# -- the numbers -----------------------------------------------------------------------------------


def scores(n: int, shift: float) -> Tensor:
    return (torch.randn(n, generator=torch.Generator().manual_seed(n)) + shift).round(decimals=1)


@pytest.mark.parametrize("shift", [-2.0, 0.0, 0.5, 5.0])
def test_separation_is_the_area_under_the_roc_curve(shift):
    metrics = pytest.importorskip("sklearn.metrics")
    real, fake = scores(40, shift), scores(30, 0.0)
    truth = [1] * 40 + [0] * 30
    expected = metrics.roc_auc_score(truth, torch.cat([real, fake]).tolist())
    assert float(vitals.separation(real, fake)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("gap", [0.0, 1.0, 4.0])
def test_the_pull_of_a_loss_is_as_by_hand(gap):
    """Closed forms: gradients of each loss by its scores, relative to those at equal scores."""
    real, fake = torch.tensor([gap, gap + 1]), torch.tensor([-gap, 0.5 - gap])
    pulls = {
        name: float(vitals.discriminator_pull(loss, real, fake))
        for name, loss in {
            "bce": BCEAdversarialLoss(),
            "hinge": HingeLoss(),
            "squares": LeastSquaresLoss(),
            "wasserstein": WassersteinLoss(),
            "relativistic": RelativisticLoss(),
        }.items()
    }
    d_real, d_fake = torch.sigmoid(real), torch.sigmoid(fake)
    assert pulls["bce"] == pytest.approx(float((1 - d_real).mean() + d_fake.mean()), rel=1e-5)
    asks = (real < 1).sum() + (fake > -1).sum()
    assert pulls["hinge"] == pytest.approx(int(asks) / int((real < 1).sum() + 2), abs=1e-6)
    squares = (real - 1).abs().sum() + fake.abs().sum()
    assert pulls["squares"] == pytest.approx(
        float(squares / ((real - 1).abs().sum() + real.abs().sum())), rel=1e-5
    )
    assert pulls["wasserstein"] == 1
    assert pulls["relativistic"] == pytest.approx(
        float(torch.sigmoid(fake - real).mean() / 0.5), rel=1e-5
    )


def ring(n: int = 256, modes: int = 8, seed: int = 0) -> Tensor:
    """Points on the first `modes` of 8 Gaussians on a circle, of standard deviation 0.02."""
    rng = torch.Generator().manual_seed(seed)
    angles = torch.randint(modes, (n,), generator=rng) * math.pi / 4
    centres = torch.stack([angles.cos(), angles.sin()], dim=1)
    return centres + 0.02 * torch.randn(n, 2, generator=rng)


@pytest.mark.parametrize("modes", [1, 2, 4, 6, 8])
def test_the_share_of_the_data_that_is_missed_is_that_of_the_missing_modes(modes):
    measured = vitals.diversity(ring(), ring(modes=modes, seed=1))
    inside = ring()[:, 1].atan2(ring()[:, 0]).div(math.pi / 4).round().remainder(8) < modes
    assert float(measured.missed) == pytest.approx(1 - float(inside.double().mean()))


def test_diversity_is_as_by_a_naive_loop():
    rng = np.random.default_rng(0)
    for dimensions in (3, 100):
        real, fake = rng.normal(size=(30, dimensions)), rng.normal(size=(30, dimensions)) * 0.4
        spread, nearest, missed = vitals.diversity(
            torch.tensor(real + 5).float(), torch.tensor(fake + 5).float()
        )

        def nearest_of(a, b, skip):
            return [
                min(np.linalg.norm(x - y) for j, y in enumerate(b) if not (skip and i == j))
                for i, x in enumerate(a)
            ]

        among = nearest_of(real, real, True)
        pairs = sorted(np.linalg.norm(x - y) for x in real for y in real)
        middle = pairs[(len(pairs) - 1) // 2]
        near = np.quantile(among, 0.9) + middle / 4
        variances = fake.var(axis=0).sum() / real.var(axis=0).sum()
        assert float(spread) == pytest.approx(math.sqrt(variances), rel=1e-4)
        low = sorted(nearest_of(fake, fake, True))[14] / sorted(among)[14]
        assert float(nearest) == pytest.approx(low, rel=1e-3)
        expected = np.mean(np.array(nearest_of(real, fake, False)) > near)
        assert float(missed) == pytest.approx(expected, abs=1e-6)


def test_fakes_that_are_one_point_have_no_spread_and_no_distances():
    spread, nearest, missed = vitals.diversity(ring(), torch.full((256, 2), 9.0))
    assert (float(spread), float(nearest), float(missed)) == (0, 0, 1)


def test_a_sketch_keeps_distances():
    rng = torch.Generator().manual_seed(3)
    a, b = torch.randn(2, 5000, generator=rng)
    kept = (vitals.sketch(a) - vitals.sketch(b)).norm() / (a - b).norm()
    assert float(kept) == pytest.approx(1, abs=0.25)
    assert torch.equal(vitals.sketch(a[:64]), a[:64])


# -- what is said ----------------------------------------------------------------------------------

HEALTHY = {
    "separation": 0.8,
    "pull": 0.9,
    "gradient": 1.0,
    "speed": 1.5,
    "spread": 0.9,
    "nearest": 0.8,
    "missed": 0.02,
    "movement": 0.1,
    "net_movement": 0.3,
}


@pytest.mark.parametrize(
    ("seen", "kind", "words"),
    [
        ({"separation": 0.998, "pull": 0.02}, "saturated", "99.8% of the reals above the fakes"),
        ({"separation": 0.95, "gradient": 0.003}, "vanished", "its norm is 0.003 of that"),
        ({"spread": 0.03}, "collapse", "their spread is 0.03 of the data's (expected above 0.25)"),
        ({"nearest": 0.05}, "collapse", "nearest neighbour is at 0.05 of the distance"),
        ({"missed": 0.5}, "collapse", "50% of the data has no sample near (expected up to 25%)"),
        ({"movement": 2.5}, "oscillation", "moves by 2.5 times the data's spread"),
        ({"speed": 0.02}, "imbalance", "the generator moves much faster than the discriminator"),
        ({"speed": 50.0}, "imbalance", "the discriminator moves much faster than the generator"),
    ],
)
def test_a_diagnosis_names_the_number_seen_what_was_expected_and_what_to_try(seen, kind, words):
    ((found, message),) = diagnose(HEALTHY | seen, Setup())
    assert found == kind
    assert words in message
    assert "(expected " in message
    assert ". Try " in message


@pytest.mark.parametrize(
    ("name", "limit", "is_low", "others", "kind"),
    [
        ("separation", 0.99, False, {"pull": 0.05}, "saturated"),
        ("pull", 0.1, True, {"separation": 1.0}, "saturated"),
        ("gradient", 0.01, True, {"separation": 0.95}, "vanished"),
        ("separation", 0.9, False, {"gradient": 0.005}, "vanished"),
        ("spread", 0.25, True, {}, "collapse"),
        ("nearest", 0.125, True, {}, "collapse"),
        ("missed", 0.25, False, {}, "collapse"),
        ("missed_change", -0.05, False, {"missed": 0.5}, "collapse"),
        ("movement", 1.0, False, {}, "oscillation"),
        ("net_movement", 0.5, True, {"movement": 1.5}, "oscillation"),
        ("speed", 0.25, True, {}, "imbalance"),
        ("speed", 10.0, False, {}, "imbalance"),
    ],
)
def test_a_number_is_a_trouble_beyond_its_limit_alone(name, limit, is_low, others, kind):
    step = -abs(limit) / 50 if is_low else abs(limit) / 50
    beyond, within = (
        [kind for kind, _ in diagnose(HEALTHY | others | {name: limit + sign * step}, Setup())]
        for sign in (1, -1)
    )
    assert (beyond, within) == ([kind], [])


@pytest.mark.parametrize(
    "seen",
    [
        {},
        {"separation": 1.0},  # a D that wins still has something to learn
        {"pull": 0.0},
        {"gradient": 1e-6},  # at an equilibrium
        {"movement": 9.0, "net_movement": 0.9},  # still on its way to the data
        {"missed": 0.9, "missed_change": -0.1},  # likewise
        {"speed": math.inf},  # a generator held still
        dict.fromkeys(HEALTHY, math.nan),
    ],
)
def test_what_is_no_trouble_brings_no_diagnosis(seen):
    assert list(diagnose(HEALTHY | seen, Setup())) == []
    assert list(diagnose({}, Setup())) == []


def test_a_generator_that_is_beaten_is_not_said_to_have_collapsed():
    seen = HEALTHY | {"separation": 1.0, "pull": 0.0, "missed": 1.0}
    assert [kind for kind, _ in diagnose(seen, Setup())] == ["saturated"]
    kinds = [kind for kind, _ in diagnose(seen | {"spread": 0.01}, Setup())]
    assert kinds == ["saturated", "collapse"]


@pytest.mark.parametrize(
    ("seen", "setup", "advice"),
    [
        ({"separation": 1.0, "pull": 0.0}, {"penalized": True}, "R1 (penalties"),
        ({"spread": 0.0}, {"penalized": True, "relativistic": True}, "RelativisticLoss()"),
        ({"spread": 0.0}, {"large_eps": False}, "norm_eps=1e-5"),
        ({"separation": 1.0, "gradient": 0.0}, {"minimax": False}, "non_saturating"),
        ({"movement": 9.0}, {"averaged": True}, "EMA(0.999)"),
        ({"speed": 99.0}, {"discriminator_steps": 1}, "fewer discriminator_steps"),
    ],
)
def test_nothing_is_advised_that_is_so_already(seen, setup, advice):
    open_to_advice = Setup(minimax=True, large_eps=True, discriminator_steps=5)
    ((_, before),) = diagnose(HEALTHY | seen, open_to_advice)
    ((_, after),) = diagnose(HEALTHY | seen, open_to_advice._replace(**setup))
    assert advice in before
    assert advice not in after


# -- runs ------------------------------------------------------------------------------------------


def make_generator() -> nn.Module:
    return Generator(4, (2,), hidden=(32, 32), output="linear")


def make_discriminator() -> nn.Module:
    return Discriminator((2,), hidden=(32, 32))


def play(
    monitor: HealthMonitor,
    *,
    generator: Callable[[], nn.Module] = make_generator,
    discriminator: Callable[[], nn.Module] = make_discriminator,
    data: Tensor | None = None,
    steps: int = 120,
    callbacks: tuple[Callback, ...] = (),
    **options: Any,
) -> GANTrainer:
    """Plays a small game on the ring; a trouble is a warning, which pytest makes an error."""
    torch.manual_seed(0)
    trainer = GANTrainer(
        generator(),
        discriminator(),
        device="cpu",
        callbacks=[monitor, *callbacks],
        **options,
    )
    trainer.fit(ring(2048) if data is None else data, steps=steps, batch_size=64)
    return trainer


class Mean(nn.Module):
    """A generator of samples around one point."""

    latent_dim = 2

    def __init__(self, start: float, spread: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.full((2,), start))
        self.spread = spread

    def forward(self, latent: Tensor) -> Tensor:
        return self.mean + self.spread * latent


def sgd(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda weights: torch.optim.SGD(weights, lr=lr)


STILL, FAST = sgd(1e-9), adam(1e-2)
HEALTHY_RUN: dict[str, Any] = {
    "steps": 300,
    "penalties": [R1(1.0)],
    "generator_optimizer": adam(1e-3),
    "discriminator_optimizer": adam(1e-3),
}
FAILING: dict[str, dict[str, Any]] = {
    "saturated": {
        "generator": lambda: Mean(4.0, 1.0),
        "generator_optimizer": STILL,
        "discriminator_optimizer": FAST,
    },
    "vanished": {
        "loss": BCEAdversarialLoss(generator_objective="minimax"),
        "generator": lambda: Mean(4.0, 1.0),
        "generator_optimizer": STILL,
        "discriminator_optimizer": FAST,
    },
    "collapse": {"generator": lambda: Mean(1.0, 0.01)},
    # D(x) = w x against a point: without a penalty they circle (Mescheder et al., 2018, section 2)
    "oscillation": {
        "loss": WassersteinLoss(),
        "generator": lambda: Mean(1.0, 0.1),
        "discriminator": lambda: nn.Linear(2, 1),
        "data": 0.1 * torch.randn(2048, 2, generator=torch.Generator().manual_seed(0)),
        "generator_optimizer": sgd(0.05),
        "discriminator_optimizer": sgd(0.05),
    },
    "imbalance": {"generator_optimizer": adam(2e-2)},
}


def watch(**options: Any) -> tuple[HealthMonitor, GANTrainer, list[str]]:
    monitor = HealthMonitor(every=20, patience=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = play(monitor, **options)
    assert all(issubclass(warning.category, TrainingHealthWarning) for warning in caught)
    return monitor, trainer, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("kind", FAILING)
def test_a_run_that_is_made_to_fail_is_warned_of_once(kind):
    monitor, _, messages = watch(**FAILING[kind])
    assert kind in monitor.warned
    assert len(messages) == len(monitor.warned) == len(set(monitor.warned))
    assert set(monitor.warned) <= set(KINDS)
    assert all(message.startswith("at step ") for message in messages)


def test_a_monitor_knows_what_the_game_already_is():
    """The source's eps is advised against only where it is used."""
    for eps, is_advised in ((0.8, True), (1e-5, False)):
        _, _, (message,) = watch(
            generator=lambda eps=eps: nn.Sequential(nn.BatchNorm1d(2, eps), Mean(1.0, 0.01)),
            latent=normal_latent(2),
        )
        assert ("norm_eps=1e-5" in message) is is_advised


def test_a_healthy_run_brings_no_warning():
    monitor, trainer, messages = watch(**HEALTHY_RUN)
    assert (messages, monitor.warned) == ([], [])
    metrics = trainer.history.metrics
    assert set(metrics) == {f"health/{name}" for name in HEALTHY if name != "net_movement"}
    assert [step for step, _ in metrics["health/spread"]] == list(range(20, 301, 20))
    assert [step for step, _ in metrics["health/movement"]] == list(range(40, 301, 20))


def test_what_lasts_less_than_the_patience_brings_no_warning():
    monitor = HealthMonitor(every=20, patience=3)
    trainer = play(monitor, steps=79, **FAILING["collapse"])
    assert len(trainer.history.metrics["health/spread"]) == 3
    with pytest.warns(TrainingHealthWarning, match="at step 80 samples are all alike"):
        trainer.fit(ring(2048), steps=80, batch_size=64)


def test_a_run_is_warned_once_and_sees_the_same_across_a_resume(tmp_path):
    whole, trainer, messages = watch(steps=160, **FAILING["collapse"])
    for first in (70, 110):
        _, half, before = watch(steps=first, **FAILING["collapse"])
        half.save(tmp_path / "half.pt")
        resumed = HealthMonitor(every=20, patience=3)
        with warnings.catch_warnings(record=True) as after:
            warnings.simplefilter("always")
            again = play(resumed, steps=1, **FAILING["collapse"])
            again.load(tmp_path / "half.pt")
            again.fit(ring(2048), steps=160, batch_size=64)
        assert [*before, *(str(warning.message) for warning in after)] == messages
        assert resumed.state_dict() == whole.state_dict()
        assert again.history.metrics == trainer.history.metrics


class Draws(Callback):
    """What the global random states give after each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float, float]] = []

    def on_step_end(self, trainer, result):
        self.seen.append((float(torch.rand(1)), float(np.random.rand()), random.random()))


def test_training_is_the_same_bit_for_bit():
    runs = []
    for every in (1000, 1):
        np.random.seed(0)
        random.seed(0)
        draws = Draws()
        trainer = play(HealthMonitor(every=every, patience=99), steps=6, callbacks=(draws,))
        modes = [module.training for module in trainer.generator.modules()]
        states = [part.state_dict() for part in (trainer.generator, trainer.discriminator)]
        runs.append((states, draws.seen, modes))
    assert len(trainer.history.metrics["health/spread"]) == 6
    torch.testing.assert_close(runs[1][0], runs[0][0], rtol=0, atol=0)
    assert runs[1][1:] == runs[0][1:]


def test_a_look_waits_for_the_device_once_and_between_looks_nothing_does(monkeypatch):
    """Beside what the trainer reads itself."""
    reads: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(Tensor, name)
        return lambda self, *args: (reads.append(name), original(self, *args))[1]

    for name in ("tolist", "item", "__float__", "__bool__", "__int__", "cpu", "numpy"):
        monkeypatch.setattr(Tensor, name, counted(name))
    counts = []
    for every, steps in ((1000, 9), (10, 9), (10, 10), (1000, 10)):
        reads.clear()
        play(HealthMonitor(every=every), steps=steps)
        counts.append(len(reads))
    without, between, look, plain = counts
    assert between == without
    assert look == plain + 1


@pytest.mark.parametrize("batch", [1, 3])
def test_few_samples_tell_nothing_of_diversity(batch):
    monitor = HealthMonitor(every=1, patience=2)
    torch.manual_seed(0)
    trainer = GANTrainer(Mean(1.0, 1.0), nn.Linear(2, 1), device="cpu", callbacks=[monitor])
    trainer.fit(ring(3 * batch), steps=3, batch_size=batch)
    names = {name.removeprefix("health/") for name in trainer.history.metrics}
    assert names == set(HEALTHY) - {"spread", "nearest", "missed", "net_movement"}


def test_classes_are_watched_in_turn(make_trainer, points):
    trainer = make_trainer(num_classes=3, callbacks=[HealthMonitor(every=1)])
    labels = torch.arange(200) % 3
    trainer.fit(torch.utils.data.TensorDataset(points, labels), steps=2, batch_size=50)
    assert len(trainer.history.metrics["health/spread"]) == 2


def test_the_speed_is_that_of_one_of_the_discriminators_steps(points):
    """With plain SGD of a fixed gradient three steps go three times as far as one."""

    def speed(steps: int) -> float:
        torch.manual_seed(0)
        trainer = GANTrainer(
            Mean(0.0, 1.0),
            nn.Linear(2, 1),
            loss=WassersteinLoss(),
            discriminator_steps=steps,
            discriminator_optimizer=sgd(1e-3),
            generator_optimizer=sgd(1e-3),
            callbacks=[HealthMonitor(every=1)],
            device="cpu",
        )
        trainer.train_step((points + 30).repeat(steps, 1))
        return trainer.history.metrics["health/speed"][0][1]

    assert speed(3) == pytest.approx(speed(1), rel=0.1)


@pytest.mark.parametrize("name", ["every", "patience"])
def test_a_bad_argument_is_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive integer, got 0"):
        HealthMonitor(**{name: 0})
