"""The training loop: steps and their order, data, stopping, and sampling."""

from __future__ import annotations

import gc
import math
import random
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.helpers.data import Rows
from vanillagan import (
    EMA,
    R1,
    R2,
    Batch,
    BCEAdversarialLoss,
    Callback,
    Discriminator,
    GANTrainer,
    Generator,
    GradientPenalty,
    HingeLoss,
    LeastSquaresLoss,
    RelativisticLoss,
    StepResult,
    WassersteinLoss,
    linear_decay,
    load_generator,
)
from vanillagan.callbacks import GradientClip, HealthMonitor, NaNGuard, StopOnSignal
from vanillagan.data import ByteImages, normal_latents, uniform_latents

ORDERS = pytest.mark.parametrize("update_order", ["generator_first", "discriminator_first"])


def weights_of(network: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in network.parameters()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def modes_of(network: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in network.named_modules()}


def sgd(lr: float = 0.1) -> Callable[..., torch.optim.Optimizer]:
    return lambda weights: torch.optim.SGD(weights, lr=lr)


class Counting(nn.Module):
    """A generator that keeps what it was called with and what it returned."""

    sample_shape = (2,)

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = 3
        self.layer = nn.Linear(3, 2)
        self.latents: list[Tensor] = []
        self.fakes: list[Tensor] = []

    def forward(self, latent: Tensor) -> Tensor:
        self.latents.append(latent)
        fakes: Tensor = self.layer(latent)
        self.fakes.append(fakes.detach())
        return fakes


class Judging(nn.Module):
    """A discriminator that keeps what it was asked about in training."""

    independent_samples = True

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.asked: list[Tensor] = []

    def forward(self, samples: Tensor) -> Tensor:
        if self.training:
            self.asked.append(samples.detach())
        scores: Tensor = self.layer(samples).squeeze(1)
        return scores


# -- epochs and steps ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("totals", "epoch", "step"),
    [
        ({"max_epochs": 2}, 2, 8),
        ({"max_steps": 3}, 0, 3),
        ({"max_steps": 8}, 2, 8),
        ({"max_epochs": 1, "max_steps": 6}, 1, 4),
        ({"max_epochs": 2, "max_steps": 6}, 1, 6),
    ],
    ids=str,
)
def test_fit_ends_at_the_first_limit_reached(points, make_trainer, totals, epoch, step):
    trainer = make_trainer()
    history = trainer.fit(points, batch_size=50, **totals)
    assert (trainer.progress.epoch, trainer.progress.step) == (epoch, step)
    assert len(history) == step


def test_limits_are_totals_of_the_run(points, make_trainer):
    trainer = make_trainer()
    trainer.fit(points, max_steps=3, batch_size=50)
    trainer.fit(points, max_steps=5, batch_size=50)
    progress = trainer.progress
    assert (progress.epoch, progress.step_in_epoch, progress.step) == (1, 1, 5)
    trainer.fit(points, max_epochs=2, batch_size=50)
    assert (progress.epoch, progress.step_in_epoch, progress.step) == (2, 0, 8)


def test_two_fits_equal_one(points, make_trainer):
    whole, halves = make_trainer(), make_trainer()
    whole.fit(points, max_epochs=2, batch_size=50)
    halves.fit(points, max_steps=3, batch_size=50)
    halves.fit(points, max_epochs=2, batch_size=50)
    assert equal(weights_of(whole.generator), weights_of(halves.generator))
    assert equal(weights_of(whole.discriminator), weights_of(halves.discriminator))


@pytest.mark.parametrize("totals", [{"max_epochs": 1}, {"max_steps": 4}, {"max_steps": 2}], ids=str)
def test_fit_warns_if_nothing_is_left_to_do(points, make_trainer, totals):
    trainer = make_trainer()
    trainer.fit(points, max_epochs=1, batch_size=50)
    before = weights_of(trainer.generator)
    with pytest.warns(UserWarning, match="nothing left to do: the run has done 1 epochs and 4"):
        trainer.fit(points, batch_size=50, **totals)
    assert equal(weights_of(trainer.generator), before)


def test_each_epoch_reads_all_samples_in_a_new_order(make_trainer):
    orders: list[list[float]] = []

    class Seen(Callback):
        def on_epoch_start(self, trainer):
            orders.append([])

        def on_step_start(self, trainer, batch):
            orders[-1] += batch.samples[:, 0].tolist()

    data = torch.linspace(-1, 1, 20)[:, None].repeat(1, 2)
    make_trainer(callbacks=[Seen()]).fit(data, max_epochs=3, batch_size=5)
    assert [sorted(order) for order in orders] == [data[:, 0].tolist()] * 3
    assert orders[0] != orders[1] != orders[2]


def test_batch_norm_drops_a_last_batch_of_one_sample(make_trainer):
    data = torch.rand(9, 2) * 2 - 1
    with_norm, without = make_trainer(), make_trainer(hidden=(16,))
    assert len(with_norm.fit(data, max_epochs=1, batch_size=4)) == 2
    assert len(without.fit(data, max_epochs=1, batch_size=4)) == 3
    assert len(make_trainer().fit(data[:6], max_epochs=1, batch_size=4)) == 2


@pytest.mark.parametrize("kind", ["tensor", "dataset", "loader", "list"])
def test_a_last_single_sample_is_dropped_of_any_data(make_trainer, kind):
    data = torch.rand(9, 2) * 2 - 1
    kinds: dict[str, Any] = {
        "tensor": data,
        "dataset": Rows(data),
        "loader": DataLoader(Rows(data), batch_size=4),
        "list": list(data.split(4)),
    }
    trainer = make_trainer()
    assert len(trainer.fit(kinds[kind], max_epochs=2, batch_size=4)) == 4
    assert trainer.progress.epoch == 2


