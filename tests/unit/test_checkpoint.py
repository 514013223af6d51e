"""Content of checkpoints, and refusal of damaged, foreign and unfitting ones."""

from __future__ import annotations

import copy
import hashlib
import io
import math
import pickle
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import ConstantLR, ExponentialLR, LambdaLR, ReduceLROnPlateau

from tests.helpers.disk import full_disk
from tests.helpers.states import leaves, plain, snapshot
from tests.helpers.trainers import make_trainer
from vanillagan import (
    EMA,
    R1,
    Callback,
    ConvDiscriminator,
    ConvGenerator,
    Discriminator,
    GANTrainer,
    Generator,
    checkpoint,
    load_discriminator,
    load_generator,
)
from vanillagan.callbacks import (
    BestCheckpoint,
    Checkpoint,
    HealthMonitor,
    LRSchedule,
    MetricLog,
    SampleGrid,
)
from vanillagan.data import normal_latents
from vanillagan.errors import CheckpointError
from vanillagan.networks import TextDiscriminator, TextGenerator
from vanillagan.networks.diffaugment import DiffAugment
from vanillagan.player import adam
from vanillagan.sampling import draw_samples


class Memory(Callback):
    """A callback with a state."""

    def __init__(self, kept: Any = 7) -> None:
        self.kept = kept

    def state_dict(self):
        return {"kept": self.kept}

    def load_state_dict(self, state):
        self.kept = state["kept"]


class Linear(nn.Module):
    """A generator of a class outside of the library."""

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
    trainer.fit(points, max_steps=3, batch_size=32)
    trainer.save(tmp_path / "run.pt")
    return tmp_path / "run.pt"


# -- the file --------------------------------------------------------------------------------------


def test_content_is_tensors_and_primitives(tmp_path, points, make_trainer):
    trainer = make_trainer(
        ema=EMA(0.9),
        callbacks=[Memory(), LRSchedule(partial(ExponentialLR, gamma=0.9), interval="step")],
    )
    trainer.fit(points, max_steps=3, batch_size=32)
    trainer.save(tmp_path / "run.pt")
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    kinds = {type(value) for _, value in leaves(content)}
    assert kinds <= {Tensor, list, bool, int, float, str, type(None)}
    assert plain(content["states"]) == snapshot(trainer)


def test_missing_folders_are_created(tmp_path, make_trainer):
    make_trainer().save(tmp_path / "a" / "b" / "run.pt")
    assert (tmp_path / "a" / "b" / "run.pt").is_file()


def test_load_restores_the_whole_state(saved, make_trainer):
    torch.manual_seed(5)
    networks = Generator(8, (2,), hidden=(16, 16)), Discriminator((2,), hidden=(16,))
    trainer = GANTrainer(*networks, device="cpu")
    trainer.load(saved)
    assert snapshot(trainer) == plain(torch.load(saved, weights_only=True)["states"])


def test_load_replaces_what_was_trained_meanwhile(tmp_path, points, make_trainer):
    trainer = make_trainer(
        callbacks=[LRSchedule(partial(ExponentialLR, gamma=0.9), interval="step")]
    )
    trainer.fit(points, max_steps=2, batch_size=32)
    trainer.save(tmp_path / "run.pt")
    then = snapshot(trainer)
    trainer.fit(points, max_steps=5, batch_size=32)
    trainer.load(tmp_path / "run.pt")
    assert snapshot(trainer) == then


def test_load_restores_the_schedule_of_the_start(tmp_path, points, make_trainer):
    halving = partial(LambdaLR, lr_lambda=lambda step: 0.5**step)
    trainer = make_trainer(callbacks=[LRSchedule(halving, interval="step")])
    trainer.save(tmp_path / "start.pt")
    for _ in range(2):
        trainer.load(tmp_path / "start.pt")
        trainer.fit(points, max_steps=3, batch_size=32)
        rate = trainer.g.optimizer.param_groups[0]["lr"]
        assert rate == 2e-4 * 0.5**3


@pytest.mark.parametrize("scalar", [np.float64(1e-3), np.float64(1e-3).item()], ids=["numpy", "py"])
def test_learning_rates_of_numpy_can_be_saved(tmp_path, make_trainer, scalar):
    trainer = make_trainer(generator_optimizer=adam(lr=scalar))
    trainer.save(tmp_path / "run.pt")
    trainer.load(tmp_path / "run.pt")
    assert trainer.g.optimizer.param_groups[0]["lr"] == 1e-3


def test_a_foreign_network_may_have_a_config(tmp_path):
    generator = Linear()
    generator.config = slice(3)
    trainer = GANTrainer(generator, Discriminator((2,)), device="cpu")
    trainer.save(tmp_path / "run.pt")
    before = snapshot(trainer)
    trainer.load(tmp_path / "run.pt")
    assert snapshot(trainer) == before


def test_the_extra_state_of_a_network_is_restored(tmp_path):
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
    network = Counting()
    load_generator(tmp_path / "run.pt", network=network)
    assert network.seen == 5


# -- failures while writing ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kept", [object(), {"deep": [1, {2}]}, np.zeros(2)], ids=["object", "set", "array"]
)
def test_a_state_that_cannot_be_read_is_not_written(saved, make_trainer, kept):
    before = saved.read_bytes()
    trainer = make_trainer(callbacks=[Memory(kept)])
    with pytest.raises(TypeError, match=r"`state\['callbacks'\].*must hold tensors and primitives"):
        trainer.save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("kept", [np.float64(0.5), np.float32(0.5), np.int64(1)], ids=repr)
