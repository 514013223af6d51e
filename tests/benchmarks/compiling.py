"""Does `compile=True` pay, and are its results the same?

    python -m tests.benchmarks.compiling [--networks perceptron conv] [--batches 64 256 1024]
                                         [--rounds 12] [--steps 10] [--json FILE]

Rows take turns, each in a process of its own, and train on random images of MNIST's size:

    eager       compile=False
    compiled    compile=True
    by shape    as compiled, by `torch.compile(dynamic=False)`: code for each size of batch, of
                which there are two, since D scores reals and fakes in one pass in its own step

The rounds begin when all is compiled; how long that took is told too: what the first 3 steps took.
Then the losses of the first 20 steps of eager and compiled runs from the same weights: what they
differ by at most must be within 1e-3 (float32 rounds differently in fused code, and the game
amplifies that from step to step), or the command ends in 1. It needs a C++ compiler; without one
its rows say so.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.loops import Options, Ticking, own_networks
from tests.benchmarks.machine import write_figures
from tests.benchmarks.turns import Tick, take_turns
from vanillagan import GANTrainer
from vanillagan.data import ByteImages

NETWORKS = ("perceptron", "conv")
WAYS = ("eager", "compiled", "by shape")
WARM_UP = 3
CHECKED = 20
TOLERANCE = 1e-3


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", choices=NETWORKS, nargs="+", default=list(NETWORKS))
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=10, help="steps of a row in each round")
    parser.add_argument("--json", type=Path, help="a file for the figures", metavar="FILE")
    options = parser.parse_args()

    figures: list[dict[str, Any]] = []
    for networks in options.networks:
        for batch_size in options.batches:
            figures.append(compare(networks, batch_size, options.rounds, options.steps))
            write_figures(options.json, "tests.benchmarks.compiling", figures)
    wrong = [row for row in figures if row["difference"] is None or row["difference"] > TOLERANCE]
    return 1 if wrong else 0


def compare(networks: str, batch_size: int, rounds: int, steps: int) -> dict[str, Any]:
    """Times all ways of one pair of networks, and compares their losses."""
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
    difference = None
    if not isinstance(timings["compiled"], str):
        began = time.perf_counter()
        difference = (losses(networks, batch_size, "compiled")
                      - losses(networks, batch_size, "eager")).abs().max().item()  # fmt: skip
        print(
            f"{networks:12} batch {batch_size:5} the losses of {CHECKED} steps differ by at most "
            f"{difference:.1e} ({time.perf_counter() - began:.0f} s, most of it to compile)",
            flush=True,
        )
    return {
        "networks": networks,
        "batch_size": batch_size,
        "difference": difference,
        "rows": timings,
    }


def make_trainer(networks: str, way: str, **options: Any) -> GANTrainer:
    """A trainer whose networks run in that way."""
    players = own_networks(Options(Path(), networks=networks))
    trainer = GANTrainer(*players, compile=way == "compiled", device="cpu", **options)
    if way == "by shape":
        for name, player in trainer.players.items():
            forward = torch.compile(player.network, dynamic=False)
            trainer.players[name] = dataclasses.replace(player, forward=forward)
    return trainer


def images(batch_size: int) -> ByteImages:
    """Random images, of which an epoch is whole batches: others would be compiled for."""
    rng = torch.Generator().manual_seed(0)
    shape = (16 * batch_size, 1, 28, 28)
    return ByteImages(torch.randint(256, shape, dtype=torch.uint8, generator=rng))


def train(networks: str, batch_size: int, way: str, tick: Tick) -> None:
    make_trainer(networks, way).fit(images(batch_size), steps=WARM_UP, batch_size=batch_size)
    trainer = make_trainer(networks, way, callbacks=[Ticking(tick)])
    trainer.fit(images(batch_size), epochs=sys.maxsize, batch_size=batch_size)


def losses(networks: str, batch_size: int, way: str) -> torch.Tensor:
    """The losses of both players in the first steps."""
    trainer = make_trainer(networks, way)
    history = trainer.fit(images(batch_size), steps=CHECKED, batch_size=batch_size)
    return torch.tensor([history.discriminator_loss, history.generator_loss])


if __name__ == "__main__":
    sys.exit(main())
