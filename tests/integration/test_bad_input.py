"""Bad input is an error at the call that got it, names the argument, and changes nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.helpers.data import Rows
from tests.helpers.states import plain, snapshot
from vanillagan import (
    EMA,
    R1,
    R2,
    BCEAdversarialLoss,
    Callback,
    ConvDiscriminator,
    ConvGenerator,
    Discriminator,
    GANTrainer,
    Generator,
    GradientPenalty,
    HingeLoss,
    load_generator,
)
from vanillagan.callbacks import (
    Checkpoint,
    ConsoleLog,
    CSVLog,
    NaNGuard,
    ProgressBar,
    SampleGrid,
    TensorBoardLog,
)
from vanillagan.data import normal_latents
from vanillagan.errors import CheckpointError, MissingExtraError
from vanillagan.player import adam

CLASSES = 3
MakeTrainer = Callable[..., GANTrainer]
NAN, INF = float("nan"), float("inf")


class Bad(NamedTuple):
    """A call that must fail, and the words of its error, in order."""

    name: str
    call: Callable[..., Any]
    error: type[Exception]
    words: tuple[str, ...]


def check(raised: pytest.ExceptionInfo[Exception], bad: Bad) -> None:
    assert type(raised.value) is bad.error
    message = str(raised.value)
    pattern = ".*".join(re.escape(word) for word in bad.words)
    assert re.search(pattern, message, re.DOTALL), message


def cases(*rows: Bad) -> Any:
    return pytest.mark.parametrize("bad", [pytest.param(row, id=row.name) for row in rows])


def points(n: int = 40) -> Tensor:
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1


def spoiled(value: float) -> Tensor:
    data = points()
    data[7, 1] = value
    return data


@pytest.fixture
def make_trainer(make_trainer: MakeTrainer) -> MakeTrainer:
    """Return `make_trainer` with an EMA."""
    return lambda **options: make_trainer(**({"ema": EMA(0.9)} | options))


# -- a trainer that has begun ----------------------------------------------------------------------


def fit(data: Any, **options: Any) -> Callable[[GANTrainer], Any]:
    return lambda trainer: trainer.fit(data, **({"max_epochs": 9, "batch_size": 8} | options))


def one_step(batch: Any) -> Callable[[GANTrainer], Any]:
    return lambda trainer: trainer.train_step(batch)


def sample(n: Any, **options: Any) -> Callable[[GANTrainer], Any]:
    return lambda trainer: trainer.sample(n, **options)


SHAPE = ("`batch`", "the generator's shape (2,)", "got samples of shape (3,)")
CONVERT = ("`batch`", "floats in [-1, 1]", "uint8", "images.float() / 127.5 - 1")
POSITIVE = "must be a positive integer, got "

UNCONDITIONAL = (
    # sizes
    Bad("batch_size 0", fit(points(), batch_size=0), ValueError, ("`batch_size`", POSITIVE + "0")),
    Bad("batch_size -1", fit(points(), batch_size=-1), ValueError, ("`batch_size`", "got -1")),
    Bad("batch_size 2.5", fit(points(), batch_size=2.5), TypeError, ("`batch_size`", "got 2.5")),
    Bad("batch_size None", fit(points(), batch_size=None), TypeError, ("`batch_size`", "None")),
    Bad("max_epochs 0", fit(points(), max_epochs=0), ValueError, ("`max_epochs`", POSITIVE + "0")),
    Bad("max_epochs -3", fit(points(), max_epochs=-3), ValueError, ("`max_epochs`", "got -3")),
    Bad("max_epochs True", fit(points(), max_epochs=True), TypeError, ("`max_epochs`", "got True")),
    Bad("max_steps 0", fit(points(), max_steps=0), ValueError, ("`max_steps`", POSITIVE + "0")),
    Bad("max_steps '9'", fit(points(), max_steps="9"), TypeError, ("`max_steps`", "got '9'")),
    Bad(
        "no limit",
        fit(points(), max_epochs=None),
        ValueError,
        ("`max_epochs` or `max_steps`", "None for both"),
    ),
    Bad("sample 0", sample(0), ValueError, ("`n`", POSITIVE + "0")),
    Bad("sample -2", sample(-2), ValueError, ("`n`", "got -2")),
    Bad("sample 2.0", sample(2.0), TypeError, ("`n`", "got 2.0")),
    Bad("sample seed 2**70", sample(2, seed=2**70), ValueError, ("`seed`", "at most", "got 11")),
    Bad("sample seed -1", sample(2, seed=-1), ValueError, ("`seed`", "non-negative", "got -1")),
    Bad(
        "three latents", sample(2, latents=torch.zeros(3, 8)), ValueError, ("`latents`", "n=2", "3")
    ),
    Bad(
        "latents of another size",
        sample(2, latents=torch.zeros(2, 7)),
        ValueError,
        ("`latents`", "(N, 8)", "got (2, 7)"),
    ),
    Bad("a list of latents", sample(1, latents=[[0.0] * 8]), TypeError, ("`latents`", "tensor")),
    # empty data
    Bad("a single number", fit(torch.tensor(1.0)), ValueError, ("`data`", "(N, *sample_shape)")),
    Bad("empty tensor", fit(points(0)), ValueError, ("`data`", "at least one", "empty dataset")),
    Bad("empty TensorDataset", fit(TensorDataset(points(0))), ValueError, ("`data`", "empty")),
    Bad("empty Dataset", fit(Rows([])), ValueError, ("`data`", "empty")),
    Bad(
        "empty DataLoader", fit(DataLoader(Rows([]), batch_size=8)), ValueError, ("`data`", "empty")
    ),
    Bad("empty list", fit([]), ValueError, ("`data`", "empty")),
    Bad("spent iterator", fit(iter([])), ValueError, ("`data`", "1 or more batches", "got fewer")),
    Bad("one sample", fit(points(1)), ValueError, ("`data`", "at least 2 samples", "got 1")),
    Bad(
        "less than a batch",
        fit(DataLoader(Rows(points(5)), batch_size=8, drop_last=True)),
        ValueError,
        ("`data`", "at least 8 samples", "got 5"),
    ),
    Bad("no data at all", fit(None), TypeError, ("`data`", "got NoneType")),
    Bad("a path", fit("data"), TypeError, ("`data`", "a tensor, a Dataset", "got str")),
    Bad("a number", fit(5), TypeError, ("`data`", "got int")),
    # shapes
    Bad("shape of a tensor", fit(torch.zeros(40, 3)), ValueError, SHAPE),
    Bad("shape of a Dataset", fit(Rows(torch.zeros(40, 3))), ValueError, SHAPE),
    Bad("shape of a loader", fit(DataLoader(Rows(torch.zeros(40, 3)), 8)), ValueError, SHAPE),
    Bad("shape of a list", fit([torch.zeros(8, 3)]), ValueError, SHAPE),
    Bad("shape of a batch", one_step(torch.zeros(8, 3)), ValueError, SHAPE),
    Bad("a single sample", one_step(torch.zeros(2)), ValueError, ("`batch`", "shape (2,)", "()")),
    Bad("a number as a batch", one_step(torch.tensor(1.0)), ValueError, ("`batch`", "shape (2,)")),
    Bad("a batch of one", one_step(points(1)), ValueError, ("`batch`", "at least 2", "got 1")),
    # kinds
    Bad("bytes in a tensor", fit((points() + 1).byte()), TypeError, CONVERT),
    Bad("bytes in a dataset", fit(TensorDataset((points() + 1).byte())), TypeError, CONVERT),
    Bad("bytes in a batch", one_step((points() + 1).byte()), TypeError, CONVERT),
    Bad("int64", fit(points().long()), TypeError, ("`batch`", "floats in [-1, 1]", "int64")),
    Bad("booleans", fit(points() > 0), TypeError, ("`batch`", "floats in [-1, 1]", "bool")),
    Bad("a batch of three", one_step((points(),) * 3), TypeError, ("`batch`", "unpack_batch")),
    Bad("a wrong key", one_step({"x": points()}), TypeError, ("`batch`", "'samples'", "'x'")),
    Bad("text in an array", fit(np.array(["a"] * 9)), TypeError, ("`data`", "numbers", "<U1")),
    Bad(
        "a batch of objects", one_step(np.array([{}])), TypeError, ("`batch`", "numbers", "object")
    ),
    Bad("a list of numbers", one_step([[0.5, 0.5]]), TypeError, ("`batch`", "a tensor")),
    Bad("no batch", one_step(None), TypeError, ("`batch`", "got None")),
    # values
    Bad("NaN in a tensor", fit(spoiled(NAN), batch_size=40), ValueError, ("`batch`", "NaN")),
    Bad(
        "inf in an array", fit(spoiled(INF).numpy(), batch_size=40), ValueError, ("`batch`", "inf")
    ),
    Bad("NaN in a Dataset", fit(Rows(spoiled(NAN)), batch_size=40), ValueError, ("`batch`", "NaN")),
    Bad("NaN in a list", fit([spoiled(NAN)]), ValueError, ("`batch`", "finite", "NaN")),
    Bad("NaN in a batch", one_step(spoiled(NAN)), ValueError, ("`batch`", "finite", "NaN")),
    Bad("-inf in a batch", one_step(spoiled(-INF)), ValueError, ("`batch`", "finite", "infinite")),
    # labels
    Bad(
        "labels for an unconditional generator",
        sample(2, labels=[0, 1]),
        ValueError,
        ("`labels` must be None", "unconditional", "got labels of shape (2,)"),
    ),
)


def labeled(labels: Any) -> TensorDataset:
    return TensorDataset(points(), torch.as_tensor(labels))


OTHER_DATA = pytest.mark.filterwarnings("ignore:restarting the current epoch")
RIGHT = torch.arange(40) % CLASSES
WRONG = torch.cat([RIGHT[:-1], torch.tensor([CLASSES])])
NO_LABELS = ("`batch` must hold labels", "samples alone", "keys labels, label, cls")
RANGE = ("`labels`", "[0, 2]", "got labels from 0 to 3")

CONDITIONAL = (
    Bad("no labels in a tensor", fit(points()), ValueError, NO_LABELS),
    Bad("no labels in a list", fit([points()]), ValueError, NO_LABELS),
    Bad("no labels in a batch", one_step(points()), ValueError, NO_LABELS),
    Bad("no labels to sample", sample(2), ValueError, ("`labels` must be given", "3 classes")),
    Bad("a class too many", fit(labeled(WRONG), batch_size=40), ValueError, RANGE),
    Bad("a class too many in a batch", one_step((points(), WRONG)), ValueError, RANGE),
    Bad("a negative class", one_step((points(), RIGHT - 1)), ValueError, ("`labels`", "from -1")),
    Bad("float labels", one_step((points(), RIGHT.float())), TypeError, ("`labels`", "float32")),
    Bad("two labels", one_step((points(), RIGHT[:2])), ValueError, ("`labels`", "(40,)", "(2,)")),
    Bad(
        "one-hot labels",
        one_step((points(), nn.functional.one_hot(RIGHT))),
        ValueError,
        ("`labels`", "(40,)", "(40, 3)"),
    ),
    Bad("a list of labels", one_step((points(), ["a"] * 40)), TypeError, ("`labels`", "tensor")),
    Bad("class 3 to sample", sample(2, labels=3), ValueError, ("`labels`", "[0, 2]", "3 to 3")),
    Bad("class -1 to sample", sample(2, labels=-1), ValueError, ("`labels`", "from -1")),
    Bad("three classes, two samples", sample(2, labels=[0, 1, 2]), ValueError, ("`labels`", "n=2")),
    Bad("half a class", sample(2, labels=[0.5, 1.0]), TypeError, ("`labels`", "integers")),
)


@OTHER_DATA
@cases(*UNCONDITIONAL)
def test_an_error_leaves_the_trainer_unchanged(make_trainer, bad):
    trainer = make_trainer()
    trainer.fit(points(), max_steps=7, batch_size=8)
    before = snapshot(trainer)
    with pytest.raises(bad.error) as raised:
        bad.call(trainer)
    check(raised, bad)
    assert snapshot(trainer) == before
    assert trainer.generator.training
    trainer.fit(points(), max_steps=8, batch_size=8)
    assert trainer.progress.step == 8


@OTHER_DATA
@cases(*CONDITIONAL)
def test_an_error_leaves_a_conditional_trainer_unchanged(make_trainer, bad):
    trainer = make_trainer(num_classes=CLASSES)
    trainer.fit(labeled(RIGHT), max_steps=7, batch_size=8)
    before = snapshot(trainer)
    with pytest.raises(bad.error) as raised:
        bad.call(trainer)
    check(raised, bad)
    assert snapshot(trainer) == before
    trainer.fit(labeled(RIGHT), max_steps=8, batch_size=8)
    assert trainer.progress.step == 8


def test_a_failed_first_step_leaves_the_run_unchanged(
    make_trainer,
):
    tried, untried = (make_trainer() for _ in range(2))
    with pytest.raises(ValueError, match="`batch` must be finite"):
        tried.fit(Rows(spoiled(NAN)), max_epochs=1, batch_size=40)
    for trainer in (tried, untried):
        trainer.fit(points(), max_steps=3, batch_size=8)
    for part in ("generator", "discriminator", "progress", "run_rng", "history"):
        states = [trainer.state_objects()[part].state_dict() for trainer in (tried, untried)]
        assert plain(states[0]) == plain(states[1])


def test_a_bad_batch_leaves_the_steps_before_it(make_trainer):
    trainer, other = make_trainer(), make_trainer()
    good = list(points().split(8))
    with pytest.raises(ValueError, match="`batch` must be finite"):
        trainer.fit([*good[:3], torch.full((8, 2), NAN), good[3]], max_epochs=1)
    other.fit(good[:3], max_epochs=1)
    assert trainer.progress.step == 3
    assert plain(trainer.generator.state_dict()) == plain(other.generator.state_dict())
    assert trainer.history.generator_loss == other.history.generator_loss


@pytest.mark.parametrize("labels", [False, True])
def test_batch_norm_drops_a_last_labeled_sample(make_trainer, labels):
    trainer = make_trainer(num_classes=CLASSES if labels else 0)
    data = points(17)
    trainer.fit(TensorDataset(data, RIGHT[:17]) if labels else data, max_epochs=1, batch_size=8)
    assert trainer.progress.step == 2
    without = make_trainer(hidden=(8,))
    without.fit(data, max_epochs=1, batch_size=8)
    assert without.progress.step == 3


class AnyShape(nn.Module):
    """A discriminator that takes samples of any shape."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, samples: Tensor) -> Tensor:
        return self.scale * samples.flatten(1).mean(1)