def test_a_numpy_scalar_is_refused_or_readable(tmp_path, make_trainer, kept):
    trainer = make_trainer(callbacks=[Memory(kept)])
    try:
        trainer.save(tmp_path / "run.pt")
    except TypeError:
        assert list(tmp_path.iterdir()) == []
    else:
        trainer.load(tmp_path / "run.pt")


def test_a_full_disk_keeps_the_last_checkpoint(saved, make_trainer):
    before = saved.read_bytes()
    trainer = make_trainer()
    with full_disk(len(before) // 2), pytest.raises((OSError, RuntimeError)):
        trainer.save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("name", ["", "..", "new/", "run.pt", "a\0b", 5])
def test_a_path_that_no_file_can_have_is_refused(tmp_path, monkeypatch, make_trainer, name):
    monkeypatch.chdir(tmp_path)
    Path("run.pt").mkdir()
    with pytest.raises(
        (ValueError, TypeError), match=r"`path` must be a (file, not a fol|path, got)"
    ):
        make_trainer().save(name)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


# -- files that are no checkpoints, or damaged -----------------------------------------------------


def check_load_refused(trainer: GANTrainer, path: Path, match: str) -> None:
    """Check that `load` raises an error, and that the trainer is unchanged."""
    before = snapshot(trainer)
    with pytest.raises(CheckpointError, match=match):
        trainer.load(path)
    assert snapshot(trainer) == before


def check_refused(trainer: GANTrainer, path: Path, match: str) -> None:
    """Check that `load` and `load_generator` raise an error, and that the trainer is unchanged."""
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
def test_other_files_of_torch_save_are_refused(tmp_path, make_trainer, content):
    torch.save(content, tmp_path / "foreign.pt")
    check_refused(make_trainer(), tmp_path / "foreign.pt", "is not a checkpoint written by")


def test_a_newer_format_is_refused_with_both_versions(saved, make_trainer):
    content = torch.load(saved, weights_only=True)
    checkpoint.write(saved, content | {"version": 3, "vanillagan": "9.1"})
    message = r"format 3 of vanillagan 9\.1, but vanillagan .* reads format 2: load it with the ver"
    check_refused(make_trainer(), saved, message)


def test_the_format_of_version_0_1_is_refused(saved, make_trainer):
    checkpoint.write(saved, {"version": 1, "vanillagan": "0.1.0", "kinds": {}, "parts": {}})
    check_refused(make_trainer(), saved, r"format 1 of vanillagan 0\.1\.0, but vanillagan 0\.")


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"version": 2},
        {"version": "2", "vanillagan": "0.2", "types": {}, "states": {}},
        {"version": 2, "vanillagan": "0.2", "types": {}, "states": []},
        {"version": [2], "vanillagan": "0.2", "types": {}, "states": {}},
        {"version": 2, "vanillagan": "0.2", "types": {}, "states": {}},
    ],
    ids=["list", "keys", "version", "states", "unhashable", "empty"],
)
def test_content_of_another_form_is_refused(saved, make_trainer, content):
    checkpoint.write(saved, content)
    check_refused(make_trainer(), saved, "content has another form|contents do not|no generator")


