"""Several processes: what they must agree on, and one that ends before its time.

Run by `torchrun`, this file is a script that is killed and restarted.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests.faults.figures import Figures
from tests.helpers.processes import Ended, environment, run_ranks
from tests.helpers.trainers import make_trainer
from vanillagan import BCEAdversarialLoss, Callback, Discriminator, GANTrainer, Generator
from vanillagan.callbacks import Checkpoint, MetricLog, NaNGuard
from vanillagan.errors import CheckpointError, DivergenceError

__all__ = ["check_agreement", "check_exits", "check_restarts"]

SECONDS = 20.0
"""Time in which a rank must end after another one has; mostly those of a machine under load."""


def points(n: int = 48) -> Tensor:
    """Return points in the range of a Tanh."""
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1


def fit(trainer: GANTrainer, steps: int = 6, **options: Any) -> GANTrainer:
    """Train for a number of steps in all."""
    trainer.fit(options.pop("data", points()), max_steps=steps, batch_size=12, **options)
    return trainer


def same_on_all(trainer: GANTrainer) -> None:
    """Raise unless steps and parameters are the same on all ranks, unlike BatchNorm's buffers."""
    parameters = [weight.detach() for player in trainer.players for weight in player.parameters]
    ranks = trainer.distributed.all_gather((trainer.progress.step, parameters))
    torch.testing.assert_close(ranks[1:], ranks[:-1], rtol=0, atol=0)


# -- what all ranks must agree on ------------------------------------------------------------------


class Do(Callback):
    """Call a function of the trainer at the end of one step."""

    def __init__(self, step: int, function: Callable[[GANTrainer], Any]) -> None:
        self.step, self.function = step, function

    def on_step_end(self, trainer, result):
        if trainer.progress.step == self.step:
            self.function(trainer)


class Partly(nn.Module):
    """A discriminator with a layer that only some ranks use."""

    def __init__(self, uses: bool) -> None:
        super().__init__()
        self.uses = uses
        self.body, self.extra = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, samples: Tensor) -> Tensor:
        logits = self.body(samples) + (self.extra(samples) if self.uses else 0.0)
        return logits.squeeze(1)


class NaNOn(BCEAdversarialLoss):
    """A loss that is NaN on one rank."""

    rank: int = 1

    def generator(self, fake_logits, real_logits=None):
        loss = super().generator(fake_logits, real_logits)
        return loss * float("nan") if dist.get_rank() == self.rank else loss


def equals_one_process(rank: int, folder: Path) -> None:
    alone = torch.load(folder / "alone.pt")
    trainer = fit(train_in_double(weights=rank), 100)
    mine = [player.network.state_dict() for player in trainer.players]
    torch.testing.assert_close(mine, alone, rtol=0, atol=1e-10)


def train_in_double(weights: int) -> GANTrainer:
    torch.manual_seed(weights)
    networks = Generator(4, (2,), hidden=(16,)), Discriminator((2,), hidden=(16,))
    return GANTrainer(networks[0].double(), networks[1].double(), device="cpu")


def uneven_tensor(rank: int, folder: Path) -> None:
    for length in (49, 50, 59):
        trainer = make_trainer()
        trainer.fit(points(length), max_epochs=2, batch_size=12)
        same_on_all(trainer)


def uneven_batches(rank: int, folder: Path) -> None:
    trainer = make_trainer()
    trainer.fit(list(points(12 * (5 + rank)).split(12)), max_epochs=2)
    assert trainer.progress.step == 10
    same_on_all(trainer)


def uneven_streams(rank: int, folder: Path) -> None:
    class Stream:
        def __iter__(self) -> Iterator[Tensor]:
            yield from points(12 * (7 - 2 * min(rank, 1))).split(12)

    trainer = make_trainer(NaNGuard(every_n_steps=3))
    trainer.fit(Stream(), max_epochs=2)
    assert (trainer.progress.step, trainer.progress.epoch) == (10, 2)
    same_on_all(trainer)


