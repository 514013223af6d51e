"""What is in a checkpoint, and what happens where one is damaged, foreign or doesn't fit."""

from __future__ import annotations

import copy
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR

from tests.test_resume import leaves
from vanillagan import (
    EMA,
    Callback,
    ConvDiscriminator,
    ConvGenerator,
    Discriminator,
    GANTrainer,
    Generator,
    checkpoint,
    load_generator,
)
from vanillagan.callbacks import Checkpoint, LRSchedule
from vanillagan.errors import CheckpointError
from vanillagan.optimizers import adam


def plain(state: Any) -> dict[str, Any]:
    """The leaves of a nested state by place, tensors as lists."""
    return {
        place: value.tolist() if isinstance(value, Tensor) else value
        for place, value in leaves(state)
    }


def snapshot(trainer: GANTrainer) -> dict[str, Any]:
    """All of the trainer's state, as places and values."""
    return plain({name: part.state_dict() for name, part in trainer.parts().items()})


class Memory(Callback):
    """Keeps what it is given."""

    def __init__(self, kept: Any = 7) -> None:
        self.kept = kept

    def state_dict(self):
        return {"kept": self.kept}

    def load_state_dict(self, state):
        self.kept = state["kept"]


class Linear(nn.Module):
    """A generator that is not the library's own."""

    latent_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, latent: Tensor) -> Tensor:
        return self.layer(latent).tanh()


@pytest.fixture
def saved(tmp_path: Path, points: Tensor, make_trainer: Callable[..., GANTrainer]) -> Path:
    """A checkpoint after three steps."""
    trainer = make_trainer()
    trainer.fit(points, steps=3, batch_size=32)
    trainer.save(tmp_path / "run.pt")
    return tmp_path / "run.pt"


# -- the file --------------------------------------------------------------------------------------


def test_a_checkpoint_holds_tensors_and_primitives_alone(tmp_path, points, make_trainer):
    trainer = make_trainer(
        ema=EMA(0.9),
        callbacks=[Memory(), LRSchedule(partial(ExponentialLR, gamma=0.9), interval="step")],
    )
    trainer.fit(points, steps=3, batch_size=32)
    trainer.save(tmp_path / "run.pt")
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    kinds = {type(value) for _, value in leaves(content)}
    assert kinds <= {Tensor, list, bool, int, float, str, type(None)}
    assert plain(content["parts"]) == snapshot(trainer)


def test_missing_folders_are_made(tmp_path, make_trainer):
    make_trainer().save(tmp_path / "a" / "b" / "run.pt")
    assert (tmp_path / "a" / "b" / "run.pt").is_file()


def test_load_brings_back_all_of_the_state(saved, make_trainer):
    torch.manual_seed(5)
    trainer = GANTrainer(Generator(8, (2,), hidden=(16, 16)), Discriminator((2,), hidden=(16,)))
    trainer.load(saved)
    assert snapshot(trainer) == plain(torch.load(saved, weights_only=True)["parts"])


def test_a_trainer_that_has_loaded_saves_the_same_again(tmp_path, points, make_trainer):
    trainer = make_trainer(
        callbacks=[LRSchedule(partial(ExponentialLR, gamma=0.9), interval="step")]
    )
    trainer.fit(points, steps=2, batch_size=32)
    trainer.save(tmp_path / "run.pt")
    then = snapshot(trainer)
    trainer.fit(points, steps=5, batch_size=32)
    trainer.load(tmp_path / "run.pt")
    assert snapshot(trainer) == then


def test_going_back_to_the_start_takes_the_schedule_back_too(tmp_path, points, make_trainer):
    halving = partial(LambdaLR, lr_lambda=lambda step: 0.5**step)
    trainer = make_trainer(callbacks=[LRSchedule(halving, interval="step")])
    trainer.save(tmp_path / "start.pt")
    for _ in range(2):
        trainer.load(tmp_path / "start.pt")
        trainer.fit(points, steps=3, batch_size=32)
        rate = trainer.players["generator"].optimizer.param_groups[0]["lr"]
        assert rate == 2e-4 * 0.5**3


