"""Two real processes train like one.

Run by `torchrun`, this file is one of those processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import TensorDataset

from tests.helpers.processes import environment
from vanillagan import EMA, R1, BCEAdversarialLoss, Callback, Discriminator, GANTrainer, Generator
from vanillagan.callbacks import Checkpoint, CSVLog, NaNGuard
from vanillagan.errors import DivergenceError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason="needs torch.distributed"),
]

STEPS = 100
HALF = 7
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "k = 2, accumulation, lazy R1, EMA": {
        "update_order": "discriminator_first",
        "discriminator_steps": 2,
        "accumulate": 2,
        "penalties": [R1(0.5, every=4)],
        "ema": True,
    },
}


def data() -> TensorDataset:
    """Return 48 labeled points: 6 batches an epoch, so that step 7 is in the middle of one."""
    rng = torch.Generator().manual_seed(1)
    return TensorDataset(torch.rand(48, 2, generator=rng) * 2 - 1, torch.arange(48) % 3)


def make_trainer(*, ema: bool = False, weights: int = 0, **options: Any) -> GANTrainer:
    """Return a trainer of networks without BatchNorm, which would normalize over each shard."""
    torch.manual_seed(weights)
    return GANTrainer(
        Generator(4, (2,), hidden=(16,), num_classes=3).double(),
        Discriminator((2,), hidden=(16,), num_classes=3).double(),
        ema=EMA(0.9) if ema else None,
        device="cpu",
        **options,
    )


def fit(trainer: GANTrainer, steps: int) -> None:
    trainer.fit(data(), max_steps=steps, batch_size=8)


def learned(trainer: GANTrainer) -> dict[str, Any]:
    """Return weights, moments and average."""
    names = ("generator", "discriminator", "generator_optimizer", "discriminator_optimizer", "ema")
    objects = trainer.state_objects()
    states = {name: objects[name].state_dict() for name in names if name in objects}
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


class NaNOnRank1(BCEAdversarialLoss):
    """A loss that is NaN at the third generator step of rank 1 alone."""

    calls = 0

    def generator(self, fake_logits, real_logits=None):
        object.__setattr__(self, "calls", self.calls + 1)
        loss = super().generator(fake_logits, real_logits)
        return loss * float("nan") if self.calls == 3 and dist.get_rank() == 1 else loss


def count_threads() -> int:
    """Return the number of threads of this process, those of C++ too (0 unless on Linux)."""
    return len(list(Path("/proc/self/task").glob("*")))


# -- on each rank ----------------------------------------------------------------------------------


def train_and_resume(name: str, folder: Path, rank: int) -> dict[str, Any]:
    """Train from the start, and from checkpoints that two processes and one process saved."""
    results = {}
    trainer = make_trainer(weights=rank, **CONFIGURATIONS[name])
    fit(trainer, HALF)
    trainer.save(folder / f"{name}, two processes.pt")
    fit(trainer, STEPS)
    results["whole"] = learned(trainer)
    for start in ("two processes", "one process"):
        resumed = make_trainer(weights=9, **CONFIGURATIONS[name])
        resumed.load(folder / f"{name}, {start}.pt")
        fit(resumed, STEPS)
        results[f"from {start}"] = learned(resumed)
    return results


def run_rank(folder: Path) -> None:
    """Run on one rank, and write what the tests compare."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    torch.zeros(1, requires_grad=True).backward()  # starts a thread for each GPU
    found: dict[str, Any] = {"threads before": count_threads()}

    trainer = make_trainer(
        callbacks=[
            CSVLog(folder / f"log-of-{rank}.csv", every_n_steps=1),
            Checkpoint(folder / f"checkpoints-of-{rank}", every_n_steps=2),
        ]
    )
    fit(trainer, 2)
    trainer.save(folder / "both.pt")
    found["saved at once"] = (folder / "both.pt").is_file()
    trainer.save(folder / f"saved-by-{rank}.pt")

    for name in CONFIGURATIONS:
        found[name] = train_and_resume(name, folder, rank)

    trainer = make_trainer(callbacks=[StopAtStep(3 if rank == 1 else 10)])
    fit(trainer, STEPS)
    found["stopped"] = (trainer.progress.step, trainer.stop_reason)

    trainer = make_trainer(loss=NaNOnRank1(), callbacks=[NaNGuard(every_n_steps=3)])
    try:
        fit(trainer, STEPS)
    except DivergenceError as error:
        found["diverged"] = (trainer.progress.step, str(error))

    torch.manual_seed(100 + rank)
    trainer.save(folder / "random.pt")
    found["drawn after the save"] = torch.rand(4).tolist()
    trainer.load(folder / "random.pt")
    found["drawn after the load"] = torch.rand(4).tolist()

    try:
        trainer.fit(data(), max_epochs=9, batch_size=5)
    except ValueError as error:
        found["error"] = str(error)

    found["gathered"] = trainer.distributed.all_gather({"rank": rank})
    found["threads in training"] = count_threads()
    dist.destroy_process_group()
    found["threads after"] = count_threads()
    torch.save(found, folder / f"rank-{rank}.pt")