def test_older_formats_are_migrated(saved, monkeypatch, make_trainer):
    """Format 0 has `weights` in place of `states`; format 1 has `kinds` in place of `types`."""

    def renamed(old: str, new: str, version: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def migrate(content: dict[str, Any]) -> dict[str, Any]:
            content[new] = content.pop(old)
            return content | {"version": version}

        return migrate

    content = torch.load(saved, weights_only=True)
    trainer = make_trainer(weights=9)
    trainer.load(saved)
    content["weights"], content["kinds"] = content.pop("states"), content.pop("types")
    checkpoint.write(saved, content | {"version": 0})
    check_refused(make_trainer(), saved, "format 0 of vanillagan")
    monkeypatch.setitem(checkpoint.MIGRATIONS, 0, renamed("weights", "states", 1))
    monkeypatch.setitem(checkpoint.MIGRATIONS, 1, renamed("kinds", "types", checkpoint.VERSION))
    migrated = make_trainer(weights=8)
    migrated.load(saved)
    assert snapshot(migrated) == snapshot(trainer)
    assert torch.equal(load_generator(saved).sample(3, seed=0), trainer.sample(3, seed=0))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved, make_trainer, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    check_refused(make_trainer(), saved, "or is damaged: its checksum does not match")


def test_a_flipped_bit_in_the_weights_is_refused(saved, make_trainer):
    weight = torch.load(saved, weights_only=True)["states"]["generator"]["layers.0.0.weight"]
    content = bytearray(saved.read_bytes())
    content[content.index(weight.numpy().tobytes())] ^= 1
    saved.write_bytes(content)
    check_refused(make_trainer(), saved, "or is damaged: its checksum does not match")


def test_a_flipped_bit_anywhere_is_refused(saved):
    good = saved.read_bytes()
    for place in range(0, len(good), len(good) // 50):
        damaged = bytearray(good)
        damaged[place] ^= 16
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            load_generator(saved)


def test_torch_load_reads_a_checkpoint(saved):
    assert set(torch.load(saved, weights_only=True)) == {"version", "vanillagan", "types", "states"}


@pytest.mark.parametrize("body", [b"", b"junk", b"PK\x03\x04" + bytes(100)], ids=len)
def test_junk_with_a_valid_checksum_is_refused(tmp_path, make_trainer, body):
    path = tmp_path / "junk.pt"
    path.write_bytes(body + hashlib.sha256(body).digest())
    check_refused(make_trainer(), path, r"junk\.pt is not a checkpoint")


@pytest.mark.parametrize("change", ["compressed", "twice", "shared memory", "expanded"])
def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused(saved, make_trainer, change):
    content, buffer = torch.load(saved, weights_only=True), io.BytesIO()
    if change == "expanded":
        content["states"]["x"] = {"x": torch.zeros(1).expand(1 << 40)}
    elif change == "shared memory":
        content["states"]["x"] = dict.fromkeys(map(str, range(1000)), torch.zeros(100_000))
    torch.save(content, buffer)
    compression = zipfile.ZIP_DEFLATED if change == "compressed" else zipfile.ZIP_STORED
    archive = zipfile.ZipFile(buffer)
    if change in ("compressed", "twice"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as other:
            for record in archive.infolist():
                other.writestr(record.filename, archive.read(record))
            if change == "twice":
                other.writestr(archive.infolist()[0].filename.upper(), b"x")
    body = buffer.getvalue()
    saved.write_bytes(body + hashlib.sha256(body).digest())
    check_refused(make_trainer(), saved, "must have records that are|must not have tensors of far")


class Payload:
    """An object that creates a file when it is unpickled."""

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


# -- checkpoints that do not fit -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"hidden": (16, 20)},
            r"generator has another architecture: `layers.1.0.weight` must have the shape "
            r"\(20, 16\), got \(16, 16\)",
            id="another width",
        ),
        pytest.param(
            {"hidden": (16,)},
            r"weights of the generator do not fit: missing \['layers.1.bias'.*"
            r"unexpected \['layers.1.0.bias'",
            id="fewer layers",
        ),
        pytest.param(
            {"hidden": (16, 16, 16)},
            r"weights of the generator do not fit: missing \['layers.2.0.bias'.*"
            r"unexpected \['layers.2.bias'",
            id="more layers",
        ),
        pytest.param({"num_classes": 3}, "generator has another architecture", id="classes"),
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
            "'generator_optimizer' does not fit: .*parameter groups",
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


def test_a_checkpoint_with_ema_needs_an_ema(tmp_path, make_trainer):
    make_trainer(ema=EMA(0.9)).save(tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match=r"missing none, unexpected \['ema'\]"):
        make_trainer().load(tmp_path / "run.pt")


def test_a_callback_with_a_state_may_not_be_missing(tmp_path, make_trainer):
    make_trainer(callbacks=[Memory(), Memory()]).save(tmp_path / "run.pt")
    trainer = make_trainer(callbacks=[Memory(1)])
    before = snapshot(trainer)
    with pytest.raises(CheckpointError, match=r"states of the callbacks \['Memory#2'\]"):
        trainer.load(tmp_path / "run.pt")
    assert snapshot(trainer) == before


def test_callbacks_may_be_added(saved, make_trainer):
    trainer = make_trainer(callbacks=[Memory(1)])
    trainer.load(saved)
    assert trainer.progress.step == 3
    assert trainer.callbacks[0].kept == 1


def test_callbacks_of_one_class_keep_their_own_states(tmp_path, make_trainer):
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
        "run_rng",
        "global_rng",
        "ema",
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(tmp_path, points, make_trainer, part):
    schedule = LRSchedule(partial(ExponentialLR, gamma=0.9), interval="step")
    trainer = make_trainer(ema=EMA(0.9), callbacks=[Memory(), schedule])
    trainer.fit(points, max_steps=3, batch_size=32)
    trainer.save(tmp_path / "run.pt")
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    content["states"][part] = {"foreign": 1}
    checkpoint.write(tmp_path / "run.pt", content)

    schedule = LRSchedule(partial(ExponentialLR, gamma=0.9), interval="step")
    other = make_trainer(ema=EMA(0.9), callbacks=[Memory(1), schedule], seed=4)
    before = snapshot(other)
    with pytest.raises(CheckpointError, match=f"{part}"):
        other.load(tmp_path / "run.pt")
    assert snapshot(other) == before


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("progress/step", True),
        ("progress/step", -1),
        ("progress/step", 2.0),
        ("progress/step", 2**70),
        ("progress/step_in_epoch", 9),
        ("progress/epoch_signature", [1]),
        ("progress/x", 1),
        ("history/generator", torch.zeros(2)),
        ("history/generator", torch.zeros(3).double()),
        ("history/metrics", {"m": {"steps": torch.tensor([math.nan]), "values": torch.zeros(1)}}),
        ("history/metrics", {"m": {"steps": torch.tensor([-1]), "values": torch.ones(1).double()}}),
        ("run_rng/seed", -1),
        ("run_rng/latents", torch.zeros(3)),
        ("global_rng/ranks", []),
        ("global_rng/ranks/0/numpy/2", 625),
        ("global_rng/ranks/0/numpy/1/0", -1),
        ("global_rng/ranks/0/python/2", "x"),
        ("ema/updates", math.nan),
        ("ema/network/layers.0.0.weight", "x"),
        ("generator/layers.0.0.weight", "x"),
        ("generator/layers.0.0.weight", torch.zeros(16, 8, dtype=torch.int64)),
        ("generator/layers.0.0.weight", torch.zeros(16, 8, device="meta")),
        ("callbacks/BestCheckpoint#1/best_value", math.nan),
        ("callbacks/BestCheckpoint#1/best_step", None),
        ("callbacks/MetricLog#1/last_step", "x"),
        ("callbacks/SampleGrid#1/saved", ["../../x"]),
        ("callbacks/HealthMonitor#1/recent", {"coverage": []}),
        ("callbacks/HealthMonitor#1/means", [["x"]]),
        ("callbacks/LRSchedule#1/generator", 1),
        ("callbacks/LRSchedule#1/x", {}),
        ("callbacks/Checkpoint#1", {"saved": ["/etc/passwd"]}),
    ],
)
def test_a_value_that_a_state_never_has_is_refused(tmp_path, points, make_trainer, place, value):
    metrics = MetricLog({"m": torch.mean}, num_samples=4, every_n_steps=1)
    best = BestCheckpoint(tmp_path / "best.pt", monitor="m")
    grid = SampleGrid(tmp_path, transform=lambda points: points.view(-1, 1, 1, 2))
    callbacks = [metrics, best, grid, HealthMonitor(every_n_steps=1)]
    schedule = LRSchedule(partial(ExponentialLR, gamma=0.9), interval="step")
    callbacks += [schedule, Checkpoint(tmp_path)]
    trainer = make_trainer(ema=EMA(0.9), callbacks=callbacks)
    trainer.fit(points, max_steps=3, batch_size=8)
    trainer.save(tmp_path / "run.pt")
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    as_lists = content["states"]["global_rng"]["ranks"][0]
    as_lists["python"] = list(as_lists["python"])
    *path, last = place.split("/")
    container = content["states"]
    for key in path:
        container = container[int(key) if isinstance(container, list) else key]
    container[int(last) if isinstance(container, list) else last] = value
    checkpoint.write(tmp_path / "run.pt", content)
    check_load_refused(trainer, tmp_path / "run.pt", rf"the checkpoint's .*{place.split('/')[0]}")


