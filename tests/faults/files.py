"""Damaged and hostile checkpoints: each ends in a `CheckpointError` or in a state that is right."""

from __future__ import annotations

import builtins
import copy
import hashlib
import io
import os
import pickle
import random
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau

from tests.faults.figures import Figures
from tests.helpers.states import leaves
from tests.helpers.trainers import make_trainer
from vanillagan import EMA, GANTrainer, checkpoint, load_discriminator, load_generator
from vanillagan.callbacks import (
    BestCheckpoint,
    Checkpoint,
    HealthMonitor,
    LRSchedule,
    MetricLog,
    SampleGrid,
)
from vanillagan.errors import CheckpointError

__all__ = ["damaged", "of_another_content", "with_code"]

IMAGES = torch.rand(32, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
STEPS = 6


class Files:
    """A folder with a good checkpoint of a run with every kind of state, and another trainer."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "step-00000006.pt"
        self.folder = folder
        saving = self.new_trainer(weights=1)
        self.fit(saving)
        saving.save(self.path)
        self.good = self.path.read_bytes()
        self.content = torch.load(self.path, weights_only=True)
        self.trainer = self.new_trainer(weights=2)
        self.fit(self.trainer)
        self.before = states_of(self.trainer)

    def new_trainer(self, weights: int) -> GANTrainer:
        """Return a trainer with every kind of state, of other initial weights for other numbers."""
        run = self.folder / str(weights)
        callbacks = [
            LRSchedule(partial(ExponentialLR, gamma=0.9), player="generator", interval="step"),
            LRSchedule(ReduceLROnPlateau, player="discriminator", interval="step"),
            MetricLog({"m": lambda samples: samples.mean()}, num_samples=8, every_n_steps=2),
            BestCheckpoint(run / "best.pt", monitor="m"),
            HealthMonitor(every_n_steps=2, patience=1),
            SampleGrid(run, every_n_steps=4, side=1),
            Checkpoint(run, every_n_steps=4),
        ]
        return make_trainer(
            *callbacks, shape=(1, 4, 4), hidden=(6, 6), weights=weights, ema=EMA(0.9), seed=weights
        )

    def fit(self, trainer: GANTrainer) -> None:
        """Train for a few steps, without warnings."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(IMAGES, max_steps=STEPS, batch_size=8)

    def outcomes(self) -> Iterator[tuple[str, BaseException | None]]:
        """Load the file in each way; yield how it was loaded, and the error."""
        networks = (load_generator, load_discriminator)
        ways: list[Callable[..., Any]] = [self.trainer.load, self.trainer.load_weights, *networks]
        for load in ways:
            yield load.__name__, error_of(load, self.path)


def error_of(function: Callable[..., Any], *arguments: Any) -> BaseException | None:
    """Return the error that a call raises; None if it returns."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(*arguments)
    except Exception as error:
        return error
    return None


def states_of(trainer: GANTrainer) -> dict[str, Any]:
    """Return a copy of the states, by place."""
    return dict(
        leaves(copy.deepcopy({n: o.state_dict() for n, o in trainer.state_objects().items()}))
    )


def is_same(a: Any, b: Any) -> bool:
    """Return True if two leaves have the same type and the same bits."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        as_bytes = (x.contiguous().view(-1).view(torch.uint8) for x in (a, b))
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*as_bytes)
    return type(a) is type(b) and (a == b or (a != a and b != b))


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Return the places at which two states differ."""
    both = a.keys() & b.keys()
    return sorted({*(a.keys() ^ b.keys()), *(key for key in both if not is_same(a[key], b[key]))})


def sealed(body: bytes) -> bytes:
    """Return a file of this content with a checksum that matches."""
    return body + hashlib.sha256(body).digest()


def flipped(body: bytes, rng: random.Random) -> bytes:
    """Return the bytes with one bit flipped."""
    changed = bytearray(body)
    changed[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def damaged(long: bool) -> Figures:
    """Truncate a file at each percent, and flip bits of it."""
    figures, rng = Figures(), random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder))
        contents = [files.good[: percent * len(files.good) // 100] for percent in range(100)]
        contents += [flipped(files.good, rng) for _ in range(1000 if long else 60)]
        for index, content in enumerate(contents):
            files.path.write_bytes(content)
            figures.tried += 1
            for way, error in files.outcomes():
                if not isinstance(error, CheckpointError):
                    figures.fail(f"{index}: {way}: {error!r}", lost=error is None)
            if differences(states_of(files.trainer), files.before):
                figures.fail(f"{index}: the trainer has changed", lost=True)
    return figures


class Payload:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def payloads(touched: Path) -> list[Payload]:
    """Return objects that create a file when they are unpickled."""
    line = f"open({str(touched)!r}, 'w')"
    return [
        Payload(os.system, f"touch {touched}"),
        Payload(subprocess.check_call, ["touch", str(touched)]),
        Payload(builtins.exec, line),
        Payload(builtins.eval, line),
        Payload(builtins.open, str(touched), "w"),
        Payload(Path.touch, touched),
        Payload(os.mkdir, str(touched)),
        Payload(shutil.copy, __file__, str(touched)),
        Payload(torch.save, 1, str(touched)),
        Payload(checkpoint.write, str(touched), {}),
        Payload(map, Path.touch, [touched]),
        Payload(pickle.loads, pickle.dumps(Payload(Path.touch, touched))),
    ]


def with_code(long: bool) -> Figures:
    """Put objects that run code into files, at three places and in three formats."""
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        files, touched = Files(Path(folder)), Path(folder) / "touched"
        for payload in payloads(touched):
            states = files.content["states"]
            for content in (
                payload,
                files.content | {"vanillagan": payload},
                files.content | {"states": states | {"progress": payload}},
            ):
                for legacy in (None, True, False):
                    buffer = io.BytesIO()
                    if legacy is None:
                        pickle.dump(content, buffer)
                    else:
                        torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
                    files.path.write_bytes(sealed(buffer.getvalue()))
                    figures.tried += 1
                    for way, error in files.outcomes():
                        if not isinstance(error, CheckpointError):
                            figures.fail(f"{payload.function}: {way}: {error!r}")
                    if touched.exists() or differences(states_of(files.trainer), files.before):
                        figures.fail(f"{payload.function} was run", lost=True)
    return figures


VALUES: list[Any] = [None, True, -1, 0, 2**62, 2**70, 3.5, float("nan"), float("inf"), 1e308]
VALUES += ["", "x", "../../x", b"x", [], {}, [1], {"a": 1}, {0: 1}, torch.zeros(3), torch.tensor(1)]


def other_tensors(tensor: Tensor) -> list[Tensor]:
    """Return tensors of another shape, dtype, layout or value."""
    flat = tensor.flatten()
    others = [flat, flat[:-1], tensor[None], tensor[..., None], tensor.new_zeros(0)]
    others += [tensor.new_zeros(*tensor.shape, 2), tensor.new_zeros(()).expand(tensor.shape)]
    others += [tensor.to(dtype) for dtype in (torch.float64, torch.float16, torch.int64)]
    others += [tensor.to(torch.complex64), tensor.bool(), tensor.to("meta")]
    others += [-tensor.float().abs() - 1, torch.full(tensor.shape, torch.nan)]
    others += [torch.full(tensor.shape, 10**18).to(tensor.dtype), tensor.float().to_sparse()]
    return others


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return all containers and keys within a nested content."""
    if isinstance(value, dict):
        found = [(value, key) for key in value]
    elif isinstance(value, list):
        found = [(value, index) for index in range(min(len(value), 8))]
    else:
        return []
    return found + [place for container, key in found for place in places(container[key])]


