"""Do two processes train nearly twice as fast as one?

    python -m tests.benchmarks.processes [--networks perceptron conv] [--rounds 5] [--json FILE]

Each row is started by `torchrun`, with one thread in each process (OMP_NUM_THREADS=1) and batches
of 256 for each: one process alone with batches of 256, and two with batches of 512. The rows take
turns, as fresh processes; the images a second are counted after a warm-up, and `exchange` is the
part of the time that the first process spends in what all processes meet in: the exchange of
gradients, and the question after each step whether any of them stops. Its waits for the other
process are included. `images/s` of two over those of one is what it is about: at most 2.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.loops import Options, own_networks
from tests.benchmarks.machine import write_figures
from vanillagan import Callback, GANTrainer, StepResult
from vanillagan.data import ByteImages

NETWORKS = ("perceptron", "conv")
BATCH_SIZE = 256
WARM_UP = 5


class Clock(Callback):
    """Times the steps after the warm-up, and in them what the processes meet in."""

    def __init__(self) -> None:
        self.met = 0.0
        self.exchange = 0.0
        self.started = 0.0
        self.seconds = 0.0

    def on_fit_start(self, trainer: GANTrainer) -> None:
        processes = trainer.processes
        processes.average_gradients = self.timed(processes.average_gradients)
        processes.any = self.timed(processes.any)

    def timed(self, meet: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def meet_and_time(argument: Any) -> Any:
            started = time.perf_counter()
            result = meet(argument)
            self.met += time.perf_counter() - started
            return result

        return meet_and_time

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        if trainer.progress.step == WARM_UP:
            self.met, self.started = 0.0, time.perf_counter()
        self.exchange, self.seconds = self.met, time.perf_counter() - self.started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", choices=NETWORKS, nargs="+", default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="steps that are timed in a round")
    parser.add_argument("--json", type=Path, help="a file for the figures", metavar="FILE")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.networks[0], options.steps)
        return

    figures: dict[str, dict[str, list[dict[str, float]]]] = {}
    for networks in options.networks:
        rows: dict[str, list[dict[str, float]]] = {"1": [], "2": []}
        for _ in range(options.rounds):
            for count, runs in rows.items():
                runs.append(launch(networks, count, options.steps))
        figures[networks] = rows
        speeds = {
            count: statistics.median(run["images_per_second"] for run in runs)
            for count, runs in rows.items()
        }
        for count, runs in rows.items():
            exchange = statistics.median(run["exchange"] for run in runs)
            print(
                f"{networks:12} {count} processes {speeds[count]:8.0f} images/s, {exchange:.1%} of "
                f"the time in the exchange   {speeds[count] / speeds['1']:.2f} of one",
                flush=True,
            )
        write_figures(options.json, "tests.benchmarks.processes", figures)


def launch(networks: str, count: str, steps: int) -> dict[str, float]:
    """Runs so many processes, and reads what the first one has printed."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
    worker = ["-m", "tests.benchmarks.processes", "--worker"]
    command = [sys.executable, *torchrun, *worker, "--networks", networks, "--steps", str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def work(networks: str, steps: int) -> None:
    """One of the processes: trains, and the first one prints its figures."""
    clock = Clock()
    players = own_networks(Options(Path(), networks=networks))
    trainer = GANTrainer(*players, device="cpu", callbacks=[clock])
    batch_size = BATCH_SIZE * trainer.processes.count
    images = torch.randint(256, (20 * batch_size, 1, 28, 28), dtype=torch.uint8)
    trainer.fit(ByteImages(images), steps=WARM_UP + steps, batch_size=batch_size)
    if trainer.processes.rank == 0:
        figures = {
            "images_per_second": steps * batch_size / clock.seconds,
            "exchange": clock.exchange / clock.seconds,
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