def foreign_trainer(update_order: str, **options: Any) -> GANTrainer:
    """Return a trainer of networks that declare nothing, draw numbers and keep statistics."""
    generator = nn.Sequential(
        nn.Linear(8, 4),
        nn.BatchNorm1d(4),
        nn.Dropout(0.5),
        nn.Linear(4, 2),
        nn.Unflatten(1, (1, 2)),
    )
    return GANTrainer(
        generator,
        AnyShape(),
        update_order=update_order,
        device="cpu",
        **({"latent_sampler": normal_latents(8)} | options),
    )


@pytest.mark.parametrize("update_order", ["generator_first", "discriminator_first"])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("shape", [(2,), (1, 3)])
def test_fakes_of_another_shape_change_nothing(update_order, begun, shape):
    trainer = foreign_trainer(update_order)
    if begun:
        trainer.train_step(torch.rand(8, 1, 2) * 2 - 1)
    before = snapshot(trainer)
    message = (
        rf"`generator` must make fakes .* \(8, {', '.join(map(str, shape))},?\), got \(8, 1, 2\)"
    )
    with pytest.raises(ValueError, match=message):
        trainer.train_step(torch.zeros(8, *shape))
    assert snapshot(trainer) == before
    trainer.train_step(torch.rand(8, 1, 2) * 2 - 1)


