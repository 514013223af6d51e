"""Measure the speed of `compile=True`, and check that its results are the same.

    python -m tests.benchmarks.compiling [--networks mlp conv] [--batches 64 256 1024]
                                         [--rounds 12] [--steps 10] [--json FILE]

Rows take turns, each in its own process, and train on random images of MNIST's size:

    eager       compile=False
    compiled    compile=True

The round with the compilation is not counted. The time of compilation is that of a `fit` of one
step in a new process with an empty cache, including torch's imports.

Then the losses of the first 20 steps of eager and compiled runs from the same weights are compared.
They may differ by at most 1e-3 (float32 rounds differently in fused code, and training amplifies
that from step to step), else the command exits with 1. It needs a C++ compiler; without one the
error is printed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.loops import Options, Ticking, own_networks
from tests.benchmarks.machine import write_figures
from tests.benchmarks.options import Parser
from tests.benchmarks.turns import Tick, take_turns
from vanillagan import GANTrainer
from vanillagan.data import ByteImages

NETWORKS = ("mlp", "conv")
WAYS = ("eager", "compiled")
CHECKED = 20
TOLERANCE = 1e-3


def main() -> int:
    parser = Parser(__doc__)
    parser.add("--networks", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add("--batches", default=[64, 256, 1024], help="Measure with these batch sizes")
    parser.add("--rounds", default=12)
    parser.add("--steps", default=10)
    parser.add("--json")
    options = parser.parse_args()

    figures: list[dict[str, Any]] = []
    for networks in options.networks:
        for batch_size in options.batches:
            figures.append(compare(networks, batch_size, options.rounds, options.steps))
            write_figures(options.json, "tests.benchmarks.compiling", figures)
    wrong = [row for row in figures if row["difference"] is None or row["difference"] > TOLERANCE]
    return 1 if wrong else 0


def compare(networks: str, batch_size: int, rounds: int, steps: int) -> dict[str, Any]:
    """Time both ways for one pair of networks, and compare their losses."""
    rows = {way: partial(train, networks, batch_size, way) for way in WAYS}
    timings = take_turns(rows, rounds=rounds, steps=steps)
    eager = timings["eager"]
    for way, timing in timings.items():
        if isinstance(timing, str) or isinstance(eager, str):
            print(f"{networks:12} batch {batch_size:5} {way:9} {timing}")
        else:
            print(
                f"{networks:12} batch {batch_size:5} {way:9} {timing.median * 1e3:8.2f} ms a step "
                f"{timing.median / eager.median:6.3f} of eager"
            )
    seconds = difference = None
    if not isinstance(timings["compiled"], str):
        seconds = time_compiling(networks, batch_size)
        difference = (losses(networks, batch_size, "compiled")
                      - losses(networks, batch_size, "eager")).abs().max().item()  # fmt: skip
        print(
            f"{networks:12} batch {batch_size:5} compiled  {seconds:8.1f} s for the first step\n"
            f"{networks:12} batch {batch_size:5} the losses of {CHECKED} steps differ by at most "
            f"{difference:.1e}",
            flush=True,
        )
    return {
        "networks": networks,
        "batch_size": batch_size,
        "compile_seconds": seconds,
        "difference": difference,
        "rows": timings,
    }


def time_compiling(networks: str, batch_size: int) -> float:
    """Return the seconds of a first compiled step, in a new process with an empty cache."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as cache, ProcessPoolExecutor(1, context) as process:
        return process.submit(first_step, cache, networks, batch_size).result()


def first_step(cache: str, networks: str, batch_size: int) -> float:
    """Return the seconds of a `fit` of one step, with compiled code cached in that folder."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    trainer, data = make_trainer(networks, "compiled"), images(batch_size)
    started = time.perf_counter()
    trainer.fit(data, max_steps=1, batch_size=batch_size)
    return time.perf_counter() - started


def make_trainer(networks: str, way: str, **options: Any) -> GANTrainer:
    """Return a trainer that runs networks eagerly or compiled."""
    players = own_networks(Options(Path(), networks=networks))
    return GANTrainer(*players, compile=way == "compiled", device="cpu", **options)


def images(batch_size: int) -> ByteImages:
    """Return random images for whole batches: another batch size would be compiled again."""
    rng = torch.Generator().manual_seed(0)
    shape = (16 * batch_size, 1, 28, 28)
    return ByteImages(torch.randint(256, shape, dtype=torch.uint8, generator=rng))


def train(networks: str, batch_size: int, way: str, tick: Tick) -> None:
    trainer = make_trainer(networks, way, callbacks=[Ticking(tick)])
    trainer.fit(images(batch_size), max_epochs=sys.maxsize, batch_size=batch_size)


def losses(networks: str, batch_size: int, way: str) -> torch.Tensor:
    """Return the losses of both networks in the first steps."""
    trainer = make_trainer(networks, way)
    history = trainer.fit(images(batch_size), max_steps=CHECKED, batch_size=batch_size)
    return torch.tensor([history.discriminator_loss, history.generator_loss])


if __name__ == "__main__":
    sys.exit(main())
