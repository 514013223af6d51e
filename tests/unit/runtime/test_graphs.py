"""CUDA graphs of training steps, emulated on the CPU; tests/gpu has those of real graphs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.helpers.graphs import (
    CONFIGURATIONS,
    IMAGES,
    PLAIN,
    RATE,
    EmulatedGraphs,
    Stopped,
    fit,
    in_sixteenths,
    make,
    mlps,
    sgd,
    state,
    tapes,
)
from tests.helpers.processes import environment
from tests.helpers.states import differences
from vanillagan import (
    EMA,
    R1,
    Callback,
    GANTrainer,
    Generator,
    adam,
    linear_decay,
    recipes,
)
from vanillagan.callbacks import CSVLog, MetricLog, NaNGuard, SampleGrid
from vanillagan.errors import CheckpointError
from vanillagan.runtime import graphs


@pytest.fixture(autouse=True)
def emulated(monkeypatch):
    monkeypatch.setattr(graphs, "CUDAGraphs", EmulatedGraphs)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_replayed_steps_equal_ordinary_ones_bit_for_bit(name):
    expected, data = make(name, cuda_graphs=False)
    fit(expected, data)
    trainer, data = make(name, cuda_graphs=True)
    fit(trainer, data)
    assert differences(state(trainer), state(expected)) == []
    assert tapes(trainer) == CONFIGURATIONS[name][3]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_resumed_run_equals_an_uninterrupted_one(name, tmp_path):
    expected, data = make(name, cuda_graphs=True)
    fit(expected, data)
    first, data = make(name, cuda_graphs=True, cls=Stopped)
    fit(first, data)
    assert first.progress.step == 23
    first.save(tmp_path / "a.pt")
    resumed, data = make(name, cuda_graphs=True)
    resumed.load(tmp_path / "a.pt")
    fit(resumed, data)
    assert differences(state(resumed), state(expected)) == []


def run_both(cls=GANTrainer, steps=40, callbacks=list, **options):
    """Train an ordinary trainer and one with graphs; return both."""
    optimizers = {f"{name}_optimizer": adam(RATE) for name in ("generator", "discriminator")}
    trainers = []
    for cuda_graphs in (False, True):
        torch.manual_seed(3)
        made = optimizers | options | {"callbacks": callbacks(), "cuda_graphs": cuda_graphs}
        trainers.append(cls(*mlps(), device="cpu", **made))
        torch.manual_seed(8)
        fit(trainers[-1], IMAGES, steps)
    return trainers


def test_the_stable_recipe_trains_alike():
    states = []
    for cuda_graphs in (False, True):
        torch.manual_seed(3)
        trainer = GANTrainer(*mlps(), **recipes.stable(), device="cpu", cuda_graphs=cuda_graphs)
        fit(trainer, IMAGES, 60)
        states.append(trainer.ema.network.state_dict())
    # its rates are no numbers of float32
    torch.testing.assert_close(states[1], states[0], rtol=1e-4, atol=1e-5)


def test_learning_rates_change_without_another_recording():
    _, trainer = run_both(lr_schedule=linear_decay(0.0), steps=64)
    assert tapes(trainer) == PLAIN
    assert trainer._graphs._graphs.count == 2


def test_callbacks_and_checkpoints_have_learning_rates_as_numbers(tmp_path):
    class Rates(Callback):
        def __init__(self):
            self.seen = []

        def on_before_optimizer_step(self, trainer, player):
            self.seen.append(player.optimizer.param_groups[0]["lr"])

        def on_step_end(self, trainer, result):
            self.seen.append(trainer.g.optimizer.param_groups[0]["lr"])

    ordinary, trainer = run_both(
        lr_schedule=in_sixteenths,
        callbacks=lambda: [Rates(), CSVLog(tmp_path / "log.csv", every_n_steps=1)],
    )
    assert trainer.callbacks[0].seen == ordinary.callbacks[0].seen
    assert {type(rate) for rate in trainer.callbacks[0].seen} == {float}
    assert f"{RATE * 0.75:g}"[:6] in (tmp_path / "log.csv").read_text()
    assert "capturable" in trainer.g.optimizer.param_groups[0]
    trainer.save(tmp_path / "a.pt")
    ordinary.load(tmp_path / "a.pt")


def test_subclasses_are_recorded_with_their_own_steps():
    class Own(GANTrainer):
        """Two updates in a step, and an `update` that scales gradients."""

        calls = 0

        def discriminator_step(self, batch, fake=None):
            super().discriminator_step(batch, fake)
            return super().discriminator_step(batch)

        def update(self, player, loss):
            super().update(player, loss * 2)

        def on_before_optimizer_step(self, player):
            self.calls += 1
            for weight in player.parameters:
                weight.grad.mul_(1 + self.calls % 3)

    ordinary, trainer = run_both(Own)
    assert differences(state(trainer), state(ordinary)) == []
    assert trainer.calls == ordinary.calls == 120
    assert tapes(trainer) == [(4, 4), (16, 4)]


def test_gradients_are_those_of_the_step_also_after_a_partial_batch():
    class Norms(Callback):
        def __init__(self):
            self.seen = []

        def on_step_end(self, trainer, result):
            weights = [*trainer.g.parameters, *trainer.d.parameters]
            self.seen.append([weight.grad.sum().item() for weight in weights])

    ordinary, trainer = run_both(callbacks=lambda: [Norms()])
    assert trainer.callbacks[0].seen == ordinary.callbacks[0].seen


def test_hooks_may_replace_gradients_and_change_the_rate_of_their_step():
    class Replace(Callback):
        calls = 0

        def on_before_optimizer_step(self, trainer, player):
            self.calls += 1
            player.optimizer.param_groups[0]["lr"] = RATE * (1 + self.calls % 4)
            for weight in player.parameters:
                weight.grad = weight.grad * (self.calls % 3)

    ordinary, trainer = run_both(callbacks=lambda: [Replace()])
    assert differences(state(trainer), state(ordinary)) == []


def test_hooks_that_remove_gradients_are_an_error():
    class Remove(Callback):
        def on_before_optimizer_step(self, trainer, player):
            player.parameters[0].grad = None

    trainer = GANTrainer(*mlps(), device="cpu", cuda_graphs=True, callbacks=[Remove()])
    with pytest.raises(RuntimeError, match="must not add or remove gradients"):
        fit(trainer, IMAGES)


def test_parameters_may_be_unfrozen_between_steps():
    class Unfreeze(Callback):
        def on_step_start(self, trainer, batch):
            for weight in trainer.discriminator.layers[0].parameters():
                weight.requires_grad_(trainer.progress.step >= 10)

    ordinary, trainer = run_both(callbacks=lambda: [Unfreeze()])
    assert differences(state(trainer), state(ordinary)) == []


def test_results_stay_as_they_are_and_losses_keep_no_samples_alive():
    torch.manual_seed(3)
    trainer = GANTrainer(*mlps(), device="cpu", cuda_graphs=True)
    results = [trainer.train_step(batch) for batch in IMAGES[:96].split(16)]
    fakes = [result.generator.fake.clone() for result in results]
    trainer.train_step(IMAGES[:16])
    for result, fake in zip(results, fakes, strict=True):
        assert torch.equal(result.generator.fake, fake)
        assert result.generator.fake.shape == (16, 1, 6, 6)
    assert results[-1].generator.loss.untyped_storage().nbytes() < 100


def test_samples_grids_and_guards_between_steps_change_nothing(tmp_path):
    ordinary, trainer = run_both(
        penalties=[R1(1.0, every=2)],
        callbacks=lambda: [
            SampleGrid(tmp_path, every_n_steps=5),
            NaNGuard(every_n_steps=3),
            MetricLog({"mean": lambda x: x.mean()}, num_samples=8, every_n_steps=4),
        ],
    )
    assert differences(state(trainer), state(ordinary)) == []
    assert torch.equal(trainer.sample(3, seed=1), ordinary.sample(3, seed=1))


@pytest.mark.parametrize("inplace", [False, True])
def test_networks_of_the_user_are_recorded(inplace):
    def networks():
        discriminator = torch.nn.Sequential(
            torch.nn.LeakyReLU(0.1, inplace), torch.nn.Flatten(), torch.nn.Linear(36, 1)
        )
        return Generator(8, (1, 6, 6), hidden=(16,)), discriminator

    weights = []
    for cuda_graphs in (False, True):
        torch.manual_seed(3)
        optimizers = {f"{name}_optimizer": adam(RATE) for name in ("generator", "discriminator")}
        trainer = GANTrainer(*networks(), **optimizers, device="cpu", cuda_graphs=cuda_graphs)
        fit(trainer, IMAGES)
        weights.append(trainer.discriminator.state_dict())
    assert differences(*weights) == []


def test_each_fit_and_load_record_anew(tmp_path):
    _, trainer = run_both()
    trainer.save(tmp_path / "a.pt")
    for forget in (
        lambda: trainer.load(tmp_path / "a.pt"),
        lambda: trainer.fit(IMAGES, max_steps=trainer.progress.step + 1, batch_size=16),
    ):
        fit(trainer, IMAGES, trainer.progress.step + 6)
        assert tapes(trainer) != []
        forget()
        assert tapes(trainer) == []


def test_steps_after_a_failed_load_equal_those_without_it(tmp_path):
    class Broken(Callback):
        def state_dict(self):
            return {"broken": 1}

        def load_state_dict(self, state):
            raise ValueError("of the user")

    ordinary, trainer = run_both(callbacks=lambda: [Broken()])
    trainer.save(tmp_path / "a.pt")
    for each in (ordinary, trainer):
        torch.manual_seed(1)  # dropout
        for batch in IMAGES[:96].split(16):
            each.train_step(batch)
        with pytest.raises(CheckpointError, match="of the user"):
            each.load(tmp_path / "a.pt")
        for batch in IMAGES[:96].split(16):
            each.train_step(batch)
    assert differences(state(trainer), state(ordinary)) == []


def test_other_devices_are_refused_and_nothing_has_changed(monkeypatch):
    monkeypatch.undo()
    ema = EMA()
    with pytest.raises(ValueError, match="`cuda_graphs` must be False for `device='cpu'`"):
        GANTrainer(*mlps(), device="cpu", ema=ema, cuda_graphs=True)
    GANTrainer(*mlps(), device="cpu", ema=ema)


def test_an_error_of_the_recording_names_the_line_and_changes_nothing():
    class Reading(GANTrainer):
        calls = 0

        def generator_step(self, batch):
            self.calls += 1
            if self.calls > 3:
                raise RuntimeError("operation not permitted when stream is capturing")
            return super().generator_step(batch)

    torch.manual_seed(3)
    trainer = Reading(*mlps(), device="cpu", cuda_graphs=True, penalties=[R1(1.0)])
    for _ in range(3):
        trainer.train_step(IMAGES[:16])
    before = state(trainer)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"test_graphs\.py:\d+, `raise Run.* not permitted"):
            trainer.train_step(IMAGES[:16])
    assert differences(state(trainer), before) == []


def test_other_errors_of_a_step_stay_as_they_are():
    class Refusing(GANTrainer):
        calls = 0

        def generator_step(self, batch):
            self.calls += 1
            if self.calls > 3:
                raise ValueError("of the user")
            return super().generator_step(batch)

    trainer = Refusing(*mlps(), device="cpu", cuda_graphs=True)
    with pytest.raises(ValueError, match="of the user"):
        fit(trainer, IMAGES)
    assert type(trainer.g.optimizer.param_groups[0]["lr"]) is float


def test_an_optimizer_that_counts_steps_on_the_host_is_an_error():
    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            for weight in self.param_groups[0]["params"]:
                self.state[weight]["step"] = self.state[weight].get("step", 0) + 1
            return super().step(closure)

    trainer = GANTrainer(
        *mlps(),
        generator_optimizer=lambda weights: Counting(weights, lr=0.1),
        device="cpu",
        cuda_graphs=True,
    )
    with pytest.raises(RuntimeError, match=r"Counting can't be recorded .* counts its steps"):
        fit(trainer, IMAGES)
    assert trainer.progress.step == 3


def test_steps_that_are_never_alike_raise_one_warning(monkeypatch):
    monkeypatch.setattr(graphs, "MAX_UNRECORDED_STEPS", 10)
    trainer = GANTrainer(
        *mlps(),
        generator_optimizer=sgd,
        lr_schedule=linear_decay(0.0),
        device="cpu",
        cuda_graphs=True,
    )
    with pytest.warns(UserWarning, match="`cuda_graphs=True` has no effect: 10 steps") as seen:
        trainer.fit(IMAGES, max_steps=40, batch_size=16)
    assert len(seen) == 1
    assert 0 < len(trainer._graphs._steps) <= graphs.MAX_KINDS
    assert tapes(trainer) == []


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available(), reason="needs torch.distributed")
def test_gradients_are_averaged_between_graphs(tmp_path):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__]
    subprocess.run([sys.executable, *command, tmp_path], env=environment(), check=True, timeout=200)
    for rank in range(2):
        ordinary, replayed, found = torch.load(tmp_path / f"{rank}.pt")
        assert differences(replayed, ordinary) == []
        assert found == [(2, 3), (8, 3)]


def train_on_a_rank(folder):
    graphs.CUDAGraphs = EmulatedGraphs
    ordinary, replayed = run_both()
    weights = [trainer.discriminator.state_dict() for trainer in (ordinary, replayed)]
    torch.save([*weights, tapes(replayed)], Path(folder) / f"{dist.get_rank()}.pt")


if __name__ == "__main__":
    train_on_a_rank(sys.argv[1])