def drawn(n: int, rng: torch.Generator) -> Tensor:
    return torch.randn(n, 8, generator=rng)


@cases(
    Bad("an array", lambda n, rng: drawn(n, rng).numpy(), TypeError, ("`latent_sampler`", "array")),
    Bad(
        "one too many", lambda n, rng: drawn(n + 1, rng), ValueError, ("(8, 1, 2), got (9, 1, 2)",)
    ),
)
def test_bad_latents_change_nothing(bad):
    trainer = foreign_trainer("generator_first", latent_sampler=bad.call)
    before = snapshot(trainer)
    with pytest.raises(bad.error) as raised:
        trainer.train_step(torch.zeros(8, 1, 2))
    check(raised, bad)
    assert snapshot(trainer) == before


def test_bad_latents_give_no_samples():
    trainer = foreign_trainer(
        "generator_first", latent_sampler=lambda n, rng: drawn(n, rng).numpy()
    )
    with pytest.raises(TypeError, match=r"`latent_sampler` must be a function .* returns a Tensor"):
        trainer.sample(3)


# -- construction ----------------------------------------------------------------------------------


def with_attributes(network: nn.Module, **attributes: Any) -> nn.Module:
    for name, value in attributes.items():
        setattr(network, name, value)
    return network


SIGMOID = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
PROBABILITIES = BCEAdversarialLoss(from_logits=False)