@pytest.mark.parametrize("scalar", [np.float64(1e-3), np.float64(1e-3).item()], ids=["numpy", "py"])
def test_a_learning_rate_of_either_kind_can_be_saved_and_loaded(tmp_path, make_trainer, scalar):
    trainer = make_trainer(generator_optimizer=adam(lr=scalar))
    trainer.save(tmp_path / "run.pt")
    trainer.load(tmp_path / "run.pt")
    assert trainer.players["generator"].optimizer.param_groups[0]["lr"] == 1e-3


def test_a_foreign_network_with_a_config_of_its_own_can_be_saved_and_loaded(tmp_path):
    generator = Linear()
    generator.config = slice(3)
    trainer = GANTrainer(generator, Discriminator((2,)), device="cpu")
    trainer.save(tmp_path / "run.pt")
    before = snapshot(trainer)
    trainer.load(tmp_path / "run.pt")
    assert snapshot(trainer) == before


def test_a_network_with_an_extra_state_can_be_saved_and_loaded(tmp_path):
    class Counting(Linear):
        seen = 0

        def get_extra_state(self):
            return {"seen": self.seen}

        def set_extra_state(self, state):
            self.seen = state["seen"]

    generator = Counting()
    generator.seen = 5
    trainer = GANTrainer(generator, Discriminator((2,)), device="cpu")
    trainer.save(tmp_path / "run.pt")
    generator.seen = 0
    trainer.load(tmp_path / "run.pt")
    assert generator.seen == 5


# -- failures while writing ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kept", [object(), {"deep": [1, {2}]}, np.zeros(2)], ids=["object", "set", "array"]
)
def test_a_state_that_cannot_be_read_back_is_not_written(saved, make_trainer, kept):
    before = saved.read_bytes()
    trainer = make_trainer(callbacks=[Memory(kept)])
    with pytest.raises(TypeError, match=r"`state\['callbacks'\].*must hold tensors and primitives"):
        trainer.save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("kept", [np.float64(0.5), np.float32(0.5), np.int64(1)], ids=repr)
def test_a_numpy_scalar_is_refused_or_can_be_read_back(tmp_path, make_trainer, kept):
    trainer = make_trainer(callbacks=[Memory(kept)])
    try:
        trainer.save(tmp_path / "run.pt")
    except TypeError:
        assert list(tmp_path.iterdir()) == []
    else:
        trainer.load(tmp_path / "run.pt")