def stop_on_one_rank(rank: int, folder: Path) -> None:
    trainer = make_trainer(Do(3 if rank == 1 else 99, lambda trainer: trainer.stop("enough")))
    fit(trainer, 20)
    assert trainer.progress.step == 4
    assert trainer.stop_reason == ("enough" if rank == 1 else "stopped by another rank")
    fit(trainer, 8)  # which the flag of the `fit` before doesn't stop
    assert trainer.progress.step == 8
    same_on_all(trainer)


def gradient_on_some_ranks(rank: int, folder: Path) -> None:
    for users in ((0,), (1,), ()):
        torch.manual_seed(0)
        discriminator = Partly(rank in users)
        before = discriminator.extra.weight.clone()
        trainer = fit(GANTrainer(Generator(4, (2,), hidden=(8,)), discriminator, device="cpu"))
        assert torch.equal(discriminator.extra.weight, before) == (not users)
        assert (discriminator.extra.weight.grad is None) == (not users)
        same_on_all(trainer)


def file_on_rank_0_alone(rank: int, folder: Path) -> None:
    saved = fit(make_trainer(), 4)
    saved.save(folder / "of-rank-0" / "step-00000004.pt")
    own = folder / ("of-rank-0" if rank == 0 else "elsewhere")
    for load in (
        lambda trainer: trainer.load(own / "step-00000004.pt"),
        lambda trainer: trainer.load_weights(own / "step-00000004.pt"),
        Checkpoint(own).resume,
    ):
        trainer = make_trainer(weights=1)
        load(trainer)
        torch.testing.assert_close(trainer.g.parameters, saved.g.parameters, rtol=0, atol=0)
        same_on_all(fit(trainer, 8))


def no_file_on_rank_0(rank: int, folder: Path) -> None:
    fit(make_trainer(), 2).save(folder / "one.pt")
    (folder / "damaged.pt").write_bytes((folder / "one.pt").read_bytes()[:-50])
    trainer = make_trainer()
    for name, error in (("missing", FileNotFoundError), ("damaged", CheckpointError)):
        path = folder / f"{name if rank == 0 else 'one'}.pt"
        for load in (trainer.load, trainer.load_weights):
            with pytest.raises(error, match=name):
                load(path)
    same_on_all(fit(trainer))


def disk_full_on_rank_0(rank: int, folder: Path) -> None:
    (folder / "file").touch()
    trainer = fit(make_trainer(), 2)
    with pytest.raises(OSError, match="file"):
        trainer.save(folder / "file" / "run.pt")
    same_on_all(fit(trainer, 4))


def only_rank_0_writes(rank: int, folder: Path) -> None:
    fit(make_trainer(Checkpoint(folder / f"written-by-{rank}", every_n_steps=2)))
    assert (folder / f"written-by-{rank}").exists() == (rank == 0)


def error_of_a_metric(rank: int, folder: Path) -> None:
    def metric(samples: Tensor) -> float:
        raise ZeroDivisionError("no samples")

    trainer = make_trainer(MetricLog({"m": metric}, num_samples=4, every_n_steps=3))
    with pytest.raises(ZeroDivisionError, match="no samples"):
        fit(trainer)


def nan_on_one_rank(rank: int, folder: Path) -> None:
    trainer = make_trainer(NaNGuard(every_n_steps=2), loss=NaNOn())
    with pytest.raises(DivergenceError):
        fit(trainer)
    assert trainer.progress.step == 2


