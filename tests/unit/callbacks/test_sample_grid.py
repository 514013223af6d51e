"""SampleGrid."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.helpers.callbacks import At, train
from tests.helpers.trainers import make_trainer as make_trainer_of
from vanillagan.callbacks import SampleGrid

make_trainer = partial(make_trainer_of, shape=(1, 4, 4))


def read_image(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def names(folder: Path) -> list[str]:
    return sorted((path.name for path in folder.iterdir()), key=lambda name: int(name[:-4]))


def test_grids_are_saved_first_regularly_and_last(tmp_path):
    train(make_trainer(SampleGrid(tmp_path / "new" / "images", every_n_steps=3)), 2)
    assert names(tmp_path / "new" / "images") == ["0.png", "3.png", "6.png", "8.png"]


def test_a_resumed_run_adds_to_the_grids(tmp_path):
    first = make_trainer(SampleGrid(tmp_path / "images", every_n_steps=3))
    train(first, max_steps=5)
    first.save(tmp_path / "run.pt")
    grid = SampleGrid(tmp_path / "images", every_n_steps=3)
    second = make_trainer(grid)
    second.load(tmp_path / "run.pt")
    train(second, 2)
    assert names(tmp_path / "images") == ["0.png", "3.png", "5.png", "6.png", "8.png"]
    assert grid.saved == [0, 3, 5, 6, 8]


def test_training_goes_on_if_a_grid_cannot_be_written(tmp_path):
    folder = tmp_path / "images"

    def block(trainer):
        folder.rename(tmp_path / "moved")
        folder.write_text("a file")

    grid = SampleGrid(folder, every_n_steps=2)
    with pytest.warns(UserWarning, match=r"not written: .*/images/2\.png"):
        train(make_trainer(grid, At(1, block), At(3, lambda trainer: folder.unlink())), max_steps=4)
    assert grid.saved == [0, 4]
    assert names(folder) == ["4.png"]


def test_a_folder_that_cannot_be_written_to_is_an_error_of_fit(tmp_path):
    (tmp_path / "images").write_text("a file")
    with pytest.raises(OSError, match="images"):
        train(make_trainer(SampleGrid(tmp_path / "images")), max_steps=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_samples_row_by_row(tmp_path, channels):
    trainer = make_trainer(SampleGrid(tmp_path, side=3, seed=4, scale=1), shape=(channels, 4, 6))
    trainer.fit(torch.rand(8, channels, 4, 6) * 2 - 1, max_steps=1)
    picture = read_image(tmp_path / "1.png")
    assert picture.shape == (3, 3 * (4 + 2) + 2, 3 * (6 + 2) + 2)
    samples = (trainer.sample(9, seed=4) + 1) * 127.5
    for number, sample in enumerate(samples):
        row, column = 2 + number // 3 * 6, 2 + number % 3 * 8
        shown = picture[:, row : row + 4, column : column + 6].float()
        torch.testing.assert_close(shown, sample.expand(3, 4, 6), rtol=0, atol=0.51)


@pytest.mark.parametrize(("scale", "factor"), [(None, 3), (2, 2)])
def test_small_images_are_enlarged(tmp_path, scale, factor):
    """28 pixels become 84, each a square of one color."""
    for folder, options in (("original", {"scale": 1}), ("enlarged", {"scale": scale})):
        torch.manual_seed(0)
        trainer = make_trainer(SampleGrid(tmp_path / folder, **options), shape=(1, 28, 28))
        trainer.fit(torch.rand(8, 1, 28, 28) * 2 - 1, max_steps=1)
    original, enlarged = (
        read_image(tmp_path / name / "1.png") for name in ("original", "enlarged")
    )
    pitch = 28 * factor + 2
    assert enlarged.shape == (3, 5 * pitch + 2, 5 * pitch + 2)
    for row, column in ((0, 0), (1, 3), (4, 4)):
        top, left = 2 + row * pitch, 2 + column * pitch
        shown = enlarged[:, top : top + 28 * factor, left : left + 28 * factor]
        top, left = 2 + row * 30, 2 + column * 30
        expected = original[:, top : top + 28, left : left + 28]
        expected = expected.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        assert torch.equal(shown, expected)


def test_all_grids_show_the_same_latents(tmp_path):
    trainer = make_trainer(
        SampleGrid(tmp_path),
        hidden=(8,),
        generator_optimizer=lambda weights: torch.optim.SGD(weights, lr=1e-12),
    )
    train(trainer, max_steps=1)
    before, after = (read_image(tmp_path / f"{step}.png").float() for step in (0, 1))
    assert torch.equal(before, after)
    assert before.std() > 10


def test_a_conditional_grid_shows_classes_in_turn(tmp_path):
    trainer = make_trainer(SampleGrid(tmp_path, side=2, scale=1), shape=(1, 2, 2), num_classes=3)
    trainer.fit([(torch.rand(4, 1, 2, 2) * 2 - 1, torch.arange(4) % 3)], max_steps=1)
    picture = read_image(tmp_path / "1.png")[0].float()
    samples = (trainer.sample(4, labels=[0, 1, 2, 0], seed=0) + 1) * 127.5
    for number, sample in enumerate(samples):
        row, column = 2 + number // 2 * 4, 2 + number % 2 * 4
        shown = picture[row : row + 2, column : column + 2]
        torch.testing.assert_close(shown, sample[0], rtol=0, atol=0.51)


@pytest.mark.parametrize(
    ("moments", "steps"),
    [(12, [0, 1, 2, 3, 4]), (5, [0, 1, 2, 3, 4]), (3, [0, 2, 4]), (2, [0, 4]), (1, [0])],
)
def test_a_film_strip_joins_first_columns(tmp_path, moments, steps):
    grid = SampleGrid(tmp_path / "images", every_n_steps=1, scale=1)
    train(make_trainer(grid))
    grid.film_strip(tmp_path / "new" / "strip.png", moments=moments)
    strip = read_image(tmp_path / "new" / "strip.png")
    assert strip.shape == (3, 5 * (4 + 2) + 2, len(steps) * (4 + 2) + 2)
    for place, step in enumerate(steps):
        column = read_image(tmp_path / "images" / f"{step}.png")[:, :, 2:6]
        assert torch.equal(strip[:, :, 2 + 6 * place : 6 + 6 * place], column)


def test_a_film_strip_has_the_steps_above_its_columns(tmp_path):
    grid = SampleGrid(tmp_path / "images", every_n_steps=2, side=2)
    train(make_trainer(grid))
    grid.film_strip(tmp_path / "strip.png")
    strip = read_image(tmp_path / "strip.png")
    rows = read_image(tmp_path / "images" / "0.png").shape[1]
    assert strip.shape == (3, 30 + rows, 3 * 86 + 2)
    for place, step in enumerate([0, 2, 4]):
        column = read_image(tmp_path / "images" / f"{step}.png")[:, :, 2:86]
        left = 2 + 86 * place
        assert torch.equal(strip[:, 30:, left : left + 84], column)
        label = strip[:, :30, left : left + 84]
        assert label.max() == 255
        assert label.min() < 100


def test_a_film_strip_needs_grids(tmp_path):
    with pytest.raises(RuntimeError, match="`film_strip` must come after a `fit`"):
        SampleGrid(tmp_path).film_strip(tmp_path / "strip.png")


def test_a_film_strip_takes_the_grids_that_exist(tmp_path):
    """A resumed run may write to another folder than the run before."""
    first = train(make_trainer(SampleGrid(tmp_path / "first", every_n_steps=2)))
    first.save(tmp_path / "run.pt")
    grid = SampleGrid(tmp_path / "second", every_n_steps=2, scale=1)
    second = make_trainer(grid)
    second.load(tmp_path / "run.pt")
    train(second, 2)
    grid.film_strip(tmp_path / "strip.png")
    assert names(tmp_path / "second") == ["6.png", "8.png"]
    assert read_image(tmp_path / "strip.png").shape == (3, 32, 2 * 6 + 2)


def test_a_film_strip_has_the_grids_of_the_size_of_the_last_one(tmp_path):
    """A run may be resumed with another scale."""
    first = train(make_trainer(SampleGrid(tmp_path / "images", every_n_steps=2, scale=1)))
    first.save(tmp_path / "run.pt")
    grid = SampleGrid(tmp_path / "images", every_n_steps=2, scale=2)
    second = make_trainer(grid)
    second.load(tmp_path / "run.pt")
    train(second, 2)
    assert grid.saved == [0, 2, 4, 6, 8]
    grid.film_strip(tmp_path / "strip.png")
    assert read_image(tmp_path / "strip.png").shape == (3, 20 + 5 * 10 + 2, 2 * 10 + 2)


def test_a_transform_maps_samples_to_images(tmp_path):
    grid = SampleGrid(tmp_path, side=1, scale=1, transform=lambda samples: samples[:, :3])
    trainer = make_trainer(grid, shape=(4, 4, 4))
    trainer.fit(torch.rand(8, 4, 4, 4) * 2 - 1, max_steps=1)
    shown = read_image(tmp_path / "1.png")[:, 2:-2, 2:-2].float()
    samples = (trainer.sample(1, seed=0)[0, :3] + 1) * 127.5
    torch.testing.assert_close(shown, samples, rtol=0, atol=0.51)


def test_a_transform_that_is_no_function_is_refused(tmp_path):
    with pytest.raises(TypeError, match="`transform` must be a function of samples, got 5"):
        SampleGrid(tmp_path, transform=5)


@pytest.mark.parametrize("shape", [(2,), (2, 4, 4)])
def test_samples_that_are_no_images_are_refused(tmp_path, shape):
    trainer = make_trainer(SampleGrid(tmp_path), shape=shape)
    with pytest.raises(ValueError, match="`SampleGrid` must have images of shape") as raised:
        trainer.fit(torch.rand(8, *shape) * 2 - 1, max_epochs=1)
    assert str(shape) in str(raised.value)
    assert trainer.progress.step == 0