# -- a step ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("update_order", "first", "second"),
    [
        ("generator_first", "generator", "discriminator"),
        ("discriminator_first", "discriminator", "generator"),
    ],
)
def test_players_are_updated_in_the_update_order(points, make_trainer, update_order, first, second):
    seen: list[tuple[str, set[str]]] = []

    class Watch(Callback):
        def on_before_optimizer_step(self, trainer, player):
            updated = {
                p.name for p in trainer.players if not equal(weights_of(p.network), before[p.name])
            }
            seen.append((player.name, updated))

    trainer = make_trainer(update_order=update_order, callbacks=[Watch()])
    before = {player.name: weights_of(player.network) for player in trainer.players}
    trainer.train_step(points[:8])
    assert seen == [(first, set()), (second, {first})]


@pytest.mark.parametrize(
    ("update_order", "k", "forwards"),
    [
        ("generator_first", 1, 1),
        ("generator_first", 3, 3),
        ("discriminator_first", 1, 2),
        ("discriminator_first", 3, 4),
    ],
)
def test_fakes_are_reused_only_if_the_generator_is_first(points, update_order, k, forwards):
    generator, discriminator = Counting(), Judging()
    trainer = GANTrainer(
        generator, discriminator, update_order=update_order, discriminator_steps=k, device="cpu"
    )
    trainer.train_step(points[: 8 * k])
    assert len(generator.fakes) == forwards
    latents = torch.cat(generator.latents)
    assert latents.shape == (8 * forwards, 3)
    assert len(latents.unique(dim=0)) == 8 * forwards


def test_reused_fakes_are_from_before_the_update(points):
    generator, discriminator = Counting(), Judging()
    trainer = GANTrainer(
        generator, discriminator, generator_optimizer=sgd(10.0), device="cpu", callbacks=[]
    )
    trainer.train_step(points[:8])
    asked = torch.cat(discriminator.asked)
    assert torch.equal(asked, torch.cat([generator.fakes[0], points[:8], generator.fakes[0]]))
    assert not torch.equal(generator.layer(generator.latents[0]), generator.fakes[0])


@ORDERS
def test_each_discriminator_step_reads_its_own_part(points, make_trainer, update_order):
    seen: list[tuple[str, Tensor]] = []

    class Noting(GANTrainer):
        def generator_step(self, batch):
            seen.append(("G", batch.samples))
            return super().generator_step(batch)

        def discriminator_step(self, batch, fake=None):
            seen.append(("D", batch.samples))
            return super().discriminator_step(batch, fake)

    trainer = Noting(
        Generator(8, (2,)),
        Discriminator((2,)),
        discriminator_steps=3,
        update_order=update_order,
        device="cpu",
    )
    trainer.train_step(points[:12])
    first = update_order == "generator_first"
    assert [player for player, _ in seen] == (["G"] if first else []) + ["D"] * 3 + (
        [] if first else ["G"]
    )
    read = torch.cat([samples for player, samples in seen if player == "D"])
    assert torch.equal(read, points[:12])


def test_k_discriminator_steps_divide_the_epoch_by_k(points, make_trainer):
    trainer = make_trainer(discriminator_steps=3)
    history = trainer.fit(points, max_epochs=2, batch_size=25)
    assert trainer.progress.steps_per_epoch == 2
    assert len(history) == 4


@ORDERS
def test_the_frozen_player_gets_no_gradient(points, make_trainer, update_order):
    class Watch(Callback):
        def on_before_optimizer_step(self, trainer, player):
            other = {"generator": trainer.discriminator, "discriminator": trainer.generator}
            gradients = [weight.grad for weight in other[player.name].parameters()]
            changed.append(
                any(
                    gradient is not None and (was is None or not torch.equal(gradient, was))
                    for gradient, was in zip(gradients, kept[player.name], strict=True)
                )
            )
            mine = [weight.grad.clone() for weight in player.parameters]
            kept[{"generator": "discriminator", "discriminator": "generator"}[player.name]] = mine

    changed: list[bool] = []
    trainer = make_trainer(update_order=update_order, callbacks=[Watch()])
    kept: dict[str, list[Tensor | None]] = {
        "generator": [None for _ in trainer.discriminator.parameters()],
        "discriminator": [None for _ in trainer.generator.parameters()],
    }
    for batch in points.split(50):
        trainer.train_step(batch)
    assert changed == [False] * 8


def test_weights_frozen_by_the_user_stay_frozen(points):
    generator, discriminator = Generator(8, (2,)), Discriminator((2,))
    frozen = discriminator.layers[0][0].weight.requires_grad_(False)
    before = frozen.clone()
    trainer = GANTrainer(generator, discriminator, device="cpu")
    trainer.train_step(points[:8])
    assert torch.equal(frozen, before)
    assert frozen.grad is None
    assert [
        name
        for network in (generator, discriminator)
        for name, weight in network.named_parameters()
        if not weight.requires_grad
    ] == ["layers.0.0.weight"]


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_a_network_that_was_frozen_as_a_whole_is_refused_by_fit(points, make_trainer, name):
    trainer = make_trainer()
    getattr(trainer, name).requires_grad_(False)
    with pytest.raises(ValueError, match=f"`{name}` must have parameters to train"):
        trainer.fit(points, max_steps=1, batch_size=8)


def test_an_error_unfreezes_the_other_player(points, make_trainer):
    class Failing(HingeLoss):
        def generator(self, fake_logits, real_logits=None):
            idle.append(any(w.requires_grad for w in trainer.discriminator.parameters()))
            raise RuntimeError("no loss today")

    idle: list[bool] = []
    trainer = make_trainer(loss=Failing())
    with pytest.raises(RuntimeError, match="no loss today"):
        trainer.train_step(points[:8])
    assert idle == [False]
    assert all(weight.requires_grad for weight in trainer.discriminator.parameters())


