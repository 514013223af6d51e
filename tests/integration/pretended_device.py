"""Training on a device that is not the CPU: its rules, its random state, and what makes it wait.

The device is pretended, and stays registered in the process that runs these tests:
`test_pretended_device.py` runs them in one of their own, and so does
`python -m pytest -n 0 tests/integration/pretended_device.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.helpers.pretend_cuda import PretendCUDA
from tests.helpers.states import snapshot
from tests.helpers.trainers import make_trainer
from vanillagan import EMA, R1, ConvDiscriminator, GANTrainer, Generator
from vanillagan.applications.blending import blend
from vanillagan.applications.context_encoder import ContextEncoder, ContextTrainer
from vanillagan.applications.masks import boxes
from vanillagan.callbacks import CSVLog, GradientClip, HealthMonitor, NaNGuard, SampleGrid
from vanillagan.data import ByteImages
from vanillagan.metrics import frechet_distance
from vanillagan.runtime.device import resolve_device, to_device
from vanillagan.sampling import draw_samples
from vanillagan.theory import optimal_discriminator


@pytest.fixture
def gpu() -> Iterator[PretendCUDA]:
    with PretendCUDA() as gpu:
        gpu.module.manual_seed(0)
        yield gpu


SHAPE = (1, 4, 4)
IMAGES = torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(1)) * 2 - 1
BYTES = ((IMAGES + 1) * 127).to(torch.uint8)
CLASSES = torch.arange(64) % 3


def make(**options: Any) -> GANTrainer:
    return make_trainer(shape=SHAPE, **({"device": "gpu"} | options))


def on_gpu(tensor: Tensor) -> Tensor:
    return tensor.to("gpu:0")


class Dropout(nn.Module):
    """A discriminator that draws from the device's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 1))
        self.masks: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.masks.append(self.layers[1](torch.ones(64, device=x.device)))
        return self.layers(x)[:, 0]


def with_dropout(device: str = "gpu", **options: Any) -> GANTrainer:
    torch.manual_seed(0)
    return GANTrainer(Generator(8, SHAPE, hidden=(16,)), Dropout(), device=device, **options)


@pytest.mark.parametrize("device", [None, "gpu", "gpu:0"])
def test_the_device_is_the_accelerator_with_its_index(gpu, device):
    assert resolve_device(device) == torch.empty(0, device="gpu").device


def test_byte_images_move_as_a_whole(gpu):
    moved = ByteImages(BYTES, CLASSES, classes=["a", "b", "c"]).to("gpu:0")
    assert (moved.images.device.type, moved.labels.device.type) == ("gpu", "gpu")
    assert moved.classes == ("a", "b", "c")


CONFIGURATIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "a tensor": (lambda: IMAGES, {}),
    "R1 and EMA": (lambda: IMAGES, {"penalties": [R1(0.5)], "ema": EMA()}),
    "Algorithm 1, k = 2": (
        lambda: IMAGES,
        {"update_order": "discriminator_first", "discriminator_steps": 2},
    ),
    "bf16": (lambda: IMAGES, {"precision": "bf16"}),
    "classes": (lambda: TensorDataset(IMAGES, CLASSES), {"num_classes": 3}),
    "a dataset": (lambda: list(IMAGES), {}),
    "batches": (lambda: list(IMAGES.split(16)), {}),
    "bytes on the device": (lambda: ByteImages(BYTES).to("gpu:0"), {}),
    "classes on the CPU": (lambda: TensorDataset(on_gpu(IMAGES), CLASSES), {"num_classes": 3}),
    "classes on the device": (
        lambda: ByteImages(BYTES, CLASSES).to("gpu:0"),
        {"num_classes": 3, "discriminator_steps": 2},
    ),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_no_step_waits_for_the_device(gpu, name):
    data, options = CONFIGURATIONS[name]
    data, trainer = data(), make(**options)
    epoch = 4 // trainer.discriminator_steps
    trainer.fit(data, max_steps=epoch, batch_size=16)
    gpu.clear()
    for batch in trainer._open(data, 16).batches(epoch=1):
        trainer.train_step(batch)
    # `_open` reads classes once, and data on the device is checked for NaN once
    assert all("is_finite" in at or "labels" in at or "total" in at for at in gpu.waits), gpu.waits
    assert sum(gpu.waits.values()) <= 3


def test_data_on_the_device_copies_the_order_once_in_an_epoch(gpu):
    trainer = make()
    trainer.fit(ByteImages(BYTES).to("gpu:0"), max_epochs=1, batch_size=16)
    gpu.clear()
    trainer.fit(ByteImages(BYTES).to("gpu:0"), max_epochs=2, batch_size=16)
    assert sum(gpu.copies.values()) == 4 + 1, "latents of four steps, and the order"


def test_blending_reads_the_device_each_16_iterations(gpu):
    torch.manual_seed(0)
    trainer = ContextTrainer(
        ContextEncoder((1, 28, 28), base_channels=4),
        ConvDiscriminator((1, 28, 28), base_channels=4),
        masks=boxes((28, 28)),
        device="gpu",
    )
    images = torch.rand(16, 1, 28, 28) * 2 - 1
    trainer.train_step(images)
    gpu.clear()
    trainer.train_step(images)
    assert {at.partition(": ")[0] for at in gpu.waits} == {
        "aten::_local_scalar_dense @ applications/blending.py"
    }
    assert sum(gpu.waits.values()) <= 5, gpu.waits  # 51 if each iteration is read


@pytest.mark.parametrize("as_pair", [False, True])
def test_a_copy_from_ordinary_memory_is_noticed(gpu, as_pair):
    tensor = torch.ones(3)
    torch.empty(3, device="gpu").copy_(tensor, True) if as_pair else tensor.to("gpu:0")
    assert list(gpu.waits) == ["blocking copy to the device @ elsewhere"]
    gpu.clear()
    to_device(tensor, torch.device("gpu:0"))
    assert not gpu.waits