def gan(generator: Any = None, discriminator: Any = None, **options: Any) -> Callable[[], Any]:
    return lambda: GANTrainer(
        Generator(8, (2,)) if generator is None else generator,
        Discriminator((2,)) if discriminator is None else discriminator,
        **options,
    )


ORDERS = "'generator_first', 'discriminator_first'"


@cases(
    Bad("latent_dim 0", partial(Generator, 0), ValueError, ("`latent_dim`", POSITIVE + "0")),
    Bad("latent_dim 1.5", partial(Generator, 1.5), TypeError, ("`latent_dim`", "got 1.5")),
    Bad("sample_shape ()", partial(Generator, 8, ()), ValueError, ("`sample_shape`", "one entry")),
    Bad("sample_shape 2", partial(Generator, 8, 2), TypeError, ("`sample_shape`", "got 2")),
    Bad("hidden 0", partial(Generator, 8, hidden=(8, 0)), ValueError, ("`hidden[1]`", "got 0")),
    Bad(
        "eps of no norm", partial(Generator, hidden=(8,), norm_eps=-1), ValueError, ("`norm_eps`",)
    ),
    Bad("classes -1", partial(Generator, num_classes=-1), ValueError, ("`num_classes`", "got -1")),
    Bad("side 0", partial(Discriminator, (1, 0, 28)), ValueError, ("`sample_shape[1]`", "got 0")),
    Bad("dropout 1", partial(Discriminator, dropout=1.0), ValueError, ("`dropout`", "got 1.0")),
    Bad("output", partial(Generator, output="relu"), ValueError, ("`output`", "got 'relu'")),
    Bad("conv latent 0", partial(ConvGenerator, 0), ValueError, ("`latent_dim`", "got 0")),
    Bad("conv shape", partial(ConvDiscriminator, (28, 28)), ValueError, ("`sample_shape`", "28")),
    Bad("decay 1", partial(EMA, 1.0), ValueError, ("`decay`", "[0, 1)", "got 1.0")),
    Bad("R1 -1", partial(R1, -1.0), ValueError, ("`gamma`", "got -1.0")),
    Bad("R1 every 0", partial(R1, 1.0, every=0), ValueError, ("`every`", POSITIVE + "0")),
    Bad("R2 nan", partial(R2, NAN), ValueError, ("`gamma`", "finite", "got nan")),
    Bad("penalty '1'", partial(GradientPenalty, "1"), TypeError, ("`weight`", "got '1'")),
    Bad("label 2", partial(BCEAdversarialLoss, real_label=2.0), ValueError, ("`real_label`", "2")),
    Bad("lr 0", partial(adam, 0.0), ValueError, ("`lr`", "in (0, inf), got 0.0")),
    Bad("one beta", partial(adam, betas=(0.5,)), ValueError, ("`betas`", "two numbers", "(0.5,)")),
    Bad("a number as betas", partial(adam, betas=0.5), ValueError, ("`betas`", "got 0.5")),
    Bad("beta 1", partial(adam, betas=(1.0, 0.9)), ValueError, ("`betas[0]`", "got 1.0")),
    Bad(
        "keep 0", partial(Checkpoint, ".", every_n_steps=1, keep=0), ValueError, ("`keep`", "got 0")
    ),
    Bad("grid side 0", partial(SampleGrid, ".", side=0), ValueError, ("`side`", "got 0")),
    Bad(
        "grid every -1",
        partial(SampleGrid, ".", every_n_steps=-1),
        ValueError,
        ("`every_n_steps`", "got -1"),
    ),
    Bad(
        "log every 0",
        partial(CSVLog, "log.csv", every_n_steps=0),
        ValueError,
        ("`every_n_steps`", "got 0"),
    ),
    Bad(
        "events every 0",
        partial(TensorBoardLog, ".", every_n_steps=0),
        ValueError,
        ("`every_n_steps`", "got 0"),
    ),
    Bad(
        "guard every 0",
        partial(NaNGuard, every_n_steps=0),
        ValueError,
        ("`every_n_steps`", "got 0"),
    ),
    Bad("seconds -1", partial(ConsoleLog, -1.0), ValueError, ("`seconds`", "got -1.0")),
    Bad(
        "k 0",
        gan(discriminator_steps=0),
        ValueError,
        ("`discriminator_steps`", POSITIVE + "0"),
    ),
    Bad(
        "k 1.5",
        gan(discriminator_steps=1.5),
        TypeError,
        ("`discriminator_steps`", "got 1.5"),
    ),
    Bad("seed -1", gan(seed=-1), ValueError, ("`seed`", "non-negative", "got -1")),
    Bad("seed 'a'", gan(seed="a"), TypeError, ("`seed`", "got 'a'")),
    Bad(
        "seed 2**63",
        gan(seed=2**63),
        ValueError,
        ("`seed`", f"at most {2**63 - 1}", "got 92"),
    ),
    Bad(
        "update order",
        gan(update_order="both"),
        ValueError,
        ("`update_order`", ORDERS, "got 'both'"),
    ),
    Bad(
        "precision",
        gan(precision="fp16"),
        ValueError,
        ("`precision`", "'fp32', 'bf16'", "fp16"),
    ),
    Bad("device", gan(device="quantum"), ValueError, ("`device`", "'cpu'", "got 'quantum'")),
    Bad("no such device", gan(device="cuda:99"), ValueError, ("`device`", "got 'cuda:99'")),
    Bad("device 1.5", gan(device=1.5), ValueError, ("`device`", "got 1.5")),
    Bad(
        "a sigmoid with a loss of logits",
        gan(discriminator=SIGMOID),
        ValueError,
        ("`loss`", "Sigmoid", "BCEAdversarialLoss(from_logits=False)"),
    ),
    Bad("a sigmoid with hinge", gan(None, SIGMOID, loss=HingeLoss()), ValueError, ("`loss`",)),
    Bad(
        "a functional sigmoid that is declared",
        gan(discriminator=with_attributes(nn.Linear(2, 1), outputs_logits=False)),
        ValueError,
        ("`loss` must take probabilities", "BCEAdversarialLoss(from_logits=False)"),
    ),
    Bad(
        "declared logits with a loss of probabilities",
        gan(
            discriminator=with_attributes(nn.Linear(2, 1), outputs_logits=True), loss=PROBABILITIES
        ),
        ValueError,
        ("`loss` must take logits", "Linear"),
    ),
    Bad(
        "logits with a loss of probabilities",
        gan(loss=PROBABILITIES),
        ValueError,
        ("`loss` must take logits", "Discriminator", "from_logits=False"),
    ),
    Bad(
        "networks of two shapes",
        gan(discriminator=Discriminator((3,))),
        ValueError,
        ("`discriminator`", "sample_shape (2,)", "got (3,)"),
    ),
    Bad(
        "another shape in a list",
        gan(discriminator=with_attributes(nn.Linear(2, 1), sample_shape=[3])),
        ValueError,
        ("`discriminator`", "sample_shape (2,)", "got (3,)"),
    ),
    Bad(
        "classes for one network alone",
        gan(Generator(8, (2,), num_classes=3)),
        ValueError,
        ("`discriminator`", "num_classes 3", "got 0"),
    ),
    Bad(
        "classes of which a foreign network says nothing",
        gan(Generator(8, (2,), num_classes=3), nn.Linear(2, 1)),
        ValueError,
        ("`discriminator`", "num_classes 3", "got 0"),
    ),
    Bad(
        "no latents",
        gan(nn.Linear(8, 2)),
        ValueError,
        ("`latent_sampler`", "Linear", "got None"),
    ),
    Bad("no weights", gan(nn.Identity()), ValueError, ("`generator`", "parameters to train")),
    Bad("no network", gan(lambda z: z), TypeError, ("`generator`", "Module", "function")),
    Bad(
        "a class",
        gan(None, Discriminator),
        TypeError,
        ("`discriminator`", "Module", "class"),
    ),
    Bad(
        "a loss by name",
        gan(loss="bce"),
        TypeError,
        ("`loss`", "AdversarialLoss", "got 'bce'"),
    ),
    Bad("a class of losses", gan(loss=HingeLoss), TypeError, ("`loss`", "HingeLoss")),
    Bad("a class of penalties", gan(penalties=[R1]), TypeError, ("`penalties[0]`", "R1")),
    Bad("a number as penalty", gan(penalties=[1.0]), TypeError, ("`penalties[0]`", "got 1.0")),
    Bad("a penalty alone", gan(penalties=R1(1.0)), TypeError, ("`penalties`", "R1")),
    Bad(
        "no schedule",
        gan(lr_schedule=0.5),
        TypeError,
        ("`lr_schedule`", "linear_decay", "0.5"),
    ),
    Bad("no callback", gan(callbacks=[print]), TypeError, ("`callbacks[0]`", "print")),
    Bad("a callback alone", gan(callbacks=Callback()), TypeError, ("`callbacks`", "Callback")),
    Bad("a number as EMA", gan(ema=0.999), TypeError, ("`ema`", "EMA", "got 0.999")),
    Bad(
        "latents by name",
        gan(latent_sampler="normal"),
        TypeError,
        ("`latent_sampler`", "got 'normal'"),
    ),
    Bad(
        "an optimizer by name",
        gan(generator_optimizer="adam"),
        TypeError,
        ("`generator_optimizer`", "a function that creates an optimizer", "got 'adam'"),
    ),
    Bad(
        "an optimizer of a rate",
        gan(discriminator_optimizer=lambda weights: 0.1),
        TypeError,
        ("`discriminator_optimizer`", "got 0.1"),
    ),
    Bad(
        "an unknown hook of a callback",
        lambda: type("Mine", (Callback,), {"on_batch_end": print}),
        TypeError,
        ("`Mine.on_batch_end`", "on_fit_start, on_epoch_start", "got `on_batch_end`"),
    ),
    Bad(
        "an unknown hook of a trainer",
        lambda: type("Mine", (GANTrainer,), {"on_epoch_done": print}),
        TypeError,
        ("`Mine.on_epoch_done`", "on_epoch_end", "did you mean `on_epoch_end`"),
    ),
)
def test_a_wrong_argument_is_an_error_where_it_is_given(bad):
    with pytest.raises(bad.error) as raised:
        bad.call()
    check(raised, bad)