@pytest.mark.parametrize("name", ["last_epoch", "base_lrs", "gamma"])
def test_a_scheduler_takes_no_other_state(tmp_path, points, make_trainer, name):
    def trainer_of() -> GANTrainer:
        return make_trainer(LRSchedule(partial(ExponentialLR, gamma=0.9), interval="step"))

    trainer = trainer_of()
    trainer.fit(points, max_steps=3, batch_size=8)
    trainer.save(tmp_path / "run.pt")
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    state = content["states"]["callbacks"]["LRSchedule#1"]["generator"]
    state["optimizer"] = state["step"] = "x"
    checkpoint.write(tmp_path / "run.pt", content)
    resumed = trainer_of()
    resumed.load(tmp_path / "run.pt")
    resumed.fit(points, max_steps=4, batch_size=8)  # attributes that are no state are left out
    state[name] = "x"
    checkpoint.write(tmp_path / "run.pt", content)
    resumed = trainer_of()
    resumed.load(tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match="the checkpoint's scheduler does not fit"):
        resumed.fit(points, max_steps=4, batch_size=8)


# -- states of optimizers --------------------------------------------------------------------------


def groups(*, weights_first: bool) -> Callable[..., torch.optim.Optimizer]:
    """Return a factory of Adam with two groups, weights and biases, of equal length."""

    def make(parameters):
        parameters = list(parameters)
        pair = [{"params": parameters[::2]}, {"params": parameters[1::2]}]
        return torch.optim.Adam(pair if weights_first else pair[::-1], fused=True)

    return make


def test_parameter_groups_in_another_order_are_refused(tmp_path, points, make_trainer):
    trainer = make_trainer(generator_optimizer=groups(weights_first=True))
    trainer.fit(points, max_steps=1, batch_size=32)
    trainer.save(tmp_path / "run.pt")
    check_load_refused(
        make_trainer(generator_optimizer=groups(weights_first=False)),
        tmp_path / "run.pt",
        r"'generator_optimizer' does not fit: `exp_avg` of parameter 0 must have the shape",
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
        pytest.param("step", torch.tensor(torch.nan), "a finite number, got nan", id="NaN"),
        pytest.param("step", torch.tensor(-1.0), "a finite number, got -1", id="negative"),
        pytest.param("step", 3.0, "a dense tensor of torch.float32", id="number"),
        pytest.param("exp_avg", torch.zeros(16).long(), "a dense tensor", id="integers"),
        pytest.param("exp_avg", torch.zeros(16).to_sparse(), "a dense tensor", id="sparse"),
    ],
)
def test_an_optimizer_state_of_another_shape_is_refused(saved, make_trainer, key, value, message):
    content = torch.load(saved, weights_only=True)
    content["states"]["generator_optimizer"]["state"][3][key] = value
    checkpoint.write(saved, content)
    check_load_refused(make_trainer(), saved, f"`{key}` of parameter 3 must (be|have) {message}")


