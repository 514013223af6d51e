"""Two real processes train as one does.

Run by `torchrun`, this file is one of those processes.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import TensorDataset

from vanillagan import (
    EMA,
    R1,
    BCEAdversarialLoss,
    Callback,
    Discriminator,
    GANTrainer,
    Generator,
    exchange,
)
from vanillagan.callbacks import Checkpoint, CSVLog, NaNGuard
from vanillagan.errors import DivergenceError

STEPS = 20
HALF = 7
GAMES: dict[str, dict[str, Any]] = {
    "the default game": {},
    "two steps of D, lazy R1, an average": {
        "update_order": "discriminator_first",
        "discriminator_steps": 2,
        "penalties": [R1(0.5, every=4)],
        "ema": True,
    },
}


def data() -> TensorDataset:
    """48 labelled points: 6 batches an epoch, so that step 7 is in the middle of one."""
    rng = torch.Generator().manual_seed(1)
    return TensorDataset(torch.rand(48, 2, generator=rng) * 2 - 1, torch.arange(48) % 3)


def make_trainer(*, ema: bool = False, weights: int = 0, **options: Any) -> GANTrainer:
    """Players without BatchNorm, which would normalise over each process's part."""
    torch.manual_seed(weights)
    return GANTrainer(
        Generator(4, (2,), hidden=(16,), num_classes=3).double(),
        Discriminator((2,), hidden=(16,), num_classes=3).double(),
        ema=EMA(0.9) if ema else None,
        device="cpu",
        **options,
    )


def fit(trainer: GANTrainer, steps: int) -> None:
    trainer.fit(data(), steps=steps, batch_size=8)


def learned(trainer: GANTrainer) -> dict[str, Any]:
    """Weights, moments and average."""
    names = ("generator", "discriminator", "generator_optimizer", "discriminator_optimizer", "ema")
    parts = trainer.parts()
    states = {name: parts[name].state_dict() for name in names if name in parts}
    return {
        name: state["state"] if name.endswith("optimizer") else state
        for name, state in states.items()
    }


class StopAtStep(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer, result):
        if trainer.progress.step == self.step:
            trainer.stop("this is enough")


class NaNInOne(BCEAdversarialLoss):
    """At the third step the generator's loss is NaN in the second process alone."""

    calls = 0

    def generator(self, fake_scores, real_scores=None):
        object.__setattr__(self, "calls", self.calls + 1)
        loss = super().generator(fake_scores, real_scores)
        return loss * float("nan") if self.calls == 3 and dist.get_rank() == 1 else loss


def play(game: str, folder: Path, rank: int) -> dict[str, Any]:
    """The game from the start, and gone on with from checkpoints of two processes and of one."""
    results = {}
    trainer = make_trainer(weights=rank, **GAMES[game])
    fit(trainer, HALF)
    trainer.save(folder / f"{game}, two processes.pt")
    fit(trainer, STEPS)
    results["whole"] = learned(trainer)
    dist.barrier()
    for start in ("two processes", "one process"):
        resumed = make_trainer(weights=9, **GAMES[game])
        resumed.load(folder / f"{game}, {start}.pt")
        fit(resumed, STEPS)
        results[f"from {start}"] = learned(resumed)
    return results


def one_process(folder: Path) -> None:
    """All that one of the processes does; what it saw is for the tests to judge."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    seen: dict[str, Any] = {}

    trainer = make_trainer(
        callbacks=[
            CSVLog(folder / f"log-of-{rank}.csv", every=1),
            Checkpoint(folder / f"checkpoints-of-{rank}", every_steps=2),
        ]
    )
    fit(trainer, 2)
    trainer.save(folder / "both.pt")
    seen["saved at once"] = (folder / "both.pt").is_file()
    trainer.save(folder / f"saved-by-{rank}.pt")

    for game in GAMES:
        seen[game] = play(game, folder, rank)

    trainer = make_trainer(callbacks=[StopAtStep(3 if rank == 1 else 10)])
    fit(trainer, STEPS)
    seen["stopped"] = (trainer.progress.step, trainer.stop_reason)

    trainer = make_trainer(loss=NaNInOne(), callbacks=[NaNGuard(every=3)])
    try:
        fit(trainer, 3)
    except DivergenceError as error:
        seen["diverged"] = str(error)

    torch.manual_seed(100 + rank)
    trainer.save(folder / "random.pt")
    seen["drawn after the save"] = torch.rand(4).tolist()
    dist.barrier()
    trainer.load(folder / "random.pt")
    seen["drawn after the load"] = torch.rand(4).tolist()

    try:
        trainer.fit(data(), epochs=9, batch_size=5)
    except ValueError as error:
        seen["error"] = str(error)

    shared = exchange.shared_mean(2, torch.float64)
    if shared is not None:
        seen["means"] = []
        for number in (1, 2, 3):
            time.sleep(0.05 * rank * (number == 2))  # longer than a process waits awake
            own = torch.tensor([[1.0 + rank], [number * rank]], dtype=torch.float64)
            shared(list(own))
            seen["means"].append(own.tolist())

    strided = torch.nn.Parameter(torch.zeros(2, 3, 2, 2))
    numbers = torch.arange(24.0).view_as(strided) * (1 + rank)
    strided.grad = numbers.to(memory_format=torch.channels_last)
    trainer.processes.average_gradients([strided])
    seen["gradient with strides"] = strided.grad
    exchange.FOLDER = folder / "missing"
    seen["no shared memory"] = exchange.shared_mean(2, torch.float64)
    trainer = make_trainer(weights=rank)
    fit(trainer, STEPS)
    seen["without shared memory"] = learned(trainer)

    torch.save(seen, folder / f"rank-{rank}.pt")


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    """What one process learns in each game."""
    torch.set_num_threads(1)
    results = {}
    for game, options in GAMES.items():
        trainer = make_trainer(**options)
        fit(trainer, STEPS)
        results[game] = learned(trainer)
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have trained."""
    if not dist.is_available():
        pytest.skip("this PyTorch has no torch.distributed")
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("distributed")
    for game, options in GAMES.items():
        trainer = make_trainer(**options)
        fit(trainer, HALF)
        trainer.save(folder / f"{game}, one process.pt")
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", *launch, __file__, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert process.returncode == 0, output
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    """What each of the two processes saw."""
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]


assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)
assert_close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)


@pytest.mark.parametrize("game", GAMES)
def test_two_processes_learn_what_one_does(ranks, alone, game):
    assert_close(ranks[0][game]["whole"], alone[game])


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("run", ["whole", "from two processes", "from one process"])
def test_both_processes_learn_the_same(ranks, game, run):
    assert_equal(ranks[1][game][run], ranks[0][game][run])


@pytest.mark.parametrize("game", GAMES)
def test_what_two_processes_saved_goes_on_exactly_in_two(ranks, game):
    assert_equal(ranks[0][game]["from two processes"], ranks[0][game]["whole"])


@pytest.mark.parametrize("game", GAMES)
def test_what_two_processes_saved_goes_on_in_one(folder, alone, game):
    trainer = make_trainer(weights=9, **GAMES[game])
    trainer.load(folder / f"{game}, two processes.pt")
    assert trainer.progress.step == HALF
    fit(trainer, STEPS)
    assert_close(learned(trainer), alone[game])


@pytest.mark.parametrize("game", GAMES)
def test_what_one_process_saved_goes_on_in_two(ranks, alone, game):
    assert_close(ranks[0][game]["from one process"], alone[game])


def test_each_process_gets_its_own_random_state_back(ranks):
    for rank in ranks:
        assert rank["drawn after the load"] == rank["drawn after the save"]
    assert ranks[0]["drawn after the load"] != ranks[1]["drawn after the load"]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared through Linux's /dev/shm")
def test_processes_of_one_machine_share_memory(ranks):
    means = [[[1.5], [0.5]], [[1.5], [1.0]], [[1.5], [1.5]]]
    assert [rank["means"] for rank in ranks] == [means] * 2


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[exchange.SharedMean]:
    """The first of two processes, of which the second one doesn't come."""
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    arrived = torch.zeros(2, dtype=torch.int64)
    yield exchange.SharedMean(torch.zeros(2, 2, 1), arrived, [os.getpid(), other.pid])
    other.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared through Linux's /dev/shm")
def test_waiting_for_a_process_that_has_ended_is_an_error(shared):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    shared.pids[1] = ended.pid
    with pytest.raises(RuntimeError, match="process 1 that has ended while process 0 waits for it"):
        shared([torch.zeros(1)])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared through Linux's /dev/shm")
def test_waiting_ends_at_the_time_limit_of_process_groups(shared, monkeypatch):
    monkeypatch.setattr(dist, "default_pg_timeout", timedelta(seconds=0.05))
    with pytest.raises(RuntimeError, match=r"process 0 that waits for \[1\] since"):
        shared([torch.zeros(1)])


def test_gradients_of_any_strides_are_averaged(ranks):
    for rank in ranks:
        assert_equal(rank["gradient with strides"], torch.arange(24.0).view(2, 3, 2, 2) * 1.5)


def test_processes_without_shared_memory_learn_the_same(ranks, alone):
    assert [rank["no shared memory"] for rank in ranks] == [None, None]
    assert_close(ranks[0]["without shared memory"], alone["the default game"])
    assert_equal(ranks[1]["without shared memory"], ranks[0]["without shared memory"])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared through Linux's /dev/shm")
def test_too_little_memory_to_share_is_told(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exchange, "FOLDER", tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", fail)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    monkeypatch.setattr(dist, "broadcast_object_list", lambda objects, src: None)
    monkeypatch.setattr(dist, "all_gather_object", lambda objects, own: None)
    with pytest.warns(UserWarning, match="must have room for 64 MB, .* No space left on device"):
        assert exchange.shared_mean(2_000_000, torch.float32) is None
    assert not list(tmp_path.iterdir())


def test_one_process_stops_both(ranks):
    assert ranks[0]["stopped"] == (3, "stopped by another process")
    assert ranks[1]["stopped"] == (3, "this is enough")


def test_a_loss_that_is_nan_in_one_process_ends_both(ranks):
    end = " at step 3; the last good checkpoint: none"
    assert ranks[0]["diverged"].startswith("a loss of another process is not finite" + end)
    assert ranks[1]["diverged"].startswith("the generator's loss is nan" + end)


def test_only_the_first_process_writes_files(folder, ranks):
    of_first = ["log-of-0.csv", "checkpoints-of-0/step-00000002.pt", "saved-by-0.pt"]
    assert all((folder / name).is_file() for name in of_first)
    assert not [path for pattern in ("*-of-1*", "saved-by-1*") for path in folder.glob(pattern)]


def test_the_checkpoint_is_there_for_every_process_when_save_is_done(ranks):
    assert [rank["saved at once"] for rank in ranks] == [True, True]


def test_a_batch_size_that_the_processes_cannot_share_is_an_error_in_each(ranks):
    expected = "`batch_size` must be a multiple of the 2 processes, got 5"
    assert [rank["error"] for rank in ranks] == [expected, expected]


if __name__ == "__main__":
    one_process(Path(sys.argv[1]))