def test_step_results_are_detached_tensors(points, make_trainer):
    result = make_trainer(penalties=[R1(1.0)]).train_step(points[:8])
    tensors = [*result.generator, *result.discriminator]
    assert [tensor.requires_grad for tensor in tensors] == [False] * 6
    assert [tuple(tensor.shape) for tensor in tensors] == [(), (8, 2), (), (), (8,), (8,)]
    real, fake = result.discriminator.real_logits, result.discriminator.fake_logits
    by_hand = (np.logaddexp(0, -real.numpy()).mean() + np.logaddexp(0, fake.numpy()).mean()) / 2
    assert float(result.discriminator.loss) == pytest.approx(by_hand, rel=1e-6)


def test_lazy_penalties_are_scaled_by_every(points, make_trainer):
    class Flat:
        every = 3

        def __call__(self, critic, real, fake):
            return critic(real).sum() * 0 + 0.5

    trainer = make_trainer(penalties=[Flat()])
    penalties = [trainer.train_step(points[:8]).discriminator.penalty for _ in range(5)]
    assert [None if p is None else float(p) for p in penalties] == [1.5, None, None, 1.5, None]


def test_copies_are_not_asynchronous_on_the_cpu(points, make_trainer, monkeypatch):
    asked, to = [], Tensor.to

    def record(self, *arguments, **options):
        asked.append(options.get("non_blocking", False))
        return to(self, *arguments, **options)

    trainer = make_trainer(num_classes=2)
    monkeypatch.setattr(Tensor, "to", record)
    trainer.train_step((points[:8], torch.arange(8) % 2))
    assert asked
    assert not any(asked)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"penalties": [R1(0.5), GradientPenalty(1.0)], "ema": True},
        {"loss": RelativisticLoss(), "discriminator_steps": 2},
        {"update_order": "discriminator_first", "loss": HingeLoss()},
        {"num_classes": 3},
    ],
    ids=str,
)
def test_a_step_does_not_synchronize_with_the_device(points, make_trainer, options):
    """On the meta device there are no values, so whatever asks for one is an error."""
    options = options | ({"ema": EMA(0.9)} if "ema" in options else {})
    trainer = make_trainer(
        device="meta", generator_optimizer=sgd(), discriminator_optimizer=sgd(), **options
    )
    for _ in range(5):
        result = trainer.train_step((points[:8], torch.arange(8) % 3))
    assert result.generator.loss.device.type == "meta"
    assert len(trainer.history) == 5
    with pytest.raises((RuntimeError, NotImplementedError), match=r"[Mm]eta"):
        _ = trainer.history.generator_loss


# -- losses, penalties, networks -------------------------------------------------------------------

LOSSES = [
    BCEAdversarialLoss(),
    BCEAdversarialLoss(generator_objective="minimax", real_label=0.9),
    HingeLoss(),
    LeastSquaresLoss(),
    WassersteinLoss(),
    RelativisticLoss(),
]


@ORDERS
@pytest.mark.parametrize("penalty", [None, R1(0.5, every=2), R2(0.5), GradientPenalty(1.0)])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_every_loss_updates_every_layer(points, make_trainer, loss, penalty, update_order):
    trainer = make_trainer(
        loss=loss,
        penalties=[penalty] if penalty else [],
        update_order=update_order,
        generator_optimizer=sgd(),
        discriminator_optimizer=sgd(),
    )
    before = {player.name: weights_of(player.network) for player in trainer.players}
    history = trainer.fit(points, max_steps=3, batch_size=20)
    assert all(math.isfinite(x) for x in history.discriminator_loss + history.generator_loss)
    for player in trainer.players:
        after = weights_of(player.network)
        # biases before a BatchNorm have no gradient, nor has the last one in a difference of logits
        matrices = [(a, b) for a, b in zip(before[player.name], after, strict=True) if a.dim() == 2]
        assert not any(torch.equal(a, b) for a, b in matrices)
        assert all(weight.isfinite().all() for weight in after)


def test_any_module_can_be_a_network(points):
    trainer = GANTrainer(
        nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2)),
        nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1)),
        latent_sampler=uniform_latents(5),
        device="cpu",
    )
    assert len(trainer.fit(points, max_epochs=1, batch_size=50)) == 4
    assert trainer.sample(7).shape == (7, 2)


def test_a_discriminator_may_return_probabilities(points):
    trainer = GANTrainer(
        Generator(8, (2,)),
        nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid()),
        loss=BCEAdversarialLoss(from_logits=False),
        device="cpu",
    )
    result = trainer.train_step(points[:8])
    assert (
        0
        < float(result.discriminator.real_logits.min())
        <= float(result.discriminator.real_logits.max())
        < 1
    )


def test_outputs_logits_overrides_the_last_module(points):
    gated = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    gated.outputs_logits = True
    GANTrainer(Generator(8, (2,)), gated, device="cpu").train_step(points[:8])
    functional = Judging()
    functional.outputs_logits = False
    functional.layer.register_forward_hook(lambda module, inputs, scores: torch.sigmoid(scores))
    loss = BCEAdversarialLoss(from_logits=False)
    GANTrainer(Generator(8, (2,)), functional, loss=loss, device="cpu").train_step(points[:8])


def test_sample_shape_may_be_a_list(points):
    discriminator = Judging()
    discriminator.sample_shape = [2]
    GANTrainer(Generator(8, (2,)), discriminator, device="cpu").train_step(points[:8])


def test_latents_are_drawn_with_the_seed_of_the_run(points):
    generator = Counting()
    trainer = GANTrainer(
        generator, Judging(), latent_sampler=normal_latents(3), seed=5, device="cpu"
    )
    trainer.fit(points, max_steps=2, batch_size=4)
    rng = torch.Generator().manual_seed(5)
    for latent in generator.latents:
        assert torch.equal(latent, torch.randn(4, 3, generator=rng))


class Conditional(nn.Module):
    """A foreign conditional network: the class is one more feature."""

    num_classes = 3

    def __init__(self, features: int, out: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features + 1, out)
        self.labels: list[Tensor | None] = []

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.training:
            self.labels.append(labels)
        y: Tensor = self.layer(torch.cat([x, labels[:, None].to(x.dtype)], dim=1))
        return y