def other_arguments(rank: int, folder: Path) -> None:
    odd = rank == 1
    for name, options in (
        ("seed", {"seed": rank}),
        ("discriminator_steps", {"discriminator_steps": 1 + odd}),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be the same on all ranks, got"):
            fit(make_trainer(**options))
    trainer = make_trainer()
    for name, steps, length in (("max_steps", 6 + rank, 48), ("length", 6, 48 + rank)):
        with pytest.raises(ValueError, match=f"`{name}` must be the same on all ranks, got"):
            fit(trainer, steps, data=points(length))
    same_on_all(fit(trainer))


CASES: tuple[Callable[[int, Path], None], ...] = (
    equals_one_process,
    uneven_tensor,
    uneven_batches,
    uneven_streams,
    stop_on_one_rank,
    gradient_on_some_ranks,
    file_on_rank_0_alone,
    no_file_on_rank_0,
    disk_full_on_rank_0,
    only_rank_0_writes,
    error_of_a_metric,
    nan_on_one_rank,
    other_arguments,
)


def run_cases(rank: int, folder: Path) -> list[str]:
    """Return the cases that have ended well; the first that fails is raised."""
    for case in CASES:
        try:
            case(rank, folder)
        except BaseException as error:  # noqa: PERF203 - it is raised
            raise AssertionError(f"{case.__name__}: {error}") from error
    return [case.__name__ for case in CASES]


def check_agreement(long: bool) -> Figures:
    """Let ranks differ in data, files, gradients, arguments; they must do the same all the time."""
    figures = Figures()
    torch.set_num_threads(1)
    for world_size in (2, 3, 4) if long else (2,):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            states = [p.network.state_dict() for p in fit(train_in_double(weights=0), 100).players]
            torch.save(states, folder / "alone.pt")
            ended = run_ranks(run_cases, folder, world_size=world_size, seconds=100)
        figures.tried += len(CASES)
        if any(rank.code != 0 for rank in ended):
            figures.fail(f"{world_size} ranks: {ended}", lost="equals" in ended[0].error)
    return figures


# -- a rank that ends ------------------------------------------------------------------------------


def end(how: str, folder: Path) -> None:
    """End this process."""
    (folder / "ended").write_text(str(time.time()))
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    while how == "hang" and not (folder / "over").exists():
        time.sleep(0.05)
    if how == "exit":
        sys.exit(0)
    raise ZeroDivisionError("an error of one rank")


class EndsInSave(Callback):
    """Call a function while a checkpoint is saved."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function

    def state_dict(self):
        self.function()
        return {}


def train_until_the_end(rank: int, folder: Path, how: str, where: str, victim: int) -> None:
    """Train on this rank, of which one ends."""
    if how == "hang":
        dist.init_process_group("gloo", timeout=timedelta(seconds=3))
    ending = partial(end, how, folder) if rank == victim else lambda: None
    callbacks: dict[str, Callback] = {
        "step": Do(20, lambda trainer: ending()),
        "save": EndsInSave(ending),
        "metric": MetricLog({"m": lambda fake: ending() or 0.0}, num_samples=4, every_n_steps=5),
    }
    trainer = make_trainer(*(callback for name, callback in callbacks.items() if name == where))
    if where == "fit":
        ending()
    if where == "any moment" and rank == victim:
        moment = random.Random(repr((how, victim, folder.name))).uniform(0.0, 0.3)
        threading.Timer(moment, ending).start()
    try:
        fit(trainer, 40)
        if where == "save":
            trainer.save(folder / "run.pt")
        fit(trainer, 40_000)
    finally:
        (folder / "over").touch()


def exits(long: bool) -> Iterator[tuple[str, str, int, int, str]]:
    """Yield how and where which rank of how many ends, and how processes are started."""
    yield "SIGKILL", "step", 1, 2, "spawn"  # where a killed process stays a zombie
    yield "error", "step", 0, 2, "forkserver"
    yield "hang", "step", 1, 2, "forkserver"
    if not long:
        return
    yield "SIGKILL", "step", 0, 2, "spawn"
    yield "error", "step", 1, 2, "spawn"  # where threads of gloo could abort the process at its end
    yield "hang", "step", 0, 2, "forkserver"
    for victim, world_size in ((0, 2), (1, 2), (1, 3), (3, 4)):
        for how in ("SIGKILL", "error", "exit"):
            for where in ("step", "save", "fit"):
                yield how, where, victim, world_size, "forkserver"
        for _ in range(3):
            yield "SIGKILL", "any moment", victim, world_size, "forkserver"
    yield "SIGKILL", "metric", 0, 2, "forkserver"


def check_exits(long: bool) -> Figures:
    """End one rank; the others must name it in an error, within seconds, and not be aborted."""
    figures = Figures()
    for how, where, victim, world_size, method in exits(long):
        with tempfile.TemporaryDirectory() as name:
            arguments = Path(name), how, where, victim
            ended = run_ranks(train_until_the_end, *arguments, world_size=world_size, method=method)
            at = float(Path(name, "ended").read_text())
        figures.tried += 1
        wrong = [why for rank in ended for why in wrong_end(rank, ended, victim, how, at)]
        if wrong:
            figures.fail(f"{how} of rank {victim} of {world_size} in {where}: {wrong}")
    return figures


def wrong_end(rank: Ended, ended: list[Ended], victim: int, how: str, at: float) -> Iterator[str]:
    """Yield what is wrong with the end of a rank."""
    if rank is ended[victim]:
        expected = {"SIGKILL": -signal.SIGKILL, "error": 1, "exit": 0}
        if how in expected and rank.code != expected[how]:
            yield f"the rank itself: {rank}"
        return
    names = re.search(r"RuntimeError: rank ([0-9, ]+) exited", rank.error)
    is_named = names is not None and str(victim) in names[1].split(", ")
    if how == "hang":  # gloo doesn't know which rank didn't answer
        is_named = re.search("Timed out waiting 3000ms|Application timeout", rank.error) is not None
    if not is_named or rank.code != 1 or rank.at - at > SECONDS:
        yield f"after {rank.at - at:.1f} s: {rank}"


# -- restarts --------------------------------------------------------------------------------------


def train_with_kills(folder: Path, kills: int, seed: int) -> None:
    """Resume and train; in the first `kills` attempts one rank is killed at a random moment."""
    torch.set_num_threads(1)
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    rng = random.Random(repr((seed, attempt)))
    is_victim = attempt < kills and int(os.environ["RANK"]) == rng.randrange(2)
    steps, moment = rng.randrange(1, 10), rng.uniform(0.0, 0.02)

    def kill() -> None:
        (folder / f"killed-{attempt}").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    class Kill(Callback):
        def on_fit_start(self, trainer):
            self.at = trainer.progress.step + steps

        def on_step_end(self, trainer, result):
            if is_victim and trainer.progress.step == self.at:
                threading.Timer(moment, kill).start()

    checkpoint = Checkpoint(folder / "run", every_n_steps=3)
    trainer = make_trainer(checkpoint, Kill())
    checkpoint.resume(trainer)
    fit(trainer, 40 * (kills + 1))
    trainer.save(folder / "end.pt")


def train_undisturbed(rank: int, folder: Path, kills: int) -> None:
    fit(make_trainer(), 40 * (kills + 1)).save(folder / "undisturbed.pt")


def check_restarts(long: bool) -> Figures:
    """Kill ranks of a run that `torchrun` restarts; it must end with the same weights."""
    figures = Figures()
    for seed in range(4 if long else 1):
        with tempfile.TemporaryDirectory() as name:
            restart(figures, Path(name), kills=10 if long else 1, seed=seed)
    return figures


def restart(figures: Figures, folder: Path, kills: int, seed: int) -> None:
    """Compare a run that was killed and restarted with an undisturbed one."""
    run_ranks(train_undisturbed, folder, kills)
    launch = ["--standalone", "--nproc-per-node", "2", "--max-restarts", str(kills)]
    worker = ["-m", "tests.faults.processes", str(folder), str(kills), str(seed)]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launch, *worker],
        env={
            **environment(),
            # else a restart may wait for addresses of the processes before (pytorch#135712)
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            "PYTHONFAULTHANDLER": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    figures.tried += len(list(folder.glob("killed-*")))
    if done.returncode != 0:
        figures.fail(f"exit status {done.returncode}: {done.stdout[-8000:]}")
        return
    names = ("generator", "discriminator", "generator_optimizer", "discriminator_optimizer")
    states = [torch.load(folder / f"{end}.pt")["states"] for end in ("undisturbed", "end")]
    expected, got = ([state[name] for name in names] for state in states)
    try:
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
    except AssertionError as error:
        figures.fail(str(error), lost=True)


if __name__ == "__main__":
    train_with_kills(Path(sys.argv[1]), *map(int, sys.argv[2:]))
