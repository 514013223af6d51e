"""Data of other packages, where they are installed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vanillagan import ConvDiscriminator, ConvGenerator, Discriminator, GANTrainer, Generator

# webdataset leaves the last shard open, and gives arrays that are read-only
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:The given NumPy array")

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
PIXELS[:, 0, 0, 0] = range(20)
EXPECTED = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 127.5 - 1
LABELS = torch.arange(20) % 3


def sorted_by_pixel(samples: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    order = samples.flatten(1)[:, 0].argsort(stable=True)
    return samples[order], labels[order]


def check_images(data: Any) -> None:
    """Train on images with labels, and check that all of them were read, with their labels."""
    torch.manual_seed(0)
    trainer = GANTrainer(
        ConvGenerator(4, (3, 8, 8), base_channels=4, num_classes=3),
        ConvDiscriminator((3, 8, 8), base_channels=4, num_classes=3),
        device="cpu",
    )
    seen = []
    prepare = trainer.prepare_batch
    trainer.prepare_batch = lambda batch: (seen.append(prepare(batch)), seen[-1])[1]  # type: ignore[method-assign]
    trainer.fit(data, max_epochs=1, batch_size=8)
    samples = torch.cat([batch.samples for batch in seen])
    labels = torch.cat([batch.labels for batch in seen if batch.labels is not None])
    for actual, expected in zip(
        sorted_by_pixel(samples, labels), sorted_by_pixel(EXPECTED, LABELS), strict=True
    ):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("key", ["img", "image", "pixel_values", "drawing"])
@pytest.mark.parametrize("form", [None, "torch", "numpy", "stream", "loader"])
def test_hugging_face_datasets(key, form):
    datasets = pytest.importorskip("datasets")
    columns = {
        key: [Image.fromarray(pixels) for pixels in PIXELS],
        "label": LABELS.tolist(),
        "caption": ["x" * n for n in range(20)],
    }
    kinds = {
        key: datasets.Image(),
        "label": datasets.Value("int64"),
        "caption": datasets.Value("string"),
    }
    data = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    if form == "stream":
        data = data.to_iterable_dataset()
    elif form == "loader":
        data = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True)
    check_images(data.with_format(form) if form in ("torch", "numpy") else data)


def test_hugging_face_splits_are_refused_with_a_remedy(make_trainer):
    datasets = pytest.importorskip("datasets")
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"x": [1.0]})})
    with pytest.raises(TypeError, match=r"keys \['train'\]: pass one of its values"):
        make_trainer().fit(splits, max_epochs=1)


@pytest.mark.parametrize("decoder", ["pil", "rgb8", "torchrgb8"])
@pytest.mark.parametrize("form", ["mappings", "pairs", "batches"])
def test_webdatasets(tmp_path, decoder, form):
    webdataset = pytest.importorskip("webdataset")
    path = str(tmp_path / "shard.tar")
    with webdataset.TarWriter(path) as sink:
        for index, pixels in enumerate(PIXELS):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            label = str(int(LABELS[index])).encode()
            sink.write({"__key__": f"{index:03}", "png": file.getvalue(), "cls": label})
    data = webdataset.WebDataset(path, shardshuffle=False).decode(decoder)
    data = data if form == "mappings" else data.to_tuple("png", "cls")
    check_images(data.batched(8) if form == "batches" else data)


@pytest.mark.parametrize("form", ["samples", "batches", "mappings", "loader"])
def test_webdatasets_of_other_channels_are_refused_by_their_shape(tmp_path, form):
    webdataset = pytest.importorskip("webdataset")
    path = str(tmp_path / "shard.tar")
    with webdataset.TarWriter(path) as sink:
        for index, pixels in enumerate(PIXELS):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            sink.write({"__key__": f"{index:03}", "png": file.getvalue()})
    data = webdataset.WebDataset(path, shardshuffle=False).decode("pil")
    if form == "loader":
        data = webdataset.WebLoader(data.batched(8), batch_size=None)
    elif form != "samples":
        data = (data if form == "mappings" else data.to_tuple("png")).batched(8)
    trainer = GANTrainer(Generator(4, (1, 8, 8)), Discriminator((1, 8, 8)), device="cpu")
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\), got samples of shape \(3, 8, 8\)"):
        trainer.fit(data, max_epochs=1, batch_size=8)


def test_hdf5_datasets(tmp_path, make_trainer):
    h5py = pytest.importorskip("h5py")
    points = np.random.default_rng(0).uniform(-1, 1, (20, 2)).astype(np.float32)
    with h5py.File(tmp_path / "points.h5", "w") as file:
        file["points"] = points
        mapped, in_memory = make_trainer(), make_trainer()
        mapped.fit(file["points"], max_epochs=2, batch_size=8)
        in_memory.fit(torch.from_numpy(points), max_epochs=2, batch_size=8)
        assert mapped.history.generator_loss == in_memory.history.generator_loss
        with pytest.raises(TypeError, match=r"got File with the keys \['points'\]: pass one"):
            make_trainer().fit(file, max_epochs=1)


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [0.5, -0.5] * 8, "b": [0, 1] * 8})

    def trainer() -> GANTrainer:
        torch.manual_seed(0)
        return GANTrainer(Generator(4, (2,)), Discriminator((2,)), device="cpu")

    of_frame, of_tensor = trainer(), trainer()
    of_frame.fit(frame, max_epochs=1, batch_size=8)
    of_tensor.fit(torch.tensor([[0.5, 0], [-0.5, 1]] * 8), max_epochs=1, batch_size=8)
    assert of_frame.history.generator_loss == of_tensor.history.generator_loss
    with pytest.raises(TypeError, match=r"`data` must hold numbers, .* `data.select_dtypes"):
        trainer().fit(frame.assign(c="text"), max_epochs=1)