def test_any_network_with_num_classes_gets_labels(points):
    generator, discriminator = Conditional(4, 2), Conditional(2, 1)
    generator.sample_shape = (2,)
    trainer = GANTrainer(generator, discriminator, latent_sampler=normal_latents(4), device="cpu")
    labels = torch.tensor([2, 0, 1, 1])
    trainer.train_step((points[:4], labels))
    assert [given.tolist() for given in generator.labels] == [[2, 0, 1, 1]]
    given = torch.cat(discriminator.labels)
    assert given.tolist() == [2, 0, 1, 1] * 3


def test_a_conditional_gan_learns_its_classes(make_trainer):
    labels = torch.arange(256) % 2
    data = (labels * 1.6 - 0.8)[:, None].repeat(1, 2) + 0.05 * torch.randn(256, 2)
    trainer = make_trainer(
        num_classes=2,
        penalties=[R1(0.1)],
        generator_optimizer=lambda weights: torch.optim.Adam(weights, lr=5e-3, betas=(0.5, 0.99)),
        discriminator_optimizer=lambda w: torch.optim.Adam(w, lr=5e-3, betas=(0.5, 0.99)),
    )
    trainer.fit(TensorDataset(data, labels), max_steps=300, batch_size=64)
    assert float(trainer.sample(200, labels=0, seed=0).mean()) == pytest.approx(-0.8, abs=0.3)
    assert float(trainer.sample(200, labels=1, seed=0).mean()) == pytest.approx(0.8, abs=0.3)


def test_unconditional_networks_get_no_labels(points, make_trainer):
    plain, labeled = make_trainer(), make_trainer()
    plain.fit(points, max_epochs=1)
    labeled.fit(TensorDataset(points, torch.arange(200)), max_epochs=1)
    assert equal(weights_of(plain.generator), weights_of(labeled.generator))


def test_a_converged_discriminator_is_the_optimal_one():
    """Proposition 1 of the paper, for N(-1, 1) as data and N(1, 0.7) as fakes."""

    class Fixed(nn.Module):
        latent_dim = 1

        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(torch.tensor(1.0))

        def forward(self, latent: Tensor) -> Tensor:
            return self.mean + 0.7 * latent

    rates = torch.logspace(-2, -4, 1200)
    discriminator = Discriminator((1,), hidden=(32, 32))
    trainer = GANTrainer(Fixed(), discriminator, device="cpu")
    for rate in rates.tolist():
        trainer.d.optimizer.param_groups[0]["lr"] = rate
        trainer.discriminator_step(Batch(torch.randn(512, 1) - 1))

    x = torch.linspace(-6, 6, 601)
    p_data = torch.exp(-((x + 1) ** 2) / 2) / math.sqrt(2 * math.pi)
    p_g = torch.exp(-(((x - 1) / 0.7) ** 2) / 2) / (0.7 * math.sqrt(2 * math.pi))
    matters = p_data + p_g > 0.02
    with torch.no_grad():
        d = discriminator.probability(x[:, None])
    assert float((d - p_data / (p_data + p_g))[matters].abs().max()) < 0.05


# -- subclasses ------------------------------------------------------------------------------------


def test_a_subclass_may_override_a_step(points):
    class Lazy(GANTrainer):
        """The generator is updated in every other step."""

        def generator_step(self, batch):
            if self.progress.step % 2 == 0:
                return super().generator_step(batch)
            rates = self.g.optimizer.param_groups
            before, rates[0]["lr"] = rates[0]["lr"], 0.0
            step = super().generator_step(batch)
            rates[0]["lr"] = before
            return step

    trainer = Lazy(Generator(8, (2,)), Discriminator((2,)), generator_optimizer=sgd(), device="cpu")
    updated = []
    for batch in points.split(50):
        before = weights_of(trainer.generator)
        trainer.train_step(batch)
        updated.append(not equal(weights_of(trainer.generator), before))
    assert updated == [True, False, True, False]


def test_a_subclass_may_unpack_its_own_batches(points):
    class FromDict(GANTrainer):
        def unpack_batch(self, batch):
            return Batch(batch["position"] / 10, None)

    seen: list[Tensor] = []

    class Watch(Callback):
        def on_step_start(self, trainer, batch):
            seen.append(batch.samples)

    trainer = FromDict(Generator(8, (2,)), Discriminator((2,)), device="cpu", callbacks=[Watch()])
    trainer.fit([{"position": part * 10} for part in points.split(50)], max_epochs=1)
    trainer.train_step({"position": points[:5] * 10})
    torch.testing.assert_close(torch.cat(seen), torch.cat([points, points[:5]]))


@pytest.mark.parametrize("k", [1, 2])
def test_unpack_batch_must_return_a_batch(points, k):
    class Forgetful(GANTrainer):
        def unpack_batch(self, batch):
            return batch["position"]

    trainer = Forgetful(Generator(8, (2,)), Discriminator((2,)), discriminator_steps=k)
    data = [{"position": part} for part in points.split(50)]
    with pytest.raises(TypeError, match="`unpack_batch` must be a function that returns a Batch"):
        trainer.fit(data, max_epochs=1)
    with pytest.raises(TypeError, match="`unpack_batch` must be a function that returns a Batch"):
        trainer.train_step(data[0])


def test_a_subclass_may_add_state_objects(points, tmp_path):
    class Temperature:
        value = 1.0

        def state_dict(self):
            return {"value": self.value}

        def load_state_dict(self, state):
            self.value = state["value"]

    class Heated(GANTrainer):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.temperature = Temperature()

        def state_objects(self):
            return super().state_objects() | {"temperature": self.temperature}

    trainer = Heated(Generator(8, (2,)), Discriminator((2,)), device="cpu")
    trainer.temperature.value = 0.25
    trainer.save(tmp_path / "run.pt")
    other = Heated(Generator(8, (2,)), Discriminator((2,)), device="cpu")
    other.load(tmp_path / "run.pt")
    assert other.temperature.value == 0.25