# -- fixtures --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    """Return what one process learns with each configuration."""
    torch.set_num_threads(1)
    results = {}
    for name, options in CONFIGURATIONS.items():
        trainer = make_trainer(**options)
        fit(trainer, STEPS)
        results[name] = learned(trainer)
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which two processes have trained."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("distributed")
    for name, options in CONFIGURATIONS.items():
        trainer = make_trainer(**options)
        fit(trainer, HALF)
        trainer.save(folder / f"{name}, one process.pt")
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", *launch, __file__, str(folder)],
        env=environment(),
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
    """Return what each of the two ranks found."""
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]


# -- tests -----------------------------------------------------------------------------------------

assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)
assert_close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)
every_configuration = pytest.mark.parametrize("name", CONFIGURATIONS)


@every_configuration
def test_two_ranks_learn_what_one_process_does(ranks, alone, name):
    assert_close(ranks[0][name]["whole"], alone[name])


@every_configuration
@pytest.mark.parametrize("run", ["whole", "from two processes", "from one process"])
def test_both_ranks_have_the_same_weights(ranks, name, run):
    assert_equal(ranks[1][name][run], ranks[0][name][run])


@every_configuration
def test_two_ranks_resume_exactly(ranks, name):
    assert_equal(ranks[0][name]["from two processes"], ranks[0][name]["whole"])


@every_configuration
def test_one_process_resumes_what_two_ranks_saved(folder, alone, name):
    trainer = make_trainer(weights=9, **CONFIGURATIONS[name])
    trainer.load(folder / f"{name}, two processes.pt")
    assert trainer.progress.step == HALF
    fit(trainer, STEPS)
    assert_close(learned(trainer), alone[name])


@every_configuration
def test_two_ranks_resume_what_one_process_saved(ranks, alone, name):
    assert_close(ranks[0][name]["from one process"], alone[name])


def test_each_rank_restores_its_own_random_state(ranks):
    for rank in ranks:
        assert rank["drawn after the load"] == rank["drawn after the save"]
    assert ranks[0]["drawn after the load"] != ranks[1]["drawn after the load"]


def test_values_are_gathered_in_the_order_of_ranks(ranks):
    assert [rank["gathered"] for rank in ranks] == [[{"rank": 0}, {"rank": 1}]] * 2


@pytest.mark.skipif(count_threads() == 0, reason="needs /proc")
def test_no_thread_outlives_the_process_group(ranks):
    """One that does can abort the process at its end."""
    for rank in ranks:
        assert rank["threads after"] == rank["threads before"] < rank["threads in training"]


def test_stop_on_one_rank_stops_all_at_the_same_step(ranks):
    # a step later: the answer of the other ranks arrives during the next step
    assert ranks[0]["stopped"] == (4, "stopped by another rank")
    assert ranks[1]["stopped"] == (4, "this is enough")


def test_nan_on_one_rank_is_an_error_on_all(ranks):
    assert [rank["diverged"][0] for rank in ranks] == [3, 3]
    assert "is nan at step 3" in ranks[0]["diverged"][1]
    assert ranks[1]["diverged"][1].startswith("the generator's loss is nan at step 3")


def test_only_rank_0_writes_files(folder, ranks):
    of_rank_0 = ["log-of-0.csv", "checkpoints-of-0/step-00000002.pt", "saved-by-0.pt"]
    assert all((folder / name).is_file() for name in of_rank_0)
    assert not [path for pattern in ("*-of-1*", "saved-by-1*") for path in folder.glob(pattern)]


def test_a_checkpoint_is_there_when_save_returns(ranks):
    assert [rank["saved at once"] for rank in ranks] == [True, True]


def test_an_invalid_batch_size_is_an_error_on_each_rank(ranks):
    expected = "`batch_size` must be a multiple of the world size 2, got 5"
    assert [rank["error"] for rank in ranks] == [expected, expected]


if __name__ == "__main__":
    run_rank(Path(sys.argv[1]))
