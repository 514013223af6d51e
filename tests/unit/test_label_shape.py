"""Networks conditioned on labels that are not one class: numbers, or several attributes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from vanillagan import GANTrainer, Generator
from vanillagan.callbacks import HealthMonitor, MetricLog, SampleGrid


class Net(nn.Module):
    """A network of features and labels, which are concatenated."""

    latent_dim = 4

    def __init__(self, features: int, out: int, label_shape: tuple[int, ...] = (3,)) -> None:
        super().__init__()
        self.label_shape = label_shape
        self.net = nn.Linear(features + (label_shape[0] if label_shape else 1), out)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        self.seen.append(labels)
        output: Tensor = self.net(torch.cat([x, labels.view(len(x), -1).to(x.dtype)], 1))
        return output


def trainer_of(label_shape: tuple[int, ...], **options: object) -> GANTrainer:
    networks = Net(4, 2, label_shape), Net(2, 1, label_shape)
    return GANTrainer(*networks, device="cpu", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (torch.rand(32, 3), torch.float32),
        (torch.rand(32, 3, dtype=torch.float64), torch.float32),
        (torch.rand(32), torch.float32),
        (torch.rand(32, 40) > 0.5, torch.bool),
        (torch.randint(7, (32, 2)), torch.int64),
    ],
    ids=["numbers", "float64", "one number", "attributes", "two classes"],
)
def test_labels_of_any_shape_and_dtype_reach_the_networks(labels, dtype):
    shape = tuple(labels.shape[1:])
    trainer = trainer_of(shape, discriminator_steps=2)
    trainer.fit(TensorDataset(torch.rand(32, 2), labels), max_epochs=2, batch_size=8)
    assert len(trainer.history) == 4
    for network in (trainer.generator, trainer.discriminator):
        assert {seen.dtype for seen in network.seen} == {dtype}
        assert {seen.shape for seen in network.seen} >= {(8, *shape)}
    assert trainer.sample(5, labels=labels[:5]).shape == (5, 2)
    assert trainer.sample(5, labels=labels[0]).shape == (5, 2)


def test_a_grid_is_saved_once_labels_are_known(tmp_path):
    grid = SampleGrid(
        tmp_path, every_n_steps=1, transform=lambda samples: samples.view(-1, 1, 1, 2)
    )
    trainer = trainer_of((3,), callbacks=[grid])
    trainer.fit(TensorDataset(torch.rand(32, 2), torch.rand(32, 3)), max_steps=2)
    assert grid.saved == [1, 2]


def test_callbacks_sample_with_labels_of_the_first_batch():
    metrics = MetricLog({"mean": lambda samples: float(samples.mean())}, every_n_steps=2)
    monitor = HealthMonitor(every_n_steps=2)
    trainer = trainer_of((3,), callbacks=[metrics, monitor])
    labels = torch.rand(8, 3)
    trainer.fit(TensorDataset(torch.rand(8, 2), labels), max_steps=4, batch_size=8)
    repeated = trainer.sample_labels(20)
    assert repeated is not None
    assert torch.equal(repeated[:8], repeated[8:16])
    assert torch.equal(repeated[:8].sort(0).values, labels.sort(0).values)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (
            torch.rand(8, 2),
            ValueError,
            r"have the shape \(8, 3\) .* label_shape=\(3,\), got \(8, 2",
        ),
        (torch.full((8, 3), torch.nan), ValueError, "`labels` must be finite"),
        (["text"] * 8, TypeError, "`labels` must be a tensor for a network with label_shape"),
        (None, ValueError, "`batch` must hold labels for conditional networks, got samples alone"),
    ],
    ids=["shape", "NaN", "text", "none"],
)
def test_labels_that_do_not_fit_are_refused(labels, error, message):
    with pytest.raises(error, match=message):
        trainer_of((3,)).train_step((torch.rand(8, 2), labels))


def test_samples_need_labels():
    with pytest.raises(ValueError, match=r"given to a generator with label_shape=\(3,\), got None"):
        trainer_of((3,)).sample(4)
    with pytest.raises(ValueError, match=r"hold n=4 labels of shape \(3,\) or one for all, got"):
        trainer_of((3,)).sample(4, labels=torch.rand(5, 3))


def test_networks_must_agree():
    with pytest.raises(ValueError, match=r"generator's label_shape \(3,\), got \(2,\)"):
        GANTrainer(Net(4, 2, (3,)), Net(2, 1, (2,)), device="cpu")


@pytest.mark.parametrize("labels", [torch.rand(8, 3), torch.eye(3, dtype=torch.long)[[0] * 8]])
def test_other_labels_for_classes_are_refused_with_the_remedy(make_trainer, labels):
    trainer = make_trainer(num_classes=3)
    message = r"`labels` must .* \(a network with such labels declares `label_shape = \(3,\)`"
    with pytest.raises((TypeError, ValueError), match=message):
        trainer.train_step((torch.rand(8, 2), labels))
    with pytest.raises((TypeError, ValueError), match=r"or one for all, got the shape \(8, 3\)"):
        Generator(num_classes=3).sample(8, labels=labels)