@pytest.mark.parametrize("read", [float, bool, torch.nonzero, lambda x: x.tolist(), Tensor.cpu])
def test_reads_are_noticed(gpu, read):
    x = on_gpu(torch.ones(1))
    gpu.clear()
    read(x)
    assert gpu.waits


def test_training_equals_that_on_the_cpu(gpu):
    options: dict[str, Any] = {"penalties": [R1(0.5, every=2)], "num_classes": 3}
    trained = []
    for device in ("cpu", "gpu"):
        trainer = make(device=device, ema=EMA(), **options)
        trainer.fit(TensorDataset(IMAGES, CLASSES), max_epochs=3, batch_size=16)
        trained.append(snapshot(trainer))
    on_cpu, on_device = ({k: v for k, v in s.items() if "rng" not in k} for s in trained)
    assert on_cpu == on_device


def test_callbacks_run_on_the_device(gpu, tmp_path):
    callbacks = [
        HealthMonitor(every_n_steps=2),
        SampleGrid(tmp_path, every_n_steps=2),
        CSVLog(tmp_path / "log.csv", every_n_steps=2),
        NaNGuard(every_n_steps=2),
        GradientClip(1.0),
    ]
    trainer = make(callbacks=callbacks, ema=EMA())
    trainer.fit(IMAGES, max_steps=6, batch_size=16)
    assert frechet_distance(trainer.sample(32).flatten(1), on_gpu(IMAGES).flatten(1)) > 0


def test_a_run_resumes_with_the_random_state_of_its_device(gpu, tmp_path):
    whole, first = with_dropout(), with_dropout()
    first.fit(IMAGES, max_steps=3, batch_size=16)
    first.save(tmp_path / "run.pt")
    gpu.module.manual_seed(0)
    whole.fit(IMAGES, max_steps=6, batch_size=16)
    gpu.module.manual_seed(7)
    resumed = with_dropout()
    resumed.load(tmp_path / "run.pt")
    resumed.fit(IMAGES, max_steps=6, batch_size=16)
    assert snapshot(resumed) == snapshot(whole)


@pytest.mark.parametrize("devices", [("gpu", "cpu"), ("cpu", "gpu")], ids="{0[0]}".format)
def test_checkpoints_move_between_devices(gpu, devices, tmp_path):
    saved, loaded = (make(device=device, ema=EMA()) for device in devices)
    saved.fit(IMAGES, max_steps=3, batch_size=16)
    saved.save(tmp_path / "run.pt")
    loaded.load(tmp_path / "run.pt")
    for trainer in (saved, loaded):
        trainer.fit(IMAGES, max_steps=6, batch_size=16)
    assert saved.history.generator_loss == loaded.history.generator_loss


def test_sampling_leaves_the_random_state_of_the_device(gpu):
    trainer = with_dropout()
    before = gpu.module.get_rng_state()
    trainer.sample(4, seed=0)
    draw_samples(trainer.generator, 4)
    assert torch.equal(gpu.module.get_rng_state(), before)


def test_iterables_do_not_repeat_the_random_numbers_of_the_device(gpu):
    trainer = with_dropout()
    trainer.fit(DataLoader(IMAGES, batch_sampler=[range(16)] * 4), max_epochs=1)
    masks = {tuple(mask.tolist()) for mask in trainer.discriminator.masks}
    assert len(masks) == len(trainer.discriminator.masks)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]], ids=str)
def test_classes_out_of_range_do_not_reach_the_device(gpu, labels):
    trainer, classes = make(num_classes=3), on_gpu(torch.tensor(labels))
    samples = on_gpu(IMAGES[:2])
    for call in (
        lambda: trainer.sample(2, labels=classes),
        lambda: trainer.train_step((samples, classes)),
        lambda: trainer.fit(TensorDataset(samples, classes), max_steps=1, batch_size=2),
    ):
        with pytest.raises(ValueError, match=r"`labels` must lie in \[0, 2\], got labels from"):
            call()


@pytest.mark.parametrize("images_there", [False, True])
def test_samples_and_labels_may_lie_on_two_devices(gpu, images_there):
    images, labels = (on_gpu(IMAGES), CLASSES) if images_there else (IMAGES, on_gpu(CLASSES))
    for data in (TensorDataset(images, labels), [(images, labels)]):
        make(num_classes=3).fit(data, max_steps=2, batch_size=16)


def test_numbers_and_arrays_go_to_the_device_of_a_tensor(gpu):
    density = on_gpu(torch.tensor([0.5, 1.5]))
    for other in (0.5, torch.tensor([0.5]).numpy()):
        found = optimal_discriminator(density, other)
        assert (found.device.type, found.cpu().tolist()) == ("gpu", [0.5, 0.75])


def test_blending_on_the_device_is_that_on_the_cpu(gpu):
    images, mask = torch.rand(2, 1, 12, 12), boxes((12, 12))(2, torch.Generator())
    blended = blend(on_gpu(images), on_gpu(torch.zeros_like(images)), mask)
    expected = blend(images, torch.zeros_like(images), mask)
    torch.testing.assert_close(blended.cpu(), expected, rtol=0, atol=1e-4)


def test_few_operators_are_launched_for_losses_and_buffers(gpu):
    trainer = make(ema=EMA())
    trainer.train_step(IMAGES[:16])
    gpu.clear()
    trainer.train_step(IMAGES[:16])
    assert gpu.launches["aten::_foreach_copy_"] == 1
    assert gpu.launches["aten::neg"] == 4, "two losses of real logits, forward and backward"