@pytest.mark.parametrize("labels", [None, torch.tensor([0, 1])])
def test_networks_refuse_labels_that_do_not_fit(labels):
    classes = 0 if labels is not None else CLASSES
    generator = Generator(8, (2,), num_classes=classes)
    discriminator = Discriminator((2,), num_classes=classes)
    message = "`labels` must be (given to|None for)"
    with pytest.raises(ValueError, match=message):
        generator(torch.zeros(2, 8), labels)
    with pytest.raises(ValueError, match=message):
        discriminator(torch.zeros(2, 2), labels)


def test_an_ema_serves_one_trainer(make_trainer):
    ema = EMA(0.9)
    make_trainer(ema=ema)
    with pytest.raises(ValueError, match="`ema` must be new"):
        make_trainer(ema=ema)


def test_outputs_outside_0_1_are_no_probabilities():
    discriminator = nn.Sequential(nn.Linear(2, 1), nn.Softplus(), nn.Flatten(0))
    trainer = GANTrainer(Generator(8, (2,)), discriminator, loss=PROBABILITIES, device="cpu")
    with torch.no_grad():
        discriminator[0].bias.fill_(5.0)
    before = [weight.clone() for weight in discriminator.parameters()]
    with pytest.raises(ValueError, match="must be probabilities in"):
        trainer.train_step(points())
    assert trainer.progress.step == 0
    assert all(torch.equal(a, b) for a, b in zip(discriminator.parameters(), before, strict=True))