@pytest.mark.parametrize(
    "state",
    [[1], {0: [1]}, None, {99: {}}, {0: {"step": torch.tensor(3.0)}}],
    ids=["list", "list inside", "None", "other index", "missing moments"],
)
def test_an_optimizer_state_of_another_form_is_refused(saved, make_trainer, state):
    content = torch.load(saved, weights_only=True)
    content["states"]["generator_optimizer"]["state"] = state
    checkpoint.write(saved, content)
    check_load_refused(make_trainer(), saved, "'generator_optimizer' does not fit")


def test_groups_of_other_parameters_are_refused(saved, make_trainer):
    content = torch.load(saved, weights_only=True)
    content["states"]["generator_optimizer"]["param_groups"][0]["params"][0] = 1
    checkpoint.write(saved, content)
    check_load_refused(make_trainer(), saved, "parameter groups must hold the same parameters")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("lr", -1.0), ("lr", "x"), ("eps", math.nan), ("betas", (0.5,)), ("amsgrad", "x"), ("x", "y")],
)
def test_settings_of_an_optimizer_that_it_does_not_take_are_refused(
    saved, make_trainer, setting, value
):
    content = torch.load(saved, weights_only=True)
    content["states"]["generator_optimizer"]["param_groups"][0][setting] = value
    checkpoint.write(saved, content)
    check_load_refused(make_trainer(), saved, "'generator_optimizer' does not fit")


@pytest.mark.parametrize("setting", ["lr", "betas", "eps"])
def test_a_missing_setting_of_an_optimizer_is_refused(saved, make_trainer, setting):
    content = torch.load(saved, weights_only=True)
    del content["states"]["generator_optimizer"]["param_groups"][0][setting]
    checkpoint.write(saved, content)
    check_load_refused(make_trainer(), saved, "a parameter group must have settings like")


def test_how_an_optimizer_computes_is_not_taken_from_a_file(saved, make_trainer):
    content = torch.load(saved, weights_only=True)
    group = content["states"]["generator_optimizer"]["param_groups"][0]
    group |= {"fused": "x", "foreach": True, "differentiable": True}
    checkpoint.write(saved, content)
    trainer = make_trainer()
    trainer.load(saved)
    group = trainer.g.optimizer.param_groups[0]
    assert (group["fused"], group["foreach"], group["differentiable"]) == (True, None, False)


def test_moments_that_share_memory_in_a_file_are_restored_as_copies(saved, make_trainer):
    content = torch.load(saved, weights_only=True)
    state = content["states"]["generator_optimizer"]["state"][3]
    state["exp_avg"] = state["exp_avg_sq"]
    content["states"]["generator_optimizer"]["state"][2]["step"] = state["step"]
    state["exp_avg_sq"][:] = torch.ones(1).expand(16)
    checkpoint.write(saved, content)
    trainer = make_trainer()
    trainer.load(saved)
    tensors = [t for s in trainer.g.optimizer.state.values() for t in s.values()]
    assert len({t.untyped_storage().data_ptr() for t in tensors}) == len(tensors)


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
def test_states_of_built_in_optimizers_are_restored(kind, options):
    parameters = [nn.Parameter(torch.rand(shape)) for shape in [(3, 4), (3,), ()]]
    optimizer, other = (kind(parameters, **options) for _ in range(2))
    one_step(optimizer, parameters)
    content = copy.deepcopy(checkpoint.collect({"optimizer": optimizer}))
    checkpoint.restore({"optimizer": other}, content)
    assert plain(other.state_dict()) == plain(optimizer.state_dict())
    one_step(other, parameters)