# -- precision and compilation ---------------------------------------------------------------------


def test_bf16_keeps_weights_losses_penalties_in_float32(points, make_trainer):
    trainer = make_trainer(precision="bf16", penalties=[R1(0.5)])
    dtypes = {"generator": [], "discriminator": []}
    for player in trainer.players:
        name = player.name
        player.network.layers[-1 if name == "discriminator" else -2].register_forward_hook(
            lambda module, inputs, output, name=name: dtypes[name].append(output.dtype)
        )
    result = trainer.train_step(points[:8])
    bf16, fp32 = torch.bfloat16, torch.float32
    assert dtypes == {"generator": [bf16], "discriminator": [bf16, bf16, fp32]}
    assert {t.dtype for step in result for t in step} == {fp32}
    assert {w.dtype for p in trainer.players for w in p.parameters} == {fp32}
    assert trainer.sample(3).dtype == fp32


def test_bf16_is_close_to_fp32(points, make_trainer):
    losses = {
        precision: make_trainer(precision=precision).fit(points, max_epochs=2).discriminator_loss
        for precision in ("fp32", "bf16")
    }
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.01)
    assert losses["bf16"] != losses["fp32"]


def test_float64_networks_train_in_float64_on_float32_data(points, make_trainer):
    torch.manual_seed(0)
    trainer = GANTrainer(
        Generator(8, (2,)).double(), Discriminator((2,)).double(), ema=EMA(0.9), device="cpu"
    )
    result = trainer.train_step(points)
    assert points.dtype == torch.float32
    assert {t.dtype for step in result for t in step if t is not None} == {torch.float64}
    assert trainer.sample(3).dtype == torch.float64


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_networks_train_like_eager_ones(points):
    def train(*, compile: bool) -> GANTrainer:
        torch.manual_seed(0)
        trainer = GANTrainer(
            Generator(4, (2,), hidden=(4,)),
            Discriminator((2,), hidden=(4,)),
            penalties=[R1(0.5)],
            compile=compile,
            device="cpu",
        )
        trainer.fit(points, max_steps=3, batch_size=50)
        return trainer

    eager, compiled = train(compile=False), train(compile=True)
    kinds = [type(player.forward).__name__ for player in compiled.players]
    assert kinds == ["OptimizedModule"] * 2
    assert compiled.history.generator_loss == pytest.approx(eager.history.generator_loss, rel=1e-4)
    assert list(compiled.generator.state_dict()) == list(eager.generator.state_dict())
    torch.testing.assert_close(
        weights_of(compiled.generator), weights_of(eager.generator), rtol=0, atol=1e-4
    )
    assert compiled.sample(3).shape == (3, 2)


# -- data ------------------------------------------------------------------------------------------


