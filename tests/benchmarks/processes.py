"""Compare two processes that train together with one process of two threads.

    python -m tests.benchmarks.processes [--networks mlp conv] [--rounds 5] [--json FILE] [--model]

Each row trains in batches of 512 on two cores:

    1 process      one process with two threads
    2 processes    two processes of `torchrun` with one thread each (OMP_NUM_THREADS=1), which
                   all-reduce their gradients over gloo

The rows take turns, as new processes. Images per second are measured after a warm-up. `all-reduce`
is the share of the time that rank 0 spends in all-reduces of gradients and in asking whether a rank
stops, including the time it is blocked by the other rank. This is about CPUs; on GPUs NCCL carries
the gradients.

--model checks a model of the cost instead: a step of two processes, with one thread each, should
take the time of one process with one thread and half of the batch, and that of its all-reduces,
which are timed alone. It predicts from these two what is measured in the third.
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
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.loops import Options, own_networks
from tests.benchmarks.machine import write_figures
from tests.benchmarks.options import Parser
from vanillagan import Callback, GANTrainer, StepResult
from vanillagan.data import ByteImages

NETWORKS = ("mlp", "conv")
BATCH_SIZE = 512
CORES = 2
WARM_UP = 5


class Clock(Callback):
    """Time the steps after the warm-up, and the collective operations in them."""

    def __init__(self) -> None:
        self.collective = 0.0
        self.started = 0.0
        self.seconds = 0.0

    def on_fit_start(self, trainer: GANTrainer) -> None:
        distributed = trainer.distributed
        distributed.average_gradients = self.timed(distributed.average_gradients)
        distributed.any = self.timed(distributed.any)

    def timed(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            result = operation(*arguments, **options)
            self.collective += time.perf_counter() - started
            return result

        return run

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        if trainer.progress.step == WARM_UP:
            self.collective, self.started = 0.0, time.perf_counter()
        self.seconds = time.perf_counter() - self.started


def main() -> None:
    parser = Parser(__doc__)
    parser.add("--networks", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add("--rounds", default=5)
    parser.add("--steps", default=100, help="Steps that are timed in a round")
    parser.add("--json")
    parser.add("--batch-size", default=BATCH_SIZE, help="Samples in a batch, over all processes")
    parser.add_argument("--model", action="store_true", help="Check the model of the cost.")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.networks[0], options.steps, options.batch_size)
        return
    if options.model:
        check_model(options.networks, options.steps, options.batch_size)
        return

    figures: dict[str, dict[str, list[dict[str, float]]]] = {}
    for networks in options.networks:
        rows: dict[str, list[dict[str, float]]] = {"1": [], "2": []}
        for _ in range(options.rounds):
            for count, runs in rows.items():
                runs.append(launch(networks, int(count), options.steps))
        figures[networks] = rows
        speeds = {
            count: statistics.median(run["images_per_second"] for run in runs)
            for count, runs in rows.items()
        }
        for count, runs in rows.items():
            share = statistics.median(run["all_reduce"] for run in runs)
            print(
                f"{networks:6} {count} process(es) {speeds[count]:8.0f} images/s, all-reduce "
                f"{share:.1%}   {speeds[count] / speeds['1']:.2f} of one process",
                flush=True,
            )
        write_figures(options.json, "tests.benchmarks.processes", figures)


def check_model(networks: list[str], steps: int, batch_size: int) -> None:
    """Print the time of a step of two processes, predicted and measured."""
    for name in networks:
        one, half = (launch(name, 1, steps, size, 1) for size in (batch_size, batch_size // 2))
        two = launch(name, 2, steps, batch_size)
        predicted = half["step"] + two["exchange"]
        print(
            f"{name:6} batch {batch_size}: one process {one['step'] * 1e3:.1f} ms, of half the "
            f"batch {half['step'] * 1e3:.1f} ms; all-reduces of {two['bytes'] / 1e6:.1f} MB "
            f"{two['exchange'] * 1e3:.1f} ms, of one number {two['latency'] * 1e3:.2f} ms; two "
            f"processes: predicted {predicted * 1e3:.1f} ms, measured {two['step'] * 1e3:.1f} ms",
            flush=True,
        )


def launch(
    networks: str,
    count: int,
    steps: int,
    batch_size: int = BATCH_SIZE,
    threads: int | None = None,
) -> dict[str, float]:
    """Run one or two processes, and return the figures that rank 0 prints."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    worker = ["-m", "tests.benchmarks.processes", "--worker", "--batch-size", str(batch_size)]
    command = [sys.executable, *(torchrun if count > 1 else []), *worker,
               "--networks", networks, "--steps", str(steps)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads or CORES // count)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def work(networks: str, steps: int, batch_size: int) -> None:
    """Train in one of the processes, and print the figures of rank 0."""
    if torch.get_num_threads() == 1:  # each on a core of its own
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ.get("LOCAL_RANK", "0")) % len(cores)]})
    clock = Clock()
    players = own_networks(Options(Path(), networks=networks))
    trainer = GANTrainer(*players, device="cpu", callbacks=[clock])
    images = torch.randint(256, (20 * batch_size, 1, 28, 28), dtype=torch.uint8)
    trainer.fit(ByteImages(images), max_steps=WARM_UP + steps, batch_size=batch_size)
    parameters = [weight for player in trainer.players for weight in player.parameters]
    distributed = trainer.distributed
    exchange = [
        time_alone(partial(distributed.average_gradients, player.parameters))
        for player in trainer.players
    ]
    figures = {
        "images_per_second": steps * batch_size / clock.seconds,
        "step": clock.seconds / steps,
        "all_reduce": clock.collective / clock.seconds,
        "exchange": sum(exchange),
        "latency": time_alone(lambda: distributed.any(False)),
        "bytes": 4 * sum(weight.numel() for weight in parameters),
    }
    if distributed.rank == 0:
        print(json.dumps(figures))


def time_alone(operation: Callable[[], Any], times: int = 20) -> float:
    """Return the median time of an operation that nothing runs beside."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        operation()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