def mutated(content: dict[str, Any], rng: random.Random) -> tuple[Any, str]:
    """Return the content with one change at a random place, and its description."""
    content = copy.deepcopy(content)
    content["states"] = as_lists(content["states"])  # so that what is inside can change
    found = places(content)
    container, key = rng.choice(found)
    old = container[key]
    action = rng.choice(["delete", "rename", "add", "swap", "value", "value", "value", "wrap"])
    if action == "delete":
        del container[key]
    elif action == "rename" and isinstance(container, dict):
        container[rng.choice(["x", 7, "lr", "optimizer"])] = container.pop(key)
    elif action == "add" and isinstance(container, dict):
        container[rng.choice(["x", 7, "step", "optimizer"])] = rng.choice(VALUES)
    elif action == "swap":
        other, other_key = rng.choice(found)
        container[key] = copy.deepcopy(other[other_key])
    elif action == "wrap":
        container[key] = rng.choice([[old], {"x": old}, (old,), [old, old]])
    else:
        others = other_tensors(old) if isinstance(old, Tensor) else VALUES
        container[key] = rng.choice(others if rng.random() < 0.8 else VALUES)
    return content, f"{action} {key!r}: {old!r:.40} -> {safe_get(container, key)!r:.60}"


def safe_get(container: Any, key: Any) -> Any:
    """Return an entry, or "missing"."""
    try:
        return container[key]
    except (KeyError, IndexError):
        return "missing"