class Stream:
    """An iterable that doesn't tell its length."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.rows.split(50)


@pytest.mark.parametrize(
    "kind",
    [
        lambda rows: TensorDataset(rows),
        lambda rows: TensorDataset(rows, torch.zeros(200)),
        Rows,
        lambda rows: DataLoader(Rows(rows), batch_size=50, shuffle=True),
        lambda rows: DataLoader(TensorDataset(rows), batch_size=50, shuffle=True),
    ],
    ids=["TensorDataset", "with labels", "Dataset", "DataLoader", "DataLoader of tensors"],
)
def test_shuffled_data_of_any_kind_trains_alike(points, make_trainer, kind):
    by_tensor, by_kind = make_trainer(), make_trainer()
    by_tensor.fit(points, max_epochs=2, batch_size=50)
    by_kind.fit(kind(points), max_epochs=2, batch_size=50)
    assert equal(weights_of(by_kind.generator), weights_of(by_tensor.generator))
    assert equal(weights_of(by_kind.discriminator), weights_of(by_tensor.discriminator))


@pytest.mark.parametrize(
    "kind",
    [
        lambda rows: DataLoader(Rows(rows), batch_size=50),
        lambda rows: list(rows.split(50)),
        lambda rows: [[part] for part in rows.split(50)],
        lambda rows: [(part, torch.zeros(50)) for part in rows.split(50)],
        lambda rows: [{"samples": part} for part in rows.split(50)],
        lambda rows: [{"image": part, "label": torch.zeros(50)} for part in rows.split(50)],
        lambda rows: [Batch(part) for part in rows.split(50)],
        Stream,
    ],
    ids=[
        "DataLoader",
        "list of tensors",
        "list of lists",
        "list of pairs",
        "list of mappings",
        "list of mappings with labels",
        "list of batches",
        "iterable without a length",
    ],
)
def test_ordered_data_of_any_kind_is_read_in_order(points, make_trainer, kind):
    by_hand, by_kind = make_trainer(), make_trainer()
    for _ in range(2):
        for part in points.split(50):
            by_hand.train_step(part)
    by_kind.fit(kind(points), max_epochs=2)
    assert (by_kind.progress.epoch, by_kind.progress.step) == (2, 8)
    assert equal(weights_of(by_kind.generator), weights_of(by_hand.generator))


def test_byte_images_are_scaled_when_read():
    seen: list[Tensor] = []

    class Watch(Callback):
        def on_step_start(self, trainer, batch):
            seen.append(batch.samples)

    pixels = torch.arange(64, dtype=torch.uint8).view(16, 1, 2, 2) * 4
    trainer = GANTrainer(
        Generator(8, (1, 2, 2)), Discriminator((1, 2, 2)), device="cpu", callbacks=[Watch()]
    )
    trainer.fit(ByteImages(pixels), max_epochs=1, batch_size=8)
    read = torch.cat(seen).flatten().sort().values
    torch.testing.assert_close(read, torch.arange(0, 256, 4) / 127.5 - 1)


def test_an_iterator_lasts_one_epoch(points, make_trainer):
    trainer = make_trainer()
    with pytest.raises(ValueError, match=r"`data` must yield 1 or more batches .* in epoch 1"):
        trainer.fit(iter(points.split(50)), max_epochs=2)
    assert (trainer.progress.epoch, trainer.progress.step) == (1, 4)


def test_float16_data_of_a_large_sum_is_finite(make_trainer):
    data = torch.ones(70_000, 2, dtype=torch.float16)
    assert len(make_trainer().fit(data, max_steps=1)) == 1


@pytest.mark.parametrize("low", [-1.0, -0.1])
def test_samples_in_the_range_of_tanh_do_not_warn(points, make_trainer, low):
    make_trainer().train_step(points.clamp(min=low))


@pytest.mark.parametrize(
    ("scale", "reach"), [(2.0, r"\[-1\.9.*, 1\.9"), (255.0, r"\[-249\.8.*, 253\.3")]
)
def test_samples_outside_the_range_of_tanh_warn_once(points, make_trainer, scale, reach):
    trainer = make_trainer()
    with pytest.warns(UserWarning, match=f"the samples lie in {reach}.*Tanh only reaches") as seen:
        trainer.fit(points * scale, max_epochs=1, batch_size=50)
    assert len(seen) == 1


def test_a_linear_generator_takes_any_range(points):
    trainer = GANTrainer(Generator(8, (2,), output="linear"), Discriminator((2,)), device="cpu")
    trainer.train_step(points * 10)


# -- history and stopping --------------------------------------------------------------------------


def test_history_holds_the_losses_of_each_step(points, make_trainer):
    results = []

    class Keep(Callback):
        def on_step_end(self, trainer, result):
            results.append(result)

    trainer = make_trainer(hidden=(4,), callbacks=[Keep()])
    history = trainer.fit(points, max_steps=600, batch_size=8)
    assert history is trainer.history
    assert len(history) == 600
    assert history.discriminator_loss == [float(result.discriminator.loss) for result in results]
    assert history.generator_loss == [float(result.generator.loss) for result in results]


def test_history_can_be_read_at_any_time(points, make_trainer):
    trainer = make_trainer()
    assert trainer.history.generator_loss == []
    first = float(trainer.train_step(points[:8]).generator.loss)
    assert trainer.history.generator_loss == [first]
    second = float(trainer.train_step(points[:8]).generator.loss)
    assert trainer.history.generator_loss == [first, second]


def test_fit_continues_after_a_stop(points, make_trainer):
    class StopAt(Callback):
        def on_step_start(self, trainer, batch):
            if trainer.progress.step == 5:
                trainer.stop("enough")

    trainer, whole = make_trainer(callbacks=[StopAt()]), make_trainer()
    trainer.fit(points, max_epochs=3, batch_size=50)
    assert trainer.stop_reason == "enough"
    assert (trainer.progress.epoch, trainer.progress.step) == (1, 6)
    trainer.fit(points, max_epochs=3, batch_size=50)
    assert trainer.stop_reason is None
    whole.fit(points, max_epochs=3, batch_size=50)
    assert equal(weights_of(trainer.generator), weights_of(whole.generator))


def test_a_stop_before_the_first_step_prevents_it(points, make_trainer):
    class StopAtOnce(Callback):
        def on_fit_start(self, trainer):
            trainer.stop("not today")

    trainer = make_trainer(callbacks=[StopAtOnce()])
    trainer.fit(points, max_epochs=1)
    assert trainer.progress.step == 0


# -- sample ----------------------------------------------------------------------------------------


def test_sample_runs_the_generator_in_eval_mode(points, make_trainer):
    trainer = make_trainer()
    trainer.fit(points, max_epochs=1)
    latent = torch.randn(6, 8)
    samples = trainer.sample(6, latents=latent)
    assert not samples.requires_grad
    assert trainer.generator.training
    with torch.no_grad():
        assert torch.equal(trainer.generator.eval()(latent), samples)
        assert not torch.equal(trainer.generator.train()(latent), samples)


def test_sample_uses_the_ema_weights(points, make_trainer):
    trainer = make_trainer(ema=EMA(0.9))
    trainer.fit(points, max_epochs=3, batch_size=20)
    latent = torch.randn(6, 8)
    samples = trainer.sample(6, latents=latent)
    with torch.no_grad():
        assert torch.equal(samples, trainer.ema.network(latent))
        assert not torch.equal(samples, trainer.generator.eval()(latent))


def test_the_eval_generator_is_that_of_the_ema_if_there_is_one(make_trainer):
    trainer = make_trainer()
    assert trainer.eval_generator is trainer.generator
    averaged = make_trainer(ema=EMA(0.9))
    assert averaged.eval_generator is averaged.ema.network


class Clipped(GANTrainer):
    """Generates numbers in [-0.01, 0.01]."""

    def run_generator(
        self, generator: Callable[..., Tensor], latents: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        return super().run_generator(generator, latents, labels).clamp(-0.01, 0.01)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_training_and_sample_generate_the_same(points, ema):
    trainer = Clipped(
        Generator(8, (2,)), Discriminator((2,)), ema=None if ema is None else EMA(ema), device="cpu"
    )
    trainer.fit(points, max_steps=1)
    for fakes in (trainer.generate(Batch(points)), trainer.sample(200, seed=0)):
        assert fakes.abs().max().item() == pytest.approx(0.01)


@pytest.mark.parametrize("method", ["sample", "save", "load", "load_weights"])
def test_other_threads_are_refused_while_fit_runs(points, make_trainer, tmp_path, method):
    class InThread(Callback):
        def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
            argument = 2 if method == "sample" else tmp_path / "run.pt"
            refused = pytest.raises(RuntimeError, match=f"`{method}` must not be called while")
            with ThreadPoolExecutor() as pool, refused:
                pool.submit(getattr(trainer, method), argument).result()
            trainer.save(tmp_path / "run.pt")  # in the thread that trains

    trainer = make_trainer(callbacks=[InThread()])
    trainer.fit(points, max_steps=2)
    with ThreadPoolExecutor() as pool:
        assert len(pool.submit(trainer.sample, 2).result()) == 2


@pytest.mark.parametrize("hook", ["on_fit_start", "on_step_start", "on_step_end", "on_epoch_end"])
def test_fit_and_load_in_a_hook_are_refused(points, make_trainer, tmp_path, hook):
    def enter(self: Callback, trainer: GANTrainer, *arguments: Any) -> None:
        for method in (lambda: trainer.fit(points, max_steps=9), lambda: trainer.load(path)):
            with pytest.raises(RuntimeError, match="` must not be called in a hook of `fit`"):
                method()

    path = tmp_path / "run.pt"
    trainer = make_trainer(callbacks=[type("Enter", (Callback,), {hook: enter})()])
    plain = make_trainer()
    for one in (trainer, plain):
        one.save(path)
        one.fit(points, max_epochs=1, batch_size=100)
    assert trainer.progress.step == 2
    pairs = zip(trainer.g.parameters, plain.g.parameters, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    trainer.load(path)
    assert trainer.progress.step == 0


def test_weights_may_be_loaded_in_a_hook(points, make_trainer, tmp_path):
    class Back(Callback):
        def on_fit_end(self, trainer: GANTrainer) -> None:
            trainer.load_weights(tmp_path / "run.pt")

    trainer = make_trainer(callbacks=[Back()])
    trainer.save(tmp_path / "run.pt")
    before = [weight.clone() for weight in trainer.generator.parameters()]
    trainer.fit(points, max_steps=2)
    pairs = zip(before, trainer.generator.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_diverged_run_is_saved_with_a_warning(points, make_trainer, tmp_path):
    trainer = make_trainer()
    trainer.fit(points, max_steps=1)
    trainer.generator.layers[1][1].running_var[0] = math.inf
    message = "saving a run that has diverged: the generator's buffer layers.1.1.running_var is inf"
    with pytest.warns(UserWarning, match=message):
        trainer.save(tmp_path / "run.pt")
    trainer.load(tmp_path / "run.pt")


def test_sample_restores_the_mode_of_each_module(make_trainer):
    trainer = make_trainer()
    trainer.generator.layers[1].eval()
    before = modes_of(trainer.generator)
    trainer.sample(4)
    assert modes_of(trainer.generator) == before
    assert set(before.values()) == {True, False}


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("averaged", [False, True])
def test_sample_does_not_change_the_run(points, make_trainer, averaged, seed):
    def options() -> dict[str, Any]:
        return {"ema": EMA(0.9)} if averaged else {}

    class Sampling(Callback):
        def on_step_end(self, trainer, result):
            trainer.sample(3, seed=seed)

    plain = make_trainer(**options())
    sampling = make_trainer(callbacks=[Sampling()], **options())
    outcomes = []
    for trainer in (plain, sampling):
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        trainer.fit(points, max_epochs=2, batch_size=50)
        state = trainer.state_objects()["run_rng"].state_dict()["latents"]
        draws = (torch.rand(()).item(), np.random.rand(), random.random())
        outcomes.append((weights_of(trainer.generator), state, draws))
    (weights, state, draws), (other_weights, other_state, other_draws) = outcomes
    assert equal(weights, other_weights)
    assert torch.equal(state, other_state)
    assert draws == other_draws


def test_a_seed_makes_samples_repeatable(make_trainer):
    trainer = make_trainer()
    first, again, other = (trainer.sample(4, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(trainer.sample(4), trainer.sample(4))


@pytest.mark.parametrize(
    ("given", "classes"),
    [
        (2, [2, 2, 2]),
        ([0, 1, 2], [0, 1, 2]),
        (torch.tensor([2, 0, 1]), [2, 0, 1]),
        (torch.tensor(1), [1, 1, 1]),
        (np.array([1, 2, 0]), [1, 2, 0]),
        (range(3), [0, 1, 2]),
    ],
    ids=repr,
)
def test_labels_are_one_class_or_one_per_sample(make_trainer, given, classes):
    trainer = make_trainer(num_classes=3)
    latent = torch.randn(3, 8)
    samples = trainer.sample(3, labels=given, latents=latent)
    one_hot = torch.eye(3)[classes]
    with torch.no_grad():
        by_hand = trainer.generator.eval().layers(torch.cat([latent, one_hot], dim=1))
    torch.testing.assert_close(samples, by_hand)


def test_samples_are_drawn_in_chunks(make_trainer):
    trainer = make_trainer()
    latent = torch.randn(2500, 8)
    samples = trainer.sample(2500, latents=latent)
    assert samples.shape == (2500, 2)
    with torch.no_grad():
        by_hand = trainer.generator.eval()(latent)
    torch.testing.assert_close(samples, by_hand)


def test_drawn_samples_are_of_normal_noise(make_trainer):
    trainer = make_trainer()
    latent = torch.randn(1200, 8, generator=torch.Generator().manual_seed(11))
    assert torch.equal(trainer.sample(1200, seed=11), trainer.sample(1200, latents=latent))


class TwiceAsLong:
    """Batches whose number is twice what `len` says."""

    def __init__(self, batches: tuple[Tensor, ...]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        return iter([*self.batches, *self.batches])


def test_fit_ends_at_max_steps_if_the_data_is_longer(points, make_trainer):
    trainer = make_trainer()
    trainer.fit(TwiceAsLong(points.split(50)), max_steps=4)
    assert trainer.progress.step == 4


def test_a_wrong_length_of_the_data_is_forgotten(points, make_trainer):
    factors = []

    class Keep(Callback):
        def on_step_end(self, trainer, result):
            factors.append(trainer.g.optimizer.param_groups[0]["lr"] / 2e-4)

    trainer = make_trainer(lr_schedule=linear_decay(0.0), callbacks=[Keep()])
    trainer.fit(TwiceAsLong(points.split(50)), max_epochs=4)
    assert trainer.progress.steps_per_epoch is None
    assert factors[8:] == pytest.approx([0.75] * 8 + [0.5] * 8 + [0.25] * 8)


def test_a_schedule_warns_in_a_loop_after_fit(points, make_trainer):
    trainer = make_trainer(lr_schedule=linear_decay(0.0))
    trainer.fit(points, max_steps=2)
    with pytest.warns(UserWarning, match="`lr_schedule` has no effect in a loop of your own"):
        trainer.train_step(points[:8])


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("generator", nn.Linear(8, 2), "create a new trainer for it, or load weights into it"),
        ("discriminator", nn.Linear(2, 1), "create a new trainer for it, or load weights"),
        ("callbacks", [], "pass `callbacks` to a new trainer"),
    ],
)
def test_parts_that_would_have_no_effect_cannot_be_replaced(make_trainer, name, value, remedy):
    trainer = make_trainer()
    before = getattr(trainer, name)
    with pytest.raises(AttributeError, match=f"`{name}` of a GANTrainer can't be .*: {remedy}"):
        setattr(trainer, name, value)
    assert getattr(trainer, name) is before


class InPlace(nn.Module):
    """A network that changes its input."""

    def __init__(self, *, outputs: int = 1) -> None:
        super().__init__()
        self.layer = nn.Linear(2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.mul_(0.5))


class OutOfPlace(InPlace):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * 0.5)


@pytest.mark.parametrize("order", ["generator_first", "discriminator_first"])
def test_networks_may_work_in_place(points, order):
    weights = []
    for kind in (InPlace, OutOfPlace):
        torch.manual_seed(0)
        generator, discriminator = kind(outputs=2), kind()
        trainer = GANTrainer(
            generator,
            discriminator,
            loss=RelativisticLoss(),
            penalties=[R1(0.5), GradientPenalty(1.0)],
            update_order=order,
            latent_sampler=lambda n, rng: torch.randn(n, 2, generator=rng),
            device="cpu",
        )
        data = list(points.clone().split(20))
        trainer.fit(data, max_epochs=2)
        assert torch.equal(torch.cat(data), points)
        latents = torch.ones(3, 2)
        trainer.sample(3, latents=latents)
        assert torch.equal(latents, torch.ones(3, 2))
        weights.append([*trainer.g.parameters, *trainer.d.parameters])
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True))


# -- what a notebook does --------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda x: x, TensorDataset, Rows, lambda x: [x[:50], x[50:]]])
def test_a_default_device_does_not_move_latents_or_orders(points, make_trainer, wrap, tmp_path):
    def run() -> list[Any]:
        trainer.fit(data, max_epochs=2, batch_size=50)
        trainer.save(tmp_path / "run.pt")
        trainer.load(tmp_path / "run.pt")
        generator = load_generator(tmp_path / "run.pt")
        return [
            *weights_of(trainer.generator),
            trainer.sample(3, seed=1),
            generator.sample(2, seed=0),
        ]

    options = {"latent_sampler": lambda n, rng: torch.randn(n, 8, generator=rng)}
    data = wrap(points)
    trainer = make_trainer(**options)
    expected = run()
    trainer = make_trainer(**options)
    with torch.device("meta"):  # as `torch.set_default_device` does; stands in for a GPU
        got = run()
    assert equal(got, expected)


def test_samplers_of_latents_draw_on_the_generator_s_device():
    rng = torch.Generator()
    with torch.device("meta"):
        devices = [make(4)(3, rng).device.type for make in (normal_latents, uniform_latents)]
    assert devices == ["cpu", "cpu"]


@pytest.mark.parametrize("batched", [False, True])
def test_data_with_a_graph_is_detached(points, make_trainer, batched):
    encoder = nn.Linear(2, 2)
    features = encoder(points).tanh()
    trainer = make_trainer()
    trainer.fit([features] if batched else features, max_epochs=2)
    trainer.train_step(features)
    assert encoder.weight.grad is None


@pytest.mark.parametrize(
    "callbacks", [[], [NaNGuard(), GradientClip(1.0), HealthMonitor(), StopOnSignal()]]
)
def test_a_trainer_is_freed_at_once(points, make_trainer, callbacks):
    class Hooked(GANTrainer):
        def on_step_end(self, result: Any) -> None:
            pass

    trainer = Hooked(
        Generator(4, (2,)),
        Discriminator((2,)),
        penalties=[R1(0.5)],
        ema=EMA(),
        callbacks=callbacks,
    )
    trainer.fit(points, max_epochs=1)
    weight = weakref.ref(next(trainer.generator.parameters()))
    gc.collect()
    gc.disable()
    try:
        del trainer
        assert weight() is None
    finally:
        gc.enable()


def test_reprs_tell_what_there_is(points):
    trainer = GANTrainer(
        Generator(4, (2,)),
        Discriminator((2,)),
        loss=HingeLoss(),
        ema=EMA(0.9),
        callbacks=[NaNGuard()],
        device="cpu",
    )
    trainer.fit(points, max_epochs=1)
    assert repr(trainer) == (
        "GANTrainer(Generator, Discriminator, HingeLoss(), cpu: 4 steps, 1 epochs)"
    )
    assert repr(trainer.ema) == "EMA(0.9: 4 updates)"
    assert repr(trainer.callbacks) == "CallbackList(NaNGuard#1)"
    assert repr(trainer.d) == "Player(discriminator: Discriminator, Adam, 133,121 parameters)"
    images = torch.zeros(2, 1, 3, 4, dtype=torch.uint8)
    assert repr(ByteImages(images)) == "ByteImages(2 images of shape (1, 3, 4))"
    labeled = ByteImages(images, torch.zeros(2, dtype=torch.int64))
    assert repr(labeled) == "ByteImages(2 images of shape (1, 3, 4), with labels)"