def test_a_foreign_optimizer_may_keep_any_state():
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
            id="MLP",
        ),
        pytest.param(
            lambda: Generator(8, (2,), hidden=(16,), num_classes=3),
            lambda: Discriminator((2,), num_classes=3),
            [0, 1, 2, 0],
            id="conditional",
        ),
        pytest.param(
            lambda: ConvGenerator(8, (3, 10, 12), base_channels=4),
            lambda: ConvDiscriminator((3, 10, 12), base_channels=4),
            None,
            id="convolutional",
        ),
        pytest.param(
            lambda: ConvGenerator(8, (1, 8, 8), base_channels=4, num_classes=3, output="linear"),
            lambda: ConvDiscriminator((1, 8, 8), base_channels=4, num_classes=3),
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
        trainer.train_step((torch.rand(4, *shape) * 2 - 1, torch.tensor([0, 1, 2, 0])))
    trainer.save(tmp_path / "run.pt")
    loaded = load_generator(tmp_path / "run.pt")

    latent = torch.randn(4, 8)
    inputs = (latent,) if labels is None else (latent, torch.tensor(labels))
    network = trainer.eval_generator
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
        trainer.train_step(torch.rand(4, 2) * 2 - 1)
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
    with pytest.raises(CheckpointError, match=r"\.Linear, .*: pass one like it as `network`"):
        load_generator(path)


def test_load_generator_refuses_another_architecture(foreign):
    _, path = foreign
    with pytest.raises(CheckpointError, match="weights of the generator do not fit"):
        load_generator(path, network=Generator(4, (2,)))


def test_load_generator_refuses_a_foreign_subclass(tmp_path):
    foreign_class = type(
        "Generator", (Generator,), {"forward": lambda self, z: self.layers(z).neg()}
    )
    trainer = GANTrainer(foreign_class(8, (2,)), Discriminator((2,)), device="cpu")
    trainer.save(tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match="pass one like it as `network`"):
        load_generator(tmp_path / "run.pt")


def test_load_generator_refuses_an_unknown_device(saved):
    with pytest.raises(ValueError, match="`device` must be a device that is available here"):
        load_generator(saved, device="quantum")


HOSTILE_NAMES = {
    "os.system": "not one of the library's own",
    "vanillagan": "not one of the library's own",
    "vanillagan.GANTrainer": "not one of the library's own",
    "vanillagan_evil.Generator": "not one of the library's own",
    "": "not one of the library's own",
    "vanillagan.checkpoint.write": "not a network of the library",
    "vanillagan.checkpoint.os": "not a network of the library",
    "vanillagan.networks.mlp.nn": "not a network of the library",
    "vanillagan.trainer.GANTrainer": "not a network of the library",
    "vanillagan.networks.Generator": "not a network of the library",
    "vanillagan.networks.mlp.nn.Linear": "which vanillagan .* does not have",
    "vanillagan.networks.mlp.Missing": "which vanillagan .* does not have",
    "vanillagan.missing.Generator": "which vanillagan .* does not have",
    "vanillagan..os.system": "which vanillagan .* does not have",
}


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_only_networks_of_the_library_are_created(saved, monkeypatch, name):
    content = torch.load(saved, weights_only=True)
    content["types"]["generator"] = {"class": name, "config": {"command": "true"}}
    checkpoint.write(saved, content)
    monkeypatch.setattr("os.system", lambda command: pytest.fail("a command was run"))
    with pytest.raises(CheckpointError, match=HOSTILE_NAMES[name]):
        load_generator(saved)


def test_a_class_is_named_by_module_and_qualified_name(saved):
    types = torch.load(saved, weights_only=True)["types"]
    assert types["generator"]["class"] == "vanillagan.networks.mlp.Generator"
    assert types["generator_optimizer"] == {"class": "torch.optim.adam.Adam", "config": None}


def test_a_config_that_no_network_takes_is_refused(saved):
    content = torch.load(saved, weights_only=True)
    content["types"]["generator"]["config"] = {"latent_dim": 0, "size": 3}
    checkpoint.write(saved, content)
    with pytest.raises(CheckpointError, match=r"cannot be rebuilt from .*: pass one like it"):
        load_generator(saved)


def test_a_network_of_other_weights_than_those_in_the_file_is_never_allocated(saved):
    content = torch.load(saved, weights_only=True)
    config = content["types"]["generator"]["config"]
    config["hidden"] = (1_000_000, 1_000_000)  # 4 TB
    checkpoint.write(saved, content)
    with pytest.raises(CheckpointError, match="generator has another architecture"):
        load_generator(saved)
    config["hidden"] = (1,) * 100_000
    checkpoint.write(saved, content)
    with pytest.raises(CheckpointError, match="cannot be rebuilt"):
        load_generator(saved)


def test_all_networks_of_the_library_are_rebuilt(tmp_path):
    networks = [
        (TextGenerator(4, (5, 3), channels=4), TextDiscriminator((5, 3), channels=4)),
        (ConvGenerator(4, (1, 8, 8), base_channels=4), ConvDiscriminator((1, 8, 8))),
    ]
    for generator, discriminator in networks:
        trainer = GANTrainer(generator, discriminator, device="cpu")
        trainer.save(tmp_path / "run.pt")
        assert type(load_generator(tmp_path / "run.pt")) is type(generator)
        assert type(load_discriminator(tmp_path / "run.pt")) is type(discriminator)


# -- load_discriminator ----------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [0, 3])
def test_load_discriminator_gives_the_trainers_logits(tmp_path, points, make_trainer, num_classes):
    trainer = make_trainer(num_classes=num_classes, ema=EMA(0.5))
    labels = torch.arange(len(points)) % 3 if num_classes else None
    trainer.train_step((points, labels))
    trainer.save(tmp_path / "run.pt")
    loaded = load_discriminator(tmp_path / "run.pt")
    assert type(loaded) is Discriminator
    assert not any(module.training for module in loaded.modules())
    with torch.no_grad():
        expected = copy.deepcopy(trainer.discriminator).eval()(points, labels)
        assert torch.equal(loaded(points, labels), expected)


def test_load_discriminator_fills_a_foreign_network(tmp_path, points):
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))

    trainer = GANTrainer(Generator(8, (2,)), make(), device="cpu")
    trainer.save(tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match=r"Sequential, .*: pass one like it as `network`"):
        load_discriminator(tmp_path / "run.pt")
    network = make()
    assert load_discriminator(tmp_path / "run.pt", network=network) is network
    assert torch.equal(network(points), trainer.discriminator.eval()(points))


def test_load_discriminator_asks_for_a_wrapped_network(tmp_path):
    discriminator = DiffAugment(ConvDiscriminator((1, 8, 8), base_channels=4))
    trainer = GANTrainer(ConvGenerator(8, (1, 8, 8), base_channels=4), discriminator, device="cpu")
    trainer.save(tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match=r"DiffAugment, .*: pass one like it as `network`"):
        load_discriminator(tmp_path / "run.pt")
    wrapped = DiffAugment(ConvDiscriminator((1, 8, 8), base_channels=4))
    load_discriminator(tmp_path / "run.pt", network=wrapped)
    weights = discriminator.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in wrapped.state_dict().items())


CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last


def conv_trainer(memory_format: torch.memory_format) -> GANTrainer:
    torch.manual_seed(0)
    shape = (3, 8, 8)
    networks = ConvGenerator(4, shape, base_channels=4), ConvDiscriminator(shape, base_channels=4)
    for network in networks:
        network.double().to(memory_format=memory_format)
    return GANTrainer(*networks, device="cpu")


@pytest.mark.parametrize(
    ("saved", "loaded"), [(CONTIGUOUS, CHANNELS_LAST), (CHANNELS_LAST, CONTIGUOUS)], ids=str
)
def test_moments_follow_the_memory_format_of_weights(tmp_path, saved, loaded):
    images = torch.rand(32, 3, 8, 8, dtype=torch.float64) * 2 - 1
    whole, resumed = conv_trainer(saved), conv_trainer(loaded)
    whole.fit(images, max_steps=4, batch_size=8)
    whole.save(tmp_path / "run.pt")
    whole.fit(images, max_steps=8, batch_size=8)
    resumed.load(tmp_path / "run.pt")
    resumed.fit(images, max_steps=8, batch_size=8)
    for a, b in zip(whole.g.parameters, resumed.g.parameters, strict=True):
        # biases before a BatchNorm have no gradient but rounding, which Adam scales up
        if a.dim() > 1:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


def test_another_architecture_is_told_in_a_line(tmp_path, make_trainer):
    make_trainer(hidden=(8,) * 9).save(tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match=r"weights of the generator do not fit: .* more") as e:
        make_trainer().load(tmp_path / "run.pt")
    assert len(str(e.value)) < 300


# -- settings of the script that resumes -----------------------------------------------------------


def resume_with(path: Path, points: Tensor, *, lr: float, **options: Any) -> tuple[Any, list[str]]:
    """Return a trainer after a resume, and the warnings."""
    trainer = make_trainer(generator_optimizer=adam(lr), **options)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        trainer.load(path)
    assert {warning.filename for warning in seen} <= {__file__}
    trainer.fit(points, max_steps=4, batch_size=8)
    return trainer, [str(warning.message) for warning in seen]


def test_another_learning_rate_on_resume_brings_a_warning(tmp_path, points):
    path = tmp_path / "run.pt"
    trainer = make_trainer(generator_optimizer=adam(2e-4))
    trainer.fit(points, max_steps=2, batch_size=8)
    trainer.save(path)
    resumed, (message,) = resume_with(path, points, lr=1e-5)
    assert message == (
        "the generator's optimizer goes on with lr=0.0002 of the checkpoint, not with lr=1e-05 of "
        "this trainer; to change it, set `trainer.g.optimizer.param_groups[0]['lr']` after `load`"
    )
    assert resumed.g.optimizer.param_groups[0]["lr"] == 2e-4
    assert resume_with(path, points, lr=2e-4)[1] == []
    # that of the script counts
    resumed, seen = resume_with(path, points, lr=1e-5, lr_schedule=lambda done: 1.0)
    assert (resumed.g.optimizer.param_groups[0]["lr"], seen) == (1e-5, [])


def test_other_settings_on_resume_bring_a_warning(tmp_path, points):
    trainer = make_trainer(generator_optimizer=adam(2e-4, betas=(0.0, 0.9)))
    trainer.save(tmp_path / "run.pt")
    (message,) = resume_with(tmp_path / "run.pt", points, lr=2e-4)[1]
    assert "goes on with betas=(0.0, 0.9) of the checkpoint, not with betas=(0.5, 0.999)" in message


@pytest.mark.parametrize("scheduler", [ExponentialLR, partial(ReduceLROnPlateau, patience=0)])
def test_a_schedule_is_no_other_learning_rate(tmp_path, points, scheduler):
    def schedule() -> LRSchedule:
        gamma = {"gamma": 0.5} if scheduler is ExponentialLR else {"mode": "max"}
        return LRSchedule(partial(scheduler, **gamma), interval="step")

    trainer = make_trainer(schedule(), generator_optimizer=adam(2e-4))
    trainer.fit(points, max_steps=3, batch_size=8)
    trainer.save(tmp_path / "run.pt")
    assert trainer.g.optimizer.param_groups[0]["lr"] < 2e-4
    assert resume_with(tmp_path / "run.pt", points, lr=2e-4, callbacks=[schedule()])[1] == []
    (message,) = resume_with(tmp_path / "run.pt", points, lr=1e-4, callbacks=[schedule()])[1]
    assert "goes on with lr=0.0002 of the checkpoint, not with lr=0.0001" in message