def as_lists(value: Any) -> Any:
    """Return nested content with plain dictionaries, and lists in place of tuples."""
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_lists(item) for item in value]
    return value


OPTIONAL = (
    "/history/metrics/",
    "/progress/epoch_signature/",
    "/callbacks/",
    "_optimizer/state/",
    "_optimizer/param_groups/",
    "/global_rng/ranks/",
)
"""Places where a run may have fewer or more entries."""


def is_right(place: str, old: Any, new: Any) -> bool:
    """Return True if a value is of the type, shape and range of a state that may be saved."""
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        any_length = place.startswith("/history/")
        return old.dtype == new.dtype and (any_length or old.shape == new.shape)
    if isinstance(old, bool) or isinstance(new, bool) or isinstance(old, str):
        return type(old) is type(new)
    if old is None or new is None:
        return place.startswith("/callbacks/") or place.endswith(("/2", "foreach", "fused"))
    settings = "param_groups" in place or "/LRSchedule" in place
    # PyTorch takes tensors of one number in place of numbers
    is_scalar = type(new) in (int, float) or (isinstance(new, Tensor) and new.dim() == 0)
    is_number = type(old) is type(new) or (settings and is_scalar)
    # a statistic may be NaN
    in_range = new >= 0 or type(new) is float or settings if new == new else "/Health" in place
    return is_number and in_range


def of_another_content(long: bool) -> Figures:
    """Change a good content at a random place, and write a checksum that matches.

    A file that is accepted must leave the trainer in the state of the good file, or in one with
    another value of the right type, shape and range, with which training goes on.
    """
    figures, rng = Figures(), random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder))
        files.trainer.load(files.path)
        good = states_of(files.trainer)
        files.trainer = files.new_trainer(weights=2)
        files.fit(files.trainer)
        for index in range(2000 if long else 60):
            figures.tried += 1
            if index % 5:
                content, what = mutated(files.content, rng)
                buffer = io.BytesIO()
                torch.save(content, buffer)
                body = buffer.getvalue()
            else:
                body, what = flipped(files.good[: -checkpoint.DIGEST_SIZE], rng), "a flipped bit"
            files.path.write_bytes(sealed(body))
            check_one(files, good, figures, f"{index}: {what}")
    return figures


def check_one(files: Files, good: dict[str, Any], figures: Figures, what: str) -> None:
    """Load a file in each way, and count what is not as documented."""
    before = states_of(files.trainer)
    for way, error in files.outcomes():
        if error is not None and not isinstance(error, CheckpointError):
            figures.fail(f"{what}: {way}: {error!r}")
        if way in ("load_generator", "load_discriminator"):
            continue
        now = states_of(files.trainer)
        if error is not None and differences(now, before):
            figures.fail(f"{what}: {way}: changed in spite of {error!r}", lost=True)
        if error is None and way == "load":
            goes_on = partial(
                files.trainer.fit, IMAGES, max_steps=files.trainer.progress.step + 2, batch_size=8
            )
            # a scheduler is created, and its state checked, by `fit`
            error = error_of(goes_on)
            if error is not None and not isinstance(error, CheckpointError):
                figures.fail(f"{what}: fit after load: {error!r}")
            for place in differences(now, good) if error is None else ():
                both = place in now and place in good
                right = is_right(place, good[place], now[place]) if both else False
                if not right and (both or not any(name in place for name in OPTIONAL)):
                    was, is_now = good.get(place, "missing"), now.get(place, "missing")
                    figures.fail(f"{what}: {place}: {was!r:.80} -> {is_now!r:.80}", lost=True)
            files.trainer = files.new_trainer(weights=2)
            files.fit(files.trainer)
            before = states_of(files.trainer)
        elif error is None:
            before = now
