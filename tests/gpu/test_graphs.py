"""CUDA graphs of training steps, on a real device."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from contextlib import contextmanager

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.helpers.graphs import (
    CONFIGURATIONS,
    IMAGES,
    PLAIN,
    Stopped,
    fit,
    make,
    mlps,
    state,
    tapes,
)
from tests.helpers.processes import environment
from tests.helpers.states import differences
from vanillagan import Batch, GANTrainer, linear_decay, recipes
from vanillagan.callbacks import LRSchedule

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)


@contextmanager
def no_synchronization():
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_replayed_steps_equal_ordinary_ones_bit_for_bit(name):
    expected, data = make(name, cuda_graphs=False, device="cuda")
    fit(expected, data)
    trainer, data = make(name, cuda_graphs=True, device="cuda")
    fit(trainer, data)
    assert differences(state(trainer), state(expected)) == []
    assert tapes(trainer) == CONFIGURATIONS[name][3]


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_resumed_run_equals_an_uninterrupted_one(name, cuda_graphs, tmp_path):
    expected, data = make(name, cuda_graphs=cuda_graphs, device="cuda")
    fit(expected, data)
    first, data = make(name, cuda_graphs=cuda_graphs, cls=Stopped, device="cuda")
    fit(first, data)
    first.save(tmp_path / "a.pt")
    resumed, data = make(name, cuda_graphs=cuda_graphs, device="cuda")
    resumed.load(tmp_path / "a.pt")
    fit(resumed, data)
    assert differences(state(resumed), state(expected)) == []


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("place", ["cpu", "cuda"])
@pytest.mark.parametrize("name", ["plain", "EMA, lazy penalties", "labels", "accumulate"])
def test_a_hundred_steps_do_not_synchronize(name, place, cuda_graphs):
    trainer, data = make(name, cuda_graphs=cuda_graphs, device="cuda")
    tensors = data.tensors if name == "labels" else (data,)
    parts = [tensor[:96].to(place).split(16) for tensor in tensors]
    batches = [Batch(*rows) for rows in zip(*parts, strict=True)]
    for batch in batches * 8:  # until each kind of step has been recorded
        trainer.train_step(batch)
    with no_synchronization():
        for index in range(100):
            trainer.train_step(batches[index % 6])
    assert len(trainer.history) == 148


def test_a_second_fit_records_anew():
    trainer = GANTrainer(*mlps(), device="cuda", cuda_graphs=True)
    for steps in (20, 40, 60):
        fit(trainer, IMAGES, steps)
        assert tapes(trainer) != []


def test_networks_that_keep_a_graph_of_autograd_are_recorded():
    layer = torch.nn.utils.spectral_norm(torch.nn.Linear(36, 1))
    networks = mlps()[0], torch.nn.Sequential(torch.nn.Flatten(), layer)
    trainer = GANTrainer(*networks, device="cuda", cuda_graphs=True)
    fit(trainer, IMAGES)
    assert tapes(trainer) == PLAIN


def test_replays_take_no_further_memory():
    trainer = GANTrainer(*mlps(), device="cuda", cuda_graphs=True)
    batch = IMAGES[:16].cuda()
    used = []
    for _ in range(4):
        for _ in range(10):
            trainer.train_step(batch)
        _ = trainer.history.generator_loss
        torch.cuda.synchronize()
        used.append(torch.cuda.memory_allocated())
    assert used[1] == used[2] == used[3]


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "NAdam", "RMSprop", "SGD"])
@pytest.mark.parametrize("fused", [False, True])
def test_optimizers_of_pytorch_train_alike(optimizer, fused):
    def create(weights):
        options = {"fused": True} if fused else {}
        return getattr(torch.optim, optimizer)(weights, lr=2**-10, **options)

    if fused and optimizer in ("NAdam", "RMSprop"):
        pytest.skip("has no fused form")
    weights = []
    for cuda_graphs in (False, True):
        torch.manual_seed(3)
        options = {"generator_optimizer": create, "discriminator_optimizer": create}
        trainer = GANTrainer(*mlps(), **options, device="cuda", cuda_graphs=cuda_graphs)
        torch.manual_seed(8)
        fit(trainer, IMAGES)
        weights.append(trainer.generator.state_dict())
        assert not cuda_graphs or tapes(trainer) == PLAIN
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-4)


def test_an_optimizer_that_counts_on_the_host_is_an_error():
    def create(weights):
        return torch.optim.Adagrad(weights, lr=0.01)

    trainer = GANTrainer(*mlps(), generator_optimizer=create, device="cuda", cuda_graphs=True)
    with pytest.raises(RuntimeError, match="counts its steps on the host"):
        fit(trainer, IMAGES)


@pytest.mark.parametrize("options", [recipes.stable, recipes.dcgan, recipes.r3gan])
def test_recipes_train_alike(options):
    weights = []
    for cuda_graphs in (False, True):
        torch.manual_seed(3)
        trainer = GANTrainer(*mlps(), **options(), device="cuda", cuda_graphs=cuda_graphs)
        torch.manual_seed(8)
        fit(trainer, IMAGES, 60)
        weights.append(trainer.ema.network.state_dict())
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-4)


def test_schedules_change_rates_without_another_recording():
    for options in (
        {"lr_schedule": linear_decay(0.0)},
        {
            "callbacks": [
                LRSchedule(
                    lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40), interval="step"
                )
            ]
        },
    ):
        trainer = GANTrainer(*mlps(), device="cuda", cuda_graphs=True, **options)
        fit(trainer, IMAGES)
        assert tapes(trainer) == PLAIN


def test_a_loader_may_pin_memory_while_steps_are_recorded():
    loader = DataLoader(TensorDataset(IMAGES), batch_size=16, pin_memory=True, num_workers=1)
    trainer = GANTrainer(*mlps(), device="cuda", cuda_graphs=True)
    trainer.fit(loader, max_steps=40)
    assert tapes(trainer) == PLAIN


@pytest.mark.slow
def test_compiled_networks_are_recorded():
    weights = []
    for cuda_graphs in (False, True):
        torch.manual_seed(3)
        trainer = GANTrainer(*mlps(), compile=True, device="cuda", cuda_graphs=cuda_graphs)
        torch.manual_seed(8)
        fit(trainer, IMAGES)
        weights.append(trainer.generator.state_dict())
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-4)


def test_checkpoints_go_from_the_device_to_the_cpu_and_back(tmp_path):
    first = GANTrainer(*mlps(), device="cuda", cuda_graphs=True)
    fit(first, IMAGES, 10)
    first.save(tmp_path / "a.pt")
    second = GANTrainer(*mlps(), device="cpu")
    second.load(tmp_path / "a.pt")
    fit(second, IMAGES, 12)
    second.save(tmp_path / "b.pt")
    third = GANTrainer(*mlps(), device="cuda", cuda_graphs=True)
    third.load(tmp_path / "b.pt")
    fit(third, IMAGES, 30)
    assert third.progress.step == 30
    assert third.sample(3).device.type == "cuda"


SCRIPT = """
import numpy as np
import torch
from vanillagan import Discriminator, GANTrainer, Generator

class Reading(GANTrainer):
    def discriminator_step(self, batch, fake=None):
        step = super().discriminator_step(batch, fake)
        step.loss.item()  # this line
        return step

def from_numpy(n, rng):
    return torch.from_numpy(np.random.randn(n, 8)).float()

networks = Generator(8, (2,)), Discriminator((2,))
trainer = {trainer}
try:
    trainer.fit(torch.rand(64, 2) * 2 - 1, max_steps=9, batch_size=16)
except RuntimeError as error:
    print(trainer.progress.step, error)
"""


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ("Reading(*networks, device='cuda', cuda_graphs=True)", "step.loss.item()  # this line"),
        (
            "GANTrainer(*networks, device='cuda', cuda_graphs=True, latent_sampler=from_numpy)",
            "`latent_sampler` must draw on the device of its generator",
        ),
    ],
)
def test_steps_that_cannot_be_recorded_are_errors_that_name_the_cause(tmp_path, trainer, message):
    # in a process of its own: an error in a recording may end the use of the device
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).format(trainer=trainer))
    done = subprocess.run(
        [sys.executable, script], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("3 "), done.stderr
    assert message in done.stdout
