"""Training in many configurations; on the CPU where there is no CUDA device."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils.data import TensorDataset

from tests.helpers.graphs import CONFIGURATIONS, fit, make
from vanillagan import (
    EMA,
    BCEAdversarialLoss,
    GANTrainer,
    HingeLoss,
    LeastSquaresLoss,
    RelativisticLoss,
    WassersteinLoss,
)
from vanillagan.callbacks import Checkpoint, CSVLog, MetricLog, NaNGuard, SampleGrid
from vanillagan.data import ByteImages

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BYTES = torch.randint(256, (64, 1, 6, 6), generator=torch.Generator().manual_seed(0)).byte()


def train(name, data=None, memory_format=torch.contiguous_format, **options):
    networks, default_data, default_options, _ = CONFIGURATIONS[name]
    pair = [network.to(memory_format=memory_format) for network in networks()]
    trainer = GANTrainer(*pair, device=DEVICE, **default_options() | options)
    history = trainer.fit(default_data if data is None else data, max_steps=5, batch_size=16)
    assert all(map(math.isfinite, history.generator_loss + history.discriminator_loss))


@pytest.mark.filterwarnings("ignore::vanillagan.errors.TrainingHealthWarning")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations_train(name):
    train(name)


@pytest.mark.parametrize("update_order", ["generator_first", "discriminator_first"])
@pytest.mark.parametrize(
    "loss",
    [
        BCEAdversarialLoss(generator_objective="minimax"),
        HingeLoss(),
        LeastSquaresLoss(),
        WassersteinLoss(),
        RelativisticLoss(),
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # a Wasserstein loss without a penalty
def test_losses_train(loss, update_order):
    train("plain", loss=loss, update_order=update_order, ema=EMA())


def test_convolutions_train_in_channels_last():
    name = "relativistic, GP, convolutions, DiffAugment"
    train(name, memory_format=torch.channels_last)


@pytest.mark.parametrize("place", ["cpu", DEVICE])
def test_data_may_lie_on_the_device(place):
    floats = BYTES.to(place) / 127.5 - 1
    train("plain", ByteImages(BYTES.to(place)))
    train("plain", floats)
    train("labels", TensorDataset(floats, torch.arange(64) % 3))  # labels stay on the CPU


def test_callbacks_read_the_device(tmp_path):
    callbacks = [
        CSVLog(tmp_path / "log.csv", every_n_steps=2),
        SampleGrid(tmp_path, every_n_steps=3),
        NaNGuard(every_n_steps=2),
        Checkpoint(tmp_path / "kept", every_n_steps=3),
        MetricLog({"mean": lambda x: x.mean()}, num_samples=40, every_n_steps=3),
    ]
    train("plain", callbacks=callbacks)


def test_checkpoints_go_from_the_device_to_the_cpu_and_back(tmp_path):
    for steps, device in ((3, DEVICE), (6, "cpu"), (9, DEVICE)):
        trainer, data = make("EMA, lazy penalties", cuda_graphs=False, device=device)
        if steps > 3:
            trainer.load(tmp_path / "a.pt")
        fit(trainer, data, steps)
        trainer.save(tmp_path / "a.pt")
    assert trainer.progress.step == 9


def test_sample_leaves_the_random_state_of_the_device():
    trainer, _ = make("plain", cuda_graphs=False, device=DEVICE)
    module = torch.cuda if DEVICE == "cuda" else torch
    before = module.get_rng_state()
    trainer.sample(4, seed=0)
    assert torch.equal(module.get_rng_state(), before)