# -- files and packages ----------------------------------------------------------------------------


def of_another_architecture(folder: Path, make_trainer: MakeTrainer) -> Path:
    make_trainer(hidden=(8, 16)).save(folder / "run.pt")
    return folder / "run.pt"


def of_text(folder: Path, make_trainer: MakeTrainer) -> Path:
    (folder / "run.pt").write_text("epoch,loss\n1,0.5\n")
    return folder / "run.pt"


def of_torch(folder: Path, make_trainer: MakeTrainer) -> Path:
    torch.save({"generator": {"weight": torch.zeros(3)}}, folder / "run.pt")
    return folder / "run.pt"


def missing(folder: Path, make_trainer: MakeTrainer) -> Path:
    return folder / "run.pt"


ARCHITECTURE = ("generator has another architecture", "must have the shape", "got (8")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (of_another_architecture, CheckpointError, ARCHITECTURE),
        (of_text, CheckpointError, ("run.pt is not a checkpoint",)),
        (of_torch, CheckpointError, ("run.pt is not a checkpoint",)),
        (missing, FileNotFoundError, ("`path` must be a checkpoint file", "run.pt")),
    ],
)
def test_a_wrong_file_leaves_the_trainer_unchanged(make_trainer, tmp_path, make, error, words):
    path = make(tmp_path, make_trainer)
    trainer = make_trainer()
    trainer.fit(points(), max_steps=7, batch_size=8)
    before = snapshot(trainer)
    bad = Bad(make.__name__, trainer.load, error, words)
    with pytest.raises(error) as raised:
        trainer.load(path)
    check(raised, bad)
    assert snapshot(trainer) == before
    trainer.fit(points(), max_steps=8, batch_size=8)


@pytest.mark.parametrize("make", [of_text, of_torch])
def test_a_generator_needs_a_checkpoint(make_trainer, tmp_path, make):
    with pytest.raises(CheckpointError, match=r"run\.pt is not a checkpoint"):
        load_generator(make(tmp_path, make_trainer))


def test_a_missing_extra_is_an_error_at_creation(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(MissingExtraError, match=r"ProgressBar needs .* 'vanillagan\[progress\]'"):
        ProgressBar()