def test_a_disk_that_is_full_leaves_the_last_checkpoint_and_nothing_else(saved, make_trainer):
    resource = pytest.importorskip("resource")
    before = saved.read_bytes()
    trainer = make_trainer()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises((OSError, RuntimeError)):
            trainer.save(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_in_the_place_of_the_file_stays_and_no_temporary_file_does(tmp_path, make_trainer):
    (tmp_path / "run.pt").mkdir()
    with pytest.raises(OSError, match=r"run\.pt"):
        make_trainer().save(tmp_path / "run.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


# -- files that are no checkpoints, or damaged -----------------------------------------------------


def check_load_refused(trainer: GANTrainer, path: Path, match: str) -> None:
    """`load` says what is wrong, and the trainer is as it was."""
    before = snapshot(trainer)
    with pytest.raises(CheckpointError, match=match):
        trainer.load(path)
    assert snapshot(trainer) == before


def check_refused(trainer: GANTrainer, path: Path, match: str) -> None:
    """`load` and `load_generator` say what is wrong, and the trainer is as it was."""
    check_load_refused(trainer, path, match)
    with pytest.raises(CheckpointError, match=match):
        load_generator(path)


def test_a_missing_file_is_a_file_not_found_error(tmp_path, make_trainer):
    for load in (make_trainer().load, load_generator):
        with pytest.raises(FileNotFoundError, match=r"`path` must be a checkpoint file.*none\.pt"):
            load(tmp_path / "none.pt")


def test_a_text_file_is_refused(tmp_path, make_trainer):
    path = tmp_path / "notes.txt"
    path.write_text("not a checkpoint")
    check_refused(make_trainer(), path, r"notes\.txt is not a checkpoint")


def test_an_empty_file_is_refused(tmp_path, make_trainer):
    path = tmp_path / "empty.pt"
    path.touch()
    check_refused(make_trainer(), path, r"empty\.pt is not a checkpoint")


def test_another_zip_file_is_refused(tmp_path, make_trainer):
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    check_refused(make_trainer(), path, r"other\.zip is not a checkpoint")


@pytest.mark.parametrize(
    "content", [{"weights": torch.zeros(3)}, [1, 2], torch.zeros(3)], ids=["dict", "list", "tensor"]
)
def test_what_torch_saved_for_others_is_refused(tmp_path, make_trainer, content):
    torch.save(content, tmp_path / "foreign.pt")
    check_refused(make_trainer(), tmp_path / "foreign.pt", "is not a checkpoint that")


def test_a_newer_format_is_refused_with_both_versions(saved, make_trainer):
    content = torch.load(saved, weights_only=True)
    checkpoint.write(saved, content | {"version": 2, "vanillagan": "9.1"})
    check_refused(make_trainer(), saved, r"format 2 of vanillagan 9\.1; .* formats up to 1")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(saved, make_trainer, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    check_refused(make_trainer(), saved, "or is damaged: its checksum doesn't fit")


def test_a_flipped_bit_in_the_weights_is_refused(saved, make_trainer):
    weight = torch.load(saved, weights_only=True)["parts"]["generator"]["layers.0.0.weight"]
    content = bytearray(saved.read_bytes())
    content[content.index(weight.numpy().tobytes())] ^= 1
    saved.write_bytes(content)
    check_refused(make_trainer(), saved, "or is damaged: its checksum doesn't fit")


def test_a_flipped_bit_anywhere_is_refused(saved):
    good = saved.read_bytes()
    for place in range(0, len(good), len(good) // 50):
        damaged = bytearray(good)
        damaged[place] ^= 16
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            load_generator(saved)


def test_a_checkpoint_is_a_file_that_torch_reads(saved):
    assert set(torch.load(saved, weights_only=True)) == {"version", "vanillagan", "kinds", "parts"}


class Payload:
    """Writes a file if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "write",
    [
        lambda content, path: checkpoint.write(path, content),
        torch.save,
        lambda content, path: path.write_bytes(pickle.dumps(content)),
    ],
    ids=["checkpoint", "torch", "pickle"],
)
def test_code_in_a_file_is_not_run(saved, make_trainer, write):
    content = torch.load(saved, weights_only=True)
    touched = saved.parent / "touched"
    write(content | {"vanillagan": Payload(touched)}, saved)
    check_refused(make_trainer(), saved, "is not a checkpoint")
    assert not touched.exists()


# -- checkpoints that don't fit --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"hidden": (16, 20)},
            r"generator is of another architecture: `layers.1.0.weight` must have the shape "
            r"\(20, 16\), got \(16, 16\)",
            id="another width",
        ),
        pytest.param(
            {"hidden": (16,)},
            r"weights of the generator don't fit: missing \['layers.1.bias'.*"
            r"unexpected \['layers.1.0.bias'",
            id="fewer layers",
        ),
        pytest.param(
            {"hidden": (16, 16, 16)},
            r"weights of the generator don't fit: missing \['layers.2.0.bias'.*"
            r"unexpected \['layers.2.bias'",
            id="more layers",
        ),
        pytest.param({"num_classes": 3}, "generator is of another architecture", id="classes"),
        pytest.param(
            {"ema": EMA(0.9)}, r"parts don't fit: missing \['ema'\], unexpected none", id="no EMA"
        ),
        pytest.param(
            {"discriminator_optimizer": lambda weights: torch.optim.SGD(weights, lr=0.1)},
            "discriminator_optimizer",
            id="SGD instead of Adam",
        ),
        pytest.param(
            {"generator_optimizer": lambda weights: torch.optim.RMSprop(weights)},
            "generator_optimizer",
            id="RMSprop instead of Adam",
        ),
        pytest.param(
            {
                "generator_optimizer": lambda weights: torch.optim.Adam(
                    [{"params": [weight]} for weight in weights]
                )
            },
            "'generator_optimizer' doesn't fit: .*parameter groups",
            id="other groups of weights",
        ),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(saved, make_trainer, options, message):
    trainer = make_trainer(**copy.deepcopy(options))
    before = snapshot(trainer)
    with pytest.raises(CheckpointError, match=message):
        trainer.load(saved)
    assert snapshot(trainer) == before


def test_a_checkpoint_with_an_average_is_refused_without_one(tmp_path, make_trainer):
    make_trainer(ema=EMA(0.9)).save(tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match=r"missing none, unexpected \['ema'\]"):
        make_trainer().load(tmp_path / "run.pt")


def test_a_callback_that_kept_a_state_may_not_be_gone(tmp_path, make_trainer):
    make_trainer(callbacks=[Memory(), Memory()]).save(tmp_path / "run.pt")
    trainer = make_trainer(callbacks=[Memory(1)])
    before = snapshot(trainer)
    with pytest.raises(CheckpointError, match=r"states of the callbacks \['Memory#2'\]"):
        trainer.load(tmp_path / "run.pt")
    assert snapshot(trainer) == before


def test_callbacks_may_come(saved, make_trainer):
    trainer = make_trainer(callbacks=[Memory(1)])
    trainer.load(saved)
    assert trainer.progress.step == 3
    assert trainer.callbacks[0].kept == 1


def test_callbacks_of_one_class_get_their_own_states_back(tmp_path, make_trainer):
    make_trainer(callbacks=[Memory(1), Memory(2)]).save(tmp_path / "run.pt")
    trainer = make_trainer(callbacks=[Memory(), Memory()])
    trainer.load(tmp_path / "run.pt")
    assert [callback.kept for callback in trainer.callbacks] == [1, 2]


@pytest.mark.parametrize(
    "part",
    [
        "generator_optimizer",
        "discriminator_optimizer",
        "progress",
        "history",
        "order",
        "latent_rng",
        "global_rng",
        "ema",
    ],
)
def test_a_part_that_does_not_fit_leaves_all_the_others_as_they_were(
    tmp_path, points, make_trainer, part
):
    schedule = LRSchedule(partial(ExponentialLR, gamma=0.9), interval="step")
    trainer = make_trainer(ema=EMA(0.9), callbacks=[Memory(), schedule])
    trainer.fit(points, steps=3, batch_size=32)
    trainer.save(tmp_path / "run.pt")
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    content["parts"][part] = {"foreign": 1}
    checkpoint.write(tmp_path / "run.pt", content)

    schedule = LRSchedule(partial(ExponentialLR, gamma=0.9), interval="step")
    other = make_trainer(ema=EMA(0.9), callbacks=[Memory(1), schedule], seed=4)
    before = snapshot(other)
    with pytest.raises(CheckpointError, match=f"{part}"):
        other.load(tmp_path / "run.pt")
    assert snapshot(other) == before


# -- states of optimizers --------------------------------------------------------------------------


def groups(*, weights_first: bool) -> Callable[..., torch.optim.Optimizer]:
    """An Adam of two groups, the weights and the biases, of as many parameters each."""

    def make(parameters):
        parameters = list(parameters)
        pair = [{"params": parameters[::2]}, {"params": parameters[1::2]}]
        return torch.optim.Adam(pair if weights_first else pair[::-1], fused=True)

    return make


def test_groups_of_the_same_weights_in_another_order_are_refused(tmp_path, points, make_trainer):
    trainer = make_trainer(generator_optimizer=groups(weights_first=True))
    trainer.fit(points, steps=1, batch_size=32)
    trainer.save(tmp_path / "run.pt")
    check_load_refused(
        make_trainer(generator_optimizer=groups(weights_first=False)),
        tmp_path / "run.pt",
        r"'generator_optimizer' doesn't fit: `exp_avg` of parameter 0 must have the shape",
    )
    make_trainer(generator_optimizer=groups(weights_first=True)).load(tmp_path / "run.pt")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning")
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        *(
            pytest.param("exp_avg_sq", torch.zeros(shape), r"the shape \(16,\), got", id=f"{shape}")
            for shape in [(), (0,), (1,), (10,), (16, 1)]
        ),
        pytest.param("step", torch.zeros(16), r"the shape \(\), got \(16,\)", id="step"),
        pytest.param("exp_avg", torch.zeros(1).expand(16), "a dense tensor", id="expanded"),
        pytest.param("exp_avg", torch.zeros(16).to_sparse(), "a dense tensor", id="sparse"),
    ],
)
def test_an_optimizer_state_that_does_not_fit_its_weight_is_refused(
    saved, make_trainer, key, value, message
):
    content = torch.load(saved, weights_only=True)
    content["parts"]["generator_optimizer"]["state"][3][key] = value
    checkpoint.write(saved, content)
    check_load_refused(make_trainer(), saved, f"`{key}` of parameter 3 must (be|have) {message}")


@pytest.mark.parametrize("state", [[1], {0: [1]}, None], ids=["list", "list inside", "None"])
def test_an_optimizer_state_of_another_form_is_refused(saved, make_trainer, state):
    content = torch.load(saved, weights_only=True)
    content["parts"]["generator_optimizer"]["state"] = state
    checkpoint.write(saved, content)
    check_load_refused(make_trainer(), saved, "'generator_optimizer' doesn't fit")


def test_an_optimizer_of_other_parameters_in_its_groups_is_refused(saved, make_trainer):
    content = torch.load(saved, weights_only=True)
    content["parts"]["generator_optimizer"]["param_groups"][0]["params"][0] = 1
    checkpoint.write(saved, content)
    check_load_refused(make_trainer(), saved, "parameter groups must hold the same parameters")


BUILT_IN = [
    cls
    for cls in vars(torch.optim).values()
    if isinstance(cls, type)
    and issubclass(cls, torch.optim.Optimizer)
    and cls.__name__ not in ("Optimizer", "SparseAdam", "Muon")  # not for these gradients or biases
]


def one_step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = sum(parameter.square().sum() for parameter in parameters)
        loss.backward()
        return loss

    optimizer.step(closure)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in BUILT_IN),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.Adam, {"amsgrad": True, "fused": True}),
        (torch.optim.RMSprop, {"momentum": 0.9, "centered": True}),
    ],
)
def test_the_state_of_each_built_in_optimizer_comes_back(kind, options):
    parameters = [nn.Parameter(torch.rand(shape)) for shape in [(3, 4), (3,), ()]]
    optimizer, other = (kind(parameters, **options) for _ in range(2))
    one_step(optimizer, parameters)
    content = copy.deepcopy(checkpoint.collect({"optimizer": optimizer}))
    checkpoint.restore({"optimizer": other}, content)
    assert plain(other.state_dict()) == plain(optimizer.state_dict())
    one_step(other, parameters)


def test_a_foreign_optimizer_may_keep_states_of_any_shape():
    class LowRank(torch.optim.Optimizer):
        def __init__(self, parameters):
            super().__init__(parameters, {})

    weight = nn.Parameter(torch.rand(8, 8))
    optimizer, other = LowRank([weight]), LowRank([weight])
    optimizer.state[weight] = {"exp_avg": torch.ones(2, 8), "codes": [torch.zeros(3), None]}
    checkpoint.restore({"optimizer": other}, checkpoint.collect({"optimizer": optimizer}))
    assert other.state[weight]["exp_avg"].shape == (2, 8)


# -- load_generator --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generator", "discriminator", "labels"),
    [
        pytest.param(
            lambda: Generator(8, (2,), hidden=(16, 16), output="linear", norm_eps=0.8),
            lambda: Discriminator((2,)),
            None,
            id="perceptron",
        ),
        pytest.param(
            lambda: Generator(8, (2,), hidden=(16,), num_classes=3),
            lambda: Discriminator((2,), num_classes=3),
            [0, 1, 2, 0],
            id="conditional",
        ),
        pytest.param(
            lambda: ConvGenerator(8, (3, 10, 12), width=4),
            lambda: ConvDiscriminator((3, 10, 12), width=4),
            None,
            id="convolutional",
        ),
        pytest.param(
            lambda: ConvGenerator(8, (1, 8, 8), width=4, num_classes=3, output="linear"),
            lambda: ConvDiscriminator((1, 8, 8), width=4, num_classes=3),
            [0, 1, 2, 0],
            id="conditional convolutional",
        ),
    ],
)
@pytest.mark.parametrize("ema", [None, 0.5], ids=["weights", "EMA weights"])
def test_load_generator_samples_as_the_trainer_does(
    tmp_path, generator, discriminator, labels, ema
):
    trainer = GANTrainer(
        generator(), discriminator(), ema=None if ema is None else EMA(ema), device="cpu"
    )
    shape = trainer.generator.sample_shape
    for _ in range(3):
        trainer.train_step((torch.rand(4, *shape), torch.tensor([0, 1, 2, 0])))
    trainer.save(tmp_path / "run.pt")
    loaded = load_generator(tmp_path / "run.pt")

    latent = torch.randn(4, 8)
    inputs = (latent,) if labels is None else (latent, torch.tensor(labels))
    network = trainer.generator if ema is None else trainer.ema.network
    with torch.no_grad():
        assert torch.equal(loaded(*inputs), copy.deepcopy(network).eval()(*inputs))
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(
        loaded.sample(4, labels=labels, seed=3), trainer.sample(4, labels=labels, seed=3)
    )


def test_load_generator_keeps_the_dtype_of_the_weights(tmp_path):
    trainer = GANTrainer(Generator(8, (2,)).double(), Discriminator((2,)).double(), device="cpu")
    trainer.save(tmp_path / "run.pt")
    loaded = load_generator(tmp_path / "run.pt")
    assert torch.equal(loaded.sample(4, seed=3), trainer.sample(4, seed=3))


@pytest.fixture
def foreign(tmp_path: Path) -> tuple[GANTrainer, Path]:
    trainer = GANTrainer(Linear(), Discriminator((2,)), ema=EMA(0.5), device="cpu")
    for _ in range(3):
        trainer.train_step(torch.rand(4, 2))
    trainer.save(tmp_path / "run.pt")
    return trainer, tmp_path / "run.pt"


def test_load_generator_fills_a_foreign_network(foreign):
    trainer, path = foreign
    network = Linear()
    assert load_generator(path, network=network) is network
    assert torch.equal(network.layer.weight, trainer.ema.network.layer.weight)
    assert not torch.equal(network.layer.weight, trainer.generator.layer.weight)
    assert not network.training


def test_load_generator_asks_for_a_foreign_network(foreign):
    _, path = foreign
    with pytest.raises(CheckpointError, match=r"class Linear, .* give one like it as `network`"):
        load_generator(path)


def test_load_generator_refuses_a_network_of_another_architecture(foreign):
    _, path = foreign
    with pytest.raises(CheckpointError, match="weights of the generator don't fit"):
        load_generator(path, network=Generator(4, (2,)))


def test_load_generator_does_not_mistake_a_foreign_network_for_the_librarys_of_the_same_name(
    tmp_path,
):
    foreign_class = type(
        "Generator", (Generator,), {"forward": lambda self, z: self.layers(z).neg()}
    )
    trainer = GANTrainer(foreign_class(8, (2,)), Discriminator((2,)), device="cpu")
    trainer.save(tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match="give one like it as `network`"):
        load_generator(tmp_path / "run.pt")


def test_load_generator_refuses_an_unknown_device(saved):
    with pytest.raises(ValueError, match="`device` must be a device that is available here"):
        load_generator(saved, device="quantum")


# -- callbacks.Checkpoint --------------------------------------------------------------------------


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("keep", [1, 3])
def test_the_callback_keeps_the_last_checkpoints(tmp_path, points, make_trainer, keep):
    callback = Checkpoint(tmp_path, every_steps=2, keep=keep)
    make_trainer(callbacks=[callback]).fit(points, steps=9, batch_size=32)
    expected = [f"step-{step:08d}.pt" for step in (2, 4, 6, 8)][-keep:]
    assert names_in(tmp_path) == expected
    assert callback.latest == tmp_path / expected[-1]


def test_the_callback_goes_on_keeping_as_many_after_a_resume(tmp_path, points, make_trainer):
    first = Checkpoint(tmp_path, every_steps=2, keep=2)
    make_trainer(callbacks=[first]).fit(points, steps=5, batch_size=32)
    second = Checkpoint(tmp_path, every_steps=2, keep=2)
    trainer = make_trainer(callbacks=[second])
    trainer.load(first.latest)
    trainer.fit(points, steps=6, batch_size=32)
    assert names_in(tmp_path) == ["step-00000004.pt", "step-00000006.pt"]


def test_the_callback_saves_at_the_ends_of_epochs(tmp_path, points, make_trainer):
    trainer = make_trainer(callbacks=[Checkpoint(tmp_path, every_epochs=2)])
    trainer.fit(points, epochs=5, batch_size=100)
    assert names_in(tmp_path) == ["step-00000004.pt", "step-00000008.pt"]
    trainer.load(tmp_path / "step-00000008.pt")
    assert (trainer.progress.epoch, trainer.progress.batch) == (4, 0)


def test_the_callback_keeps_the_last_good_checkpoint_where_weights_diverge(
    tmp_path, points, make_trainer
):
    class Diverge(Callback):
        def on_step_end(self, trainer, result):
            if trainer.progress.step == 3:
                nn.init.constant_(trainer.discriminator.layers[0][0].weight, float("nan"))

    callback = Checkpoint(tmp_path, every_steps=2, keep=1)
    trainer = make_trainer(callbacks=[Diverge(), callback])
    with pytest.warns(UserWarning, match=r"no checkpoint at step 4: .*last good one is .*02\.pt"):
        trainer.fit(points, steps=4, batch_size=32)
    assert names_in(tmp_path) == ["step-00000002.pt"]


def test_the_callback_forgets_no_checkpoint_where_saving_fails(tmp_path, points, make_trainer):
    callback = Checkpoint(tmp_path, every_steps=2, keep=1)
    memory = Memory()
    trainer = make_trainer(callbacks=[callback, memory])
    trainer.fit(points, steps=2, batch_size=32)
    memory.kept = object()
    with pytest.raises(TypeError, match="must hold tensors and primitives"):
        trainer.fit(points, steps=4, batch_size=32)
    assert callback.latest == tmp_path / "step-00000002.pt"
    assert names_in(tmp_path) == ["step-00000002.pt"]


def test_a_foreign_checkpoint_cannot_make_the_callback_delete_files(tmp_path, points, make_trainer):
    victim = tmp_path / "thesis.tex"
    victim.write_text("x")
    folder = tmp_path / "checkpoints"
    first = Checkpoint(tmp_path / "first", every_steps=2)
    make_trainer(callbacks=[first]).fit(points, steps=2, batch_size=32)
    content = torch.load(first.latest, weights_only=True)
    assert content["parts"]["callbacks"]["Checkpoint#1"] == {}
    # such as versions before wrote it
    content["parts"]["callbacks"]["Checkpoint#1"] = {"saved": [str(victim), "../thesis.tex"]}
    checkpoint.write(tmp_path / "foreign.pt", content)
    trainer = make_trainer(callbacks=[Checkpoint(folder, every_steps=2, keep=1)])
    trainer.load(tmp_path / "foreign.pt")
    trainer.fit(points, steps=6, batch_size=32)
    assert victim.exists()
    assert names_in(folder) == ["step-00000006.pt"]


def test_the_callback_deletes_only_files_of_its_own_names(tmp_path, points, make_trainer):
    others = ["step-00000001.pt.bak", "step-1.pt", "my-step-00000001.pt", "step-final.pt"]
    for name in others:
        (tmp_path / name).write_text("x")
    (tmp_path / "step-00000000.pt").mkdir()
    trainer = make_trainer(callbacks=[Checkpoint(tmp_path, every_steps=1, keep=1)])
    trainer.fit(points, steps=3, batch_size=32)
    assert names_in(tmp_path) == sorted([*others, "step-00000000.pt", "step-00000003.pt"])


def test_a_new_run_leaves_the_files_of_an_earlier_run_alone(tmp_path, points, make_trainer):
    earlier = Checkpoint(tmp_path, every_steps=3, keep=9)
    make_trainer(callbacks=[earlier]).fit(points, steps=12, batch_size=32)
    assert [int(name[5:13]) for name in names_in(tmp_path)] == [3, 6, 9, 12]
    callback = Checkpoint(tmp_path, every_steps=4, keep=1)
    assert callback.latest is None
    trainer = make_trainer(callbacks=[callback])
    trainer.fit(points, steps=3, batch_size=32)
    assert callback.latest is None
    for steps in (4, 8):  # a second and a third `fit` are no resumes
        trainer.fit(points, steps=steps, batch_size=32)
        assert callback.latest == tmp_path / f"step-{steps:08d}.pt"
    assert [int(name[5:13]) for name in names_in(tmp_path)] == [3, 6, 8, 9, 12]


def test_the_callback_forgets_the_files_after_the_step_that_it_goes_back_to(
    tmp_path, points, make_trainer
):
    callback = Checkpoint(tmp_path, every_steps=2, keep=2)
    trainer = make_trainer(callbacks=[callback])
    trainer.fit(points, steps=8, batch_size=32)
    trainer.load(tmp_path / "step-00000006.pt")
    trainer.fit(points, steps=7, batch_size=32)
    assert callback.latest == tmp_path / "step-00000006.pt"
    trainer.fit(points, steps=10, batch_size=32)
    assert callback.latest == tmp_path / "step-00000010.pt"
    assert names_in(tmp_path) == ["step-00000008.pt", "step-00000010.pt"]


def test_latest_is_a_file_that_is_there(tmp_path, points, make_trainer):
    callback = Checkpoint(tmp_path, every_steps=2)
    make_trainer(callbacks=[callback]).fit(points, steps=4, batch_size=32)
    callback.latest.unlink()
    assert callback.latest == tmp_path / "step-00000002.pt"


@pytest.mark.parametrize(
    "options", [{}, {"every_steps": 1, "every_epochs": 1}], ids=["none", "both"]
)
def test_the_callback_takes_one_of_steps_and_epochs(tmp_path, options):
    with pytest.raises(ValueError, match="`every_steps` or `every_epochs` must be given"):
        Checkpoint(tmp_path, **options)


@pytest.mark.parametrize("name", ["every_steps", "every_epochs", "keep"])
def test_the_callback_refuses_zero(tmp_path, name):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive integer, got 0"):
        Checkpoint(tmp_path, **({"every_steps": 1} if name == "keep" else {}), **{name: 0})