SCHEDULERS: dict[str, Any] = {
    "OneCycleLR": partial(lr_scheduler.OneCycleLR, max_lr=1e-2, total_steps=20),
    "CyclicLR": partial(lr_scheduler.CyclicLR, base_lr=1e-4, max_lr=1e-3, step_size_up=3),
    "CosineAnnealingWarmRestarts": partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=2),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [ConstantLR(optimizer), ExponentialLR(optimizer, 0.5)], milestones=[2]
    ),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_settings_that_a_scheduler_changes_bring_no_warning(tmp_path, points, scheduler):
    def schedule() -> LRSchedule:
        return LRSchedule(SCHEDULERS[scheduler], interval="step")

    trainer = make_trainer(schedule(), generator_optimizer=adam(2e-4))
    trainer.fit(points, max_steps=3, batch_size=8)
    trainer.save(tmp_path / "run.pt")
    resumed, seen = resume_with(tmp_path / "run.pt", points, lr=2e-4, callbacks=[schedule()])
    assert seen == []
    trainer.fit(points, max_steps=4, batch_size=8)
    assert resumed.g.settings() == trainer.g.settings()
    (message,) = resume_with(tmp_path / "run.pt", points, lr=1e-5, callbacks=[schedule()])[1]
    assert "not with lr=1e-05 of this trainer" in message


def test_a_rate_that_the_run_has_changed_brings_no_warning(tmp_path, points):
    trainer = make_trainer(generator_optimizer=adam(2e-4))
    trainer.g.scale_learning_rates(0.5)  # as a callback of one's own may do
    trainer.save(tmp_path / "run.pt")
    assert resume_with(tmp_path / "run.pt", points, lr=2e-4)[1] == []
    # the remedy of the warning is for good
    with pytest.warns(UserWarning, match="not with lr=1e-05"):
        (lower := make_trainer(generator_optimizer=adam(1e-5))).load(tmp_path / "run.pt")
    lower.g.scale_learning_rates(1.0)
    lower.save(tmp_path / "run.pt")
    resumed, seen = resume_with(tmp_path / "run.pt", points, lr=1e-5)
    assert (resumed.g.settings()[0]["lr"], seen) == (1e-5, [])


# -- weights alone ---------------------------------------------------------------------------------


def test_load_weights_starts_from_both_networks(tmp_path, points, make_trainer):
    other = make_trainer(LRSchedule(partial(ExponentialLR, gamma=0.5)), weights=1, ema=EMA(0.9))
    other.fit(points, max_epochs=1)
    other.save(tmp_path / "run.pt")
    sgd = partial(torch.optim.SGD, lr=0.1)
    trainer = make_trainer(ema=EMA(0.5), generator_optimizer=sgd)
    trainer.load_weights(tmp_path / "run.pt")
    networks = (trainer.generator, trainer.discriminator, trainer.ema.network)
    expected = (other.generator, other.discriminator, other.generator)
    for network, like in zip(networks, expected, strict=True):
        state = like.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert (trainer.progress.step, trainer.ema.updates, trainer.g.learning_rates) == (0, 0, [0.1])
    trainer.fit(points, max_steps=1)


def test_weights_of_another_architecture_are_left_out_or_refused(tmp_path, points, make_trainer):
    make_trainer(weights=1).save(tmp_path / "run.pt")
    weights = torch.load(tmp_path / "run.pt", weights_only=True)["states"]["generator"]
    trainer = make_trainer(hidden=(16, 24))
    before = snapshot(trainer)
    with pytest.raises(CheckpointError, match="generator has another architecture"):
        trainer.load_weights(tmp_path / "run.pt")
    assert plain(before) == plain(snapshot(trainer))
    with pytest.warns(UserWarning, match="do not fit were left out: .*generator.layers.1") as seen:
        trainer.load_weights(tmp_path / "run.pt", strict=False)
    assert [warning.filename for warning in seen] == [__file__]
    loaded = trainer.generator.state_dict()
    fits = {key for key, value in loaded.items() if torch.equal(value, weights[key])}
    assert {"layers.0.0.weight", "layers.0.0.bias"} <= fits
    with pytest.raises(CheckpointError, match="no weight of the checkpoint's generator fits"):
        GANTrainer(nn.Linear(2, 2), nn.Linear(2, 1), latent_sampler=normal_latents(2)).load_weights(
            tmp_path / "run.pt", strict=False
        )


def test_an_ema_may_be_added_to_a_run(saved, make_trainer, points):
    trainer = make_trainer(ema=EMA(0.9))
    trainer.load(saved)
    weights = trainer.generator.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in trainer.ema.network.state_dict().items())
    assert trainer.ema.updates == 0
    trainer.train_step(points)
    assert trainer.ema.updates == 1


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_networks_that_the_user_has_compiled_are_saved_as_the_others(tmp_path, points):
    def make() -> list[nn.Module]:
        torch.manual_seed(0)
        return [Generator(4, (2,), hidden=(8, 8)), Discriminator((2,), hidden=(8,))]

    compiled = [torch.compile(network, backend="eager") for network in make()]
    options = {"ema": EMA(0.9), "penalties": [R1(0.5)], "device": "cpu"}
    trainer = GANTrainer(*compiled, **options)
    trainer.fit(points, max_epochs=1)
    trainer.save(tmp_path / "run.pt")
    eager = GANTrainer(*make(), **options | {"ema": EMA(0.9)})
    eager.load(tmp_path / "run.pt")
    compiled_again = torch.compile(make()[0], backend="eager")
    expected = trainer.sample(3, seed=0)
    assert torch.equal(eager.sample(3, seed=0), expected)
    for network in (None, make()[0], compiled_again):
        generator = load_generator(tmp_path / "run.pt", network=network)
        assert torch.equal(draw_samples(generator, 3, seed=0), expected)
