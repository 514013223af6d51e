"""Tools that people use beside the library, where they are installed (extra `tools`)."""

from __future__ import annotations

import os

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from vanillagan import R1, Callback, ConvGenerator, GANTrainer
from vanillagan.results import StepResult

# of the packages themselves
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


class LogLosses(Callback):
    """The callback of the documentation, for any tracker."""

    def __init__(self, log):
        self.log = log

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        losses = {"d": float(result.discriminator.loss), "g": float(result.generator.loss)}
        self.log(losses, step=trainer.progress.step)


def test_a_loader_of_accelerate_trains_like_its_own(points, make_trainer):
    accelerate = pytest.importorskip("accelerate")
    loader = DataLoader(TensorDataset(points), batch_size=16)
    prepared = accelerate.Accelerator(cpu=True).prepare(loader)
    own, of_accelerate = make_trainer(), make_trainer()
    own.fit(loader, max_epochs=2)
    of_accelerate.fit(prepared, max_epochs=2)
    assert of_accelerate.history.generator_loss == own.history.generator_loss


def test_a_model_of_timm_is_a_discriminator():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    discriminator = timm.create_model("resnet10t", num_classes=1, in_chans=3)
    trainer = GANTrainer(
        ConvGenerator(8, (3, 32, 32), base_channels=4),
        discriminator,
        penalties=[R1(0.1)],
        device="cpu",
    )
    history = trainer.fit(torch.rand(8, 3, 32, 32) * 2 - 1, max_steps=2, batch_size=4)
    assert len(history) == 2


def test_mlflow_gets_the_losses(points, make_trainer, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setitem(os.environ, "MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run() as run:
        trainer = make_trainer(LogLosses(mlflow.log_metrics))
        trainer.fit(points, max_steps=3, batch_size=16)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "g")
    expected = list(enumerate(trainer.history.generator_loss, start=1))
    assert [(metric.step, pytest.approx(metric.value)) for metric in history] == expected
